"""Physics problems whose answer is a quantity: a number with a unit, any equivalent one.

Every family makes up quantities in the units of daily life and computes the answer in SI units, in
decimal arithmetic. Constants are part of the question. An answer of another dimension is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from random import Random
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from marketplace.gym.families import FamilyNames, chosen_families
from marketplace.gym.source import Entry, Source
from marketplace.gym.units import in_unit, read_quantity

_CONTEXT: Final = Context(prec=40)
_DIGITS: Final = Context(prec=6)
_G: Final = Decimal("9.81")
_R: Final = Decimal("8.314")
_ZERO_CELSIUS: Final = Decimal("273.15")
_FALL: Final = "(take g = 9.81 m/s^2 and no air resistance)"
_GAS: Final = "(ideal gas, R = 8.314 J/(mol K), 0 °C = 273.15 K)"

Problem = tuple[str, Decimal, str]
"""The question, the answer's magnitude, and its SI unit."""

Family = Callable[[Random], Problem]


def _tenths(rng: Random, least: int, most: int) -> Decimal:
    return Decimal(rng.randint(least * 10, most * 10)) / 10


def _kinematics(rng: Random) -> Problem:
    speed, time = rng.randint(10, 200), _tenths(rng, 2, 30)  # km/h, s
    gain, height = _tenths(rng, 1, 9), _tenths(rng, 2, 300)  # m/s^2, m
    start = Decimal(speed) * 1000 / 3600
    moving = f"A car drives at {speed} km/h"
    return rng.choice(
        (
            (
                f"{moving} and speeds up by {gain} m/s^2 for {time} s. How fast is it then?",
                start + gain * time,
                "m/s",
            ),
            (
                f"{moving} and speeds up by {gain} m/s^2 for {time} s. How far does it get "
                "meanwhile?",
                start * time + gain * time * time / 2,
                "m",
            ),
            (
                f"{moving} and brakes with {gain} m/s^2. How far does it get until it stands?",
                start * start / (2 * gain),
                "m",
            ),
            (
                f"A stone falls from rest through {height} m {_FALL}. How long does it fall?",
                (2 * height / _G).sqrt(),
                "s",
            ),
            (
                f"A stone falls from rest through {height} m {_FALL}. How fast is it at the end?",
                (2 * height * _G).sqrt(),
                "m/s",
            ),
        )
    )


def _energy(rng: Random) -> Problem:
    grams, kilos = rng.randint(5, 2000), _tenths(rng, 1, 900)
    speed, height, seconds = rng.randint(5, 250), _tenths(rng, 1, 60), rng.randint(2, 90)
    stiffness, squeezed = rng.randint(20, 4000), rng.randint(1, 40)  # N/m, cm
    watts, minutes = rng.randint(5, 3000), rng.randint(2, 600)
    lifted = f"A crane lifts {kilos} kg by {height} m (take g = 9.81 m/s^2)"
    return rng.choice(
        (
            (
                f"What is the kinetic energy of {grams} g that move at {speed} km/h?",
                Decimal(grams) / 2000 * (Decimal(speed) / Decimal("3.6")) ** 2,
                "J",
            ),
            (f"{lifted}. How much energy does that take?", kilos * _G * height, "J"),
            (
                f"{lifted} in {seconds} s. What is its average power?",
                kilos * _G * height / seconds,
                "W",
            ),
            (
                f"A spring of {stiffness} N/m is squeezed by {squeezed} cm. What energy does it "
                "hold?",
                Decimal(stiffness) * squeezed * squeezed / 20_000,
                "J",
            ),
            (
                f"A device of {watts} W runs for {minutes} min. How much energy does it use?",
                Decimal(watts * minutes * 60),
                "J",
            ),
        )
    )


def _circuits(rng: Random) -> Problem:
    volts, one, two = _tenths(rng, 1, 240), rng.randint(10, 990), rng.randint(10, 990)
    farads, ohms = rng.randint(1, 900), _tenths(rng, 1, 90)  # microfarads, kilohms
    series, parallel = Decimal(one + two), Decimal(one * two) / (one + two)
    both = f"Resistors of {one} ohm and {two} ohm are connected in"
    source = f"to a source of {volts} V"
    return rng.choice(
        (
            (f"{both} series {source}. What current flows?", volts / series, "A"),
            (f"{both} parallel {source}. What current does it give?", volts / parallel, "A"),
            (f"{both} parallel. What is their resistance together?", parallel, "ohm"),
            (
                f"{both} series {source}. What power does the first turn into heat?",
                (volts / series) ** 2 * one,
                "W",
            ),
            (
                f"A capacitor of {farads} uF is charged {source}. What charge does it hold?",
                farads * volts / 1_000_000,
                "C",
            ),
            (
                f"A capacitor of {farads} uF discharges through {ohms} kohm. What is the time "
                "constant?",
                farads * ohms / 1000,
                "s",
            ),
        )
    )


def _gas(rng: Random) -> Problem:
    moles, liters = _tenths(rng, 1, 20), _tenths(rng, 1, 90)
    celsius, pressure, later = rng.randint(-40, 300), rng.randint(50, 900), rng.randint(50, 900)
    kelvin = celsius + _ZERO_CELSIUS
    return rng.choice(
        (
            (
                f"{moles} mol of gas fill {liters} L at {celsius} °C {_GAS}. What is the pressure?",
                moles * _R * kelvin / liters * 1000,
                "Pa",
            ),
            (
                f"What volume do {moles} mol of gas take up at {celsius} °C and {pressure} kPa "
                f"{_GAS}?",
                moles * _R * kelvin / (pressure * 1000),
                "m^3",
            ),
            (
                f"What amount of gas, in moles, fills {liters} L at {celsius} °C and {pressure} "
                f"kPa {_GAS}?",
                pressure * liters / (_R * kelvin),
                "mol",
            ),
            (
                f"Gas in a rigid tank is at {celsius} °C and {pressure} kPa {_GAS}. At what "
                f"absolute temperature is its pressure {later} kPa?",
                kelvin * later / pressure,
                "K",
            ),
        )
    )


def _fluids(rng: Random) -> Problem:
    density, depth = rng.randint(650, 1300), _tenths(rng, 1, 90)
    liters, area, force = _tenths(rng, 1, 200), rng.randint(2, 400), rng.randint(5, 5000)
    liquid = f"a liquid of {density} kg/m^3 (take g = 9.81 m/s^2)"
    return rng.choice(
        (
            (
                f"By how much is the pressure higher {depth} m below the surface of {liquid}?",
                density * _G * depth,
                "Pa",
            ),
            (
                f"A body of {liters} L is wholly under the surface of {liquid}. How strong is its "
                "buoyancy?",
                density * _G * liters / 1000,
                "N",
            ),
            (f"What is the mass of {liters} L of {liquid}?", density * liters / 1000, "kg"),
            (
                f"A force of {force} N acts evenly on {area} cm^2. What is the pressure?",
                Decimal(force) * 10_000 / area,
                "Pa",
            ),
        )
    )


FAMILIES: Final[dict[str, Family]] = {
    "kinematics": _kinematics,
    "energy": _energy,
    "circuits": _circuits,
    "gas": _gas,
    "fluids": _fluids,
}


class PhysicsSource(Source):
    """Problems with units. tolerance: largest relative error, a decimal from 0.0001 to 0.1."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("pint",)
    PRELOAD: ClassVar[tuple[str, ...]] = ("pint",)

    kind: Literal["physics"]
    families: FamilyNames
    tolerance: Annotated[
        str, Field(pattern=r"^0\.(1|0[1-9][0-9]{0,2}|00[1-9][0-9]?|000[1-9])$")
    ] = "0.01"

    def open(self) -> PhysicsTasks:
        return PhysicsTasks(self)


class PhysicsTasks:
    """A TaskSource over some families. SpecError for a family that does not exist."""

    def __init__(self, source: PhysicsSource) -> None:
        self._families = chosen_families("physics", FAMILIES, source.families)
        self._tolerance = Fraction(source.tolerance)

    def draw(self, number: int) -> Entry:
        """The problem of a 64-bit number; raw holds magnitude (six digits) and unit."""
        rng = Random(number)
        # A context of its own: other libraries may have changed the process's.
        with localcontext(_CONTEXT):
            question, exact, unit = rng.choice(self._families)(rng)
            value = _DIGITS.plus(exact)
        answer = f"{value:f} {unit}"
        return Entry(question, answer, {"value": Fraction(value), "unit": unit})

    def score(self, answer: str, entry: Entry) -> object:
        """1 for a quantity of the right dimension within the tolerance, else 0."""
        found = in_unit(read_quantity(answer), entry.raw["unit"])
        if found is None:
            return 0.0
        right: Fraction = entry.raw["value"]
        return float(abs(found - right) <= self._tolerance * abs(right))
