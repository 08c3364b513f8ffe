"""Accuracy over the number of samples, before and after, and what the difference means.

    sharpens    pass@1 rises and pass@k does not: answers that were already in reach come more
                surely, none comes into reach (Yue et al., arXiv 2504.13837)
    adds        pass@k rises for the largest k: tasks are solved that were not, whatever was sampled
    harms       pass@1 falls, or pass@k falls and nothing rises
    no change   none of it can be told from chance

Each is decided by the paired difference on the same tasks against its own standard error: a rise or
fall is one of more than SIGMAS of them. "Does not rise" is no proof of flatness, so a verdict
says how large a rise could have gone unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from marketplace.protocol.errors import InvalidValue
from trainer.evaluate import Estimate, Evaluation, paired_difference

Verdict = Literal["sharpens", "adds", "no change", "harms"]
Kind = Literal["pass", "majority"]

SIGMAS: Final = 2.0
"""Standard errors that a difference must exceed to count."""


@dataclass(frozen=True, slots=True)
class Curve:
    """estimates: one for each of ks, which rise."""

    ks: tuple[int, ...]
    estimates: tuple[Estimate, ...]

    def plain(self) -> list[dict[str, float]]:
        """Plain data: k, value and standard error of each point."""
        return [
            {"k": k, "value": one.value, "standard_error": one.error}
            for k, one in zip(self.ks, self.estimates, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """after against before on the same tasks. Gains are paired; k: the largest compared."""

    passes: Curve
    majorities: Curve | None
    verdict: Verdict
    reason: str

    @property
    def k(self) -> int:
        return self.passes.ks[-1]

    def plain(self) -> dict[str, Any]:
        """Plain data for evaluation.json."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "pass_gains": self.passes.plain(),
            "majority_gains": None if self.majorities is None else self.majorities.plain(),
        }


def curve_ks(samples: int, most: int | None = None) -> tuple[int, ...]:
    """1, 2, 4, ... and the number of samples itself (or `most` of them)."""
    last = samples if most is None else most
    if not 1 <= last <= samples:
        raise InvalidValue(
            f"k is {last}, and there are {samples} samples of each task",
            fix=f"choose k from 1 to {samples}, or draw more samples",
        )
    return tuple(sorted({2**power for power in range(last.bit_length())} | {last}))


def accuracy_curve(evaluation: Evaluation, kind: Kind, ks: Sequence[int]) -> Curve:
    """pass@k or maj@k over k, with standard errors clustered by task."""
    at: Callable[[int], Estimate] = (
        evaluation.pass_at_k if kind == "pass" else evaluation.majority_at_k
    )
    return Curve(tuple(ks), tuple(map(at, ks)))


def compare(before: Evaluation, after: Evaluation, *, k: int | None = None) -> Comparison:
    """Two evaluations of the same tasks, in the same order. k: the largest to look at."""
    ks = curve_ks(min(before.samples, after.samples), k)
    if ks[-1] < 2:
        raise InvalidValue(
            "one sample of each task can't tell sharpening from adding",
            fix="draw at least 2 samples of each task, better 8",
        )
    passes = Curve(ks, tuple(paired_difference(before.passes(n), after.passes(n)) for n in ks))
    majorities = None
    if before.votes is not None and after.votes is not None:
        gains = (paired_difference(before.majorities(n), after.majorities(n)) for n in ks)
        majorities = Curve(ks, tuple(gains))
    verdict = judge(passes.estimates[0], passes.estimates[-1])
    reason = _explained(verdict, ks[-1], passes.estimates[0], passes.estimates[-1])
    return Comparison(passes, majorities, verdict, reason)


def judge(once: Estimate, any_of: Estimate) -> Verdict:
    """The verdict on the paired gains in pass@1 and in pass@k."""
    if once.sigmas < -SIGMAS:
        return "harms"
    if any_of.sigmas > SIGMAS:
        return "adds"
    if once.sigmas > SIGMAS:
        return "sharpens"
    return "harms" if any_of.sigmas < -SIGMAS else "no change"


def evaluation_record(
    evaluation: Evaluation, *, k: int | None = None, **about: Any
) -> dict[str, Any]:
    """Plain data of an evaluation: everything that a comparison or a model card needs."""
    ks = curve_ks(evaluation.samples, k)
    majority = None
    if evaluation.votes is not None:
        majority = accuracy_curve(evaluation, "majority", ks).plain()
    once = evaluation.pass_at_1()
    return {
        **about,
        "tasks": len(evaluation.scores),
        "samples": evaluation.samples,
        "pass_at_1": once.value,
        "standard_error": once.error,
        "mean_score": asdict(evaluation.mean_score()),
        "pass": accuracy_curve(evaluation, "pass", ks).plain(),
        "majority": majority,
        "scores": [list(task) for task in evaluation.scores],
        "votes": None if evaluation.votes is None else [list(task) for task in evaluation.votes],
    }


def evaluation_of(record: dict[str, Any]) -> Evaluation:
    """The evaluation in a record. InvalidValue if it holds none."""
    try:
        votes = record["votes"]
        return Evaluation(
            tuple(tuple(map(float, task)) for task in record["scores"]),
            None if votes is None else tuple(tuple(map(int, task)) for task in votes),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidValue(f"no evaluation can be read: {type(error).__name__} {error}") from None


def _explained(verdict: Verdict, k: int, once: Estimate, any_of: Estimate) -> str:
    shown = f"pass@1 {_shown(once)}, pass@{k} {_shown(any_of)}, paired by task"
    unseen = any_of.value + SIGMAS * any_of.error
    if verdict == "sharpens":
        if any_of.sigmas < -SIGMAS:
            return f"{shown}: likelier answers, and fewer tasks within reach"
        return f"{shown}: a rise of pass@{k} by more than {max(unseen, 0.0):.3f} would have shown"
    if verdict == "adds":
        return f"{shown}: tasks came within reach that {k} samples did not solve before"
    if verdict == "harms":
        return f"{shown}: fewer right answers than before"
    return f"{shown}: neither is more than {SIGMAS:g} standard errors from 0"


def _shown(gain: Estimate) -> str:
    return f"{gain.value:+.3f} ± {gain.error:.3f}"
