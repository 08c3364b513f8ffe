"""What jurors vote, what opens a verdict tree, and what shows that it can't be honest."""

import random
from dataclasses import replace

import pytest

from marketplace.protocol import disputes
from marketplace.protocol.commitments import stored, vote
from marketplace.protocol.disputes import Children, Fault, LeafVerdict, Opened, Subtree
from marketplace.protocol.errors import InvalidValue, MalformedVerdicts
from marketplace.protocol.verdict import (
    MALFORMED,
    OUTCOMES,
    SOUND,
    UNAVAILABLE,
    Attestation,
    Reason,
    Verdict,
    encode_verdicts,
    verdict_leaf,
    verify_verdict,
)

RIGHT = Verdict(1_000_000, Reason.CORRECT, 1, 0)
WRONG = Verdict(0, Reason.WRONG, 0, 0)
FALSE = Verdict(0, Reason.FALSE_CLAIM, 0, 1)
SIZES = (1, 2, 3, 5, 8, 13)


def honest(size: int) -> list[LeafVerdict]:
    pick = random.Random(size)
    return disputes.leaf_verdicts(pick.choice((RIGHT, WRONG, FALSE)) for _ in range(size))


def attested(leaves: list[LeafVerdict], batch: int = 7) -> Attestation:
    return disputes.leaf_tree(batch, leaves).attestation


def follow(batch: int, count: int, top: Attestation, opened: Opened) -> Fault:
    """Evidence.fault, step by step."""
    at = disputes.root_of(top, count)
    for place, children in enumerate(opened.path):
        if fault := disputes.check_node(at, children):
            return fault
        if place < len(opened.rights):
            at = at.descend(children, opened.rights[place])
    if opened.verdict is None:
        return Fault.NONE
    return disputes.check_verdict(at, batch, opened.batch, opened.verdict)


def test_a_juror_votes_the_leaf():
    said = disputes.juror_attestation(7, LeafVerdict.of(3, RIGHT))
    leaf = verdict_leaf(7, 3, RIGHT)
    assert said == Attestation(leaf.hash, 1, 0)
    assert vote(said) != vote(disputes.juror_attestation(7, LeafVerdict.of(3, WRONG)))


def test_outcomes_are_three():
    assert {UNAVAILABLE, MALFORMED, SOUND} == OUTCOMES


def test_votes_are_odd_and_stored_commitments_even():
    for word in (b"\x11" * 32, b"\x10" * 32):
        assert vote(Attestation(word, 1, 0))[-1] & 1
        assert stored(word) == word[:31] + b"\x10"
    with pytest.raises(InvalidValue):
        stored(b"\x11")


@pytest.mark.parametrize("size", SIZES)
def test_paths_lead_to_every_verdict(size):
    leaves = honest(size)
    tree = disputes.leaf_tree(7, leaves)
    for verdict in leaves:
        path, rights = disputes.open_path(tree, tree.attestation, verdict.index)
        opened = Opened(path, rights, 7, verdict)
        assert follow(7, size, tree.attestation, opened) is Fault.NONE
        assert len(path) == len(rights) == len(tree.proof(verdict.index))
        assert follow(8, size, tree.attestation, opened) is Fault.INDEX
        one = disputes.claim(tree, verdict)
        leaf = verdict.leaf(7)
        assert verify_verdict(leaf, verdict.index, size, one.proof, one.attestation)
    for bad in (size, -1):
        with pytest.raises(InvalidValue):
            disputes.open_path(tree, tree.attestation, bad)


def test_only_subtrees_have_nodes():
    tree = disputes.leaf_tree(7, honest(13))
    assert tree.node(12, 1) == honest(13)[12].leaf(7)
    assert tree.node(8, 5).units == sum(one.units for one in honest(13)[8:])
    for first, size in ((1, 2), (4, 8), (8, 4 + 2), (8, 0), (12, 2), (2, 3)):
        with pytest.raises(InvalidValue):
            tree.node(first, size)


@pytest.mark.parametrize("size", SIZES)
def test_an_honest_tree_has_no_fault(size):
    assert disputes.find_fault(7, attested(honest(size)), honest(size)) is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"units": 2, "faults": 0}, Fault.CAP),
        ({"units": 1, "faults": 1}, Fault.CAP),
        ({"score_ppm": 1_000_001}, Fault.CAP),
        ({"reason": 0}, Fault.CAP),
        ({"reason": 32}, Fault.CAP),
        ({"index": 99}, Fault.INDEX),
    ],
)
def test_faults_of_a_verdict_are_found(size, change, fault):
    leaves = honest(size)
    leaves[-1] = replace(leaves[-1], **change)
    found = disputes.find_fault(7, attested(leaves), leaves)
    assert found is not None
    assert found[0] is fault
    assert follow(7, size, attested(leaves), found[1]) is fault


@pytest.mark.parametrize("size", SIZES)
def test_wrong_sums_of_the_root_are_found(size):
    top = attested(honest(size))
    for wrong in (replace(top, units=top.units + 1), replace(top, faults=top.faults + 1)):
        found = disputes.find_fault(7, wrong, honest(size))
        assert found is not None
        assert found[0] is Fault.SUM
        assert follow(7, size, wrong, found[1]) is Fault.SUM


def test_other_verdicts_than_the_attested_are_refused():
    with pytest.raises(InvalidValue, match="to the attested root"):
        disputes.find_fault(7, attested(honest(5)), honest(8))
    huge = [LeafVerdict(index, 0, 2, 2**32 - 1, 0) for index in range(2)]
    with pytest.raises(InvalidValue, match="make no tree"):
        disputes.find_fault(7, attested(honest(5)), huge)


def test_shapes_are_checked():
    leaves = honest(2)
    tree = disputes.leaf_tree(7, leaves)
    children = disputes.children_of(tree, 0, 2)
    top = disputes.root_of(tree.attestation, 2)
    assert disputes.check_node(replace(top, size=1), children) is Fault.SHAPE
    leaf = Subtree(leaves[0].leaf(7), 0, 2)
    assert disputes.check_verdict(leaf, 7, 7, leaves[0]) is Fault.SHAPE
    with pytest.raises(InvalidValue, match="not the children"):
        disputes.check_node(top, Children(children.right, children.left))
    with pytest.raises(InvalidValue, match="not the verdict"):
        disputes.check_verdict(leaf, 7, 7, leaves[1])
    for bad in (-1, 2):
        with pytest.raises(InvalidValue):
            top.toward(bad)


def test_first_difference():
    assert disputes.first_difference([1, 2, 3], [1, 2, 3]) is None
    assert disputes.first_difference([1, 2, 3], [1, 4, 5]) == 1
    assert disputes.first_difference([1, 2], [1, 2, 3]) == 2
    assert disputes.first_difference([], []) is None


def test_files_of_liars_are_read_too():
    verdicts = [RIGHT, WRONG, FALSE]
    assert disputes.read_leaves(encode_verdicts(verdicts), 3) == disputes.leaf_verdicts(verdicts)
    odd = b'{"i":9,"score":4294967295,"reason":255,"units":7,"faults":9}\n'
    assert disputes.read_leaves(odd, 1) == [LeafVerdict(9, 2**32 - 1, 255, 7, 9)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"{}\n",
        b"[]\n",
        b"1\n",
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        b'{"i":0,"score":0,"reason":256,"units":0,"faults":0}\n',
        b'{"i":0,"score":1.5,"reason":1,"units":0,"faults":0}\n',
        b'{"i":true,"score":1,"reason":1,"units":0,"faults":0}\n',
        b'{"i":0,"score":1,"reason":1,"units":0,"faults":-1}\n',
        b'{"i":0,"score":1,"reason":1,"units":0,"faults":0}\n' * 2,
        b'{"i":' + b"9" * 5_000 + b',"score":1,"reason":1,"units":0,"faults":0}\n',
    ],
)
def test_what_is_no_list_of_verdicts_is_refused(data):
    with pytest.raises(MalformedVerdicts):
        disputes.read_leaves(data, 1)


def test_plantings_have_salts_and_proofs():
    base = (31337, "0x" + "11" * 20, b"\x05" * 32, LeafVerdict.of(3, WRONG), b"\x07" * 32)
    leaf = disputes.audit_leaf(*base)
    assert leaf != disputes.audit_leaf(*base[:4], b"\x08" * 32)
    tree = disputes.PlantingTree([leaf])
    assert (tree.root, tree.proof(0)) == (leaf, [])
    with pytest.raises(InvalidValue):
        disputes.PlantingTree([])
