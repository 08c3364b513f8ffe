"""Phases of batches, rounds and disputes: functions of rows, parameters and a moment, never stored.

The same rules as BatchMarket.phaseOf, Rounds.phaseOf, Court.phaseOf, Openings.statusOf and the
statusOf of either randomness; tests hold them to the contracts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import Parameters
from marketplace.chain.records import (
    BatchPhase,
    DisputePhase,
    OpeningStatus,
    RandomnessStatus,
    RoundPhase,
)
from marketplace.indexer.rows import BatchRow, DisputeRow, OpeningRow, RoundRow


@dataclass(frozen=True, slots=True)
class Moment:
    """block: number of the last indexed block. time: seconds, as the next block would see it."""

    block: int
    time: int


def batch_phase(row: BatchRow, parameters: Parameters, now: Moment) -> BatchPhase:
    if row.closed:
        return BatchPhase.VOID if row.attested_at is None else BatchPhase.SETTLED
    if row.attested_at is None:
        return BatchPhase.IN_ROUND
    if now.time <= row.attested_at + parameters.challenge_window:
        return BatchPhase.CHALLENGEABLE
    return BatchPhase.DISPUTED if row.disputes else BatchPhase.SETTLEABLE


def batches_in(
    phase: BatchPhase, parameters: Parameters, now: Moment
) -> tuple[str, tuple[int, ...]]:
    """batch_phase as a condition on the table of batches, with its values."""
    started = now.time - parameters.challenge_window
    conditions: dict[BatchPhase, tuple[str, tuple[int, ...]]] = {
        BatchPhase.IN_ROUND: ("closed = 0 AND attested_at IS NULL", ()),
        BatchPhase.CHALLENGEABLE: ("closed = 0 AND attested_at >= ?", (started,)),
        BatchPhase.SETTLEABLE: ("closed = 0 AND attested_at < ? AND disputes = 0", (started,)),
        BatchPhase.DISPUTED: ("closed = 0 AND disputes > 0 AND attested_at < ?", (started,)),
        BatchPhase.SETTLED: ("closed = 1 AND attested_at IS NOT NULL", ()),
        BatchPhase.VOID: ("closed = 1 AND attested_at IS NULL", ()),
    }
    return conditions.get(phase, ("0", ()))


_REACH = 256
"""Blocks whose hashes a contract can read."""


def randomness_status(
    point: int, deployment: Deployment, now: Moment, delivered: Callable[[int], bool]
) -> RandomnessStatus:
    """delivered: whether a beacon round is on chain."""
    if deployment.beacon is None or deployment.randomness_patience is None:
        # BlockHashRandomness: a point is a block number, known in every block after it.
        if now.block <= point:
            return RandomnessStatus.PENDING
        return RandomnessStatus.MISSED if now.block > point + _REACH else RandomnessStatus.READY
    if delivered(point):
        return RandomnessStatus.READY
    time = deployment.beacon.time_of(point)
    if now.time < time:
        return RandomnessStatus.PENDING
    in_time = now.time <= time + deployment.randomness_patience
    return RandomnessStatus.AWAITED if in_time else RandomnessStatus.MISSED


def round_phase(
    row: RoundRow,
    parameters: Parameters,
    now: Moment,
    randomness: Callable[[int], RandomnessStatus],
) -> RoundPhase:
    """randomness: the status of a point now; asked for only before the draw."""
    if row.drawn_at is None:
        if row.judged:
            return RoundPhase.CLOSED
        if now.time > row.opened_at + parameters.draw_timeout:
            return RoundPhase.STALLED
        waiting = (RandomnessStatus.PENDING, RandomnessStatus.AWAITED)
        waits = randomness(row.draw_point) in waiting
        return RoundPhase.AWAITING_RANDOMNESS if waits else RoundPhase.DRAWABLE
    reveals_from = row.all_committed_at
    if reveals_from is None:
        reveals_from = row.drawn_at + parameters.commit_window
        if now.time <= reveals_from:
            return RoundPhase.COMMITTING
    if row.revealed == row.committed or now.time > reveals_from + parameters.reveal_window:
        return RoundPhase.CLOSED
    return RoundPhase.REVEALING


def dispute_phase(row: DisputeRow, parameters: Parameters, now: Moment) -> DisputePhase:
    if row.closed:
        return DisputePhase.CLOSED
    if row.decided_at is None:
        return DisputePhase.OPENING if row.jury is None else DisputePhase.IN_JURY
    if not row.last and now.time <= row.decided_at + parameters.appeal_window:
        return DisputePhase.APPEALABLE
    return DisputePhase.DECIDED


def disputes_in(
    phase: DisputePhase, parameters: Parameters, now: Moment
) -> tuple[str, tuple[int, ...]]:
    """dispute_phase as a condition on the table of disputes, with its values."""
    started = now.time - parameters.appeal_window
    undecided = "closed = 0 AND decided_at IS NULL"
    conditions: dict[DisputePhase, tuple[str, tuple[int, ...]]] = {
        DisputePhase.OPENING: (f"{undecided} AND jury IS NULL", ()),
        DisputePhase.IN_JURY: (f"{undecided} AND jury IS NOT NULL", ()),
        DisputePhase.APPEALABLE: ("closed = 0 AND last = 0 AND decided_at >= ?", (started,)),
        DisputePhase.DECIDED: (
            "closed = 0 AND decided_at IS NOT NULL AND (last = 1 OR decided_at < ?)",
            (started,),
        ),
        DisputePhase.CLOSED: ("closed = 1", ()),
    }
    return conditions.get(phase, ("0", ()))


def opening_status(row: OpeningRow, parameters: Parameters, now: Moment) -> OpeningStatus:
    """A move that was not made in time is a side that lost."""
    status = OpeningStatus(row.status)
    if now.time > row.moved_at + parameters.opening_window:
        if status is OpeningStatus.ASKED:
            return OpeningStatus.REFUSED
        if status is OpeningStatus.ANSWERED:
            return OpeningStatus.ABANDONED
    return status
