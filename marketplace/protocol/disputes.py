"""Disputes about attestations: what jurors vote, and what shows that an attestation is wrong.

All of it is pure. A dispute names one verdict of an attested tree; a juror re-checks that one
trace and votes its verdict's leaf. That a tree can't be an honest one shows in a few of its
nodes: see `find_fault`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from marketplace.protocol import merkle, strict_json
from marketplace.protocol.errors import InvalidValue, MalformedVerdicts
from marketplace.protocol.hashing import Address, abi_hash, address20, bytes32, keccak, uint
from marketplace.protocol.seeds import PPM
from marketplace.protocol.verdict import (
    Attestation,
    SumNode,
    Verdict,
    VerdictTree,
    hash_of,
    leaf_of,
)

_MOST_REASON = 31


class Fault(IntEnum):
    """What is wrong with a tree (VerdictFaults.Fault)."""

    NONE = 0
    SUM = 1
    """a node's sums are not those of its children, or of its verdict"""
    SHAPE = 2
    """a verdict where children belong, or children where a verdict belongs"""
    INDEX = 3
    """a verdict of another batch or of another index"""
    CAP = 4
    """more units or faults than a trace can have, or a score or reason that does not exist"""


@dataclass(frozen=True, slots=True)
class LeafVerdict:
    """A verdict as the contracts know it: any numbers that fit, also those of a liar."""

    index: int
    score_ppm: int
    reason: int
    units: int
    faults: int

    def __post_init__(self) -> None:
        uint(self.index, 32, "index")
        uint(self.score_ppm, 32, "score_ppm")
        uint(self.reason, 8, "reason")
        uint(self.units, 32, "units")
        uint(self.faults, 32, "faults")

    @classmethod
    def of(cls, index: int, verdict: Verdict) -> LeafVerdict:
        """Verdict number `index` of a batch."""
        return cls(index, verdict.score_ppm, int(verdict.reason), verdict.units, verdict.faults)

    def as_tuple(self) -> tuple[int, int, int, int, int]:
        """As the struct Verdict of libraries/Types.sol."""
        return self.index, self.score_ppm, self.reason, self.units, self.faults

    def leaf(self, batch: int) -> SumNode:
        return leaf_of(batch, *self.as_tuple())


def juror_attestation(batch: int, verdict: LeafVerdict) -> Attestation:
    """What a juror attests who comes to this verdict: leaf hash, units, faults."""
    leaf = verdict.leaf(batch)
    return Attestation(leaf.hash, leaf.units, leaf.faults)


def leaf_verdicts(verdicts: Iterable[Verdict]) -> list[LeafVerdict]:
    """The verdicts of a batch in file order."""
    return [LeafVerdict.of(index, verdict) for index, verdict in enumerate(verdicts)]


def leaf_tree(batch: int, verdicts: Iterable[LeafVerdict]) -> VerdictTree:
    """The tree over verdicts in the order given, whatever they say."""
    return VerdictTree(verdict.leaf(batch) for verdict in verdicts)


def read_leaves(data: bytes, count: int) -> list[LeafVerdict]:
    """The verdicts in a file of count lines that a liar may have written: any numbers that fit.

    MalformedVerdicts where there is nothing to rebuild a tree from.
    """
    lines = data.split(b"\n")
    if lines.pop() != b"" or len(lines) != count:
        raise MalformedVerdicts(f"the verdict file is not {count} lines")
    names = ("i", "score", "reason", "units", "faults")
    found = []
    for place, line in enumerate(lines):
        try:
            record = strict_json.loads(line.decode("utf-8"), depth=1)
            found.append(LeafVerdict(*(record[name] for name in names)))
        except (ValueError, KeyError, TypeError, InvalidValue) as error:
            raise MalformedVerdicts(f"verdict {place} can't be read: {error!s:.200}") from None
    return found


def first_difference(ours: Sequence[object], theirs: Sequence[object]) -> int | None:
    """First index at which two lists of verdicts differ; None where they are the same."""
    for index, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return index
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


# --- nodes, opened from the root on ------------------------------------------------


@dataclass(frozen=True, slots=True)
class Children:
    """A node opened to what its hash says it is made of."""

    left: SumNode
    right: SumNode

    def as_tuple(self) -> tuple[tuple[bytes, int, int], tuple[bytes, int, int]]:
        return node_tuple(self.left), node_tuple(self.right)


@dataclass(frozen=True, slots=True)
class Subtree:
    """What its parent says of a subtree, and which verdicts it must hold."""

    node: SumNode
    first: int
    size: int

    def toward(self, index: int) -> bool:
        """Whether verdict `index` is in the right child."""
        if self.size < 2 or not self.first <= index < self.first + self.size:
            raise InvalidValue(f"verdict {index} is below no child of this node")
        return index >= self.first + split(self.size)

    def descend(self, children: Children, right: bool) -> Subtree:
        """The left or the right child."""
        at = split(self.size)
        if right:
            return Subtree(children.right, self.first + at, self.size - at)
        return Subtree(children.left, self.first, at)


@dataclass(frozen=True, slots=True)
class Opened:
    """Nodes of a verdict tree from the root on (IEvidence.Opened).

    path: the root's children first. rights: for each node of the path whether it goes on to the
    right; none for a last node that shows a fault itself. verdict: what lies open at the end;
    None where only nodes do. batch: the one that this verdict names.
    """

    path: tuple[Children, ...]
    rights: tuple[bool, ...]
    batch: int
    verdict: LeafVerdict | None

    def as_tuple(self) -> tuple[Any, ...]:
        verdict = self.verdict or LeafVerdict(0, 0, 0, 0, 0)
        return (
            [children.as_tuple() for children in self.path],
            list(self.rights),
            self.verdict is not None,
            self.batch,
            verdict.as_tuple(),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A verdict of an attested tree with the way to its root (IEvidence.Claim)."""

    attestation: Attestation
    verdict: LeafVerdict
    proof: tuple[SumNode, ...]

    def as_tuple(self) -> tuple[Any, ...]:
        said = self.attestation
        return (
            (said.root, said.units, said.faults),
            self.verdict.as_tuple(),
            [node_tuple(node) for node in self.proof],
        )


def node_tuple(node: SumNode) -> tuple[bytes, int, int]:
    return node.hash, node.units, node.faults


def split(size: int) -> int:
    """Leaves of the left subtree: the largest power of two below size (at least 2)."""
    if size < 2:
        raise InvalidValue(f"a subtree of {size} verdicts has no children")
    return 1 << ((size - 1).bit_length() - 1)


def root_of(attestation: Attestation, count: int) -> Subtree:
    """The whole tree of a batch of count traces."""
    return Subtree(SumNode(attestation.root, attestation.units, attestation.faults), 0, count)


def children_of(tree: VerdictTree, first: int, size: int) -> Children:
    """The children of the subtree [first, first + size)."""
    at = split(size)
    return Children(tree.node(first, at), tree.node(first + at, size - at))


def open_path(
    tree: VerdictTree, attestation: Attestation, index: int
) -> tuple[tuple[Children, ...], tuple[bool, ...]]:
    """The children of every node from the root to verdict `index`, and the turns between them."""
    if not 0 <= uint(index, 32, "index") < len(tree):
        raise InvalidValue(f"verdict index is {index}, but the tree has {len(tree)} verdicts")
    path, rights = [], []
    at = root_of(attestation, len(tree))
    while at.size > 1:
        children = children_of(tree, at.first, at.size)
        right = at.toward(index)
        path.append(children)
        rights.append(right)
        at = at.descend(children, right)
    return tuple(path), tuple(rights)


def claim(tree: VerdictTree, verdict: LeafVerdict) -> Claim:
    """The claim that a verdict is the tree's, at its index."""
    return Claim(tree.attestation, verdict, tuple(tree.proof(verdict.index)))


def check_node(at: Subtree, children: Children) -> Fault:
    """What is wrong with a node once it is opened. InvalidValue where they are not its
    children."""
    if hash_of(children.left, children.right) != at.node.hash:
        raise InvalidValue(f"these are not the children of 0x{at.node.hash.hex()}")
    if at.size == 1:
        return Fault.SHAPE
    units = children.left.units + children.right.units
    faults = children.left.faults + children.right.faults
    return Fault.NONE if (units, faults) == (at.node.units, at.node.faults) else Fault.SUM


def check_verdict(at: Subtree, batch: int, said: int, verdict: LeafVerdict) -> Fault:
    """What is wrong with a verdict once it is opened. said: the batch that it names.
    InvalidValue where it is not the node's."""
    if verdict.leaf(said).hash != at.node.hash:
        raise InvalidValue(f"this is not the verdict of 0x{at.node.hash.hex()}")
    if at.size != 1:
        return Fault.SHAPE
    if said != batch or verdict.index != at.first:
        return Fault.INDEX
    if (verdict.units, verdict.faults) != (at.node.units, at.node.faults):
        return Fault.SUM
    if (
        verdict.units + verdict.faults > 1
        or verdict.score_ppm > PPM
        or not 1 <= verdict.reason <= _MOST_REASON
    ):
        return Fault.CAP
    return Fault.NONE


def find_fault(
    batch: int, attestation: Attestation, leaves: Sequence[LeafVerdict]
) -> tuple[Fault, Opened] | None:
    """A fault of an attested tree and the nodes that show it; None where there is none to see.

    leaves: all verdicts behind it, in order. InvalidValue where they don't lead to its root.
    """
    try:
        tree = leaf_tree(batch, leaves)
    except InvalidValue as error:  # sums over uint32: no tree has them
        raise InvalidValue(f"the verdicts make no tree: {error.message}") from None
    top = root_of(attestation, len(leaves))
    if tree.attestation.root != attestation.root:
        raise InvalidValue(
            f"the verdicts lead to 0x{tree.attestation.root.hex()}, "
            f"not to the attested root 0x{attestation.root.hex()}"
        )
    if len(leaves) > 1:
        children = children_of(tree, 0, len(leaves))
        if fault := check_node(top, children):
            return fault, Opened((children,), (), batch, None)
    for index, verdict in enumerate(leaves):
        at = top if len(leaves) == 1 else Subtree(tree.node(index, 1), index, 1)
        if fault := check_verdict(at, batch, batch, verdict):
            path, rights = open_path(tree, attestation, index)
            return fault, Opened(path, rights, batch, verdict)
    return None


# --- planted batches ---------------------------------------------------------------


def audit_leaf(
    chain_id: int, audits: Address, batch_root: bytes, planted: LeafVerdict, salt: bytes
) -> bytes:
    """A planting: H(H(abi.encode(uint256 chainId, address audits, bytes32 batchRoot,
    Verdict planted, bytes32 salt)))."""
    inner = abi_hash(
        ("uint256", "address", "bytes32", "(uint32,uint32,uint8,uint32,uint32)", "bytes32"),
        (
            uint(chain_id, 256, "chain id"),
            address20(audits, "audits"),
            bytes32(batch_root, "batch root"),
            planted.as_tuple(),
            bytes32(salt, "salt"),
        ),
    )
    # Hashed twice: an inner node of the tree can't pass for a leaf.
    return keccak(inner)


class PlantingTree:
    """A tree of plantings with OpenZeppelin's sorted pairs, so that one root plants many."""

    __slots__ = ("_levels",)

    def __init__(self, leaves: Iterable[bytes]) -> None:
        checked = [bytes32(leaf, f"leaf {place}") for place, leaf in enumerate(leaves)]
        self._levels = merkle.build_levels(checked, _sorted_pair)

    @property
    def root(self) -> bytes:
        return self._levels[-1][0]

    def proof(self, place: int) -> list[bytes]:
        return merkle.siblings(self._levels, place)


def _sorted_pair(one: bytes, other: bytes) -> bytes:
    return keccak(min(one, other) + max(one, other))
