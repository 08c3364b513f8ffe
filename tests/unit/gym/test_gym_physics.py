"""Quantities: equivalent units count, other dimensions don't, no text is evaluated."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.gym.source import Entry, UnreadableAnswer
from marketplace.gym.sources.physics import FAMILIES, PhysicsSource, PhysicsTasks
from marketplace.gym.units import _names, in_unit, read_quantity


def source(*families: str, tolerance: str = "0.005") -> PhysicsTasks:
    return PhysicsSource(
        kind="physics", families=families or tuple(FAMILIES), tolerance=tolerance
    ).open()


def asked(words: str) -> Entry:
    return next(entry for entry in map(source().draw, range(2000)) if words in entry.question)


# Words of a question, and its answer from the numbers in it. R is in L kPa here, K is 273.15.
K, R = 273.15, 8.314
SOLVED: dict[str, Callable[..., float]] = {
    "How fast is it then": lambda v, a, t: v / 3.6 + a * t,
    "get meanwhile": lambda v, a, t: (v / 3.6 + v / 3.6 + a * t) / 2 * t,
    "until it stands": lambda v, a: (v / 3.6 / a) * (v / 3.6) / 2,
    "How long does it fall": lambda h, g: (h / g * 2) ** 0.5,
    "How fast is it at the end": lambda h, g: g * (h / g * 2) ** 0.5,
    "kinetic energy": lambda m, v: 0.5 * m / 1000 * (v / 3.6) ** 2,
    "How much energy does that": lambda m, h, g: m * g * h,
    "average power": lambda m, h, g, t: m * g * (h / t),
    "does it hold": lambda k, x: k * (x / 100) ** 2 / 2,
    "energy does it use": lambda p, t: p * t * 60,
    "What current flows": lambda a, b, u: u / (a + b),
    "What current does it give": lambda a, b, u: u / a + u / b,
    "their resistance": lambda a, b: 1 / (1 / a + 1 / b),
    "into heat": lambda a, b, u: (u * a / (a + b)) ** 2 / a,
    "What charge": lambda c, u: c * 1e-6 * u,
    "time constant": lambda c, r: c * 1e-6 * r * 1e3,
    "What is the pressure? mol": lambda n, v, t, *_: n * R * (t + K) / (v / 1000),
    "What volume": lambda n, t, p, *_: n * R * (t + K) / (p * 1000),
    "in moles": lambda v, t, p, *_: p * 1000 * (v / 1000) / (R * (t + K)),
    "absolute temperature": lambda t, p, *more: (t + K) / p * more[-1],
    "is the pressure higher": lambda h, d, g: d * g * h,
    "buoyancy": lambda v, d, g: d * g * v / 1000,
    "What is the mass": lambda v, d, g: d * v / 1000,
    "What is the pressure? cm": lambda f, a: f / (a / 1e4),
}


def test_answers_are_right() -> None:
    seen = set()
    tasks = source(tolerance="0.0001")
    for number in range(600):
        entry = tasks.draw(number)
        words = re.sub(r"m/s\^2|m\^3|cm\^2", "", entry.question)
        numbers = [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", words)]
        full = f"{entry.question} {'mol' if 'mol of' in entry.question else 'cm'}"
        names = [name for name in SOLVED if name in full]
        names = [n for n in names if n != "does it hold" or "spring" in full]
        (name,) = names
        value = SOLVED[name](*numbers)
        assert tasks.score(f"{value:.9f} {entry.raw['unit']}", entry) == 1.0, (entry, value)
        seen.add(name)
    assert seen == set(SOLVED)


@pytest.mark.parametrize(
    ("words", "forms"),
    [
        ("How fast is it at", {"km/h": "3.6", "kph": "3.6", "cm s^-1": "100", "m·s⁻¹": "1"}),
        ("How much energy does it", {"kJ": "1e-3", "N m": "1", "W s": "1", "kg*m**2/s^2": "1"}),
        ("What current", {"mA": "1e3", "µA": "1e6", "uA": "1e6", "V/Ω": "1", "kV/kohm": "1"}),
        ("What is the pressure?", {"kPa": ".001", "N/m²": "1", "bar": "1e-5", "hPa": "0.01"}),
        ("What volume", {"L": "1000", "litres": "1e3", "cm^3": "1,000,000", "dm³": "1000"}),
        ("What is the mass", {"g": "1000", "t": "0.001", "kilograms": "1"}),
    ],
)
def test_equivalent_units_count(words: str, forms: dict[str, str]) -> None:
    entry = asked(words)
    for unit, factor in forms.items():
        value = float(entry.raw["value"]) * float(factor.replace(",", ""))
        for form in (f"{value!r} {unit}", f"{value:.8e} {unit}", f"+{value!r}{unit}"):
            assert source().score(form, entry) == 1.0, form
        assert source().score(f"{value * 1.006!r} {unit}", entry) == 0.0
        assert source().score(f"{-value!r} {unit}", entry) == 0.0


def test_degrees_count_from_their_own_zero() -> None:
    entry = asked("absolute temperature")
    kelvin = float(entry.raw["value"])
    assert source().score(f"{kelvin - 273.15:.4f} °C", entry) == 1.0
    assert source().score(f"{(kelvin - 273.15) * 1.8 + 32:.4f} degF", entry) == 1.0
    assert source().score(f"{kelvin} °C", entry) == 0.0


@pytest.mark.parametrize("unit", ["", "kg", "m", "m/s^2", "J", "mol", "s", "m^2/s", "1"])
def test_another_dimension_or_none_earns_nothing(unit: str) -> None:
    entry = asked("How fast is it then")
    answer = f"{float(entry.raw['value'])} {unit}"
    if unit == "1":
        with pytest.raises(UnreadableAnswer):
            source().score(answer, entry)
    else:
        assert source().score(answer, entry) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "10**10**10 m",
        "1e61 m",
        "1e999999999 m",
        "2*3 m",
        "1+1 m",
        "3 m or 4 m",
        "3 ± 100 m",
        "3 m^9",
        "3 m^0",
        "3 m^99999999999999999999",
        "3 m^2^2",
        "3 " + "m " * 7,
        "3 " + "m" * 49,
        "3 furlong",
        "3 m + 2 s",
        "3 (m/s)",
        "3 °C/s",
        "3 °C °F",
        "3 *m",
        "3 /s",
        "m",
        "0x10 m",
        "1_000 m",
        "5 km\u0000",
        "nan m",
        "inf m",
        "-" * 1000 + "1 m",
        "3 __import__",
        "3 [length]",
        "3 dimensionless",
        "3 speed_of_light",
    ],
)
def test_what_is_no_quantity_is_unreadable_at_once(text: str) -> None:
    read_quantity("1 m")
    started = time.process_time()
    with pytest.raises(UnreadableAnswer):
        source().score(text, asked("How fast is it then"))
    assert time.process_time() - started < 1.0


_PIECES = (
    "m g s A K V W J N C km h °C Pa psi hp eV kWh mph lb ft mmHg atm ohm Ω µ * / ^ · ( ) ² ³ ⁻ ¹ "
    "** ^- 2 4 1e 10 9 - . , e \u2126 \u03bc"
)


@given(
    number=st.from_regex(r"\A[-+]?[0-9]{1,5}(\.[0-9]{1,3})?(e-?[0-9]{1,2})?\Z"),
    pieces=st.lists(st.sampled_from([*_PIECES.split(), " "]), max_size=14),
)
@settings(max_examples=200, deadline=1000)
def test_any_mix_of_units_is_read_exactly_or_refused(number: str, pieces: list[str]) -> None:
    try:
        quantity = read_quantity(f"{number} {''.join(pieces)}")
    except UnreadableAnswer:
        return
    assert isinstance(quantity.magnitude, Fraction)
    for unit in ("m/s", "J", "K", "Pa", "ohm"):
        found = in_unit(quantity, unit)
        assert found is None or isinstance(found, Fraction)


def test_every_name_means_one_exact_unit() -> None:
    for name in _names():
        base = read_quantity(f"1 {name}").to_root_units()
        assert isinstance(base.magnitude, Fraction | int), name
    for one, two in {
        "min": "60 s",
        "mile": "1609.344 m",
        "cal": "4.184 J",
        "atm": "101325 Pa",
        "kWh": "3.6e6 J",
        "hPa": "100 Pa",
        "mW": "0.001 W",
        "MW": "1e6 W",
        "ft": "0.3048 m",
        "L": "0.001 m^3",
    }.items():
        value, _, unit = two.partition(" ")
        assert in_unit(read_quantity(f"1 {one}"), unit) == read_quantity(value).magnitude


@pytest.mark.parametrize("tolerance", ["0", "0.2", "1", "0.00001", "1e-2", "-0.1", "0.11", ""])
def test_the_tolerance_has_bounds(tolerance: str) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        source(tolerance=tolerance)
