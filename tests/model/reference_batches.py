"""Batches of the reference model (IBatchMarket)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reference_lot import CLOSED, STALLED
from reference_money import (
    BPS,
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    Needs,
    Part,
    Terms,
    abi_hash,
    need,
)

if TYPE_CHECKING:
    from reference import Reference

NONE, IN_ROUND, CHALLENGEABLE, SETTLEABLE, SETTLED, VOID, DISPUTED = range(7)
"""Batch phases."""


@dataclass
class Batch:
    miner: str
    bounty: int
    count: int
    root: bytes
    first_task: int
    round: int = 0
    rounds: int = 0
    attested_at: int = 0
    attestation: Attestation | None = None
    disputes: int = 0
    overturned: int = 0
    narrowed: bool = False
    """The present round's conflict was narrowed."""
    closed: bool = False


@dataclass
class Market(Part):
    world: Reference
    batches: list[Batch] = field(default_factory=list)

    def __getitem__(self, batch: int) -> Batch:
        return self.batches[batch - 1]

    def get(self, batch: int) -> Batch:
        need(1 <= batch <= len(self.batches), "BatchMarket_UnknownBatch")
        return self[batch]

    def phase(self, batch: int) -> int:
        if not 1 <= batch <= len(self.batches):
            return NONE
        one, now = self[batch], self.world.now.time
        if one.closed:
            return SETTLED if one.attestation else VOID
        if not one.attestation:
            return IN_ROUND
        if now <= one.attested_at + self.world.rules.challenge_window:
            return CHALLENGEABLE
        return DISPUTED if one.disputes else SETTLEABLE

    # --- money of a batch ------------------------------------------------------------

    def bond(self, terms: Terms, count: int) -> int:
        return count * max(self.world.rules.bond_per_trace, terms.fee)

    @staticmethod
    def worst_case(terms: Terms, count: int) -> int:
        return count * (terms.price + terms.fee)

    @property
    def least_loss(self) -> int:
        """What a lying majority of a first committee is sure to lose."""
        rules = self.world.rules
        majority = rules.committee_size // 2 + 1
        return majority * (rules.seat_stake * min(rules.fraud_bps, BPS) // BPS)

    # --- actions ---------------------------------------------------------------------

    def commit(
        self,
        who: str,
        bounty: int,
        root: bytes,
        count: int,
        first: int,
        seed: bytes,
        codec: int = 0x55,
    ) -> None:
        world, rules, check = self.world, self.world.rules, Needs()
        check(any(root), "BatchMarket_ZeroRoot")
        check(codec in (0x55, 0x70), "BatchMarket_InvalidCodec")
        check(0 < bounty <= len(world.escrow.bounties), "BountyEscrow_UnknownBounty")
        if not 0 < bounty <= len(world.escrow.bounties):
            check.settle()
        terms = world.escrow.get(bounty).terms
        whole = 0 < count <= rules.max_traces and count % terms.group_size == 0
        check(whole, "BatchMarket_InvalidCount")
        check(terms.fee >= rules.min_fee_per_trace, "BatchMarket_FeeTooLow")
        value = self.worst_case(terms, count)
        at_risk = max(value, self.bond(terms, count))
        check(at_risk <= self.least_loss, "BatchMarket_BatchTooDear")
        check(world.stake.eligible >= rules.min_verifiers, "BatchMarket_TooFewVerifiers")
        entry = world.escrow.get(bounty)
        check(world.now.time <= terms.deadline, "BountyEscrow_DeadlinePassed")
        check(value <= entry.available, "BountyEscrow_InsufficientFunds")
        world.assignments.check(check, bounty, who, first, seed)
        check.settle()

        world.assignments.of[bounty, who].next_task += count // terms.group_size
        world.ledger.collect("market", who, self.bond(terms, count))
        entry.available -= value
        entry.reserved += value
        self.batches.append(Batch(who, bounty, count, root, first))
        self._open_round(len(self.batches), rules.committee_size, fresh=False)

    def tally(self, batch: int, leader: Attestation) -> None:
        need(self.phase(batch) == IN_ROUND, "BatchMarket_WrongPhase")
        one, check = self[batch], Needs()
        closed = self.world.rounds.phase(one.round) == CLOSED
        check(closed, "BatchMarket_RoundNotClosed")
        seen = self.world.rounds[one.round]
        vote, votes = seen.leader
        agreed = votes >= seen.quorum
        conflict = not agreed and seen.revealed >= seen.quorum
        check(not agreed or leader == vote, "BatchMarket_NotTheLeader")
        if one.narrowed:
            check(not one.disputes, "BatchMarket_DisputesOpen")
        if conflict and not one.narrowed:
            until = self.world.rounds.ends_at(one.round) + self.world.rules.opening_window
            check(self.world.now.time > until, "BatchMarket_NarrowFirst")
        check.settle()

        if agreed:
            self._attest(one, leader)
        elif one.rounds < self.world.rules.max_rounds:
            # Others where members were absent, more where they disagreed.
            size = 2 * seen.size + 1 if conflict else seen.size
            self._open_round(batch, size, fresh=one.overturned > 0)
        else:
            self._void(one)

    def void_stalled(self, batch: int) -> None:
        need(self.phase(batch) == IN_ROUND, "BatchMarket_WrongPhase")
        one = self[batch]
        need(self.world.rounds.phase(one.round) == STALLED, "BatchMarket_RoundNotStalled")
        self._void(one)

    def settle(self, batch: int) -> None:
        need(self.phase(batch) == SETTLEABLE, "BatchMarket_WrongPhase")
        one, world, rules = self[batch], self.world, self.world.rules
        final = one.attestation
        assert final is not None
        one.closed = True
        chain = world.rounds.chain(one.round)
        seats = sum(world.rounds[number].payable for number in chain)
        coherent = [who for number in chain for who in world.rounds.judge(number, final)]
        terms = world.escrow.get(one.bounty).terms
        share = terms.fee * one.count // seats if seats else 0
        fees, bond = share * len(coherent), self.bond(terms, one.count)

        if final == MALFORMED:
            earned, spent, forfeited = 0, 0, bond
        elif final == UNAVAILABLE:
            earned, spent, forfeited = 0, 0, fees
        else:
            earned = terms.price * final.units
            spent = earned + fees
            wrong = (one.count - final.units) * terms.fee * rules.wrong_bps // BPS
            lies = final.faults * rules.fault_multiple * rules.bond_per_trace
            forfeited = min(bond, lies + wrong)
        world.escrow.release(one.bounty, self.worst_case(terms, one.count), spent)
        world.ledger.credit("market", one.miner, earned + bond - forfeited)
        for who in coherent:
            world.ledger.credit("market", who, share)
        # Where the bounty pays nothing, the fees come out of what the miner forfeits.
        free = final in (MALFORMED, UNAVAILABLE)
        world.escrow.replenish("market", one.bounty, forfeited - fees if free else forfeited)

    # --- what the court does ---------------------------------------------------------

    def conflict(self, batch: int) -> bool:
        """Whether the batch's round ended in a conflict that was not narrowed."""
        if self.phase(batch) != IN_ROUND or self[batch].narrowed:
            return False
        number = self[batch].round
        seen = self.world.rounds[number]
        ended = self.world.rounds.phase(number) == CLOSED
        return ended and seen.leader[1] < seen.quorum <= seen.revealed

    def overturn(self, batch: int, guilty: bool) -> int:
        """Takes the attestation back; what its signers lost."""
        one = self[batch]
        fallen, one.attestation, one.attested_at = one.attestation, None, 0
        assert fallen is not None
        slashed = self.world.rounds.convict(one.round, fallen, guilty=True) if guilty else 0
        one.overturned += 1
        if one.rounds < self.world.rules.max_rounds:
            self._open_round(batch, self.world.rounds[one.round].size, fresh=True)
        else:
            self._void(one)
        return slashed

    def replace(self, batch: int, attestation: Attestation) -> None:
        """Another attestation in the place of the present one, or of none."""
        one = self[batch]
        if one.attestation:
            # Whoever signed it did not keep the content.
            self.world.rounds.convict(one.round, one.attestation, guilty=False)
            one.overturned += 1
        self._attest(one, attestation)

    def _attest(self, one: Batch, attestation: Attestation) -> None:
        one.attestation, one.attested_at = attestation, self.world.now.time

    def _open_round(self, batch: int, size: int, fresh: bool) -> None:
        one = self[batch]
        subject = abi_hash(
            ("uint256", "address", "uint64", "bytes32"),
            self.world.chain_id,
            self.world.addresses["market"],
            batch,
            one.root,
        )
        one.round = self.world.rounds.open(subject, size, one.count, one.round, fresh, False)
        one.rounds += 1
        one.narrowed = False

    def _void(self, one: Batch) -> None:
        one.closed = True
        for number in self.world.rounds.chain(one.round):
            self.world.rounds.judge(number, None)
        terms = self.world.escrow.get(one.bounty).terms
        self.world.escrow.release(one.bounty, self.worst_case(terms, one.count), 0)
        self.world.ledger.credit("market", one.miner, self.bond(terms, one.count))
