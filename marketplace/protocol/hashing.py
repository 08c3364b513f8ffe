"""keccak256, ABI-encoded typed hashes and strict checks of their inputs.

Every check raises InvalidValue naming the field and the value: nothing is truncated,
wrapped or padded. bool is not an integer here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak as _keccak

from marketplace.protocol.errors import InvalidValue

ZERO32 = bytes(32)
"""bytes32(0): the dataset root of an empty dataset."""

# One-byte domain tags in front of every hash that can be a tree member.
TAG_TRACE_LEAF = b"\x00"
TAG_NODE = b"\x01"
TAG_VERDICT_LEAF = b"\x02"
TAG_SUM_NODE = b"\x03"
TAG_DATASET_LEAF = b"\x04"
TAG_SHARE_LEAF = b"\x05"

Address = str | bytes
"""An EVM address: 0x-prefixed hex (any case) or 20 raw bytes."""


def keccak(data: bytes) -> bytes:
    """keccak256 of data, 32 bytes (Ethereum's padding, not NIST SHA3-256)."""
    return _keccak(data)


def abi_hash(types: Sequence[str], values: Sequence[Any], *, tag: bytes = b"") -> bytes:
    """keccak256(tag || abi.encode(values)). Callers check the values first."""
    return _keccak(tag + abi_encode(types, values))


def uint(value: int, bits: int, name: str) -> int:
    """value, if it is an int in [0, 2**bits); else InvalidValue."""
    if type(value) is not int:
        raise InvalidValue(f"{name} is {value!r} ({type(value).__name__}), not an integer")
    if value < 0 or value >> bits:
        raise InvalidValue(f"{name} is {value}, outside uint{bits} (0 to 2**{bits} - 1)")
    return value


def bytes32(value: bytes, name: str) -> bytes:
    """value, if it is exactly 32 bytes; else InvalidValue."""
    if not isinstance(value, bytes):
        raise InvalidValue(f"{name} is {value!r} ({type(value).__name__}), not bytes")
    if len(value) != 32:
        raise InvalidValue(f"{name} has {len(value)} bytes (0x{value.hex()}), not 32")
    return bytes(value)  # HexBytes and other subclasses become plain bytes


def address20(value: Address, name: str) -> bytes:
    """The 20 bytes of an address given as 0x hex or raw bytes; else InvalidValue.

    The EIP-55 checksum is not enforced: it is a matter for the edges, and hashes do not see it.
    """
    if isinstance(value, bytes) and len(value) == 20:
        return bytes(value)
    if isinstance(value, str) and len(value) == 42 and value[:2] == "0x":
        try:
            raw = bytes.fromhex(value[2:])
        except ValueError:
            raw = b""
        if len(raw) == 20:  # fromhex skips spaces, so the length needs a second look
            return raw
    raise InvalidValue(
        f"{name} is {value!r}, not an address", fix="give 20 bytes as 0x and 40 hex digits"
    )
