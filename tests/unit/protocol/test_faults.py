"""The table of graded faults: in the documentation as in the code, with the presets' numbers."""

from pathlib import Path

import pytest

from marketplace.chain.fault_table import written
from marketplace.chain.parameters import PRESETS
from marketplace.protocol.faults import COLUMNS, FAULTS

DOCUMENT = Path(__file__).parents[3] / "docs/faults.md"
TYPES = Path(__file__).parents[3] / "contracts/src/libraries/Types.sol"
# (grade, who) -> tokens lost for each, by hand: preset -> amount.
EXPECTED = {
    ("absent", "member or juror"): {"minimal": 5, "standard": 5},
    ("late", "member or juror"): {"minimal": 10, "standard": 10},
    ("malformed", "miner"): {"minimal": 0.01, "standard": 0.01},
    ("incoherent", "member or juror"): {"minimal": 20, "standard": 20},
    ("fraudulent", "miner"): {"minimal": 0.05, "standard": 0.05},
    ("fraudulent", "signer of an attestation"): {"minimal": 200, "standard": 200},
    ("frivolous", "challenger or appellant"): {"minimal": 7, "standard": 11},
    ("frivolous", "challenger of an outcome unavailable"): {"minimal": 3.5, "standard": 5.5},
}


def _lines() -> list[dict[str, str]]:
    found = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in DOCUMENT.read_text("utf-8").splitlines()
        if line.startswith("|")
    ]
    head, _, *body = found
    assert head == [*COLUMNS, *PRESETS]
    return [dict(zip(head, cells, strict=True)) for cells in body]


def test_the_document_is_up_to_date() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert text == written(text)


def test_a_document_without_a_place_for_the_table() -> None:
    with pytest.raises(ValueError, match="has no"):
        written("# Graded faults\n")


def test_numbers_agree_with_the_presets() -> None:
    found = {
        (line["grade"], line["who"]): {name: line[name] for name in PRESETS}
        for line in _lines()
        if line["grade"] and line["standard"] and line["grade"] != "wrong"
    }
    assert {key: {name: float(cell) for name, cell in row.items()} for key, row in found.items()} \
        == EXPECTED  # fmt: skip
    wrong = next(line for line in _lines() if line["grade"] == "wrong")
    assert (wrong["minimal"], wrong["standard"]) == ("100 %", "100 %")


def test_every_grade_is_there() -> None:
    grades = {fault.grade for fault in FAULTS}
    assert grades >= {
        "late", "absent", "unavailable", "malformed", "wrong", "incoherent", "fraudulent",
    }  # fmt: skip


def test_parameters_are_those_of_the_contracts() -> None:
    struct = TYPES.read_text("utf-8").partition("struct Parameters {")[2]
    for fault in FAULTS:
        for loss in fault.losses:
            for name in loss.parameters:
                assert f" {name};" in struct


def test_amounts_follow_the_parameters() -> None:
    rules = PRESETS["standard"].parameters(6)
    late = next(fault for fault in FAULTS if fault.grade == "late").losses[0]
    assert late.amount is not None
    assert late.amount(rules) == rules.seat_stake * rules.late_bps // 10_000 == 10 * 10**6
