"""Bring the beacon that a draw waits for, in a market that draws from one."""

from __future__ import annotations

from marketplace.chain.client import MarketClient
from marketplace.chain.delivering import BeaconKeeper
from marketplace.chain.records import RandomnessStatus, Round, RoundPhase


def bring(client: MarketClient, beacons: BeaconKeeper, round_: Round) -> bool:
    """Deliver what the draw of a round waits for, where it is out; whether that was done.

    Raises BeaconError, ChainError.
    """
    if round_.phase is not RoundPhase.AWAITING_RANDOMNESS:
        return False
    if client.randomness(round_.draw_point) is not RandomnessStatus.AWAITED:
        return False
    return beacons.deliver(round_.draw_point)
