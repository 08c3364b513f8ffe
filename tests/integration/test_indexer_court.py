"""Disputes in the index: after every step each answer equals the contracts' own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from api_kit import TUSD, Get, check_everything, indexed
from court_kit import LIE, PRESET, RIGHT, TRUTH, WRONG, Case, open_case

from marketplace.chain.client import MarketClient
from marketplace.protocol import disputes
from marketplace.protocol.disputes import LeafVerdict
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.verdict import (
    UNAVAILABLE,
    Attestation,
    Verdict,
    VerdictTree,
    batch_verdicts,
)
from marketplace.storage.embedded import EmbeddedStore
from trainer.pull import pull_attested, settled_batches


@dataclass
class Court:
    """Steps of a dispute. After each the index must agree with the contracts."""

    case: Case
    get: Get

    @property
    def kit(self) -> Any:
        return self.case.kit

    @property
    def batch(self) -> int:
        return self.case.batch

    @property
    def challenger(self) -> MarketClient:
        return self.case.challenger

    def check(self) -> None:
        check_everything(self.get, self.kit.reader)

    def attest(self, votes: list[Attestation], batch: int | None = None) -> None:
        chosen = batch or self.batch
        self.kit.vote(self.kit.draw(chosen), votes)
        self.kit.reader.tally(chosen)
        self.check()

    def tree(self, verdicts: list[Verdict]) -> VerdictTree:
        return self.case.tree(verdicts)

    def dispute_leaf(self, verdicts: list[Verdict], index: int) -> int:
        dispute = self.case.dispute_leaf(verdicts, index)
        self.check()
        return dispute

    def judge(self, dispute: int, *votes: Verdict, index: int = 5) -> None:
        """The first vote is everybody's but the last ones'."""
        reader = self.kit.reader
        jury = reader.dispute(dispute).jury
        self.kit.wait_for_randomness(reader.round(jury).draw_point)
        reader.draw(jury)
        self.check()
        first, *others = (self.case.juror(index, vote) for vote in votes)
        self.kit.vote(jury, [first] * (reader.round(jury).seats - len(others)) + others)
        self.check()
        reader.tally_jury(dispute)
        self.check()

    def close(self, dispute: int) -> None:
        self.kit.pass_time(PRESET.appeal_window + 1)
        self.check()
        self.kit.reader.close_dispute(dispute)
        self.check()

    def settle(self) -> None:
        self.kit.pass_time(PRESET.challenge_window + 1)
        self.check()
        self.kit.reader.settle(self.batch)
        self.check()


@pytest.fixture(scope="module")
def windows(deploy_once: Any) -> Any:
    """The market with PRESET's windows."""
    return deploy_once(PRESET, same_token=True)


@pytest.fixture
def court(market: Any, windows: Any, accounts: Any, tmp_path: Path) -> Iterator[Court]:
    with court_on(market, accounts, tmp_path, windows) as court:
        yield court


@contextmanager
def court_on(market: Any, accounts: Any, tmp_path: Path, deployment: Any = None) -> Iterator[Court]:
    case = open_case(market, accounts, deployment)
    with indexed(case.kit, tmp_path) as get:
        yield Court(case, get)


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
    opening, _ = court.challenger.demand_opening(reader.batch(court.batch))
    court.check()
    node = reader.opening(opening).node
    reader.answer(opening, disputes.children_of(tree, node.first, node.size))
    court.check()
    court.judge(frivolous, WRONG, RIGHT)
    court.challenger.appeal(reader.dispute(frivolous), reader.batch(court.batch))
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
    batch = kit.commit_batch(kit.reader.batch(court.batch).bounty, traces=8, root=root)
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
