"""The verifier's loop: see batches, do what is due, go on.

Every pass is complete in itself (`run_once`): what happened is read from the chain, what was
decided from the journal, so the node can be killed between any two lines and started again.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event as Signal

from marketplace.chain.client import MarketClient
from marketplace.chain.records import (
    Batch,
    BatchPhase,
    ContentId,
    Round,
    RoundPhase,
    Seat,
    SeatState,
)
from marketplace.protocol.commitments import commitment, new_salt
from marketplace.protocol.errors import ChainError, Reverted, TracemarketError
from marketplace.protocol.verdict import UNAVAILABLE, encode_verdicts
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore
from verifier_node.checking import BatchChecker
from verifier_node.duties import KEEPING, Duty, duty
from verifier_node.journal import Journal, Question, Vote

log = logging.getLogger("tracemarket.verifier")

_LIFE = ("BatchCommitted", "BatchSettled", "BatchVoided")

REORG_DEPTH = 64
"""Blocks read again on every pass: batches that a reorg renumbered are found."""


@dataclass(frozen=True, slots=True)
class Done:
    """One thing a pass did. detail: for people."""

    batch: int
    duty: Duty
    detail: str


class VerifierNode:
    """One verifier key at work on one market.

    keeper: also makes the calls that anybody may make (draw, tally, settle, void). patience:
    share of the commit window (0 to 1) during which content that can't be fetched is asked for
    again before the node says "unavailable": miners publish after their commit is included.
    collect_above: token base units of fees above which they are withdrawn to the verifier's own
    address; None leaves them in the ledger.
    """

    def __init__(
        self,
        client: MarketClient,
        store: ContentStore,
        journal: Journal,
        checker: BatchChecker,
        *,
        keeper: bool = True,
        patience: float = 0.5,
        collect_above: int | None = None,
        randbytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._client = client
        self._store = store
        self._journal = journal
        self._checker = checker
        self._keeper = keeper
        self._patience = patience
        self._collect_above = collect_above
        self._randbytes = randbytes
        self._market = client.deployment.address("market")

    def run_once(self) -> list[Done]:
        """One pass over all open batches. Returns what was done; an empty list means nothing
        was due. A batch that fails is logged and met again on the next pass."""
        self._watch()
        done: list[Done] = []
        for batch in self._journal.watched(self._market):
            try:
                found = self._attend(batch)
            except Reverted as error:
                # Somebody else made the call first, or the phase moved on: look again next time.
                log.info("call_refused batch=%d why=%s", batch, error)
                continue
            except TracemarketError as error:
                log.error(
                    "batch_failed batch=%d error=%s why=%s", batch, type(error).__name__, error
                )
                continue
            if found is not None:
                log.info(
                    "duty_done batch=%d duty=%s detail=%s", batch, found.duty.name, found.detail
                )
                done.append(found)
        self._collect()
        return done

    def follow(self, stop: Signal, poll: float = 2.0) -> None:
        """Passes until `stop` is set; poll: seconds between two. The chain's failures (a node
        that is down, a timeout) are logged and waited out."""
        while not stop.is_set():
            try:
                self.run_once()
            except ChainError as error:
                log.error("pass_failed error=%s why=%s", type(error).__name__, error)
            stop.wait(poll)

    def _watch(self) -> None:
        head = self._client.head().number
        seen = self._journal.cursor(self._market)
        first = self._client.deployment.block
        start = first if seen is None else max(first, seen - REORG_DEPTH)
        opened: set[int] = set()
        for event in self._client.events(start, head, names=_LIFE):
            if event.name == "BatchCommitted":
                opened.add(event.args["batch"])
            else:
                opened.discard(event.args["batch"])
        self._journal.advance(self._market, head, sorted(opened))

    def _attend(self, batch_id: int) -> Done | None:
        if batch_id > self._client.batch_count():  # a reorg took it back
            self._journal.forget(self._market, batch_id)
            return None
        batch = self._client.batch(batch_id)
        round_phase, round_, seat = RoundPhase.NONE, None, None
        if batch.phase is BatchPhase.IN_ROUND:
            round_ = self._client.round(batch.round)
            round_phase = round_.phase
            if round_phase in (RoundPhase.COMMITTING, RoundPhase.REVEALING):
                seat = self._client.seat_of(batch.round, self._client.address)
        now_due = duty(batch.phase, round_phase, seat.state if seat else SeatState.NONE)
        if now_due is Duty.FORGET:
            self._journal.forget(self._market, batch_id)
            return None
        if now_due in KEEPING:
            return self._keep(batch, now_due) if self._keeper else None
        if round_ is not None and seat is not None:
            if now_due is Duty.CHECK:
                return self._commit(batch, round_, seat)
            if now_due is Duty.REVEAL:
                return self._reveal(batch, round_, seat)
        return None

    def _keep(self, batch: Batch, now_due: Duty) -> Done:
        if now_due is Duty.VOID:
            # A late draw is better than none; only if that fails is the batch made void.
            try:
                self._client.draw(batch.round)
                now_due = Duty.DRAW
            except Reverted:
                self._client.void_stalled(batch.id)
        elif now_due is Duty.DRAW:
            self._client.draw(batch.round)
        elif now_due is Duty.TALLY:
            self._client.tally(batch.id)
        else:
            self._client.settle(batch.id)
        return Done(batch.id, now_due, f"round {batch.round}")

    def _commit(self, batch: Batch, round_: Round, seat: Seat) -> Done | None:
        question = self._question(round_)
        vote = self._journal.find(question)
        note = "from the journal"
        if vote is None:
            finding = self._checker.find(batch)
            if finding.attestation == UNAVAILABLE and not self._patience_is_over(round_):
                log.info("content_awaited batch=%d why=%s", batch.id, finding.note)
                return None
            note = finding.note
            cid = None
            if finding.check is not None:
                # Published before the vote counts, so that whoever trusts it can read it.
                cid = str(self._store.put(encode_verdicts(finding.check.verdicts)))
            vote = Vote(finding.attestation, new_salt(self._randbytes), cid)
            self._journal.record(question, vote)
        digest = commitment(
            question.chain_id,
            question.rounds,
            question.round,
            question.subject,
            question.verifier,
            vote.attestation,
            vote.salt,
        )
        self._client.commit_verdict(round_.id, seat.index, digest)
        return Done(batch.id, Duty.CHECK, f"round {round_.id}: {note}")

    def _reveal(self, batch: Batch, round_: Round, seat: Seat) -> Done | None:
        vote = self._journal.find(self._question(round_))
        if vote is None:
            log.error(
                "salt_missing batch=%d round=%d fix=run the node with the journal that committed",
                batch.id,
                round_.id,
            )
            return None
        where = ContentId(bytes(32), 0)
        if vote.cid is not None:
            cid = Cid.parse(vote.cid)
            where = ContentId(cid.digest, cid.codec)
        self._client.reveal_verdict(round_.id, seat.index, vote.attestation, vote.salt, where)
        return Done(batch.id, Duty.REVEAL, f"round {round_.id}: {vote.attestation.units} units")

    def _question(self, round_: Round) -> Question:
        deployment = self._client.deployment
        return Question(
            deployment.chain_id,
            deployment.address("rounds"),
            round_.id,
            round_.subject,
            self._client.address,
        )

    def _patience_is_over(self, round_: Round) -> bool:
        assert round_.drawn_at is not None  # it is committing
        waited = self._client.head().timestamp - round_.drawn_at
        return waited >= self._patience * self._client.parameters.commit_window

    def _collect(self) -> None:
        if self._collect_above is None:
            return
        fees = self._client.balance(self._client.address)
        if fees > self._collect_above:
            self._client.withdraw(fees)
            log.info("fees_collected amount=%s", self._client.token.format(fees))
