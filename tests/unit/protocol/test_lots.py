"""Chances of the lot, by hand and by counting."""

from itertools import combinations
from math import comb

import pytest

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.lots import chance, chance_of_least, jury_sizes, lie_survives, quorum


def test_chance_by_hand() -> None:
    assert chance(2, 10, 3, 2) == pytest.approx(8 / 120)
    assert chance(2, 10, 3, 3) == 0
    assert chance_of_least(5, 16, 5, 3) == pytest.approx((10 * 55 + 5 * 11 + 1) / comb(16, 5))
    assert sum(chance(7, 20, 5, hits) for hits in range(6)) == pytest.approx(1)
    assert [quorum(size) for size in (1, 2, 3, 4, 5, 11)] == [1, 2, 2, 3, 3, 6]


def test_chance_by_counting() -> None:
    lots = list(combinations(range(9), 4))
    for least in range(5):
        hits = sum(1 for lot in lots if sum(one < 3 for one in lot) >= least)
        assert chance_of_least(3, 9, 4, least) == pytest.approx(hits / len(lots))


def test_jury_sizes() -> None:
    assert jury_sizes(3, 3, 100) == [7, 15, 31]
    assert jury_sizes(3, 2, 100) == [7, 15]
    assert jury_sizes(5, 3, 11) == [11]
    assert jury_sizes(5, 3, 6) == [6]  # half of 11 and one more is enough
    assert jury_sizes(5, 3, 5) == []
    assert jury_sizes(5, 3, 11 + 12) == [11, 12]
    assert jury_sizes(5, 3, 11 + 11) == [11]


def test_who_has_the_last_word() -> None:
    assert lie_survives(1, 10, 3, 3) == 0  # no majority of a committee, no lie
    assert lie_survives(2, 6, 3, 3) == 1  # no jury
    assert lie_survives(5, 10, 3, 3) == 0  # three of seven jurors
    assert lie_survives(6, 10, 3, 3) == 1
    assert lie_survives(10, 10, 3, 3) == 1
    # Six of seven left are drawn where one is busy; three of six liars deny the honest a quorum.
    assert lie_survives(5, 10, 3, 3, busy=1) == pytest.approx(comb(3, 3) * comb(4, 3) / comb(7, 6))


def test_counting_a_committee_and_then_its_jury() -> None:
    # Twelve seats, five of them bad; two sit in a committee of 3. Two juries: 7, then none.
    others = range(9)  # three of them bad
    juries = list(combinations(others, 7))
    kept = sum(1 for jury in juries if sum(one < 3 for one in jury) > 3)
    assert lie_survives(5, 12, 3, 3) == pytest.approx(kept / len(juries))


def test_impossible_lots() -> None:
    with pytest.raises(InvalidValue, match="11 held"):
        chance(11, 10, 3, 1)
    with pytest.raises(InvalidValue, match="12 drawn"):
        chance(2, 10, 12, 1)
