"""Training, evaluation and export from the command line, against a real Anvil and a tiny model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from loop_kit import SUMS, Arithmetic, Loop
from tiny_policy import tiny_policy

from marketplace.chain.deployment import save_deployment
from marketplace.chain.keystore import create_keystore
from marketplace.chain.records import BatchPhase
from marketplace.cli.main import main
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import environment_id, spec_bytes
from trainer.run import weights_hash


@pytest.fixture
def cli(market, accounts, tmp_path, monkeypatch, capsys):
    save_deployment(market.deployment, tmp_path / "deployment.json")
    key = bytes(accounts.poster.key)
    create_keystore(tmp_path / "poster.json", "correct horse", key=key, iterations=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACEMARKET_RPC", market.anvil.url)
    monkeypatch.setenv("TRACEMARKET_PASSWORD", "correct horse")
    monkeypatch.setenv("TRACEMARKET_STORE", f"dir:{tmp_path / 'store'}")
    monkeypatch.setenv("COLUMNS", "400")

    def run(*words, code=0):
        monkeypatch.setattr(
            sys, "argv", ["tracemarket", "--keystore", "poster.json", *map(str, words)]
        )
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert (ended.value.code or 0) == code, captured.err
        return captured

    return run


def test_train_evaluate_export(cli, market, tmp_path):
    policy = tiny_policy(0, context=512)
    policy.model.save_pretrained("base")
    policy.tokenizer.save_pretrained("base")
    assert cli("model", "register", "base").out.strip() == "1"
    with CheckPool() as pool:
        loop = Loop(market, pool, tmp_path)
        bounty = loop.open_bounty()  # tier C
        keys = market.stake_verifiers(5)
        mined = loop.miner().mine(bounty, 2, Arithmetic())
        assert loop.drive(loop.nodes(keys), mined.batch) is BatchPhase.SETTLED

    words = ("train", "--bounty", bounty, "--out", "child", "--metrics", "jsonl", "--evaluate", 4)
    assert cli(*words, "--samples", 2).out.strip() == "2"
    report = json.loads(Path("child.run", "report.json").read_text())
    assert report["money"]["rows"][0]["spent"] > 0
    assert report["turns"][0]["checkpoint"] == 2
    assert market.reader.checkpoint_count() == 2
    # The same command again registers nothing more.
    assert cli(*words, "--samples", 2).out.strip() == "child"
    assert market.reader.checkpoint_count() == 2

    environment = "0x" + environment_id(spec_bytes(SUMS)).hex()
    said = cli(
        *("model", "eval", 2, "--environment", environment, "--tasks", 4, "--samples", 2),
        *("--against", 1, "--plot", "curves.svg", "--json"),
    )
    record = json.loads(said.out)
    assert record["against"]["verdict"] in ("sharpens", "adds", "no change", "harms")
    assert [point["k"] for point in record["pass"]] == [1, 2]
    assert record["pass_at_2"] == record["pass"][1]["value"]
    assert record["environment"] == environment
    again = cli(
        *("model", "eval", 2, "--environment", environment.upper().replace("X", "x")),
        *("--tasks", 4, "--samples", 2, "--json"),
    )
    assert json.loads(again.out)["environment"] == environment
    assert "kept in" not in again.err  # however the id is typed, that was measured before
    cli("model", "eval", 2, "--environment", environment, "--seed", 2**65, code=2)
    refused = cli("model", "export", 2, "curves.svg/out", code=2)
    assert "can't be made: Not a directory" in refused.err or "File exists" in refused.err
    assert Path("curves.svg").read_bytes().startswith(b"<?xml")
    assert list(Path("tracemarket-home", "checkpoints").glob("*.evaluation.json"))

    cli("model", "export", 2, "out")
    assert weights_hash(Path("out")) == weights_hash(Path("child"))
    card = Path("out", "README.md").read_text()
    assert f"- bounties: {bounty}" in card
    assert environment in card
    assert "Measured by whoever exported" in card
    # Nobody else's batches make a card, whatever a record says.
    record = next(Path("tracemarket-home", "checkpoints").glob("*/training.json"))
    true = record.read_text()
    record.write_text(true.replace('"units": ', '"units": 1'))
    refused = cli("model", "export", 2, "lie", code=5)
    assert "the batches of checkpoint 2 lead to root" in refused.err
    assert not Path("lie").exists()
    record.write_text(true)
    refused = cli("model", "export", 2, "adapter", "--to", "peft", code=2)
    assert "not an adapter" in refused.err
    assert not Path("adapter").exists()
