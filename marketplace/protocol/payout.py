"""What is paid: the pay rules over a batch, and the settlement of a batch in token base units.

All of it is pure integer arithmetic, rounded down as on chain. The contracts decide; this
is what a miner, verifier or trainer predicts and checks them with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import uint
from marketplace.protocol.seeds import PPM
from marketplace.protocol.verdict import (
    CHECKER_STATES,
    FAULTS,
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    Reason,
    Verdict,
    check_score,
)

_BPS: Final = 10_000


class PayRule(IntEnum):
    """Which traces of a batch are worth a unit (uint8 on chain)."""

    CORRECT = 0  # every different full-score trace
    INFORMATIVE = 1  # every trace of a whole group that neither failed nor solved throughout


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking found out about one trace, before any pay rule.

    score_ppm: 0 to 1_000_000, agreeing with reason (InvalidValue). completion: the text that
    duplicates are found by; "" for a line that is not a trace.
    """

    score_ppm: int
    reason: Reason
    completion: str

    def __post_init__(self) -> None:
        check_score(self.score_ppm, self.reason)
        if self.reason is Reason.DUPLICATE:
            raise InvalidValue("reason is DUPLICATE, which only a pay rule gives")

    @property
    def fault(self) -> bool:
        """True if the trace is a lie."""
        return self.reason in FAULTS


def apply(rule: PayRule, group_size: int, results: Sequence[Checked]) -> list[Verdict]:
    """The verdicts of a whole batch; results are in file order, whole groups only.

    CORRECT: a full score is worth a unit, but the same text within its group is paid once: later
    ones keep their score with reason DUPLICATE. INFORMATIVE: each trace of a group with a mean
    score strictly between 0 and 1, and no fault or checker error in it, is worth a unit.
    """
    if uint(group_size, 32, "group size") < 1:
        raise InvalidValue("group size is 0")
    if len(results) % group_size:
        raise InvalidValue(f"{len(results)} results are no whole number of groups of {group_size}")
    if rule is PayRule.CORRECT:
        pay = _pay_correct
    elif rule is PayRule.INFORMATIVE:
        pay = _pay_informative
    else:
        raise InvalidValue(f"pay rule is {rule!r}, not a PayRule")
    verdicts: list[Verdict] = []
    for start in range(0, len(results), group_size):
        verdicts += pay(results[start : start + group_size])
    return verdicts


def _pay_correct(group: Sequence[Checked]) -> list[Verdict]:
    verdicts = []
    paid: set[str] = set()
    for result in group:
        reason = result.reason
        if reason is Reason.CORRECT:
            if result.completion in paid:
                reason = Reason.DUPLICATE
            paid.add(result.completion)
        verdicts.append(
            Verdict(result.score_ppm, reason, int(reason is Reason.CORRECT), int(result.fault))
        )
    return verdicts


def _pay_informative(group: Sequence[Checked]) -> list[Verdict]:
    # What breaks the spec's limits is no part of a complete group: padding must not pay.
    broken = FAULTS | CHECKER_STATES | {Reason.TOO_LONG}
    whole = not any(result.reason in broken for result in group)
    total = sum(result.score_ppm for result in group)
    units = int(whole and 0 < total < PPM * len(group))
    return [Verdict(result.score_ppm, result.reason, units, int(result.fault)) for result in group]


# --- settlement --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bounty and the market fix for a batch; money in token base units.

    price: per payable unit. fee: verification fee per trace. bond_per_trace: the market's miner
    bond per trace. fault_multiple: how many times bond_per_trace one fault costs. wrong_bps:
    share of the fee of a trace without a unit that its miner bears, in 1/10,000.
    """

    price: int
    fee: int
    bond_per_trace: int
    fault_multiple: int
    wrong_bps: int

    def __post_init__(self) -> None:
        uint(self.price, 96, "price")
        uint(self.fee, 96, "fee")
        uint(self.bond_per_trace, 96, "bond per trace")
        uint(self.fault_multiple, 16, "fault multiple")
        if uint(self.wrong_bps, 16, "wrong bps") > _BPS:
            raise InvalidValue(f"wrong bps is {self.wrong_bps}, over {_BPS}")

    def reserve(self, count: int) -> int:
        """The worst case of count traces, set aside from the bounty at commit."""
        return count * (self.price + self.fee)

    def wrong(self, count: int, units: int) -> int:
        """What the traces without a unit cost their miner: a share of the fee for checking
        them."""
        return (count - units) * self.fee * self.wrong_bps // _BPS

    def bond(self, count: int) -> int:
        """What the miner bonds for count traces: never less than their verification fee."""
        return count * max(self.bond_per_trace, self.fee)


@dataclass(frozen=True, slots=True)
class Settlement:
    """Where a batch's reserve and bond go; token base units.

    Nothing is lost or made: reserve + bond == miner_pay + bond_refund + fees + bounty_refund.

    miner_pay: for its units. fee_per_seat: for each coherent seat. fees: for all of them.
    forfeited: the part of the bond that is not refunded. bounty_refund: back to the bounty, from
    the reserve and from what was forfeited. Penalties on seats are not part of it.
    """

    miner_pay: int
    fee_per_seat: int
    fees: int
    forfeited: int
    bond_refund: int
    bounty_refund: int


def settle(
    terms: Terms, count: int, attestation: Attestation, *, seats: int, coherent: int
) -> Settlement:
    """The settlement of an attested batch of count traces, as BatchMarket.settle does it.

    seats: payable seats of all rounds drawn for it (those of convicted members are not; there may
    be none left); coherent: those that revealed this attestation. A coherent seat gets fee pool
    // seats. A fault costs fault_multiple * bond_per_trace, a trace without a unit its part of
    the fee (see Terms.wrong), both up to the bond. Of an UNAVAILABLE batch the bond pays the
    fees; of a MALFORMED one all of the bond is forfeited and pays them. InvalidValue if the
    numbers can't belong together.
    """
    if uint(count, 32, "count") < 1:
        raise InvalidValue("count is 0")
    if uint(coherent, 32, "coherent seats") > uint(seats, 32, "seats"):
        raise InvalidValue(f"{coherent} coherent seats of {seats}")
    if attestation.units + attestation.faults > count:
        raise InvalidValue(
            f"{attestation.units} units and {attestation.faults} faults in {count} traces"
        )
    bond = terms.bond(count)
    share = terms.fee * count // seats if seats else 0
    fees = share * coherent
    if attestation == UNAVAILABLE:
        forfeited = fees
    elif attestation == MALFORMED:
        forfeited = bond
    else:
        lies = attestation.faults * terms.fault_multiple * terms.bond_per_trace
        forfeited = min(bond, lies + terms.wrong(count, attestation.units))
    miner_pay = attestation.units * terms.price
    return Settlement(
        miner_pay=miner_pay,
        fee_per_seat=share,
        fees=fees,
        forfeited=forfeited,
        bond_refund=bond - forfeited,
        bounty_refund=terms.reserve(count) + forfeited - miner_pay - fees,
    )
