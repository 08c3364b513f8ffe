"""The policy-gradient loss, per token: GRPO in its fast form with two policies.

    current    the policy being trained; its log-probabilities carry the gradient
    behaviour  the policy that sampled, as verified; constants

GRPO (arXiv 2402.03300) weighs each token's advantage with the ratio current / behaviour and clips
it. This is that, with four changes, each of which matters off policy:

1. One denominator for a whole optimizer step: the number of kept tokens. Neither a trace's length
   nor its group's spread of scores changes its weight (Dr. GRPO, arXiv 2503.20783; DAPO's
   token-level loss, arXiv 2503.14476).
2. The clip is asymmetric (DAPO "clip-higher"): a good token may grow further than it may shrink.
3. Negative advantages are bounded from both sides. From above, because min(...) of the usual
   clip leaves ratio * advantage unbounded there, and one token that has become likely can blow
   up the step (two-sided clip, INTELLECT-2, arXiv 2505.07291). From below by having no gradient
   once the token is rare enough (TOPR's tapering of negatives, arXiv 2503.14286).
4. The log-ratio is clamped before exp: an overflow would become NaN in every weight.

When all policies are equal every ratio is 1 and the gradient is that of REINFORCE with a
leave-one-out baseline (tests/training/test_policy_loss.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

LOG_RATIO_LIMIT = 10.0
"""|log ratio| beyond this is clamped: exp(10) is 22,026, far outside every clip band."""


@dataclass(frozen=True, slots=True)
class ClipBand:
    """Bounds of the ratio: high for positive advantages, low and cap for negative ones."""

    low: float = 0.8
    high: float = 1.28
    cap: float = 4.0


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """loss: scalar with gradient. ratio, clipped: [tokens] without, for metrics."""

    loss: torch.Tensor
    ratio: torch.Tensor
    clipped: torch.Tensor


def policy_loss(
    current: torch.Tensor,
    behaviour: torch.Tensor,
    advantages: torch.Tensor,
    *,
    denominator: int,
    band: ClipBand,
) -> TokenLoss:
    """-sum(clipped ratio * advantage) / denominator over the tokens of a micro-batch.

    current, behaviour, advantages: [tokens]. behaviour is NaN where the sampler's policy is not
    known (tier C): the ratio is then 1 with current's gradient, which makes the term a weighted
    cross-entropy. denominator: kept tokens of the whole step, over all its micro-batches.
    """
    known = behaviour.isfinite()
    reference = torch.where(known, behaviour, current.detach())
    ratio = (current - reference).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()

    # min(ratio * A, clip(ratio) * A) only ever binds on one side, which the sign of A decides.
    weight = torch.where(
        advantages >= 0, ratio.clamp(max=band.high), ratio.clamp(min=band.low, max=band.cap)
    )

    loss = -(weight * advantages).sum() / denominator
    with torch.no_grad():
        clipped = weight != ratio
    return TokenLoss(loss, ratio.detach(), clipped)


def effective_share(ratios: torch.Tensor) -> float:
    """Kish's effective sample size over the sample size: (sum w)^2 / (n sum w^2), in (0, 1].

    It falls as the current policy leaves the one that sampled: near 1, the data are as good as
    fresh; near 0, a few tokens decide the gradient.
    """
    if not ratios.numel():
        return 1.0
    weights = ratios.double()
    return float(weights.sum() ** 2 / (weights.square().sum() * weights.numel()))
