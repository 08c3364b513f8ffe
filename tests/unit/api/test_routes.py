"""What the routes answer: values, filters, pages, refusals, documentation."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

from marketplace.api.app import create_app
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import MALFORMED, Attestation
from marketplace.storage.cid import Cid

USD = 10**6
SAID = Attestation(keccak(b"said"), 1, 0)
Get = Callable[..., Any]


def test_health_says_how_far_the_index_is(chain: Any, get: Get, clock: list[float]) -> None:
    clock[0] = 5_000.9
    first = get("/health")
    assert first["chain_id"] == 31337
    assert first["market"] == chain.market.deployment.addresses["market"]
    assert first["indexed_block"] == first["head_block"] == chain.head().number
    assert first["indexed_hash"] == "0x" + chain.head().hash.hex()
    assert (first["lag_blocks"], first["checked_at"], first["seconds_since_check"]) == (0, 5000, 0)


def test_an_index_that_stopped_shows(chain: Any, get: Get, tmp_path: Path) -> None:
    get("/health")
    with TestClient(create_app(tmp_path / "index.sqlite", lambda: 100)) as later:
        assert later.get("/health").json()["seconds_since_check"] == 100


def test_the_market_with_its_money(chain: Any, sim: ModuleType, get: Get) -> None:
    seen = get("/market")
    assert seen["token"]["decimals"] == 6
    assert seen["parameters"]["seat_stake"] == str(100 * USD)
    assert seen["parameters"]["committee_size"] == 3
    assert seen["contracts"] == chain.market.deployment.addresses
    assert seen["money"] == {
        "tokens_in": str(11_250 * USD),
        "tokens_out": "0",
        "balances": "0",
        "escrow": str(10_000 * USD),
        "stake": str(1_250 * USD),
        "market": "0",
        "court": "0",
        "royalties": "0",
        "dispute_bonds": "0",
        "pool": "0",
    }
    assert seen["parameters"]["juror_fee"] == str(USD // 2)
    assert (seen["environments"], seen["bounties"], seen["verifiers"]) == (1, 1, 5)
    assert (seen["disputes"], seen["plantings"], seen["audits"]) == (0, 0, 0)


def test_an_environment_by_id_and_by_content_address(get: Get, sim: ModuleType) -> None:
    digest = keccak(b"sums")
    cid = str(Cid(digest, 0x55))
    by_id = get(f"/environments/0x{digest.hex()}")
    assert by_id == get(f"/environments/{cid}") == get(f"/environments/0x{digest.hex().upper()}")
    assert (by_id["cid"], by_id["author"]) == (cid, sim.account(100))
    assert get("/environments")["items"] == [by_id]


def test_a_batch_in_every_phase(chain: Any, sim: ModuleType, get: Get, clock: list[float]) -> None:
    market, members = chain.market, [sim.account(n) for n in (1, 2, 3)]

    def phases() -> tuple[str, str]:
        batch = get("/batches/1")
        assert [b["id"] for b in get("/batches", phase=batch["phase"])["items"]] == [1]
        others = {"in_round", "challengeable", "disputed", "settleable", "settled", "void"}
        others -= {batch["phase"]}
        assert all(get("/batches", phase=phase)["items"] == [] for phase in others)
        assert get("/rounds/1") == batch["rounds"][0]
        return batch["phase"], batch["rounds"][0]["phase"]

    while chain.head().number < 48:
        chain.mine()
    chain.mine(market.commit(1, sim.account(20), 2))  # draws from block 50
    opened = chain.head().timestamp
    assert phases() == ("in_round", "awaiting_randomness")
    chain.mine(seconds=1)
    assert phases() == ("in_round", "awaiting_randomness")
    chain.mine(seconds=1)
    assert phases() == ("in_round", "drawable")
    clock[0] = opened + 60
    assert phases() == ("in_round", "drawable")
    clock[0] = opened + 61
    assert phases() == ("in_round", "stalled")

    chain.mine(market.draw(1, members))
    drawn = chain.head().timestamp
    clock[0] = drawn + 60
    assert phases() == ("in_round", "committing")
    chain.mine(market.commit_verdict(1, 0))
    assert phases() == ("in_round", "committing")
    clock[0] = drawn + 61
    assert phases() == ("in_round", "revealing")
    clock[0] = drawn + 121
    assert phases() == ("in_round", "closed")
    clock[0] = 0
    chain.mine(*(market.commit_verdict(1, seat) for seat in (1, 2)))
    assert phases() == ("in_round", "revealing")
    for seat in range(3):
        chain.mine(market.reveal(1, seat, SAID), seconds=1)
        assert phases() == ("in_round", "revealing" if seat < 2 else "closed")
    chain.mine(market.attest(1, SAID))
    attested = chain.head().timestamp
    clock[0] = attested + 2
    assert phases() == ("challengeable", "closed")
    clock[0] = attested + 3
    assert phases() == ("settleable", "closed")
    chain.mine(market.settle(1))
    assert phases() == ("settled", "closed")


def test_a_settled_batch_in_full(chain: Any, sim: ModuleType, get: Get) -> None:
    market, members = chain.market, [sim.account(n) for n in (1, 2, 3)]
    chain.mine(market.commit(1, sim.account(20), 2))
    sim.run_round(chain, 1, members, [SAID, SAID, MALFORMED])
    verifier = get(f"/verifiers/{members[0]}")
    assert (verifier["open_seats"], verifier["free_seats"]) == (1, 1)
    open_batch = get("/batches/1")
    assert open_batch["settlement"] is None
    assert open_batch["attestation"] is None
    chain.mine(market.attest(1, SAID))
    chain.mine(market.settle(1))

    batch = get("/batches/1")
    assert batch["cid"] == str(Cid(keccak(b"batch 1"), 0x55))
    assert batch["attestation"] == {
        "verdict_root": "0x" + SAID.root.hex(),
        "units": 1,
        "faults": 0,
        "outcome": "verdicts",
    }
    share = 2 * USD // 3
    assert batch["settlement"] == {
        "closed_at": chain.head().timestamp,
        "miner_paid": str(3 * USD),
        "fees_paid": str(2 * share),
        "bond_forfeited": str(USD // 2),  # half the fee of the trace that earned nothing
        "slashed": str(20 * USD),
    }
    seats = batch["rounds"][0]["seats"]
    assert [seat["verifier"] for seat in seats] == members
    assert [seat["state"] for seat in seats] == ["revealed"] * 3
    assert [seat["fee"] for seat in seats] == [str(share), str(share), "0"]
    assert [seat["penalty"] for seat in seats] == ["0", "0", str(20 * USD)]
    assert [seat["coherent"] for seat in seats] == [True, True, False]
    assert seats[2]["attestation"]["outcome"] == "malformed"
    assert seats[0]["verdicts_cid"] == str(Cid(keccak(b"verdicts"), 0x55))
    bounty = get("/bounties/1")
    assert bounty["paid"] == str(3 * USD + 2 * share)
    assert bounty["paid_miners"] == str(3 * USD)
    assert bounty["available"] == str(10_000 * USD - 3 * USD - 2 * share + USD // 2)
    assert get(f"/verifiers/{members[2]}")["stake"] == str(230 * USD)
    assert get(f"/verifiers/{members[2]}")["free_seats"] == 2
    assert get(f"/balances/{sim.account(20)}")["balance"] == str(5 * USD - USD // 2)


def test_a_void_batch(chain: Any, sim: ModuleType, get: Get) -> None:
    chain.mine(chain.market.commit(1, sim.account(20), 2))
    chain.mine(chain.market.void(1))
    batch = get("/batches/1")
    assert batch["phase"] == "void"
    assert batch["settlement"]["slashed"] == "0"
    assert batch["settlement"]["miner_paid"] is None


def test_verdicts_at_no_content_address(chain: Any, sim: ModuleType, get: Get) -> None:
    market = chain.market
    chain.mine(market.commit(1, sim.account(20), 2))
    chain.mine(market.draw(1, [sim.account(n) for n in (1, 2, 3)]))
    chain.mine(market.commit_verdict(1, 0))
    logs = market.reveal(1, 0, SAID)
    logs[0][2]["verdicts"] = {"digest": bytes(32), "codec": 255}
    chain.mine(logs)
    assert get("/rounds/1")["seats"][0]["verdicts_cid"] is None


def test_bounties_by_filter(chain: Any, sim: ModuleType, get: Get, clock: list[float]) -> None:
    market = chain.market
    chain.mine(market.register("products", sim.account(101)))
    soon = chain.head().timestamp + 100
    chain.mine(market.create_bounty(sim.account(101), USD, deadline=soon))
    other = "0x" + market.environments[1].hex()
    chain.mine(
        market.create_bounty(
            sim.account(100),
            USD,
            environment=market.environments[1],
            tier=1,
            payRule=1,
            trainer=sim.account(7),
        )
    )

    def ids(**filters: Any) -> list[int]:
        return [bounty["id"] for bounty in get("/bounties", **filters)["items"]]

    assert ids() == ids(open=True) == [1, 2, 3]
    clock[0] = soon
    assert ids(open=True) == [1, 2, 3]
    assert get("/bounties/2")["open"] is True
    clock[0] = soon + 1
    assert ids(open=True) == [1, 3]
    assert ids(open=False) == [2]
    assert get("/bounties/2")["open"] is False
    clock[0] = 0
    assert ids(open=False) == []
    chain.mine(seconds=101)  # a chain that runs ahead of the clock
    assert ids(open=False) == [2]
    assert ids(poster=sim.account(100)) == [1, 3]
    assert ids(poster=sim.account(100).lower(), environment=other) == [3]
    third = get("/bounties/3")
    assert (third["tier"], third["pay_rule"]) == ("B", "informative")
    assert third["trainer"] == sim.account(7)
    assert get("/bounties/1")["trainer"] is None


def test_batches_by_bounty_and_miner(chain: Any, sim: ModuleType, get: Get) -> None:
    market = chain.market
    chain.mine(market.create_bounty(sim.account(101), 1_000 * USD))
    for bounty, miner in [(1, 20), (2, 20), (2, 21)]:
        chain.mine(market.commit(bounty, sim.account(miner), 2))

    def ids(**filters: Any) -> list[int]:
        return [batch["id"] for batch in get("/batches", **filters)["items"]]

    assert ids(bounty=2) == [2, 3]
    assert ids(miner=sim.account(20)) == [1, 2]
    assert ids(miner=sim.account(20), bounty=2, phase="in_round") == [2]


@pytest.mark.parametrize("limit", [1, 3, 200])
def test_pages_hold_everything_once(chain: Any, sim: ModuleType, get: Get, limit: int) -> None:
    sim.play(chain, random.Random(5), 60)
    for n in range(6):
        chain.mine(chain.market.register(f"more {n}", sim.account(1)))
        chain.mine(chain.market.register_checkpoint(sim.account(1)))
        chain.mine(chain.market.create_bounty(sim.account(1), USD))
    counts = get("/market")
    keys = {"verifiers": "address"}
    for route in ("environments", "bounties", "batches", "verifiers", "checkpoints"):
        seen, cursor = [], None
        for _ in range(1000):
            page = get(f"/{route}", limit=limit, **({"cursor": cursor} if cursor else {}))
            assert len(page["items"]) <= limit
            seen += [item[keys.get(route, "id")] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == counts[route] >= 5
        if route != "environments":
            assert seen == sorted(seen)


def test_checkpoints_by_trainer(chain: Any, sim: ModuleType, get: Get) -> None:
    chain.mine(chain.market.register_checkpoint(sim.account(1)))
    chain.mine(chain.market.register_checkpoint(sim.account(2), parent=1))
    second = get("/checkpoints/2")
    assert get("/checkpoints", trainer=sim.account(2))["items"] == [second]
    assert second["parent"] == 1
    assert second["cid"] == str(Cid(keccak(b"checkpoint 2"), 0x55))
    assert second["dataset_root"] == "0x" + "00" * 32


def test_addresses_in_any_case(sim: ModuleType, get: Get) -> None:
    who = sim.account(1)
    upper = "0x" + who[2:].upper()
    assert (
        get(f"/verifiers/{who}") == get(f"/verifiers/{who.lower()}") == get(f"/verifiers/{upper}")
    )
    assert get(f"/verifiers/{who.lower()}")["address"] == who
    assert get(f"/balances/{sim.account(77).lower()}") == {
        "address": sim.account(77),
        "balance": "0",
        "deposited": "0",
        "credited": "0",
        "spent": "0",
        "withdrawn": "0",
    }


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/bounties/7", "there is no bounty 7"),
        ("/batches/9223372036854775807", "there is no batch 9223372036854775807"),
        ("/rounds/1", "there is no round 1"),
        ("/checkpoints/1", "there is no checkpoint 1"),
        ("/disputes/1", "there is no dispute 1"),
        ("/environments/0x" + "ab" * 32, "there is no environment 0x" + "ab" * 32),
        (
            "/verifiers/0x" + "00" * 20,
            "there is no verifier 0x0000000000000000000000000000000000000000",
        ),
    ],
)
def test_what_is_not_there_is_named(get: Get, path: str, detail: str) -> None:
    assert get(path, 404) == {"detail": detail}


TYPO = "0xf39fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/bounties/0", "id is '0': input should be greater than or equal to 1"),
        ("/bounties/-1", "id is '-1': input should be"),
        ("/bounties/one", "id is 'one': input should be a valid integer"),
        ("/batches/9223372036854775808", "id is '9223372036854775808': input should be less"),
        ("/bounties?limit=201", "limit is '201': input should be less than or equal to 200"),
        ("/bounties?limit=0", "limit is '0': input should be greater"),
        ("/batches?minerr=0x12", "minerr is '0x12': extra inputs are not permitted"),
        ("/bounties?cursor=x", "cursor is 'x': input should be a valid integer"),
        ("/verifiers?cursor=7", "cursor is '7': not an address"),
        ("/disputes?phase=done", "phase is 'done': input should be 'opening'"),
        ("/audits?planter=0x12", "planter is '0x12': not an address"),
        ("/batches?phase=done", "phase is 'done': input should be 'in_round'"),
        ("/bounties?poster=0x12", "poster is '0x12': not an address"),
        (f"/balances/{TYPO}", f"address is '{TYPO}': the checksum of the address does not match"),
        ("/balances/0x" + "g" * 40, "not an address: give 0x and 40 hex digits"),
        ("/environments/0x12", "id is '0x12': not an environment: give 0x and 64 hex digits"),
        ("/environments/QmNothing", "id is 'QmNothing': not an environment"),
        (f"/environments/{Cid(bytes(32), 0x70)}", "not an environment"),
    ],
)
def test_bad_values_are_named(get: Get, path: str, detail: str) -> None:
    answer = get(path, 422)
    assert list(answer) == ["detail"]
    assert detail in answer["detail"]


def test_without_an_index_the_api_asks_for_patience(tmp_path: Path) -> None:
    with TestClient(create_app(tmp_path / "none.sqlite")) as client:
        answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the index is not ready: its first pass is not done"}


def test_answers_name_their_block(chain: Any, get: Get, tmp_path: Path) -> None:
    get("/health")
    with TestClient(create_app(tmp_path / "index.sqlite")) as client:
        answer = client.get("/bounties")
    assert answer.headers["X-Indexed-Block"] == str(chain.head().number)


def test_every_field_is_documented_with_its_meaning(tmp_path: Path) -> None:
    document = create_app(tmp_path / "none").openapi()
    assert set(document["paths"]) == {
        "/health", "/market",
        "/environments", "/environments/{id}",
        "/bounties", "/bounties/{id}", "/bounties/{id}/assignments", "/bounties/{id}/pot",
        "/batches", "/batches/{id}", "/batches/{id}/sheets", "/judges/{address}",
        "/rounds/{id}",
        "/disputes", "/disputes/{id}", "/audits",
        "/verifiers", "/verifiers/{address}",
        "/checkpoints", "/checkpoints/{id}",
        "/balances/{address}",
    }  # fmt: skip
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        assert set(methods) == {"get"}
        operation = methods["get"]
        assert operation["summary"]
        # Accounts that nobody knows hold nothing.
        some = "{" in path and not path.startswith(("/balances", "/judges"))
        errors = {"422", "503"} | ({"404"} if some else set())
        assert set(operation["responses"]) == {"200", *errors}
        answer = operation["responses"]["422"]["content"]["application/json"]["schema"]
        assert answer["$ref"].endswith("/Problem")
        for parameter in operation.get("parameters", []):
            assert parameter["description"], (path, parameter["name"])
    for money in ("price_per_unit", "available", "reserved", "paid", "refunded"):
        assert "base units" in str(schemas["Bounty"]["properties"][money]), money
    for money in ("at_stake", "next_appeal_bond", "slashed", "jurors_paid", "wronged_paid"):
        assert "base units" in str(schemas["Dispute"]["properties"][money]), money
