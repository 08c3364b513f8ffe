"""Advantages of the traces of a group, from their scores alone.

Leave-one-out (RLOO, arXiv 2402.14740): a trace is compared with the mean of the other traces of
its group, which keeps the estimate unbiased. It is n / (n - 1) times the distance from the
group's mean. Not divided by the standard deviation, which would give more weight to tasks that
are almost always or almost never solved (Dr. GRPO, arXiv 2503.20783).
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def leave_one_out(scores: Sequence[float]) -> tuple[float, ...]:
    """score - mean(other scores), one per trace; they sum to 0. At least two finite scores."""
    count = len(scores)
    if count < 2:
        raise ValueError(f"a group of {count} has no other trace to compare with")
    if not all(map(math.isfinite, scores)):
        raise ValueError(f"the scores {scores!r} are not all finite")
    total = math.fsum(scores)
    return tuple(score - (total - score) / (count - 1) for score in scores)


def is_informative(scores: Sequence[float]) -> bool:
    """Whether a group says anything: two traces at least, and not all with the same score."""
    return len(scores) > 1 and min(scores) < max(scores)
