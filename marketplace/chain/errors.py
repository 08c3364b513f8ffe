"""Reverts as sentences: custom errors decoded by ABI, with values in human units.

Too few tokens is InsufficientFunds, as too little gas money. What this package adds to the
tree of marketplace.protocol.errors:

    ChainError
    ├── Reverted
    │   └── ContractError          carries the custom error's name and arguments
    ├── NodeRefused                the node answered with an error
    └── NodeUnreachable            the node did not answer, or not in JSON-RPC
        └── NodeTimeout            it did not answer in time
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from functools import cache
from typing import Any, Final

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.abi import collapse_if_tuple, function_signature_to_4byte_selector
from eth_utils.address import to_checksum_address

from marketplace.chain.amounts import format_amount
from marketplace.chain.artifacts import CONTRACTS, artifact
from marketplace.chain.records import (
    BatchPhase,
    DisputePhase,
    OpeningStatus,
    RandomnessStatus,
    RoundPhase,
    SeatState,
    SheetPhase,
    Token,
)
from marketplace.chain.sentences import SENTENCES
from marketplace.protocol.errors import ChainError, InsufficientFunds, Reverted
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier

_ERROR_STRING: Final = bytes.fromhex("08c379a0")
_PANIC: Final = bytes.fromhex("4e487b71")
_PANICS: Final = {
    0x01: "a failed assertion",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "a value outside its enum",
    0x32: "an index out of range",
}
_TOO_FEW_TOKENS: Final = frozenset({"ERC20InsufficientBalance", "ERC20InsufficientAllowance"})
_ENUMS: Final[dict[str, type[IntEnum]]] = {
    kind.__name__: kind
    for kind in (
        BatchPhase,
        DisputePhase,
        OpeningStatus,
        PayRule,
        RandomnessStatus,
        RoundPhase,
        SeatState,
        SheetPhase,
        Tier,
    )
}


class NodeRefused(ChainError):
    """The node answered with an error (JSON-RPC or HTTP status)."""


class NodeUnreachable(ChainError):
    """The node did not answer, or not in JSON-RPC."""


class NodeTimeout(NodeUnreachable):
    """The node did not answer in time."""


class ContractError(Reverted):
    """A contract refused a call with a custom error.

    name: of the error, such as "BountyEscrow_InsufficientFunds". values: its arguments by name.
    """

    def __init__(
        self,
        message: str,
        *,
        fix: str | None = None,
        name: str = "",
        values: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, fix=fix)
        self.name = name
        self.values = dict(values or {})


def decode_revert(data: bytes, token: Token | None) -> ChainError:
    """The exception for the bytes a call reverted with.

    token: for amounts in human units; None shows base units. Never raises: what nobody knows
    becomes a Reverted that shows the bytes.
    """
    selector, body = data[:4], data[4:]
    try:
        if selector == _ERROR_STRING:
            return Reverted(f"the contract refused: {abi_decode(['string'], body)[0]}")
        if selector == _PANIC:
            code = abi_decode(["uint256"], body)[0]
            return Reverted(f"the contract failed: {_PANICS.get(code, f'panic {code:#x}')}")
        if found := _known_errors().get(selector):
            name, names, types = found
            values = dict(zip(names, map(_plain, types, abi_decode(types, body)), strict=True))
            return _explained(name, values, token)
    except DecodingError:
        pass
    if not data:
        return Reverted("the contract refused without saying why")
    return Reverted(
        f"the contract refused with an unknown error 0x{data[:100].hex()}",
        fix="check that the deployment file belongs to this version of the software",
    )


def _explained(name: str, values: Mapping[str, Any], token: Token | None) -> ChainError:
    if name in SENTENCES:
        message, fix = SENTENCES[name]
        text = _Sentence(token).vformat(message, (), values)
    else:
        arguments = ", ".join(f"{key}={_shown(value)}" for key, value in values.items())
        text, fix = f"the contract refused: {name}({arguments})", None
    if name in _TOO_FEW_TOKENS:
        return InsufficientFunds(text, fix=fix)
    return ContractError(text, fix=fix, name=name, values=values)


class _Sentence(string.Formatter):
    """Fields of sentences.py: {x:money}, {x:time}, {x:hex}, {x:<enum>} or plain."""

    def __init__(self, token: Token | None) -> None:
        self._token = token

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "money":
            return (
                self._token.format(value) if self._token else format_amount(value, 0, "base units")
            )
        if format_spec == "time":
            return show_time(value)
        if format_spec == "hex":
            return _shown(value)
        if format_spec in _ENUMS:
            return show_enum(_ENUMS[format_spec], value)
        return str(super().format_field(value, format_spec))


def show_time(seconds: int) -> str:
    """ "2026-01-31 12:00:00 UTC"; the number itself where no calendar reaches."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"second {seconds}"


def show_enum(kind: type[IntEnum], value: int) -> str:
    """ "awaiting randomness" of RoundPhase 1; letters, as those of tiers, stay capitals."""
    try:
        name = kind(value).name
    except ValueError:
        return f"{kind.__name__} {value}"
    return name if len(name) == 1 else name.lower().replace("_", " ")


def _shown(value: Any) -> str:
    return f"0x{value.hex()}" if isinstance(value, bytes) else str(value)


def _plain(kind: str, value: Any) -> Any:
    return to_checksum_address(value) if kind == "address" else value


@cache
def _known_errors() -> dict[bytes, tuple[str, list[str], list[str]]]:
    """Selector -> name, argument names, argument types; of all contracts, because a revert
    passes through callers that do not declare it."""
    known = {}
    for contract in CONTRACTS:
        for entry in artifact(contract).abi:
            if entry["type"] != "error":
                continue
            names = [part["name"] for part in entry["inputs"]]
            types = [collapse_if_tuple(part) for part in entry["inputs"]]
            selector = function_signature_to_4byte_selector(f"{entry['name']}({','.join(types)})")
            known[selector] = (entry["name"], names, types)
    return known
