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
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from marketplace.gym.packing import ROOT, Pack

NAME: Final = "token_tree"
"""Name of the attention among transformers' implementations."""

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
        parts.append(part.view(heads, one.stop - one.start, -1))
    return torch.cat(parts, 1).transpose(0, 1)[None], None


@contextmanager
def attention_of(model: Any, tree: TreeBlocks | None) -> Iterator[dict[str, Any]]:
    """Within it the model attends by blocks; gives the keywords to call it with."""
    if tree is None:
        yield {}
        return
    config = model.config.get_text_config()
    before = config._attn_implementation
    _register()
    config._attn_implementation = NAME
    try:
        yield {"tree": tree}
    finally:
        config._attn_implementation = before


def flex_mask(pack: Pack, device: torch.device) -> Any:
    """The tree as a BlockMask of flex attention, from two numbers a node."""
    from torch.nn.attention.flex_attention import create_block_mask

    opened, closed = (torch.from_numpy(one).to(device) for one in enclosing(pack))

    def attends(batch: Any, head: Any, row: Any, key: Any) -> Any:
        return (opened[key] <= opened[row]) & (opened[row] < closed[key])

    count = len(pack.tokens)
    return create_block_mask(attends, None, None, count, count, device=str(device))


def enclosing(pack: Pack) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[n] places at which a walk through the tree enters and has left each node.

    Node a is node b or above it exactly if opened[a] <= opened[b] < closed[a].
    """
    count = len(pack.parents)
    sizes = np.ones(count, dtype=np.int64)
    for node in range(count - 1, -1, -1):
        if pack.parents[node] != ROOT:
            sizes[pack.parents[node]] += sizes[node]
    opened = np.empty(count, dtype=np.int64)
    free = np.zeros(count + 1, dtype=np.int64)  # next free place below each node; last: the roots
    for node, parent in enumerate(pack.parents):
        opened[node] = free[parent]
        free[parent] += sizes[node]
        free[node] = opened[node] + 1
    return opened, opened + sizes


def _additive(mask: NDArray[np.bool_], copies: int) -> torch.Tensor:
    added = torch.zeros(mask.shape).masked_fill_(torch.from_numpy(~mask), -torch.inf)
    return added.repeat(copies, 1)[None, None]


def _register() -> None:
    from transformers import AttentionInterface

    if NAME not in AttentionInterface._global_mapping:
        AttentionInterface.register(NAME, attend)
