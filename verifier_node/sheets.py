"""A member's score sheet, in environments without a right answer: graded, recorded, committed and
shown.

Before the vote: each member commits to its sheet in the first third of its commit window and shows
it in the second; from what all have shown, everybody computes the same verdicts, and votes on them
as on any others. The sheet and its salt are in the journal before the commitment is signed.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from enum import Enum, auto

from marketplace.chain.client import MarketClient
from marketplace.chain.records import Batch, BatchPhase, Round, Seat, SheetPhase
from marketplace.protocol.commitments import new_salt
from marketplace.protocol.errors import (
    CheckpointError,
    EnvironmentMismatch,
    MalformedBatch,
    SamplerError,
    SpecError,
    StorageError,
)
from marketplace.protocol.sheets import pack, sheet_commitment
from marketplace.protocol.verdict import OUTCOMES
from verifier_node.checking import BatchChecker
from verifier_node.duties import Done, Duty
from verifier_node.journal import Journal, Sheet, SheetKey
from verifier_node.judges import Judge

log = logging.getLogger("tracemarket.verifier")


class Next(Enum):
    """What a member goes on with. VOTE: nothing here is in the way of its vote. WAIT: sheets are
    still to come."""

    VOTE = auto()
    WAIT = auto()


class SheetDesk:
    """The score sheets of one verifier key on one market. judge: None for a node that has none: it
    shows no sheets, and votes on what others showed."""

    def __init__(
        self,
        client: MarketClient,
        journal: Journal,
        checker: BatchChecker,
        judge: Judge | None = None,
        *,
        randbytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._client = client
        self._journal = journal
        self._checker = checker
        self._judge = judge
        self._randbytes = randbytes

    def step(self, batch: Batch, round_: Round, seat: Seat) -> Done | Next:
        """What is due about the sheets of a batch before its member votes in a round."""
        try:
            if self._checker.rubric(batch) is None:
                return Next.VOTE
        except (SpecError, StorageError):
            return Next.VOTE  # the vote says that it is unavailable
        phase = self._client.sheet_phase(batch.id)
        if phase is SheetPhase.CLOSED:
            return Next.VOTE
        if round_.id == self._client.rounds_of(batch.id)[0]:
            if phase is SheetPhase.COMMITTING:
                return self._commit(batch, seat)
            if phase is SheetPhase.REVEALING:
                return self._show(batch, seat)
        return Next.WAIT

    def end(self, batch: Batch) -> Done | None:
        """Pays the judges of a batch that has come to its end, where that is still to do."""
        panel = self._client.panel(batch.id)
        if panel.seats == 0 or panel.closed:
            return None
        if batch.phase is BatchPhase.SETTLED and batch.attestation not in OUTCOMES:
            sent = self._client.pay_judges(batch.id)
            paid = sent.event("JudgesPaid").args["paidSheets"]
            return Done(batch.id, Duty.PAY, f"{paid} of {panel.revealed} sheets")
        self._client.release_sheets(batch.id)
        return Done(batch.id, Duty.PAY, "sheets released")

    def _commit(self, batch: Batch, seat: Seat) -> Done | Next:
        if self._client.sheet_record(batch.id, seat.index) is not None:
            return Next.WAIT
        key = self._key(batch)
        sheet = self._journal.find_sheet(key)
        note = "from the journal"
        if sheet is None:
            grades = self._graded(batch)
            if grades is None:
                return Next.WAIT
            sheet = Sheet(pack(grades), new_salt(self._randbytes))
            self._journal.record_sheet(key, sheet)
            assert self._judge is not None  # it graded
            note = f"graded by {self._judge.name}"
        self._client.commit_sheet(batch.id, seat.index, self._commitment(batch, sheet))
        return Done(batch.id, Duty.JUDGE, note)

    def _show(self, batch: Batch, seat: Seat) -> Done | Next:
        sheet = self._journal.find_sheet(self._key(batch))
        on_chain = self._client.sheet_record(batch.id, seat.index)
        if sheet is None or on_chain != self._commitment(batch, sheet):
            return Next.WAIT  # shown already, or never committed
        self._client.reveal_sheet(batch.id, seat.index, sheet.sheet, sheet.salt)
        return Done(batch.id, Duty.SHOW, f"{len(sheet.sheet)} bytes")

    def _graded(self, batch: Batch) -> list[int] | None:
        """A grade for each trace; None (logged) where there is nothing to grade, or no judge."""
        if self._judge is None:
            log.warning(
                "no_judge batch=%d fix=run the node with --judge or --judge-endpoint", batch.id
            )
            return None
        try:
            asked = self._checker.to_grade(batch)
            found = self._judge.grade(asked.rubric, list(asked.items.values()))
        except (EnvironmentMismatch, MalformedBatch, SpecError, StorageError) as error:
            log.info("content_awaited batch=%d why=%s", batch.id, error)
            return None
        except (CheckpointError, SamplerError) as error:
            log.error("judge_failed batch=%d judge=%s why=%s", batch.id, self._judge.name, error)
            return None
        grades = [0] * asked.count
        for place, grade in zip(asked.items, found, strict=True):
            grades[place] = grade
        return grades

    def _commitment(self, batch: Batch, sheet: Sheet) -> bytes:
        key = self._key(batch)
        return sheet_commitment(
            key.chain_id,
            key.contract,
            key.batch,
            key.root,
            key.verifier,
            sheet.sheet,
            sheet.salt,
        )

    def _key(self, batch: Batch) -> SheetKey:
        deployment = self._client.deployment
        return SheetKey(
            deployment.chain_id,
            deployment.address("sheets"),
            batch.id,
            batch.root,
            self._client.address,
        )
