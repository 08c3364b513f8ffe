"""Disputes become rows: juries, appeals, convictions, openings, proofs, planted batches, and the
phases that time alone brings."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest

from marketplace.chain.records import (
    BatchPhase,
    DisputePhase,
    Kind,
    OpeningStatus,
    RoundPhase,
    Standing,
)
from marketplace.indexer import phases
from marketplace.indexer.queries import Snapshot, open_snapshot
from marketplace.indexer.store import IndexStore
from marketplace.protocol import commitments
from marketplace.protocol.errors import ChainError
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation

USD = 10**6
BOND = 7 * USD
"""Twice the fees of a first jury: 2 x (2 x 3 + 1) x 0.5."""


@pytest.fixture
def look(index: Callable[..., IndexStore]) -> Any:
    """A Snapshot of the chain as it is now."""
    contexts = []

    def look(time: float = 0) -> Snapshot:
        contexts.append(open_snapshot(index().path, lambda: time))
        return contexts[-1].__enter__()

    yield look
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def many(chain: Any, sim: ModuleType) -> Any:
    """The chain with twelve verifiers: enough for a committee, its jury and fresh members."""
    chain.mine(*(chain.market.stake(sim.account(n), 250 * USD) for n in range(6, 13)))
    return chain


def sit(chain: Any, round: int, members: Sequence[str], said: Sequence[Attestation]) -> None:
    """Draw these members and let them vote."""
    chain.mine(chain.market.draw(round, list(members)))
    chain.mine(*(chain.market.commit_verdict(round, seat) for seat in range(len(said))))
    chain.mine(*(chain.market.reveal(round, seat, vote) for seat, vote in enumerate(said)))


def attested(chain: Any, sim: ModuleType, said: Sequence[Attestation]) -> None:
    """Batch 1 of four traces, attested by members 1, 2 and 3 as most of them say."""
    chain.mine(chain.market.commit(1, sim.account(20), 4))
    sit(chain, 1, [sim.account(n) for n in (1, 2, 3)], said)
    chain.mine(chain.market.attest(1, Counter(said).most_common(1)[0][0]))


def jury(chain: Any, sim: ModuleType, dispute: int, members: range, *said: Attestation) -> None:
    """Seat the newest jury; the first vote is everybody's but the last ones'."""
    first, *others = said
    votes = [first] * (len(members) - len(others)) + others
    round = chain.market.disputes[dispute]["juries"][-1]
    sit(chain, round, [sim.account(n) for n in members], votes)
    chain.mine(chain.market.tally_jury(dispute))


def test_a_lie_falls_its_signers_pay_and_the_fee_goes_to_payable_seats(
    many: Any, sim: ModuleType, look: Any
) -> None:
    market, challenger = many.market, sim.account(30)
    attested(many, sim, [sim.LIE, sim.LIE, sim.HONEST])
    many.mine(market.dispute(1, challenger, 2))
    seen = look()
    row = seen.dispute(1)
    assert (row.batch, row.attestation, row.trace, row.juries) == (1, 1, 2, 1)
    assert (row.bond, row.at_stake) == (BOND, BOND)
    assert row.vote == "0x" + commitments.vote(market.claimed(1)).hex()
    assert row.rival_vote is None
    assert seen.money().held["court"] == seen.money().dispute_bonds == BOND
    assert seen.money().pool == 0
    (first,) = seen.juries(1)
    assert (first.id, first.batch, first.dispute, first.number) == (2, None, 1, 1)
    assert (first.previous, first.fresh, first.size) == (1, True, 7)
    assert [round.id for round in seen.rounds_of(1)] == [1]
    assert seen.batch(1).disputes == 1

    jury(many, sim, 1, range(4, 11), market.rival(1), market.claimed(1))
    assert look().dispute(1).standing == Standing.FALLS
    assert not look().dispute(1).last
    many.mine(market.close(1))
    seen = look()
    row, batch = seen.dispute(1), seen.batch(1)
    assert (row.closed, row.slashed, row.jurors_paid) == (True, 400 * USD, 3 * USD)
    reward, wronged = 4 * USD // 3, 4 * USD
    assert (row.challenger_paid, row.wronged_paid) == (BOND + reward, wronged)
    assert [seat.coherent for seat in seen.seats(2)] == [True] * 6 + [False]
    assert [seat.fee for seat in seen.seats(2)] == [USD // 2] * 6 + [0]
    assert [seat.penalty for seat in seen.seats(2)] == [0] * 6 + [20 * USD]
    assert seen.money().dispute_bonds == 0
    assert seen.money().pool == 420 * USD - 3 * USD - reward - wronged
    assert seen.bounty(1).replenished == wronged
    # The signers' seats are closed, that of the honest member is open until the batch ends.
    signers = seen.seats(1)
    assert [seat.convicted for seat in signers] == [True, True, False]
    assert [seat.penalty for seat in signers] == [200 * USD, 200 * USD, None]
    assert [seen.verifier(sim.account(n)).open_seats for n in (1, 2, 3)] == [0, 0, 1]
    assert seen.verifier(sim.account(1)).stake == 50 * USD
    assert not seen.round(1).judged
    assert (batch.attested_at, batch.verdict_root, batch.units) == (None, None, None)
    assert (batch.overturned, batch.disputes, batch.rounds, batch.round) == (1, 0, 2, 3)
    assert seen.round(3).fresh
    (past,) = seen.attestations(1)
    assert (past.number, past.round, past.dispute, past.prover) == (1, 1, 1, None)
    assert (past.overturned_at, past.slashed) == (many.head().timestamp, 400 * USD)
    assert past.verdict_root == "0x" + sim.LIE.root.hex()

    sit(many, 3, [sim.account(n) for n in (4, 5, 6)], [sim.HONEST] * 3)
    many.mine(market.attest(1, sim.HONEST))
    many.mine(market.settle(1))
    seen = look()
    assert [one.number for one in seen.attestations(1)] == [1, 2]
    assert seen.attestations(1)[1].overturned_at is None
    assert [seat.fee for seat in seen.seats(1)] == [0, 0, USD]  # four payable seats share four
    assert [seat.coherent for seat in seen.seats(1)] == [False, False, True]
    assert [seat.penalty for seat in seen.seats(1)] == [200 * USD, 200 * USD, 0]
    assert [seat.fee for seat in seen.seats(3)] == [USD] * 3
    assert seen.batch(1).fees_paid == 4 * USD
    assert seen.verifier(sim.account(1)).fees_earned == 0


def test_a_signers_unbonding_stake_is_within_reach(many: Any, sim: ModuleType, look: Any) -> None:
    market, who = many.market, sim.account(1)
    attested(many, sim, [sim.LIE] * 3)
    many.mine(market.request_unstake(who, 150 * USD, 2_000_000))
    many.mine(market.prove_fault(1, sim.account(30)))
    row = look().verifier(who)
    assert (row.stake, row.unbonding, row.claimable_at) == (0, 50 * USD, 2_000_000)
    assert row.penalties == 200 * USD
    many.mine(market.request_unstake(sim.account(2), 50 * USD, 2_000_000))
    assert look().verifier(sim.account(2)).unbonding == 50 * USD


def test_a_proof_names_its_prover_and_what_it_shows(many: Any, sim: ModuleType, look: Any) -> None:
    attested(many, sim, [sim.LIE] * 3)
    many.mine(many.market.dispute(1, sim.account(31), 1))
    many.mine(many.market.prove_fault(1, sim.account(30)))
    seen = look()
    (past,) = seen.attestations(1)
    assert (past.prover, past.fault, past.dispute) == (sim.account(30), 1, None)
    assert (past.slashed, past.prover_paid, past.wronged_paid) == (600 * USD, 4 * USD // 3, 4 * USD)
    assert seen.batch(1).disputes == 1
    # The dispute has lost its object, and does not claim the fall for itself.
    jury(many, sim, 1, range(4, 11), many.market.rival(1))
    many.mine(many.market.close(1))
    assert look().dispute(1).slashed == 0
    assert look().attestations(1)[0].dispute is None
    assert look().batch(1).disputes == 0


def test_appeals_double_and_the_loser_pays(many: Any, sim: ModuleType, look: Any) -> None:
    market = many.market
    attested(many, sim, [sim.HONEST] * 3)
    many.mine(market.dispute(1, sim.account(30), 0))
    jury(many, sim, 1, range(4, 11), market.claimed(1))
    many.mine(market.appeal(1, sim.account(31)))
    seen = look()
    (appeal,) = seen.appeals(1)
    assert (appeal.number, appeal.appellant, appeal.bond) == (1, sim.account(31), 2 * BOND)
    assert appeal.against == Standing.STANDS
    assert seen.dispute(1).decided_at is None
    assert seen.dispute(1).at_stake == seen.money().dispute_bonds == 3 * BOND
    assert [(r.number, r.previous, r.size) for r in seen.juries(1)] == [(1, 1, 7), (2, 2, 15)]
    many.mine(market.tally_jury(1))  # stalled: the first decision stays, for good
    row = look().dispute(1)
    assert (row.last, row.standing) == (True, Standing.STANDS)
    many.mine(market.close(1))
    row = look().dispute(1)
    assert (row.slashed, row.jurors_paid, row.challenger_paid) == (0, 7 * USD // 2, 0)
    assert row.wronged_paid == (3 * BOND - 7 * USD // 2) // 2
    assert look().money().pool == market.pool
    assert look().round(3).judged
    assert look().round(3).seats == 0


def test_the_last_jury_is_final_with_a_quorum_or_without(
    many: Any, sim: ModuleType, look: Any
) -> None:
    market = many.market
    attested(many, sim, [sim.HONEST] * 3)
    for dispute, last in ((1, market.claimed), (2, None)):
        many.mine(market.dispute(1, sim.account(30), dispute))
        said, other = market.claimed(dispute), market.rival(dispute)
        for number in (1, 2, 3):
            assert look().dispute(dispute).juries == number
            split = [said, said, other, other, UNAVAILABLE, UNAVAILABLE, MALFORMED]
            votes = split if number < 3 or last is None else [said] * 7
            # Nobody checks here who may sit: members are the simulation's choice.
            sit(many, market.disputes[dispute]["juries"][-1],
                [sim.account(n) for n in range(4, 11)], votes)  # fmt: skip
            many.mine(market.tally_jury(dispute))
            many.mine(*(market.stake(sim.account(n), 300 * USD) for n in range(4, 11)))
        row = look().dispute(dispute)
        assert row.last
        assert row.standing == (Standing.NONE if last is None else Standing.STANDS)
        assert (row.standing_vote is None) == (last is None)
        many.mine(market.close(dispute))
        seats = [seat for r in look().juries(dispute) for seat in look().seats(r.id)]
        assert {seat.coherent for seat in seats} == ({None} if last is None else {True, False})
        assert all(r.judged for r in look().juries(dispute))


def test_a_conflict_leads_to_an_attestation_without_a_bond(
    many: Any, sim: ModuleType, look: Any
) -> None:
    market = many.market
    many.mine(market.commit(1, sim.account(20), 4))
    sit(many, 1, [sim.account(n) for n in (1, 2, 3)], [sim.HONEST, sim.LIE, UNAVAILABLE])
    many.mine(market.dispute(1, sim.account(30), 3, Kind.CONFLICT))
    row = look().dispute(1)
    assert (row.bond, row.at_stake, row.attestation) == (BOND, 0, 1)
    assert row.rival_vote == "0x" + commitments.vote(market.rival(1)).hex()
    jury(many, sim, 1, range(4, 11), market.rival(1))
    many.mine(market.close(1))
    seen = look()
    assert seen.dispute(1).standing == Standing.RIVAL
    assert seen.batch(1).verdict_root == "0x" + sim.LIE.root.hex()
    (said,) = seen.attestations(1)
    assert (said.number, said.overturned_at, said.dispute) == (1, None, None)
    assert phases.batch_phase(seen.batch(1), sim.PARAMETERS, seen.now) is BatchPhase.CHALLENGEABLE


def test_content_that_jurors_could_not_have_replaces_the_attestation(
    many: Any, sim: ModuleType, look: Any
) -> None:
    market = many.market
    attested(many, sim, [sim.HONEST] * 3)
    many.mine(market.dispute(1, sim.account(30), 1))
    jury(many, sim, 1, range(4, 11), UNAVAILABLE)
    many.mine(market.close(1))
    seen = look()
    before, now = seen.attestations(1)
    assert (before.dispute, before.slashed, before.overturned_at) == (1, 0, many.head().timestamp)
    assert (now.number, now.round, now.overturned_at) == (2, 1, None)
    assert seen.batch(1).overturned == 1
    assert seen.batch(1).verdict_root == "0x" + UNAVAILABLE.root.hex()
    assert not any(seat.convicted for seat in seen.seats(1))


def test_the_last_rounds_attestation_falls_into_a_void_batch(
    many: Any, sim: ModuleType, look: Any
) -> None:
    market = many.market
    attested(many, sim, [sim.LIE] * 3)
    many.mine(market.prove_fault(1, sim.account(30)))
    for round, members in ((2, (4, 5, 6)), (3, (7, 8, 9))):
        sit(many, round, [sim.account(n) for n in members], [sim.LIE, sim.LIE, sim.HONEST])
        many.mine(market.attest(1, sim.LIE))
        if round == 2:
            many.mine(market.prove_fault(1, sim.account(30)))
    # Jury seats, signers and the rest of the batch's seats close in one transaction.
    many.mine(market.dispute(1, sim.account(30), 1))
    jury(many, sim, 1, range(6, 13), market.rival(1), market.claimed(1))
    many.mine(market.close(1))
    seen = look()
    assert phases.batch_phase(seen.batch(1), sim.PARAMETERS, seen.now) is BatchPhase.VOID
    assert [past.prover is not None for past in seen.attestations(1)] == [True, True, False]
    assert seen.attestations(1)[2].dispute == 1
    assert [seat.coherent for seat in seen.seats(2)] == [False, False, None]
    assert [seat.penalty for seat in seen.seats(3)] == [200 * USD, 200 * USD, 0]
    assert [seat.fee for seat in seen.seats(4)] == [USD // 2] * 6 + [0]
    stakes = {
        row.address: [row.stake, row.open_seats, row.unbonding] for row in seen.verifiers("", 99)
    }
    assert stakes == market.stakes


def test_an_opening_move_by_move_in_its_time(many: Any, sim: ModuleType, look: Any) -> None:
    market = many.market
    attested(many, sim, [sim.HONEST] * 3)

    def status(late: int = 0) -> OpeningStatus:
        seen = look(many.head().timestamp + late)
        return phases.opening_status(seen.opening(1), sim.PARAMETERS, seen.now)

    many.mine(market.dispute(1, sim.account(30), 0, Kind.OPENING))
    assert look().juries(1) == []
    assert (status(30), status(31)) == (OpeningStatus.ASKED, OpeningStatus.REFUSED)
    many.mine(market.answer(1))
    assert (status(30), status(31)) == (OpeningStatus.ANSWERED, OpeningStatus.ABANDONED)
    many.mine(market.ask(1, 2, 1))
    row = look().opening(1)
    assert (row.first, row.size, row.moves) == (2, 1, 3)
    many.mine(market.answer_verdict(1, 2))
    assert status(99) is OpeningStatus.OPENED
    many.mine(market.conclude_opening(1, 2))
    assert look().dispute(1).trace == 2
    assert [r.previous for r in look().juries(1)] == [1]

    many.mine(market.dispute(1, sim.account(30), 0, Kind.OPENING))
    many.mine(market.answer(2, fault=1))
    assert look().opening(2).status == OpeningStatus.REFUSED
    assert look().opening(2).moved_at == many.blocks[-2].timestamp
    many.mine(market.conclude_opening(2, None))
    row = look().dispute(2)
    assert (row.standing, row.last, row.standing_vote) == (Standing.FALLS, True, None)
    many.mine(market.close(2))
    assert look().attestations(1)[0].dispute == 2


def test_phases_that_time_alone_brings(many: Any, sim: ModuleType, look: Any) -> None:
    market, rules = many.market, sim.PARAMETERS
    attested(many, sim, [sim.HONEST] * 3)
    attested_at = many.head().timestamp
    many.mine(market.dispute(1, sim.account(30), 0), seconds=1)
    opened = many.head().timestamp

    def batch(time: int) -> BatchPhase:
        seen = look(time)
        phase = phases.batch_phase(seen.batch(1), rules, seen.now)
        assert [row.id for row in seen.batches(0, 9, phase=phase)] == [1]
        assert not any(seen.batches(0, 9, phase=other) for other in BatchPhase if other != phase)
        return phase

    def dispute(time: int) -> DisputePhase:
        seen = look(time)
        phase = phases.dispute_phase(seen.dispute(1), rules, seen.now)
        assert [row.id for row in seen.disputes(0, 9, phase=phase)] == [1]
        assert not any(seen.disputes(0, 9, phase=p) for p in DisputePhase if p != phase)
        return phase

    def round(time: int) -> RoundPhase:
        seen = look(time)
        return phases.round_phase(seen.juries(1)[0], rules, seen.now, seen.randomness)

    assert batch(attested_at + 2) is BatchPhase.CHALLENGEABLE
    assert batch(attested_at + 3) is BatchPhase.DISPUTED
    assert dispute(opened) is DisputePhase.IN_JURY
    assert round(opened + 60) is not RoundPhase.STALLED
    assert round(opened + 61) is RoundPhase.STALLED
    jury(many, sim, 1, range(4, 11), market.claimed(1))
    decided = many.head().timestamp
    assert dispute(decided + 4) is DisputePhase.APPEALABLE
    assert dispute(decided + 5) is DisputePhase.DECIDED
    many.mine(market.close(1))
    assert dispute(0) is DisputePhase.CLOSED
    assert batch(0) is BatchPhase.SETTLEABLE


def test_planted_batches(many: Any, sim: ModuleType, look: Any) -> None:
    market, planter = many.market, sim.account(40)
    many.mine(market.plant(planter, "trap"))
    attested(many, sim, [sim.LIE] * 3)
    assert look().audit(1) is None
    many.mine(market.open_audit(1, planter, 3, missed=True))
    seen = look()
    row = seen.audit(1)
    assert (row.planter, row.trace, row.reason, row.missed) == (planter, 3, 2, True)
    assert seen.missed_audits() == 1
    assert seen.audits(0, 9, missed=True) == seen.audits(0, 9, planter=planter) == [row]
    assert seen.audits(0, 9, missed=False) == []


def test_a_conviction_of_others_is_noticed(many: Any, sim: ModuleType, index: Any) -> None:
    attested(many, sim, [sim.LIE, sim.LIE, sim.HONEST])
    logs = many.market.prove_fault(1, sim.account(30))
    many.mine(logs[1:])
    with pytest.raises(ChainError, match=r"conviction in round 1 has 2 open seats, but others"):
        index()


def test_random_play_meets_every_ending(sim: ModuleType) -> None:
    """What the random tests rest on: their play is not all harmless."""
    names, closed = Counter(), []
    for seed in range(16):
        chain = sim.SimulatedChain(sim.SimulatedMarket(sim.deployment()))
        sim.open_market(chain, verifiers=12)
        sim.play(chain, random.Random(seed), 120)
        names.update(event.name for block in chain.logs for event in block)
        closed += [one for one in chain.market.disputes.values() if one["closed"]]
    assert {dispute["kind"] for dispute in closed} == set(Kind)
    assert {dispute["standing"] for dispute in closed} == set(Standing)
    for name in ("Appealed", "FaultProven", "SignersConvicted", "BatchOverturned", "BatchVoided"):
        assert names[name] > 1, name


@pytest.mark.parametrize("depth", range(1, 14))
def test_a_reorg_across_a_dispute_leaves_no_trace(
    many: Any, sim: ModuleType, index: Any, dump: Any, depth: int
) -> None:
    market = many.market
    attested(many, sim, [sim.LIE] * 3)
    many.mine(market.dispute(1, sim.account(30), 1))
    jury(many, sim, 1, range(4, 11), market.claimed(1), market.rival(1))
    many.mine(market.appeal(1, sim.account(31)))
    sit(many, 3, [sim.account(n) for n in range(4, 12)], [market.rival(1)] * 8)
    many.mine(market.tally_jury(1))
    many.mine(market.close(1))
    many.mine(market.dispute(1, sim.account(30), 1) if market.batches[1]["final"] else [])
    index("followed")
    many.reorg(depth)
    many.mine(market.deposit(sim.account(1), 5))
    assert dump(index("followed")) == dump(index("fresh"))
