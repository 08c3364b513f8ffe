"""Answers read as numbers and as JSON within bounds, so that a hostile text costs little.

Every reader raises UnreadableAnswer for what is not of its form. Numbers are exact: no float
stands between the text and the comparison.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from marketplace.gym.source import UnreadableAnswer
from marketplace.protocol import strict_json

MAX_NUMBER_CHARS: Final = 64
MAX_EXPONENT: Final = 60
MAX_JSON_CHARS: Final = 32_768
MAX_JSON_DEPTH: Final = 8

_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?:[eE](?P<power>[+-]?[0-9]{1,3}))?"
)
_LONG_NUMBER = re.compile(r"[0-9]{400}")


def read_number(text: str) -> Fraction:
    """The decimal number that text is: 1234.5, 1,234.50, -3, .5, 1.2e-3. No unit, no percent."""
    number, rest = leading_number(text)
    if rest:
        raise UnreadableAnswer("the answer is not one plain number")
    return number


def leading_number(text: str) -> tuple[Fraction, str]:
    """The decimal number that text begins with, and the stripped rest.

    A number directly followed by more digits, commas or points (1,23 or 1.2.3) is none.
    """
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    found = _NUMBER.match(text)
    if found is None or text[found.end() : found.end() + 1] in tuple("0123456789.,"):
        raise UnreadableAnswer("the answer does not begin with a number")
    if found.end() > MAX_NUMBER_CHARS:
        raise UnreadableAnswer(f"the number has over {MAX_NUMBER_CHARS} characters")
    if abs(int(found["power"] or 0)) > MAX_EXPONENT:
        raise UnreadableAnswer(f"the number's power of ten is beyond {MAX_EXPONENT}")
    return Fraction(Decimal(found[0].replace(",", ""))), text[found.end() :].strip()


def read_json(text: str) -> Any:
    """The JSON value that text is. Depth, length and digits are bounded, keys unique."""
    if len(text) > MAX_JSON_CHARS:
        raise UnreadableAnswer(f"the answer has {len(text)} characters, over {MAX_JSON_CHARS}")
    # int() of many digits raises or not by a setting that other libraries may change.
    if _LONG_NUMBER.search(text):
        raise UnreadableAnswer("the answer holds a number of 400 digits or more")
    try:
        return strict_json.loads(text, depth=MAX_JSON_DEPTH)
    except ValueError as error:
        raise UnreadableAnswer(f"the answer is not JSON: {error}") from None


def same_value(one: Any, two: Any) -> bool:
    """True if two JSON values are the same: 1 is 1.0, but neither is true or "1".

    The order of keys does not count, that of array items does.
    """
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, int | float) and isinstance(two, int | float):
        return one == two
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same_value(one[key], two[key]) for key in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same_value, one, two))
    return type(one) is type(two) and bool(one == two)
