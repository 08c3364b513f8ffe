"""Options that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from marketplace.protocol.errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="print JSON for scripts")]
BountyId = Annotated[int, typer.Argument(min=1, help="bounty id")]
BatchId = Annotated[int, typer.Argument(min=1, help="batch id")]
Identity = Annotated[
    str | None,
    typer.Option(
        help="what `show` named as its identity: refused where the number has become another's"
    ),
]


def require_identity(what: str, identity: bytes, wanted: str | None) -> None:
    """ConfigError where `wanted`, what a user gave as Identity, is not `identity`."""
    if wanted is None:
        return
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", wanted):
        raise ConfigError(f"{wanted!r} is no identity", fix="give 0x and 64 hex digits")
    if bytes.fromhex(wanted.removeprefix("0x")) != identity:
        raise ConfigError(
            f"{what} is 0x{identity.hex()}, not {wanted}; nothing was paid",
            fix="look at it again: a chain that is reorganised gives numbers to others",
        )
