"""Verdict trees of the reference model, honest or lying, and what their nodes prove.

A tree is kept open: the model knows where the lie is, the chain only sees hashes and proofs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from eth_abi.abi import encode
from eth_utils.crypto import keccak
from reference_money import Attestation

NO_FAULT, SUM, SHAPE, INDEX, CAP = range(5)
"""VerdictFaults.Fault"""


class Said(NamedTuple):
    """A verdict and the batch and index that it says it is about."""

    batch: int
    index: int
    score: int
    reason: int
    units: int
    faults: int

    @property
    def hash(self) -> bytes:
        types = ("uint64", "uint256", "uint32", "uint8", "uint32", "uint32")
        return keccak(b"\x02" + encode(types, self))

    @property
    def vote(self) -> Attestation:
        """As a juror votes it."""
        return Attestation(self.hash, self.units, self.faults)

    @property
    def struct(self) -> tuple[int, int, int, int, int]:
        return self[1:]


@dataclass(frozen=True)
class Node:
    """hash, units, faults: what its parent says of it. A verdict, or two children."""

    hash: bytes
    units: int
    faults: int
    verdict: Said | None = None
    children: tuple[Node, Node] | None = None

    @property
    def sums(self) -> tuple[bytes, int, int]:
        return self.hash, self.units, self.faults

    @property
    def attestation(self) -> Attestation:
        return Attestation(*self.sums)

    def claiming(self, units: int, faults: int) -> Node:
        """The same node under a parent that tells other sums."""
        return Node(self.hash, units, faults, self.verdict, self.children)


def split(size: int) -> int:
    """The largest power of two below size (RFC 9162)."""
    return 1 << (size - 1).bit_length() - 1


def leaf(said: Said) -> Node:
    return Node(said.hash, said.units, said.faults, verdict=said)


def join(left: Node, right: Node) -> Node:
    packed = b"".join(
        one.hash + one.units.to_bytes(4) + one.faults.to_bytes(4) for one in (left, right)
    )
    units, faults = left.units + right.units, left.faults + right.faults
    return Node(keccak(b"\x03" + packed), units, faults, children=(left, right))


def tree(leaves: Sequence[Node]) -> Node:
    if len(leaves) == 1:
        return leaves[0]
    at = split(len(leaves))
    return join(tree(leaves[:at]), tree(leaves[at:]))


def descend(first: int, size: int, right: bool) -> tuple[int, int]:
    at = split(size)
    return (first + at, size - at) if right else (first, at)


def proof(node: Node, index: int, size: int) -> list[tuple[bytes, int, int]]:
    """Siblings from the leaf up."""
    if size == 1:
        return []
    assert node.children is not None
    right = index >= split(size)
    inner = proof(node.children[right], index - split(size) * right, descend(0, size, right)[1])
    return [*inner, node.children[not right].sums]


def fold(
    node: Node, index: int, size: int, siblings: Sequence[tuple[bytes, int, int]]
) -> Node | None:
    """The root above a leaf, if its siblings are these. What a tree says of the nodes between is
    no part of a proof; None where the siblings are too few or too many."""
    if size == 1 or not siblings:
        return None if siblings or size != 1 else node
    right = index >= split(size)
    below = fold(node, index - split(size) * right, descend(0, size, right)[1], siblings[:-1])
    if below is None:
        return None
    other = Node(*siblings[-1])
    return join(other, below) if right else join(below, other)


def opens_to(node: Node, batch: int, first: int, size: int) -> int:
    """The fault that opening the node shows."""
    if node.children:
        left, right = node.children
        if size == 1:
            return SHAPE
        sums = (left.units + right.units, left.faults + right.faults)
        return NO_FAULT if sums == (node.units, node.faults) else SUM
    said = node.verdict
    assert said is not None
    if size != 1:
        return SHAPE
    if (said.batch, said.index) != (batch, first):
        return INDEX
    if (said.units, said.faults) != (node.units, node.faults):
        return SUM
    possible = said.units + said.faults <= 1 and said.score <= 10**6 and 1 <= said.reason <= 31
    return NO_FAULT if possible else CAP


def walks(node: Node, batch: int, first: int, size: int) -> Iterator[tuple[list[bool], int]]:
    """Every node that honest-looking nodes lead to: the turns from the root and its fault."""
    fault = opens_to(node, batch, first, size)
    yield [], fault
    if node.children and fault == NO_FAULT:
        for right in (False, True):
            for turns, below in walks(node.children[right], batch, *descend(first, size, right)):
                yield [right, *turns], below


def at(node: Node, turns: Sequence[bool]) -> Node:
    for right in turns:
        assert node.children is not None
        node = node.children[right]
    return node


def verdicts(node: Node) -> list[Said]:
    if node.verdict:
        return [node.verdict]
    assert node.children is not None
    return [said for child in node.children for said in verdicts(child)]
