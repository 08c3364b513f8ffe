"""What is paid: the pay rules over a batch, and the settlement of a batch in token base units.

All of it is pure integer arithmetic, rounded down as on chain. The contracts decide; this
is what a miner, verifier or trainer predicts and checks them with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

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

    CORRECT = 0  # every original full-score trace
    INFORMATIVE = 1  # every original of a whole group that neither failed nor solved throughout


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


class Originals(Protocol):
    """What was bought before: which traces of a batch are copies. Places are indices of results;
    the pay rule asks about them in file order."""

    def is_copy(self, index: int, beside: Sequence[int]) -> bool:
        """Whether a trace is a copy of something bought before it, or of one of these traces."""
        ...

    def has_room(self, index: int) -> bool:
        """Whether its task may be paid once more."""
        ...

    def bought(self, index: int) -> None:
        """Told of each trace that is worth a unit."""
        ...


def apply(
    rule: PayRule,
    group_size: int,
    results: Sequence[Checked],
    originals: Originals | None = None,
) -> list[Verdict]:
    """The verdicts of a whole batch; results are in file order, whole groups only.

    A copy keeps its score with reason DUPLICATE and no unit. CORRECT: a full score is worth a unit.
    INFORMATIVE: each trace of a group that is no copy is worth a unit if the mean score of those
    is strictly between 0 and 1 and no fault or checker error is in the group. A trace whose task
    was paid as often as it may be keeps its reason, without a unit.

    originals: without it a copy is the same text under CORRECT, paid before in its group.
    """
    if uint(group_size, 32, "group size") < 1:
        raise InvalidValue("group size is 0")
    if len(results) % group_size:
        raise InvalidValue(f"{len(results)} results are no whole number of groups of {group_size}")
    if rule is PayRule.CORRECT:
        pay, default = _pay_correct, _GroupTexts(results, group_size)
    elif rule is PayRule.INFORMATIVE:
        pay, default = _pay_informative, _GroupTexts((), group_size)
    else:
        raise InvalidValue(f"pay rule is {rule!r}, not a PayRule")
    verdicts: list[Verdict] = []
    for start in range(0, len(results), group_size):
        group = range(start, start + group_size)
        verdicts += pay(results, group, default if originals is None else originals)
    return verdicts


class _GroupTexts:
    """Originals by exact text within a group. Without results: everything is original."""

    def __init__(self, results: Sequence[Checked], group_size: int) -> None:
        self._results, self._group_size = results, group_size
        self._paid: set[tuple[int, str]] = set()

    def is_copy(self, index: int, beside: Sequence[int]) -> bool:
        return bool(self._results) and self._key(index) in self._paid

    def has_room(self, index: int) -> bool:
        return True

    def bought(self, index: int) -> None:
        if self._results:
            self._paid.add(self._key(index))

    def _key(self, index: int) -> tuple[int, str]:
        return index // self._group_size, self._results[index].completion


def _pay_correct(
    results: Sequence[Checked], group: Sequence[int], originals: Originals
) -> list[Verdict]:
    verdicts = []
    for index in group:
        result = results[index]
        reason, units = result.reason, 0
        if reason is Reason.CORRECT:
            if originals.is_copy(index, ()):
                reason = Reason.DUPLICATE
            elif originals.has_room(index):
                units = 1
                originals.bought(index)
        verdicts.append(Verdict(result.score_ppm, reason, units, int(result.fault)))
    return verdicts


_SCORED: Final = frozenset({Reason.CORRECT, Reason.WRONG, Reason.PARTIAL, Reason.PARSE_FAILURE})


def _pay_informative(
    results: Sequence[Checked], group: Sequence[int], originals: Originals
) -> list[Verdict]:
    own: list[int] = []
    for index in group:
        if results[index].reason in _SCORED and not originals.is_copy(index, own):
            own.append(index)
    # What breaks the spec's limits is no part of a complete group: padding must not pay.
    broken = FAULTS | CHECKER_STATES | {Reason.TOO_LONG}
    whole = not any(results[index].reason in broken for index in group)
    total = sum(results[index].score_ppm for index in own)
    pays = whole and 0 < total < PPM * len(own)
    verdicts = []
    for index in group:
        result = results[index]
        reason, units = result.reason, 0
        if reason in _SCORED and index not in own:
            reason = Reason.DUPLICATE
        elif pays and originals.has_room(index):
            units = 1
            originals.bought(index)
        verdicts.append(Verdict(result.score_ppm, reason, units, int(result.fault)))
    return verdicts


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
