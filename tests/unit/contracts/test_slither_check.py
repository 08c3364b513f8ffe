"""What contracts/slither/check.py lets pass."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[3] / "contracts" / "slither" / "check.py"

EXCLUSIONS = """
[[exclude]]
detectors = ["reentrancy-no-eth"]
where = ["Rounds.draw"]
lines = ["= stake.draw("]
reason = "a contract of the same deployment"
"""


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slither_check", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def raw(*calls: str, detector: str = "reentrancy-no-eth", name: str = "draw") -> dict[str, Any]:
    contract = {"type": "contract", "name": "Rounds"}
    function = {"type": "function", "name": name, "type_specific_fields": {"parent": contract}}

    def node(text: str, role: str) -> dict[str, Any]:
        return {"type": "node", "name": text, "additional_fields": {"underlying_type": role}}

    return {
        "check": detector,
        "impact": "Medium",
        "description": "",
        "elements": [
            function,
            *(node(call, "external_calls") for call in calls),
            node("round.seats = 3", "variables_written"),
        ],
    }


@pytest.mark.parametrize(
    ("finding", "excluded"),
    [
        (raw("members = stake.draw(value)"), True),
        (raw("members = stake.draw(value)", "token.transfer(a,b)"), False),
        (raw("members = stake.draw(value)", name="judge"), False),
        (raw("members = stake.draw(value)", detector="reentrancy-eth"), False),
    ],
    ids=["as written", "another call", "another function", "another detector"],
)
def test_exclusion_is_narrow(check: ModuleType, finding: dict[str, Any], excluded: bool) -> None:
    found = [check.finding_of(finding)]
    assert (check.unexcluded(found, check.read_exclusions(EXCLUSIONS)) == []) is excluded


def test_exclusion_that_matches_nothing_is_named(check: ModuleType) -> None:
    exclusions = check.read_exclusions(
        EXCLUSIONS.replace('"= stake.draw("', '"= stake.draw(", "x"')
    )
    found = [check.finding_of(raw("members = stake.draw(value)"))]
    assert check.unused(found, exclusions) == ["reentrancy-no-eth: x"]
    assert len(check.unused([], exclusions)) == 4


def test_place_of_a_local_variable_is_its_function(check: ModuleType) -> None:
    function = raw()["elements"][0]
    local = {"type": "variable", "name": "same", "type_specific_fields": {"parent": function}}
    assert check.place_of(local) == "Rounds.draw"


@pytest.mark.parametrize("line", ["reason = ", "where = ", "detectors = "])
def test_exclusion_without_a_reason_is_refused(check: ModuleType, line: str) -> None:
    text = "\n".join(row for row in EXCLUSIONS.splitlines() if not row.startswith(line))
    with pytest.raises(check.CheckError):
        check.read_exclusions(text)
