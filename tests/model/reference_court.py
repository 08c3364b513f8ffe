"""Disputes, juries, openings and the pool of the reference model (ICourt, IOpenings)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from reference_batches import CHALLENGEABLE, IN_ROUND, Batch
from reference_lot import CLOSED as ROUND_CLOSED
from reference_lot import STALLED
from reference_money import (
    MALFORMED,
    OUTCOMES,
    UNAVAILABLE,
    Attestation,
    Needs,
    Part,
    abi_hash,
    need,
)
from reference_trees import Node, Said, at, descend, fold, leaf, opens_to, proof, verdicts

if TYPE_CHECKING:
    from reference import Reference

NONE, OPENING, IN_JURY, APPEALABLE, DECIDED, CLOSED = range(6)
"""Dispute phases."""
LEAF, OPENED_LEAF, MALFORMED_KIND, UNAVAILABLE_KIND, CONFLICT = range(5)
"""Kinds of dispute."""
UNDECIDED, STANDS, FALLS, NOT_TO_BE_HAD, RIVAL = range(5)
"""Standings."""
NO_GAME, ASKED, ANSWERED, OPENED, REFUSED, ABANDONED = range(6)
"""Statuses of an opening."""


class Claim(NamedTuple):
    """The verdict at a place of a tree of `size`, with the proof that this tree gives."""

    tree: Node
    size: int
    place: int

    @property
    def said(self) -> Said:
        return verdicts(self.tree)[self.place]

    def proves(self, batch: int, attestation: Attestation | None) -> bool:
        """Whether it shows that this verdict is the attested one at its index. A proof of another
        tree does, where the trees differ only in what it doesn't tell."""
        said = self.said
        siblings = proof(self.tree, self.place, self.size)
        root = fold(leaf(said._replace(batch=batch)), said.index, self.size, siblings)
        return root is not None and root.attestation == attestation


@dataclass
class Game:
    """An opening, move by move."""

    node: Node
    size: int
    deadline: int
    first: int = 0
    status: int = ASKED


@dataclass
class Appeal:
    appellant: str
    against: int
    bond: int


@dataclass
class Dispute:
    challenger: str
    batch: int
    kind: int
    index: int
    bond: int
    attestation: int
    """How many attestations of the batch had fallen."""
    jury: int = 0
    juries: int = 0
    said: Said | None = None
    """The disputed verdict; None where an outcome is."""
    vote: Attestation | None = None
    rival: Attestation | None = None
    attested: tuple[Attestation, ...] = ()
    """In a conflict: the two attestations."""
    standing: int = UNDECIDED
    standing_vote: Attestation | None = None
    miner_wronged: bool = False
    decided_at: int = 0
    last: bool = False
    closed: bool = False
    game: Game | None = None
    appeals: list[Appeal] = field(default_factory=list)

    @property
    def own_bond(self) -> int:
        """What the challenger paid: a conflict is nobody's accusation."""
        return 0 if self.kind == CONFLICT else self.bond


@dataclass
class Court(Part):
    world: Reference
    disputes: list[Dispute] = field(default_factory=list)

    def __getitem__(self, dispute: int) -> Dispute:
        return self.disputes[dispute - 1]

    def phase(self, dispute: int) -> int:
        if not 1 <= dispute <= len(self.disputes):
            return NONE
        one = self[dispute]
        if one.closed:
            return CLOSED
        if not one.decided_at:
            return IN_JURY if one.jury else OPENING
        over = self.world.now.time > one.decided_at + self.world.rules.appeal_window
        return DECIDED if one.last or over else APPEALABLE

    @property
    def pool(self) -> int:
        bonds = sum(
            one.own_bond + sum(appeal.bond for appeal in one.appeals)
            for one in self.disputes
            if not one.closed
        )
        return self.world.ledger.held["court"] - bonds

    def bond_for(self, batch: int) -> int:
        size = self.world.rounds[self.world.market.get(batch).round].size
        return 2 * (2 * size + 1) * self.world.rules.juror_fee

    # --- opening a dispute -----------------------------------------------------------

    def dispute_leaf(self, who: str, batch: int, claim: Claim, trace_proven: bool) -> None:
        seen, check = self.world.market.get(batch), Needs()
        self._challengeable(check, batch)
        check(not self._whole(seen), "Court_WholeBatch")
        check(trace_proven, "Evidence_BadTraceProof")
        check(claim.proves(batch, seen.attestation), "Evidence_BadVerdictProof")
        self._undisputed(check, batch, claim.said.index)
        check.settle()
        self._begin(who, batch, LEAF, claim.said.index)
        self._first_jury(claim.said)

    def attested(self, batch: int) -> tuple[Any, ...] | None:
        """What says which batch is meant, and as what it is attested; None of no batch."""
        if not 1 <= batch <= len(self.world.market.batches):
            return None
        found = self.world.market[batch]
        return found.root, found.count, found.attestation

    def decided(self, dispute: int) -> tuple[Any, ...] | None:
        """What says which decision about which batch is meant; None of no dispute."""
        if not 1 <= dispute <= len(self.disputes):
            return None
        one = self[dispute]
        batch = self.world.market[one.batch]
        disputed = (batch.root, batch.count, one.kind, one.index, one.vote, one.rival)
        return (*disputed, one.juries, one.standing, one.standing_vote)

    def dispute_outcome(self, who: str, batch: int, named: tuple[Any, ...] | None) -> None:
        seen, check = self.world.market.get(batch), Needs()
        check(named == self.attested(batch), "Court_AnotherAttestation")
        self._challengeable(check, batch)
        check(self._whole(seen), "Court_NoOutcome")
        self._undisputed(check, batch, 0)
        check.settle()
        kind = MALFORMED_KIND if seen.attestation == MALFORMED else UNAVAILABLE_KIND
        self._begin(who, batch, kind, 0)
        self.disputes[-1].vote = seen.attestation
        self._open_jury(len(self.disputes), 2 * self.world.rounds[seen.round].size + 1, seen.round)

    def demand_opening(
        self, who: str, batch: int, named: tuple[Any, ...] | None, tree: Node
    ) -> None:
        """tree: what is behind the attestation."""
        seen, check = self.world.market.get(batch), Needs()
        check(named == self.attested(batch), "Court_AnotherAttestation")
        self._challengeable(check, batch)
        check(not self._whole(seen), "Court_WholeBatch")
        check.settle()
        self._begin(who, batch, OPENED_LEAF, 0)
        self.disputes[-1].game = Game(tree, seen.count, self._deadline)

    def narrow(self, who: str, batch: int, leader: Claim, rival: Claim) -> None:
        seen, check = self.world.market.get(batch), Needs()
        check(self.world.market.phase(batch) == IN_ROUND, "BatchMarket_WrongPhase")
        check(self.world.market.conflict(batch), "BatchMarket_NoConflict")
        votes = self.world.rounds[seen.round]
        first, second = leader.tree.attestation, rival.tree.attestation
        check(first == votes.leader[0] and second in votes.votes, "Court_NotAVote")
        proven = leader.proves(batch, first) and rival.proves(batch, second)
        check(proven, "Evidence_BadVerdictProof")
        same = leader.said.index != rival.said.index or leader.said == rival.said
        check(not same, "Evidence_SameVerdict")
        before = [verdicts(claim.tree)[: claim.said.index] for claim in (leader, rival)]
        check(before[0] == before[1], "Evidence_NotTheFirstDifference")
        check.settle()
        seen.narrowed = True
        seen.disputes += 1
        one = Dispute(
            who, batch, CONFLICT, leader.said.index, self.bond_for(batch), seen.overturned
        )
        one.attested = (first, second)
        one.rival = rival.said.vote
        self.disputes.append(one)
        self._first_jury(leader.said)

    def prove_fault(self, who: str, batch: int, tree: Node, turns: list[bool], end: bool) -> None:
        """Opens every node on the way of `turns` from the root to its children, the last one to
        its verdict where `end`."""
        seen, check = self.world.market.get(batch), Needs()
        check(seen.attestation and not seen.closed, "Court_NotAttested")
        check(not self._whole(seen), "Court_WholeBatch")
        said = seen.attestation or Attestation(bytes(32), 0, 0)
        if said.root != tree.hash:
            kind = "TheVerdict" if end and not turns else "TheChildren"
            check(False, f"VerdictFaults_Not{kind}")
        else:
            root = tree.claiming(said.units, said.faults)
            check(self._shown(root, batch, seen.count, turns), "Evidence_NoFault")
        check.settle()
        attesting = seen.round
        slashed = self.world.market.overturn(batch, guilty=True)
        reward, wronged = self._shares(seen, attesting, slashed)
        self.world.ledger.credit("court", who, reward)
        self.world.escrow.replenish("court", seen.bounty, wronged)

    @staticmethod
    def _shown(node: Node, batch: int, size: int, turns: list[bool]) -> int:
        first = 0
        for right in turns:
            if fault := opens_to(node, batch, first, size):
                return fault
            node = at(node, [right])
            first, size = descend(first, size, right)
        return opens_to(node, batch, first, size)

    # --- an opening, move by move ----------------------------------------------------

    def status(self, dispute: int) -> int:
        game = self[dispute].game if 1 <= dispute <= len(self.disputes) else None
        if game is None:
            return NO_GAME
        if self.world.now.time > game.deadline:
            late = {ASKED: REFUSED, ANSWERED: ABANDONED}
            return late.get(game.status, game.status)
        return game.status

    def answer(self, dispute: int, offered: Node) -> None:
        """Opens what is asked for with the children, or the verdict, of `offered`."""
        need(self.status(dispute) == ASKED, "Openings_WrongStatus")
        one = self[dispute]
        game = one.game
        assert game is not None
        kind = "TheChildren" if offered.children else "TheVerdict"
        need(offered.hash == game.node.hash, f"VerdictFaults_Not{kind}")
        if opens_to(game.node, one.batch, game.first, game.size):
            game.status = REFUSED
        elif game.node.children:
            game.status, game.deadline = ANSWERED, self._deadline
        else:
            game.status = OPENED

    def ask(self, who: str, dispute: int, right: bool) -> None:
        need(self.status(dispute) == ANSWERED, "Openings_WrongStatus")
        one = self[dispute]
        game = one.game
        assert game is not None
        need(who == one.challenger, "Openings_NotChallenger")
        game.node = at(game.node, [right])
        game.first, game.size = descend(game.first, game.size, right)
        game.status, game.deadline = ASKED, self._deadline

    def conclude_opening(self, dispute: int) -> None:
        need(self.phase(dispute) == OPENING, "Court_WrongPhase")
        one, status = self[dispute], self.status(dispute)
        need(status in (OPENED, REFUSED, ABANDONED), "Court_OpeningNotOver")
        if status == OPENED:
            assert one.game is not None
            assert one.game.node.verdict is not None
            one.index = one.game.first
            self._first_jury(one.game.node.verdict, dispute)
        else:
            self._decide(one, FALLS if status == REFUSED else STANDS, None, last=True)

    # --- juries ----------------------------------------------------------------------

    def tally_jury(self, dispute: int, leader: Attestation) -> None:
        need(self.phase(dispute) == IN_JURY, "Court_WrongPhase")
        one = self[dispute]
        phase, jury = self.world.rounds.phase(one.jury), self.world.rounds[one.jury]
        need(phase in (ROUND_CLOSED, STALLED), "Court_JuryNotClosed")
        most = self.world.rules.max_juries
        vote, votes = jury.leader
        if vote and votes >= jury.quorum:
            need(leader == vote, "Court_NotTheLeader")
            one.miner_wronged = self._gives_more(one, vote)
            self._decide(one, self._standing(one, vote), vote, last=one.juries == most)
        elif phase == ROUND_CLOSED and one.juries < most:
            self._open_jury(dispute, 2 * jury.size + 1, one.jury)
        else:
            if phase == STALLED and one.appeals:
                one.appeals[-1].against = UNDECIDED  # an appeal that nobody heard is not lost
            self._decide(one, one.standing, one.standing_vote, last=True)

    def appeal(self, who: str, dispute: int, named: tuple[Any, ...] | None) -> None:
        need(self.phase(dispute) == APPEALABLE, "Court_WrongPhase")
        need(named == self.decided(dispute), "Court_AnotherDecision")
        one = self[dispute]
        bond = one.bond * 2**one.juries
        self.world.ledger.collect("court", who, bond)
        one.appeals.append(Appeal(who, one.standing, bond))
        one.decided_at = 0
        self._open_jury(dispute, 2 * self.world.rounds[one.jury].size + 1, one.jury)

    @staticmethod
    def _standing(one: Dispute, vote: Attestation) -> int:
        if vote == one.vote:
            return STANDS
        if one.kind == CONFLICT:
            return RIVAL if vote == one.rival else FALLS
        if vote == UNAVAILABLE:
            # Whoever disputes "malformed" must see to it that the content can be had.
            return STANDS if one.kind == MALFORMED_KIND else NOT_TO_BE_HAD
        return FALLS

    @staticmethod
    def _gives_more(one: Dispute, vote: Attestation) -> bool:
        """Whether the jury's verdict gives the miner more than the disputed one."""
        if vote in (MALFORMED, UNAVAILABLE):
            return False
        # "Malformed" takes the miner's bond, "unavailable" only pays nothing.
        units, faults = (
            (one.said.units, one.said.faults) if one.said else (0, one.vote == MALFORMED)
        )
        return (vote.units, -vote.faults) > (units, -faults)

    @staticmethod
    def paid(one: Dispute) -> bool:
        """Whether the disputed verdict has a unit."""
        return bool(one.said and one.said.units)

    # --- the end ---------------------------------------------------------------------

    def close(self, dispute: int) -> None:
        need(self.phase(dispute) == DECIDED, "Court_WrongPhase")
        one, ledger = self[dispute], self.world.ledger
        seen = self.world.market[one.batch]
        attesting = seen.round
        juries = self.world.rounds.chain(one.jury)[: one.juries]
        jurors = [
            who for number in juries for who in self.world.rounds.judge(number, one.standing_vote)
        ]
        pool = self.pool
        one.closed = True
        seen.disputes -= 1
        slashed = self._carry_out(one, seen)

        # Winners get their bonds back. A challenger that is right where nobody is convicted bears
        # the jurors' fees: its bond is laid out like a lost one, and what is left goes back.
        losing = [appeal.bond for appeal in one.appeals if appeal.against == one.standing]
        for appeal in one.appeals:
            if appeal.against != one.standing:
                ledger.credit("court", appeal.appellant, appeal.bond)
        if slashed or one.standing == UNDECIDED:
            ledger.credit("court", one.challenger, one.own_bond)
        else:
            losing.append(one.own_bond)

        # Jurors: from lost bonds, then the slash, then the pool.
        lost, fees = sum(losing), 0
        if jurors:
            wanted = len(jurors) * self.world.rules.juror_fee
            each = min(wanted, lost + slashed + pool) // len(jurors)
            fees = each * len(jurors)
            for who in jurors:
                ledger.credit("court", who, each)
        left_bonds = max(0, lost - fees)
        left_slash = max(0, slashed - max(0, fees - lost))

        if slashed:
            reward, wronged = self._shares(seen, attesting, left_slash)
            ledger.credit("court", one.challenger, reward)
            if one.miner_wronged:
                ledger.credit("court", seen.miner, wronged)
            else:
                self.world.escrow.replenish("court", seen.bounty, wronged)
        elif one.standing == STANDS:
            ledger.credit("court", seen.miner, left_bonds // 2)
        elif one.standing != UNDECIDED:
            ledger.credit("court", one.challenger, min(one.own_bond, left_bonds))

    def _carry_out(self, one: Dispute, seen: Batch) -> int:
        market = self.world.market
        if seen.closed or seen.overturned != one.attestation:
            return 0  # another dispute was quicker
        if one.kind == CONFLICT:
            if one.standing in (STANDS, RIVAL):
                market.replace(one.batch, one.attested[one.standing == RIVAL])
        elif one.standing == FALLS:
            return market.overturn(one.batch, guilty=one.kind != UNAVAILABLE_KIND)
        elif one.standing == NOT_TO_BE_HAD:
            market.replace(one.batch, UNAVAILABLE)
        return 0

    def _shares(self, seen: Batch, attesting: int, amount: int) -> tuple[int, int]:
        """What the prover and the wronged side get of a slash; the rest stays in the pool."""
        fee = self.world.escrow.get(seen.bounty).terms.fee * seen.count
        seats = len(self.world.rounds[attesting].seats)
        return min(amount // 4, fee // seats), min(amount // 2, fee)

    # --- small ones ------------------------------------------------------------------

    @property
    def _deadline(self) -> int:
        return self.world.now.time + self.world.rules.opening_window

    @staticmethod
    def _whole(seen: Batch) -> bool:
        return seen.attestation is not None and seen.attestation.root in OUTCOMES

    def _challengeable(self, check: Needs, batch: int) -> None:
        phase = self.world.market.phase(batch)
        check(phase == CHALLENGEABLE, "BatchMarket_WrongPhase")

    def _undisputed(self, check: Needs, batch: int, index: int) -> None:
        overturned = self.world.market[batch].overturned
        named = any(
            (one.batch, one.attestation, one.index) == (batch, overturned, index)
            for one in self.disputes
            if one.kind not in (OPENED_LEAF, CONFLICT)
        )
        check(not named, "Court_AlreadyDisputed")

    def _begin(self, who: str, batch: int, kind: int, index: int) -> None:
        seen, bond = self.world.market[batch], self.bond_for(batch)
        self.world.ledger.collect("court", who, bond)
        seen.disputes += 1
        self.disputes.append(Dispute(who, batch, kind, index, bond, seen.overturned))

    def _first_jury(self, said: Said, dispute: int = 0) -> None:
        """Of the newest dispute, unless one is named; of those who sat in no round before."""
        dispute = dispute or len(self.disputes)
        one = self[dispute]
        one.said, one.vote = said, said.vote
        round_ = self.world.market[one.batch].round
        self._open_jury(dispute, 2 * self.world.rounds[round_].size + 1, round_)

    def _open_jury(self, dispute: int, size: int, previous: int) -> None:
        one = self[dispute]
        assert one.vote is not None
        subject = abi_hash(
            ("uint256", "address", "uint64", "uint64", "uint32", "bytes32"),
            self.world.chain_id,
            self.world.addresses["court"],
            dispute,
            one.batch,
            one.index,
            one.vote.vote,
        )
        one.jury = self.world.rounds.open(subject, size, 1, previous, fresh=True, jury=True)
        one.juries += 1

    def _decide(self, one: Dispute, standing: int, vote: Attestation | None, *, last: bool) -> None:
        one.standing, one.standing_vote, one.last = standing, vote, last
        one.decided_at = self.world.now.time
