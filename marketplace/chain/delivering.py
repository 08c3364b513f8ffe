"""Bring beacons on chain: which rounds are waited for, and the transaction that delivers one.

Stateless: what is waited for is read from the chain on every pass, so it can be killed anywhere
and started again, and several may run at once. A round that is on chain costs nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from marketplace.chain.client import MarketClient
from marketplace.chain.errors import ContractError, show_time
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import RandomnessStatus, RoundPhase
from marketplace.chain.relays import Relays
from marketplace.protocol.beacons import BeaconNetwork
from marketplace.protocol.errors import (
    BeaconError,
    BeaconUnavailable,
    ConfigError,
    TracemarketError,
)

log = logging.getLogger("tracemarket.beacons")

_OPEN: Final = (RoundPhase.AWAITING_RANDOMNESS, RoundPhase.DRAWABLE)
_EVENTS: Final = (
    "RoundOpened",
    "DrawRescheduled",
    "RoundDrawn",
    "AssignmentRequested",
    "AssignmentOpened",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A beacon round that something waits for.

    time: when it comes, deadline: the last second in which it is taken. draws: rounds (committees
    and juries) whose draw it decides. assignments: (bounty, miner) whose tasks it decides.
    """

    point: int
    status: RandomnessStatus
    time: int
    deadline: int
    draws: tuple[int, ...]
    assignments: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass did. delivered: rounds that it brought on chain. failed: round -> why not."""

    delivered: tuple[int, ...]
    failed: dict[int, TracemarketError]


def wanted(reader: MarketReader, first: int | None = None) -> tuple[Wanted, ...]:
    """Every beacon round that an open draw or assignment waits for, ascending.

    first: where reading events starts; None for first_block(reader).
    """
    network, patience = source(reader)
    start = first_block(reader) if first is None else first
    draws: dict[int, int] = {}
    assignments: dict[tuple[int, str], int] = {}
    for event in reader.events(start, reader.head().number, names=_EVENTS):
        args = event.args
        if event.name in ("RoundOpened", "DrawRescheduled"):
            draws[args["round"]] = args["drawPoint"]
        elif event.name == "RoundDrawn":
            draws.pop(args["round"], None)
        elif event.name == "AssignmentRequested":
            assignments[args["bounty"], args["miner"]] = args["point"]
        else:
            assignments.pop((args["bounty"], args["miner"]), None)
    # Void batches leave rounds behind that nobody draws any more.
    open_draws = {
        round: point for round, point in draws.items() if reader.round(round).phase in _OPEN
    }
    return tuple(
        Wanted(
            point=point,
            status=reader.randomness(point),
            time=network.time_of(point),
            deadline=network.time_of(point) + patience,
            draws=tuple(round for round, at in open_draws.items() if at == point),
            assignments=tuple(who for who, at in assignments.items() if at == point),
        )
        for point in sorted({*open_draws.values(), *assignments.values()})
    )


def first_block(reader: MarketReader) -> int:
    """The first block in which something may have asked for a round that can still matter.

    A draw that is older than the draw timeout is stalled, and an assignment's round that is older
    than the patience can't be delivered any more.
    """
    network, patience = source(reader)
    now = reader.head().timestamp
    if now <= network.genesis + patience:
        # Everything that was asked for before the network's time waits for round 1.
        return reader.deployment.block
    reach = reader.deployment.randomness_delay + network.period + patience
    return reader.first_block_after(now - max(reach, reader.parameters.draw_timeout) - 1)


def source(reader: MarketReader) -> tuple[BeaconNetwork, int]:
    """The beacon that a market draws from, and its patience. ConfigError for a market that draws
    from block hashes."""
    network, patience = reader.deployment.beacon, reader.deployment.randomness_patience
    if network is None or patience is None:
        raise ConfigError(
            "this market draws from block hashes: there is no beacon to deliver",
            fix="use the deployment file of a market with drand",
        )
    return network, patience


class BeaconKeeper:
    """Delivers beacon rounds with one key. Anybody may; it costs gas and earns nothing."""

    def __init__(self, client: MarketClient, relays: Relays) -> None:
        self._client = client
        self._relays = relays
        self._network, self._patience = source(client)
        self._first = self._span = 0

    def deliver(self, point: int) -> bool:
        """Bring a round on chain; False where it is there already.

        Raises BeaconUnavailable (before its time, or no relay has it), BeaconInvalid (no relay
        gave the right one), BeaconError where it is too late, ChainError.
        """
        time = self._network.time_of(point)
        status = self._client.randomness(point)
        if status is RandomnessStatus.READY:
            return False
        if status is RandomnessStatus.PENDING:
            raise BeaconUnavailable(
                f"beacon round {point} is not out yet: it comes at {show_time(time)}, the chain is "
                f"at {show_time(self._client.head().timestamp)}",
                fix="deliver it then",
            )
        if status is RandomnessStatus.MISSED:
            raise BeaconError(
                f"beacon round {point} could be delivered until {show_time(time + self._patience)}",
                fix="draw, or open the assignment: it is scheduled again",
            )
        signature = self._relays.fetch(point)
        try:
            self._client.deliver_beacon(point, signature)
        except ContractError as error:
            if error.name == "DrandRandomness_AlreadyDelivered":
                return False  # somebody else was quicker
            raise
        log.info("beacon_delivered round=%d", point)
        return True

    def run_once(self, *, assignments: bool = True) -> Pass:
        """Deliver all that is waited for now. assignments: also what only miners' assignments
        wait for, which anybody can request at the price of a transaction.

        One that fails is logged and met again on the next pass; it holds up no other.
        """
        delivered: list[int] = []
        failed: dict[int, TracemarketError] = {}
        for one in wanted(self._client, self._start()):
            if one.status is not RandomnessStatus.AWAITED or not (one.draws or assignments):
                continue
            try:
                if self.deliver(one.point):
                    delivered.append(one.point)
            except TracemarketError as error:
                log.warning("beacon_failed round=%d why=%s", one.point, error)
                failed[one.point] = error
        return Pass(tuple(delivered), failed)

    def _start(self) -> int:
        """Where reading starts. Found by bisection, which takes many requests: so only once the
        blocks to read have doubled."""
        head = self._client.head().number
        if head - self._first > 2 * self._span:
            self._first = first_block(self._client)
            self._span = max(1, head - self._first)
        return self._first
