"""The court on a real Anvil, through the chain client: who lied pays, and no money is lost."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from court_kit import FEES, LIE, LINES, PRESET, RIGHT, STAKE, TRUTH, TUSD, WRONG, Case, open_case

from marketplace.chain.client import Payment
from marketplace.chain.errors import ContractError
from marketplace.chain.records import (
    Appeal,
    Audit,
    BatchPhase,
    DisputePhase,
    Kind,
    OpeningStatus,
    Planting,
    RoundPhase,
    Standing,
)
from marketplace.protocol import commitments, disputes
from marketplace.protocol.disputes import Fault, LeafVerdict
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.merkle import batch_tree
from marketplace.protocol.verdict import (
    MALFORMED,
    SOUND,
    UNAVAILABLE,
    Attestation,
    Reason,
)


@pytest.fixture(scope="module")
def windows(deploy_once):
    """The market with PRESET's windows."""
    return deploy_once(PRESET, same_token=True)


@pytest.fixture
def case(market, windows, accounts) -> Case:
    return open_case(market, accounts, windows)


def test_a_lying_majority_falls_to_a_disputed_leaf(case, accounts) -> None:
    reader, challenger = case.reader, case.challenger
    lie, truth = case.tree(LIE).attestation, case.tree(TRUTH).attestation
    first = case.attest([lie, lie, truth])
    assert reader.batch(case.batch).attestation == lie
    assert reader.votes_for(first, lie) == 2
    (files,) = reader.verdict_files(first, lie)
    assert [one.attestation for one in reader.announced(first)] == [lie, lie, truth]
    assert reader.announced(first)[0].content == files

    index = disputes.first_difference(TRUTH, LIE)
    assert index == 5
    bond = reader.dispute_bond(case.batch)
    assert bond == 2 * 7 * TUSD // 2
    dispute = case.dispute_leaf(LIE, index)
    opened = reader.dispute(dispute)
    assert (opened.phase, opened.kind, opened.standing) == (
        DisputePhase.IN_JURY,
        Kind.LEAF,
        Standing.NONE,
    )
    assert (opened.challenger, opened.batch, opened.index) == (challenger.address, case.batch, 5)
    assert (opened.bond, opened.paid, opened.juries) == (bond, True, 1)
    assert opened.vote == commitments.vote(case.juror(5, RIGHT))
    assert reader.disputes_of(case.batch) == (dispute,)
    assert reader.pool() == 0
    with pytest.raises(ContractError, match=f"verdict 5 of batch {case.batch} is or was disputed"):
        case.dispute_leaf(LIE, 5)
    jury = reader.round(opened.jury)
    assert (jury.jury, jury.fresh, jury.previous, jury.size) == (True, True, first, 7)
    assert jury.subject == commitments.jury_subject(
        31337, case.kit.deployment.address("court"), dispute, case.batch, 5, opened.vote
    )
    # Five of seven seats can be filled: all who did not sit in the batch's round.
    case.judge(dispute, case.juror(5, WRONG), case.juror(5, RIGHT))
    liars = {seat.verifier for seat in reader.seats(first)[:2]}
    jurors = reader.seats(opened.jury)
    assert len(jurors) == 5
    assert not {seat.verifier for seat in jurors} & {s.verifier for s in reader.seats(first)}
    decided = reader.dispute(dispute)
    assert (decided.phase, decided.standing) == (DisputePhase.APPEALABLE, Standing.FALLS)
    assert decided.standing_vote == commitments.vote(case.juror(5, WRONG))
    assert reader.appeal_bond(dispute) == 2 * bond
    assert reader.batch(case.batch).disputes == 1
    with pytest.raises(ContractError, match=f"dispute {dispute} is appealable"):
        reader.close_dispute(dispute)
    case.kit.pass_time(PRESET.appeal_window + 1)
    assert reader.batch(case.batch).phase is BatchPhase.DISPUTED
    before = reader.balance(challenger.address)
    paid = case.close(dispute)
    reward = FEES // 3
    jurors_paid = 4 * TUSD // 2
    assert paid == {
        "dispute": dispute,
        "batch": case.batch,
        "standing": Standing.FALLS,
        "slashed": 400 * TUSD,
        "jurorsPaid": jurors_paid,
        "challengerPaid": bond + reward,
        "wrongedPaid": FEES,
    }
    assert reader.balance(challenger.address) - before == bond + reward
    stakes = {key.address: reader.verifier(key.address).stake for key in accounts.verifiers}
    assert all(stakes[liar] == STAKE - 200 * TUSD for liar in liars)
    assert stakes[jurors[-1].verifier] == STAKE - 20 * TUSD
    assert reader.pool() == 420 * TUSD - jurors_paid - reward - FEES
    assert reader.payable_seats(first) == 1
    assert reader.dispute(dispute).phase is DisputePhase.CLOSED

    again = reader.batch(case.batch)
    assert (again.phase, again.overturned, again.disputes) == (BatchPhase.IN_ROUND, 1, 0)
    assert again.attestation is None
    second = case.attest([truth] * 3)
    assert reader.rounds_of(case.batch) == (first, second)
    assert not {s.verifier for s in reader.seats(second)} & {
        s.verifier for s in reader.seats(first)
    }
    case.settle()
    # The fee goes to four payable seats, one of them that of the honest member of round one.
    for seat in (reader.seats(first)[2], *reader.seats(second)):
        assert reader.balance(seat.verifier) in (FEES // 4, FEES // 4 + TUSD // 2)
    bond_back = reader.batch(case.batch).bond - TUSD // 50
    assert reader.balance(accounts.miner.address) == 7 * TUSD // 10 + bond_back
    assert reader.held_for("market") == 0
    assert case.everything() == case.money


def test_a_frivolous_dispute_costs_its_bond_and_an_unheard_appeal_nothing(case, accounts) -> None:
    reader, challenger = case.reader, case.challenger
    truth = case.tree(TRUTH).attestation
    case.attest([truth] * 3)
    with pytest.raises(ContractError, match="is no outcome"):
        challenger.dispute_outcome(reader.batch(case.batch))
    with pytest.raises(ConfigError, match="permit"):
        challenger.demand_opening(reader.batch(case.batch), payment=Payment.PERMIT)
    dispute = case.dispute_leaf(TRUTH, 0)
    bond = reader.dispute_bond(case.batch)
    case.judge(dispute, case.juror(0, RIGHT))
    assert reader.dispute(dispute).standing is Standing.STANDS
    challenger.appeal(reader.dispute(dispute), reader.batch(case.batch))
    assert reader.appeals(dispute) == (Appeal(challenger.address, Standing.STANDS, 2 * bond),)
    # Nobody is left for the larger jury: the draw is scheduled again, and the decision stays.
    jury = reader.dispute(dispute).jury
    assert reader.juries_of(dispute) == (jury - 1, jury)
    case.kit.wait_for_randomness(reader.round(jury).draw_point)
    assert not reader.draw(jury).drew(jury)
    with pytest.raises(ContractError, match=f"the jury of dispute {dispute}, is not closed"):
        reader.tally_jury(dispute)
    case.kit.pass_time(PRESET.draw_timeout + 1)
    assert reader.round(jury).phase is RoundPhase.STALLED
    reader.tally_jury(dispute)
    assert reader.dispute(dispute).phase is DisputePhase.DECIDED
    miner = reader.balance(accounts.miner.address)
    paid = case.close(dispute)
    # No jury heard the appeal: its bond comes back.
    left = bond - 5 * TUSD // 2
    assert (paid["jurorsPaid"], paid["challengerPaid"]) == (5 * TUSD // 2, 0)
    assert paid["wrongedPaid"] == left // 2 == reader.balance(accounts.miner.address) - miner
    assert reader.pool() == left - left // 2
    assert reader.batch(case.batch).phase is BatchPhase.SETTLEABLE
    reader.settle(case.batch)
    assert case.everything() == case.money


def test_a_wrong_sum_is_proven_from_the_nodes(case, accounts) -> None:
    reader, prover = case.reader, case.challenger
    honest = case.tree(TRUTH).attestation
    first = case.attest([Attestation(honest.root, 8, 0)] * 3)
    attested = reader.batch(case.batch).attestation
    fault, opened = disputes.find_fault(case.batch, attested, disputes.leaf_verdicts(TRUTH))
    assert fault is Fault.SUM
    with pytest.raises(ContractError, match="show no fault"):
        prover.prove_fault(case.batch, replace(opened, path=()))
    sent = prover.prove_fault(case.batch, opened)
    assert sent.event("FaultProven").args == {
        "batch": case.batch,
        "prover": prover.address,
        "fault": Fault.SUM,
        "slashed": 600 * TUSD,
        "proverPaid": FEES // 3,
        "wrongedPaid": FEES,
    }
    assert reader.payable_seats(first) == 0
    case.attest([honest] * 3)
    case.settle()
    assert case.everything() == case.money


@pytest.mark.parametrize("score", [0, 1_000_001])
def test_a_verdict_over_the_cap_is_proven_at_its_leaf(case, score) -> None:
    leaves = disputes.leaf_verdicts(TRUTH)
    leaves[6] = LeafVerdict(6, score, int(Reason.CORRECT), 1 + (score == 0), 0)
    attested = disputes.leaf_tree(case.batch, leaves).attestation
    votes = [attested] * 3
    case.attest(votes)
    fault, opened = disputes.find_fault(case.batch, attested, leaves)
    assert fault is Fault.CAP
    sent = case.challenger.prove_fault(case.batch, opened)
    assert sent.event("FaultProven").args["fault"] == Fault.CAP
    assert case.reader.batch(case.batch).overturned == 1


def test_a_withheld_tree_is_opened_move_by_move(case) -> None:
    reader, challenger = case.reader, case.challenger
    tree = case.tree(LIE)
    case.attest([tree.attestation] * 3)
    dispute, _ = challenger.demand_opening(reader.batch(case.batch))
    assert reader.dispute(dispute).kind is Kind.OPENING
    while (opening := reader.opening(dispute)).node.size > 1:
        assert opening.status is OpeningStatus.ASKED
        node = opening.node
        children = disputes.children_of(tree, node.first, node.size)
        with pytest.raises(ContractError, match="not the children"):
            reader.answer(dispute, replace(children, left=children.right, right=node.node))
        reader.answer(dispute, children)
        answered = reader.opening(dispute)
        assert (answered.status, answered.children) == (OpeningStatus.ANSWERED, children)
        with pytest.raises(ContractError, match="is not the challenger"):
            reader.ask(dispute, True)
        challenger.ask(dispute, node.toward(5))
        assert reader.opening(dispute).node == node.descend(children, node.toward(5))
    with pytest.raises(ContractError, match=f"opening of dispute {dispute} is not over"):
        reader.conclude_opening(dispute)
    verdict = LeafVerdict.of(5, RIGHT)
    reader.answer_verdict(dispute, case.batch, verdict)
    opened = reader.opening(dispute)
    assert (opened.status, opened.verdict) == (OpeningStatus.OPENED, verdict)
    reader.conclude_opening(dispute)
    assert reader.dispute(dispute).index == 5
    case.judge(dispute, case.juror(5, WRONG))
    assert case.close(dispute)["standing"] == Standing.FALLS
    assert case.everything() == case.money


def test_a_tree_that_nobody_opens_falls(case) -> None:
    case.attest([case.tree(LIE).attestation] * 3)
    dispute, _ = case.challenger.demand_opening(case.reader.batch(case.batch))
    assert case.reader.opening(dispute + 1) is None
    case.kit.pass_time(PRESET.opening_window + 1)
    assert case.reader.opening(dispute).status is OpeningStatus.REFUSED
    case.reader.conclude_opening(dispute)
    assert case.reader.dispute(dispute).phase is DisputePhase.DECIDED
    assert case.close(dispute)["slashed"] == 600 * TUSD
    assert case.reader.juries_of(dispute) == ()
    assert case.everything() == case.money


def test_a_conflict_is_narrowed_and_a_jury_says_who_was_right(case) -> None:
    reader = case.reader
    lie, truth = case.tree(LIE), case.tree(TRUTH)
    other = case.tree([WRONG] * 8)
    round_id = case.kit.draw(case.batch)
    case.kit.vote(round_id, [tree.attestation for tree in (lie, truth, other)])
    with pytest.raises(ContractError, match="conflict"):
        reader.tally(case.batch)
    leader = disputes.claim(lie, LeafVerdict.of(5, RIGHT))
    rival = disputes.claim(truth, LeafVerdict.of(5, WRONG))
    late = disputes.claim(other, LeafVerdict.of(5, WRONG))
    with pytest.raises(ContractError, match="differ before trace 5"):
        case.challenger.narrow(case.batch, leader, late)
    with pytest.raises(ContractError, match="is not the vote"):
        case.challenger.narrow(case.batch, rival, leader)
    dispute, _ = case.challenger.narrow(case.batch, leader, rival)
    found = reader.dispute(dispute)
    assert (found.kind, found.index) == (Kind.CONFLICT, 5)
    assert found.rival_vote == commitments.vote(case.juror(5, WRONG))
    case.judge(dispute, case.juror(5, WRONG))
    assert reader.dispute(dispute).standing is Standing.RIVAL
    case.close(dispute)
    assert reader.batch(case.batch).attestation == truth.attestation
    case.settle()
    # The two members that disagreed with the final verdicts lost a fifth of a seat.
    assert reader.pool() == 2 * 20 * TUSD
    assert case.everything() == case.money


@pytest.mark.parametrize(("outcome", "slashed"), [(MALFORMED, 600 * TUSD), (UNAVAILABLE, 0)])
def test_an_outcome_that_is_unfounded_falls(case, outcome, slashed) -> None:
    case.attest([outcome] * 3)
    with pytest.raises(ContractError, match="speaks of the whole batch"):
        case.dispute_leaf(LIE, 5)
    dispute, _ = case.challenger.dispute_outcome(case.reader.batch(case.batch))
    assert case.reader.dispute(dispute).vote == commitments.vote(outcome)
    case.judge(dispute, SOUND)
    paid = case.close(dispute)
    assert (paid["standing"], paid["slashed"]) == (Standing.FALLS, slashed)
    assert case.reader.batch(case.batch).phase is BatchPhase.IN_ROUND
    assert case.everything() == case.money


def test_only_jurors_call_a_batch_sound(case) -> None:
    with pytest.raises(ContractError, match="answer of jurors only"):
        case.attest([SOUND] * 3)


def test_a_planted_batch_shows_who_did_not_check(case, market, accounts) -> None:
    kit, planter = case.kit, case.challenger
    audits = kit.deployment.address("audits")
    bounty = kit.open_bounty()
    planted, salt = LeafVerdict.of(5, WRONG), b"\x5a" * 32
    lines = [b"x" + line for line in LINES]
    place = kit.deployment.address("market")
    traces = batch_tree(31337, place, bounty, accounts.miner.address, lines)
    leaf = disputes.audit_leaf(31337, audits, traces.root, planted, salt)
    plantings = disputes.PlantingTree([b"\x01" * 32, leaf, b"\x02" * 32])
    assert planter.planting(plantings.root) is None
    planter.plant_audit(plantings.root)
    planted_at = planter.head().timestamp
    assert planter.planting(plantings.root) == Planting(plantings.root, planter.address, planted_at)
    with pytest.raises(ContractError, match="already planted"):
        planter.plant_audit(plantings.root)
    kit.pass_time(2)
    kit.open_assignment(bounty)
    batch = kit.commit_batch(bounty, traces=8, root=traces.root)
    mine = Case(kit, batch, traces)
    tree = mine.tree(LIE)
    mine.attest([tree.attestation] * 3)
    opening = {
        "planted": planted,
        "salt": salt,
        "root": plantings.root,
        "proof": plantings.proof(1),
        "attested": LeafVerdict.of(5, RIGHT),
        "attested_proof": tree.proof(5),
    }
    with pytest.raises(ContractError, match="was planted by"):
        kit.client(accounts.poster).open_audit(batch, **opening)
    with pytest.raises(ContractError, match="is not planted"):
        planter.open_audit(batch, **(opening | {"salt": b"\x5b" * 32}))
    assert planter.audit(batch) is None
    missed, _ = planter.open_audit(batch, **opening)
    assert missed
    assert planter.audit(batch) == Audit(batch, planter.address, 5, True)
