"""From the sheets of a batch to its median grades, the same for everybody who reads the chain.

Which sheets: those revealed for the batch's first round, for members of every later round are
judged against one final verdict. Which weights: from gold sheets of the spec's calibrators that
were opened before the block of the batch's commit, about batches of the same environment. Chain
history alone decides.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, SheetPhase
from marketplace.chain.sheet_reads import GoldSheet, RevealedSheet
from marketplace.gym.spec import RubricScoring
from marketplace.protocol.errors import ChainError
from marketplace.protocol.sheets import Graded, Record, agreement, medians, paid_for, unpack

GOLD_SHEETS: Final = 64
"""The latest ones that count: a judge may change, and so may its model."""


@dataclass(frozen=True, slots=True)
class PanelResult:
    """What the jury of a batch says. grades: the median of every trace; None where there are too
    few sheets of judges with any weight (`needed`)."""

    sheets: tuple[Graded, ...]
    needed: int
    grades: tuple[int, ...] | None

    @property
    def counted(self) -> int:
        """Sheets of judges with any weight."""
        return sum(one.weight > 0 for one in self.sheets)

    def agreements(self) -> tuple[int, ...]:
        """On how many traces each sheet agrees with the weighted medians."""
        if self.grades is None:
            return (0,) * len(self.sheets)
        return tuple(agreement(one.grades, self.grades) for one in self.sheets)

    def paid(self) -> tuple[bool, ...]:
        """Which sheets the contract pays."""
        return paid_for(self.sheets)


class SheetsOpen(ChainError):
    """Sheets are still to come: there is nothing to say yet."""


def panel_of(reader: MarketReader, batch: Batch, rubric: RubricScoring) -> PanelResult:
    """The jury's word on a batch. SheetsOpen before its sheets are closed."""
    if reader.sheet_phase(batch.id) is not SheetPhase.CLOSED:
        raise SheetsOpen(f"the score sheets of batch {batch.id} are not closed")
    first = reader.round(reader.rounds_of(batch.id)[0])
    needed = rubric.min_sheets or first.seats // 2 + 1
    revealed = reader.revealed_sheets(batch.id)
    known = records(reader, batch, rubric)
    graded = tuple(
        Graded(one.verifier, one.seat, unpack(one.sheet, batch.count), known[one.verifier].weight)
        for one in revealed
    )
    result = PanelResult(graded, needed, None)
    if result.counted < needed:
        return result
    return PanelResult(graded, needed, medians(graded))


def records(reader: MarketReader, batch: Batch, rubric: RubricScoring) -> dict[str, Record]:
    """Every verifier's record on gold before a batch. Unknown ones have an empty record."""
    found: defaultdict[str, Record] = defaultdict(Record)
    trusted = set(rubric.calibrators)
    if not trusted:
        return found
    environment = reader.bounty(batch.bounty).terms.environment
    until = reader.batch_committed(batch.id).block - 1
    golds = [one for one in reader.gold_sheets(until) if one.planter.lower() in trusted]
    for gold in reversed(golds[-GOLD_SHEETS:]):
        about = reader.batch(gold.batch)
        if reader.bounty(about.bounty).terms.environment != environment:
            continue
        for sheet in reader.revealed_sheets(gold.batch):
            found[sheet.verifier] = _extended(found[sheet.verifier], sheet, gold, about.count)
    return found


def _extended(record: Record, sheet: RevealedSheet, gold: GoldSheet, count: int) -> Record:
    return record.with_sheet(unpack(sheet.sheet, count), unpack(gold.sheet, count, gold=True))
