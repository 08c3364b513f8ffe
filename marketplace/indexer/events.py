"""A log as the index stores it.

Rules see only this form, whether an event comes from the chain or from the file, so a replay
can't differ from the first run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marketplace.chain.blocks import Event


@dataclass(frozen=True, slots=True)
class LogEvent:
    """contract: short name as in a deployment. args: by Solidity name; integers of any size,
    addresses checksummed, bytes as 0x hex, structs as dicts. at: the block's timestamp, seconds.
    tx_hash: 0x hex.
    """

    block: int
    log_index: int
    at: int
    contract: str
    name: str
    args: Mapping[str, Any]
    tx_hash: str


def plain(value: Any) -> Any:
    """A decoded ABI value in terms of JSON: bytes become 0x hex, tuples lists."""
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def log_event(event: Event, at: int) -> LogEvent:
    """An event of the chain, stamped with its block's time."""
    return LogEvent(
        block=event.block,
        log_index=event.log_index,
        at=at,
        contract=event.contract,
        name=event.name,
        args=plain(event.args),
        tx_hash=plain(event.tx_hash),
    )


def encode_args(args: Mapping[str, Any]) -> str:
    return json.dumps(args, separators=(",", ":"), sort_keys=True)


def decode_args(text: str) -> Mapping[str, Any]:
    args: Mapping[str, Any] = json.loads(text)
    return args
