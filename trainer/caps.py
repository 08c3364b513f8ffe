"""Caps on influence: no miner, and not tier B beside tier A, decides an optimizer step alone.

Mass is what moves weights: the sum of |advantage| over tokens. Whoever is over a cap is scaled
down, not left out, so that nothing which was paid for is lost. An account costs little, so a
miner with several is held only by what each account's bond and assignment cost; the cap bounds what
one seller can do by selling much, and what one lucky batch does to a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from marketplace.protocol.trace import Tier


def owner_factors(masses: Mapping[str, float], cap: float) -> dict[str, float]:
    """What each owner's mass is multiplied by, in (0, 1], so that none has over `cap` of what is
    left. Where there are too few owners for that, of as many equal shares as there are owners."""
    present = {owner: mass for owner, mass in masses.items() if mass > 0}
    share = max(cap, 1 / len(present)) if present else 1.0
    over: set[str] = set()
    limit = float("inf")
    while True:
        # k owners at the limit x, the others as they are: x = share * (others + k * x).
        others = sum(mass for owner, mass in present.items() if owner not in over)
        if over and share * len(over) < 1:
            limit = share * others / (1 - share * len(over))
        elif over:
            limit = min(present.values())
        found = {
            owner
            for owner, mass in present.items()
            if mass > (limit if over else share * others) * (1 + 1e-9)
        }
        if found <= over:
            break
        over |= found
    return {owner: min(1.0, limit / present[owner]) if owner in over else 1.0 for owner in masses}


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
