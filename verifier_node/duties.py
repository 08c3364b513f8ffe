"""What a verifier has to do about a batch now. Pure: phases in, duty out."""

from __future__ import annotations

from enum import Enum, auto

from marketplace.chain.records import BatchPhase, RoundPhase, SeatState


class Duty(Enum):
    """WAIT: nothing yet. CHECK and REVEAL are a member's own; DRAW, TALLY, VOID and SETTLE are
    calls that anybody may make (a keeper makes them). FORGET: the batch has come to its end."""

    WAIT = auto()
    DRAW = auto()
    CHECK = auto()
    REVEAL = auto()
    TALLY = auto()
    VOID = auto()
    SETTLE = auto()
    FORGET = auto()


KEEPING = frozenset({Duty.DRAW, Duty.TALLY, Duty.VOID, Duty.SETTLE})
"""Calls that move any batch on; not a member's duty."""

_END = (BatchPhase.NONE, BatchPhase.SETTLED, BatchPhase.VOID)


def duty(batch: BatchPhase, round_: RoundPhase, seat: SeatState) -> Duty:
    """The next duty of a node.

    seat: its own seat in the batch's current round, NONE where it has none. A batch in phase
    NONE is one that a reorg took back.
    """
    if batch in _END:
        return Duty.FORGET
    if batch is BatchPhase.SETTLEABLE:
        return Duty.SETTLE
    if batch is not BatchPhase.IN_ROUND:
        return Duty.WAIT
    match round_:
        case RoundPhase.DRAWABLE:
            return Duty.DRAW
        case RoundPhase.STALLED:
            return Duty.VOID
        case RoundPhase.COMMITTING if seat is SeatState.DRAWN:
            return Duty.CHECK
        case RoundPhase.REVEALING if seat is SeatState.COMMITTED:
            return Duty.REVEAL
        case RoundPhase.CLOSED:
            return Duty.TALLY
    return Duty.WAIT
