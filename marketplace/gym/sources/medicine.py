"""Multiple-choice medicine: scores, doses, formulas and textbook facts. Not medical advice.

Computed families state all they need or name a published score; facts come from
`marketplace/gym/medicine.py`. One of `options` answers is right, and whoever guesses is right once
in as many times. In form "worked" the steps of the computation count as well, which no guess finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import Annotated, Final, Literal

from pydantic import Field

from marketplace.gym.answers import read_number
from marketplace.gym.families import FamilyNames, chosen_families
from marketplace.gym.medicine import APGAR, CHADS, GLASGOW, GROUPS, RANGES
from marketplace.gym.source import Entry, Source, UnreadableAnswer
from marketplace.protocol.errors import SpecError

LETTERS: Final = "ABCDEFGH"

_RATIOS: Final = (Fraction(5, 4), Fraction(4, 3), Fraction(3, 2), Fraction(2))
_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


@dataclass(frozen=True, slots=True)
class Problem:
    """A question. wrong: more wrong options than are shown. steps: names and values, in order."""

    question: str
    right: str
    wrong: tuple[str, ...]
    steps: tuple[tuple[str, Fraction], ...] = ()


Family = Callable[[Random, int], Problem | None]
"""Makes a problem with this many options, or None if these numbers can't be asked."""


def _decimal(value: Fraction, places: int) -> str:
    """value with that many decimals, half up. value is not negative."""
    scaled = int(value * 10**places + Fraction(1, 2))
    digits = f"{scaled:0{places + 1}}"
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def _offsets(rng: Random, options: int) -> list[int]:
    """0 and its neighbours, in order, 0 at any place.

    Wrong options are as many equal steps away from the right one, so that nothing in the options
    tells which one the others were made from.
    """
    smaller = rng.randrange(options)
    return list(range(-smaller, options - smaller))


def _measured(
    rng: Random,
    options: int,
    question: str,
    value: Fraction,
    unit: str,
    steps: dict[str, Fraction],
    *,
    places: int = 1,
    apart: Fraction | None = None,
) -> Problem | None:
    """A problem whose answer is measured. apart: from option to option, else a ratio is drawn."""
    ratio = rng.choice(_RATIOS)
    shown = {
        offset: _decimal(value * ratio**offset if apart is None else value + apart * offset, places)
        for offset in _offsets(rng, options)
    }
    if len(set(shown.values())) < options or not all(map(Fraction, shown.values())):
        return None
    rule = "to one decimal" if places else "to the nearest whole number"
    return Problem(
        f"{question} Round half up {rule}.",
        f"{shown.pop(0)} {unit}",
        tuple(f"{one} {unit}" for one in shown.values()),
        tuple(steps.items()),
    )


def _total(
    rng: Random, options: int, question: str, limits: tuple[int, int], steps: dict[str, int]
) -> Problem:
    """A problem with a sum of points. limits: of the score. Options are neighbours of the sum."""
    total, (least, most) = sum(steps.values()), limits
    first = rng.randint(max(least, total - options + 1), min(total, most - options + 1))
    wrong = tuple(str(one) for one in range(first, first + options) if one != total)
    named = tuple((name, Fraction(step)) for name, step in steps.items())
    return Problem(question, str(total), wrong, named)


def _gcs(rng: Random, options: int) -> Problem:
    steps = {name: rng.randint(1, len(signs)) for name, signs in GLASGOW}
    said = "; ".join(signs[steps[name] - 1] for name, signs in GLASGOW)
    question = f"A patient {said}. What is the Glasgow Coma Scale score?"
    return _total(rng, options, question, (3, 15), steps)


def _apgar(rng: Random, options: int) -> Problem:
    steps = {name: rng.randint(0, 2) for name, _ in APGAR}
    steps["pulse"] = max(steps["pulse"], 1)
    if steps["respiration"] == 0:  # nobody cries or is pink all over without breathing
        steps["appearance"], steps["grimace"] = (
            min(steps[name], 1) for name in ("appearance", "grimace")
        )
    said = "; ".join(signs[steps[name]] for name, signs in APGAR)
    question = f"A newborn has: {said}. What is the Apgar score?"
    return _total(rng, options, question, (0, 10), steps)


def _stroke_risk(rng: Random, options: int) -> Problem:
    age, woman = rng.randint(40, 92), rng.random() < 0.5
    has = [risk for risk in CHADS if rng.random() < 0.5]
    history = ", ".join(name for name, _ in has) or "none of the risk factors that it counts"
    question = (
        f"A {'woman' if woman else 'man'} of {age} with atrial fibrillation has a history of: "
        f"{history}. What is the CHA2DS2-VASc score?"
    )
    steps = {
        "points for age": 2 if age >= 75 else int(age >= 65),
        "points for sex": int(woman),
        "points for history": sum(points for _, points in has),
    }
    return _total(rng, options, question, (0, 9), steps)


def _dose(rng: Random, options: int) -> Problem | None:
    per_kilo, kilos = Fraction(rng.randint(1, 60), 2), rng.randint(4, 110)
    dose, strength = per_kilo * kilos, rng.choice((2, 5, 10, 20, 25, 40, 50, 100))
    if not 1 <= dose / strength <= 50:
        return None
    question = (
        f"A patient of {kilos} kg is to get {float(per_kilo):g} mg per kg of a drug that comes as "
        f"{strength} mg per mL. How many mL is that?"
    )
    return _measured(rng, options, question, dose / strength, "mL", {"dose in mg": dose})


def _drip(rng: Random, options: int) -> Problem | None:
    milliliters, hours = rng.randint(2, 40) * 25, rng.randint(1, 12)
    factor = rng.choice((10, 15, 20, 60))
    drops = Fraction(milliliters * factor)
    question = (
        f"{milliliters} mL are to run in over {hours} h through a set that gives {factor} drops "
        "per mL. How many drops per minute is that?"
    )
    rate, steps = drops / (60 * hours), {"drops in all": drops}
    return _measured(rng, options, question, rate, "drops per minute", steps, places=0)


def _pressure(rng: Random, options: int) -> Problem | None:
    low, pulse = rng.randint(40, 100), rng.randint(24, 80)
    question = (
        f"The blood pressure is {low + pulse}/{low} mmHg. What is the mean arterial pressure, as "
        "diastolic plus a third of the pulse pressure?"
    )
    steps = {"pulse pressure": Fraction(pulse)}
    value, apart = low + Fraction(pulse, 3), Fraction(pulse, 8)
    return _measured(rng, options, question, value, "mmHg", steps, apart=apart)


def _anion_gap(rng: Random, options: int) -> Problem | None:
    sodium, chloride, bicarbonate = rng.randint(125, 150), rng.randint(88, 108), rng.randint(8, 30)
    gap = Fraction(sodium - chloride - bicarbonate)
    if gap < 4:
        return None
    question = (
        f"Sodium is {sodium}, chloride {chloride} and bicarbonate {bicarbonate} mmol/L. What is "
        "the anion gap (without potassium)?"
    )
    steps = {"chloride plus bicarbonate": Fraction(chloride + bicarbonate)}
    return _measured(rng, options, question, gap, "mmol/L", steps, places=0)


def _clearance(rng: Random, options: int) -> Problem | None:
    age, kilos, woman = rng.randint(20, 90), rng.randint(40, 110), rng.random() < 0.5
    creatinine = Fraction(rng.randint(6, 50), 10)
    question = (
        "Estimate the creatinine clearance by Cockcroft and Gault, (140 - age) times weight over "
        f"72 times creatinine{', all times 0.85 for a woman' if woman else ''}: "
        f"{'woman' if woman else 'man'}, {age} years, {kilos} kg, serum creatinine "
        f"{float(creatinine):g} mg/dL."
    )
    top = Fraction((140 - age) * kilos)
    value = top / (72 * creatinine) * (Fraction(17, 20) if woman else 1)
    steps = {"(140 - age) times weight": top}
    return _measured(rng, options, question, value, "mL/min", steps)


def _convert(rng: Random, options: int) -> Problem | None:
    amount = Fraction(rng.randint(2, 999), rng.choice((1, 10)))
    source, target, factor = rng.choice(
        (
            ("g", "mg", Fraction(1000)),
            ("mg", "micrograms", Fraction(1000)),
            ("L", "mL", Fraction(1000)),
            ("micrograms", "mg", Fraction(1, 1000)),
            ("mg", "g", Fraction(1, 1000)),
            ("g/L", "g/dL", Fraction(1, 10)),
            ("g/dL", "g/L", Fraction(10)),
            ("mg/mL", "g/L", Fraction(1)),
            ("micrograms/mL", "mg/L", Fraction(1)),
        )
    )
    wrong = [offset for offset in _offsets(rng, options) if offset]
    values = (amount * factor * Fraction(10) ** offset for offset in (0, *wrong))
    said = [f"{_plain(value)} {target}" for value in values]
    return Problem(f"How much is {_plain(amount)} {source}?", said[0], tuple(said[1:]))


def _plain(value: Fraction) -> str:
    """The exact decimal of a fraction of at most eleven decimals."""
    return _decimal(value, 11).rstrip("0").rstrip(".")


def _ranges(rng: Random, options: int) -> Problem | None:
    one = rng.choice(RANGES)
    right = rng.randint(*one.within)
    smaller = rng.randrange(options)
    wrong = [rng.randint(*one.below) for _ in range(smaller)]
    wrong += [rng.randint(*one.above) for _ in range(options - 1 - smaller)]
    if len(set(wrong)) < len(wrong):
        return None
    return Problem(
        f"Which of these values is usual in a healthy adult at rest: {one.name}?",
        _decimal(Fraction(right, 10**one.decimals), one.decimals),
        tuple(_decimal(Fraction(value, 10**one.decimals), one.decimals) for value in wrong),
    )


def _facts(rng: Random, options: int) -> Problem:
    group = rng.choice(GROUPS)
    pairs = rng.sample(group.pairs, options)
    (item, answer), others = pairs[0], pairs[1:]
    if rng.random() < 0.5:
        return Problem(group.ask.format(item), answer, tuple(other for _, other in others))
    return Problem(group.ask_back.format(answer), item, tuple(other for other, _ in others))


FAMILIES: Final[dict[str, Family]] = {
    "gcs": _gcs,
    "apgar": _apgar,
    "stroke_risk": _stroke_risk,
    "dose": _dose,
    "drip": _drip,
    "pressure": _pressure,
    "anion_gap": _anion_gap,
    "clearance": _clearance,
    "convert": _convert,
    "ranges": _ranges,
    "facts": _facts,
}

WITHOUT_STEPS: Final = ("convert", "ranges", "facts")


class MedicineSource(Source):
    """Multiple-choice problems. form: "letter", or "worked" where the steps count as well."""

    kind: Literal["medicine"]
    families: FamilyNames
    options: Annotated[int, Field(ge=2, le=len(LETTERS))] = 5
    form: Literal["letter", "worked"] = "letter"

    def open(self) -> MedicineTasks:
        return MedicineTasks(self)


class MedicineTasks:
    """A TaskSource over some families. SpecError for one that does not exist or has no steps."""

    def __init__(self, source: MedicineSource) -> None:
        self._families = chosen_families("medicine", FAMILIES, source.families)
        self._options = source.options
        self._worked = source.form == "worked"
        for name in source.families if self._worked else ():
            if name in WITHOUT_STEPS:
                raise SpecError(
                    f'medicine family {name!r} has no steps to show in form "worked"',
                    fix=f"use some of {[one for one in FAMILIES if one not in WITHOUT_STEPS]}",
                )

    def draw(self, number: int) -> Entry:
        """The problem of a 64-bit number; raw holds the letter and the steps that count."""
        rng = Random(number)
        family = rng.choice(self._families)
        problem = None
        while problem is None:
            problem = family(rng, self._options)
        shown = [problem.right, *problem.wrong]
        order = rng.sample(range(len(shown)), len(shown))
        letter = LETTERS[order.index(0)]
        lines = [f"{LETTERS[place]}) {shown[which]}" for place, which in enumerate(order)]
        question = "\n".join([problem.question, *lines])
        steps: tuple[Fraction, ...] = ()
        answer = letter
        if self._worked:
            names = "; ".join(name for name, _ in problem.steps)
            steps = tuple(value for _, value in problem.steps)
            question += (
                f"\nAnswer with the letter and these numbers, parted by semicolons: {names}."
            )
            answer = "; ".join([letter, *map(_plain, steps)])
        return Entry(question, answer, {"letter": letter, "steps": steps})

    def score(self, answer: str, entry: Entry) -> object:
        """1 for the right letter with the right steps, if steps count; else 0."""
        said, *steps = (part.strip() for part in answer.split(";"))
        letter = _LETTER.fullmatch(said)
        if letter is None:
            raise UnreadableAnswer("the answer is not one letter")
        right: tuple[Fraction, ...] = entry.raw["steps"]
        if len(steps) != len(right):
            raise UnreadableAnswer(f"the answer has {len(steps)} steps, not {len(right)}")
        if letter[1].upper() != entry.raw["letter"]:
            return 0.0
        return float(all(read_number(one) == two for one, two in zip(steps, right, strict=True)))
