"""Caps on influence: no miner, and not tier B beside tier A, moves a step by selling much.

Mass is what moves weights: the sum of |advantage| over tokens. Whoever is over a cap is scaled
down, not left out, so that nothing which was paid for is lost. An account costs little, so a
miner with several is held only by what each account's bond and assignment cost; the cap bounds what
one seller can do by selling much, and what one lucky batch does to a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from marketplace.protocol.trace import Tier


def owner_factors(masses: Mapping[str, float], cap: float) -> dict[str, float]:
    """What each owner's mass is multiplied by, in (0, 1], so that none has over `cap` of all that
    was there before. Where there are too few owners for that, over an equal share.

    Not of what is left: beside a seller of one group everybody else would have to shrink to its
    size, and the half of a step could be bought with one group. So the others' parts of what is
    left grow by 1 / cap at most (docs/decisions/024).
    """
    present = [mass for mass in masses.values() if mass > 0]
    limit = max(cap, 1 / len(present)) * math.fsum(present) if present else 0.0
    return {owner: min(1.0, limit / mass) if mass > 0 else 1.0 for owner, mass in masses.items()}


def scorable_factor(masses: Mapping[Tier, float], share: float) -> float:
    """What tier B's mass is multiplied by, so that beside tier A it is at most `share` of both. 1
    where there is no tier A: then there is nothing better to learn from."""
    proven, scorable = masses.get(Tier.A, 0.0), masses.get(Tier.B, 0.0)
    if share >= 1 or not proven or not scorable:
        return 1.0
    return min(1.0, share / (1 - share) * proven / scorable)


def capped(
    masses: Sequence[float],
    owners: Sequence[str],
    tiers: Sequence[Tier],
    *,
    miner_share: float,
    scorable_share: float,
) -> list[float]:
    """The factor of each group of a step, from its mass, its miner and its tier."""
    by_tier: dict[Tier, float] = {}
    for mass, tier in zip(masses, tiers, strict=True):
        by_tier[tier] = by_tier.get(tier, 0.0) + mass
    scorable = scorable_factor(by_tier, scorable_share)
    factors = [scorable if tier is Tier.B else 1.0 for tier in tiers]
    by_owner: dict[str, float] = {}
    for mass, factor, owner in zip(masses, factors, owners, strict=True):
        by_owner[owner] = by_owner.get(owner, 0.0) + mass * factor
    of_owner = owner_factors(by_owner, miner_share)
    return [factor * of_owner[owner] for factor, owner in zip(factors, owners, strict=True)]
