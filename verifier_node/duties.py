"""What a verifier has to do about a batch or a dispute now. Pure: phases in, duty out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from marketplace.chain.records import (
    BatchPhase,
    DisputePhase,
    OpeningStatus,
    RoundPhase,
    SeatState,
)


class Duty(Enum):
    """WAIT: nothing yet. CHECK and REVEAL are a member's own, as are JUDGE and SHOW (its score
    sheet, in environments without a right answer; PAY ends those of a batch), DEFEND that of
    whoever signed the attestation, CHALLENGE that of a watcher with money. DELIVER (the beacon that
    a draw waits for), DRAW, TALLY, NARROW, VOID, SETTLE, CONCLUDE and CLOSE are calls that anybody
    may make (a keeper makes them). FORGET: the batch or dispute has come to its end."""

    WAIT = auto()
    DELIVER = auto()
    DRAW = auto()
    JUDGE = auto()
    SHOW = auto()
    CHECK = auto()
    REVEAL = auto()
    TALLY = auto()
    NARROW = auto()
    VOID = auto()
    SETTLE = auto()
    DEFEND = auto()
    CHALLENGE = auto()
    CONCLUDE = auto()
    CLOSE = auto()
    PAY = auto()
    FORGET = auto()


KEEPING = frozenset(
    {
        Duty.DRAW,
        Duty.TALLY,
        Duty.NARROW,
        Duty.VOID,
        Duty.SETTLE,
        Duty.CONCLUDE,
        Duty.CLOSE,
    }
)
"""Calls that move any batch or dispute on; not a member's duty."""


@dataclass(frozen=True, slots=True)
class Done:
    """One thing a pass did. detail: for people. dispute: None where it was about none."""

    batch: int
    duty: Duty
    detail: str
    dispute: int | None = None


_END = (BatchPhase.NONE, BatchPhase.SETTLED, BatchPhase.VOID)


def duty(batch: BatchPhase, round_: RoundPhase, seat: SeatState, *, disputes: int = 0) -> Duty:
    """The next duty of a node towards a batch.

    seat: its own seat in the batch's current round, NONE where it has none. disputes: open ones;
    a round that ended in conflict waits for them. A batch in phase NONE is one that a reorg took
    back.
    """
    if batch in _END:
        return Duty.FORGET
    if batch is BatchPhase.SETTLEABLE:
        return Duty.SETTLE
    if batch is not BatchPhase.IN_ROUND:
        return Duty.WAIT
    match round_:
        case RoundPhase.STALLED:
            return Duty.VOID
        case RoundPhase.CLOSED:
            return Duty.WAIT if disputes else Duty.TALLY
    return _in_round(round_, seat)


def dispute_duty(
    phase: DisputePhase, opening: OpeningStatus, jury: RoundPhase, seat: SeatState
) -> Duty:
    """The next duty of a node towards a dispute.

    opening: NONE where the dispute is in no opening. jury: the newest jury's phase, NONE where
    there is none; seat: the node's own in it. An answered opening is its challenger's to go on
    with (see watchtower.py). A dispute in phase NONE is one that a reorg took back.
    """
    match phase:
        case DisputePhase.NONE | DisputePhase.CLOSED:
            return Duty.FORGET
        case DisputePhase.DECIDED:
            return Duty.CLOSE
        case DisputePhase.OPENING:
            if opening is OpeningStatus.ASKED:
                return Duty.DEFEND
            return Duty.WAIT if opening is OpeningStatus.ANSWERED else Duty.CONCLUDE
        case DisputePhase.IN_JURY:
            if jury in (RoundPhase.CLOSED, RoundPhase.STALLED):
                return Duty.TALLY
            return _in_round(jury, seat)
    return Duty.WAIT


def _in_round(round_: RoundPhase, seat: SeatState) -> Duty:
    match round_:
        case RoundPhase.DRAWABLE:
            return Duty.DRAW
        case RoundPhase.COMMITTING if seat is SeatState.DRAWN:
            return Duty.CHECK
        case RoundPhase.REVEALING if seat is SeatState.COMMITTED:
            return Duty.REVEAL
    return Duty.WAIT
