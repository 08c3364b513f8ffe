"""A run that is killed goes on where it was and ends in the very same weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from marketplace.cli.main import main
from trainer.checkpoint import read_record
from trainer.run import RunFolder, weights_hash

SPEC = {
    "v": 1,
    "name": "tiny",
    "source": {
        "kind": "reasoning_gym",
        "task": "chain_sum",
        "config": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    },
    "prompt": {"template": "{question}", "shots": 0},
    "answer": {"kind": "whole"},
    "scoring": {"kind": "exact"},
    "sampling": {"temperature": 1.0, "max_tokens": 3, "stop": ["\n", "1", "2", "3", "4"]},
    "holdout_ppm": 300_000,
    "packages": {"reasoning-gym": "0.1.25"},
}

RECIPE = """
v = 1
name = "tiny"
environments = ["spec.json"]
[evaluation]
tasks = 4
samples = 2
[settings]
learning_rate = 3e-3
groups_per_step = 2
token_budget = 128
min_effective_share = 0.0
[[stages]]
name = "cold"
kind = "sft"
groups = 12
group_size = 1
[[stages]]
name = "rl"
kind = "rl"
groups = 12
group_size = 4
[stages.reward]
binary = true
format = 0.5
"""


@pytest.fixture
def command(tmp_path, monkeypatch, policy) -> list[str]:
    """The command line of a run of two turns, in the current folder."""
    monkeypatch.chdir(tmp_path)
    policy.model.save_pretrained("base")
    policy.tokenizer.save_pretrained("base")
    Path("spec.json").write_text(json.dumps(SPEC), "utf-8")
    Path("recipe.toml").write_text(RECIPE, "utf-8")
    return ["train", "--recipe", "recipe.toml", "--local", "--model", "base", "--metrics", "jsonl"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command line in this process: exit code and messages."""

    def run(words: list[str]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tracemarket", *words])
        monkeypatch.setenv("COLUMNS", "400")
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def _kill_once(words: list[str], metrics: Path, after: int) -> bool:
    """Starts the command in a process of its own and kills it as soon as metrics.jsonl has grown by
    `after` bytes. False if it ended by itself before."""
    size = metrics.stat().st_size if metrics.exists() else 0
    child = subprocess.Popen(
        [sys.executable, "-m", "marketplace.cli.main", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        while child.poll() is None:
            if metrics.exists() and metrics.stat().st_size >= size + after:
                child.send_signal(signal.SIGKILL)
                child.wait()
                return True
            time.sleep(0.002)
        return False
    finally:
        child.kill()
        child.wait()


def _lines(folder: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]


def test_killed_and_resumed_is_not_interrupted(command, run, tmp_path):
    assert run([*command, "--out", "whole"])[0] == 0
    killed = [*command, "--out", "killed", "--save-every", "0"]
    metrics = tmp_path / "killed.run" / "metrics.jsonl"
    # Somewhere in the first turn's steps; between two steps that were saved.
    assert _kill_once(killed, metrics, Random(os.getpid()).randint(1, 900))
    assert not Path("killed").exists()
    code, said = run(killed)
    assert code == 0
    assert "going on" in said
    assert weights_hash(Path("killed")) == weights_hash(Path("whole"))
    assert read_record("killed") == read_record("whole")
    assert _lines("killed.run") == _lines("whole.run")
    for name in ("evaluation.json", "training.json", "sampling.json"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()
    # Once more: nothing is left to do, and nothing is done.
    code, said = run(killed)
    assert (code, "finished already" in said) == (0, True)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(5))
def test_killed_again_and_again(command, run, tmp_path, seed):
    assert run([*command, "--out", "whole"])[0] == 0
    killed = [*command, "--out", "killed", "--save-every", "0"]
    metrics = tmp_path / "killed.run" / "metrics.jsonl"
    rng = Random(seed)
    kills = 0
    while kills < 12 and _kill_once(killed, metrics, rng.randint(1, 2500)):
        kills += 1
    assert kills
    assert run(killed)[0] == 0
    assert weights_hash(Path("killed")) == weights_hash(Path("whole"))
    assert read_record("killed") == read_record("whole")
    assert _lines("killed.run") == _lines("whole.run")


def test_what_a_run_leaves_and_what_it_refuses(command, run):
    assert run([*command, "--out", "first"])[0] == 0
    report = json.loads(Path("first.run", "report.json").read_text())
    assert (report["dry_run"], report["money"], report["unfinished"]) == (True, None, None)
    assert [turn["stage"] for turn in report["turns"]] == ["cold", "rl"]
    # Shaping is for the loss alone: what the record says is the attested score.
    assert 0 <= report["turns"][1]["mean_score"] < 0.5
    (one,) = report["evaluations"]
    assert one["comparison"]["verdict"] in ("sharpens", "adds", "no change", "harms")
    assert [point["turn"] for point in one["over_turns"]] == [0, 1, 2]
    page = Path("first.run", "report.html").read_text()
    assert "A dry run" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert not list(Path("first.run").glob("turn-?"))  # weights are in one place only

    Path("recipe.toml").write_text(RECIPE.replace("3e-3", "4e-3"), "utf-8")
    code, said = run([*command, "--out", "other", "--run", "first.run"])
    expected = "holds another run: its recipe.settings.learning_rate is 0.003, not 0.004"
    assert (code, expected in said) == (2, True)
    code, said = run([*command, "--out", "first"])
    assert (code, "first exists already" in said) == (2, True) or "finished already" in said
    code, said = run([*command, "--out", "x", "--metrics", "jsonl,csv"])
    assert (code, "no metrics stream 'csv'" in said) == (2, True)
    code, said = run(["train", "--out", "x"])
    assert (code, "either --bounty or --recipe" in said) == (2, True)
    code, said = run(["train", "--out", "x", "--recipe", "r2", "--local", "--model", "base"])
    assert (code, "no recipe 'r2'" in said, "r1-zero" in said) == (2, True, True)
    assert not Path("x").exists()


def test_a_dry_run_whose_traces_teach_nothing(command, run):
    """A random model is never right, and nothing else is rewarded here."""
    Path("recipe.toml").write_text(RECIPE.replace("format = 0.5", ""), "utf-8")
    for _ in range(2):
        code, said = run([*command, "--out", "out", "--evaluate", "0"])
        assert (code, "turn 2: none of 48 attested traces can be trained on" in said) == (2, True)
        assert "traces of one score teach nothing: use more groups" in said


def test_two_runs_in_one_folder(command, run, tmp_path):
    """Beside: a recipe's spec files lie with it, whatever the current folder is."""
    place = tmp_path / "recipes"
    place.mkdir()
    for name in ("recipe.toml", "spec.json"):
        Path(name).rename(place / name)
    words = ["train", "--recipe", "recipes/recipe.toml", *command[3:], "--out", "out"]
    with RunFolder(tmp_path / "out.run").alone():
        code, said = run(words)
    assert (code, "another process runs in 'out.run'" in said) == (2, True), said
    assert not Path("out.run", "run.json").exists()


def test_what_is_refused_before_anything_is_made(command, run):
    recipe = RECIPE.replace('["spec.json"]', '["spec.json", "other.json"]')
    Path("experts.toml").write_text(recipe + "[adapter]\nrank = 2\n", "utf-8")
    Path("other.json").write_text(json.dumps(SPEC | {"name": "other"}), "utf-8")
    Path("kept", "other").mkdir(parents=True)
    experts = ["train", "--recipe", "experts.toml", *command[3:]]
    for words, expected in (
        ([*command, "--out", "."], "--out is '.', which is no new folder"),
        ([*command, "--out", "/"], "--out is '/', which is no new folder"),
        ([*command, "--out", "x", "--run", "spec.json"], "'spec.json' can't be the folder"),
        ([*command, "--out", "x", "--processes", "9999"], "9999 processes would share"),
        (["train", "--recipe", "r1", "--model", "base", "--out", "x"], "--model is base, and"),
        # Trained for hours, an adapter would find its place taken.
        ([*experts, "--out", "kept"], "kept/other exists already"),
    ):
        code, said = run(words)
        assert (code, expected in said) == (2, True), said
    assert not Path("kept.run").exists()
    assert not Path("x.run").exists()
