"""The index and its API against a real chain: every answer equals the contracts' own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from marketplace.api.app import create_app
from marketplace.api.serve import Service
from marketplace.api.views import (
    BATCH_PHASES,
    DISPUTE_PHASES,
    KINDS,
    OPENING_STATUSES,
    ROUND_PHASES,
    STANDINGS,
)
from marketplace.chain.deploying import deploy
from marketplace.chain.deployment import save_deployment
from marketplace.chain.parameters import MINIMAL
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import ContentId, Round
from marketplace.indexer.follow import Indexer
from marketplace.indexer.store import IndexStore
from marketplace.protocol import disputes
from marketplace.protocol.disputes import LeafVerdict
from marketplace.protocol.errors import ConfigError, TracemarketError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.merkle import Tree, batch_tree
from marketplace.protocol.verdict import (
    UNAVAILABLE,
    Attestation,
    Reason,
    Verdict,
    VerdictTree,
    batch_verdicts,
)
from marketplace.storage.cid import Cid
from marketplace.storage.embedded import EmbeddedStore
from trainer.pull import pull_attested, settled_batches

TUSD = 10**6
GOOD = Attestation(b"\x21" * 32, 5, 1)
BAD = Attestation(b"\x22" * 32, 8, 0)
Get = Callable[[str], Any]


@pytest.fixture
def get(market: Any, tmp_path: Path) -> Iterator[Get]:
    """JSON of a path, once the index has caught up; at the chain's own time."""
    with indexed(market, tmp_path) as get:
        yield get


@contextmanager
def indexed(market: Any, tmp_path: Path) -> Iterator[Get]:
    reader = market.reader
    with IndexStore(tmp_path / "index.sqlite", market.deployment) as store:
        indexer = Indexer(reader, store, clock=lambda: 0, page_blocks=7)
        app = create_app(store.path, lambda: reader.head().timestamp)
        with TestClient(app) as client:

            def get(path: str) -> Any:
                indexer.run_once()
                return answer(client.get(path))

            yield get


def answer(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


# --- the contracts' own answers -----------------------------------------------------------


def check_everything(get: Get, reader: MarketReader) -> None:
    """Every bounty, batch, round, seat, verifier, checkpoint and balance, and all money."""
    assert get("/health")["indexed_block"] == reader.head().number
    totals = get("/market")
    assert totals["bounties"] == reader.bounty_count()
    assert totals["batches"] == reader.batch_count()
    assert totals["rounds"] == reader.round_count()
    assert totals["checkpoints"] == reader.checkpoint_count()
    assert totals["disputes"] == reader.dispute_count()
    for id in range(1, reader.dispute_count() + 1):
        check_dispute(get, reader, id)
    for id in range(1, reader.bounty_count() + 1):
        check_bounty(get, reader, id)
    for id in range(1, reader.batch_count() + 1):
        check_batch(get, reader, id)
    for id in range(1, reader.round_count() + 1):
        check_round(get(f"/rounds/{id}"), reader, reader.round(id))
    for id in range(1, reader.checkpoint_count() + 1):
        check_checkpoint(get, reader, id)
    check_verifiers(get, reader)
    check_money(get, reader, totals["money"])


def check_bounty(get: Get, reader: MarketReader, id: int) -> None:
    said, bounty = get(f"/bounties/{id}"), reader.bounty(id)
    terms = bounty.terms
    assert said["poster"] == bounty.poster
    assert said["available"] == str(bounty.available)
    assert said["reserved"] == str(bounty.reserved)
    assert said["environment"] == "0x" + terms.environment.hex()
    assert said["trainer"] == terms.trainer
    assert said["deadline"] == terms.deadline
    assert said["group_size"] == terms.group_size
    assert said["tier"] == "ABC"[terms.tier]
    assert said["pay_rule"] == ("correct", "informative")[terms.pay_rule]
    assert said["price_per_unit"] == str(terms.price_per_unit)
    assert said["fee_per_trace"] == str(terms.fee_per_trace)
    came = int(said["funded"]) + int(said["replenished"])
    went = int(said["paid"]) + int(said["refunded"])
    assert came == bounty.available + bounty.reserved + went


def check_batch(get: Get, reader: MarketReader, id: int) -> None:
    said, batch = get(f"/batches/{id}"), reader.batch(id)
    assert said["phase"] == BATCH_PHASES[batch.phase]
    assert said["miner"] == batch.miner
    assert said["bounty"] == batch.bounty
    assert said["count"] == batch.count
    assert said["root"] == "0x" + batch.root.hex()
    assert said["bond"] == str(batch.bond)
    assert said["first_task"] == batch.first_task
    assert (said["round"], said["round_count"]) == (batch.round, batch.rounds)
    assert said["attested_at"] == batch.attested_at
    assert (said["open_disputes"], said["overturned"]) == (batch.disputes, batch.overturned)
    assert tuple(dispute["id"] for dispute in said["disputes"]) == reader.disputes_of(id)
    assert len(said["attestations"]) == batch.overturned + (batch.attestation is not None)
    audit = reader.audit(id)
    assert (said["audit"] is None) == (audit is None)
    if audit is not None:
        shown = said["audit"]
        assert shown in get("/audits")["items"]
        assert (shown["planter"], shown["trace"]) == (audit.planter, audit.index)
        assert shown["missed"] == audit.missed
    check_attestation(said["attestation"], batch.attestation)
    content = reader.batch_content(id)
    assert said["cid"] == str(Cid(content.digest, content.codec))
    assert tuple(round["id"] for round in said["rounds"]) == reader.rounds_of(id)
    assert [round["number"] for round in said["rounds"]] == list(range(1, batch.rounds + 1))
    same_phase = get(f"/batches?limit=200&phase={said['phase']}")["items"]
    assert id in [item["id"] for item in same_phase]


def check_dispute(get: Get, reader: MarketReader, id: int) -> None:
    said, dispute = get(f"/disputes/{id}"), reader.dispute(id)
    assert said["phase"] == DISPUTE_PHASES[dispute.phase]
    assert said["kind"] == KINDS[dispute.kind]
    assert said["standing"] == STANDINGS[dispute.standing]
    assert (said["challenger"], said["batch"]) == (dispute.challenger, dispute.batch)
    assert said["trace"] == dispute.index
    assert said["attestation"] == dispute.attestation + 1
    assert (said["jury"], said["jury_count"]) == (dispute.jury, dispute.juries)
    assert (said["decided_at"], said["final"]) == (dispute.decided_at, dispute.last)
    assert said["next_appeal_bond"] == str(reader.appeal_bond(id))
    for name in ("vote", "rival_vote", "standing_vote"):
        found = getattr(dispute, name)
        assert said[name] == (None if found is None else "0x" + found.hex()), name
    assert tuple(jury["id"] for jury in said["juries"]) == reader.juries_of(id)
    assert all(jury == get(f"/rounds/{jury['id']}") for jury in said["juries"])
    assert [
        (appeal["appellant"], appeal["against"], appeal["bond"]) for appeal in said["appeals"]
    ] == [
        (appeal.appellant, STANDINGS[appeal.against], str(appeal.bond))
        for appeal in reader.appeals(id)
    ]
    opening = reader.opening(id)
    assert (said["opening"] is None) == (opening is None)
    if opening is not None:
        shown = said["opening"]
        assert shown["status"] == OPENING_STATUSES[opening.status]
        assert (shown["first"], shown["size"]) == (opening.node.first, opening.node.size)
        assert shown["hash"] == "0x" + opening.node.node.hash.hex()
        assert shown["deadline"] == opening.deadline
    same_phase = get(f"/disputes?limit=200&phase={said['phase']}")["items"]
    assert id in [item["id"] for item in same_phase]


def check_round(said: Any, reader: MarketReader, round: Round) -> None:
    assert said["phase"] == ROUND_PHASES[round.phase]
    assert said["subject"] == "0x" + round.subject.hex()
    assert (said["dispute"] is not None) == round.jury
    if not round.jury:
        assert said["subject"] == "0x" + reader.subject(said["batch"]).hex()
    assert (said["previous"], said["fresh"]) == (round.previous, round.fresh)
    for name in ("draw_point", "opened_at", "drawn_at", "all_committed_at", "max_units", "size"):
        assert said[name] == getattr(round, name), name
    for name in ("committed", "revealed", "judged"):
        assert said[name] == getattr(round, name), name
    seats = reader.seats(round.id)
    assert len(said["seats"]) == round.seats
    for shown, seat in zip(said["seats"], seats, strict=True):
        assert (shown["seat"], shown["verifier"]) == (seat.index, seat.verifier)
        assert shown["state"].upper() == seat.state.name
        if shown["state"] == "committed":
            assert shown["commitment"] == "0x" + seat.vote.hex()
    convicted = sum(shown["convicted"] for shown in said["seats"])
    assert convicted == round.seats - reader.payable_seats(round.id)
    reveals = {event.args["verifier"]: event.args for event in reader.reveals(round.id)}
    for shown in said["seats"]:
        revealed = reveals.get(shown["verifier"])
        assert (shown["attestation"] is None) == (revealed is None)
        if revealed is not None:
            root = revealed["attestation"]["verdictRoot"]
            assert shown["attestation"]["verdict_root"] == "0x" + root.hex()
            place = revealed["verdicts"]
            assert shown["verdicts_cid"] == str(Cid(place["digest"], place["codec"]))


def check_attestation(said: Any, attestation: Attestation | None) -> None:
    if attestation is None:
        assert said is None
        return
    assert said["verdict_root"] == "0x" + attestation.root.hex()
    assert (said["units"], said["faults"]) == (attestation.units, attestation.faults)


def check_checkpoint(get: Get, reader: MarketReader, id: int) -> None:
    said, checkpoint = get(f"/checkpoints/{id}"), reader.checkpoint(id)
    assert said["trainer"] == checkpoint.trainer
    assert said["parent"] == (checkpoint.parent or None)
    assert said["block"] == checkpoint.registered_block
    assert said["cid"] == str(Cid(checkpoint.content.digest, checkpoint.content.codec))
    assert said["dataset_root"] == "0x" + checkpoint.dataset_root.hex()


def check_verifiers(get: Get, reader: MarketReader) -> None:
    listed = get("/verifiers?limit=200")["items"]
    for said in listed:
        verifier = reader.verifier(said["address"])
        assert said == get(f"/verifiers/{verifier.address.lower()}")
        assert said["stake"] == str(verifier.stake)
        assert said["unbonding"] == str(verifier.unbonding)
        assert said["claimable_at"] == verifier.claimable_at
        assert said["open_seats"] == verifier.open_seats
        assert said["free_seats"] == verifier.free_seats
    assert sum(said["free_seats"] for said in listed) == reader.free_seats()
    assert sum(said["free_seats"] > 0 for said in listed) == reader.eligible_verifiers()


def check_money(get: Get, reader: MarketReader, money: dict[str, str]) -> None:
    events = list(reader.events(reader.deployment.block))
    people = {e.args["account"] for e in events if "account" in e.args}
    people |= {e.args["from"] for e in events if e.name == "Collected"}
    total = 0
    for who in people:
        balance = reader.balance(who)
        assert get(f"/balances/{who}")["balance"] == str(balance)
        total += balance
    assert money["balances"] == str(total)
    for module in ("escrow", "stake", "market", "court"):
        assert money[module] == str(reader.held_for(module))
    assert money["pool"] == str(reader.pool())
    assert int(money["court"]) == int(money["pool"]) + int(money["dispute_bonds"])
    tracked = int(money["tokens_in"]) - int(money["tokens_out"])
    assert tracked == reader.tracked()
    assert tracked == total + sum(int(money[m]) for m in ("escrow", "stake", "market", "court"))


# --- stories ------------------------------------------------------------------------------


def settle(market: Any, batch: int, leader: Attestation) -> None:
    market.reader.tally(batch, leader)
    market.pass_challenge_window()
    market.reader.settle(batch)


def test_every_answer_through_the_lives_of_batches_equals_the_contracts(
    market: Any, accounts: Any, get: Get
) -> None:
    reader = market.reader

    def check() -> None:
        check_everything(get, reader)

    bounty = market.open_bounty()
    market.stake_verifiers(5)
    check()
    market.client(accounts.miner).deposit(7 * TUSD)
    market.open_assignment(bounty)
    first = market.commit_batch(bounty)
    check()  # awaiting randomness
    market.wait_for_randomness(reader.round(reader.batch(first).round).draw_point)
    check()  # drawable
    drawn = market.draw(first)
    check()  # committing
    market.vote(drawn, [GOOD, GOOD, BAD])
    check()  # closed
    reader.tally(first, GOOD)
    check()  # challengeable
    market.pass_challenge_window()
    check()  # settleable
    reader.settle(first)
    check()
    seats = get(f"/rounds/{drawn}")["seats"]
    assert [seat["coherent"] for seat in seats] == [True, True, False]
    assert [int(seat["fee"]) for seat in seats[:2]] == [
        reader.balance(seat["verifier"]) for seat in seats[:2]
    ]
    assert seats[2]["penalty"] == str(100 * TUSD * 2000 // 10_000)

    # Nobody could read it; one member is absent.
    second = market.commit_batch(bounty, root=b"\x12" * 32)
    market.vote(market.draw(second), [UNAVAILABLE, None, UNAVAILABLE])
    check()
    settle(market, second, UNAVAILABLE)
    check()
    assert get(f"/batches/{second}")["attestation"]["outcome"] == "unavailable"

    # No quorum in three rounds: void.
    third = market.commit_batch(bounty, root=b"\x13" * 32)
    market.vote(market.draw(third), [GOOD, BAD, None])
    rules = market.deployment.parameters
    # Nobody narrows the conflict.
    market.pass_time(rules.commit_window + rules.reveal_window + rules.opening_window)
    reader.tally(third)
    check()
    for _ in range(2):
        drawn = market.draw(third)
        market.vote(drawn, [None] * reader.round(drawn).seats)
        reader.tally(third)
        check()
    assert get(f"/batches/{third}")["phase"] == "void"

    # Never drawn: stalled, then void.
    fourth = market.commit_batch(bounty, root=b"\x14" * 32)
    market.pass_time(market.deployment.parameters.draw_timeout + 1)
    check()
    assert get(f"/batches/{fourth}")["rounds"][0]["phase"] == "stalled"
    reader.void_stalled(fourth)
    check()

    # The others leave or go on.
    verifier = market.client(accounts.verifiers[0])
    verifier.request_unstake(100 * TUSD)
    check()
    market.pass_time(market.deployment.parameters.unbonding_delay + 1)
    verifier.claim_stake()
    verifier.withdraw()
    trainer = market.client(accounts.trainer)
    for parent in (0, 1):
        trainer.register_checkpoint(
            parent=parent, content=ContentId(sha256(b"weights").digest(), 0x70),
            dataset_root=bytes([parent]) * 32,
        )  # fmt: skip
    check()
    market.pass_time(86_400)
    reader.refund_bounty(bounty)
    check()
    assert get(f"/bounties/{bounty}")["open"] is False


def test_a_real_reorg_is_followed(fresh_anvil: Any, accounts: Any, tmp_path: Path) -> None:
    market = fresh_anvil(deployed=True)
    with indexed(market, tmp_path) as get:
        follow_a_reorg(market, accounts, get)


def follow_a_reorg(market: Any, accounts: Any, get: Get) -> None:
    bounty = market.open_bounty()
    market.stake_verifiers(5)
    market.open_assignment(bounty)
    kept = market.commit_batch(bounty)
    before = get(f"/batches/{kept}")
    market.vote(market.draw(kept), [GOOD, GOOD, GOOD])
    market.client(accounts.stranger)
    fork = market.reader.head().number
    market.reader.tally(kept, GOOD)
    market.client(accounts.miner).deposit(3 * TUSD)
    market.open_bounty(5 * TUSD)
    lost = market.reader.head()
    assert get(f"/batches/{kept}")["phase"] == "challengeable"
    assert get("/health")["indexed_block"] == lost.number

    market.anvil.reorg(lost.number - fork)
    now = market.reader.head()
    assert now.number == lost.number
    assert now.hash != lost.hash
    check_everything(get, market.reader)
    after = get(f"/batches/{kept}")
    assert (after["phase"], after["attestation"]) == ("in_round", None)
    assert after["tx_hash"] == before["tx_hash"]
    assert get("/market")["bounties"] == 1
    market.open_bounty(6 * TUSD)
    check_everything(get, market.reader)


@pytest.fixture
def court(market: Any, accounts: Any, tmp_path: Path) -> Iterator[Court]:
    with court_on(market, accounts, tmp_path) as court:
        yield court


@contextmanager
def court_on(market: Any, accounts: Any, tmp_path: Path) -> Iterator[Court]:
    """A market with windows that a slow machine does not sit out, with eight verifiers, one batch
    and an index."""
    token = market.deployment.token.address
    preset = replace(MINIMAL, challenge_window=300, appeal_window=300, opening_window=300)
    deployment = deploy(market.anvil.url, accounts.deployer, preset, token=token, timeout=30.0)
    kit = type(market)(market.anvil, deployment, accounts)
    bounty = kit.open_bounty()
    kit.stake_verifiers(8)
    kit.open_assignment(bounty)
    traces = batch_tree(31337, deployment.address("market"), bounty, accounts.miner.address, LINES)
    with IndexStore(tmp_path / "court.sqlite", deployment) as store:
        indexer = Indexer(kit.reader, store, clock=lambda: 0, page_blocks=7)
        app = create_app(store.path, lambda: kit.reader.head().timestamp)
        with TestClient(app) as client:

            def get(path: str) -> Any:
                indexer.run_once()
                return answer(client.get(path))

            batch = kit.commit_batch(bounty, traces=8, root=traces.root)
            yield Court(kit, kit.client(accounts.other_miner), traces, get, bounty, batch)


LINES = [f"trace {index}".encode() for index in range(8)]
RIGHT = Verdict(1_000_000, Reason.CORRECT, 1, 0)
WRONG = Verdict(0, Reason.WRONG, 0, 0)
TRUTH = [RIGHT] * 5 + [WRONG] + [RIGHT] * 2
LIE = [RIGHT] * 8


@dataclass
class Court:
    """Steps of a dispute. After each the index must agree with the contracts."""

    kit: Any
    challenger: Any
    traces: Tree
    get: Get
    bounty: int
    batch: int

    def check(self) -> None:
        check_everything(self.get, self.kit.reader)

    def attest(self, votes: list[Attestation], batch: int | None = None) -> None:
        chosen = batch or self.batch
        self.kit.vote(self.kit.draw(chosen), votes)
        self.kit.reader.tally(chosen)
        self.check()

    def tree(self, verdicts: list[Verdict]) -> VerdictTree:
        return batch_verdicts(self.batch, verdicts)

    def dispute_leaf(self, verdicts: list[Verdict], index: int) -> int:
        id, _ = self.challenger.dispute_leaf(
            self.batch,
            LeafVerdict.of(index, verdicts[index]),
            self.tree(verdicts).proof(index),
            keccak(LINES[index]),
            self.traces.proof(index),
        )
        self.check()
        return int(id)

    def judge(self, dispute: int, *votes: Verdict, index: int = 5) -> None:
        """The first vote is everybody's but the last ones'."""
        reader = self.kit.reader
        jury = reader.dispute(dispute).jury
        self.kit.wait_for_randomness(reader.round(jury).draw_point)
        reader.draw(jury)
        self.check()
        first, *others = (
            disputes.juror_attestation(self.batch, LeafVerdict.of(index, vote)) for vote in votes
        )
        self.kit.vote(jury, [first] * (reader.round(jury).seats - len(others)) + others)
        self.check()
        reader.tally_jury(dispute)
        self.check()

    def close(self, dispute: int) -> None:
        self.kit.pass_time(301)
        self.check()
        self.kit.reader.close_dispute(dispute)
        self.check()

    def settle(self) -> None:
        self.kit.pass_time(301)
        self.check()
        self.kit.reader.settle(self.batch)
        self.check()


def test_a_dispute_that_overturns_equals_the_contracts_at_every_step(
    court: Court, tmp_path: Path
) -> None:
    lie, truth = court.tree(LIE).attestation, court.tree(TRUTH).attestation
    court.attest([lie, lie, truth])
    dispute = court.dispute_leaf(LIE, 5)
    court.judge(dispute, WRONG, RIGHT)
    reader, store = court.kit.reader, EmbeddedStore(tmp_path / "store")
    assert reader.batch(court.batch).attestation == lie
    assert not list(settled_batches(reader)), "disputed verdicts are nothing to train on"
    court.close(dispute)
    assert not list(settled_batches(reader)), "nor are overturned ones"
    with pytest.raises(ConfigError, match="has no verdicts: it is in_round"):
        pull_attested(reader, store, reader.batch(court.batch), timeout=0)
    seen = court.get(f"/disputes/{dispute}")
    assert (seen["standing"], seen["slashed"]) == ("falls", str(400 * TUSD))
    court.attest([truth] * 3)
    court.settle()
    assert [batch.attestation for batch in settled_batches(reader)] == [truth]
    batch = court.get(f"/batches/{court.batch}")
    assert [past["dispute"] for past in batch["attestations"]] == [dispute, None]
    seats = [seat for round in batch["rounds"] for seat in round["seats"]]
    assert [seat["fee"] for seat in seats] == ["0", "0", *[str(8 * TUSD // 50 // 4)] * 4]


def test_an_appeal_a_withheld_tree_and_a_stalled_jury_equal_the_contracts(court: Court) -> None:
    reader = court.kit.reader
    tree = court.tree(TRUTH)
    court.attest([tree.attestation] * 3)
    frivolous = court.dispute_leaf(TRUTH, 5)
    opening, _ = court.challenger.demand_opening(court.batch)
    court.check()
    node = reader.opening(opening).node
    reader.answer(opening, disputes.children_of(tree, node.first, node.size))
    court.check()
    court.judge(frivolous, WRONG, RIGHT)
    court.challenger.appeal(frivolous)
    court.check()
    court.kit.pass_time(301)  # the challenger does not go on
    court.check()
    assert court.get(f"/disputes/{opening}")["opening"]["status"] == "abandoned"
    reader.conclude_opening(opening)
    court.check()
    court.kit.pass_time(reader.parameters.draw_timeout + 301)
    court.check()
    assert court.get(f"/disputes/{frivolous}")["juries"][1]["phase"] == "stalled"
    reader.tally_jury(frivolous)
    court.check()
    assert court.get(f"/batches/{court.batch}")["phase"] == "disputed"
    court.close(frivolous)
    court.close(opening)
    court.settle()


def test_a_proven_fault_equals_the_contracts(court: Court) -> None:
    honest = court.tree(TRUTH).attestation
    court.attest([Attestation(honest.root, 8, 0)] * 3)
    attested = court.kit.reader.batch(court.batch).attestation
    _, opened = disputes.find_fault(court.batch, attested, disputes.leaf_verdicts(TRUTH))
    court.challenger.prove_fault(court.batch, opened)
    court.check()
    (past,) = court.get(f"/batches/{court.batch}")["attestations"]
    assert (past["prover"], past["fault"]) == (court.challenger.address, "sum")
    assert past["slashed"] == str(600 * TUSD)
    court.attest([honest] * 3)
    court.settle()


def test_a_conflict_equals_the_contracts(court: Court) -> None:
    lie, truth = court.tree(LIE), court.tree(TRUTH)
    votes = [lie.attestation, truth.attestation, UNAVAILABLE]
    court.kit.vote(court.kit.draw(court.batch), votes)
    dispute, _ = court.challenger.narrow(
        court.batch,
        disputes.claim(lie, LeafVerdict.of(5, RIGHT)),
        disputes.claim(truth, LeafVerdict.of(5, WRONG)),
    )
    court.check()
    court.judge(dispute, WRONG)
    court.close(dispute)
    assert court.get(f"/disputes/{dispute}")["standing"] == "rival"
    court.settle()


def test_a_planted_batch_equals_the_contracts(court: Court, accounts: Any) -> None:
    kit, planter, salt = court.kit, court.challenger, b"\x5a" * 32
    planted = LeafVerdict.of(5, WRONG)
    audits = kit.deployment.address("audits")
    root = b"\x77" * 32
    leaf = disputes.audit_leaf(31337, audits, root, planted, salt)
    plantings = disputes.PlantingTree([leaf, b"\x01" * 32])
    planter.plant_audit(plantings.root)
    court.check()
    assert court.get("/market")["plantings"] == 1
    kit.pass_time(2)
    batch = kit.commit_batch(court.bounty, traces=8, root=root)
    tree = batch_verdicts(batch, LIE)
    court.attest([tree.attestation] * 3, batch)
    planter.open_audit(
        batch, planted=planted, salt=salt, root=plantings.root, proof=plantings.proof(0),
        attested=LeafVerdict.of(5, RIGHT), attested_proof=tree.proof(5),
    )  # fmt: skip
    court.check()
    assert court.get("/market")["audits_missed"] == 1


def test_a_reorg_across_a_dispute_rolls_back_cleanly(
    fresh_anvil: Any, accounts: Any, tmp_path: Path
) -> None:
    with court_on(fresh_anvil(deployed=True), accounts, tmp_path) as court:
        lose_a_dispute(court)


def lose_a_dispute(court: Court) -> None:
    kit, lie = court.kit, court.tree(LIE).attestation
    court.attest([lie] * 3)
    before = court.get(f"/batches/{court.batch}")
    money = court.get("/market")["money"]
    fork = kit.reader.head().number
    dispute = court.dispute_leaf(LIE, 5)
    court.judge(dispute, WRONG)
    court.close(dispute)
    assert court.get(f"/batches/{court.batch}")["overturned"] == 1
    kit.anvil.reorg(kit.reader.head().number - fork)
    court.check()
    after = court.get(f"/batches/{court.batch}")
    for name in ("attestation", "attestations", "disputes", "rounds", "overturned"):
        assert after[name] == before[name], name
    assert court.get("/market")["disputes"] == 0
    assert court.get("/market")["money"] == money
    # The same again on the new branch.
    again = court.dispute_leaf(LIE, 5)
    assert again == dispute


@contextmanager
def running(market: Any, index: Path, **options: Any) -> Iterator[httpx.Client]:
    """A real server with its indexer; gone afterwards."""
    service = Service(
        index, MarketReader(market.anvil.url, market.deployment), market.deployment,
        port=0, poll_interval=0.02, **options,
    )  # fmt: skip
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=30) as client:
            yield client
    finally:
        service.stop()
        thread.join(timeout=30)
    assert not thread.is_alive()


def caught_up(client: httpx.Client, market: Any) -> None:
    """Poll until the index has the chain's newest block."""
    head = market.reader.head()
    until(lambda: health(client).get("indexed_hash") == "0x" + head.hash.hex())


def health(client: httpx.Client) -> Any:
    try:
        return client.get("/health").json()
    except httpx.TransportError:
        return {}


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def test_a_server_follows_the_chain_and_goes_on_after_a_restart(
    market: Any, accounts: Any, tmp_path: Path
) -> None:
    index, reader = tmp_path / "index.sqlite", market.reader

    def clock() -> float:
        return float(reader.head().timestamp)

    bounty = market.open_bounty()
    with running(market, index, clock=clock) as client:
        caught_up(client, market)
        market.stake_verifiers(5)
        market.open_assignment(bounty)
        batch = market.commit_batch(bounty)
        drawn = market.draw(batch)
        caught_up(client, market)
        assert answer(client.get(f"/batches/{batch}"))["rounds"][0]["phase"] == "committing"
    market.vote(drawn, [GOOD, GOOD, GOOD])  # while nobody indexes
    with running(market, index, clock=clock) as client:
        caught_up(client, market)
        settle(market, batch, GOOD)
        caught_up(client, market)
        check_everything(lambda path: answer(client.get(path)), reader)
        assert answer(client.get(f"/batches/{batch}"))["phase"] == "settled"


_SERVE = """
import sys
from pathlib import Path
from marketplace.api.serve import serve
from marketplace.chain.deployment import load_deployment
from marketplace.chain.reads import MarketReader
url, deployment, index, port = sys.argv[1:]
deployment = load_deployment(Path(deployment))
reader = MarketReader(url, deployment)
serve(Path(index), reader, deployment, port=int(port), poll_interval=0.02)
"""


def test_a_killed_server_goes_on_and_a_terminated_one_ends_well(
    market: Any, tmp_path: Path
) -> None:
    save_deployment(market.deployment, tmp_path / "market.json")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _SERVE, market.anvil.url, str(tmp_path / "market.json")]
    command += [str(tmp_path / "index.sqlite"), str(port)]
    bounty = market.open_bounty()
    market.stake_verifiers(5)
    for end in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                caught_up(client, market)
                market.reader.fund_bounty(bounty, TUSD)  # the kill may come before or after it
                if end is signal.SIGTERM:
                    caught_up(client, market)
                    check_everything(lambda path: answer(client.get(path)), market.reader)
            process.send_signal(end)
            code = process.wait(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert code == (-signal.SIGKILL if end is signal.SIGKILL else 0)


def test_a_port_in_use_is_named(market: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1 port {port}: Address already in use"):
            Service(tmp_path / "i", market.reader, market.deployment, port=port)


def test_a_failing_indexer_ends_the_server(market: Any, tmp_path: Path) -> None:
    class Broken:
        def head(self) -> Any:
            raise RuntimeError("a bug")

    service = Service(tmp_path / "i", Broken(), market.deployment, port=0)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="a bug"):
        service.run()


def test_an_unreachable_node_leaves_the_old_answers(market: Any, tmp_path: Path) -> None:
    index = tmp_path / "index.sqlite"
    with IndexStore(index, market.deployment) as store:
        Indexer(market.reader, store, clock=lambda: 0).run_once()
        nowhere = MarketReader("http://127.0.0.1:9", market.deployment, check=False)
        with pytest.raises(TracemarketError, match=r"127\.0\.0\.1:9 does not answer"):
            Indexer(nowhere, store, clock=lambda: 0).run_once()
    with TestClient(create_app(index)) as client:
        assert answer(client.get("/health"))["indexed_block"] == market.reader.head().number
