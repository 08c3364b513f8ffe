"""Quantities: a number and a unit, read within bounds and converted exactly by pint.

pint's own parser evaluates what it reads, so no text reaches it: units are read here, by names of
a closed list with SI prefixes and small integer powers, and pint gets names that we wrote. All
arithmetic is in fractions: nothing rounds, so all machines agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any, Final

from marketplace.gym.answers import leading_number
from marketplace.gym.source import UnreadableAnswer

MAX_UNIT_CHARS: Final = 48
MAX_FACTORS: Final = 6
MAX_POWER: Final = 4

_PREFIXES: Final = {
    "nano": "n",
    "micro": "\u00b5",
    "milli": "m",
    "centi": "c",
    "deci": "d",
    "hecto": "h",
    "kilo": "k",
    "mega": "M",
    "giga": "G",
}

_PREFIXED: Final = {
    "meter": ("m", "metre"),
    "gram": ("g",),
    "second": ("s",),
    "ampere": ("A", "amp"),
    "volt": ("V",),
    "ohm": ("\u03a9", "ohm"),
    "watt": ("W",),
    "joule": ("J",),
    "newton": ("N",),
    "pascal": ("Pa",),
    "coulomb": ("C",),
    "farad": ("F",),
    "liter": ("L", "l", "litre"),
    "bar": ("bar",),
    "calorie": ("cal",),
    "electron_volt": ("eV", "electronvolt"),
}
"""pint's name to symbols and further names. All take the SI prefixes above."""

_PLAIN: Final = {
    "kelvin": ("K",),
    "degree_Celsius": ("\u00b0C", "degC", "celsius"),
    "degree_Fahrenheit": ("\u00b0F", "degF", "fahrenheit"),
    "minute": ("min",),
    "hour": ("h", "hr"),
    "day": ("d",),
    "mole": ("mol",),
    "standard_atmosphere": ("atm", "atmosphere"),
    "mile": ("mi",),
    "foot": ("ft", "feet"),
    "inch": ("in", "inches"),
    "pound": ("lb", "lbs"),
    "metric_ton": ("t", "tonne"),
    "psi": (),
    "millimeter_Hg": ("mmHg",),
    "knot": ("kn",),
    "horsepower": ("hp",),
}

_OFFSET: Final = ("degree_Celsius", "degree_Fahrenheit")

_FACTOR = re.compile("([*/]?)([A-Za-z\u00b5\u03a9\u00b0_]{1,24})(?:\\^([+-]?[0-9]{1,2}))?")
_RAISED = re.compile("\u207b?[\u00b9\u00b2\u00b3\u2074]")
_LOWERED: Final = str.maketrans("\u207b\u00b9\u00b2\u00b3\u2074", "-1234")
# Dots and crosses that multiply; the Greek mu and the ohm sign for micro and the Greek omega.
_WRITTEN_ALIKE: Final = str.maketrans("\u00b7\u22c5\u00d7\u03bc\u2126", "***\u00b5\u03a9")


def read_quantity(text: str) -> Any:
    """text as a pint Quantity over Fraction: "3.5 km/h", "2e3 kg m^2 s^-2", "12 uA".

    Raises UnreadableAnswer for anything but a number and units of the list. A number alone is
    dimensionless.
    """
    number, rest = leading_number(text)
    names = list(_factors(rest))
    if any(name in _OFFSET for name, _ in names) and names not in [[(one, 1)] for one in _OFFSET]:
        raise UnreadableAnswer("degrees of a scale with an offset take no other unit")
    registry = _registry()
    unit = registry.Unit(registry.UnitsContainer())
    for name, power in names:
        unit = unit * registry.Unit(name) ** power
    return registry.Quantity(number, unit)


def in_unit(quantity: Any, unit: str) -> Fraction | None:
    """The magnitude of quantity in unit (text as read_quantity takes), None if it has no such."""
    target = _unit(unit)
    if quantity.dimensionality != target.dimensionality:
        return None
    magnitude = quantity.to(target).magnitude
    if not isinstance(magnitude, Fraction | int):
        raise TypeError(f"{unit} is not exact: converting to it gave {type(magnitude).__name__}")
    return Fraction(magnitude)


@cache
def _unit(text: str) -> Any:
    """A unit that we wrote: there are few."""
    return read_quantity(f"1 {text}").units


def _factors(text: str) -> Iterator[tuple[str, int]]:
    """pint's names and powers. A slash divides by the one unit after it."""
    if len(text) > MAX_UNIT_CHARS:
        raise UnreadableAnswer(f"the unit has over {MAX_UNIT_CHARS} characters")
    text = text.translate(_WRITTEN_ALIKE).replace("**", "^")
    text = _RAISED.sub(lambda found: f"^{found[0].translate(_LOWERED)}", text)
    text = "*".join(re.sub(r"\s*([*/^])\s*", r"\1", text).split())
    position = count = 0
    while position < len(text):
        found = _FACTOR.match(text, position)
        if found is None or (position > 0) != bool(found[1]):
            raise UnreadableAnswer("the unit can't be read")
        meant, power = _names().get(found[2]), int(found[3] or 1)
        if meant is None:
            raise UnreadableAnswer(f"there is no unit {found[2]!a}")
        count += 1
        if count > MAX_FACTORS or not 1 <= abs(power) <= MAX_POWER:
            raise UnreadableAnswer(f"over {MAX_FACTORS} units, or a power beyond {MAX_POWER}")
        for unit, own in meant:
            yield unit, own * power * (-1 if found[1] == "/" else 1)
        position = found.end()


@cache
def _names() -> dict[str, tuple[tuple[str, int], ...]]:
    """Every accepted name to pint's names and powers."""
    names: dict[str, tuple[tuple[str, int], ...]] = {}

    def add(written: str, *meant: tuple[str, int]) -> None:
        if written in names:
            raise ValueError(f"the unit {written} is named twice")
        names[written] = meant

    for unit, others in _PREFIXED.items():
        words = dict.fromkeys((unit, *(other for other in others if len(other) > 2)))
        for prefix, letter in (("", ""), *_PREFIXES.items()):
            for symbol in (other for other in others if len(other) <= 3):
                add(letter + symbol, (prefix + unit, 1))
            for word in words:
                if prefix + word not in names:  # ohm, bar and cal are symbols too
                    add(prefix + word, (prefix + unit, 1))
                add(f"{prefix}{word}s", (prefix + unit, 1))
    for unit, known in _PLAIN.items():
        for word in dict.fromkeys((unit, *known)):
            add(word, (unit, 1))
    for word in ("hour", "minute", "day", "mole", "mile", "atmosphere", "pound", "knot", "tonne"):
        add(f"{word}s", *names[word])
    add("kph", ("kilometer", 1), ("hour", -1))
    add("mph", ("mile", 1), ("hour", -1))
    for letter, prefix in (("", ""), ("k", "kilo"), ("M", "mega")):
        add(f"{letter}Wh", (f"{prefix}watt", 1), ("hour", 1))
    for written, meant in list(names.items()):
        if written.startswith("\u00b5"):
            names[f"u{written[1:]}"] = meant  # where there is no Greek keyboard
    return names


@cache
def _registry() -> Any:
    """pint's registry over fractions. Imported here: it takes a second, and few need it."""
    from pint import UnitRegistry

    return UnitRegistry(non_int_type=Fraction, cache_folder=None)
