"""Reads of ScoreSheets: what judges graded, what gold says, what pots hold."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.chain.connection import Connection
from marketplace.chain.records import SheetPhase
from marketplace.protocol.hashing import ZERO32, uint


@dataclass(frozen=True, slots=True)
class Panel:
    """The sheets of a batch. per_sheet: token base units kept for each. closed: paid or released.
    seats is 0 before the first commitment."""

    per_sheet: int
    seats: int
    committed: int
    revealed: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Pot:
    """What a bounty pays judges. per_trace: for one trace on one sheet, 0 where it pays none.
    open: batches whose sheets are begun and not paid or released."""

    per_trace: int
    available: int
    open: int


@dataclass(frozen=True, slots=True)
class RevealedSheet:
    """A sheet as it stands in its event."""

    batch: int
    verifier: str
    seat: int
    sheet: bytes
    block: int


@dataclass(frozen=True, slots=True)
class GoldSheet:
    """An opened gold sheet. batch: that it is about. block: in which it was opened."""

    batch: int
    planter: str
    sheet: bytes
    block: int


class SheetReader(Connection):
    """Typed reads of ScoreSheets; made as a Connection is."""

    def sheet_phase(self, batch: int) -> SheetPhase:
        return SheetPhase(self._read("sheets", "phaseOf", uint(batch, 64, "batch")))

    def panel(self, batch: int) -> Panel:
        per_sheet, seats, committed, revealed, _, closed = self._read(
            "sheets", "panelOf", uint(batch, 64, "batch")
        )
        return Panel(per_sheet, seats, committed, revealed, closed)

    def sheet_record(self, batch: int, seat: int) -> bytes | None:
        """A seat's commitment, then the hash of its sheet; None before either."""
        found = bytes(
            self._read("sheets", "sheetOf", uint(batch, 64, "batch"), uint(seat, 8, "seat"))
        )
        return None if found == ZERO32 else found

    def revealed_sheets(self, batch: int) -> tuple[RevealedSheet, ...]:
        """The sheets of a batch, by seat."""
        first = self._read("market", "roundsOf", uint(batch, 64, "batch"))[0]
        drawn_at = self._read("rounds", "get", first)[3]
        if drawn_at == 0:
            return ()
        window = self.parameters.commit_window
        found = self.events_between(drawn_at, drawn_at + window, "SheetRevealed", {"batch": batch})
        sheets = (
            RevealedSheet(
                batch,
                event.args["verifier"],
                event.args["seat"],
                bytes(event.args["sheet"]),
                event.block,
            )
            for event in found
        )
        return tuple(sorted(sheets, key=lambda one: one.seat))

    def gold_sheets(self, to_block: int) -> tuple[GoldSheet, ...]:
        """The gold sheets that were opened up to a block, oldest first."""
        first = self.deployment.block
        return tuple(
            GoldSheet(
                event.args["batch"], event.args["planter"], bytes(event.args["sheet"]), event.block
            )
            for event in self.events(first, to_block, names=["GoldOpened"])
        )

    def pot(self, bounty: int) -> Pot:
        per_trace, available, open_ = self._read("sheets", "potOf", uint(bounty, 64, "bounty"))
        return Pot(per_trace, available, open_)

    def judging_balance(self, account: str) -> int:
        """What an account earned by judging and can withdraw, in token base units."""
        return int(self._read("sheets", "balanceOf", account))
