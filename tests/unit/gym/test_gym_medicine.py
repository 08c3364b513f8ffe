"""Right answers are right, wrong ones differ, and the options alone tell nothing."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from marketplace.gym.medicine import APGAR, CHADS, GLASGOW, GROUPS, RANGES
from marketplace.gym.source import Entry, UnreadableAnswer
from marketplace.gym.sources.medicine import (
    FAMILIES,
    LETTERS,
    WITHOUT_STEPS,
    MedicineSource,
    MedicineTasks,
)
from marketplace.protocol.errors import SpecError

WITH_STEPS = tuple(name for name in FAMILIES if name not in WITHOUT_STEPS)


def source(*families: str, **fields: Any) -> MedicineTasks:
    return MedicineSource(kind="medicine", families=families or tuple(FAMILIES), **fields).open()


def read(entry: Entry) -> tuple[str, dict[str, str]]:
    question, _, options = entry.question.partition("\n")
    return question, dict(re.findall(r"^([A-H])\) (.+)$", options, re.MULTILINE))


def number(text: str) -> Fraction:
    return Fraction(text.split()[0])


def solved(family: str, question: str) -> float:
    """The answer from the question's text."""
    numbers = [float(found) for found in re.findall(r"\d+(?:\.\d+)?", question)]
    signs = re.split(r"; ", re.sub(r"^.*?(patient|has:) |\. What is .*$", "", question))
    if family == "gcs":
        return sum(names.index(one) + 1 for one, (_, names) in zip(signs, GLASGOW, strict=True))
    if family == "apgar":
        return sum(names.index(one) for one, (_, names) in zip(signs, APGAR, strict=True))
    if family == "stroke_risk":
        points = sum(value for name, value in CHADS if name in question) + ("woman" in question)
        return points + (numbers[0] >= 65) + (numbers[0] >= 75)
    if family == "dose":
        kilos, per_kilo, strength = numbers
        return kilos * per_kilo / strength
    if family == "drip":
        milliliters, hours, drops = numbers
        return milliliters / (hours * 60) * drops
    if family == "pressure":
        high, low = numbers
        return (high + 2 * low) / 3
    if family == "anion_gap":
        sodium, chloride, bicarbonate = numbers
        return sodium - (chloride + bicarbonate)
    if family == "clearance":
        age, kilos, creatinine = numbers[-3:]
        return (140 - age) * kilos / 72 / creatinine * (0.85 if "woman" in question else 1)
    assert family == "convert"
    grams = {"g": 1, "mg": 1e-3, "micrograms": 1e-6, "L": 1, "mL": 1e-3}
    grams |= {"g/L": 1, "g/dL": 10, "mg/mL": 1, "micrograms/mL": 1e-3, "mg/L": 1e-3}
    amount, unit, target = re.fullmatch(r"How much is (\S+) (\S+)\?->(\S+)", question).groups()  # type: ignore[union-attr]
    return float(amount) * grams[unit] / grams[target]


@pytest.mark.parametrize("family", [*WITH_STEPS, "convert"])
def test_computed_answers_are_right(family: str) -> None:
    for options in (2, 5, 8):
        tasks = source(family, options=options)
        for drawn in range(60):
            entry = tasks.draw(drawn)
            question, shown = read(entry)
            assert len(shown) == len(set(shown.values())) == options
            if family == "convert":
                question += f"->{shown['A'].split()[1]}"
            right = solved(family, question)
            near = {letter: abs(float(number(text)) - right) for letter, text in shown.items()}
            assert min(near, key=lambda letter: near[letter]) == entry.raw["letter"]
            assert near[entry.raw["letter"]] <= (0.5001 if family == "drip" else 0.05001)


def test_facts_and_ranges_are_those_of_the_tables() -> None:
    tasks = source("facts")
    pairs = {pair for group in GROUPS for pair in group.pairs}
    asks = [
        (form.format(said), answer)
        for group in GROUPS
        for item, name in group.pairs
        for form, said, answer in ((group.ask, item, name), (group.ask_back, name, item))
    ]
    assert len(dict(asks)) == 2 * len(pairs)
    seen = set()
    for drawn in range(2000):
        question, shown = read(tasks.draw(drawn))
        assert shown[tasks.draw(drawn).answer] == dict(asks)[question]
        seen.add(question)
    assert len(seen) == len(asks)
    tasks = source("ranges")
    for drawn in range(300):
        entry = tasks.draw(drawn)
        question, shown = read(entry)
        (one,) = (one for one in RANGES if one.name in question)
        inside = [
            letter
            for letter, text in shown.items()
            if one.within[0] <= number(text) * 10**one.decimals <= one.within[1]
        ]
        assert inside == [entry.answer]


def test_every_item_and_answer_stands_once_in_its_group() -> None:
    for group in GROUPS:
        assert len(group.pairs) >= len(LETTERS)
        for column in zip(*group.pairs, strict=True):
            assert len(set(column)) == len(group.pairs)
    for one in RANGES:
        assert one.below[1] < one.within[0] < one.within[1] < one.above[0]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "facts"])
def test_the_options_alone_tell_nothing(family: str) -> None:
    """Neither a letter nor a place in the order of size is right much more often than 1 in 5."""
    letters, places = Counter[str](), Counter[int]()
    tasks = source(family)
    for drawn in range(1000):
        entry = tasks.draw(drawn)
        values = {letter: number(text) for letter, text in read(entry)[1].items()}
        letters[entry.answer] += 1
        places[sorted(values.values()).index(values[entry.answer])] += 1
    assert max(letters.values()) <= 260
    assert max(places.values()) <= 280, places


@pytest.mark.parametrize(
    ("form", "readable"),
    [
        *((form, True) for form in ("{}", "({})", "{})", "{}.", "{}:")),
        *((form, False) for form in ("{0} {0}", "{0}{0}", "{} or A", "answer {}", "{}; 1", "")),
    ],
)
def test_an_answer_is_one_letter(form: str, readable: bool) -> None:
    entry = source().draw(0)
    for letter in LETTERS:
        for case in (letter, letter.lower()):
            text = form.format(case, case)
            if readable:
                assert source().score(text, entry) == float(letter == entry.answer)
            else:
                with pytest.raises(UnreadableAnswer):
                    source().score(text, entry)


def test_the_steps_count_where_the_spec_asks_for_them() -> None:
    tasks = source(*WITH_STEPS, form="worked")
    for drawn in range(100):
        entry = tasks.draw(drawn)
        letter, *steps = entry.answer.split("; ")
        assert tasks.score(f"({letter.lower()}) ;{' ; '.join(steps)}", entry) == 1.0
        other = next(one for one in LETTERS if one != letter)
        assert tasks.score("; ".join([other, *steps]), entry) == 0.0
        for place in range(len(steps)):
            wrong = [*steps[:place], f"{Fraction(steps[place]) + 1!s}", *steps[place + 1 :]]
            if "/" not in wrong[place]:
                assert tasks.score("; ".join([letter, *wrong]), entry) == 0.0
        for text in (letter, f"{entry.answer}; 1", f"{letter}{'; x' * len(steps)}"):
            with pytest.raises(UnreadableAnswer):
                tasks.score(text, entry)


@pytest.mark.parametrize("family", WITHOUT_STEPS)
def test_families_without_steps_have_no_worked_form(family: str) -> None:
    with pytest.raises(SpecError, match="no steps to show"):
        source(family, form="worked")
