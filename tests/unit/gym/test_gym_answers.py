"""The bounded readers that scorers share."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from marketplace.gym.answers import leading_number, read_json, read_number, same_value
from marketplace.gym.source import UnreadableAnswer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        (" -0.50 ", Fraction(-1, 2)),
        ("−3", -3),
        (".5", Fraction(1, 2)),
        ("1,234,567.5", Fraction(2469135, 2)),
        ("1e60", 10**60),
        ("-2.5E-3", Fraction(-1, 400)),
    ],
)
def test_numbers_are_exact(text: str, value: Fraction) -> None:
    assert read_number(text) == value


_NO_NUMBERS = (
    "- 1e61 1e-61 1e999 1.2.3 1,23 1,2345 12,345,6 0x1 1_0 ٣ ½ inf nan 1e --1 1/2 5% "
    f"{'9' * 65} 1.{'0' * 64}"
)


@pytest.mark.parametrize("text", ["", "1 2", *_NO_NUMBERS.split()])
def test_what_is_not_one_bounded_number_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableAnswer):
        read_number(text)


def test_what_follows_a_number_is_kept() -> None:
    assert leading_number("5eV") == (5, "eV")
    assert leading_number("5e3eV") == (5000, "eV")
    assert leading_number("1,000 m / s ") == (1000, "m / s")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        (1, "1", False),
        (None, False, False),
        (None, None, True),
        ("a", "a ", False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ([True], [1], False),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ({"a": {"b": [0]}}, {"a": {"b": [False]}}, False),
        ([], {}, False),
        (2**53, 2**53 + 1, False),
        (float(2**53), 2**53 + 1, False),
    ],
)
def test_values_are_the_same_with_their_types(one: Any, two: Any, same: bool) -> None:
    assert same_value(one, two) is same
    assert same_value(two, one) is same


@pytest.mark.parametrize(
    "text", ["", "nope", "[" * 9 + "]" * 9, '{"a":1,"a":1}', "[NaN]", "1" * 400, " " * 32_769 + "1"]
)
def test_json_is_bounded(text: str) -> None:
    with pytest.raises(UnreadableAnswer):
        read_json(text)
    assert read_json("[" * 8 + "]" * 8)
