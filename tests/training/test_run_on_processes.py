"""`train --processes 2`: the same turn on two processes, through kills, with clear refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

from test_resumed_run import RECIPE, command, run  # noqa: F401  (fixtures)

from trainer.checkpoint import read_record
from trainer.run import weights_hash

import torch  # isort: skip  (after the policy, which sets how its threads wait)

COLD, RL = RECIPE.split("[[stages]]")[1:]


@pytest.fixture
def one_turn(command):  # noqa: F811
    """The command line of one turn of RL, of several steps."""
    recipe = RECIPE.replace("[[stages]]" + COLD, "").replace("groups = 12", "groups = 40")
    recipe = recipe.replace("groups_per_step = 2", "groups_per_step = 1")
    recipe = recipe.replace("[evaluation]\ntasks = 4\nsamples = 2\n", "")
    Path("recipe.toml").write_text(recipe, "utf-8")
    return [*command, "--evaluate", "0"]


def _lines(folder: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_what_one_does(one_turn, run, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, said = run([*one_turn, "--out", "alone"])
    assert code == 0, said
    code, said = run([*one_turn, "--out", "both", "--processes", "2"])
    assert code == 0, said
    alone, both = _lines("alone.run"), _lines("both.run")
    assert len(alone) == len(both) > 2
    for one, two in zip(alone, both, strict=True):
        assert one == pytest.approx(two, rel=1e-5, abs=1e-5)
    ours, theirs = (load_file(Path(name, "model.safetensors")) for name in ("both", "alone"))
    assert ours.keys() == theirs.keys()
    base = load_file("base/model.safetensors")
    for name, one in ours.items():
        torch.testing.assert_close(one, theirs[name], atol=1e-5, rtol=1e-5)
    assert any(not torch.equal(one, base[name]) for name, one in ours.items())
    assert read_record("both")["machine"]["processes"] == 2
    assert "processes" not in read_record("alone")["machine"]

    # What a folder was begun with stays.
    code, said = run([*one_turn, "--out", "other", "--run", "both.run"])
    assert (code, "was begun with --processes 2, not 1" in said) == (2, True)
    Path("adapters.toml").write_text(Path("recipe.toml").read_text() + "[adapter]\n", "utf-8")
    words = ["train", "--recipe", "adapters.toml", "--local", "--model", "base", "--out", "x"]
    code, said = run([*words, "--processes", "2", "--evaluate", "0"])
    assert (code, "several processes train whole models" in said) == (2, True)
    assert not Path("x.run").exists()


@pytest.mark.deep
def test_killed_processes_leave_nothing_and_go_on(one_turn, run, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    words = [*one_turn, "--processes", "2", "--save-every", "0"]
    assert run([*words, "--out", "whole"])[0] == 0
    metrics = tmp_path / "killed.run" / "metrics.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-m", "marketplace.cli.main", *words, "--out", "killed"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 200
        while not (metrics.exists() and metrics.read_bytes().count(b"\n")):
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        family = psutil.Process(child.pid).children(recursive=True)
        assert len(family) >= 3  # torchrun and its two
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    code, said = run([*words, "--out", "killed"])
    assert code == 0, said
    # Two processes and two threads each time: the very same bits.
    assert weights_hash(Path("killed")) == weights_hash(Path("whole"))
    assert _lines("killed.run") == _lines("whole.run")
