"""The tour's page: one row for each environment, whatever its traces hold; the page in docs is of
today's environments."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketplace.cli.tour_page import page, shown
from marketplace.gym.spec import builtin_names

COMMITTED = Path(__file__).parents[3] / "docs/tour.md"
STOP = {
    "environment": "sums",
    "source": "dataset",
    "scoring": "exact",
    "tasks": 4,
    "checks_per_second": 1234.5,
    "paid": "42",
    "refused": "no idea",
    "reason": "PARSE_FAILURE",
    "why": "no number",
    "units": 4,
    "seconds": 1.0,
    "error": "",
}


def cells(text: str) -> list[str]:
    """The cells of the page's last row."""
    row = text.rstrip("\n").rpartition("\n")[2]
    return [one.strip() for one in row.replace("\\|", "BAR").strip("|").split("|")]


def test_a_row_says_what_was_paid_and_why_not() -> None:
    text = page([STOP], anvil="anvil/v1")
    assert cells(text) == [
        "sums",
        "dataset",
        "exact",
        "4",
        "1,234",
        "`42`",
        "`no idea`",
        "parse failure: no number",
    ]
    assert "anvil/v1" in text
    assert "1 of 1 environments settled" in text


def test_a_failure_is_said_in_its_row_and_counted() -> None:
    failed = STOP | {"error": "SamplerError: no", "checks_per_second": None, "paid": ""}
    text = page([STOP, failed], anvil="anvil/v1")
    assert "1 of 2 environments settled" in text
    assert cells(text)[4:] == ["", "", "`no idea`", "SamplerError: no"]


@pytest.mark.parametrize(
    ("paid", "cell"),
    [
        ("a|b", "`aBARb`"),
        ("a\nb", "`a\\nb`"),
        ("`x` ``y``", "``` `x` ``y`` ```"),
        ('{"a": 1}', '`{"a": 1}`'),
    ],
)
def test_no_trace_breaks_the_table(paid: str, cell: str) -> None:
    assert cells(page([STOP | {"paid": paid}], anvil="anvil/v1"))[5] == cell


def test_long_traces_are_cut_in_the_middle() -> None:
    assert shown("a" * 90) == "a" * 90
    assert shown("a" * 90 + "b" * 90) == "a" * 55 + " ... " + "b" * 30


def test_the_committed_page_has_every_builtin_environment_paid_and_refused() -> None:
    rows = {
        row.split("|")[1].strip(): row
        for row in COMMITTED.read_text("utf-8").splitlines()
        if row.startswith("| ") and not row.startswith(("| environment", "| :--"))
    }
    assert set(rows) == set(builtin_names())
    for name, row in rows.items():
        assert "Error" not in row, name
        assert row.count("`") >= 4, name
