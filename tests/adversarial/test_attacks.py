"""Every row of the attack matrix once, against the verdict it claims. `make attacks` plays them
often."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from arenas import Arenas
from attack_rows import ROWS
from matrix import Outcome, Row, Ruling, markdown, play, row, rule, run_row, summarize

from marketplace.gym.pool import CheckPool

TABLE = Path(__file__).parents[2] / "docs" / "attacks.md"


@pytest.fixture(scope="module")
def arenas() -> Iterator[Arenas]:
    with CheckPool(workers=1) as pool, Arenas(pool) as arenas:
        yield arenas


@pytest.mark.parametrize(
    "entry",
    [pytest.param(one, id=one.name, marks=[pytest.mark.deep] if one.deep else []) for one in ROWS],
)
def test_a_row_is_what_the_matrix_says(arenas: Arenas, entry: Row) -> None:
    result = run_row(arenas, entry, 1)
    assert result.ruling is entry.expected, result


def test_the_committed_table_has_every_row_with_its_expected_verdict() -> None:
    lines = TABLE.read_text("utf-8").splitlines()
    for entry in ROWS:
        (found,) = (line for line in lines if line.startswith("| ") and f"](#{entry.name})" in line)
        assert f" | {entry.expected} | " in found, found
    assert sum("](#" in line for line in lines) == len(ROWS)


@pytest.mark.parametrize(
    ("outcomes", "ruling"),
    [
        ([Outcome(True, 5, 0), Outcome(True, 0, 0)], Ruling.CAUGHT),
        ([Outcome(True, 5, 0), Outcome(False, 5, 0)], Ruling.UNPROFITABLE),
        ([Outcome(True, 5, 0), Outcome(True, 5, 6)], Ruling.OPEN),
        ([Outcome(True, 5, 0, harm=6)], Ruling.OPEN),
        ([Outcome(False, 5, 5, harm=5)], Ruling.UNPROFITABLE),
    ],
)
def test_a_verdict_follows_from_what_was_measured(outcomes, ruling) -> None:
    assert rule(outcomes) is ruling


def test_each_trial_starts_anew_and_rows_that_need_it_get_young_nodes() -> None:
    asked, resets = [], []

    @contextmanager
    def worlds(alone: bool) -> Iterator[SimpleNamespace]:
        asked.append(alone)
        yield SimpleNamespace(reset=resets.append)

    def attack(world: object, trial: int) -> Outcome:
        return Outcome(trial != 1, 0, 0)

    shared = Row("name", "title", "who", Ruling.CAUGHT, 3, False, False, "how", attack)
    assert [one.caught for one in play(worlds, shared, 3)] == [True, False, True]
    assert (asked, resets) == ([False] * 3, [0, 1, 2])
    asked.clear()
    assert run_row(worlds, replace(shared, alone=True), 2).caught == 1
    assert asked == [True] * 2


def test_no_row_without_a_trial_and_no_name_twice() -> None:
    with pytest.raises(ValueError, match="no trial"):
        summarize(ROWS[0], [])
    with pytest.raises(ValueError, match="two rows"):
        row("again", "nobody", Ruling.OPEN)(ROWS[0].attack)


def test_the_table_shows_cost_gain_and_how_often() -> None:
    entry = ROWS[0]
    outcomes = [Outcome(True, 2_000_000, 0, figures={"moves": 3}), Outcome(False, 0, 0)]
    text = markdown([summarize(entry, outcomes)], {"preset": "standard", "verifiers": 32})
    assert "| 1/2 | 1.00 | 0.00 | 0.00 | unprofitable | moves 3 |" in text
    assert "1 rows: 0 caught, 1 unprofitable, 0 open." in text
