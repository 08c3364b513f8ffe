"""Both trees at any size, against their recursive definition, and under one-bit corruption."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.protocol import merkle
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import (
    Attestation,
    Reason,
    SumNode,
    Verdict,
    VerdictTree,
    batch_verdicts,
    decode_verdicts,
    encode_verdicts,
    join,
    verdict_leaf,
    verify_verdict,
)

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 16, 33)
PLACES = [(size, index) for size in SIZES for index in {0, 1, size // 2, size - 2, size - 1}]
PLACES = sorted({(size, index) for size, index in PLACES if 0 <= index < size})

VERDICTS = (
    Verdict(1_000_000, Reason.CORRECT, 1, 0),
    Verdict(0, Reason.WRONG, 0, 0),
    Verdict(0, Reason.OFF_POLICY, 0, 1),
    Verdict(250_000, Reason.PARTIAL, 1, 0),
    Verdict(0, Reason.CHECKER_TIMEOUT, 0, 0),
)


def leaves_of(size: int) -> list[bytes]:
    return [keccak(b"%d/%d" % (size, index)) for index in range(size)]


def sum_leaves_of(size: int) -> list[SumNode]:
    return [verdict_leaf(3, index, VERDICTS[index % len(VERDICTS)]) for index in range(size)]


def recursive(leaves, join):
    """RFC 9162 2.1.1."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return join(recursive(leaves[:k], join), recursive(leaves[k:], join))


def flips(value: bytes):
    for bit in range(8 * len(value)):
        yield value[: bit // 8] + bytes([value[bit // 8] ^ 1 << bit % 8]) + value[bit // 8 + 1 :]


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=80), st.data())
def test_plain_tree(leaves, data):
    tree = merkle.Tree(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    assert tree.root == recursive(leaves, merkle.join)
    proof = tree.proof(index)
    assert len(proof) <= (len(leaves) - 1).bit_length()
    assert merkle.verify_inclusion(leaves[index], index, len(leaves), proof, tree.root)
    other = data.draw(st.integers(0, 2 * len(leaves)))
    if other != index:
        assert not merkle.verify_inclusion(leaves[index], other, len(leaves), proof, tree.root) or (
            # Only equal leaves under equal siblings may stand in two places.
            other < len(leaves) and leaves[other] == leaves[index]
        )


@given(
    st.lists(
        st.builds(
            SumNode,
            st.binary(min_size=32, max_size=32),
            st.integers(0, 2**25),
            st.integers(0, 2**25),
        ),
        min_size=1,
        max_size=80,
    ),
    st.data(),
)
def test_sum_tree(leaves, data):
    tree = VerdictTree(leaves)
    top = recursive(leaves, join)
    assert tree.attestation == Attestation(top.hash, top.units, top.faults)
    assert tree.attestation.units == sum(leaf.units for leaf in leaves)
    assert tree.attestation.faults == sum(leaf.faults for leaf in leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = tree.proof(index)
    assert verify_verdict(leaves[index], index, len(leaves), proof, tree.attestation)


@pytest.mark.parametrize(("size", "index"), PLACES)
def test_one_bit_in_an_inclusion_proof(size, index):
    leaves = leaves_of(size)
    tree = merkle.Tree(leaves)
    leaf, proof, root = leaves[index], tree.proof(index), tree.root
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    for bad in flips(leaf):
        assert not merkle.verify_inclusion(bad, index, size, proof, root)
    for bad in flips(root):
        assert not merkle.verify_inclusion(leaf, index, size, proof, bad)
    for place, element in enumerate(proof):
        for bad in flips(element):
            broken = [*proof[:place], bad, *proof[place + 1 :]]
            assert not merkle.verify_inclusion(leaf, index, size, broken, root)
    for bit in range(64):
        assert not merkle.verify_inclusion(leaf, index ^ 1 << bit, size, proof, root)


@pytest.mark.parametrize(("size", "index"), PLACES)
def test_one_bit_in_a_verdict_proof(size, index):
    leaves = sum_leaves_of(size)
    tree = VerdictTree(leaves)
    leaf, proof, top = leaves[index], tree.proof(index), tree.attestation
    assert verify_verdict(leaf, index, size, proof, top)

    def broken_nodes(node):
        for bad in flips(node.hash):
            yield replace(node, hash=bad)
        for bit in range(32):
            yield replace(node, units=node.units ^ 1 << bit)
            yield replace(node, faults=node.faults ^ 1 << bit)

    for bad in broken_nodes(leaf):
        assert not verify_verdict(bad, index, size, proof, top)
    for place, element in enumerate(proof):
        for bad in broken_nodes(element):
            broken = [*proof[:place], bad, *proof[place + 1 :]]
            assert not verify_verdict(leaf, index, size, broken, top)
    for bad in flips(top.root):
        assert not verify_verdict(leaf, index, size, proof, replace(top, root=bad))
    for bit in range(32):
        assert not verify_verdict(
            leaf, index, size, proof, replace(top, units=top.units ^ 1 << bit)
        )
        assert not verify_verdict(
            leaf, index, size, proof, replace(top, faults=top.faults ^ 1 << bit)
        )
    for bit in range(64):
        assert not verify_verdict(leaf, index ^ 1 << bit, size, proof, top)


@pytest.mark.parametrize("size", [3, 4, 5, 9, 33])
def test_sums_moved_within_a_verdict_proof(size):
    # The totals stay what they were, so only the hashes can tell.
    leaves = [replace(leaf, units=1, faults=1) for leaf in sum_leaves_of(size)]
    tree = VerdictTree(leaves)
    proof, top = tree.proof(0), tree.attestation
    assert verify_verdict(leaves[0], 0, size, proof, top)
    for name in ("units", "faults"):
        moved = [
            replace(proof[0], **{name: getattr(proof[0], name) + 1}),
            replace(proof[1], **{name: getattr(proof[1], name) - 1}),
            *proof[2:],
        ]
        assert not verify_verdict(leaves[0], 0, size, moved, top)


def test_only_sizes_of_the_same_path_accept_a_proof():
    # A proof shows its place along a path, not the size: RFC 9162 takes the size from the tree
    # head, here from the chain. What must hold: a size whose path differs is refused.
    for size, index in PLACES:
        leaves = leaves_of(size)
        tree = merkle.Tree(leaves)
        for other in range(80):
            accepted = merkle.verify_inclusion(
                leaves[index], index, other, tree.proof(index), tree.root
            )
            assert accepted == (other > index and turns(index, other) == turns(index, size))


def turns(index: int, size: int) -> list[bool]:
    """On which side each sibling of the path lies, from the leaf up, by recursion."""
    if size == 1:
        return []
    k = 1 << ((size - 1).bit_length() - 1)
    return [*turns(index, k), False] if index < k else [*turns(index - k, size - k), True]


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=30))
def test_verdict_file_round_trip(verdicts):
    data = encode_verdicts(verdicts)
    assert decode_verdicts(data, len(verdicts)) == verdicts


@given(st.lists(st.sampled_from(VERDICTS), min_size=2, max_size=30, unique=True), st.data())
def test_any_swap_of_verdicts_changes_the_root(verdicts, data):
    swapped = data.draw(st.permutations(verdicts))
    same = batch_verdicts(1, swapped).attestation == batch_verdicts(1, verdicts).attestation
    assert same == (swapped == verdicts)
