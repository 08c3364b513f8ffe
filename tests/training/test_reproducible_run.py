"""The same run on the same machine gives the same checkpoint, down to its address."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from repeatable_run import run

from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.embedded import EmbeddedStore
from trainer.checkpoint import read_record, source_revision

SCRIPT = Path(__file__).with_name("repeatable_run.py")
ROOT = Path(__file__).parents[2]


def started(folder: Path, seed: int) -> subprocess.Popen[str]:
    folder.mkdir()
    command = [sys.executable, str(SCRIPT), str(folder), str(seed)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_the_same_checkpoint(tmp_path):
    processes = [started(tmp_path / str(n), seed) for n, seed in enumerate((1, 1))]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0] == answers[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return run(tmp_path_factory.mktemp("run"), 1)


def test_another_seed_is_another_checkpoint_of_the_same_dataset(made, tmp_path):
    other = run(tmp_path, 2)
    store = EmbeddedStore(tmp_path / "store")
    assert put_checkpoint(store, other.folder) != put_checkpoint(store, made.folder)
    assert (other.weights, other.dataset_root) == (made.weights, made.dataset_root)


def test_weights_follow_the_tokens_that_were_trained_on(made):
    record = read_record(made.folder)["dataset"]
    assert made.batches == (3, 7, 9)
    # One group and two alike; all of the liar's traces were dropped.
    assert made.weights == (333_333, 666_667, 0)
    assert [one["weight_ppm"] for one in record["batches"]] == list(made.weights)
    assert [one["tokens"] for one in record["batches"]] == [10, 20, 0]
    assert record["root"] == "0x" + made.dataset_root.hex()


def test_the_record_has_what_a_repetition_needs(made):
    record = read_record(made.folder)
    assert record["settings"]["seed"] == 1
    assert record["revision"] == source_revision()
    assert record["machine"].keys() == {"architecture", "python", "threads"}
    assert record["packages"].keys() >= {"torch", "transformers", "tracemarket"}


def git(folder: Path, *words: str) -> str:
    names = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *names, *words], cwd=folder, capture_output=True, text=True,
                          check=True)  # fmt: skip
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_revision_is_that_of_a_checkout_or_unknown(tmp_path):
    file = tmp_path / "code.py"
    file.write_text("1")
    assert source_revision(file) == "unknown"
    git(tmp_path, "init", "-q")
    assert source_revision(file) == "unknown"  # there, but not the repository's
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-qm", "one")
    revision = git(tmp_path, "rev-parse", "HEAD")
    assert source_revision(file) == revision
    (tmp_path / "stray").write_text("")
    assert source_revision(file) == revision
    file.write_text("2")
    assert source_revision(file) == revision + "-dirty"
