"""The verifier's loop: see batches and disputes, do what is due, go on.

Every pass is complete in itself (`run_once`): what happened is read from the chain, what was
decided from the journal, so the node can be killed between any two lines and started again.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from threading import Event as Signal

from marketplace.chain.client import MarketClient
from marketplace.chain.delivering import BeaconKeeper
from marketplace.chain.errors import ContractError
from marketplace.chain.records import Batch, BatchPhase, Round, RoundPhase, Seat, SeatState
from marketplace.protocol.errors import ChainError, StorageError
from marketplace.protocol.sheets import NO_VERDICT, abstention
from marketplace.protocol.verdict import UNAVAILABLE, encode_verdicts
from marketplace.storage.store import ContentStore
from verifier_node.checking import BatchChecker
from verifier_node.delivering import bring
from verifier_node.disputes import CourtDesk
from verifier_node.duties import KEEPING, Done, Duty, duty
from verifier_node.journal import Journal
from verifier_node.judges import Judge
from verifier_node.narrowing import narrow
from verifier_node.passes import attend, watch
from verifier_node.relay_link import RelayLink
from verifier_node.sheets import Next, SheetDesk
from verifier_node.voting import Voter
from verifier_node.watchtower import Watchtower

log = logging.getLogger("tracemarket.verifier")


class VerifierNode:
    """One verifier key at work on one market: in committees, in juries, and where it is one as
    keeper and watcher.

    keeper: also makes the calls that anybody may make (draw, tally, settle, void, and those of
    disputes). patience: share of the commit window (0 to 1) during which content that can't be
    fetched is asked for again before the node says "unavailable": miners publish after their
    commit is included. fetch_seconds: how long one look for a verdict file may take.
    collect_above: token base units of fees above which they are withdrawn to the verifier's own
    address; None leaves them in the ledger. watchtower: disputes wrong attestations; None for a
    node that does not. beacons: delivers the beacons that its batches and disputes wait for, in a
    market that draws from one; None leaves that to others. relay, relay_share: who brings this
    member's votes on chain, and for how long it may (see Voter). judge: grades texts of
    environments without a right answer; None shows no score sheets.
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
        fetch_seconds: float = 20.0,
        collect_above: int | None = None,
        watchtower: Watchtower | None = None,
        beacons: BeaconKeeper | None = None,
        relay: RelayLink | None = None,
        relay_share: float = 0.5,
        judge: Judge | None = None,
        randbytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._client = client
        self._store = store
        self._journal = journal
        self._checker = checker
        self._keeper = keeper
        self._fetch_seconds = fetch_seconds
        self._collect_above = collect_above
        self._watchtower = watchtower
        self._beacons = beacons
        self._market = client.deployment.address("market")
        self._voter = Voter(
            client,
            journal,
            patience=patience,
            relay=relay,
            relay_share=relay_share,
            randbytes=randbytes,
        )
        self._sheets = SheetDesk(client, journal, checker, judge, randbytes=randbytes)
        self._desk = CourtDesk(
            client,
            store,
            journal,
            self._voter,
            checker,
            keeper=keeper,
            fetch_seconds=fetch_seconds,
            beacons=beacons,
        )

    def run_once(self) -> list[Done]:
        """One pass over all open batches and disputes. Returns what was done; an empty list
        means nothing was due. What fails is logged and met again on the next pass."""
        batches = watch(
            self._client,
            self._journal,
            self._market,
            begins="BatchCommitted",
            ends=["BatchSettled", "BatchVoided"],
            field="batch",
        )
        done = attend("batch", batches, self._attend)
        # After the batches: a dispute that a watcher opens now is for the next pass.
        done += self._desk.run_once()
        if self._watchtower is not None:
            done += self._watchtower.run_once()
        self._collect()
        self._checker.follow()
        return done

    def follow(self, stop: Signal, poll: float = 2.0) -> None:
        """Passes until `stop` is set; poll: seconds between two. The chain's failures (a node
        that is down, a timeout) are logged and waited out."""
        follow(self.run_once, stop, poll)

    def _attend(self, batch_id: int) -> Done | None:
        if batch_id > self._client.batch_count():  # a reorg took it back
            self._journal.forget(self._market, batch_id)
            return None
        batch = self._client.batch(batch_id)
        round_phase, round_, seat = RoundPhase.NONE, None, None
        if batch.phase is BatchPhase.IN_ROUND:
            round_ = self._client.round(batch.round)
            round_phase = round_.phase
            if self._beacons is not None and bring(self._client, self._beacons, round_):
                return Done(
                    batch.id, Duty.DELIVER, f"round {round_.id}: beacon {round_.draw_point}"
                )
            if round_phase in (RoundPhase.COMMITTING, RoundPhase.REVEALING):
                seat = self._client.seat_of(batch.round, self._client.address)
        now_due = duty(
            batch.phase,
            round_phase,
            seat.state if seat else SeatState.NONE,
            disputes=batch.disputes,
        )
        if now_due is Duty.FORGET:
            if self._keeper and batch.phase is not BatchPhase.NONE:
                paid = self._sheets.end(batch)
                if paid is not None:
                    return paid
            self._journal.forget(self._market, batch_id)
            return None
        if now_due in KEEPING:
            return self._keep(batch, now_due) if self._keeper else None
        if round_ is not None and seat is not None:
            if now_due is Duty.CHECK:
                return self._commit(batch, round_, seat)
            if now_due is Duty.REVEAL:
                cast = self._voter.reveal(round_, seat)
                if cast is not None:
                    detail = f"round {round_.id}: {cast.attestation.units} units"
                    return Done(batch.id, Duty.REVEAL, detail)
        return None

    def _keep(self, batch: Batch, now_due: Duty) -> Done | None:
        if now_due is Duty.VOID:
            self._client.void_stalled(batch.id)
        elif now_due is Duty.DRAW:
            self._client.draw(batch.round)
        elif now_due is Duty.TALLY:
            try:
                self._client.tally(batch.id)
            except ContractError as error:
                if error.name != "BatchMarket_NarrowFirst":
                    raise
                # The round ended in conflict: one trace decides, where both sides are known.
                found = narrow(self._client, self._store, batch, timeout=self._fetch_seconds)
                if found is None:
                    return None
                return Done(batch.id, Duty.NARROW, f"round {batch.round}", found)
        else:
            self._client.settle(batch.id)
        return Done(batch.id, now_due, f"round {batch.round}")

    def _commit(self, batch: Batch, round_: Round, seat: Seat) -> Done | None:
        cast = self._voter.recorded(round_)
        note = "from the journal"
        if cast is None:
            step = self._sheets.step(batch, round_, seat)
            if step is not Next.VOTE:
                return step if isinstance(step, Done) else None
            finding = self._checker.find(batch)
            if finding.attestation == UNAVAILABLE and self._voter.must_wait(round_, finding.age):
                log.info("content_awaited batch=%d why=%s", batch.id, finding.note)
                return None
            note = finding.note
            cid = None
            if finding.check is not None:
                # Published before the vote counts, so that whoever trusts it can read it.
                cid = str(self._store.put(encode_verdicts(finding.check.verdicts)))
            said = finding.attestation
            if said == NO_VERDICT:
                # A root of its own: no quorum may come of it, so that the batch ends void.
                said = abstention(self._client.address)
            cast = self._voter.decide(round_, said, cid)
        if not self._voter.commit(round_, seat, cast):
            return None  # a relay has it
        return Done(batch.id, Duty.CHECK, f"round {round_.id}: {note}")

    def _collect(self) -> None:
        if self._collect_above is None:
            return
        fees = self._client.balance(self._client.address)
        if fees > self._collect_above:
            self._client.withdraw(fees)
            log.info("fees_collected amount=%s", self._client.token.format(fees))
        earned = self._client.judging_balance(self._client.address)
        if earned > self._collect_above:
            self._client.withdraw_judging()
            log.info("judging_collected amount=%s", self._client.token.format(earned))


def follow(run_once: Callable[[], list[Done]], stop: Signal, poll: float) -> None:
    """Passes until `stop` is set, `poll` seconds apart; the chain's failures and a full disk are
    waited out."""
    while not stop.is_set():
        try:
            run_once()
        except (ChainError, StorageError) as error:
            log.error("pass_failed error=%s why=%s", type(error).__name__, error)
        stop.wait(poll)
