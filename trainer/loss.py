"""The Refinery's loss, per token: what a trace that somebody else sampled may teach.

    behaviour  the policy that sampled a trace: a registered checkpoint, its log-probs verified
    proximal   the policy at the start of the turn (the parent); often the same as behaviour
    current    the policy being trained; only its log-probabilities carry a gradient

Of each token the loss is, read from the inside out,

    - stale weight * clipped ratio * advantage  +  pull / 2 * (log ratio)^2      if it is kept
    - imitation * log current                                      of traces of full score

    ratio         current / proximal. Clipped from both sides by the sign of the advantage, as
                  GRPO (arXiv 2402.03300) and DAPO (2503.14476, the higher upper bound) do for
                  good tokens and INTELLECT-2 (2505.07291) for bad ones, where the usual clip
                  leaves ratio * advantage without a bound.
    stale weight  proximal / behaviour, a constant: how much likelier the token was before this
                  turn than when it was sampled. Apart from the ratio, so that the clip keeps to
                  what this turn changes (decoupled PPO, 2110.00641). Asymmetric: bad tokens
                  never count more than once, good ones never less (TOPR, 2503.14286).
    kept          the stale weight lies in a band (IcePop, 2510.18855), and a trace with a
                  negative advantage has not drifted too far from where it was sampled (off-policy
                  sequence masking, DeepSeek-V3.2, 2512.02556).
    imitation     cross-entropy on verified positives. It has no ratio, hence no variance from one,
                  and stays right however old a trace is (TOPR gives positives just that). So no
                  band or clip binds it. The ratio's term alone stops teaching a good token that
                  rose by 28 %, and says nothing where all of a group are right.
    pull          holds the current policy near the proximal one (squared log-ratios as Kimi k1.5,
                  2501.12599; its gradient estimates that of a KL divergence).

The sum is divided by the number of tokens with any weight of the whole optimizer step: neither a
trace's length nor its group's spread of scores changes its weight (Dr. GRPO, 2503.20783).
Log-ratios are clamped before exp: an overflow would become NaN in every weight.

Where behaviour is proximal (the common case: traces of the parent) the stale weight is 1, nothing
leaves the band, and neither is computed. With all three equal and no imitation the gradient is
RLOO's; with the gates off it is REINFORCE with importance sampling
(tests/training/test_loss_identities.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import torch

LOG_RATIO_LIMIT = 10.0
"""|log ratio| beyond this is clamped: exp(10) is 22,026, far outside every clip band."""

OUTSIDE_BAND: Final = "outside the band"
FAR_NEGATIVE: Final = "negative trace too far off"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Completion tokens of whole traces, n of them; every tensor is [n].

    current: with gradient. proximal: constant; NaN where the policy that sampled is unknown
    (tier C). behaviour: constant; None if it is the proximal's throughout (the two-policy form).
    advantages: of each token's trace. traces: int64, which trace a token is of, from 0.
    strict: bool, the tokens that the stronger gate holds for (tier B); None: none.
    imitation: weight of a token's cross-entropy, 0 or more; None: 0.
    """

    current: torch.Tensor
    proximal: torch.Tensor
    behaviour: torch.Tensor | None
    advantages: torch.Tensor
    traces: torch.Tensor
    strict: torch.Tensor | None = None
    imitation: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """Which tokens are kept. low, high: band of proximal / behaviour. drift: most mean log ratio
    of behaviour over current, in nats, of a trace with a negative advantage."""

    low: float = 0.5
    high: float = 2.0
    drift: float = 1.0


OPEN_GATE: Final = Gate(0.0, float("inf"), float("inf"))


@dataclass(frozen=True, slots=True)
class Rules:
    """low, high, cap: clip of the ratio; high binds good tokens, low and cap bad ones. good_floor:
    least stale weight of a good token; bad_ceiling: most of a bad one. gate, strict: of tiers A
    and B. pull: see above. whole_trace: every token has its trace's ratio (the product over its
    tokens), which importance sampling needs to be unbiased; far too noisy for long traces."""

    low: float = 0.8
    high: float = 1.28
    cap: float = 4.0
    good_floor: float = 1.0
    bad_ceiling: float = 1.0
    gate: Gate = Gate()
    strict: Gate = Gate(0.5, 2.0, 0.5)
    pull: float = 0.0
    whole_trace: bool = False

    @classmethod
    def off(cls, *, whole_trace: bool = False) -> Rules:
        """Plain importance sampling: nothing clipped, weighed by sign, masked or pulled."""
        endless = float("inf")
        return cls(0.0, endless, endless, 0.0, endless, OPEN_GATE, OPEN_GATE, 0.0, whole_trace)


@dataclass(frozen=True, slots=True)
class TokenLoss:
    """terms: [n] with gradient, to be summed and divided by the step's sum of `units` (for ours:
    kept tokens). ratio: [n] current / behaviour, unclipped, 0 where not kept; clipped: [n] bool.
    masked: tokens without any weight, by reason."""

    terms: torch.Tensor
    units: float
    ratio: torch.Tensor
    clipped: torch.Tensor
    masked: dict[str, int] = field(default_factory=dict)


def refinery_loss(tokens: Tokens, rules: Rules) -> TokenLoss:
    """The loss that the module docstring describes."""
    good = tokens.advantages >= 0
    log_ratio = log_ratios(tokens, whole_trace=rules.whole_trace)
    ratio = log_ratio.exp()
    clipped = torch.where(
        good, ratio.clamp(max=rules.high), ratio.clamp(min=rules.low, max=rules.cap)
    )
    log_stale = log_stale_weights(tokens, whole_trace=rules.whole_trace)
    far = good.logical_not() & drifted(tokens, log_stale, rules)
    weight = clipped * tokens.advantages
    outside = torch.zeros_like(good)
    if log_stale is not None:
        stale = log_stale.exp()
        outside = outside_band(stale, tokens.strict, rules)
        weight = weight * torch.where(
            good, stale.clamp(min=rules.good_floor), stale.clamp(max=rules.bad_ceiling)
        )
    kept = (outside | far).logical_not()
    terms = (rules.pull / 2 * log_ratio.square() - weight) * kept
    taught = kept
    if tokens.imitation is not None:
        terms = terms - tokens.imitation * tokens.current
        taught = kept | (tokens.imitation > 0)
    with torch.no_grad():
        whole = ratio if log_stale is None else ratio * log_stale.exp()
        masked = {
            OUTSIDE_BAND: int((outside & ~taught).sum()),
            FAR_NEGATIVE: int((far & ~outside & ~taught).sum()),
        }
        return TokenLoss(
            terms,
            float(taught.sum()),
            whole.detach() * kept,
            (clipped != ratio) & kept,
            {reason: count for reason, count in masked.items() if count},
        )


def log_ratios(tokens: Tokens, *, whole_trace: bool = False) -> torch.Tensor:
    """[n] log current / proximal, clamped; 0 with current's gradient where proximal is unknown
    (which makes a token's term a weighted cross-entropy).

    whole_trace: the value is the trace's, the gradient still the token's own (GSPO-token,
    arXiv 2507.18071, section 4.3).
    """
    constant = tokens.current.detach()
    proximal = torch.where(tokens.proximal.isfinite(), tokens.proximal, constant)
    own = tokens.current - proximal
    if whole_trace:
        own = over_traces(own.detach(), tokens.traces) + tokens.current - constant
    return own.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def log_stale_weights(tokens: Tokens, *, whole_trace: bool = False) -> torch.Tensor | None:
    """[n] log proximal / behaviour, clamped, 0 where unknown; None if they are one policy."""
    if tokens.behaviour is None:
        return None
    own = torch.nan_to_num(tokens.proximal - tokens.behaviour, nan=0.0)
    if whole_trace:
        own = over_traces(own, tokens.traces)
    return own.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def outside_band(stale: torch.Tensor, strict: torch.Tensor | None, rules: Rules) -> torch.Tensor:
    """[n] True where proximal / behaviour is out of the token's band."""
    outside = (stale < rules.gate.low) | (stale > rules.gate.high)
    if strict is None:
        return outside
    narrow = (stale < rules.strict.low) | (stale > rules.strict.high)
    return torch.where(strict, narrow, outside)


@torch.no_grad()
def drifted(tokens: Tokens, log_stale: torch.Tensor | None, rules: Rules) -> torch.Tensor:
    """[n] True in traces whose mean log behaviour / current is over the drift that is allowed."""
    drift = -log_ratios(tokens)
    if tokens.behaviour is not None:
        drift = drift - torch.nan_to_num(tokens.proximal - tokens.behaviour, nan=0.0)
    lengths = over_traces(torch.ones_like(drift), tokens.traces)
    mean = over_traces(drift, tokens.traces) / lengths
    far = mean > rules.gate.drift
    return (
        far if tokens.strict is None else torch.where(tokens.strict, mean > rules.strict.drift, far)
    )


def over_traces(values: torch.Tensor, traces: torch.Tensor) -> torch.Tensor:
    """[n] the sum of values over each token's trace."""
    count = int(traces.max()) + 1 if len(traces) else 0
    sums = torch.zeros(count, dtype=values.dtype, device=values.device)
    return sums.index_add(0, traces, values)[traces]


def effective_share(ratios: torch.Tensor) -> float:
    """Kish's effective sample size over the sample size: (sum w)^2 / (n sum w^2), in [0, 1].

    It falls as the current policy leaves the one that sampled: near 1, the data are as good as
    fresh; near 0, a few tokens decide the gradient. Masked tokens are there, with weight 0.
    """
    if not ratios.numel():
        return 1.0
    weights = ratios.double()
    squares = float(weights.square().sum())
    return float(weights.sum() ** 2) / (squares * weights.numel()) if squares else 0.0
