"""Score sheets: packing, medians, agreement and weights, whatever the grades."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.sheets import (
    GRID,
    LEAST_GOLD,
    MOST_WEIGHT,
    TOLERANCE,
    TOP,
    UNKNOWN,
    Graded,
    Record,
    abstention,
    agreement,
    least_fee,
    least_judge_pay,
    median_grade,
    medians,
    pack,
    paid_for,
    unpack,
)

ROOT = Path(__file__).parents[3]
GRADE = st.integers(0, TOP)
SHEET = st.lists(GRADE, min_size=1, max_size=80)
WEIGHTED = st.lists(st.tuples(GRADE, st.integers(0, MOST_WEIGHT)), min_size=1, max_size=9)


def panels() -> st.SearchStrategy[list[Graded]]:
    def of(count: int) -> st.SearchStrategy[list[Graded]]:
        row = st.tuples(st.tuples(*[GRADE] * count), st.integers(1, MOST_WEIGHT))
        return st.lists(row, min_size=1, max_size=7).map(
            lambda rows: [Graded(f"v{i}", i, grades, w) for i, (grades, w) in enumerate(rows)]
        )

    return st.integers(1, 12).flatmap(of)


@given(SHEET)
def test_a_sheet_comes_back_from_its_bytes(grades):
    sheet = pack(grades)
    assert len(sheet) == (len(grades) + 1) // 2
    assert unpack(sheet, len(grades)) == tuple(grades)


@given(st.binary(max_size=8), st.integers(1, 16))
def test_bytes_are_a_sheet_or_are_refused(data, count):
    try:
        grades = unpack(data, count)
    except InvalidValue:
        return
    assert pack(grades) == data


@given(st.lists(st.sampled_from([*range(TOP + 1), UNKNOWN]), min_size=1, max_size=20))
def test_gold_may_leave_grades_open(grades):
    sheet = pack(grades, gold=True)
    assert unpack(sheet, len(grades), gold=True) == tuple(grades)
    if UNKNOWN in grades:
        with pytest.raises(InvalidValue):
            unpack(sheet, len(grades))


@pytest.mark.parametrize("grade", [-1, 5, 15, True, 2.0, "3", None])
def test_what_is_off_the_grid_is_named(grade):
    with pytest.raises(InvalidValue, match=r"trace 1 is .*off the grid"):
        pack([0, grade])


@given(WEIGHTED)
def test_the_median_has_half_of_the_weight_on_either_side(grades):
    total = sum(weight for _, weight in grades)
    if total == 0:
        with pytest.raises(InvalidValue, match="no sheet has any weight"):
            median_grade(grades)
        return
    middle = median_grade(grades)
    assert any(grade == middle and weight for grade, weight in grades)
    assert 2 * sum(weight for grade, weight in grades if grade <= middle) >= total
    # Lower: below it is less than half.
    assert 2 * sum(weight for grade, weight in grades if grade < middle) < total


@given(WEIGHTED, st.randoms())
def test_the_order_of_sheets_does_not_matter(grades, random):
    if sum(weight for _, weight in grades) == 0:
        return
    shuffled = list(grades)
    random.shuffle(shuffled)
    assert median_grade(shuffled) == median_grade(grades)


@given(panels(), st.integers(0, TOP))
def test_less_than_half_of_the_weight_stays_within_the_others(sheets, lie):
    """Whatever one sheet says, where the others have more weight their grades bound the median."""
    liar, *others = sheets
    if liar.weight >= sum(one.weight for one in others):
        return
    told = Graded(liar.verifier, liar.seat, (lie,) * len(liar.grades), liar.weight)
    found = medians([told, *others])
    for place, grade in enumerate(found):
        given_by = [one.grades[place] for one in others]
        assert min(given_by) <= grade <= max(given_by)


@given(panels())
def test_who_is_paid_agrees_with_the_plain_median(sheets):
    plain = medians([Graded(one.verifier, one.seat, one.grades) for one in sheets])
    for one, paid in zip(sheets, paid_for(sheets), strict=True):
        near = sum(abs(a - b) <= TOLERANCE for a, b in zip(one.grades, plain, strict=True))
        assert agreement(one.grades, plain) == near
        assert paid == (3 * near >= 2 * len(plain))


@given(st.lists(st.tuples(GRADE, GRADE), min_size=LEAST_GOLD, max_size=40))
def test_a_better_judge_never_weighs_less(pairs):
    grades, gold = zip(*pairs, strict=True)
    record = Record().with_sheet(grades, gold)
    assert record.items == len(pairs)
    better = Record().with_sheet(gold, gold)
    assert better.weight == MOST_WEIGHT >= record.weight
    # Gold that nobody knows changes nothing.
    assert record.with_sheet(grades, [UNKNOWN] * len(gold)) == record


def test_weights_by_mean_distance():
    def weight(off: int) -> int:
        return Record(10, off).weight

    assert [weight(off) for off in (0, 5, 6, 10, 11, 15, 16, 40)] == [3, 3, 2, 2, 1, 1, 0, 0]
    # Too little of a record moves nothing, good or bad.
    assert Record(LEAST_GOLD - 1, 0).weight == Record(LEAST_GOLD - 1, 28).weight == 1
    assert Record().weight == 1


def test_random_grades_on_clear_gold_lose_all_weight():
    # Gold at all five grades in turn, grades in all combinations with it.
    pairs = [(a, b) for a in range(TOP + 1) for b in range(TOP + 1)]
    record = Record().with_sheet([a for a, _ in pairs], [b for _, b in pairs])
    assert (record.off / record.items, record.weight) == (1.6, 0)


def test_abstentions_differ_by_member():
    one, other = abstention("0x" + "11" * 20), abstention("0x" + "22" * 20)
    assert one.root != other.root
    assert (one.units, one.faults) == (0, 0)


def test_the_floors():
    assert least_fee(100) == 2_000
    assert least_judge_pay(100, 5) == 400
    assert least_judge_pay(100, 3) * 3 >= least_fee(100)
    assert GRID == (0, 250_000, 500_000, 750_000, 1_000_000)


def test_the_vectors_are_what_this_program_writes():
    script = ROOT / "tests" / "vectors" / "sheets.py"
    found = subprocess.run(
        [sys.executable, str(script), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert found.returncode == 0
    rows = json.loads((script.parent / "sheets.json").read_text("utf-8"))["panels"]
    assert any(not paid for row in rows for paid in row["paid"])
