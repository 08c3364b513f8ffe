"""What is paid: the pay rules over a batch, and the settlement of a batch in token base units.

All of it is pure integer arithmetic, rounded down as on chain. The contracts decide; this
is what a miner, verifier or trainer predicts and checks them with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

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
    whole = not any(result.fault or result.reason in CHECKER_STATES for result in group)
    total = sum(result.score_ppm for result in group)
    units = int(whole and 0 < total < PPM * len(group))
    return [
        Verdict(result.score_ppm, result.reason, units, int(result.fault)) for result in group
    ]


# --- settlement --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Terms:
    """What a bounty and the market fix for a batch; money in token base units.

    price: per payable unit. fee: verification fee per trace. bond_per_trace: what a miner bonds
    per trace. fault_multiple: how many times bond_per_trace one fault costs.
    """

    price: int
    fee: int
    bond_per_trace: int
    fault_multiple: int

    def __post_init__(self) -> None:
        for name in ("price", "fee", "bond_per_trace", "fault_multiple"):
            uint(getattr(self, name), 128, name)

    def reserve(self, count: int) -> int:
        """The worst case of count traces, set aside from the bounty at commit."""
        return count * (self.price + self.fee)

    def bond(self, count: int) -> int:
        """What the miner bonds for count traces."""
        return count * self.bond_per_trace


@dataclass(frozen=True, slots=True)
class Settlement:
    """Where a batch's reserve and bond go; token base units, nothing lost, nothing made.

    reserve + bond == miner_pay + fees + bounty_refund + bond_refund + forfeited.
    fee_per_seat: what each coherent seat gets. fees: all seats together. forfeited: bond kept
    for faults. The fee pool of an unavailable batch comes out of the bond, not the reserve.
    """

    miner_pay: int
    fee_per_seat: int
    fees: int
    bounty_refund: int
    bond_refund: int
    forfeited: int


def settle(
    terms: Terms, count: int, attestation: Attestation, *, seats: int, coherent: int
) -> Settlement:
    """The settlement of an attested batch of count traces.

    seats: seats of all rounds drawn for it; coherent: those that revealed this attestation.
    A coherent seat gets fee pool // seats; the rest of the pool goes back to the bounty. Of an
    UNAVAILABLE batch the bond pays the fee pool (as far as it goes); of a MALFORMED one the whole
    bond is forfeited. InvalidValue if the numbers can't belong together.
    """
    if uint(count, 32, "count") < 1:
        raise InvalidValue("count is 0")
    if not 0 <= uint(coherent, 32, "coherent seats") <= uint(seats, 32, "seats"):
        raise InvalidValue(f"{coherent} coherent seats of {seats}")
    if attestation.units + attestation.faults > count:
        raise InvalidValue(
            f"{attestation.units} units and {attestation.faults} faults in {count} traces"
        )
    reserve, bond, pool = terms.reserve(count), terms.bond(count), terms.fee * count
    if attestation == UNAVAILABLE:
        pool = min(pool, bond)
        share = pool // seats if seats else 0
        # The bounty loses nothing and gains the odd remainder, as in every other outcome.
        return Settlement(
            miner_pay=0,
            fee_per_seat=share,
            fees=share * coherent,
            bounty_refund=reserve + pool - share * coherent,
            bond_refund=bond - pool,
            forfeited=0,
        )
    forfeited = (
        bond
        if attestation == MALFORMED
        else min(bond, attestation.faults * terms.fault_multiple * terms.bond_per_trace)
    )
    miner_pay = attestation.units * terms.price
    share = pool // seats if seats else 0
    return Settlement(
        miner_pay=miner_pay,
        fee_per_seat=share,
        fees=share * coherent,
        bounty_refund=reserve - miner_pay - share * coherent,
        bond_refund=bond - forfeited,
        forfeited=forfeited,
    )
