"""Chances of the lot: how often a committee, and then its juries, fall to an attacker.

Every seat stands for one verifier, which suits an attacker best: a verifier is drawn at most once
for a round, so stake spread over many addresses sits more often. Drawing then is without
replacement (hypergeometric).
"""

from __future__ import annotations

from math import comb

from marketplace.protocol.errors import InvalidValue


def quorum(size: int) -> int:
    """Seats that decide: more than half."""
    return size // 2 + 1


def chance(held: int, seats: int, size: int, hits: int) -> float:
    """That a lot of `size` out of `seats` draws exactly `hits` of the `held` ones."""
    if not 0 <= held <= seats or not 0 <= size <= seats:
        raise InvalidValue(f"{held} held and {size} drawn of {seats} seats")
    if hits < 0 or hits > size:
        return 0.0
    return comb(held, hits) * comb(seats - held, size - hits) / comb(seats, size)


def chance_of_least(held: int, seats: int, size: int, least: int) -> float:
    """That a lot draws at least `least` of the `held` ones."""
    return sum(chance(held, seats, size, hits) for hits in range(least, size + 1))


def jury_sizes(committee: int, most: int, free: int) -> list[int]:
    """Jurors of each jury that can be drawn, in order: 2k+1, then 2x+1 of the jury before, as far
    as `free` seats that have not sat reach. A jury is drawn from half of its size on."""
    sizes = []
    wanted = 2 * committee + 1
    for _ in range(most):
        drawn = min(wanted, free)
        if drawn < quorum(wanted):
            break
        sizes.append(drawn)
        free -= drawn
        wanted = 2 * wanted + 1
    return sizes


def lie_survives(held: int, seats: int, committee: int, most: int, busy: int = 0) -> float:
    """That a lying majority of a committee keeps its attestation, disputed and appealed by both
    sides to the end: the honest have no quorum in the last jury that can be drawn.

    held: the attacker's seats of all `seats`; just a quorum of them sits in the committee, which
    leaves it most for the juries. busy: seats locked elsewhere, the attacker's and others' alike.
    1.0 where not even one jury can be drawn.
    """
    liars = quorum(committee)
    if held < liars:
        return 0.0
    left = seats - committee - busy
    sizes = jury_sizes(committee, most, left)
    if not sizes:
        return 1.0
    # Juries before the last one don't matter: a lot from what other lots left is the same lot.
    others = seats - committee
    last = sizes[-1]
    return chance_of_least(min(held - liars, others), others, last, last - quorum(last) + 1)
