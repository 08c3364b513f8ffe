"""The plain tree: RFC 6962's published roots, shapes, and refusals."""

import hashlib

import pytest

from marketplace.protocol import merkle
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import keccak

LEAVES = [keccak(bytes([i])) for i in range(40)]


def test_shape_against_the_published_certificate_transparency_roots():
    # The eight test leaves of the Certificate Transparency reference implementation and their
    # SHA-256 roots: same shape, another hash.
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    inputs.append("606162636465666768696a6b6c6d6e6f")
    leaves = [hashlib.sha256(b"\0" + bytes.fromhex(one)).digest() for one in inputs]

    def join(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\x01" + left + right).digest()

    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for size, root in roots.items():
        assert merkle.build_levels(leaves[:size], join)[-1][0].hex() == root


def test_a_single_leaf_is_its_own_root():
    assert merkle.root(LEAVES[:1]) == LEAVES[0]
    assert merkle.inclusion_proof(LEAVES[:1], 0) == []
    assert merkle.verify_inclusion(LEAVES[0], 0, 1, [], LEAVES[0])


def test_order_and_position_count():
    assert merkle.root(LEAVES[:2]) != merkle.root(LEAVES[1::-1])
    proof = merkle.inclusion_proof(LEAVES[:2], 0)
    assert not merkle.verify_inclusion(LEAVES[0], 1, 2, proof, merkle.root(LEAVES[:2]))


def test_a_doubled_last_leaf_is_another_tree():
    # Bitcoin's CVE-2012-2459: with duplication instead of promotion these would be equal.
    assert merkle.root(LEAVES[:3]) != merkle.root([*LEAVES[:3], LEAVES[2]])


def test_no_leaves():
    with pytest.raises(InvalidValue, match="at least one leaf, got 0"):
        merkle.root([])


def test_bad_leaves_and_indices():
    with pytest.raises(InvalidValue, match="leaf 1 has 31 bytes"):
        merkle.root([LEAVES[0], LEAVES[1][:31]])
    for index in (3, -1, True):
        with pytest.raises(InvalidValue, match="leaf index is"):
            merkle.inclusion_proof(LEAVES[:3], index)


def test_strangers_proofs_never_raise():
    root, proof = merkle.root(LEAVES[:5]), merkle.inclusion_proof(LEAVES[:5], 2)
    good = (LEAVES[2], 2, 5, proof, root)
    assert merkle.verify_inclusion(*good)
    for place, bad in (
        (0, LEAVES[2][:31]),
        (0, None),
        (1, 5),
        (1, -1),
        (1, 2.0),
        (1, 2**300),
        (2, 0),
        (2, 2),
        (2, None),
        (3, []),
        (3, proof[:-1]),
        (3, [*proof, proof[0]]),
        (3, [*proof, *proof, *proof]),
        (3, [*proof[:-1], proof[-1][:-1]]),
        (3, [*proof[:-1], None]),
        (4, root[:31]),
        (4, None),
    ):
        assert not merkle.verify_inclusion(*good[:place], bad, *good[place + 1 :])


def test_a_proof_longer_than_its_size_allows():
    # The second of two leaves, passed off as the only one.
    root = merkle.root(LEAVES[:2])
    assert not merkle.verify_inclusion(LEAVES[1], 0, 1, [LEAVES[0]], root)


def test_trace_leaf_hashes_the_raw_line():
    args = (1, "0x" + "11" * 20, 2, "0x" + "22" * 20, 0)
    assert merkle.trace_leaf(*args, b"{}") != merkle.trace_leaf(*args, b"{} ")
    tree = merkle.batch_tree(*args[:4], [b"a", b"b", b"c"])
    assert len(tree) == 3
    assert merkle.verify_inclusion(
        merkle.trace_leaf(*args[:4], 1, b"b"), 1, 3, tree.proof(1), tree.root
    )


def test_dataset_root_wants_ascending_batches():
    market = "0x" + "11" * 20
    one, two = (1, LEAVES[0], 3, 500_000), (2, LEAVES[1], 4, 500_000)
    assert merkle.dataset_root(1, market, []) == bytes(32)
    assert merkle.dataset_root(1, market, [one]) == merkle.dataset_leaf(1, market, *one)
    assert merkle.dataset_root(1, market, [one, two])
    for wrong in ([two, one], [one, one]):
        with pytest.raises(InvalidValue, match="follows batch"):
            merkle.dataset_root(1, market, wrong)
