"""Families of small functions to write: a task in words, a solution, and inputs to try it with.

All parameters come from a random.Random. Values are integers, texts, truth values and lists of
them, so that equality is exact and JSON carries them unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

Arguments = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """signature: as in `total(xs)`. task: what it returns, a clause. solution: its source.

    inputs: makes one tuple of arguments.
    """

    signature: str
    task: str
    solution: str
    inputs: Callable[[Random], Arguments]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.signature.partition("(")[0]


Family = Callable[[Random], Problem]

_WORDS: Final = (
    *("amber", "basalt", "cedar", "delta", "ember", "fjord", "glacier", "harbour", "iris", "jade"),
    *("kelp", "lagoon", "meadow", "nectar", "opal", "pebble", "quartz", "reef", "slate", "tundra"),
    *("a", "an", "of", "the", "to", "under", "vivid", "willow", "yarrow", "zinc"),
)


def _numbers(rng: Random, least: int = 0, low: int = -60, high: int = 60) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(least, least + 12))]


def _text(rng: Random, letters: str = "abcdefghijklmnopqrstuvwxyz ", least: int = 0) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(least, least + 20)))


def _sum_of_multiples(rng: Random) -> Problem:
    divisor, factor = rng.randint(2, 12), rng.randint(2, 90)
    return Problem(
        "total(xs)",
        f"returns {factor} times the sum of those integers in the list xs that {divisor} divides",
        f"def total(xs):\n    return {factor} * sum(x for x in xs if x % {divisor} == 0)\n",
        lambda r: (_numbers(r),),
    )


def _words_longer(rng: Random) -> Problem:
    length, letter = rng.randint(2, 7), rng.choice("abcdefghiklmnoprstuw")
    return Problem(
        "count(text)",
        f"returns how many words of text, which are separated by single spaces, have more than "
        f"{length} letters or begin with {letter!r}",
        f"def count(text):\n    words = text.split()\n"
        f"    return sum(len(w) > {length} or w.startswith({letter!r}) for w in words)\n",
        lambda r: (" ".join(r.choice(_WORDS) for _ in range(r.randint(0, 9))),),
    )


def _shifted_letters(rng: Random) -> Problem:
    shift, kept = rng.randint(1, 25), rng.choice("aeiou")
    return Problem(
        "encode(text)",
        f"returns text with every lower-case letter a to z but {kept!r} moved {shift} places on "
        "in the alphabet, going on at a after z; all other characters stay",
        f"def encode(text):\n    out = ''\n    for c in text:\n"
        f"        if 'a' <= c <= 'z' and c != {kept!r}:\n"
        f"            c = chr((ord(c) - 97 + {shift}) % 26 + 97)\n"
        f"        out += c\n    return out\n",
        lambda r: (_text(r, "abcdefghijklmnopqrstuvwxyzAEZ .3"),),
    )


def _within(rng: Random) -> Problem:
    low, high = rng.randint(-40, -5), rng.randint(5, 40)
    return Problem(
        "within(xs)",
        f"returns the different integers of the list xs from {low} to {high}, both included, "
        "in ascending order",
        f"def within(xs):\n    return sorted({{x for x in xs if {low} <= x <= {high}}})\n",
        lambda r: (_numbers(r),),
    )


def _best_window(rng: Random) -> Problem:
    size, otherwise = rng.randint(2, 6), rng.randint(-99, 0)
    return Problem(
        "best(xs)",
        f"returns the largest sum of {size} neighbours in the list of integers xs, or {otherwise} "
        f"if xs has fewer than {size}",
        f"def best(xs):\n    sums = [sum(xs[i:i + {size}]) for i in range(len(xs) - {size} + 1)]\n"
        f"    return max(sums) if sums else {otherwise}\n",
        lambda r: (_numbers(r),),
    )


def _rotated(rng: Random) -> Problem:
    steps, added = rng.randint(1, 9), rng.randint(1, 30)
    return Problem(
        "turned(xs)",
        f"returns the list of integers xs rotated {steps} places to the left, with {added} added "
        "to each; an empty list stays empty",
        f"def turned(xs):\n    k = {steps} % len(xs) if xs else 0\n"
        f"    return [x + {added} for x in xs[k:] + xs[:k]]\n",
        lambda r: (_numbers(r),),
    )


def _digit_sum(rng: Random) -> Problem:
    base, modulus = rng.randint(3, 16), rng.randint(7, 50)
    return Problem(
        "digits(n)",
        f"returns the sum of the digits of the integer n >= 0 written in base {base}, "
        f"modulo {modulus}",
        f"def digits(n):\n    total = 0\n    while n:\n        total += n % {base}\n"
        f"        n //= {base}\n    return total % {modulus}\n",
        lambda r: (r.randint(0, 10 ** r.randint(1, 15)),),
    )


def _recurrence(rng: Random) -> Problem:
    p, q, first, second = (rng.randint(1, 9) for _ in range(4))
    modulus = rng.randint(50, 5000)
    return Problem(
        "term(n)",
        f"returns a(n) for n >= 0, where a(0) = {first}, a(1) = {second} and "
        f"a(n) = ({p} * a(n-1) + {q} * a(n-2)) modulo {modulus} for n >= 2",
        f"def term(n):\n    a, b = {first}, {second}\n    for _ in range(n):\n"
        f"        a, b = b, ({p} * b + {q} * a) % {modulus}\n    return a\n",
        lambda r: (r.randint(0, 400),),
    )


def _brackets(rng: Random) -> Problem:
    depth = rng.randint(2, 6)
    opening, closing = rng.choice(("()", "[]", "{}", "<>"))
    length = rng.randint(10, 30)
    return Problem(
        "closed(text)",
        f"returns True if text has at most {length} characters, every {opening!r} in it is closed "
        f"by a later {closing!r}, none is closed that is not open, and at most {depth} are open at "
        "once; else False",
        f"def closed(text):\n    n = 0\n    for c in text:\n"
        f"        n += (c == {opening!r}) - (c == {closing!r})\n"
        f"        if n < 0 or n > {depth}:\n            return False\n"
        f"    return n == 0 and len(text) <= {length}\n",
        lambda r: (_nested(r, opening, closing),),
    )


def _nested(rng: Random, opening: str, closing: str) -> str:
    depth = rng.randint(0, 8)
    made = opening * depth + rng.choice(("", "x", opening + closing)) + closing * depth
    place = rng.randint(0, len(made))
    return made if rng.random() < 0.6 else made[:place] + made[place + 1 :]


def _blocks(rng: Random) -> Problem:
    size, mark = rng.randint(2, 7), rng.choice("-_/:+|")
    return Problem(
        "blocks(text)",
        f"cuts text into blocks of {size} characters (the last may be shorter), reverses each, and "
        f"returns them joined by {mark!r}",
        f"def blocks(text):\n    parts = [text[i:i + {size}][::-1] for i in range(0, len(text), "
        f"{size})]\n    return {mark!r}.join(parts)\n",
        lambda r: (_text(r),),
    )


def _merged(rng: Random) -> Problem:
    gap, least = rng.randint(0, 5), rng.randint(1, 6)
    return Problem(
        "merged(spans)",
        "takes a list of [start, end] integer pairs with start <= end, merges those that overlap "
        f"or lie at most {gap} apart, and returns those of the result that are at least {least} "
        "long (end - start) as a list of pairs ordered by start",
        f"def merged(spans):\n    out = []\n    for start, end in sorted(spans):\n"
        f"        if out and start - out[-1][1] <= {gap}:\n"
        f"            out[-1][1] = max(out[-1][1], end)\n        else:\n"
        f"            out.append([start, end])\n"
        f"    return [s for s in out if s[1] - s[0] >= {least}]\n",
        lambda r: ([_span(r) for _ in range(r.randint(0, 8))],),
    )


def _span(rng: Random) -> list[int]:
    start = rng.randint(0, 60)
    return [start, start + rng.randint(0, 9)]


def _column_sums(rng: Random) -> Problem:
    factor, offset = rng.randint(2, 30), rng.randint(1, 30)
    return Problem(
        "columns(rows)",
        "takes a list of equally long lists of integers and returns the list of the sums of its "
        f"columns, each multiplied by {factor} and then increased by {offset}; no rows give []",
        f"def columns(rows):\n    return [{factor} * sum(c) + {offset} for c in zip(*rows)]\n",
        lambda r: (_matrix(r),),
    )


def _matrix(rng: Random) -> list[list[int]]:
    width = rng.randint(1, 5)
    return [[rng.randint(-20, 20) for _ in range(width)] for _ in range(rng.randint(0, 5))]


def _run_lengths(rng: Random) -> Problem:
    least, mark = rng.randint(2, 4), rng.choice("#*~^%")
    return Problem(
        "packed(text)",
        f"replaces every longest run of one character that is {least} or more long by the "
        f"character, {mark!r} and the run's length in decimal, leaves shorter runs as they are, "
        "and returns the text",
        f"def packed(text):\n    out, i = '', 0\n    while i < len(text):\n        j = i\n"
        f"        while j < len(text) and text[j] == text[i]:\n            j += 1\n"
        f"        out += text[i] + {mark!r} + str(j - i) if j - i >= {least} else text[i:j]\n"
        f"        i = j\n    return out\n",
        lambda r: (_text(r, "aab c"),),
    )


FAMILIES: Final[dict[str, Family]] = {
    "sum_of_multiples": _sum_of_multiples,
    "words_longer": _words_longer,
    "shifted_letters": _shifted_letters,
    "within": _within,
    "best_window": _best_window,
    "rotated": _rotated,
    "digit_sum": _digit_sum,
    "recurrence": _recurrence,
    "brackets": _brackets,
    "blocks": _blocks,
    "merged": _merged,
    "column_sums": _column_sums,
    "run_lengths": _run_lengths,
}
