"""Human amounts <-> base units."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.chain.amounts import format_amount, parse_amount
from marketplace.protocol.errors import InvalidValue


@pytest.mark.parametrize(
    ("text", "decimals", "units"),
    [
        ("1.50", 6, 1_500_000),
        ("0", 6, 0),
        ("0.000001", 6, 1),
        (".5", 6, 500_000),
        ("1,000.5", 6, 1_000_500_000),
        ("12,345,678.", 6, 12_345_678_000_000),
        ("1_000", 0, 1000),
        (" 2 ", 18, 2 * 10**18),
        ("1.000000000", 6, 1_000_000),
        ("1e3", 6, 1_000_000_000),
        (7, 6, 7_000_000),
        (Decimal("0.1"), 6, 100_000),
        ("0.1234567890123456789012345678901", 31, 1234567890123456789012345678901),
    ],
)
def test_parse(text, decimals, units) -> None:
    assert parse_amount(text, decimals) == units


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.0000001", "6 decimals"),
        ("-1", "below zero"),
        ("-0.1", "below zero"),
        ("nan", "not a finite number"),
        ("sNaN", "not a finite number"),
        ("Infinity", "not a finite number"),
        ("abc", "not a number"),
        ("", "not a number"),
        ("1.5 USDC", "not a number"),
        ("1,5", "parts no thousands"),  # 1.5 to half the world, and never 15
        ("0,50", "parts no thousands"),
        ("0,500", "parts no thousands"),
        ("1.500,50", "parts no thousands"),
        ("12,34.5", "parts no thousands"),
        ("1,,000", "parts no thousands"),
        (",5", "parts no thousands"),
        ("1,000,", "parts no thousands"),
        ("1e999999999", "larger than"),
        ("1e77", "larger than"),
        (1.5, "float"),
        (True, "bool"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_amount_is_refused_with_its_value(text, said) -> None:
    with pytest.raises(InvalidValue, match=said) as caught:
        parse_amount(text, 6)
    assert str(text) in str(caught.value)


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [
        (1_500_000, 6, "1.50"),
        (0, 6, "0.00"),
        (1, 6, "0.000001"),
        (1_234_567, 6, "1.234567"),
        (100, 0, "100"),
        (15, 1, "1.5"),
        (-2_500_000, 6, "-2.50"),
        (-1, 6, "-0.000001"),
    ],
)
def test_format(units, decimals, text) -> None:
    assert format_amount(units, decimals) == text
    assert format_amount(units, decimals, "USDC") == f"{text} USDC"


@given(st.integers(0, 2**256 - 1), st.integers(0, 77))
def test_what_is_formatted_parses_to_the_same(units, decimals) -> None:
    assert parse_amount(format_amount(units, decimals), decimals) == units
