"""What the routes answer about disputes and audits, and what a page of many costs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

from marketplace.chain.records import BatchPhase, DisputePhase, Kind
from marketplace.indexer.follow import Indexer
from marketplace.indexer.projecting import Rows
from marketplace.indexer.queries import open_snapshot
from marketplace.indexer.rows import BATCHES, DISPUTES, ROUNDS, BatchRow, DisputeRow, RoundRow
from marketplace.indexer.store import IndexStore
from marketplace.protocol.commitments import vote
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Attestation

USD = 10**6
SAID = Attestation(keccak(b"said"), 1, 0)
Get = Callable[..., Any]


def test_a_dispute_from_its_opening_to_its_end(
    chain: Any, sim: ModuleType, get: Get, clock: list[float]
) -> None:
    market, lie = chain.market, sim.LIE
    chain.mine(*(market.stake(sim.account(n), 250 * USD) for n in range(6, 11)))
    chain.mine(market.commit(1, sim.account(20), 4))
    sim.run_round(chain, 1, [sim.account(n) for n in (1, 2, 3)], [lie, lie, SAID])
    chain.mine(market.attest(1, lie))
    chain.mine(market.dispute(1, sim.account(30), 2))
    seen = get("/disputes/1")
    assert (seen["batch"], seen["trace"], seen["attestation"]) == (1, 2, 1)
    assert (seen["phase"], seen["kind"], seen["standing"]) == ("in_jury", "leaf", "none")
    assert (seen["at_stake"], seen["next_appeal_bond"]) == (str(7 * USD), str(14 * USD))
    assert seen["vote"] == "0x" + vote(market.claimed(1)).hex()
    (jury,) = seen["juries"]
    assert jury == get("/rounds/2")
    assert (jury["batch"], jury["dispute"], jury["number"], jury["previous"]) == (1, 1, 1, 1)
    assert (jury["max_units"], jury["size"], jury["fresh"]) == (1, 7, True)
    clock[0] = chain.head().timestamp + 3
    assert get("/batches/1")["phase"] == "disputed"
    assert [batch["id"] for batch in get("/batches", phase="disputed")["items"]] == [1]
    assert get("/batches", phase="settleable")["items"] == []
    clock[0] = 0
    sim.run_round(chain, 2, [sim.account(n) for n in range(4, 11)], [market.rival(1)] * 7)
    chain.mine(market.tally_jury(1))
    assert get("/disputes/1")["phase"] == "appealable"
    assert get("/disputes", phase="decided")["items"] == []
    chain.mine(market.appeal(1, sim.account(31)))
    (appeal,) = get("/disputes/1")["appeals"]
    assert appeal == {
        "number": 1,
        "appellant": sim.account(31),
        "against": "falls",
        "bond": str(14 * USD),
        "appealed_at": chain.head().timestamp,
    }
    assert get("/market")["money"]["dispute_bonds"] == str(21 * USD)
    chain.mine(market.tally_jury(1))  # nobody was left for the larger jury
    assert get("/disputes/1")["final"]
    chain.mine(market.close(1))

    seen = get("/disputes/1")
    assert (seen["phase"], seen["standing"], seen["slashed"]) == ("closed", "falls", "400000000")
    assert seen["jurors_paid"] == str(7 * USD // 2)
    money = get("/market")["money"]
    assert money["dispute_bonds"] == "0"
    assert money["court"] == money["pool"] == str(market.pool)
    batch = get("/batches/1")
    assert (batch["phase"], batch["overturned"], batch["open_disputes"]) == ("in_round", 1, 0)
    assert batch["attestation"] is None
    assert [one["id"] for one in batch["disputes"]] == [1]
    assert [r["id"] for r in batch["rounds"]] == [1, 4]
    (past,) = batch["attestations"]
    assert past["attestation"]["verdict_root"] == "0x" + lie.root.hex()
    assert (past["dispute"], past["prover"], past["slashed"]) == (1, None, "400000000")
    convicted = [seat["convicted"] for seat in batch["rounds"][0]["seats"]]
    assert convicted == [True, True, False]


def test_disputes_by_filter(chain: Any, sim: ModuleType, get: Get) -> None:
    market = chain.market
    for batch in (1, 2):
        chain.mine(market.commit(1, sim.account(20), 4))
        sim.run_round(chain, batch, [sim.account(n) for n in (1, 2, 3)], [SAID] * 3)
        chain.mine(market.attest(batch, SAID))
        chain.mine(*(market.stake(sim.account(n), 300 * USD) for n in (1, 2, 3)))
    chain.mine(market.dispute(1, sim.account(30), 0))
    chain.mine(market.dispute(2, sim.account(30), 0, Kind.OPENING))
    chain.mine(market.dispute(2, sim.account(31), 1))
    for at in range(210):
        chain.mine(market.dispute(1, sim.account(32), at))

    def ids(**filters: Any) -> list[int]:
        return [one["id"] for one in get("/disputes", **filters)["items"]]

    assert ids(batch=2) == [2, 3]
    assert ids(challenger=sim.account(30)) == [1, 2]
    assert ids(challenger=sim.account(30).lower(), batch=2, phase="opening") == [2]
    assert ids(phase="in_jury", limit=2) == [1, 3]
    assert get("/disputes", limit=2)["next_cursor"] == "2"
    opening = get("/disputes/2")["opening"]  # 30 seconds passed long ago
    assert (opening["status"], opening["first"], opening["size"]) == ("refused", 0, 4)
    assert get("/disputes/1")["opening"] is None
    # Anybody with bonds can fill a batch's list; its page stays bounded.
    assert get("/batches/1")["open_disputes"] == 211
    assert len(get("/batches/1")["disputes"]) == 200


def test_planted_batches(chain: Any, sim: ModuleType, get: Get) -> None:
    market, planter = chain.market, sim.account(40)
    chain.mine(market.plant(planter, "traps"))
    for batch, missed in ((1, True), (2, False)):
        chain.mine(market.commit(1, sim.account(20), 4))
        sim.run_round(chain, batch, [sim.account(n) for n in (1, 2, 3)], [SAID] * 3)
        chain.mine(market.attest(batch, SAID))
        chain.mine(*(market.stake(sim.account(n), 300 * USD) for n in (1, 2, 3)))
        chain.mine(market.open_audit(batch, planter, 3, missed=missed))
    first, second = get("/audits")["items"]
    assert (first["batch"], first["planter"], first["trace"]) == (1, planter, 3)
    assert get("/audits", missed=True)["items"] == [first]
    assert get("/audits", missed=False, planter=planter)["items"] == [second]
    assert get("/audits", cursor=1)["items"] == [second]
    assert get("/batches/1")["audit"] == first
    seen = get("/market")
    assert (seen["plantings"], seen["audits"], seen["audits_missed"]) == (1, 2, 1)


def test_a_page_reads_few_rows_of_many(tmp_path: Path, sim: ModuleType) -> None:
    """10,000 batches and disputes: SQLite's own count of its steps stays that of a page."""
    store = IndexStore(tmp_path / "many.sqlite", sim.deployment())
    chain = sim.SimulatedChain(sim.SimulatedMarket(sim.deployment()))
    sim.open_market(chain)
    Indexer(chain, store, clock=lambda: 0).run_once()
    store.close()
    with closing(sqlite3.connect(tmp_path / "many.sqlite")) as file, file:
        rows = Rows(file, sim.PARAMETERS, undo_from=0)
        for id in range(1, 10_001):
            disputed = id % 1000 == 0
            rows.put(
                BATCHES,
                BatchRow(
                    id=id, bounty=1, miner=sim.account(20), root="0x", count=4, first_task=0,
                    bond=1, content_digest="0x" + "00" * 32, content_codec=0x55, round=id, rounds=1,
                    block=1, tx_hash="0x", committed_at=1, attested_at=1,
                    verdict_root="0x" + "00" * 32, units=1, faults=0,
                    disputes=int(disputed), closed=not disputed, closed_at=2, slashed=0,
                ),
            )  # fmt: skip
            rows.put(ROUNDS, RoundRow(id, "0x", 3, 1, 1, batch=id, number=1, drawn_at=1))
            rows.put(
                DISPUTES,
                DisputeRow(id, id, 1, 0, sim.account(30), 0, 1, 1, 1, "0x", 1, closed=not disputed),
            )
        rows.flush()
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with open_snapshot(tmp_path / "many.sqlite", lambda: 10**9) as seen:
        seen._connection.set_progress_handler(count, 1)
        reads: list[Callable[[], Any]] = [
            lambda: seen.batches(5_000, 51),
            lambda: seen.batches(0, 51, phase=BatchPhase.DISPUTED),
            lambda: seen.batches(9_000, 51, phase=BatchPhase.SETTLEABLE),
            lambda: seen.disputes(5_000, 51),
            lambda: seen.disputes(0, 51, batch=7_000),
            lambda: seen.disputes(0, 51, phase=DisputePhase.OPENING),
            lambda: seen.juries(5),
            lambda: seen.rounds_of(7_000),
            lambda: seen.attestations(7_000),
            lambda: seen.audits(0, 51, missed=True),
        ]
        for read in reads:
            before = steps
            read()
            assert steps - before < 5_000, reads.index(read)
        assert [row.id for row in seen.batches(0, 3, phase=BatchPhase.DISPUTED)] == [
            1000,
            2000,
            3000,
        ]
