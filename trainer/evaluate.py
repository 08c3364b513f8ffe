"""Held-out accuracy with honest error bars.

Samples of one task are alike, so the task is the unit: standard errors are clustered by task
(Miller, "Adding Error Bars to Evals", arXiv 2411.00640, sections 2.2 and 4.2 for the paired
difference). Pass@k is the unbiased estimate of Chen et al. (arXiv 2107.03374, equation 1). Maj@k
is the chance that the answer most often given in k of the samples is right (self-consistency,
arXiv 2203.11171): exact over all choices of k of them, ties broken by a fair draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from marketplace.gym.environment import Environment, Task
from marketplace.protocol.errors import InvalidValue, SpecError

MAX_DRAWS_PER_TASK = 50
"""Held-out draws per wanted task before the held-out set counts as too small."""

SILENT: Final = -1
"""The vote of a completion that no answer can be read from."""


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
    """Scores in [0, 1], per task (at least two) and sample (at least one, equally many).

    votes: for each sample a number, equal for equal answers of a task, or SILENT; None where
    answers were not compared.
    """

    scores: tuple[tuple[float, ...], ...]
    votes: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        samples = len(self.scores[0]) if self.scores else 0
        if len(self.scores) < 2 or not samples or any(len(s) != samples for s in self.scores):
            raise InvalidValue("an evaluation needs two tasks or more with equally many samples")
        if not all(0.0 <= score <= 1.0 for task in self.scores for score in task):
            raise InvalidValue("an evaluation needs scores in [0, 1]")
        if self.votes is not None and list(map(len, self.votes)) != list(map(len, self.scores)):
            raise InvalidValue("an evaluation needs as many votes as scores")

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
        return _mean(self.passes(k))

    def majority_at_k(self, k: int) -> Estimate:
        """The chance that the commonest answer of k samples is right; k is at most the samples."""
        return _mean(self.majorities(k))

    def passes(self, k: int) -> list[float]:
        """pass@k of each task."""
        n = self._at_most_samples("pass", k)
        return [1 - math.comb(n - _solved(task), k) / math.comb(n, k) for task in self.scores]

    def majorities(self, k: int) -> list[float]:
        """maj@k of each task. InvalidValue where answers were not compared."""
        self._at_most_samples("maj", k)
        if self.votes is None:
            raise InvalidValue(f"maj@{k} needs votes, and this evaluation has scores only")
        return [
            majority_chance(*_tally(scores, votes), k)
            for scores, votes in zip(self.scores, self.votes, strict=True)
        ]

    def _at_most_samples(self, name: str, k: int) -> int:
        if not 1 <= k <= self.samples:
            raise InvalidValue(f"{name}@{k} needs 1 to {self.samples} samples")
        return self.samples


def paired_gain(before: Evaluation, after: Evaluation) -> Estimate:
    """The rise in pass@1 on the same tasks in the same order, with its paired standard error."""
    return paired_difference(
        [_solved(task) / before.samples for task in before.scores],
        [_solved(task) / after.samples for task in after.scores],
    )


def paired_difference(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """The mean rise from one value per task to another of the same tasks, in the same order."""
    if len(before) != len(after):
        raise InvalidValue(
            f"evaluations of {len(before)} and {len(after)} tasks are not paired",
            fix="evaluate both on the same tasks",
        )
    return _mean([late - early for early, late in zip(before, after, strict=True)])


@lru_cache(maxsize=65_536)
def majority_chance(right: tuple[int, ...], wrong: tuple[int, ...], silent: int, k: int) -> float:
    """The chance that k of the samples, drawn without replacement, elect a right answer.

    right, wrong: how often each right and each wrong answer was given. silent: samples that gave
    none and don't vote. Of t answers in front each is elected with chance 1/t; where nobody
    votes, nothing is elected.
    """
    elected = 0.0
    for place, count in enumerate(right):
        rivals = (*right[:place], *right[place + 1 :], *wrong)
        for votes in range(1, min(count, k) + 1):
            # Ways to choose the other k - votes samples, none of the rivals getting more than
            # `votes`, by how many are chosen and how many rivals draw level. Who was given fewer
            # votes in all never does either: such samples are as good as silent.
            equals = [rival for rival in rivals if rival >= votes]
            others = silent + sum(rivals) - sum(equals)
            most = min(others, k - votes)
            ways = {(drawn, 0): math.comb(others, drawn) for drawn in range(most + 1)}
            for rival in equals:
                grown: dict[tuple[int, int], int] = {}
                for (drawn, level), number in ways.items():
                    for more in range(min(rival, votes, k - votes - drawn) + 1):
                        key = (drawn + more, level + (more == votes))
                        grown[key] = grown.get(key, 0) + number * math.comb(rival, more)
                ways = grown
            for (drawn, level), number in ways.items():
                if drawn == k - votes:
                    elected += math.comb(count, votes) * number / (level + 1)
    return elected / math.comb(sum(right) + sum(wrong) + silent, k)


def count_votes(answers: Sequence[str | None], same: Callable[[str, str], bool]) -> tuple[int, ...]:
    """The vote of each answer: the place of the first that is the same, SILENT for None."""
    leaders: list[tuple[int, str]] = []
    votes = []
    for place, answer in enumerate(answers):
        if answer is None:
            votes.append(SILENT)
            continue
        vote = next((first for first, other in leaders if same(other, answer)), place)
        if vote == place:
            leaders.append((place, answer))
        votes.append(vote)
    return tuple(votes)


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
    vote: Callable[[Sequence[str]], tuple[int, ...]] | None = None,
    on_task: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Sample and score. complete: the completions of each prompt, in order. score: in [0, 1].

    vote: which completions of a task give the same answer. on_task: called with (tasks done,
    tasks in all).
    """
    rows, votes = [], []
    groups: Iterator[Sequence[str]] = iter(complete([task.prompt for task in tasks]))
    for done, (task, texts) in enumerate(zip(tasks, groups, strict=True), start=1):
        rows.append(tuple(score(task, text) for text in texts))
        if vote is not None:
            votes.append(vote(texts))
        if on_task is not None:
            on_task(done, len(tasks))
    return Evaluation(tuple(rows), tuple(votes) if vote is not None else None)


def _solved(task: Sequence[float]) -> int:
    return sum(score >= 1.0 for score in task)


def _tally(
    scores: Sequence[float], votes: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Counts of the right answers, of the wrong ones, and of silence. An answer is as right as the
    first sample that gave it."""
    counts: dict[int, int] = {}
    for vote in votes:
        counts[vote] = counts.get(vote, 0) + 1
    silent = counts.pop(SILENT, 0)
    solved = {vote: scores[votes.index(vote)] >= 1.0 for vote in counts}
    right = sorted(count for vote, count in counts.items() if solved[vote])
    wrong = sorted(count for vote, count in counts.items() if not solved[vote])
    return tuple(right), tuple(wrong), silent


def _mean(values: Sequence[float]) -> Estimate:
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Estimate(mean, math.sqrt(variance / count))
