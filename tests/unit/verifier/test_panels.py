"""From sheets and gold on chain to medians: which count, and which weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from marketplace.chain.records import SheetPhase
from marketplace.chain.sheet_reads import GoldSheet, RevealedSheet
from marketplace.gym.spec import RubricScoring
from marketplace.protocol.sheets import UNKNOWN, pack
from verifier_node.panels import GOLD_SHEETS, SheetsOpen, panel_of, records

RUBRIC = RubricScoring(
    kind="rubric", rubric="4: good. 3: fair. 2: middling. 1: poor. 0: useless or off topic."
)
ME, STRANGER = "0x" + "AB" * 20, "0x" + "CD" * 20
TRUSTING = RUBRIC.model_copy(update={"calibrators": (ME.lower(),)})
HERE, ELSEWHERE = b"e" * 32, b"f" * 32


@dataclass
class Chain:
    """What panels read of a market. sheets: grades by batch and verifier."""

    sheets: dict[int, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    golds: list[GoldSheet] = field(default_factory=list)
    elsewhere: set[int] = field(default_factory=set)
    phase: SheetPhase = SheetPhase.CLOSED
    seats: int = 5
    committed_at: int = 100

    def sheet_phase(self, batch):
        return self.phase

    def rounds_of(self, batch):
        return (1, 2)

    def round(self, number):
        return SimpleNamespace(seats=self.seats if number == 1 else 11)

    def revealed_sheets(self, batch):
        return tuple(
            RevealedSheet(batch, verifier, seat, pack(grades), 1)
            for seat, (verifier, grades) in enumerate(self.sheets.get(batch, {}).items())
        )

    def gold_sheets(self, to_block):
        return tuple(one for one in self.golds if one.block <= to_block)

    def batch(self, number):
        count = len(next(iter(self.sheets[number].values())))
        return SimpleNamespace(id=number, bounty=number, count=count)

    def bounty(self, number):
        ident = ELSEWHERE if number in self.elsewhere else HERE
        return SimpleNamespace(terms=SimpleNamespace(environment=ident))

    def batch_committed(self, batch):
        return SimpleNamespace(block=self.committed_at)


def chain(**changes) -> Chain:
    good, bad = (4, 0) * 4, (0, 4) * 4
    found = Chain(
        sheets={1: {"a": good, "b": good, "c": bad}, 9: {"a": (4, 1), "b": (3, 0), "c": (0, 4)}},
        golds=[GoldSheet(1, ME, pack(good), 50)],
    )
    return replace(found, **changes)


def weights(found: Chain, rubric=TRUSTING) -> dict[str, int]:
    return {one.verifier: one.weight for one in panel_of(found, found.batch(9), rubric).sheets}


def test_nothing_is_said_before_the_sheets_are_closed():
    found = chain(phase=SheetPhase.REVEALING)
    with pytest.raises(SheetsOpen, match="batch 9"):
        panel_of(found, found.batch(9), RUBRIC)


def test_without_calibrators_all_weigh_one():
    found = chain()
    panel = panel_of(found, found.batch(9), RUBRIC)
    assert weights(found, RUBRIC) == {"a": 1, "b": 1, "c": 1}
    assert panel.grades == (3, 1)
    assert (panel.counted, panel.needed) == (3, 3)


def test_gold_weighs_judges_and_a_weightless_one_does_not_count():
    found = chain()
    assert weights(found) == {"a": 3, "b": 3, "c": 0}
    panel = panel_of(found, found.batch(9), TRUSTING)
    # Two with weight of five seats are too few; a spec may ask for less.
    assert (panel.counted, panel.needed, panel.grades) == (2, 3, None)
    two = TRUSTING.model_copy(update={"min_sheets": 2})
    assert panel_of(found, found.batch(9), two).grades == (3, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"golds": [GoldSheet(1, STRANGER, pack((4, 0) * 4), 50)]},  # not a calibrator
        {"golds": [GoldSheet(1, ME, pack((4, 0) * 4), 100)]},  # opened in the block of the commit
        {"elsewhere": {1}},  # about another environment
        {"golds": [GoldSheet(1, ME, pack([4] + [UNKNOWN] * 7, gold=True), 50)]},  # too little
    ],
)
def test_gold_that_does_not_count(changes):
    assert weights(chain(**changes)) == {"a": 1, "b": 1, "c": 1}


def test_only_the_latest_gold_counts():
    old = GoldSheet(1, ME, pack((4, 0) * 4), 10)
    new = GoldSheet(2, ME, pack((4, 0) * 4), 50)
    found = chain(golds=[old] + [new] * GOLD_SHEETS)
    # In the later batch everybody was right.
    found.sheets[2] = {one: (4, 0) * 4 for one in "abc"}
    assert records(found, found.batch(9), TRUSTING)["c"].off == 0
    found.golds = [old] + [new] * (GOLD_SHEETS - 1)
    assert records(found, found.batch(9), TRUSTING)["c"].off == 32


def test_the_first_rounds_seats_say_how_many_are_needed():
    found = chain(seats=3)
    assert panel_of(found, found.batch(9), RUBRIC).needed == 2
