"""docs/contracts: a page for each contract, complete in calls and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketplace.chain.artifacts import BEACON_CONTRACT, MARKET_CONTRACTS, artifact

PAGES = Path(__file__).parents[3] / "docs" / "contracts"
CONTRACTS = (*MARKET_CONTRACTS.values(), BEACON_CONTRACT)
GETTERS_ONLY = {"view", "pure"}


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text("utf-8")


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_page_names_every_call_and_every_refusal(name: str) -> None:
    text = page(name)
    abi = artifact(name).abi
    calls = {
        entry["name"]
        for entry in abi
        if entry["type"] == "function" and entry["stateMutability"] not in GETTERS_ONLY
    }
    refusals = {entry["name"] for entry in abi if entry["type"] == "error"}
    assert not {call for call in calls if call not in text}
    assert not {error for error in refusals if error not in text}


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_page_says_its_states_and_its_limits(name: str) -> None:
    headings = [line for line in page(name).splitlines() if line.startswith("## ")]
    assert any("Stat" in heading or "Phase" in heading for heading in headings)
    assert "## Known limits" in headings


def test_the_index_lists_every_page() -> None:
    index = page("README")
    assert not {name for name in CONTRACTS if f"({name}.md)" not in index}
    assert {path.stem for path in PAGES.glob("*.md")} == {*CONTRACTS, "README"}
