"""Leave-one-out advantages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.advantages import is_informative, leave_one_out

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=32)


def test_known_values():
    assert leave_one_out([1, 0]) == (1.0, -1.0)
    assert leave_one_out([1, 0, 0, 0]) == pytest.approx((1, -1 / 3, -1 / 3, -1 / 3))


@given(SCORES)
def test_each_is_compared_with_the_mean_of_the_others(scores):
    for index, advantage in enumerate(leave_one_out(scores)):
        others = scores[:index] + scores[index + 1 :]
        assert advantage == pytest.approx(scores[index] - sum(others) / len(others), abs=1e-9)


@given(SCORES, st.floats(-5, 5))
def test_sum_is_zero_and_a_shift_changes_nothing(scores, shift):
    advantages = leave_one_out(scores)
    assert math.fsum(advantages) == pytest.approx(0, abs=1e-9)
    assert leave_one_out([score + shift for score in scores]) == pytest.approx(advantages, abs=1e-9)


def test_not_divided_by_the_spread():
    near, far = leave_one_out([0.5, 0.6]), leave_one_out([0.0, 1.0])
    assert far[1] == pytest.approx(10 * near[1])


def test_groups_that_say_nothing():
    assert not is_informative([])
    assert not is_informative([1.0])
    assert not is_informative([0.5, 0.5])
    assert is_informative([0.5, 0.5, 0.6])


@pytest.mark.parametrize("scores", [[], [1.0], [0.0, math.nan], [math.inf, 0.0]])
def test_scores_without_advantages(scores):
    with pytest.raises(ValueError, match=r"no other trace|not all finite"):
        leave_one_out(scores)
