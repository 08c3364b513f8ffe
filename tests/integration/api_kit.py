"""An index of a market on Anvil, and the comparison of all its answers with the contracts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from marketplace.api.app import create_app
from marketplace.api.views import (
    BATCH_PHASES,
    DISPUTE_PHASES,
    KINDS,
    OPENING_STATUSES,
    ROUND_PHASES,
    STANDINGS,
)
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Round
from marketplace.indexer.follow import Indexer
from marketplace.indexer.store import IndexStore
from marketplace.protocol.verdict import (
    Attestation,
)
from marketplace.storage.cid import Cid

TUSD = 10**6
GOOD = Attestation(b"\x21" * 32, 5, 1)
BAD = Attestation(b"\x22" * 32, 8, 0)
Get = Callable[[str], Any]


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
    assert said["identity"] == "0x" + checkpoint.identity.hex()


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
    modules = ("escrow", "stake", "market", "court", "royalties")
    for module in modules:
        assert money[module] == str(reader.held_for(module))
    assert money["pool"] == str(reader.pool())
    assert int(money["court"]) == int(money["pool"]) + int(money["dispute_bonds"])
    tracked = int(money["tokens_in"]) - int(money["tokens_out"])
    assert tracked == reader.ledger_tokens()
    assert tracked == total + sum(int(money[m]) for m in modules)


def settle(market: Any, batch: int, leader: Attestation) -> None:
    market.reader.tally(batch, leader)
    market.pass_challenge_window()
    market.reader.settle(batch)
