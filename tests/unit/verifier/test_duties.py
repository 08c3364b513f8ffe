"""Every phase has its duty."""

from __future__ import annotations

import pytest

from marketplace.chain.records import (
    BatchPhase,
    DisputePhase,
    OpeningStatus,
    RoundPhase,
    SeatState,
)
from verifier_node.duties import KEEPING, Duty, dispute_duty, duty


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
    own = {Duty.CHECK, Duty.REVEAL, Duty.DEFEND, Duty.CHALLENGE}
    assert not own & KEEPING


def test_a_conflict_under_dispute_is_waited_for() -> None:
    none = SeatState.NONE
    assert duty(BatchPhase.IN_ROUND, RoundPhase.CLOSED, none, disputes=1) is Duty.WAIT
    assert duty(BatchPhase.IN_ROUND, RoundPhase.CLOSED, none, disputes=0) is Duty.TALLY


def test_a_disputed_batch_waits_for_its_disputes() -> None:
    assert duty(BatchPhase.DISPUTED, RoundPhase.CLOSED, SeatState.NONE, disputes=1) is Duty.WAIT


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (DisputePhase.NONE, Duty.FORGET),
        (DisputePhase.APPEALABLE, Duty.WAIT),
        (DisputePhase.DECIDED, Duty.CLOSE),
        (DisputePhase.CLOSED, Duty.FORGET),
    ],
)
def test_duties_outside_of_juries_and_openings(phase: DisputePhase, expected: Duty) -> None:
    for jury in RoundPhase:
        seat, status = SeatState.COMMITTED, OpeningStatus.ASKED
        assert dispute_duty(phase, status, jury, seat) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (OpeningStatus.ASKED, Duty.DEFEND),
        (OpeningStatus.ANSWERED, Duty.WAIT),
        (OpeningStatus.OPENED, Duty.CONCLUDE),
        (OpeningStatus.REFUSED, Duty.CONCLUDE),
        (OpeningStatus.ABANDONED, Duty.CONCLUDE),
    ],
)
def test_duties_in_an_opening(status: OpeningStatus, expected: Duty) -> None:
    found = dispute_duty(DisputePhase.OPENING, status, RoundPhase.NONE, SeatState.NONE)
    assert found is expected


@pytest.mark.parametrize(
    ("jury", "seat", "expected"),
    [
        (RoundPhase.AWAITING_RANDOMNESS, SeatState.NONE, Duty.WAIT),
        (RoundPhase.DRAWABLE, SeatState.NONE, Duty.DRAW),
        (RoundPhase.STALLED, SeatState.NONE, Duty.TALLY),
        (RoundPhase.COMMITTING, SeatState.NONE, Duty.WAIT),
        (RoundPhase.COMMITTING, SeatState.DRAWN, Duty.CHECK),
        (RoundPhase.REVEALING, SeatState.COMMITTED, Duty.REVEAL),
        (RoundPhase.CLOSED, SeatState.REVEALED, Duty.TALLY),
    ],
)
def test_duties_in_a_jury(jury: RoundPhase, seat: SeatState, expected: Duty) -> None:
    found = dispute_duty(DisputePhase.IN_JURY, OpeningStatus.NONE, jury, seat)
    assert found is expected
