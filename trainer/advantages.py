"""Advantages of the traces of a group, from their scores alone.

Leave-one-out (RLOO, arXiv 2402.14740): a trace is compared with the mean of the other traces of
its group, which keeps the estimate unbiased. It is n / (n - 1) times the distance from the
group's mean. Not divided by the standard deviation, which would give more weight to tasks that
are almost always or almost never solved (Dr. GRPO, arXiv 2503.20783). The other two are what the
losses of objectives.py were published with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def leave_one_out(scores: Sequence[float]) -> tuple[float, ...]:
    """score - mean(other scores), one per trace; they sum to 0. At least two finite scores."""
    count, mean = len(scores), _mean(scores)
    return tuple((score - mean) * count / (count - 1) for score in scores)


def centred(scores: Sequence[float]) -> tuple[float, ...]:
    """score - mean(scores): Dr. GRPO's. At least two finite scores."""
    mean = _mean(scores)
    return tuple(score - mean for score in scores)


def normalised(scores: Sequence[float]) -> tuple[float, ...]:
    """(score - mean) / (standard deviation + 1e-4): GRPO's, with TRL's constant and its n - 1."""
    mean = _mean(scores)
    spread = math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / (len(scores) - 1))
    return tuple((score - mean) / (spread + 1e-4) for score in scores)


def is_informative(scores: Sequence[float]) -> bool:
    """Whether a group says anything: two traces at least, and not all with the same score."""
    return len(scores) > 1 and min(scores) < max(scores)


def is_solved(scores: Sequence[float]) -> bool:
    """Whether two traces at least are there and all have the full score: nothing to compare, but
    something to imitate (trainer.loss)."""
    return len(scores) > 1 and min(scores) >= 1.0


def priced(scores: Sequence[float], lengths: Sequence[int], price: float) -> tuple[float, ...]:
    """Scores less `price` for each thousand tokens: length pricing, off at 0.

    A price makes right answers compete by length, and so can teach to stop thinking. Choose it
    small against the spread of scores. (DAPO's overlong penalty and Kimi k1.5's length reward
    have the same aim.) Apply it to groups that are informative without it only: a group of one
    score would otherwise teach nothing but brevity.
    """
    return tuple(s - price * n / 1000 for s, n in zip(scores, lengths, strict=True))


def _mean(scores: Sequence[float]) -> float:
    if len(scores) < 2:
        raise ValueError(f"a group of {len(scores)} has no other trace to compare with")
    if not all(map(math.isfinite, scores)):
        raise ValueError(f"the scores {tuple(scores)!r} are not all finite")
    return math.fsum(scores) / len(scores)
