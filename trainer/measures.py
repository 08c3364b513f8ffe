"""What a turn says of itself: plain numbers of each optimizer step and of the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import torch

KL_LEVELS: Final = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One optimizer step.

    grad_norm: before clipping. clipped_share, mean_ratio, effective_share (ESS): of tokens, with
    masked ones as ratio 0. kl_quantiles: of the tokens' divergence ratio - 1 - log ratio, at
    KL_LEVELS. masked: share of the step's tokens that got no weight, by reason, and of its
    |advantage| tokens that caps took. mean_length: tokens of a completion. mean_score: of traces.
    """

    loss: float
    grad_norm: float
    mean_ratio: float
    clipped_share: float
    effective_share: float
    groups: int
    tokens: int
    kl_quantiles: tuple[float, ...] = (0.0, 0.0, 0.0)
    masked: dict[str, float] = field(default_factory=dict)
    mean_length: float = 0.0
    mean_score: float = 0.0


@dataclass(frozen=True, slots=True)
class TurnMetrics:
    """A whole turn. dropped: traces left out by verification. stopped_early: the data went stale.

    groups, traces, tokens: what was trained on, once per epoch. batch_tokens: the tokens by batch.
    """

    steps: tuple[StepMetrics, ...]
    groups: int
    traces: int
    tokens: int
    dropped: dict[str, int]
    stopped_early: bool
    batch_tokens: dict[int, int] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Plain data for a training record: counts, and means over the steps."""
        names = ("loss", "grad_norm", "mean_ratio", "clipped_share", "effective_share")
        means = {
            name: math.fsum(getattr(step, name) for step in self.steps) / max(1, len(self.steps))
            for name in names
        }
        return {
            **means,
            "optimizer_steps": len(self.steps),
            "groups": self.groups,
            "traces": self.traces,
            "tokens": self.tokens,
            "dropped": self.dropped,
            "stopped_early": self.stopped_early,
            "steps": [asdict(step) for step in self.steps],
        }


def epoch_effective_share(steps: Sequence[StepMetrics]) -> float:
    """Kish's effective sample size over the sample size, of all tokens of these steps together.

    From each step's mean ratio m, share e and tokens n: the sum of its ratios is m n, that of
    their squares m^2 n / e.
    """
    count = sum(step.tokens for step in steps)
    total = math.fsum(step.mean_ratio * step.tokens for step in steps)
    squares = math.fsum(
        step.mean_ratio**2 * step.tokens / step.effective_share
        for step in steps
        if step.effective_share > 0
    )
    if not count:
        return 1.0
    return total**2 / (count * squares) if squares else 0.0


def kl_quantiles(ratios: torch.Tensor) -> tuple[float, ...]:
    """Of each token's ratio - 1 - log ratio: never negative, in expectation the divergence.

    (The estimator k3, http://joschu.net/blog/kl-approx.html.)
    """
    logs = ratios.double()[ratios > 0].log()  # masked tokens have ratio 0
    if not len(logs):
        return (0.0,) * len(KL_LEVELS)
    found = torch.expm1(logs) - logs
    # Not torch.quantile, which refuses more than 2^24 values.
    ordered = found.sort().values
    return tuple(float(ordered[round(level * (len(ordered) - 1))]) for level in KL_LEVELS)


def step_of(plain: dict[str, Any]) -> StepMetrics:
    """A step from its plain data (as dataclasses.asdict gives, also through JSON)."""
    return StepMetrics(**{**plain, "kl_quantiles": tuple(plain["kl_quantiles"])})
