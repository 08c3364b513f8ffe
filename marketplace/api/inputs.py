"""Path and query values, checked before any route sees them."""

from __future__ import annotations

from typing import Annotated, Final

from eth_utils.address import is_checksum_address, to_checksum_address
from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from marketplace.api.models import BatchPhase, DisputePhase
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import address20
from marketplace.storage.cid import RAW, Cid

MOST_ITEMS: Final = 200
_LARGEST_ID: Final = 2**63 - 1


def checked_address(text: str) -> str:
    """The checksummed form of an address in lower, upper or checksummed case.

    InvalidValue for anything else; a wrong checksum is a typing error.
    """
    try:
        checksummed = str(to_checksum_address(address20(text, "it")))
    except InvalidValue:
        raise InvalidValue("not an address: give 0x and 40 hex digits") from None
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(text):
        raise InvalidValue("the checksum of the address does not match: check it for typos")
    return checksummed


def checked_environment(text: str) -> str:
    """The 0x id of an environment given as id or as CID of its spec. InvalidValue for others."""
    digits = text[2:].lower() if text[:2] == "0x" else ""
    if len(digits) == 64 and not digits.strip("0123456789abcdef"):
        return "0x" + digits
    try:
        cid = Cid.parse(text)
    except InvalidValue:
        cid = None
    if cid is None or cid.codec != RAW:
        raise InvalidValue("not an environment: give 0x and 64 hex digits, or the spec's CID")
    return "0x" + cid.digest.hex()


AddressInput = Annotated[str, AfterValidator(checked_address)]
EnvironmentInput = Annotated[str, AfterValidator(checked_environment)]

Id = Annotated[int, Path(ge=1, le=_LARGEST_ID, description="Ids start at 1.")]
AddressPath = Annotated[AddressInput, Path(description="Checksummed or lower case.")]
EnvironmentPath = Annotated[
    EnvironmentInput, Path(description="0x hex id, or the CID of the spec (the same digest).")
]

_CURSOR: Final = "`next_cursor` of the page before."


class _List(BaseModel):
    # A mistyped filter must not pass for none.
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=MOST_ITEMS, description="Items of one page.")


class PageQuery(_List):
    """A page of a list that is ordered by a number."""

    cursor: int = Field(0, ge=0, le=_LARGEST_ID, description=_CURSOR)


class AddressPageQuery(_List):
    """A page of a list that is ordered by address."""

    cursor: AddressInput | None = Field(None, description=_CURSOR)


class BountyQuery(PageQuery):
    open: bool | None = Field(
        None, description="Only those whose deadline lies ahead (or, false, has passed)."
    )
    environment: EnvironmentInput | None = Field(
        None, description="Of this environment (id or CID)."
    )
    poster: AddressInput | None = Field(None, description="Of this poster.")


class BatchQuery(PageQuery):
    bounty: int | None = Field(None, ge=1, le=_LARGEST_ID, description="Of this bounty.")
    miner: AddressInput | None = Field(None, description="Of this miner.")
    phase: BatchPhase | None = Field(None, description="In this phase now.")


class DisputeQuery(PageQuery):
    batch: int | None = Field(None, ge=1, le=_LARGEST_ID, description="About this batch.")
    challenger: AddressInput | None = Field(None, description="Opened by this account.")
    phase: DisputePhase | None = Field(None, description="In this phase now.")


class AuditQuery(PageQuery):
    planter: AddressInput | None = Field(None, description="Planted by this account.")
    missed: bool | None = Field(
        None, description="Only those whose committee missed the trap (or, false, saw it)."
    )


class CheckpointQuery(PageQuery):
    trainer: AddressInput | None = Field(None, description="Of this trainer.")


class PanelQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    calibrator: list[AddressInput] = Field(
        default_factory=list,
        max_length=64,
        description="Whose gold makes weights, as the environment's spec names them; repeatable. "
        "Without one every sheet weighs 1.",
    )
