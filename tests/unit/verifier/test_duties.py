"""Every phase has its duty."""

from __future__ import annotations

import pytest

from marketplace.chain.records import BatchPhase, RoundPhase, SeatState
from verifier_node.duties import KEEPING, Duty, duty


@pytest.mark.parametrize("phase", [BatchPhase.NONE, BatchPhase.SETTLED, BatchPhase.VOID])
def test_a_batch_at_its_end_is_forgotten(phase: BatchPhase) -> None:
    for round_phase in RoundPhase:
        assert duty(phase, round_phase, SeatState.COMMITTED) is Duty.FORGET


def test_a_settleable_batch_is_settled_by_anybody() -> None:
    assert duty(BatchPhase.SETTLEABLE, RoundPhase.CLOSED, SeatState.NONE) is Duty.SETTLE


def test_the_challenge_window_is_waited_for() -> None:
    assert duty(BatchPhase.CHALLENGEABLE, RoundPhase.CLOSED, SeatState.REVEALED) is Duty.WAIT


@pytest.mark.parametrize(
    ("phase", "seat", "expected"),
    [
        (RoundPhase.AWAITING_RANDOMNESS, SeatState.NONE, Duty.WAIT),
        (RoundPhase.DRAWABLE, SeatState.NONE, Duty.DRAW),
        (RoundPhase.STALLED, SeatState.NONE, Duty.VOID),
        (RoundPhase.COMMITTING, SeatState.NONE, Duty.WAIT),
        (RoundPhase.COMMITTING, SeatState.DRAWN, Duty.CHECK),
        (RoundPhase.COMMITTING, SeatState.COMMITTED, Duty.WAIT),
        (RoundPhase.REVEALING, SeatState.NONE, Duty.WAIT),
        (RoundPhase.REVEALING, SeatState.DRAWN, Duty.WAIT),
        (RoundPhase.REVEALING, SeatState.COMMITTED, Duty.REVEAL),
        (RoundPhase.REVEALING, SeatState.REVEALED, Duty.WAIT),
        (RoundPhase.CLOSED, SeatState.COMMITTED, Duty.TALLY),
    ],
)
def test_duties_in_a_round(phase: RoundPhase, seat: SeatState, expected: Duty) -> None:
    assert duty(BatchPhase.IN_ROUND, phase, seat) is expected


def test_a_members_own_duties_are_not_keeping() -> None:
    assert Duty.CHECK not in KEEPING
    assert Duty.REVEAL not in KEEPING
