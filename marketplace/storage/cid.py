"""Content addresses: CIDv1 with a sha2-256 digest, as one small value.

On chain a content address is the pair (bytes32 digest, uint8 codec); in text it is
base32 ("b..."), as Kubo prints it. Both name the same bytes.

Source: https://github.com/multiformats/cid (CIDv0, CIDv1),
https://github.com/multiformats/multicodec (the code numbers below).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final, Self

from marketplace.protocol.errors import InvalidValue

RAW: Final = 0x55
"""Codec of content of at most one chunk: the block is the content itself."""

DAG_PB: Final = 0x70
"""Codec of larger content: the block is the root of a UnixFS tree."""

DIGEST_BYTES: Final = 32

# version 1, then (after the codec) the multihash header: sha2-256, 32 bytes. All four
# numbers are below 128, so each is its own one-byte varint.
_VERSION_1: Final = b"\x01"
_SHA2_256_HEADER: Final = b"\x12\x20"

_FIX: Final = (
    "give a CIDv1 with a sha2-256 digest and the codec raw or dag-pb, "
    "such as the one `ipfs add --cid-version=1` prints"
)


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """The address of one piece of content.

    digest: sha2-256 of the (root) block, 32 bytes.
    codec:  RAW (0x55) or DAG_PB (0x70).

    Raises InvalidValue for any other digest length or codec.
    """

    digest: bytes
    codec: int

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_BYTES:
            raise InvalidValue(
                f"content digest 0x{self.digest.hex()} has {len(self.digest)} bytes",
                fix=f"give the sha2-256 digest, {DIGEST_BYTES} bytes",
            )
        if self.codec not in (RAW, DAG_PB):
            raise InvalidValue(
                f"content codec {self.codec:#x} is not supported",
                fix=f"use raw ({RAW:#x}) or dag-pb ({DAG_PB:#x})",
            )

    def __bytes__(self) -> bytes:
        """The binary CIDv1, 36 bytes: what a dag-pb link holds."""
        return _VERSION_1 + bytes([self.codec]) + _SHA2_256_HEADER + self.digest

    def __str__(self) -> str:
        """The base32 text, 59 characters, beginning with "b"."""
        text = base64.b32encode(bytes(self)).decode("ascii")
        return "b" + text.rstrip("=").lower()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address that `text` names.

        Takes CIDv1 in any multibase (base32 "b...", base58btc "z...", ...) and CIDv0
        ("Qm..."). A CIDv0 becomes the CIDv1 with the same digest.

        Raises InvalidValue, naming the text, if it is no CID or one of another hash or codec.
        """
        # Imported here: its tables take a tenth of a second to load, and most commands
        # never parse a CID.
        import multiformats

        try:
            decoded = multiformats.CID.decode(text)
            hash_name = decoded.hashfun.name
            digest, codec = decoded.raw_digest, decoded.codec.code
        # The library raises ValueError, KeyError and binascii.Error, depending on what is wrong.
        except (ValueError, LookupError, TypeError) as error:
            reason = str(error).strip("'\"").rstrip(".")
            raise InvalidValue(f"{text!r} is not a content address ({reason})", fix=_FIX) from error
        if hash_name != "sha2-256" or len(digest) != DIGEST_BYTES or codec not in (RAW, DAG_PB):
            raise InvalidValue(
                f"content address {text!r} has hash {hash_name} ({len(digest)} bytes) "
                f"and codec {codec:#x}",
                fix=_FIX,
            )
        return cls(bytes(digest), codec)

    @classmethod
    def from_chain(cls, digest: bytes, codec: int) -> Self:
        """The address that a contract stores as (bytes32 digest, uint8 codec).

        Raises InvalidValue if the pair names no content (a contract takes any uint8).
        """
        return cls(bytes(digest), codec)
