"""A store whose prices only its tools know: the built-in world of dialogues.

The model calls tools by a JSON object in the last line of a message, and answers the same way:

    {"tool": "lookup", "key": "price of tea"}
    {"tool": "calculate", "expression": "3 * 14 + 9"}
    {"answer": 51}
"""

from __future__ import annotations

import re
from random import Random
from typing import Any, ClassVar, Final

from marketplace.gym.worlds.dialogue import Turn
from marketplace.protocol import strict_json

THINGS: Final = (
    "tea", "salt", "rice", "soap", "rope", "paper", "honey", "candles", "nails", "ink"
)  # fmt: skip
_EXPRESSION: Final = re.compile(r"\d{1,9}(?: ?[-+*] ?\d{1,9}){0,9}", re.ASCII)
_MAX_LINE: Final = 400


class Store:
    """A Dialogue. most: of the prices and counts drawn."""

    rules: ClassVar[str] = (
        "You answer a question with the help of tools. Each of your messages ends with one line, a "
        'JSON object: {"tool": "lookup", "key": KEY} tells the value of a key, {"tool": '
        '"calculate", "expression": TEXT} works out whole numbers with +, - and *, and '
        '{"answer": NUMBER} ends the talk. An answer counts only if what it depends on has been '
        "looked up."
    )

    def __init__(self, most: int = 60) -> None:
        if type(most) is not int or not 5 <= most <= 10_000:
            raise ValueError(f"most is {most!r}, not a whole number from 5 to 10000")
        self._most = most

    def reset(self, seed: int) -> str:
        """A new stock of prices and a question about two of them."""
        rng = Random(seed)
        self._values = {f"price of {thing}": rng.randint(2, self._most) for thing in THINGS}
        self._values["fee for delivery"] = rng.randint(2, self._most)
        thing, other = rng.sample(THINGS, 2)
        self._count = rng.randint(2, self._most)
        delivered = rng.random() < 0.5
        self._needed = (
            f"price of {thing}",
            "fee for delivery" if delivered else f"price of {other}",
        )
        self._seen: set[str] = set()
        extra = "have them delivered" if delivered else f"buy one of {other}"
        return (
            f"I buy {self._count} of {thing} and {extra}. How many coins do I pay in all? The "
            f"store knows the keys {', '.join(map(repr, self._needed))} and more."
        )

    def step(self, message: str) -> Turn:
        """The result of a tool call; an answer ends the talk."""
        match _called(message):
            case {"tool": "lookup", "key": str(key), **rest} if not rest:
                if key not in self._values:
                    return Turn(f"error: there is no key {key[:40]!r}", False, 0.0)
                self._seen.add(key)
                return Turn(str(self._values[key]), False, 0.0)
            case {"tool": "calculate", "expression": str(text), **rest} if not rest:
                return Turn(_calculated(text), False, 0.0)
            case {"answer": int(number), **rest} if not rest and type(number) is int:
                right = number == self._total() and self._seen.issuperset(self._needed)
                return Turn("Thank you.", True, float(right))
        return Turn("error: the last line is no tool call and no answer", False, 0.0)

    def solution(self, seed: int) -> list[str]:
        """Two lookups, a calculation, the answer."""
        self.reset(seed)
        price, extra = (self._values[key] for key in self._needed)
        return [
            *(f'{{"tool": "lookup", "key": "{key}"}}' for key in self._needed),
            f'{{"tool": "calculate", "expression": "{self._count} * {price} + {extra}"}}',
            f'{{"answer": {self._total()}}}',
        ]

    def _total(self) -> int:
        price, extra = (self._values[key] for key in self._needed)
        return self._count * price + extra


def _called(message: str) -> Any:
    """The JSON value in the last line, or None."""
    line = message.strip().rpartition("\n")[2].strip()
    if len(line) > _MAX_LINE:
        return None
    try:
        return strict_json.loads(line, depth=1)
    except ValueError:
        return None


def _calculated(text: str) -> str:
    if _EXPRESSION.fullmatch(text) is None:
        return "error: the expression is not whole numbers with +, - and *"
    total = 0
    for sign, term in re.findall(r"([-+]?) ?((?:\d+ ?\* ?)*\d+)", text):
        product = 1
        for factor in term.split("*"):
            product *= int(factor)
        total += -product if sign == "-" else product
    return str(total)
