"""Rows about juries -> models of the API."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from marketplace.api import sheet_models as models
from marketplace.indexer.queries import Snapshot
from marketplace.indexer.rows import BatchRow, GoldRow, JudgeRow, PanelRow, PotRow, SheetRow
from marketplace.protocol.sheets import UNKNOWN, Graded, Record, medians, unpack

GOLD_SHEETS: Final = 64
"""The latest ones that count, as verifiers do (verifier_node.panels)."""


def pot(row: PotRow) -> models.Pot:
    aside = row.funded - row.available - row.paid - row.refunded
    return models.Pot(
        bounty=row.bounty,
        per_trace=str(row.per_trace),
        available=str(row.available),
        set_aside=str(aside),
        funded=str(row.funded),
        paid=str(row.paid),
        refunded=str(row.refunded),
        open=row.open,
    )


def panel(
    seen: Snapshot, batch: BatchRow, row: PanelRow, calibrators: Sequence[str]
) -> models.Panel:
    """calibrators: whose gold makes weights, as the environment's spec names them."""
    known = _records(seen, batch, calibrators)
    sheets = seen.sheets(batch.id)
    graded = [
        Graded(one.verifier, one.seat, _grades(one.sheet, batch.count), known[one.verifier].weight)
        for one in sheets
        if one.sheet is not None
    ]
    by_seat = {one.seat: one for one in graded}
    weighed = any(one.weight for one in graded)
    return models.Panel(
        batch=batch.id,
        seats=row.seats,
        committed=row.committed,
        revealed=row.revealed,
        per_sheet=str(row.per_sheet),
        begun_at=row.begun_at,
        closed_at=row.closed_at,
        paid_sheets=row.paid_sheets,
        sheets=[_sheet(one, by_seat.get(one.seat)) for one in sheets],
        medians=list(medians(graded)) if weighed else None,
        gold=[_gold(one, batch.count) for one in seen.gold_of(batch.id)],
    )


def judge(row: JudgeRow) -> models.JudgeBalance:
    return models.JudgeBalance(
        address=row.address,
        balance=str(row.balance),
        earned=str(row.earned),
        refunded=str(row.refunded),
        withdrawn=str(row.withdrawn),
    )


def _sheet(row: SheetRow, graded: Graded | None) -> models.Sheet:
    return models.Sheet(
        seat=row.seat,
        verifier=row.verifier,
        committed_at=row.committed_at,
        revealed_at=row.revealed_at,
        grades=None if graded is None else list(graded.grades),
        weight=None if graded is None else graded.weight,
        paid=None if row.paid is None else str(row.paid),
    )


def _gold(row: GoldRow, count: int) -> models.Gold:
    return models.Gold(
        planter=row.planter,
        grades=[
            None if grade == UNKNOWN else grade for grade in _grades(row.sheet, count, gold=True)
        ],
        block=row.block,
        opened_at=row.opened_at,
    )


def _records(
    seen: Snapshot, batch: BatchRow, calibrators: Sequence[str]
) -> defaultdict[str, Record]:
    """Every judge's record on gold before a batch, as verifier_node.panels.records finds it."""
    found: defaultdict[str, Record] = defaultdict(Record)
    for gold in seen.gold_before(batch, calibrators, GOLD_SHEETS):
        about = seen.batch(gold.batch)
        if about is None:  # foreign keys exclude it
            raise LookupError(f"gold about batch {gold.batch}, which is not there")
        right = _grades(gold.sheet, about.count, gold=True)
        for sheet in seen.sheets(gold.batch):
            if sheet.sheet is not None:
                given = _grades(sheet.sheet, about.count)
                found[sheet.verifier] = found[sheet.verifier].with_sheet(given, right)
    return found


def _grades(sheet: str, count: int, *, gold: bool = False) -> tuple[int, ...]:
    return unpack(bytes.fromhex(sheet.removeprefix("0x")), count, gold=gold)
