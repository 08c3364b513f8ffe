"""What tests/solidity/deep.py makes of the counts that runs of the invariants leave behind."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[2] / "solidity" / "deep.py"


@pytest.fixture(scope="module")
def deep() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deep_invariants", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_names_are_those_of_the_enum(deep: ModuleType) -> None:
    source = "enum Other {X} /// enum\nenum Action {\n    Draw,\n    Meddle\n}"
    assert deep.actions(source, "Action") == ["Draw", "Meddle"]
    assert deep.actions(source, "Other") == ["X"]
    ends = [(handler.names()[0], handler.names()[-1]) for handler in deep.HANDLERS]
    assert ends == [("CreateBounty", "Meddle"), ("CreateBounty", "MeddleWithSheets")]
    for handler in deep.HANDLERS:
        assert len(set(handler.names())) == len(handler.names())
    with pytest.raises(ValueError, match="no enum Action"):
        deep.actions("enum Other {X}", "Action")


def test_handlers_share_all_calls_and_name_files_that_are_there(deep: ModuleType) -> None:
    assert sum(handler.eighths for handler in deep.HANDLERS) == 8
    for handler in deep.HANDLERS:
        assert all((deep.ROOT / file).is_file() for file in handler.files)


def test_the_last_run_counts_once_however_it_was_played_again(deep: ModuleType) -> None:
    assert deep.rows("1 0\n0 2\n0 2\n", 2, 2) == [[1, 0], [0, 2]]
    assert deep.rows("1 0\n0 2\n0 3\n", 2, 2) == [[1, 0], [0, 2]]
    assert deep.rows("1 0\n", 2, 2) == [[1, 0]]
    with pytest.raises(ValueError, match="a line doesn't have 2 counts"):
        deep.rows("1 0 0\n", 1, 2)


def test_shards_have_all_calls_and_seeds_of_their_own(deep: ModuleType) -> None:
    parts = deep.shards(1_000_000, 256, 125, 7)
    assert sum(part.runs * 256 for part in parts) == 1_024_000
    assert [part.seed for part in parts] == list(range(7, 39))
    assert [part.handler.name for part in parts] == ["market"] * 28 + ["sheets"] * 4
    assert len(deep.shards(32_000, 256, 125, 1)) == 2
    assert len(deep.shards(36_572, 256, 125, 1)) == 3


def test_report_fails_where_an_action_never_succeeded_or_calls_lack(deep: ModuleType) -> None:
    table, well = deep.report([[1, 2], [0, 3]], ["Draw", "Meddle"], 10, 20)
    assert well
    assert [line.split() for line in table.splitlines()] == [
        ["1", "Draw"],
        ["5", "Meddle"],
        ["20", "handler", "calls", "in", "2", "runs", "of", "10"],
    ]
    table, well = deep.report([[0, 2]], ["Draw", "Meddle"], 10, 10)
    assert not well
    assert "never succeeded: Draw" in table
    table, well = deep.report([[1, 2]], ["Draw", "Meddle"], 10, 11)
    assert not well
    assert "only 10 of 11 calls were made" in table


@pytest.mark.parametrize("option", ["--calls", "--depth", "--runs", "--jobs", "--first-seed"])
def test_numbers_must_be_at_least_one(
    deep: ModuleType, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        deep.main([option, "0"])
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("failing", [None, 3])
def test_a_shard_that_fails_fails_the_whole(
    deep: ModuleType,
    failing: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:

    def run(shard: object, depth: int) -> subprocess.CompletedProcess[str]:
        seed, runs = shard.seed, shard.runs  # type: ignore[attr-defined]
        width = len(shard.handler.names())  # type: ignore[attr-defined]
        (tmp_path / f"{seed}.txt").write_text((" ".join(["1"] * width) + "\n") * (runs + 1))
        return subprocess.CompletedProcess([], int(seed == failing), "an invariant is broken")

    built = []
    monkeypatch.setattr(deep, "OUT", tmp_path)
    monkeypatch.setattr(deep, "_run", run)
    monkeypatch.setattr(deep.subprocess, "run", lambda *what, **how: built.append(what))
    code = deep.main(["--calls", "400", "--depth", "10", "--runs", "10", "--jobs", "1"])
    said = capsys.readouterr().out
    assert code == (1 if failing else 0)
    assert len(built) == 2
    assert ("seed 3 failed\nan invariant is broken" in said) is bool(failing)
    assert ("400  handler calls in 40 runs of 10" in said) is (failing is None)
    if failing is None:
        assert "100  handler calls in 10 runs of 10" in said
        assert "500  handler calls in all" in said
    assert (tmp_path / "report.txt").read_text() in said
