"""Nobody over the cap, nobody scaled without need, nothing lost, nothing bought cheaply."""

from __future__ import annotations

import random

import pytest

from marketplace.protocol.trace import Tier
from trainer.caps import capped, owner_factors, scorable_factor


def test_nobody_is_over_the_cap_and_nobody_else_grows_without_bound():
    draw = random.Random(0)
    for _ in range(300):
        masses = {str(n): draw.expovariate(1) ** 3 for n in range(draw.randint(1, 9))}
        cap = draw.choice([0.1, 0.2, 0.5, 0.9])
        factors = owner_factors(masses, cap)
        left = {owner: masses[owner] * factor for owner, factor in factors.items()}
        before, after = sum(masses.values()), sum(left.values())
        share = max(cap, 1 / len(masses))
        assert max(left.values()) <= share * before * (1 + 1e-9)
        assert all(0 < factor <= 1 for factor in factors.values())
        scaled = [left[owner] for owner, factor in factors.items() if factor < 1 - 1e-9]
        assert scaled == pytest.approx([share * before] * len(scaled))
        for owner in masses:
            assert left[owner] / after <= masses[owner] / before / share * (1 + 1e-9)


def test_half_of_a_step_is_not_for_sale_for_one_group():
    factors = owner_factors({"honest": 95.0, "liar": 5.0}, 0.5)
    assert factors == {"honest": pytest.approx(50 / 95), "liar": 1.0}  # 5 of 55, not of 10


def test_one_miner_or_a_cap_of_one_changes_nothing():
    assert owner_factors({"a": 5.0}, 0.1) == {"a": 1.0}
    assert owner_factors({"a": 5.0, "b": 1.0}, 1.0) == {"a": 1.0, "b": 1.0}
    assert owner_factors({"a": 0.0, "b": 0.0}, 0.5) == {"a": 1.0, "b": 1.0}
    assert owner_factors({}, 0.5) == {}


def test_two_miners_at_half():
    assert owner_factors({"a": 6.0, "b": 2.0}, 0.5) == {"a": pytest.approx(2 / 3), "b": 1.0}


def test_tier_b_beside_tier_a():
    assert scorable_factor({Tier.A: 1.0, Tier.B: 9.0}, 0.5) == pytest.approx(1 / 9)
    assert scorable_factor({Tier.A: 9.0, Tier.B: 1.0}, 0.5) == 1.0
    assert scorable_factor({Tier.B: 9.0, Tier.C: 1.0}, 0.5) == 1.0


def test_both_caps():
    factors = capped(
        [1.0, 1.0, 4.0], ["a", "b", "a"], [Tier.A, Tier.A, Tier.B],
        miner_share=0.5, scorable_share=0.5,
    )  # fmt: skip
    # Tier B halves; miner a then has 3 of 4, and keeps 2.
    assert factors == pytest.approx([2 / 3, 1.0, 1 / 3])
