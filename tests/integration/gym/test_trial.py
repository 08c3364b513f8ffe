"""`env check` finds what would cost verifiers or posters money, and passes what is sound."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from package_kit import install, package_spec

from marketplace.gym import frames
from marketplace.gym.drawing import _received, guesses
from marketplace.gym.sources.reasoning_gym import REFUSED
from marketplace.gym.spec import builtin_spec
from marketplace.gym.trial import Trial, TrialBench, examine


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialBench]:
    folder = tmp_path_factory.mktemp("site")
    install(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with TrialBench() as made:
            yield made


def tried(bench: TrialBench, variant: str, **changes: object) -> Trial:
    return examine(package_spec(variant, **changes), bench, tasks=20, rate_seconds=0.02)


def test_a_sound_environment_passes_and_is_measured(bench: TrialBench) -> None:
    trial = tried(bench, "Doubles")
    assert (trial.failures, trial.passed) == ((), True)
    assert [check.name for check in trial.checks] == [
        *("builds", "tasks", "references", "junk", "leaks", "verdicts"),
        *("held out", "variety", "pins"),
    ]
    assert trial.checks_per_second > 1


@pytest.mark.parametrize(
    ("variant", "check", "detail"),
    [
        ("Leaking", "leaks", "answers 20 of 20"),
        ("HashOrder", "tasks", "two processes give another question"),
        ("MoodyScore", "verdicts", " is (WRONG|PARTIAL) .*, then (PARTIAL|WRONG) "),
        ("Forgetful", "verdicts", " is "),
        ("Generous", "junk", r"not a number \('NaN'\) scores 1"),
        ("Hanging", "junk", "words .* hangs the checker"),
        ("Gullible", "junk", "another task's answer earns something in 20 of 20"),
        ("Constant", "variety", "'0' answers 20"),
        ("Harsh", "builds", "is PARTIAL under scoring 'source'"),
        ("NotAnEnvironment", "builds", r"without draw\(\)"),
    ],
)
def test_what_is_wrong_is_named(bench: TrialBench, variant: str, check: str, detail: str) -> None:
    failures = {failed.name: failed.detail for failed in tried(bench, variant).failures}
    assert check in failures
    assert re.search(detail, failures[check]), failures


def test_references_that_fail_on_some_tasks_only(bench: TrialBench) -> None:
    failed = {check.name for check in tried(bench, "Blind").failures}
    assert failed & {"builds", "references"}


def test_held_out_tasks_must_exist(bench: TrialBench) -> None:
    trial = tried(bench, "Doubles", holdout_ppm=1)
    assert [check.name for check in trial.failures] == ["held out"]


def test_other_versions_are_named(bench: TrialBench) -> None:
    (failed,) = tried(bench, "Doubles", packages={"gym-kit": "9"}).failures
    assert failed.name == "builds"
    assert "pip install gym-kit==9" in failed.detail


@pytest.mark.parametrize("name", ["chain_sum", "word_problems"])
def test_built_in_environments_pass(bench: TrialBench, name: str) -> None:
    trial = examine(builtin_spec(name), bench, tasks=16, rate_seconds=0.02)
    assert trial.failures == ()


def test_guesses_read_what_stands_at_a_place() -> None:
    found = guesses('Take 3, 5 and 8.\nWhich is [the] "largest"? (Answer: 8)')
    assert found["its last number"] == "8"
    assert found["its first number"] == "3"
    assert found['what follows "answer"'] == "8"
    assert found["its last brackets"] == "[the"
    assert found["its last quotation"] == "largest"
    assert guesses("") == {}


def test_the_sweep_agrees_with_the_refusals(bench: TrialBench) -> None:
    """A few tasks of each kind; `make gym-sweep` tries them all."""
    sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "reasoning_gym"))
    from sweep import document, sweep

    records = list(sweep(["boxnet", "coin_flip"], bench, 8))
    assert [record["scoring"] for record in records] == [None, "exact"]
    assert "no reference answer" in records[0]["why"]
    page = document(records, 8, "2026-01-01")
    assert "Of 2 tasks 0 pass with their own scorer, 1 more with `exact`" in page
    assert "| coin_flip |" in page


def test_the_committed_page_agrees_with_what_is_refused() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reasoning-gym.md").read_text("utf-8")
    no_use = page.partition("## Tasks that can't be used")[2]
    assert set(re.findall(r"^\| (\w+) \|", no_use, re.MULTILINE)) - {"Task"} == set(REFUSED)


def test_a_reference_over_the_limit_is_named(bench: TrialBench) -> None:
    limits = {"seconds": 0.3, "memory_mb": 128, "max_chars": 3}
    failed = {check.name: check.detail for check in tried(bench, "Doubles", limits=limits).failures}
    assert "over limits.max_chars, 3" in failed["references"]


def test_half_a_frame_is_not_waited_for() -> None:
    reading, writing = os.pipe()
    os.write(writing, frames.encode_frame({"tasks": []})[:9])
    with pytest.raises(TimeoutError):
        _received(reading, time.monotonic() + 0.05)
    os.close(writing)
    with pytest.raises(EOFError):
        _received(reading, time.monotonic() + 60)
    os.close(reading)


def test_a_rubric_environment_is_tried_without_a_judge(bench: TrialBench) -> None:
    trial = examine(builtin_spec("polite_refusal"), bench, tasks=8, rate_seconds=0.05)
    assert trial.passed, trial.failures
    (references,) = (one for one in trial.checks if one.name == "references")
    assert references.detail == "8 of 8 can be read; class rubric: a jury grades them"


def test_a_rubric_environments_references_must_be_readable(bench: TrialBench) -> None:
    spec = builtin_spec("polite_refusal").model_copy(
        update={"limits": builtin_spec("polite_refusal").limits.model_copy(update={"max_chars": 9})}
    )
    trial = examine(spec, bench, tasks=4, rate_seconds=0.05)
    assert (
        "over limits.max_chars, 9" in {one.name: one.detail for one in trial.failures}["references"]
    )
