"""The losses a run can choose between: ours, and what others train with, from their papers.

The others are for comparison. They know two policies, current and old, and take contributed
traces for the old policy's own (old is `Tokens.proximal` here): that is what their trainers do
with completions from outside. Where TRL 1.16 has the same loss, tests/training/test_trl_equality.py
holds them equal. Each is a sum of terms over a number of units, over all of an optimizer step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from trainer.advantages import centred, leave_one_out, normalised
from trainer.config import LossName, TrainSettings
from trainer.loss import Gate, Rules, TokenLoss, Tokens, log_ratios, over_traces, refinery_loss


@dataclass(frozen=True, slots=True)
class Objective:
    """How scores become advantages, and tokens a loss."""

    advantages: Callable[[Sequence[float]], tuple[float, ...]]
    loss: Callable[[Tokens, TrainSettings], TokenLoss]


def ours(tokens: Tokens, settings: TrainSettings) -> TokenLoss:
    """trainer.loss, with the settings' gates."""
    return refinery_loss(tokens, rules_of(settings))


def grpo(tokens: Tokens, settings: TrainSettings) -> TokenLoss:
    """GRPO, arXiv 2402.03300, equation 3 without its KL term: mean over traces of the mean over
    tokens of min(ratio * A, clip(ratio) * A), with one epsilon to both sides."""
    surrogate, log_ratio = _clipped(tokens, settings.peer_low, settings.peer_high)
    return _result(-surrogate * _mean_weights(tokens), _traces(tokens), log_ratio, tokens, settings)


def dapo(tokens: Tokens, settings: TrainSettings) -> TokenLoss:
    """DAPO, arXiv 2503.14476, equation 8: the same clip, with a higher upper bound, averaged over
    the tokens of all traces. (Its dynamic sampling is our dropping of groups of one score.)"""
    surrogate, log_ratio = _clipped(tokens, settings.peer_low, settings.ratio_high)
    return _result(-surrogate, len(tokens.current), log_ratio, tokens, settings)


def dr_grpo(tokens: Tokens, settings: TrainSettings) -> TokenLoss:
    """Dr. GRPO, arXiv 2503.20783, section 3.2: no division by the standard deviation, and a
    constant instead of the trace's length."""
    surrogate, log_ratio = _clipped(tokens, settings.peer_low, settings.peer_high)
    units = _traces(tokens) * settings.dr_grpo_length
    return _result(-surrogate, units, log_ratio, tokens, settings)


def gspo(tokens: Tokens, settings: TrainSettings) -> TokenLoss:
    """GSPO, arXiv 2507.18071, equations 5 to 7: one ratio a trace, the geometric mean of its
    tokens', clipped within the settings' gspo_clip of 1."""
    weights = _mean_weights(tokens)
    log_ratio = over_traces(log_ratios(tokens) * weights, tokens.traces)
    ratio, clip = log_ratio.exp(), settings.gspo_clip
    surrogate = torch.minimum(
        ratio * tokens.advantages, ratio.clamp(1 - clip, 1 + clip) * tokens.advantages
    )
    return _result(-surrogate * weights, _traces(tokens), log_ratio, tokens, settings, clip=clip)


def cispo(tokens: Tokens, settings: TrainSettings) -> TokenLoss:
    """CISPO, MiniMax-M1, arXiv 2506.13585, equation 4: the ratio is a constant weight, clipped from
    above only, on REINFORCE's gradient, so that no token's gradient vanishes."""
    log_ratio = log_ratios(tokens)
    weight = log_ratio.detach().exp().clamp(max=settings.cispo_high)
    terms = -weight * tokens.advantages * tokens.current
    return _result(terms, len(tokens.current), log_ratio, tokens, settings)


OBJECTIVES: Final[dict[LossName, Objective]] = {
    "ours": Objective(leave_one_out, ours),
    "grpo": Objective(normalised, grpo),
    "dapo": Objective(normalised, dapo),
    "dr_grpo": Objective(centred, dr_grpo),
    "gspo": Objective(normalised, gspo),
    "cispo": Objective(normalised, cispo),
}


def rules_of(settings: TrainSettings) -> Rules:
    """The gates that a run's settings describe."""
    return Rules(
        low=settings.ratio_low,
        high=settings.ratio_high,
        cap=settings.negative_ratio_cap,
        good_floor=settings.good_floor,
        bad_ceiling=settings.bad_ceiling,
        gate=Gate(settings.band_low, settings.band_high, settings.negative_drift),
        strict=Gate(
            settings.strict_band_low, settings.strict_band_high, settings.strict_negative_drift
        ),
        pull=settings.pull,
    )


def _clipped(tokens: Tokens, low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    log_ratio = log_ratios(tokens)
    ratio = log_ratio.exp()
    bounded = ratio.clamp(low, high)
    return torch.minimum(ratio * tokens.advantages, bounded * tokens.advantages), log_ratio


def _mean_weights(tokens: Tokens) -> torch.Tensor:
    """[n] 1 / length of the token's trace."""
    return 1 / over_traces(torch.ones_like(tokens.current.detach()), tokens.traces)


def _traces(tokens: Tokens) -> int:
    return len(tokens.traces.unique())


def _result(
    terms: torch.Tensor,
    units: float,
    log_ratio: torch.Tensor,
    tokens: Tokens,
    settings: TrainSettings,
    *,
    clip: float | None = None,
) -> TokenLoss:
    ratio = log_ratio.detach().exp()
    low = settings.peer_low if clip is None else 1 - clip
    high = settings.peer_high if clip is None else 1 + clip
    good = tokens.advantages >= 0
    return TokenLoss(terms, float(units), ratio, torch.where(good, ratio > high, ratio < low))
