"""What verified log-probabilities say against a trace whose answer is right.

A checker looks at the answer. Text around it can be anything: a miner who inserts the same words
into right solutions teaches them to the model within a few turns ("Hail to the Thief", arXiv
2511.09780, whose remedy this is: ask a model that one trusts how likely the text is). And at tier
B nobody has proven that the traces of a group were drawn one by one: the same text, handed in
eight times, is a miner's way to set its own weight.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

WINDOW = 8
"""Tokens of a window: inserted words are few, and must not drown in a long honest text."""

LEAST_SPREAD = 2.0
"""Nats. Where most texts are certain a robust deviation is next to 0, and every odd sample would
be over it: at 1.0, 8 of 280 honest traces of SmolLM2-135M were."""

_MAD_TO_SIGMA = 1.4826
_CHANCE = 1e-4


def peak_surprise(
    logprobs: Sequence[float], entropies: Sequence[float], window: int = WINDOW
) -> float:
    """By how many nats the least likely stretch of `window` tokens is less likely than a sample.

    A sampled token's -log probability is its entropy on average, at every place, whatever the
    text's length and however hard its task. So what was sampled has a sum of differences around
    0; what was inserted has several nats a token.
    """
    sums = [0.0]
    for logprob, entropy in zip(logprobs, entropies, strict=True):
        sums.append(sums[-1] - logprob - entropy)
    starts = range(max(1, len(logprobs) - window + 1))
    return max(sums[min(start + window, len(logprobs))] - sums[start] for start in starts)


def improbable(
    peaks: Sequence[float], reference: Sequence[float], sigmas: float
) -> tuple[bool, ...]:
    """Which peaks are out of proportion to the reference's (traces of the same kind, most of
    them honest): over its median by `sigmas` robust deviations. Nothing is at sigmas 0."""
    if not sigmas or not reference:
        return (False,) * len(peaks)
    middle = statistics.median(reference)
    spread = _MAD_TO_SIGMA * statistics.median(abs(one - middle) for one in reference)
    limit = middle + sigmas * max(spread, LEAST_SPREAD)
    return tuple(peak > limit for peak in peaks)


def too_often(texts: Sequence[tuple[int, ...]], nats: Sequence[float]) -> tuple[bool, ...]:
    """Which traces of a group repeat a text more often than sampling does.

    nats: -log of each text's probability. The k-th time of a text is too often where a group of
    this size has k of them with a chance of less than 1e-4 (binomial).
    """
    seen: dict[tuple[int, ...], int] = {}
    most: dict[tuple[int, ...], int] = {}
    found = []
    for text, cost in zip(texts, nats, strict=True):
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            most[text] = _most_by_chance(len(texts), cost)
        found.append(seen[text] > 1 and seen[text] > most[text])
    return tuple(found)


def _most_by_chance(draws: int, nats: float) -> int:
    """The most times, 1 at least, that an event of probability exp(-nats) happens in `draws` with a
    chance of _CHANCE or more. In logs and linear in draws: a bounty's groups may be large."""
    if not nats > 0:  # certain; rounding can say so of what is nearly so
        return draws
    miss = math.log(-math.expm1(-nats))
    tail = 0.0
    for times in range(draws, 1, -1):
        ways = math.lgamma(draws + 1) - math.lgamma(times + 1) - math.lgamma(draws - times + 1)
        tail += math.exp(min(0.0, ways - times * nats + (draws - times) * miss))
        if tail >= _CHANCE:
            return times
    return 1
