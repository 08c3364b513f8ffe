"""Our own generated problems (algebra and word problems) and the math-verify scorer.

Every family is a function of a random.Random: it makes the numbers up and states the answer, an
integer or a fraction in lowest terms, or in LaTeX a set. Answers are compared as
mathematics, not as text: 1/2, 0.5 and \\frac{1}{2} are the same.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from random import Random
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from marketplace.gym.source import Entry, Source, UnreadableAnswer
from marketplace.protocol.errors import SpecError

MAX_ANSWER_CHARS: Final = 400
"""Longer answers are not parsed: the grammars of math-verify are far from linear."""

_NUMBER: Final = r"-?\s?(?:[0-9]+(?:(?:,|\{,\}|\\,|\ )[0-9]{3}(?![0-9]))*(?:[.,][0-9]+)?|\.[0-9]+)"
_VALUE: Final = re.compile(
    rf"\\[dt]?frac\s*\{{\s*{_NUMBER}\s*\}}\s*\{{\s*{_NUMBER}\s*\}}"
    rf"|\\[dt]?frac\s?[0-9]\s?[0-9]|{_NUMBER}(?:\s*/\s*{_NUMBER})?"
)
"""One number, or one number over another. Not 5e3: math-verify takes it for 5."""

_COMMAND: Final = re.compile(r"\\(?:[A-Za-z]+|.)")
_HARMLESS: Final = frozenset(
    rf"\{name}"
    for name in (
        *("boxed", "fbox", "text", "textbf", "mathrm", "mathbf", "left", "right", "displaystyle"),
        *("in", "quad", "circ", "$", "%", ",", ";", ":", "!", " ", "(", ")", "[", "]", "{", "}"),
    )
)
_FUNCTIONS: Final = re.compile(r"sqrt|root|sin|cos|tan|log|ln|exp|abs|[!|√∛∜]", re.IGNORECASE)

_NUMBER_SET: Final = re.compile(r"\$\\\{-?[0-9]+(?:, -?[0-9]+)*\\\}\$")
_SEPARATOR: Final = re.compile(r"[,;=]|\bor\b|\band\b|\\cup|\\lor|\\vee")

Family = Callable[[Random, int], tuple[str, Fraction | str]]


def _linear(rng: Random, largest: int) -> tuple[str, Fraction]:
    factor = rng.randint(2, largest)
    root = rng.randint(-largest, largest)
    offset = rng.randint(1, largest)
    return f"Solve for x: {factor}x + {offset} = {factor * root + offset}.", Fraction(root)


def _two_sided(rng: Random, largest: int) -> tuple[str, Fraction]:
    left, right = rng.sample(range(1, largest + 1), 2)
    a, b = rng.randint(1, largest), rng.randint(1, largest)
    return f"Solve for x: {left}x + {a} = {right}x + {b}.", Fraction(b - a, left - right)


def _fraction_sum(rng: Random, largest: int) -> tuple[str, Fraction]:
    one = Fraction(rng.randint(1, largest), rng.randint(2, largest))
    two = Fraction(rng.randint(1, largest), rng.randint(2, largest))
    return f"What is {one} + {two}? Give a fraction in lowest terms.", one + two


def _shopping(rng: Random, largest: int) -> tuple[str, Fraction]:
    name = rng.choice(("Ada", "Ben", "Chloe", "Dev", "Ema", "Farid"))
    thing = rng.choice(("pencils", "apples", "stamps", "tickets", "buttons"))
    count, price, extra = (rng.randint(2, largest) for _ in range(3))
    total = Fraction(count * price + extra)
    return (
        f"{name} buys {count} {thing} at {price} dollars each and pays {extra} dollars for "
        f"delivery. How many dollars does {name} pay in total?",
        total,
    )


def _travel(rng: Random, largest: int) -> tuple[str, Fraction]:
    speed, hours, rest = (rng.randint(2, largest) for _ in range(3))
    vehicle = rng.choice(("train", "bus", "boat", "cyclist"))
    return (
        f"A {vehicle} travels at {speed} km per hour for {hours} hours and then {rest} km more. "
        "How many km does it travel in all?",
        Fraction(speed * hours + rest),
    )


def _share(rng: Random, largest: int) -> tuple[str, Fraction]:
    people = rng.randint(2, largest)
    each = rng.randint(1, largest)
    left = rng.randint(0, people - 1)
    return (
        f"{people} friends share {people * each + left} marbles equally and as many as possible. "
        "How many marbles are left over?",
        Fraction(left),
    )


def _system(rng: Random, largest: int) -> tuple[str, Fraction]:
    x, y = (rng.randint(-largest, largest) for _ in range(2))
    a, b, c, d = (rng.randint(1, largest) for _ in range(4))
    if a * d == b * c:  # not one solution
        d += 1
    # One unknown: math-verify reads the pair (1, 2) as an open interval.
    return (
        f"Solve {a}x + {b}y = {a * x + b * y} and {c}x + {d}y = {c * x + d * y}. What is x?",
        Fraction(x),
    )


def _quadratic(rng: Random, largest: int) -> tuple[str, str]:
    one, two = rng.sample(range(-largest, largest + 1), 2)
    factor = rng.randint(1, 5)
    left = _polynomial((factor, -factor * (one + two), factor * one * two))
    return (
        f"Which numbers x solve {left} = 0? Give the set of all of them in LaTeX, between dollar "
        r"signs, as in $\{p, q\}$.",
        rf"$\{{{min(one, two)}, {max(one, two)}\}}$",
    )


def _percentage(rng: Random, largest: int) -> tuple[str, Fraction]:
    price, percent = rng.randint(10, 50 * largest), rng.randint(1, 95)
    less = rng.random() < 0.5
    change = f"{'lowered' if less else 'raised'} by {percent} percent"
    value = Fraction(price) * (100 - percent if less else 100 + percent) / 100
    return f"A price of {price} dollars is {change}. What is it then, in dollars?", value


def _sequence(rng: Random, largest: int) -> tuple[str, Fraction]:
    first, step = rng.randint(-largest, largest), rng.randint(2, largest)
    place = rng.randint(10, 60)
    shown = ", ".join(str(first + step * index) for index in range(4))
    value, asked = rng.choice(
        (
            (first + step * (place - 1), f"What is term number {place}?"),
            (
                place * first + step * place * (place - 1) // 2,
                f"What do its first {place} terms add up to?",
            ),
        )
    )
    return f"The arithmetic sequence {shown}, ... goes on like this. {asked}", Fraction(value)


def _derivative(rng: Random, largest: int) -> tuple[str, Fraction]:
    factors = [rng.randint(-largest, largest) for _ in range(rng.randint(3, 5))]
    factors[0] = rng.randint(1, largest)
    degree = len(factors) - 1
    slopes = [factor * (degree - index) for index, factor in enumerate(factors[:-1])]
    place = rng.randint(-6, 6)
    # At a point: as an expression, the question's own d/dx (...) would be equal to the answer.
    value = sum(slope * place ** (degree - 1 - index) for index, slope in enumerate(slopes))
    question = f"What is the derivative of {_polynomial(factors)} with respect to x at x = {place}?"
    return question, Fraction(value)


def _polynomial(factors: Sequence[int]) -> str:
    """The polynomial in x with these factors, the highest power first."""
    terms = ""
    for index, factor in enumerate(factors):
        power = len(factors) - 1 - index
        if factor:
            sign = (" - " if factor < 0 else " + ") if terms else ("-" if factor < 0 else "")
            name = ("", "x")[power] if power < 2 else f"x^{power}"
            size = "" if abs(factor) == 1 and name else str(abs(factor))
            terms += f"{sign}{size}{name}"
    return terms or "0"


FAMILIES: Final[dict[str, Family]] = {
    "linear": _linear,
    "two_sided": _two_sided,
    "fraction_sum": _fraction_sum,
    "shopping": _shopping,
    "travel": _travel,
    "share": _share,
    "system": _system,
    "quadratic": _quadratic,
    "percentage": _percentage,
    "sequence": _sequence,
    "derivative": _derivative,
}


class MathAnswerSource(Source):
    """Our own generated algebra and word problems. largest: bound of the numbers drawn."""

    SCORES: ClassVar[bool] = False

    kind: Literal["math_answer"]
    families: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)]
    largest: Annotated[int, Field(ge=4, le=1_000_000)] = 20

    def open(self) -> MathAnswerTasks:
        return MathAnswerTasks(self)


class MathAnswerTasks:
    """A TaskSource over some families. SpecError for a family that does not exist."""

    def __init__(self, source: MathAnswerSource) -> None:
        for name in source.families:
            if name not in FAMILIES:
                raise SpecError(
                    f"there is no math_answer family {name!r}", fix=f"use some of {list(FAMILIES)}"
                )
        self._families = [FAMILIES[name] for name in source.families]
        self._largest = source.largest

    def draw(self, number: int) -> Entry:
        """The problem of a 64-bit number."""
        rng = Random(number)
        question, answer = rng.choice(self._families)(rng, self._largest)
        return Entry(question, str(answer))

    def score(self, answer: str, entry: Entry) -> object:
        """There is no scorer of its own: the spec chooses exact or math_verify."""
        raise TypeError("math_answer has no scorer of its own")


def same_mathematics(answer: str, reference: str) -> bool:
    """True if math-verify finds answer and reference to be equal.

    math-verify works out what it reads, so that a question's own 3/4 + 2/5 would answer it: where
    the reference is one number, an answer has to be one too, and so has each member where it is
    a set of numbers.

    Raises UnreadableAnswer if nothing mathematical can be read from answer. math-verify's own
    time limits use signals and are turned off: callers run in worker processes that have one.
    """
    if len(answer) > MAX_ANSWER_CHARS:
        raise UnreadableAnswer(f"the answer has {len(answer)} characters, over {MAX_ANSWER_CHARS}")
    if _is_one_number(reference) and not _is_one_number(answer):
        raise UnreadableAnswer("the answer is not one number, worked out")
    if _NUMBER_SET.fullmatch(reference) and not all(map(_is_one_number, _members(answer))):
        raise UnreadableAnswer("a member of the answer is not one number, worked out")
    # Imported here: SymPy and the grammars take about half a second.
    from math_verify import verify

    found = _parsed(answer)
    if not found:
        raise UnreadableAnswer("nothing mathematical can be read from the answer")
    return verify(_parsed(reference), found, timeout_seconds=None, raise_on_error=True)


def _members(text: str) -> list[str]:
    """What stands between the separators of a list, where it holds a digit."""
    return [part for part in _SEPARATOR.split(text) if any(map(str.isnumeric, part))]


def _is_one_number(text: str) -> bool:
    """True for 5, -1.5, 5/2, \\frac{5}{2}, 50%, with words or "x =" around; nothing to compute."""
    values, rest = _VALUE.findall(text), _VALUE.sub(" ", text)
    commands = set(_COMMAND.findall(rest))
    words = _COMMAND.sub(" ", rest)
    return (
        len(values) == 1
        and commands <= _HARMLESS
        and not _FUNCTIONS.search(words)
        and not any(char.isnumeric() for char in words)
    )


def _parsed(text: str) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    # It warns that nothing limits its time: here the worker pool does.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return parse(
        text,
        extraction_config=[LatexExtractionConfig(), ExprExtractionConfig()],
        fallback_mode="no_fallback",
        parsing_timeout=None,  # type: ignore[arg-type]  # the hint forgets that None means none
        raise_on_error=True,
    )
