"""The README's commands, run as a new user would paste them: one story through all roles, with a
real chain, a real language model, and every command a process of its own."""

from __future__ import annotations

import json

import pytest
from story import ROOT, commands, free_port, run_story

BASE_MODEL = ROOT / "build" / "models" / "smollm2-135m"


@pytest.mark.model
def test_the_readmes_commands_run_as_they_stand(tmp_path):
    blocks = commands("README.md")
    assert len(blocks) == 8
    # Ports that others may use, and the base model that set-up has made already: nothing else
    # is changed.
    story = "\n".join(blocks).replace("8545", free_port()).replace("8600", free_port())
    story = story.replace("model base base-model", f"model base {BASE_MODEL}")
    story = story.replace("register base-model", f"register {BASE_MODEL}")
    run_story(
        tmp_path,
        story,
        """
        tracemarket batch show "$BATCH" --json > batch.json
        tracemarket model list --json > models.json
        tracemarket trace explain "$BATCH" 0 --json > receipt.json
        tracemarket --keystore miner.json balance --json > miner.json.balance
        """,
        {"OMP_NUM_THREADS": "1"},
    )

    batch = json.loads((tmp_path / "batch.json").read_text())
    assert batch["phase"] == "settled"
    assert batch["attestation"]["outcome"] == "verdicts"
    assert batch["attestation"]["faults"] == 0
    assert batch["attestation"]["units"] % 8 == 0
    assert sum(batch["reasons"].values()) == batch["traces"] == 24 * 8

    models = json.loads((tmp_path / "models.json").read_text())
    assert [(model["id"], model["parent"]) for model in models] == [(1, 0), (2, 1)]
    assert int(models[1]["dataset_root"], 16) != 0

    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["verdict_proof"]["root"] == batch["attestation"]["verdict_root"]
    assert receipt["trace_proof"]["root"] == batch["root"]

    # 0.01 a unit, the bond less 0.002 for each trace that earned nothing, everything withdrawn.
    wallet = json.loads((tmp_path / "miner.json.balance").read_text())
    assert wallet["ledger"] == "0"
    units = batch["attestation"]["units"]
    earned = units * 10**4 - (batch["traces"] - units) * 2 * 10**3
    assert int(wallet["tokens"]) == 1000 * 10**6 + earned
