"""Token amounts: human decimals <-> base units. Integers and Decimal only, never floats."""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation, localcontext
from typing import Final

from marketplace.protocol.errors import InvalidValue

_MAX_UNITS: Final = 2**256 - 1
# Enough digits for any uint256 with any number of decimals a token can have.
_EXACT: Final = Context(prec=400)
# Only between groups of three: "0,5" is half a token to many people, and would be five.
_GROUPED: Final = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?")


def parse_amount(text: str | Decimal | int, decimals: int) -> int:
    """Base units of a human amount: parse_amount("1.50", 6) == 1_500_000.

    text: a decimal number with a point; commas may stand between groups of three digits
    ("1,000.5"), underscores between any. Raises InvalidValue for floats, NaN, infinity, negative
    amounts, other commas, more decimals than the token has and anything that does not fit a
    uint256.
    """
    if isinstance(text, bool) or not isinstance(text, str | Decimal | int):
        raise InvalidValue(
            f"amount is {text!r} ({type(text).__name__})", fix='give it as text, such as "1.50"'
        )
    with localcontext(_EXACT):
        try:
            value = Decimal(_ungrouped(text) if isinstance(text, str) else text)
        except InvalidOperation:
            raise InvalidValue(
                f"amount is {text!r}, not a number", fix='give a decimal number, such as "1.50"'
            ) from None
        if not value.is_finite():
            raise InvalidValue(f"amount is {text}, not a finite number")
        if value < 0:
            raise InvalidValue(f"amount is {text}, below zero")
        if value.adjusted() > 100:  # before scaling: 1e999999999 would not fit in memory
            raise InvalidValue(f"amount is {text}, larger than any token amount")
        if value and value.normalize().as_tuple().exponent < -decimals:  # type: ignore[operator]
            raise InvalidValue(
                f"amount is {text}, but the token has {decimals} decimals",
                fix=f"round it to {decimals} decimals",
            )
        units = int(value.scaleb(decimals))
    if units > _MAX_UNITS:
        raise InvalidValue(f"amount is {text}, larger than any token amount")
    return units


def _ungrouped(text: str) -> str:
    number = text.strip()
    if "," in number and not _GROUPED.fullmatch(number):
        raise InvalidValue(
            f"amount is {text!r}, with a comma that parts no thousands",
            fix='write decimals after a point, such as "1.50"',
        )
    return number.replace(",", "")


def format_amount(units: int, decimals: int, symbol: str | None = None) -> str:
    """A human amount: format_amount(1_500_000, 6, "USDC") == "1.50 USDC".

    Exact; at least two decimals where the token has that many, no trailing zeros after them.
    """
    whole, part = divmod(abs(units), 10**decimals)
    digits = str(part).zfill(decimals) if decimals else ""
    digits = digits.rstrip("0").ljust(min(2, decimals), "0")
    sign = "-" if units < 0 else ""
    number = f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
    return f"{number} {symbol}" if symbol else number
