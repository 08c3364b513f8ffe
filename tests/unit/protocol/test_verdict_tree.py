"""Verdicts that agree with themselves, scores in ppm, and the Merkle-sum tree."""

import math

import pytest

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import (
    FAULTS,
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    Reason,
    SumNode,
    Verdict,
    batch_verdicts,
    score_reason,
    to_ppm,
    verdict_leaf,
    verdict_proof,
    verdict_root,
    verify_verdict,
)

PAID = Verdict(1_000_000, Reason.CORRECT, 1, 0)
LIE = Verdict(0, Reason.FALSE_CLAIM, 0, 1)


def test_codes_are_the_contracts():
    assert {reason.name: int(reason) for reason in Reason} == {
        "CORRECT": 1,
        "WRONG": 2,
        "PARTIAL": 3,
        "PARSE_FAILURE": 4,
        "CHECKER_ERROR": 5,
        "CHECKER_TIMEOUT": 6,
        "TOO_LONG": 7,
        "DUPLICATE": 8,
        "MALFORMED_LINE": 16,
        "UNASSIGNED": 17,
        "TAMPERED_PROMPT": 18,
        "FALSE_CLAIM": 19,
        "OFF_POLICY": 20,
    }
    assert {int(reason) for reason in FAULTS} == {16, 17, 18, 19, 20}


@pytest.mark.parametrize(
    "fields",
    [
        (1_000_000, Reason.CORRECT, 1, 0),
        (1_000_000, Reason.CORRECT, 0, 0),
        (0, Reason.WRONG, 1, 0),
        (1, Reason.PARTIAL, 1, 0),
        (999_999, Reason.PARTIAL, 0, 0),
        (0, Reason.PARSE_FAILURE, 1, 0),
        (0, Reason.TOO_LONG, 0, 0),
        (1_000_000, Reason.DUPLICATE, 0, 0),
        (0, Reason.CHECKER_ERROR, 0, 0),
        (0, Reason.OFF_POLICY, 0, 1),
    ],
)
def test_good_verdicts(fields):
    assert Verdict(*fields).score_ppm == fields[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((999_999, Reason.CORRECT, 0, 0), "score_ppm is 999999 with reason CORRECT"),
        ((1_000_001, Reason.CORRECT, 0, 0), "score_ppm is 1000001"),
        ((1, Reason.WRONG, 0, 0), "score_ppm is 1 with reason WRONG"),
        ((0, Reason.PARTIAL, 0, 0), "score_ppm is 0 with reason PARTIAL"),
        ((1_000_000, Reason.PARTIAL, 0, 0), "score_ppm is 1000000 with reason PARTIAL"),
        ((1_000_000, Reason.OFF_POLICY, 0, 1), "score_ppm is 1000000 with reason OFF_POLICY"),
        ((-1, Reason.WRONG, 0, 0), "score_ppm is -1"),
        ((0.0, Reason.WRONG, 0, 0), "score_ppm is 0.0"),
        ((True, Reason.PARTIAL, 0, 0), "score_ppm is True"),
        ((0, 2, 0, 0), "reason is 2, not a Reason"),
        ((0, Reason.WRONG, 2, 0), "units is 2"),
        ((0, Reason.WRONG, -1, 0), "units is -1"),
        ((0, Reason.WRONG, True, 0), "units is True"),
        ((0, Reason.WRONG, 0, 1), "faults is 1 with reason WRONG"),
        ((0, Reason.OFF_POLICY, 0, 0), "faults is 0 with reason OFF_POLICY"),
        ((0, Reason.OFF_POLICY, 0, True), "faults is True"),
        ((0, Reason.OFF_POLICY, 1, 1), "units is 1 with reason OFF_POLICY"),
        ((0, Reason.CHECKER_ERROR, 1, 0), "units is 1 with reason CHECKER_ERROR"),
        ((0, Reason.CHECKER_TIMEOUT, 1, 0), "units is 1 with reason CHECKER_TIMEOUT"),
        ((1_000_000, Reason.DUPLICATE, 1, 0), "units is 1 with reason DUPLICATE"),
    ],
)
def test_verdicts_that_contradict_themselves(fields, message):
    with pytest.raises(InvalidValue, match=message):
        Verdict(*fields)


@pytest.mark.parametrize(
    ("score", "ppm"),
    [
        (0.0, 0),
        (-0.0, 0),
        (1.0, 1_000_000),
        (1, 1_000_000),
        (0.5, 500_000),
        (0.3, 300_000),
        (1 / 3, 333_333),
        (1e-12, 1),  # not nothing
        (1 - 1e-12, 999_999),  # not everything
    ],
)
def test_to_ppm(score, ppm):
    assert to_ppm(score) == ppm
    assert type(to_ppm(score)) is int


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, -1e-9, 1 + 1e-9, 2, True, "1", None]
)
def test_not_a_score(bad):
    with pytest.raises(InvalidValue, match="score is"):
        to_ppm(bad)


def test_score_reason():
    assert score_reason(0) is Reason.WRONG
    assert score_reason(1) is score_reason(999_999) is Reason.PARTIAL
    assert score_reason(1_000_000) is Reason.CORRECT
    with pytest.raises(InvalidValue):
        score_reason(1_000_001)


def test_outcomes_are_reserved_roots_without_sums():
    assert Attestation(keccak(b"tracemarket.outcome.unavailable"), 0, 0) == UNAVAILABLE
    assert Attestation(keccak(b"tracemarket.outcome.malformed"), 0, 0) == MALFORMED


def test_sums_and_a_single_verdict():
    tree = batch_verdicts(1, [PAID, LIE, PAID, PAID, LIE])
    assert (tree.attestation.units, tree.attestation.faults) == (3, 2)
    leaf = verdict_leaf(1, 0, PAID)
    assert verdict_root([leaf]) == Attestation(leaf.hash, 1, 0)
    assert verify_verdict(leaf, 0, 1, [], Attestation(leaf.hash, 1, 0))


def test_a_leaf_binds_its_batch_and_index():
    leaves = {
        verdict_leaf(1, 0, PAID).hash,
        verdict_leaf(2, 0, PAID).hash,
        verdict_leaf(1, 1, PAID).hash,
        verdict_leaf(1, 0, LIE).hash,
    }
    assert len(leaves) == 4


def test_moved_sums_change_the_root():
    # Same total, other distribution.
    left = batch_verdicts(1, [PAID, LIE]).attestation
    right = batch_verdicts(1, [LIE, PAID]).attestation
    assert (left.units, left.faults) == (right.units, right.faults)
    assert left.root != right.root


def test_overflowing_sums():
    big = SumNode(b"\x01" * 32, 2**32 - 1, 0)
    one = SumNode(b"\x02" * 32, 1, 0)
    with pytest.raises(InvalidValue, match="units is 4294967296"):
        verdict_root([big, one])
    assert not verify_verdict(one, 1, 2, [big], Attestation(b"\x03" * 32, 0, 0))


def test_node_fields_are_checked():
    for bad in ((b"", 0, 0), (bytes(32), -1, 0), (bytes(32), 0, 2**32), (bytes(32), 0.0, 0)):
        with pytest.raises(InvalidValue):
            SumNode(*bad)
        with pytest.raises(InvalidValue):
            Attestation(*bad)


def test_no_verdicts_and_bad_index():
    with pytest.raises(InvalidValue, match="at least one leaf"):
        verdict_root([])
    with pytest.raises(InvalidValue, match="tree has 1 leaves"):
        verdict_proof([verdict_leaf(1, 0, PAID)], 1)
