"""The watcher: re-checks what committees attested, and disputes what is wrong.

Anybody with money for bonds can be one; no stake is needed. A case (what the watcher thinks of
one attestation) is in the journal before anything is sent, and what was sent is looked up on
chain before it is sent again: a restart neither doubles a dispute nor forgets an opening.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from marketplace.chain.client import MarketClient
from marketplace.chain.errors import ContractError
from marketplace.chain.records import (
    Batch,
    BatchPhase,
    Dispute,
    DisputePhase,
    Kind,
    Opening,
    OpeningStatus,
    Standing,
)
from marketplace.gym.checking import BatchCheck
from marketplace.protocol.commitments import vote
from marketplace.protocol.disputes import (
    Opened,
    claim,
    find_fault,
    first_difference,
    leaf_tree,
    leaf_verdicts,
    read_leaves,
    split,
)
from marketplace.protocol.hashing import keccak
from marketplace.protocol.merkle import batch_tree
from marketplace.protocol.verdict import (
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    VerdictTree,
    encode_verdicts,
)
from marketplace.storage.store import ContentStore
from verifier_node.checking import BatchChecker, Finding, fetch_lines
from verifier_node.disputes import due, juror_vote, keep
from verifier_node.duties import KEEPING, Done, Duty
from verifier_node.fetching import OnItsWay
from verifier_node.journal import Case, Journal, Stance
from verifier_node.passes import attend, watch
from verifier_node.published import Published, published

log = logging.getLogger("tracemarket.watcher")

_unforeseen = random.SystemRandom().random

_KINDS = {
    Stance.LEAF: (Kind.LEAF,),
    Stance.OPENING: (Kind.OPENING,),
    Stance.OUTCOME: (Kind.MALFORMED,),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about an attestation. place: the verdict to dispute. fault: the nodes that show
    one."""

    stance: Stance
    place: int | None = None
    fault: Opened | None = None


def plan(
    batch: int,
    said: Attestation,
    finding: Finding,
    behind: Callable[[], Published | None],
) -> Plan:
    """What a watcher with this finding (never "unavailable") does about an attestation.

    behind: fetches the verdict file that its signers published.
    """
    if said == finding.attestation:
        return Plan(Stance.AGREED)
    if said == UNAVAILABLE:
        # It may have come late: nobody lied, and a dispute would cost the watcher its bond.
        return Plan(Stance.LEFT)
    if said == MALFORMED:
        return Plan(Stance.OUTCOME)
    known = behind()
    if known is None:
        return Plan(Stance.OPENING)
    if (found := find_fault(batch, said, known.leaves)) is not None:
        return Plan(Stance.FAULT, fault=found[1])
    if finding.check is None:
        # Verdicts of what is no batch file: no trace can be proven to be in it.
        return Plan(Stance.OPENING)
    place = first_difference(leaf_verdicts(finding.check.verdicts), known.leaves)
    assert place is not None  # both trees are sound and their roots differ
    return Plan(Stance.LEAF, place)


def turn(own: VerdictTree | None, opening: Opening) -> bool:
    """On which side an answered opening goes on (True: right): where the watcher's own tree
    differs. own: None where it has none; then toward a verdict with a unit, which is surely
    wrong."""
    at, children = opening.node, opening.children
    assert children is not None  # it is answered
    if own is None:
        return children.left.units == 0 and children.right.units != 0
    return own.node(at.first, split(at.size)) == children.left


def worth_appealing(dispute: Dispute, finding: Finding) -> bool:
    """Whether a decision is against what a juror with this finding would have voted, so that a
    larger jury would let the attestation fall."""
    if dispute.standing is Standing.FALLS:
        return False
    answer = juror_vote(dispute.kind, dispute.batch, dispute.index, finding)
    return answer != UNAVAILABLE and vote(answer) != dispute.vote


class Watchtower:
    """One key's watch over one market.

    share: of the attestations that are re-checked (0 to 1). max_bonds: token base units of bonds
    at stake at once, at most, appeals aside. max_appeals: the same for the bonds of appeals
    against juries that decide against this watcher's finding; 0 for none. fetch_seconds: how long
    one look for a verdict file may take.
    chance: a number in [0, 1) for each attestation. demand_withheld: also demand an opening where
    the traces can't be had in the first half of the challenge window. If they then appear and
    the verdicts were right, that bond is lost: hence not without being told to.
    """

    def __init__(
        self,
        client: MarketClient,
        store: ContentStore,
        journal: Journal,
        checker: BatchChecker,
        *,
        max_bonds: int,
        max_appeals: int = 0,
        share: float = 1.0,
        fetch_seconds: float = 20.0,
        demand_withheld: bool = False,
        chance: Callable[[], float] = _unforeseen,
    ) -> None:
        self._client = client
        self._store = store
        self._journal = journal
        self._checker = checker
        self._max_bonds = max_bonds
        self._max_appeals = max_appeals
        self._accepted: set[tuple[int, int | None]] = set()  # disputes by the jury that decided
        self._share = share
        self._fetch_seconds = fetch_seconds
        self._demand_withheld = demand_withheld
        self._chance = chance
        deployment = client.deployment
        self._court = deployment.address("court")
        self._market = deployment.address("market")
        self._list = f"attested:{self._market}:{client.address}"

    def run_once(self) -> list[Done]:
        """One pass over all attested batches and all cases under way. Returns what was done."""
        batches = watch(
            self._client,
            self._journal,
            self._list,
            begins="BatchAttested",
            ends=["BatchSettled", "BatchVoided"],
            field="batch",
        )
        done = attend("batch", batches, self._look)
        for case in self._journal.open_cases(self._court, self._client.address):
            done += attend("batch", [case.batch], partial(self._pursue, case))
        return done

    # --- what to think of an attestation -------------------------------------------------

    def _look(self, batch_id: int) -> Done | None:
        """Records a case for a new attestation."""
        if batch_id > self._client.batch_count():  # a reorg took it back
            self._journal.forget(self._list, batch_id)
            return None
        batch = self._client.batch(batch_id)
        if batch.phase in (BatchPhase.SETTLED, BatchPhase.VOID):
            self._journal.forget(self._list, batch_id)
            return None
        said = batch.attestation
        if batch.phase is not BatchPhase.CHALLENGEABLE or said is None:
            return None
        me = self._client.address
        if self._journal.case(self._court, me, batch.id, said.root, batch.overturned) is not None:
            return None
        case = Case(batch.id, said.root, batch.overturned, Stance.PASSED)
        if self._chance() < self._share:
            finding = self._checker.find(batch)
            if finding.attestation != UNAVAILABLE or said == UNAVAILABLE:
                made = plan(batch.id, said, finding, lambda: self._behind(batch, said))
            elif said != MALFORMED and self._demand_withheld and self._half_over(batch, finding):
                made = Plan(Stance.OPENING)
            else:
                log.warning("attestation_unchecked batch=%d why=%s", batch.id, finding.note)
                return None
            own = None
            if made.stance is Stance.OPENING and finding.check is not None:
                own = encode_verdicts(finding.check.verdicts)
            case = replace(case, stance=made.stance, place=made.place, verdicts=own)
        self._keep(case)
        if case.stance in (Stance.PASSED, Stance.AGREED):
            return None
        if case.stance is Stance.LEFT:
            log.warning("attestation_wrong batch=%d stance=left", batch.id)
        return Done(batch.id, Duty.CHALLENGE, f"attestation is wrong: {case.stance}")

    def _half_over(self, batch: Batch, finding: Finding) -> bool:
        """Whether half of the challenge window was over when content was looked for in vain."""
        assert batch.attested_at is not None  # it is challengeable
        waited = self._client.head().timestamp - batch.attested_at - finding.age
        return 2 * waited >= self._client.parameters.challenge_window

    def _behind(self, batch: Batch, said: Attestation) -> Published | None:
        return published(self._client, self._store, batch, said, timeout=self._fetch_seconds)

    # --- what to do about it ---------------------------------------------------------------

    def _pursue(self, case: Case, batch_id: int) -> Done | None:
        if batch_id > self._client.batch_count():
            return self._end(case, Stance.LEFT, "a reorg took the batch back")
        if case.dispute is not None and (dispute := self._mine(case, case.dispute)):
            return self._follow(case, dispute)
        batch = self._client.batch(batch_id)
        if (own := self._find(case)) is not None:
            self._keep(replace(case, dispute=own.id))
            return Done(case.batch, Duty.CHALLENGE, "found on chain", own.id)
        said = batch.attestation
        if said is None or said.root != case.root or batch.overturned != case.number:
            return self._end(case, Stance.DONE, "the attestation has fallen")
        if batch.phase in (BatchPhase.SETTLED, BatchPhase.VOID):
            return self._end(case, Stance.LEFT, "the batch is settled")
        if case.stance is Stance.FAULT:
            return self._prove(case, batch, said)
        if batch.phase is not BatchPhase.CHALLENGEABLE:
            return self._end(case, Stance.LEFT, "the challenge window is over")
        if not self._can_bond(batch):
            return None
        try:
            opened = self._dispute(case, batch, said)
        except ContractError as error:
            if error.name != "Court_AlreadyDisputed":
                raise
            return self._end(case, Stance.LEFT, "another disputes it")
        if opened is None:
            return None
        self._keep(replace(case, dispute=opened))
        return Done(batch.id, Duty.CHALLENGE, f"{case.stance} disputed", opened)

    def _dispute(self, case: Case, batch: Batch, said: Attestation) -> int | None:
        if case.stance is Stance.OUTCOME:
            return self._client.dispute_outcome(batch)[0]
        if case.stance is Stance.OPENING:
            return self._client.demand_opening(batch)[0]
        known = self._behind(batch, said)
        if known is None:
            log.info("file_awaited batch=%d why=the verdict file is gone", batch.id)
            return None
        assert case.place is not None  # recorded with the stance
        lines = fetch_lines(self._client, self._store, batch, self._fetch_seconds)
        return dispute_leaf(self._client, batch, known, lines, case.place)

    def _prove(self, case: Case, batch: Batch, said: Attestation) -> Done | None:
        known = self._behind(batch, said)
        found = known and find_fault(batch.id, said, known.leaves)
        if not found:
            log.info("file_awaited batch=%d why=the verdict file is gone", batch.id)
            return None
        self._client.prove_fault(batch.id, found[1])
        return self._end(case, Stance.DONE, f"proven: {found[0].name.lower()} fault")

    def _follow(self, case: Case, dispute: Dispute) -> Done | None:
        if dispute.phase is DisputePhase.CLOSED:
            return self._end(case, Stance.DONE, f"attestation {dispute.standing.name.lower()}")
        if dispute.phase is DisputePhase.APPEALABLE:
            return self._appeal(dispute)
        if dispute.phase is DisputePhase.OPENING:
            opening = self._client.opening(dispute.id)
            if opening is not None and opening.status is OpeningStatus.ANSWERED:
                return self._go_on(case, dispute, opening)
        jury = None
        if dispute.phase is DisputePhase.IN_JURY and dispute.jury is not None:
            jury = self._client.round(dispute.jury)
        now_due = due(self._client, dispute, jury, None)
        return keep(self._client, dispute, now_due) if now_due in KEEPING else None

    def _go_on(self, case: Case, dispute: Dispute, opening: Opening) -> Done:
        own = None
        batch = self._client.batch(case.batch)
        if case.verdicts is not None:
            own = leaf_tree(batch.id, read_leaves(case.verdicts, batch.count))
        elif (check := self._found(batch, opening)) is not None:  # the traces appeared
            own = check.tree()
        right = turn(own, opening)
        self._client.ask(dispute.id, right)
        side = "right" if right else "left"
        return Done(case.batch, Duty.CHALLENGE, f"{side} of {opening.node.size}", dispute.id)

    def _found(self, batch: Batch, opening: Opening) -> BatchCheck | None:
        """The verdicts of a batch. None where it can't be judged, and where a checkpoint that it
        names has not come when half of the time to move is over: not to move loses the bond."""
        try:
            return self._checker.find(batch).check
        except OnItsWay:
            left = opening.deadline - self._client.head().timestamp
            if 2 * left > self._client.parameters.opening_window:
                raise
            return None

    def _appeal(self, dispute: Dispute) -> Done | None:
        """Appeals a decision that a new look at the content calls wrong. An appeal opens a jury,
        and every decision has a window of its own: it is appealed once, whoever does it."""
        decision = (dispute.id, dispute.jury)
        if dispute.standing is Standing.FALLS or decision in self._accepted:
            return None
        bond, at_stake = self._client.appeal_bond(dispute.id), self._appealed()
        if at_stake + bond > self._max_appeals:
            money = self._client.token.format
            log.warning(
                "dispute_losing dispute=%d appeal_bond=%s at_stake=%s fix=allow more than %s",
                *(dispute.id, money(bond), money(at_stake), money(self._max_appeals)),
            )
            return None
        batch = self._client.batch(dispute.batch)
        finding = self._checker.find(batch)
        if not worth_appealing(dispute, finding):
            log.warning("dispute_losing dispute=%d why=%s", dispute.id, finding.note)
            if finding.attestation != UNAVAILABLE:  # else it may still come
                self._accepted.add(decision)
            return None
        self._client.appeal(dispute, batch)
        detail = f"jury {dispute.jury} appealed: it says {dispute.standing.name.lower()}"
        return Done(dispute.batch, Duty.CHALLENGE, detail, dispute.id)

    def _appealed(self) -> int:
        """Bonds of this watcher's appeals in disputes that are not closed."""
        me, total = self._client.address, 0
        for case in self._journal.open_cases(self._court, me):
            dispute = case.dispute and self._mine(case, case.dispute)
            if dispute and dispute.phase is not DisputePhase.CLOSED:
                appeals = self._client.appeals(dispute.id)
                total += sum(one.bond for one in appeals if one.appellant == me)
        return total

    # --- parts -----------------------------------------------------------------------------

    def _mine(self, case: Case, dispute_id: int) -> Dispute | None:
        """A dispute, if it is this watcher's about this attestation: a reorg can give its number
        to another one."""
        if dispute_id > self._client.dispute_count():
            return None
        dispute = self._client.dispute(dispute_id)
        about = (dispute.challenger, dispute.batch, dispute.attestation)
        if about != (self._client.address, case.batch, case.number):
            return None
        if dispute.kind not in _KINDS.get(case.stance, ()):
            return None
        if case.stance is Stance.LEAF and dispute.index != case.place:
            return None
        return dispute

    def _find(self, case: Case) -> Dispute | None:
        for dispute_id in self._client.disputes_of(case.batch):
            if (found := self._mine(case, dispute_id)) is not None:
                return found
        return None

    def _can_bond(self, batch: Batch) -> bool:
        at_stake = 0
        for case in self._journal.open_cases(self._court, self._client.address):
            dispute = case.dispute and self._mine(case, case.dispute)
            if dispute and dispute.phase is not DisputePhase.CLOSED:
                at_stake += dispute.bond
        bond = self._client.dispute_bond(batch.id)
        if at_stake + bond <= self._max_bonds:
            return True
        money = self._client.token.format
        log.error(
            "bond_refused batch=%d bond=%s at_stake=%s fix=allow more than %s",
            *(batch.id, money(bond), money(at_stake), money(self._max_bonds)),
        )
        return False

    def _keep(self, case: Case) -> None:
        self._journal.keep_case(self._court, self._client.address, case)

    def _end(self, case: Case, stance: Stance, why: str) -> Done:
        self._keep(replace(case, stance=stance, verdicts=None))
        return Done(case.batch, Duty.CHALLENGE, why, case.dispute)


def dispute_leaf(
    client: MarketClient, batch: Batch, known: Published, lines: Sequence[bytes], place: int
) -> int:
    """Disputes one published verdict of an attested batch with these lines. Returns the
    dispute."""
    deployment = client.deployment
    traces = batch_tree(
        deployment.chain_id, deployment.address("market"), batch.bounty, batch.miner, lines
    )
    verdict = known.leaves[place]
    proof = claim(known.tree, verdict).proof
    dispute, _ = client.dispute_leaf(
        batch.id, verdict, proof, keccak(lines[place]), traces.proof(place)
    )
    return dispute
