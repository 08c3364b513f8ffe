"""What the API says of juries: pots, panels, sheets, gold, judges' balances."""

from __future__ import annotations

from pydantic import Field

from marketplace.api.models import Address, BlockNumber, Model, Time, Tokens, _amount


class Pot(Model):
    """What a bounty pays its judges: funded = available + set aside + paid + refunded."""

    bounty: int
    per_trace: Tokens = _amount("For one trace on one sheet.")
    available: Tokens
    set_aside: Tokens = _amount("For the sheets of open panels.")
    funded: Tokens
    paid: Tokens = _amount("Went to judges.")
    refunded: Tokens = _amount("Went back to the poster.")
    open: int = Field(description="Batches whose sheets are begun and not paid or released.")


class Sheet(Model):
    """A seat's score sheet."""

    seat: int
    verifier: Address
    committed_at: Time
    revealed_at: Time | None = Field(description="Null where it was never shown.")
    grades: list[int] | None = Field(description="0 to 4 for each trace; null until shown.")
    weight: int | None = Field(
        description="By the gold of the calibrators that were asked for; null until shown."
    )
    paid: Tokens | None = Field(description="Null until the sheets are paid or released.")


class Gold(Model):
    """A gold sheet: the right grades, as its planter says."""

    planter: Address
    grades: list[int | None] = Field(description="Null where the planter knows none.")
    block: BlockNumber
    opened_at: Time


class Panel(Model):
    """The score sheets of a batch."""

    batch: int
    seats: int
    committed: int
    revealed: int
    per_sheet: Tokens = _amount("Set aside for each seat.")
    begun_at: Time
    closed_at: Time | None = Field(description="When they were paid or released.")
    paid_sheets: int | None = Field(description="Null until then; 0 for a release.")
    sheets: list[Sheet]
    medians: list[int] | None = Field(
        description="Weighted lower median of each trace over the sheets shown so far; null where "
        "none has any weight. Verdicts follow from it only once the sheets' time is over and "
        "enough of them count."
    )
    gold: list[Gold] = Field(description="Opened about this batch, oldest first.")


class JudgeBalance(Model):
    """An account in ScoreSheets: balance = earned + refunded - withdrawn."""

    address: Address
    balance: Tokens = _amount("Withdrawable.")
    earned: Tokens = _amount("By judging.")
    refunded: Tokens = _amount("From its own bounties' pots.")
    withdrawn: Tokens
