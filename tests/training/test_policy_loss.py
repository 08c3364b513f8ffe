"""The loss's identities: what its gradient is, where it stops, what it is divided by."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.advantages import leave_one_out
from trainer.loss import ClipBand, effective_share, policy_loss

BAND = ClipBand(0.8, 1.28, 4.0)


def _run(current, behaviour, advantages, denominator=None, band=BAND):
    """The result, and the gradient with respect to current."""
    leaf = torch.tensor(current, dtype=torch.float64, requires_grad=True)
    result = policy_loss(
        leaf,
        torch.tensor(behaviour, dtype=torch.float64),
        torch.tensor(advantages, dtype=torch.float64),
        denominator=denominator or len(current),
        band=band,
    )
    result.loss.backward()
    return result, leaf.grad.tolist()


def test_gradient_is_that_of_rloo_when_all_policies_are_equal():
    advantages = leave_one_out([1.0, 0.0, 0.0, 1.0])
    logprobs = [-0.5, -2.0, -0.1, -7.0]
    result, gradient = _run(logprobs, logprobs, advantages)
    # REINFORCE with leave-one-out baseline: d/dlogp of -mean(advantage * logp).
    assert gradient == pytest.approx([-one / 4 for one in advantages])
    assert result.ratio.tolist() == [1.0] * 4
    assert not result.clipped.any()


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight", "moves"),
    [
        (1.2, 1.0, 1.2, True),
        (1.5, 1.0, 1.28, False),  # a good token has grown enough
        (0.1, 1.0, 0.1, True),  # one that has shrunk may grow back
        (0.9, -1.0, 0.9, True),
        (0.5, -1.0, 0.8, False),  # a bad token is rare enough
        (3.0, -1.0, 3.0, True),  # one that has grown must shrink ...
        (9.0, -1.0, 4.0, False),  # ... but can't decide the whole step
    ],
)
def test_clip_by_sign(ratio, advantage, weight, moves):
    result, gradient = _run([-1.0 + math.log(ratio)], [-1.0], [advantage])
    assert result.loss.item() == pytest.approx(-weight * advantage)
    assert (gradient[0] != 0) is moves
    assert bool(result.clipped[0]) is (weight != ratio)
    if moves:
        assert gradient[0] == pytest.approx(-ratio * advantage)


def test_denominator_is_the_callers_over_all_micro_batches():
    tokens = [-0.5, -1.0, -2.0, -3.0]
    weights = [1.0, -1.0, 0.5, -0.5]
    _, whole = _run(tokens, [-0.6, -0.9, -2.0, -3.1], weights, denominator=4)
    _, first = _run(tokens[:1], [-0.6], weights[:1], denominator=4)
    _, rest = _run(tokens[1:], [-0.9, -2.0, -3.1], weights[1:], denominator=4)
    assert first + rest == pytest.approx(whole)


def test_unknown_behaviour_gives_weighted_cross_entropy():
    result, gradient = _run([-3.0, -0.5], [math.nan, math.nan], [0.5, 0.5])
    assert gradient == pytest.approx([-0.25, -0.25])
    assert result.ratio.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("behaviour", [-2000.0, -0.0])
@pytest.mark.parametrize("current", [-2000.0, -0.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_nothing_overflows(current, behaviour, advantage):
    result, gradient = _run([current], [behaviour], [advantage])
    assert math.isfinite(result.loss.item())
    assert math.isfinite(gradient[0])
    assert abs(result.loss.item()) <= BAND.cap


def test_effective_share():
    assert effective_share(torch.ones(7)) == pytest.approx(1.0)
    assert effective_share(torch.tensor([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.25)
    assert effective_share(torch.zeros(0)) == 1.0
