"""Attention over a token tree that skips what other branches hold.

A dense mask over n nodes costs n * n however little of it is set. Here rows are computed in
blocks, each against the nodes that one of its rows attends to: a completion against its prompt
and itself. On a GPU flex attention does the same by blocks of its own (`flex_mask`).

Works with the models of transformers that look attention up by name; the others get the dense
mask. Same values as dense attention up to the order in which floating point adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from marketplace.gym.packing import BLOCK_ROWS, ROOT, Pack

NAME: Final = "token_tree"
"""Name of the attention among transformers' implementations."""

FLEX: Final = "flex_attention"
"""Name of flex attention among them."""

_NARROWEST_HEAD: Final = 16
"""Numbers in a head: a GPU's matrix units take no fewer."""

_WORTH: Final = 0.75
"""Blocks are used where they hold less than this share of the dense mask."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """A block as tensors. mask: [1, 1, copies * rows, keys], 0 or -inf, added to the scores."""

    start: int
    stop: int
    keys: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class TreeBlocks:
    """All blocks of a pack, for a model whose key heads serve `copies` query heads each."""

    rows: tuple[_Rows, ...]
    copies: int


def tree_blocks(pack: Pack, model: Any) -> TreeBlocks | None:
    """The pack's attention in blocks; None where dense attention is as good or the only way."""
    count = len(pack.tokens)
    if pack.is_chain() or not getattr(model, "_supports_attention_backend", False):
        return None
    config = model.config.get_text_config()
    copies = config.num_attention_heads // (
        getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    )
    blocks = list(pack.blocks())
    if sum(one.mask.size for one in blocks) > _WORTH * count * count:
        return None
    weights = next(model.parameters())
    return TreeBlocks(
        tuple(
            _Rows(
                one.start,
                one.stop,
                torch.from_numpy(one.keys).to(weights.device),
                _additive(one.mask, copies).to(weights.device),
            )
            for one in blocks
        ),
        copies,
    )


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    tree: TreeBlocks,
    scaling: float | None = None,
    dropout: float = 0.0,
    **ignored: Any,
) -> tuple[torch.Tensor, None]:
    """[1, n, heads, d] from query [1, heads, n, d], key and value [1, key heads, n, d]."""
    _, heads, _, width = query.shape
    shared = heads // tree.copies
    # Query heads of one key head become rows of it, so that keys and values are not repeated.
    grouped = query.reshape(shared, tree.copies, -1, width)
    parts = []
    for one in tree.rows:
        rows = grouped[:, :, one.start : one.stop].reshape(1, shared, -1, width)
        part = scaled_dot_product_attention(
            rows,
            key.index_select(2, one.keys),
            value.index_select(2, one.keys),
            attn_mask=one.mask.to(query.dtype),
            dropout_p=dropout,
            scale=scaling,
        )
        parts.append(part.reshape(heads, one.stop - one.start, -1))
    return torch.cat(parts, 1).transpose(0, 1)[None], None


@contextmanager
def attention_of(model: Any, tree: TreeBlocks | None) -> Iterator[dict[str, Any]]:
    """Within it the model attends by blocks; gives the keywords to call it with."""
    if tree is None:
        yield {}
        return
    _register()
    with attention_set(model.config.get_text_config(), NAME):
        yield {"tree": tree}


@contextmanager
def attention_set(config: Any, name: str) -> Iterator[None]:
    """Within it the model of the config attends by the named implementation."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def takes_flex(model: Any) -> bool:
    """Whether flex attention knows the model and its heads are wide enough for a GPU."""
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return bool(getattr(model, "_supports_flex_attn", False)) and width >= _NARROWEST_HEAD


def flex_padding(pack: Pack) -> int:
    """Tokens to add behind a pack for flex attention, which takes whole blocks. Each attends to
    itself alone."""
    return -len(pack.tokens) % BLOCK_ROWS


def flex_mask(pack: Pack, device: torch.device) -> Any:
    """The padded tree as a BlockMask of flex attention, from two numbers a node.

    Which blocks have anything in them is told by the tree itself: asking the mask would mean
    asking for every pair of nodes.
    """
    from torch.nn.attention.flex_attention import BlockMask

    places = np.concatenate([enclosing(pack), _own_places(pack)], axis=1)
    opened, closed = torch.from_numpy(places.astype(np.int32)).to(device)

    def attends(batch: Any, head: Any, row: Any, key: Any) -> Any:
        return (opened[key] <= opened[row]) & (opened[row] < closed[key])

    keys = key_blocks(pack)
    counts = torch.tensor([len(one) for one in keys], dtype=torch.int32, device=device)
    indices = np.zeros((len(keys), len(keys)), dtype=np.int32)
    for row, one in enumerate(keys):
        indices[row, : len(one)] = one
    return BlockMask.from_kv_blocks(
        counts[None, None],
        torch.from_numpy(indices).to(device)[None, None],
        BLOCK_SIZE=BLOCK_ROWS,
        mask_mod=attends,
    )


def key_blocks(pack: Pack) -> list[NDArray[np.int64]]:
    """For each BLOCK_ROWS nodes: the blocks of such size that they attend to, ascending."""
    touched: list[int] = []  # of each node, as the bits of an integer
    for node, parent in enumerate(pack.parents.tolist()):
        own = 1 << node // BLOCK_ROWS
        touched.append(own if parent == ROOT else touched[parent] | own)
    found = []
    for start in range(0, len(touched), BLOCK_ROWS):
        every = reduce(or_, touched[start : start + BLOCK_ROWS])
        data = every.to_bytes(every.bit_length() // 8 + 1, "little")
        found.append(
            np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little"))
        )
    return found


def enclosing(pack: Pack) -> NDArray[np.int64]:
    """[2, n] places at which a walk through the tree enters and has left each node.

    Node a is node b or above it exactly if opened[a] <= opened[b] < closed[a].
    """
    parents = pack.parents.tolist()  # plain numbers: four times as fast as an array's
    sizes = [1] * len(parents)
    for node in range(len(parents) - 1, -1, -1):
        if parents[node] != ROOT:
            sizes[parents[node]] += sizes[node]
    opened = [0] * len(parents)
    free = [0] * (len(parents) + 1)  # next free place below each node; last: the roots
    for node, parent in enumerate(parents):
        place = opened[node] = free[parent]
        free[parent] = place + sizes[node]
        free[node] = place + 1
    entered = np.array(opened, dtype=np.int64)
    return np.stack([entered, entered + np.array(sizes, dtype=np.int64)])


def _own_places(pack: Pack) -> NDArray[np.int64]:
    """[2, padding] as `enclosing`, of the padding."""
    first = len(pack.tokens)
    places = np.arange(first, first + flex_padding(pack))
    return np.stack([places, places + 1])


def _additive(mask: NDArray[np.bool_], copies: int) -> torch.Tensor:
    added = torch.zeros(mask.shape).masked_fill_(torch.from_numpy(~mask), -torch.inf)
    return added.repeat(copies, 1)[None, None]


def _register() -> None:
    from transformers import AttentionInterface

    if NAME not in AttentionInterface._global_mapping:
        AttentionInterface.register(NAME, attend)
