"""The README's commands, run as a new user would paste them: one story through all roles, with a
real chain, a real language model, and every command a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE_MODEL = ROOT / "build" / "models" / "smollm2-135m"
SECONDS = 900


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _story(readme: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", readme, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.model
def test_the_readmes_commands_run_as_they_stand(tmp_path):
    blocks = _story((ROOT / "README.md").read_text("utf-8"))
    assert len(blocks) == 7
    # Ports that others may use, and the base model that set-up has made already: nothing else
    # is changed.
    story = "\n".join(blocks).replace("8545", str(_free_port())).replace("8600", str(_free_port()))
    story = story.replace("model base base-model", f"model base {BASE_MODEL}")
    story = story.replace("register base-model", f"register {BASE_MODEL}")
    probe = """
        tracemarket batch show "$BATCH" --json > batch.json
        tracemarket model list --json > models.json
        tracemarket trace explain "$BATCH" 0 --json > receipt.json
        tracemarket --keystore miner.json balance --json > miner.json.balance
    """
    story = story.replace("kill $(jobs -p)", probe + "\nkill $(jobs -p)\nwait")
    script = tmp_path / "story.sh"
    script.write_text(
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + story
    )

    # A group of its own, so that nothing outlives the test.
    process = subprocess.Popen(
        ["bash", str(script)],
        cwd=tmp_path,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"the story took over {SECONDS} s:\n{output[-6000:]}")
    finally:
        _end_group(process.pid)
    # The faucet is asked until the chain answers; any other error is one.
    errors = [line for line in output.splitlines() if "error:" in line]
    assert not [line for line in errors if "NodeUnreachable" not in line], output[-6000:]

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


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
