"""maj@k is exact: it equals going through all choices of k samples, ties drawn fairly."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from random import Random

import pytest

from marketplace.gym.environment import Environment
from marketplace.gym.spec import builtin_spec
from marketplace.protocol.errors import InvalidValue
from trainer.evaluate import SILENT, Evaluation, count_votes, majority_chance


def _by_going_through(right, wrong, silent, k):
    votes = [("right", n) for n, count in enumerate(right) for _ in range(count)]
    votes += [("wrong", n) for n, count in enumerate(wrong) for _ in range(count)]
    votes += [None] * silent
    chances = []
    for chosen in itertools.combinations(votes, k):
        counts = Counter(vote for vote in chosen if vote)
        most = max(counts.values(), default=0)
        front = [vote for vote, count in counts.items() if count == most]
        chances.append(sum(vote[0] == "right" for vote in front) / max(1, len(front)))
    return sum(chances) / len(chances)


def test_against_all_choices():
    rng = Random(5)
    for _ in range(150):
        right = tuple(rng.randint(1, 3) for _ in range(rng.randint(0, 2)))
        wrong = tuple(rng.randint(1, 3) for _ in range(rng.randint(0, 3)))
        silent = rng.randint(0, 2)
        total = sum(right) + sum(wrong) + silent
        if total:
            k = rng.randint(1, total)
            expected = _by_going_through(right, wrong, silent, k)
            assert majority_chance(right, wrong, silent, k) == pytest.approx(expected, abs=1e-12)


def test_cases_by_hand():
    assert majority_chance((2,), (1,), 0, 3) == 1
    assert majority_chance((1,), (1,), 0, 2) == 0.5
    assert majority_chance((1,), (), 3, 4) == 1  # silence does not vote
    assert majority_chance((), (2,), 1, 3) == 0
    assert majority_chance((), (), 4, 2) == 0


def test_many_samples_take_no_time():
    # Without leaving out who can't draw level: 14 seconds.
    start = time.process_time()
    assert majority_chance((128,), (1,) * 128, 0, 256) == 1
    assert majority_chance((2,), (1,) * 254, 0, 256) == 1
    assert time.process_time() - start < 5


def test_one_sample_is_pass_at_1_and_a_majority_can_hurt():
    sure = ((1.0, 1.0, 1.0, 0.0), (1.0, 0.0, 0.0, 0.0))
    found = Evaluation(sure, ((0, 0, 0, 3), (0, 1, 1, 1)))
    assert found.majority_at_k(1) == found.pass_at_1()
    assert found.majorities(4) == [1.0, 0.0]
    assert found.passes(4) == [1.0, 1.0]
    # The same right answers, but wrong ones that disagree: the one right answer ties with three.
    spread = Evaluation(sure, ((0, 0, 0, 3), (0, 1, 2, 3)))
    assert spread.majorities(4) == [1.0, 0.25]


def test_votes_are_by_equality():
    assert count_votes(["a", None, "b", "a"], str.__eq__) == (0, SILENT, 2, 0)


def test_needs_votes_and_samples():
    scores = ((1.0, 0.0), (0.0, 0.0))
    with pytest.raises(InvalidValue, match="needs votes"):
        Evaluation(scores).majority_at_k(2)
    with pytest.raises(InvalidValue, match="maj@3 needs 1 to 2 samples"):
        Evaluation(scores, ((0, 1), (0, 0))).majority_at_k(3)
    with pytest.raises(InvalidValue, match="as many votes"):
        Evaluation(scores, ((0, 1), (0,)))


@pytest.mark.parametrize(
    ("name", "one", "two", "same"),
    [
        ("chain_sum", "12", "12", True),
        ("chain_sum", "12", "12.0", False),  # scored as text
        ("math_answer", "1/2", "0.5", True),
        ("math_answer", "1/2", "2/1", False),
        ("math_answer", "no number", "0.5", False),
        ("nim_self_play", "[[0, 1]]", "[[0,1]]", True),
        ("nim_self_play", "[[0, 1]]", "[[1, 0]]", False),
    ],
)
def test_the_environments_own_notion_of_equal(name, one, two, same):
    environment = Environment(builtin_spec(name))
    assert environment.same_answer(one, two) is same
    assert environment.same_answer(two, one) is same


def test_an_answer_that_can_not_be_read_is_none():
    environment = Environment(builtin_spec("math_answer"))
    assert environment.answer_of("so <answer> 4 </answer>") == "4"
    assert environment.answer_of("so 4") is None
