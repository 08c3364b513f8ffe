"""Logs as typed events, and reading them in pages that any node accepts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError, EncodingError
from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.types import RPCEndpoint

from marketplace.chain.artifacts import TOKEN_CONTRACT, artifact
from marketplace.chain.blocks import Event
from marketplace.chain.deployment import Deployment
from marketplace.chain.errors import NodeRefused, NodeTimeout
from marketplace.chain.rpc import node_errors
from marketplace.protocol.errors import InvalidValue

DEFAULT_PAGE: Final = 5_000
"""Blocks of one request, to begin with."""


@dataclass(frozen=True, slots=True)
class _Kind:
    contract: str
    name: str
    topic: bytes
    indexed: tuple[Mapping[str, Any], ...]
    data: tuple[Mapping[str, Any], ...]


class EventDecoder:
    """Decodes the logs of one deployment's contracts (and its token, in receipts)."""

    def __init__(self, deployment: Deployment) -> None:
        self._kinds: dict[tuple[str, bytes], _Kind] = {}
        self._by_name: dict[str, list[_Kind]] = {}
        for short, contract in deployment.contracts.items():
            self._learn(short, deployment.address(short), contract)
        self._learn("token", deployment.token.address, TOKEN_CONTRACT)

    def decode(self, log: Mapping[str, Any]) -> Event | None:
        """The event of a log as web3 returns it; None where it is none of ours."""
        topics = [bytes(topic) for topic in log["topics"]]
        if not topics:
            return None
        kind = self._kinds.get((to_checksum_address(log["address"]), topics[0]))
        if kind is None or len(topics) != 1 + len(kind.indexed):
            return None
        try:
            args = {
                part["name"]: _named(part, abi_decode([collapse_if_tuple(dict(part))], topic)[0])
                for part, topic in zip(kind.indexed, topics[1:], strict=True)
            }
            types = [collapse_if_tuple(dict(part)) for part in kind.data]
            for part, value in zip(kind.data, abi_decode(types, bytes(log["data"])), strict=True):
                args[part["name"]] = _named(part, value)
        except DecodingError:  # a foreign token may use our topic with other fields
            return None
        return Event(
            name=kind.name,
            contract=kind.contract,
            args=args,
            block=int(log["blockNumber"]),
            block_hash=bytes(log["blockHash"]),
            tx_hash=bytes(log["transactionHash"]),
            log_index=int(log["logIndex"]),
        )

    def topics(
        self, names: Iterable[str] | None, where: Mapping[str, Any] | None
    ) -> list[list[str] | str | None] | None:
        """The topics filter for eth_getLogs. InvalidValue for unknown names or arguments."""
        if names is None:
            if where:
                raise InvalidValue("events are filtered by argument, but not by name")
            return None
        kinds = [kind for name in names for kind in self._market_kinds(name)]
        filters: list[list[str] | str | None] = [[_hex(kind.topic) for kind in kinds]]
        if not where:
            return filters
        if len(kinds) != 1:
            raise InvalidValue(f"{len(kinds)} events are filtered by argument, which takes one")
        indexed = {part["name"]: part for part in kinds[0].indexed}
        for name in where:
            if name not in indexed:
                raise InvalidValue(
                    f"{kinds[0].name} has no indexed argument {name!r}",
                    fix=f"use one of: {', '.join(indexed)}",
                )
        for name, part in indexed.items():
            filters.append(_topic(part, where[name]) if name in where else None)
        return filters

    def _market_kinds(self, name: str) -> list[_Kind]:
        found = [kind for kind in self._by_name.get(name, []) if kind.contract != "token"]
        if not found:
            raise InvalidValue(f"no contract of the market has an event {name!r}")
        return found

    def _learn(self, short: str, address: str, contract: str) -> None:
        entry: Any
        for entry in artifact(contract).abi:
            if entry["type"] != "event":
                continue
            kind = _Kind(
                contract=short,
                name=entry["name"],
                topic=bytes(event_abi_to_log_topic(entry)),
                indexed=tuple(part for part in entry["inputs"] if part["indexed"]),
                data=tuple(part for part in entry["inputs"] if not part["indexed"]),
            )
            self._kinds[address, kind.topic] = kind
            self._by_name.setdefault(kind.name, []).append(kind)


def read_events(
    w3: Web3,
    deployment: Deployment,
    decoder: EventDecoder,
    from_block: int,
    to_block: int,
    *,
    names: Iterable[str] | None = None,
    where: Mapping[str, Any] | None = None,
    page: int = DEFAULT_PAGE,
) -> Iterator[Event]:
    """The market's events in [from_block, to_block], in chain order, page by page.

    A node that refuses a range or takes too long gets a smaller one; after a success the pages
    grow again. NodeRefused where it refuses a single block.
    """
    topics = decoder.topics(names, where)
    addresses = list(deployment.addresses.values())
    start, size = from_block, page
    while start <= to_block:
        end = min(start + size - 1, to_block)
        query: dict[str, Any] = {
            "fromBlock": hex(start),
            "toBlock": hex(end),
            "address": addresses,
        }
        if topics is not None:
            query["topics"] = topics
        try:
            with node_errors(w3):
                # Not get_logs, which checks every address again each time.
                logs = w3.manager.request_blocking(RPCEndpoint("eth_getLogs"), [query])
        except (NodeRefused, NodeTimeout):
            if start == end:
                raise
            size = max(1, (end - start + 1) // 2)
            continue
        decoded = (decoder.decode(_log(raw)) for raw in logs)
        yield from sorted(
            (event for event in decoded if event is not None),
            key=lambda event: (event.block, event.log_index),
        )
        start, size = end + 1, min(page, size * 2)


def _log(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A log as the node sends it in the types that web3 gives it."""
    return {
        "address": raw["address"],
        "topics": [_bytes(topic) for topic in raw["topics"]],
        "data": _bytes(raw["data"]),
        "blockNumber": int(raw["blockNumber"], 16),
        "blockHash": _bytes(raw["blockHash"]),
        "transactionHash": _bytes(raw["transactionHash"]),
        "logIndex": int(raw["logIndex"], 16),
    }


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _topic(part: Mapping[str, Any], value: Any) -> str:
    try:
        return _hex(abi_encode([part["type"]], [value]))
    except (EncodingError, TypeError, ValueError):
        raise InvalidValue(f"{part['name']} is {value!r}, which is no {part['type']}") from None


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _named(part: Mapping[str, Any], value: Any) -> Any:
    """A decoded ABI value with dicts for tuples, lists for arrays, checksummed addresses."""
    kind: str = part["type"]
    if kind.endswith("]"):
        element = {**part, "type": kind[: kind.rindex("[")]}
        return [_named(element, entry) for entry in value]
    if kind == "tuple":
        return {
            field["name"]: _named(field, entry)
            for field, entry in zip(part["components"], value, strict=True)
        }
    return to_checksum_address(value) if kind == "address" else value
