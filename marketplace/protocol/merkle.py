"""RFC 9162 Merkle trees: positions are bound, odd nodes are promoted, nothing is duplicated.

A tree over n > 1 leaves splits at the largest power of two below n (RFC 9162 2.1.1). Built
from the leaves up, that is: join neighbours, promote a last odd node unchanged. Leaves come
in already hashed, under a tag of their own, so that no node can pose as a leaf. The
Merkle-sum tree of verdict.py has the same shape: `build_levels`, `siblings` and
`climb` know nothing of what a node is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import (
    TAG_DATASET_LEAF,
    TAG_NODE,
    TAG_TRACE_LEAF,
    ZERO32,
    Address,
    abi_hash,
    address20,
    bytes32,
    keccak,
    uint,
)

Node = TypeVar("Node")
Join = Callable[[Node, Node], Node]


def build_levels(leaves: Sequence[Node], join: Join[Node]) -> list[list[Node]]:
    """All levels of the tree, leaves first, the root alone in the last one.

    Raises InvalidValue without leaves: an empty tree has no root in this protocol.
    """
    if not leaves:
        raise InvalidValue("a tree needs at least one leaf, got 0")
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        level = [join(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        if len(below) % 2:
            level.append(below[-1])
        levels.append(level)
    return levels


def siblings(levels: Sequence[Sequence[Node]], index: int) -> list[Node]:
    """The inclusion proof of leaf index: siblings from the leaf up. InvalidValue off the end."""
    size = len(levels[0])
    if uint(index, 64, "leaf index") >= size:
        raise InvalidValue(f"leaf index is {index}, but the tree has {size} leaves")
    proof = []
    for level in levels[:-1]:
        sibling = index ^ 1
        if sibling < len(level):  # the promoted last node has none
            proof.append(level[sibling])
        index >>= 1
    return proof


def climb(
    leaf: Node, index: int, size: int, proof: Sequence[Node], join: Join[Node]
) -> Node | None:
    """The root that a proof leads to, or None if its length does not fit index and size.

    RFC 9162 2.1.3.2, with fn = index and sn = size - 1.
    """
    if type(index) is not int or type(size) is not int or not 0 <= index < size:
        return None
    first, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if first & 1 or first == last:
            node = join(sibling, node)
            while not first & 1 and first:  # levels at which the node was promoted
                first >>= 1
                last >>= 1
        else:
            node = join(node, sibling)
        first >>= 1
        last >>= 1
    return node if last == 0 else None


# --- plain trees: 32-byte nodes ----------------------------------------------------


def join(left: bytes, right: bytes) -> bytes:
    """H(0x01 || left || right)."""
    return keccak(TAG_NODE + left + right)


class Tree:
    """A plain tree kept in memory: O(n) to build, O(log n) per proof.

    leaves: 32-byte hashes, at least one.
    """

    __slots__ = ("_levels",)

    def __init__(self, leaves: Iterable[bytes]) -> None:
        checked = [bytes32(leaf, f"leaf {i}") for i, leaf in enumerate(leaves)]
        self._levels = build_levels(checked, join)

    def __len__(self) -> int:
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The 32-byte root."""
        return self._levels[-1][0]

    def proof(self, index: int) -> list[bytes]:
        """The inclusion proof of leaf index, siblings from the leaf up."""
        return siblings(self._levels, index)


def root(leaves: Iterable[bytes]) -> bytes:
    """The 32-byte root over 32-byte leaves (at least one)."""
    return Tree(leaves).root


def inclusion_proof(leaves: Iterable[bytes], index: int) -> list[bytes]:
    """The proof of one leaf. For many proofs of one batch keep a Tree."""
    return Tree(leaves).proof(index)


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """True if proof shows leaf at index in the tree of size leaves with this root.

    Proofs come from strangers: wrong lengths and kinds give False, never an exception.
    """
    if not all(isinstance(one, bytes) and len(one) == 32 for one in (leaf, root, *proof)):
        return False
    return climb(leaf, index, size, proof, join) == root


# --- leaves ------------------------------------------------------------------------


def trace_leaf(
    chain_id: int, market: Address, bounty: int, miner: Address, index: int, line: bytes
) -> bytes:
    """The leaf of line `index` of a batch; line is the raw bytes without the newline.

    H(0x00 || abi.encode(uint256 chainId, address market, uint64 bounty, address miner,
    uint256 index, bytes32 H(line))).
    """
    return abi_hash(
        ("uint256", "address", "uint64", "address", "uint256", "bytes32"),
        (
            uint(chain_id, 256, "chain id"),
            address20(market, "market"),
            uint(bounty, 64, "bounty"),
            address20(miner, "miner"),
            uint(index, 256, "index"),
            keccak(line),
        ),
        tag=TAG_TRACE_LEAF,
    )


def batch_tree(
    chain_id: int, market: Address, bounty: int, miner: Address, lines: Iterable[bytes]
) -> Tree:
    """The tree a miner commits to: one trace leaf per line, in file order."""
    return Tree(
        trace_leaf(chain_id, market, bounty, miner, index, line) for index, line in enumerate(lines)
    )


def dataset_leaf(
    chain_id: int, market: Address, batch: int, verdict_root: bytes, units: int, weight_ppm: int
) -> bytes:
    """One attested batch in a checkpoint's dataset; weight_ppm is its share, 0 to 1_000_000.

    H(0x04 || abi.encode(uint256 chainId, address market, uint64 batch, bytes32 verdictRoot,
    uint32 units, uint32 weightPpm)).
    """
    return abi_hash(
        ("uint256", "address", "uint64", "bytes32", "uint32", "uint32"),
        (
            uint(chain_id, 256, "chain id"),
            address20(market, "market"),
            uint(batch, 64, "batch"),
            bytes32(verdict_root, "verdict root"),
            uint(units, 32, "units"),
            uint(weight_ppm, 32, "weight in ppm"),
        ),
        tag=TAG_DATASET_LEAF,
    )


def dataset_root(
    chain_id: int, market: Address, entries: Sequence[tuple[int, bytes, int, int]]
) -> bytes:
    """The root over (batch, verdict root, units, weight in ppm) entries, 32 bytes.

    Batches must ascend strictly (InvalidValue otherwise). An empty dataset is bytes32(0).
    """
    for (before, *_), (after, *_) in pairwise(entries):
        if after <= before:
            raise InvalidValue(
                f"batch {after} follows batch {before}", fix="sort the dataset by batch, each once"
            )
    if not entries:
        return ZERO32
    return root(dataset_leaf(chain_id, market, *entry) for entry in entries)
