"""Phases of batches and rounds: functions of rows, parameters and a moment, never stored.

The same rules as BatchMarket.phaseOf and Rounds.phaseOf; tests hold them to the contracts.
"""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.chain.parameters import Parameters
from marketplace.chain.records import BatchPhase, RoundPhase
from marketplace.indexer.rows import BatchRow, RoundRow


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
    return BatchPhase.SETTLEABLE


def batches_in(
    phase: BatchPhase, parameters: Parameters, now: Moment
) -> tuple[str, tuple[int, ...]]:
    """batch_phase as a condition on the table of batches, with its values."""
    started = now.time - parameters.challenge_window
    conditions: dict[BatchPhase, tuple[str, tuple[int, ...]]] = {
        BatchPhase.IN_ROUND: ("closed = 0 AND attested_at IS NULL", ()),
        BatchPhase.CHALLENGEABLE: ("closed = 0 AND attested_at >= ?", (started,)),
        BatchPhase.SETTLEABLE: ("closed = 0 AND attested_at < ?", (started,)),
        BatchPhase.SETTLED: ("closed = 1 AND attested_at IS NOT NULL", ()),
        BatchPhase.VOID: ("closed = 1 AND attested_at IS NULL", ()),
    }
    return conditions.get(phase, ("0", ()))


def round_phase(row: RoundRow, parameters: Parameters, now: Moment) -> RoundPhase:
    if row.drawn_at is None:
        if row.judged:
            return RoundPhase.CLOSED
        if now.time > row.opened_at + parameters.draw_timeout:
            return RoundPhase.STALLED
        # BlockHashRandomness: a point is a block number, known in every block after it.
        known = now.block > row.draw_point
        return RoundPhase.DRAWABLE if known else RoundPhase.AWAITING_RANDOMNESS
    reveals_from = row.all_committed_at
    if reveals_from is None:
        reveals_from = row.drawn_at + parameters.commit_window
        if now.time <= reveals_from:
            return RoundPhase.COMMITTING
    if row.revealed == row.committed or now.time > reveals_from + parameters.reveal_window:
        return RoundPhase.CLOSED
    return RoundPhase.REVEALING
