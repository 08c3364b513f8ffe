"""Verdicts follow from paired differences, and evaluations survive being written down."""

from __future__ import annotations

import json

import pytest

from marketplace.protocol.errors import InvalidValue
from trainer.curves import accuracy_curve, compare, curve_ks, evaluation_of, evaluation_record
from trainer.evaluate import Evaluation


def _evaluation(rights, samples=8):
    """One task for each count of right samples."""
    scores = tuple((1.0,) * right + (0.0,) * (samples - right) for right in rights)
    votes = tuple(tuple(0 if score else 1 for score in task) for task in scores)
    return Evaluation(scores, votes)


def test_more_of_what_was_in_reach_sharpens():
    found = compare(_evaluation([2, 3] * 20 + [0] * 10), _evaluation([6, 7] * 20 + [0] * 10))
    assert found.verdict == "sharpens"
    assert found.k == 8
    assert found.passes.estimates[0].value > 0.3
    assert found.passes.estimates[-1].value == 0
    assert "pass@8 +0.000 ± 0.000" in found.reason
    assert "more than 0.000 would have shown" in found.reason


def test_new_tasks_in_reach_add():
    found = compare(_evaluation([2] * 25 + [0] * 25), _evaluation([2] * 25 + [1] * 15 + [0] * 10))
    assert found.verdict == "adds"
    assert found.passes.estimates[-1].value == pytest.approx(0.3)


def test_fewer_tasks_in_reach_with_likelier_answers_is_said():
    found = compare(_evaluation([2] * 40), _evaluation([8] * 25 + [0] * 15))
    assert found.verdict == "sharpens"
    assert "fewer tasks within reach" in found.reason


def test_falls_harm():
    assert compare(_evaluation([5] * 30), _evaluation([2] * 30)).verdict == "harms"
    # pass@1 the same, half of the tasks out of reach.
    assert compare(_evaluation([4] * 40), _evaluation([8, 0] * 20)).verdict == "harms"


def test_noise_is_no_change():
    found = compare(_evaluation([2, 4, 3, 1] * 5), _evaluation([3, 3, 2, 2] * 5))
    assert found.verdict == "no change"
    assert compare(_evaluation([1] * 4), _evaluation([1] * 4)).verdict == "no change"


def test_gains_are_paired():
    # Tasks differ far more from each other than before from after: only pairing sees the rise.
    before = _evaluation([0, 7] * 20)
    after = _evaluation([1, 8] * 20)
    gain = compare(before, after).passes.estimates[0]
    assert gain.value == pytest.approx(1 / 8)
    assert gain.error < 1e-9 < before.pass_at_1().error


def test_ks():
    assert curve_ks(1) == (1,)
    assert curve_ks(8) == (1, 2, 4, 8)
    assert curve_ks(12) == (1, 2, 4, 8, 12)
    assert curve_ks(12, 3) == (1, 2, 3)
    with pytest.raises(InvalidValue, match="k is 13"):
        curve_ks(12, 13)


def test_what_can_not_be_compared():
    with pytest.raises(InvalidValue, match="not paired"):
        compare(_evaluation([1, 2]), _evaluation([1, 2, 3]))
    with pytest.raises(InvalidValue, match="one sample"):
        compare(_evaluation([1, 0], 1), _evaluation([1, 1], 1))


def test_a_record_is_the_evaluation():
    evaluation = _evaluation([0, 3, 8])
    record = json.loads(json.dumps(evaluation_record(evaluation, environment="0xab", seed=7)))
    assert evaluation_of(record) == evaluation
    assert (record["tasks"], record["samples"], record["environment"]) == (3, 8, "0xab")
    assert [point["k"] for point in record["majority"]] == [1, 2, 4, 8]
    once = evaluation.pass_at_1()
    assert record["pass"][0] == {"k": 1, "value": once.value, "standard_error": once.error}
    bare = evaluation_record(Evaluation(evaluation.scores))
    assert bare["majority"] is None
    for broken in ({}, {"scores": 3, "votes": None}, {"scores": [["x"]], "votes": None}):
        with pytest.raises(InvalidValue, match="no evaluation can be read"):
            evaluation_of(broken)


def test_curves_of_maj_and_pass():
    curve = accuracy_curve(_evaluation([4, 4]), "majority", (1, 8))
    assert [one.value for one in curve.estimates] == [0.5, 0.5]  # 4 against 4: a fair draw
