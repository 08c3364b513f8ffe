"""Rules for score sheets: pots, panels, sheets, judges' pay, gold."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from marketplace.indexer.events import LogEvent
from marketplace.indexer.projecting import Rows, Rulebook
from marketplace.indexer.rows import (
    BATCHES,
    GOLD,
    GOLD_PLANTINGS,
    JUDGES,
    PANELS,
    POTS,
    ROUNDS,
    SHEETS,
    BatchRow,
    GoldPlantingRow,
    GoldRow,
    JudgeRow,
    PanelRow,
    PotRow,
    RoundRow,
    SheetRow,
)
from marketplace.protocol.sheets import Graded, paid_for, unpack

RULES: Final = Rulebook()


@RULES.on("sheets", "PotOpened")
def _pot_opened(rows: Rows, event: LogEvent) -> None:
    args = event.args
    # Sheets may have been begun before there was a pot: they are counted, and earn nothing.
    row = rows.get(POTS, args["bounty"]) or PotRow(args["bounty"], 0, event.at)
    rows.put(POTS, replace(row, per_trace=args["perTrace"], opened_at=event.at))


@RULES.on("sheets", "PotFunded")
def _pot_funded(rows: Rows, event: LogEvent) -> None:
    amount = event.args["amount"]
    row = rows.need(POTS, event.args["bounty"])
    rows.put(POTS, replace(row, available=row.available + amount, funded=row.funded + amount))


@RULES.on("sheets", "PotRefunded")
def _pot_refunded(rows: Rows, event: LogEvent) -> None:
    amount = event.args["amount"]
    row = rows.need(POTS, event.args["bounty"])
    rows.put(POTS, replace(row, available=row.available - amount, refunded=row.refunded + amount))
    judge = _judge(rows, event.args["poster"])
    rows.put(
        JUDGES,
        replace(judge, balance=judge.balance + amount, refunded=judge.refunded + amount),
    )


@RULES.on("sheets", "SheetCommitted")
def _committed(rows: Rows, event: LogEvent) -> None:
    args = event.args
    panel = rows.get(PANELS, args["batch"]) or _begin(rows, event)
    rows.put(PANELS, replace(panel, committed=panel.committed + 1))
    rows.put(
        SHEETS,
        SheetRow(
            batch=args["batch"],
            seat=args["seat"],
            verifier=args["verifier"],
            commitment=args["commitment"],
            committed_at=event.at,
        ),
    )


def _begin(rows: Rows, event: LogEvent) -> PanelRow:
    """Sets aside what the pot has for a sheet of every seat, as the contract does without a log."""
    batch = rows.need(BATCHES, event.args["batch"])
    seats = _first_round(rows, batch).seats
    if seats == 0:
        raise rows.gap(f"batch {batch.id} has no committee yet")
    # A bounty without a pot counts its panels all the same.
    pot = rows.get(POTS, batch.bounty) or PotRow(batch.bounty, 0, event.at)
    each = min(pot.per_trace * batch.count, pot.available // seats)
    rows.put(POTS, replace(pot, available=pot.available - each * seats, open=pot.open + 1))
    return PanelRow(batch.id, per_sheet=each, seats=seats, begun_at=event.at)


def _first_round(rows: Rows, batch: BatchRow) -> RoundRow:
    row = rows.need(ROUNDS, batch.round)
    for _ in range(batch.rounds - 1):
        if row.previous is None:
            raise rows.gap(f"batch {batch.id} has a round too few")
        row = rows.need(ROUNDS, row.previous)
    return row


@RULES.on("sheets", "SheetRevealed")
def _revealed(rows: Rows, event: LogEvent) -> None:
    batch, seat = event.args["batch"], event.args["seat"]
    panel = rows.need(PANELS, batch)
    rows.put(PANELS, replace(panel, revealed=panel.revealed + 1))
    sheet = rows.need(SHEETS, batch, seat)
    rows.put(SHEETS, replace(sheet, sheet=event.args["sheet"], revealed_at=event.at))


@RULES.on("sheets", "JudgesPaid")
def _paid(rows: Rows, event: LogEvent) -> None:
    batch = rows.need(BATCHES, event.args["batch"])
    panel = rows.need(PANELS, batch.id)
    each, number = event.args["perSheet"], event.args["paidSheets"]
    if each != panel.per_sheet:
        raise rows.gap(f"{each} was paid for a sheet of batch {batch.id}, not {panel.per_sheet}")
    # The log says how many, not which: that follows from the sheets.
    sheets = [
        sheet
        for seat in range(panel.seats)
        if (sheet := rows.get(SHEETS, batch.id, seat)) is not None
    ]
    shown = [sheet for sheet in sheets if sheet.sheet is not None]
    graded = [
        Graded(one.verifier, one.seat, unpack(bytes.fromhex((one.sheet or "")[2:]), batch.count))
        for one in shown
    ]
    earned = {one.seat for one, paid in zip(shown, paid_for(graded), strict=True) if paid}
    if len(earned) != number:
        raise rows.gap(f"{number} sheets of batch {batch.id} were paid, not {len(earned)}")
    for sheet in sheets:
        amount = each if sheet.seat in earned else 0
        rows.put(SHEETS, replace(sheet, paid=amount))
        if amount:
            judge = _judge(rows, sheet.verifier)
            rows.put(
                JUDGES,
                replace(judge, balance=judge.balance + amount, earned=judge.earned + amount),
            )
    _close(rows, event, batch, panel, number)


@RULES.on("sheets", "SheetsReleased")
def _released(rows: Rows, event: LogEvent) -> None:
    batch = rows.need(BATCHES, event.args["batch"])
    panel = rows.need(PANELS, batch.id)
    for seat in range(panel.seats):
        sheet = rows.get(SHEETS, batch.id, seat)
        if sheet is not None:
            rows.put(SHEETS, replace(sheet, paid=0))
    _close(rows, event, batch, panel, 0)


def _close(rows: Rows, event: LogEvent, batch: BatchRow, panel: PanelRow, number: int) -> None:
    rows.put(PANELS, replace(panel, closed_at=event.at, paid_sheets=number))
    pot = rows.need(POTS, batch.bounty)
    back = panel.per_sheet * (panel.seats - number)
    rows.put(
        POTS,
        replace(
            pot,
            available=pot.available + back,
            paid=pot.paid + panel.per_sheet * number,
            open=pot.open - 1,
        ),
    )


@RULES.on("sheets", "EarningsWithdrawn")
def _withdrawn(rows: Rows, event: LogEvent) -> None:
    amount = event.args["amount"]
    judge = rows.need(JUDGES, event.args["account"])
    rows.put(
        JUDGES,
        replace(judge, balance=judge.balance - amount, withdrawn=judge.withdrawn + amount),
    )


@RULES.on("sheets", "GoldPlanted")
def _gold_planted(rows: Rows, event: LogEvent) -> None:
    args = event.args
    rows.put(
        GOLD_PLANTINGS,
        GoldPlantingRow(args["commitment"], args["planter"], event.block, event.at),
    )


@RULES.on("sheets", "GoldOpened")
def _gold_opened(rows: Rows, event: LogEvent) -> None:
    args = event.args
    rows.put(
        GOLD,
        GoldRow(
            position=event.block * 2**24 + event.log_index,
            batch=args["batch"],
            planter=args["planter"],
            sheet=args["sheet"],
            block=event.block,
            opened_at=event.at,
        ),
    )


def _judge(rows: Rows, account: str) -> JudgeRow:
    return rows.get(JUDGES, account) or JudgeRow(account)
