"""What is held against a text is what an honest sample would hardly ever do."""

from __future__ import annotations

import math
import random

import pytest

from trainer.filters import WINDOW, improbable, peak_surprise, too_often


def _sampled(draw, length, chances=(0.6, 0.3, 0.1)):
    """A text drawn from one distribution: its log-probabilities and entropies."""
    entropy = -sum(p * math.log(p) for p in chances)
    return [math.log(draw.choices(chances, chances)[0]) for _ in range(length)], [entropy] * length


def test_sampled_texts_of_any_length_pass_and_inserted_words_do_not():
    draw = random.Random(0)
    honest = [_sampled(draw, draw.randint(1, 400)) for _ in range(1000)]
    peaks = [peak_surprise(*one) for one in honest]
    assert not any(improbable(peaks, peaks, 8.0))
    # Four words that the model would hardly write, in the middle of a long text.
    logprobs, entropies = _sampled(draw, 400)
    poisoned = peak_surprise(logprobs[:200] + [-9.0] * 4 + logprobs[200:], entropies + [0.9] * 4)
    assert improbable([poisoned], peaks, 8.0) == (True,)
    assert improbable([poisoned], peaks, 0.0) == (False,)
    assert improbable([poisoned], [], 8.0) == (False,)


def test_a_tenth_of_poisoned_texts_does_not_hide_itself():
    peaks = [0.1] * 90 + [40.0] * 10
    assert improbable(peaks, peaks, 8.0) == (False,) * 90 + (True,) * 10


def test_peak_is_of_one_window():
    flat = [0.0] * 50
    assert peak_surprise([-1.0] * 50, flat) == pytest.approx(WINDOW)
    assert peak_surprise([-1.0] * 3, flat[:3]) == pytest.approx(3)
    assert peak_surprise([-1.0] * 3, [1.0] * 3) == pytest.approx(0)


@pytest.mark.parametrize(
    ("nats", "kept"),
    [
        (0.0, 8),  # what the model always says
        (0.7, 8),
        (3.0, 4),  # 1 in 20
        (5.5, 2),
        (7.0, 1),
        (30.0, 1),
    ],
)
def test_a_text_repeats_as_often_as_chance_has_it(nats, kept):
    found = too_often([(1, 2)] * 8, [nats] * 8)
    assert found == (False,) * kept + (True,) * (8 - kept)


def test_large_groups_of_one_text_are_judged_at_once():
    """It took a minute for 1,000 draws, and ended in an overflow from 1,030 on."""
    kept = {nats: too_often([(1, 2)] * 5000, [nats] * 5000).count(False) for nats in (0, 1, 9, 99)}
    assert kept[0] == 5000
    assert 5000 / math.e < kept[1] < 5000 / math.e + 4 * math.sqrt(5000 / math.e)
    assert (kept[9], kept[99]) == (5, 1)  # 0.6 expected: six or more have a chance of 4e-5
    assert too_often([(1,)] * 3, [math.inf] * 3) == (False, True, True)


def test_honest_groups_hardly_ever_repeat_too_often():
    draw = random.Random(1)
    chances = [0.5, 0.2, 0.1, 0.1, 0.05, 0.02, 0.02, 0.01]
    struck = 0
    for _ in range(2000):
        picked = draw.choices(range(8), chances, k=8)
        found = too_often([(one,) for one in picked], [-math.log(chances[one]) for one in picked])
        struck += any(found)
    assert struck < 8  # 8 texts, each with a chance below 1e-4 a count
