"""Environments with data sets on a real Anvil: fetched by CID, published with their data, and
"unavailable" to who can't get them. And the tour, for one environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import command
from loop_kit import Loop

from marketplace.chain.records import BatchPhase, PayRule
from marketplace.cli.tour import ScriptedSampler, example_of
from marketplace.cli.tour import main as tour
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import builtin_names, environment_id, parse_spec, spec_bytes
from marketplace.miner.mine import Miner
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import ConfigError, ContentUnavailable
from marketplace.protocol.verdict import UNAVAILABLE
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.unixfs import cid_of_bytes
from verifier_node.checking import BatchChecker

ROWS = "".join(
    json.dumps({"question": f"What comes after {n}?", "answer": str(n + 1)}) + "\n"
    for n in range(100, 160)
).encode()


def data_spec(**source: object) -> dict[str, object]:
    return {
        "v": 1,
        "name": "after",
        "source": {"kind": "dataset", "cid": str(cid_of_bytes(ROWS)), "rows": 60, **source},
        "scoring": {"kind": "exact"},
        "limits": {"seconds": 1.0, "memory_mb": 128, "max_chars": 500},
    }


def test_a_data_set_travels_with_its_environment(market, accounts, tmp_path):
    data = spec_bytes(parse_spec(json.dumps(data_spec()).encode()))
    with CheckPool(1, assets=tmp_path / "assets") as pool:
        loop = Loop(market, pool, tmp_path)
        loop.store.put(data)
        market.client(accounts.poster).register_environment(environment_id(data))
        bounty = loop.open_bounty(
            environment=environment_id(data), pay_rule=PayRule.CORRECT, group_size=2
        )
        keys = market.stake_verifiers(3)

        def miner(folder: Path | None) -> Miner:
            return Miner(
                market.client(accounts.miner),
                loop.store,
                Spool(tmp_path / "spool"),
                fetch_seconds=0,
                assets=folder,
                sleep=lambda _: market.anvil.mine(),
            )

        terms = market.reader.bounty(bounty)
        with pytest.raises(ConfigError, match="no folder for them"):
            miner(None).environment(terms)
        with pytest.raises(ContentUnavailable):
            miner(tmp_path / "mined").environment(terms)
        loop.store.put(ROWS)
        environment = miner(tmp_path / "mined").environment(terms)
        assert environment.heldout(0).question.startswith("What comes after 1")
        mined = miner(tmp_path / "mined").mine(
            bounty, 2, ScriptedSampler([("0", "999"), ("0", "999")])
        )

        def finding(store: EmbeddedStore, of_pool: CheckPool) -> object:
            client = market.client(keys[0])
            checker = BatchChecker(client, store, of_pool, fetch_seconds=0, scorer_for=None)
            return checker.find(market.reader.batch(mined.batch))

        # Who has the spec and the batch, but not the data set, can say only that.
        partial = EmbeddedStore(tmp_path / "partial")
        for content in (data, loop.store.get(Cid.parse(mined.cid), timeout=0)):
            partial.put(content)
        round_id = market.draw(mined.batch)
        assert round_id
        found = finding(partial, pool)
        assert found.attestation == UNAVAILABLE
        assert str(cid_of_bytes(ROWS)) in found.note
        with CheckPool(1) as bare:
            found = finding(loop.store, bare)
        assert found.attestation == UNAVAILABLE
        assert "no folder for them" in found.note

        assert loop.drive(loop.nodes(keys), mined.batch) is BatchPhase.SETTLED
        batch = market.reader.batch(mined.batch)
        assert (batch.attestation.units, batch.attestation.faults) == (0, 0)
        assert (tmp_path / "assets" / str(cid_of_bytes(ROWS))).read_bytes() == ROWS


def test_a_data_set_over_its_limit_is_unavailable_not_malformed(market, accounts, tmp_path):
    data = spec_bytes(parse_spec(json.dumps(data_spec(max_bytes=100)).encode()))
    with CheckPool(1, assets=tmp_path / "assets") as pool:
        loop = Loop(market, pool, tmp_path)
        loop.store.put(data)
        loop.store.put(ROWS)
        market.client(accounts.poster).register_environment(environment_id(data))
        bounty = loop.open_bounty(environment=environment_id(data))
        keys = market.stake_verifiers(3)
        market.open_assignment(bounty)
        batch = market.commit_batch(bounty)
        market.draw(batch)
        checker = BatchChecker(
            market.client(keys[0]), loop.store, pool, fetch_seconds=0, scorer_for=None
        )
        found = checker.find(market.reader.batch(batch))
        assert found.attestation == UNAVAILABLE


def test_publish_registers_only_what_passes(market, accounts, tmp_path, monkeypatch, capsys):
    run = command("env", market, accounts.poster, tmp_path, monkeypatch, capsys)

    spec = tmp_path / "after.json"
    spec.write_text(json.dumps(data_spec()))
    code, _, err = run("publish", "after.json", "--tasks", "8")
    assert code == 4
    assert "ContentUnavailable" in err
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    code, out, _ = run("data", "rows.jsonl")
    assert (code, out.strip()) == (0, str(cid_of_bytes(ROWS)))

    # All rows give themselves away.
    leaking = "".join(
        json.dumps({"question": f"After {n}? Answer: {n + 1}", "answer": str(n + 1)}) + "\n"
        for n in range(60)
    ).encode()
    (tmp_path / "leaking.jsonl").write_bytes(leaking)
    run("data", "leaking.jsonl")
    bad = data_spec(cid=str(cid_of_bytes(leaking)))
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    code, out, err = run("publish", "bad.json", "--tasks", "8")
    assert (code, out) == (2, "")
    assert "leaks: " in err
    ident = environment_id(spec_bytes(parse_spec(json.dumps(bad).encode())))
    assert market.reader.environment_author(ident) is None
    code, out, _ = run("check", "bad.json", "--json", "--tasks", "8")
    assert code == 1
    assert json.loads(out)["passed"] is False

    code, out, _ = run("publish", "after.json", "--tasks", "8")
    ident = environment_id(spec_bytes(parse_spec(spec.read_bytes())))
    assert (code, out.strip()) == (0, "0x" + ident.hex())
    assert market.reader.environment_author(ident) == accounts.poster.address
    store = EmbeddedStore(tmp_path / "store")
    assert store.has(Cid(ident, RAW))
    assert store.has(cid_of_bytes(ROWS))


def test_the_tour_of_one_environment(tmp_path, capsys):
    out = tmp_path / "tour.json"
    assert tour(["--only", "word_problems", "--out", str(out), "--json"]) == 0
    (stop,) = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == [stop]
    assert (stop["environment"], stop["tasks"], stop["units"]) == ("word_problems", 4, 4)
    assert (stop["error"], stop["reason"], stop["refused"]) == ("", "WRONG", "12345")
    assert stop["paid"].isdigit()
    assert stop["checks_per_second"] > 0
    assert list(tmp_path.iterdir()) == [out]


def test_the_tour_holds_dialogues_turn_by_turn(tmp_path, capsys):
    out, page = tmp_path / "tour.json", tmp_path / "tour.md"
    assert tour(["--only", "store_tools", "--out", str(out), "--page", str(page)]) == 0
    (stop,) = json.loads(out.read_text())
    assert (stop["error"], stop["units"], stop["reason"]) == ("", 4, "WRONG")
    # The world answered: what the example says of a price is not in the transcript.
    said = json.loads(stop["refused"])
    assert json.loads(example_of("store_tools")["wrong"])[0] == said[0]
    assert said[1]["content"] != "0"
    assert "| store_tools | dialogue | its source | 4 |" in page.read_text()


@pytest.mark.parametrize("name", builtin_names())
def test_examples_can_be_used(name):
    example = example_of(name)
    assert isinstance(example["wrong"], str)
    assert example["right"] is None or all(isinstance(one, str) for one in example["right"])
