"""Held-out accuracy with honest error bars.

Samples of one task are alike, so the task is the unit: standard errors are clustered by task
(Miller, "Adding Error Bars to Evals", arXiv 2411.00640, sections 2.2 and 4.2 for the paired
difference). Pass@k is the unbiased estimate of Chen et al. (arXiv 2107.03374, equation 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from marketplace.gym.environment import Environment, Task
from marketplace.protocol.errors import InvalidValue, SpecError

MAX_DRAWS_PER_TASK = 50
"""Held-out draws per wanted task before the held-out set counts as too small."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    error: float

    @property
    def sigmas(self) -> float:
        """How many standard errors the value is away from 0 (infinite without any error)."""
        if self.error > 0:
            return self.value / self.error
        return math.copysign(math.inf, self.value) if self.value else 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores in [0, 1], per task (at least two) and sample (at least one, equally many)."""

    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        samples = len(self.scores[0]) if self.scores else 0
        if len(self.scores) < 2 or not samples or any(len(s) != samples for s in self.scores):
            raise InvalidValue("an evaluation needs two tasks or more with equally many samples")
        if not all(0.0 <= score <= 1.0 for task in self.scores for score in task):
            raise InvalidValue("an evaluation needs scores in [0, 1]")

    @property
    def samples(self) -> int:
        """Per task."""
        return len(self.scores[0])

    def pass_at_1(self) -> Estimate:
        """The share of full scores, clustered by task."""
        return _mean([_solved(task) / self.samples for task in self.scores])

    def mean_score(self) -> Estimate:
        """The mean score, clustered by task. Equal to pass_at_1 where scores are 0 or 1."""
        return _mean([math.fsum(task) / self.samples for task in self.scores])

    def pass_at_k(self, k: int) -> Estimate:
        """The chance that one of k samples has a full score; k is at most the samples."""
        if not 1 <= k <= self.samples:
            raise InvalidValue(f"pass@{k} needs 1 to {self.samples} samples")
        n = self.samples
        return _mean(
            [1 - math.comb(n - _solved(task), k) / math.comb(n, k) for task in self.scores]
        )


def paired_gain(before: Evaluation, after: Evaluation) -> Estimate:
    """The rise in pass@1 on the same tasks in the same order, with its paired standard error."""
    if len(before.scores) != len(after.scores):
        raise InvalidValue(
            f"evaluations of {len(before.scores)} and {len(after.scores)} tasks are not paired"
        )
    return _mean(
        [
            _solved(late) / after.samples - _solved(early) / before.samples
            for early, late in zip(before.scores, after.scores, strict=True)
        ]
    )


def heldout_tasks(environment: Environment, count: int) -> list[Task]:
    """The first `count` held-out tasks with different questions.

    Raises SpecError if the environment holds nothing out or has too few such questions.
    """
    found: dict[str, Task] = {}
    for index in range(count * MAX_DRAWS_PER_TASK):
        task = environment.heldout(index)
        found.setdefault(task.question, task)
        if len(found) == count:
            return list(found.values())
    raise SpecError(
        f"{environment.spec.name!r} has only {len(found)} held-out questions, not {count}",
        fix="raise holdout_ppm, widen the task's configuration or evaluate on fewer tasks",
    )


def evaluate(
    tasks: Sequence[Task],
    complete: Callable[[Sequence[str]], Iterable[Sequence[str]]],
    score: Callable[[Task, str], float],
    *,
    on_task: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Sample and score. complete: the completions of each prompt, in order. score: in [0, 1].

    on_task: called with (tasks done, tasks in all).
    """
    rows = []
    groups: Iterator[Sequence[str]] = iter(complete([task.prompt for task in tasks]))
    for done, (task, texts) in enumerate(zip(tasks, groups, strict=True), start=1):
        rows.append(tuple(score(task, text) for text in texts))
        if on_task is not None:
            on_task(done, len(tasks))
    return Evaluation(tuple(rows))


def _solved(task: Sequence[float]) -> int:
    return sum(score >= 1.0 for score in task)


def _mean(values: Sequence[float]) -> Estimate:
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, math.sqrt(variance / count))
