"""Blocks, the events in them, and transactions that were sent: what a node tells, decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marketplace.protocol.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Block:
    number: int
    hash: bytes
    parent: bytes
    timestamp: int


@dataclass(frozen=True, slots=True)
class Event:
    """One decoded log. contract: short name as in Deployment.addresses, or "token". args: by
    name; tuples of the ABI as dicts, bytes as bytes, addresses checksummed."""

    name: str
    contract: str
    args: Mapping[str, Any]
    block: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A mined transaction that succeeded. events: those of the market and its token, in order."""

    tx_hash: bytes
    block: int
    gas_used: int
    events: tuple[Event, ...]

    def event(self, name: str) -> Event:
        """The only event of that name; InvalidValue where there is none or several."""
        found = [event for event in self.events if event.name == name]
        if len(found) != 1:
            raise InvalidValue(f"transaction 0x{self.tx_hash.hex()} has {len(found)} {name} events")
        return found[0]

    def drew(self, round: int) -> bool:
        """Whether it drew the committee of a round; if not, the draw may have been scheduled
        again (DrawRescheduled)."""
        return any(
            event.name == "RoundDrawn" and event.args["round"] == round for event in self.events
        )
