"""The loss's parts: where it stops, what it weighs and masks, what it is divided by."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.config import TrainSettings
from trainer.loss import (
    FAR_NEGATIVE,
    OPEN_GATE,
    OUTSIDE_BAND,
    Gate,
    Rules,
    Tokens,
    effective_share,
    refinery_loss,
)
from trainer.objectives import rules_of

OPEN = Rules(gate=OPEN_GATE, strict=OPEN_GATE)


def _run(
    current,
    proximal,
    advantages,
    *,
    behaviour=None,
    rules=OPEN,
    traces=None,
    strict=None,
    imitation=None,
):
    """The result, and the gradient of the sum with respect to current."""

    def of(values):
        return torch.tensor(values, dtype=torch.float64)

    leaf = of(current).requires_grad_()
    result = refinery_loss(
        Tokens(
            leaf,
            of(proximal),
            None if behaviour is None else of(behaviour),
            of(advantages),
            torch.tensor(traces or list(range(len(current)))),
            None if strict is None else torch.tensor(strict),
            None if imitation is None else of(imitation),
        ),
        rules,
    )
    result.terms.sum().backward()
    return result, leaf.grad.tolist()


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
    assert result.terms.sum().item() == pytest.approx(-weight * advantage)
    assert (gradient[0] != 0) is moves
    assert bool(result.clipped[0]) is (weight != ratio)
    if moves:
        assert gradient[0] == pytest.approx(-ratio * advantage)


@pytest.mark.parametrize(
    ("stale", "advantage", "weight"),
    [
        (1.5, 1.0, 1.5),  # likelier than when it was sampled: counts more, as it would be seen more
        (0.7, 1.0, 1.0),  # rarer: a good token never counts less
        (1.5, -1.0, 1.0),  # a bad one never more
        (0.7, -1.0, 0.7),
    ],
)
def test_stale_weight_by_sign(stale, advantage, weight):
    result, gradient = _run([-1.0], [-1.0], [advantage], behaviour=[-1.0 - math.log(stale)])
    assert gradient[0] == pytest.approx(-weight * advantage)
    assert result.ratio.item() == pytest.approx(stale)


def test_band_masks_on_both_sides_and_strict_tokens_have_a_narrower_one():
    rules = Rules(gate=Gate(0.5, 2.0, math.inf), strict=Gate(0.8, 1.25, math.inf))
    stale = [0.4, 0.6, 1.0, 1.5, 2.5]
    behaviour = [-1.0 - math.log(one) for one in stale]
    for strict, kept in (([False] * 5, [0, 1, 1, 1, 0]), ([True] * 5, [0, 0, 1, 0, 0])):
        result, gradient = _run(
            [-1.0] * 5, [-1.0] * 5, [1.0] * 5, behaviour=behaviour, rules=rules, strict=strict
        )
        assert [one != 0 for one in gradient] == [bool(one) for one in kept]
        assert result.masked == {OUTSIDE_BAND: 5 - sum(kept)}
        assert result.units == sum(kept)
        assert (result.ratio != 0).tolist() == [bool(one) for one in kept]


def test_negative_traces_that_drifted_are_masked_whole():
    rules = Rules(0.01, 1.28, 4.0, gate=Gate(0.0, math.inf, 0.2), strict=Gate(0.0, math.inf, 0.05))
    # Mean log(behaviour / current) by trace: 0.3, 0.1, 0.3 (positive).
    current = [-1.6, -1.0, -1.1, -1.1, -1.3, -1.3]
    traces, advantages = [0, 0, 1, 1, 2, 2], [-1.0, -1.0, -1.0, -1.0, 1.0, 1.0]
    result, gradient = _run(current, [-1.0] * 6, advantages, rules=rules, traces=traces)
    assert [one != 0 for one in gradient] == [False, False, True, True, True, True]
    assert (result.masked, result.units) == ({FAR_NEGATIVE: 2}, 4)
    result, gradient = _run(
        current, [-1.0] * 6, advantages, rules=rules, traces=traces, strict=[True] * 6
    )
    assert [one != 0 for one in gradient] == [False] * 4 + [True, True]
    # Drift is measured from the policy that sampled, not from the parent.
    result, _ = _run(
        [-1.3] * 2, [-1.3] * 2, [-1.0] * 2, behaviour=[-1.0] * 2, rules=rules, traces=[0, 0]
    )
    assert result.units == 0


def test_pull_leads_back_to_the_proximal_policy():
    rules = Rules(gate=OPEN_GATE, pull=0.5)
    _, gradient = _run([-1.3, -0.8], [-1.0, -1.0], [0.0, 0.0], rules=rules)
    assert gradient == pytest.approx([0.5 * -0.3, 0.5 * 0.2])


def test_imitation_is_cross_entropy_that_no_band_or_clip_binds():
    # Of the first token the ratio's term is clipped (ratio 1.6), the second is out of the band.
    current, proximal, behaviour = [-0.53, -5.0, -1.0], [-1.0, -5.0, -1.0], [-1.0, -1.0, -1.0]
    result, gradient = _run(
        current, proximal, [1.0, 1.0, 0.0], behaviour=behaviour, rules=Rules(), imitation=[0.5] * 3
    )
    assert gradient == pytest.approx([-0.5] * 3)
    assert (result.units, result.masked) == (3.0, {})
    assert result.ratio.tolist() == pytest.approx([math.exp(0.47), 0.0, 1.0])  # ESS as without
    # Without it the same token is masked and counted.
    result, gradient = _run(
        current, proximal, [1.0, 1.0, 0.0], behaviour=behaviour, rules=Rules(), imitation=[0.0] * 3
    )
    assert gradient == pytest.approx([0.0] * 3)
    assert (result.units, result.masked) == (2.0, {OUTSIDE_BAND: 1})


def test_unknown_behaviour_gives_weighted_cross_entropy():
    for behaviour in (None, [math.nan, math.nan]):
        result, gradient = _run([-3.0, -0.5], [math.nan] * 2, [0.5, 0.5], behaviour=behaviour)
        assert gradient == pytest.approx([-0.5, -0.5])
        assert result.ratio.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("behaviour", [-2000.0, -0.0])
@pytest.mark.parametrize("current", [-2000.0, -0.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("rules", [OPEN, Rules(pull=1.0), Rules.off(whole_trace=True)])
def test_nothing_overflows(current, behaviour, advantage, rules):
    for proximal in (behaviour, -1.0):
        result, gradient = _run(
            [current], [proximal], [advantage], behaviour=[behaviour], rules=rules
        )
        assert math.isfinite(result.terms.sum().item())
        assert math.isfinite(gradient[0])


def test_effective_share():
    assert effective_share(torch.ones(7)) == pytest.approx(1.0)
    assert effective_share(torch.tensor([1.0, 0.0, 0.0, 0.0])) == pytest.approx(0.25)
    assert effective_share(torch.zeros(0)) == 1.0
    assert effective_share(torch.zeros(3)) == 0.0


def test_settings_reach_the_gates():
    changed = {
        "ratio_low": 0.7,
        "ratio_high": 1.4,
        "negative_ratio_cap": 3.0,
        "good_floor": 0.5,
        "bad_ceiling": 1.5,
        "band_low": 0.1,
        "band_high": 9.0,
        "negative_drift": 0.9,
        "strict_band_low": 0.2,
        "strict_band_high": 8.0,
        "strict_negative_drift": 0.8,
        "pull": 0.25,
    }
    assert rules_of(TrainSettings(**changed)) == Rules(
        0.7, 1.4, 3.0, 0.5, 1.5, Gate(0.1, 9.0, 0.9), Gate(0.2, 8.0, 0.8), 0.25
    )
