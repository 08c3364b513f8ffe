"""What a verifier node does about disputes: sit in juries, defend what it signed, keep.

Passes are like the daemon's: what happened is read from the chain, what was decided from the
journal.
"""

from __future__ import annotations

import logging

from marketplace.chain.client import MarketClient
from marketplace.chain.delivering import BeaconKeeper
from marketplace.chain.records import (
    Batch,
    Dispute,
    DisputePhase,
    Kind,
    OpeningStatus,
    Round,
    RoundPhase,
    Seat,
    SeatState,
)
from marketplace.protocol.commitments import vote
from marketplace.protocol.disputes import (
    LeafVerdict,
    children_of,
    juror_attestation,
    leaf_tree,
    leaf_verdicts,
)
from marketplace.protocol.verdict import MALFORMED, SOUND, UNAVAILABLE, Attestation
from marketplace.storage.store import ContentStore
from verifier_node.checking import BatchChecker, Finding
from verifier_node.delivering import bring
from verifier_node.duties import KEEPING, Done, Duty, dispute_duty
from verifier_node.journal import Journal
from verifier_node.passes import attend, watch
from verifier_node.published import Published, published
from verifier_node.voting import Voter

log = logging.getLogger("tracemarket.verifier")


def juror_vote(kind: Kind, batch: int, index: int, finding: Finding) -> Attestation:
    """What a juror with this finding votes about verdict `index` of a batch."""
    if finding.attestation == UNAVAILABLE:
        return UNAVAILABLE
    if kind in (Kind.MALFORMED, Kind.UNAVAILABLE):
        disputed = MALFORMED if kind is Kind.MALFORMED else UNAVAILABLE
        return disputed if finding.attestation == disputed else SOUND
    if finding.check is None:  # no verdict of it can be right
        return finding.attestation
    return juror_attestation(batch, LeafVerdict.of(index, finding.check.verdicts[index]))


class CourtDesk:
    """The disputes of one market, as one verifier key attends to them.

    keeper: also makes the calls that anybody may make. fetch_seconds: how long one look for a
    verdict file may take. beacons: delivers what draws of juries wait for; None leaves that to
    others.
    """

    def __init__(
        self,
        client: MarketClient,
        store: ContentStore,
        journal: Journal,
        voter: Voter,
        checker: BatchChecker,
        *,
        keeper: bool = True,
        fetch_seconds: float = 20.0,
        beacons: BeaconKeeper | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._journal = journal
        self._voter = voter
        self._checker = checker
        self._keeper = keeper
        self._fetch_seconds = fetch_seconds
        self._beacons = beacons
        self._court = client.deployment.address("court")
        self._defended: tuple[bytes, Published] | None = None

    def run_once(self) -> list[Done]:
        """One pass over all open disputes. Returns what was done."""
        found = watch(
            self._client,
            self._journal,
            self._court,
            begins="DisputeOpened",
            ends=["DisputeClosed"],
            field="dispute",
        )
        return attend("dispute", found, self._attend)

    def _attend(self, dispute_id: int) -> Done | None:
        if dispute_id > self._client.dispute_count():  # a reorg took it back
            self._journal.forget(self._court, dispute_id)
            return None
        dispute = self._client.dispute(dispute_id)
        jury, seat = None, None
        if dispute.phase is DisputePhase.IN_JURY and dispute.jury is not None:
            jury = self._client.round(dispute.jury)
            if self._beacons is not None and bring(self._client, self._beacons, jury):
                return _done(dispute, Duty.DELIVER, f"jury {jury.id}: beacon {jury.draw_point}")
            if jury.phase in (RoundPhase.COMMITTING, RoundPhase.REVEALING):
                seat = self._client.seat_of(jury.id, self._client.address)
        now_due = due(self._client, dispute, jury, seat)
        if now_due is Duty.FORGET:
            self._journal.forget(self._court, dispute_id)
            return None
        if now_due in KEEPING:
            return keep(self._client, dispute, now_due) if self._keeper else None
        if now_due is Duty.DEFEND:
            return self._defend(dispute)
        if jury is not None and seat is not None:
            if now_due is Duty.CHECK:
                return self._commit(dispute, jury, seat)
            if now_due is Duty.REVEAL:
                cast = self._voter.reveal(jury, seat)
                if cast is not None:
                    return _done(dispute, Duty.REVEAL, f"jury {jury.id}")
        return None

    def _commit(self, dispute: Dispute, jury: Round, seat: Seat) -> Done | None:
        cast = self._voter.recorded(jury)
        note = "from the journal"
        if cast is None:
            finding = self._checker.find(self._client.batch(dispute.batch))
            if finding.attestation == UNAVAILABLE and self._voter.must_wait(jury, finding.age):
                log.info("content_awaited dispute=%d why=%s", dispute.id, finding.note)
                return None
            note = finding.note
            answer = juror_vote(dispute.kind, dispute.batch, dispute.index, finding)
            cast = self._voter.decide(jury, answer, None)
        if not self._voter.commit(jury, seat, cast):
            return None  # a relay has it
        return _done(dispute, Duty.CHECK, f"jury {jury.id}: {note}")

    # --- the defence of an attestation ---------------------------------------------------

    def _defend(self, dispute: Dispute) -> Done | None:
        batch = self._client.batch(dispute.batch)
        said = batch.attestation
        if said is None or batch.overturned != dispute.attestation or not self._signed(batch, said):
            return None
        opening = self._client.opening(dispute.id)
        known = self._behind(batch, said)
        if opening is None or opening.status is not OpeningStatus.ASKED or known is None:
            return None
        at = opening.node
        if at.size == 1:
            self._client.answer_verdict(dispute.id, batch.id, known.leaves[at.first])
            return _done(dispute, Duty.DEFEND, f"verdict {at.first} opened")
        self._client.answer(dispute.id, children_of(known.tree, at.first, at.size))
        return _done(dispute, Duty.DEFEND, f"verdicts {at.first} to {at.first + at.size - 1}")

    def _signed(self, batch: Batch, said: Attestation) -> bool:
        mine = (
            self._client.seat_of(round_, self._client.address)
            for round_ in self._client.rounds_of(batch.id)
        )
        wanted = vote(said)
        return any(
            seat is not None and seat.state is SeatState.REVEALED and seat.vote == wanted
            for seat in mine
        )

    def _behind(self, batch: Batch, said: Attestation) -> Published | None:
        """The verdicts behind an attestation: as published, else as this node finds them."""
        if self._defended is not None and self._defended[0] == said.root:
            return self._defended[1]
        found = published(
            self._client, self._store, batch, said, timeout=self._fetch_seconds
        ) or self._found_again(batch, said)
        if found is None:
            log.error("defence_impossible batch=%d why=no verdict file can be had", batch.id)
            return None
        self._defended = (said.root, found)
        return found

    def _found_again(self, batch: Batch, said: Attestation) -> Published | None:
        finding = self._checker.find(batch)
        if finding.check is None or finding.attestation != said:
            return None
        leaves = leaf_verdicts(finding.check.verdicts)
        return Published(leaves, leaf_tree(batch.id, leaves))


def due(client: MarketClient, dispute: Dispute, jury: Round | None, seat: Seat | None) -> Duty:
    """What is due about a dispute now. jury: its newest round where it is in one."""
    status = OpeningStatus.NONE
    if dispute.phase is DisputePhase.OPENING:
        opening = client.opening(dispute.id)
        status = OpeningStatus.NONE if opening is None else opening.status
    return dispute_duty(
        dispute.phase,
        status,
        RoundPhase.NONE if jury is None else jury.phase,
        SeatState.NONE if seat is None else seat.state,
    )


def keep(client: MarketClient, dispute: Dispute, now_due: Duty) -> Done:
    """Makes the call that moves a dispute on."""
    if now_due is Duty.DRAW:
        assert dispute.jury is not None  # it is in jury
        client.draw(dispute.jury)
    elif now_due is Duty.TALLY:
        client.tally_jury(dispute.id)
    elif now_due is Duty.CONCLUDE:
        client.conclude_opening(dispute.id)
    else:
        client.close_dispute(dispute.id)
    return _done(dispute, now_due, f"jury {dispute.jury}" if dispute.jury else "opening")


def _done(dispute: Dispute, what: Duty, detail: str) -> Done:
    return Done(dispute.batch, what, detail, dispute.id)
