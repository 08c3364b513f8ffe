"""Facts out of a text into a JSON object that meets a schema.

Every family makes up facts, a text that states them among others, and a schema with key names of
its own. An answer counts if the schema validates it and it says exactly the facts: an object
that is only valid earns nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Any, ClassVar, Final, Literal

from marketplace.gym.answers import read_json, same_value
from marketplace.gym.families import FamilyNames, chosen_families
from marketplace.gym.source import Entry, Source

_PEOPLE: Final = ("Ada", "Ben", "Chloe", "Dev", "Ema", "Farid", "Grace", "Hana", "Ivo", "Jun")
_SURNAMES: Final = ("Adler", "Brook", "Costa", "Dahl", "Evans", "Fischer", "Garcia", "Horvat")
_CITIES: Final = ("Lisbon", "Oslo", "Porto", "Riga", "Turin", "Vienna", "Zagreb", "Ghent", "Lyon")
_THINGS: Final = ("lamp", "chair", "desk", "shelf", "mirror", "vase", "rug", "clock", "stool")
_TEXT: Final = {"type": "string", "minLength": 1}


class _Form:
    """A schema and the facts that fill it, made key by key."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.properties: dict[str, Any] = {}
        self.required: list[str] = []
        self.facts: dict[str, Any] = {}

    def put(self, names: tuple[str, ...], schema: dict[str, Any], value: Any) -> None:
        """A required key, under one of these names."""
        key = self._rng.choice(names)
        self.properties[key] = schema
        self.required.append(key)
        self.facts[key] = value

    def maybe(self, names: tuple[str, ...], schema: dict[str, Any], value: Any) -> bool:
        """A key that may be left out; True if the text is to state its value."""
        key = self._rng.choice(names)
        self.properties[key] = schema
        stated = self._rng.random() < 0.5
        if stated:
            self.facts[key] = value
        return stated

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": False,
        }


Family = Callable[[Random, _Form], str]
"""Fills the form and returns the text that states its facts."""


def _day(rng: Random) -> date:
    return date(2024, 1, 1) + timedelta(days=rng.randrange(1400))


def _spoken(day: date) -> str:
    months = "January February March April May June July August September October November December"
    return f"{day.day} {months.split()[day.month - 1]} {day.year}"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _order(rng: Random, form: _Form) -> str:
    customer, other = rng.sample(_PEOPLE, 2)
    *things, dropped = rng.sample(_THINGS, rng.randint(2, 4))
    currency = rng.choice(("EUR", "USD", "GBP"))
    name, count, price = rng.choice(
        (("article", "quantity", "unit_price"), ("item", "count", "price"), ("name", "n", "each"))
    )
    lines = [
        {name: thing, count: rng.randint(1, 9), price: rng.randint(199, 19_999) / 100}
        for thing in things
    ]
    line_schema = {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": "in the singular"},
            count: {"type": "integer", "minimum": 1},
            price: {"type": "number", "exclusiveMinimum": 0},
        },
        "required": [name, count, price],
        "additionalProperties": False,
    }
    form.put(("customer", "client", "buyer"), _TEXT, customer)
    form.put(
        ("lines", "items", "articles"),
        {"type": "array", "items": line_schema, "minItems": 1, "description": "as ordered"},
        lines,
    )
    form.put(("currency", "paid_in"), {"enum": ["EUR", "GBP", "USD"]}, currency)
    express = rng.random() < 0.5
    form.put(("express", "is_express"), {"type": "boolean"}, express)
    code = f"{rng.choice('ABCDEFGH')}{rng.randint(100, 999)}"
    note = (
        f" The voucher {code} was used." if form.maybe(("voucher", "coupon"), _TEXT, code) else ""
    )
    bought = _listed(
        [f"{one[count]} x {one[name]} at {one[price]:.2f} {currency}" for one in lines]
    )
    return (
        f"{customer} ordered {bought}. {rng.randint(2, 9)} x {dropped} were asked for first and "
        f"taken off the order. {other} took the call. It goes by "
        f"{'express' if express else 'standard'} delivery.{note}"
    )


def _event(rng: Random, form: _Form) -> str:
    title = (
        f"{rng.choice(('Budget', 'Safety', 'Harvest', 'Launch'))} {rng.choice(('review', 'day'))}"
    )
    day, before = _day(rng), _day(rng)
    hour, minute = rng.randint(1, 11), rng.choice((0, 5, 15, 20, 30, 45))
    afternoon = rng.random() < 0.5
    length = rng.choice((30, 45, 75, 90, 105, 120, 150))
    people = rng.sample(_PEOPLE, rng.randint(2, 5))
    form.put(("title", "name", "subject"), _TEXT, title)
    form.put(
        ("date", "day", "on"),
        {"type": "string", "description": "YYYY-MM-DD", "minLength": 10, "maxLength": 10},
        day.isoformat(),
    )
    form.put(
        ("start", "begins", "from"),
        {"type": "string", "description": "HH:MM, 24-hour clock", "minLength": 5, "maxLength": 5},
        f"{hour + 12 * afternoon:02}:{minute:02}",
    )
    form.put(
        ("minutes", "length_in_minutes"),
        {"type": "integer", "minimum": 1, "maximum": 1440},
        length,
    )
    form.put(
        ("attendees", "people", "guests"),
        {"type": "array", "items": _TEXT, "uniqueItems": True, "description": "in A-Z order"},
        sorted(people),
    )
    city = rng.choice(_CITIES)
    place = f" in {city}" if form.maybe(("place", "city", "where"), _TEXT, city) else ""
    return (
        f"The {title} moves from {_spoken(before)} to {_spoken(day)}{place}. It begins at "
        f"{hour}:{minute:02} {'p.m.' if afternoon else 'a.m.'} and takes {length // 60} h "
        f"{length % 60} min. {_listed(people)} will be there."
    )


def _shipment(rng: Random, form: _Form) -> str:
    start, stop, end, old = rng.sample(_CITIES, 4)
    parcels = [rng.randint(1, 400) * 50 for _ in range(rng.randint(2, 5))]
    fragile = rng.random() < 0.5
    code = f"{rng.choice('KLMNPQ')}{rng.choice('RSTUVW')}-{rng.randint(10_000, 99_999)}"
    form.put(("code", "reference", "tracking"), _TEXT, code)
    form.put(
        ("route", "stops", "via"),
        {"type": "array", "items": {"enum": sorted(_CITIES)}, "minItems": 2, "maxItems": 5},
        [start, stop, end],
    )
    form.put(
        ("grams", "weights_in_grams"),
        {"type": "array", "items": {"type": "integer", "minimum": 1}},
        parcels,
    )
    total = {"type": "integer", "description": "sum of the parcels, in grams"}
    form.put(("total_grams", "sum_in_grams"), total, sum(parcels))
    form.put(("fragile", "handle_with_care"), {"type": "boolean"}, fragile)
    weights = _listed([f"{grams / 1000:g} kg" for grams in parcels])
    care = "Glass: handle with care" if fragile else "Nothing in it can break"
    return (
        f"Shipment {code} goes from {start} by way of {stop} to {end}, no longer to {old}. Its "
        f"parcels weigh {weights}. {care}."
    )


def _contact(rng: Random, form: _Form) -> str:
    first, friend = rng.sample(_PEOPLE, 2)
    last = rng.choice(_SURNAMES)
    age, number = rng.randint(18, 90), rng.randint(1, 199)
    street = f"{rng.choice(('Mill', 'Park', 'River', 'Station'))} {rng.choice(('Road', 'Lane'))}"
    city, old = rng.sample(_CITIES, 2)
    mail = f"{first}.{last}@{rng.choice(('Mail', 'Post', 'Box'))}.example"
    form.put(("first_name", "given_name"), _TEXT, first)
    form.put(("last_name", "family_name"), _TEXT, last)
    form.put(("age", "years"), {"type": "integer", "minimum": 0, "maximum": 130}, age)
    form.put(("email", "mail"), {"type": "string", "description": "in lower case"}, mail.lower())
    address = {
        "type": "object",
        "properties": {"street": _TEXT, "number": {"type": "integer"}, "city": _TEXT},
        "required": ["street", "number", "city"],
        "additionalProperties": False,
    }
    form.put(
        ("address", "home", "lives_at"), address, {"street": street, "number": number, "city": city}
    )
    job = rng.choice(("baker", "nurse", "pilot", "teacher", "welder"))
    work = f" {first} works as a {job}." if form.maybe(("job", "profession"), _TEXT, job) else ""
    return (
        f"{first} {last}, {age}, moved from {old} to {number} {street}, {city}, and can be reached "
        f"at {mail}; {friend} has no address yet.{work}"
    )


def _readings(rng: Random, form: _Form) -> str:
    station = f"{rng.choice(('North', 'South', 'Hill', 'Lake'))}-{rng.randint(10, 99)}"
    values: list[float | None] = [rng.randint(-200, 399) / 10 for _ in range(rng.randint(3, 6))]
    failed = rng.randrange(len(values))
    values[failed] = None
    unit = rng.choice(("C", "F"))
    form.put(("station", "sensor", "site"), _TEXT, station)
    form.put(("unit", "scale"), {"enum": ["C", "F"]}, unit)
    form.put(
        ("values", "readings", "measured"),
        {
            "type": "array",
            "items": {"type": ["number", "null"]},
            "description": "in the order of time, null where the reading failed",
        },
        values,
    )
    highest = max(value for value in values if value is not None)
    form.put(("highest", "maximum", "peak"), {"type": "number"}, highest)
    said = "; ".join(
        f"{hour}:00 {'failed' if value is None else f'{value:g} degrees {unit}'}"
        for hour, value in enumerate(values, rng.randint(0, 12))
    )
    return (
        f"Log of {station}, all on the {'Celsius' if unit == 'C' else 'Fahrenheit'} scale: {said}."
    )


FAMILIES: Final[dict[str, Family]] = {
    "order": _order,
    "event": _event,
    "shipment": _shipment,
    "contact": _contact,
    "readings": _readings,
}


class JsonSchemaSource(Source):
    """Facts to be put into schemas. partial: a valid object earns its share of right keys.

    Without partial an answer is right as a whole or worth nothing.
    """

    PACKAGES: ClassVar[tuple[str, ...]] = ("jsonschema",)
    PRELOAD: ClassVar[tuple[str, ...]] = ("jsonschema",)

    kind: Literal["json_schema"]
    families: FamilyNames
    partial: bool = False

    def open(self) -> JsonSchemaTasks:
        return JsonSchemaTasks(self)


class JsonSchemaTasks:
    """A TaskSource over some families. SpecError for a family that does not exist."""

    def __init__(self, source: JsonSchemaSource) -> None:
        self._families = chosen_families("json_schema", FAMILIES, source.families)
        self._partial = source.partial

    def draw(self, number: int) -> Entry:
        """The text and schema of a 64-bit number; raw holds schema and facts."""
        rng = Random(number)
        form = _Form(rng)
        text = rng.choice(self._families)(rng, form)
        schema = form.schema()
        question = f"Text: {text}\nSchema: {json.dumps(schema)}"
        return Entry(question, json.dumps(form.facts), {"schema": schema, "facts": form.facts})

    def score(self, answer: str, entry: Entry) -> object:
        """1 for the facts in a valid object, else 0 (or the share of right keys)."""
        value = read_json(answer)
        if not isinstance(value, dict) or not _is_valid(value, entry.raw["schema"]):
            return 0.0
        facts = entry.raw["facts"]
        if same_value(value, facts):
            return 1.0
        if not self._partial:
            return 0.0
        keys = value.keys() | facts.keys()
        right = sum(
            key in value and key in facts and same_value(value[key], facts[key]) for key in keys
        )
        return right / len(keys)


def _is_valid(value: Any, schema: dict[str, Any]) -> bool:
    # Imported here: other sources don't need it. The empty registry has nothing to fetch a
    # reference from, and no schema of ours has a reference or a pattern.
    from jsonschema import Draft202012Validator
    from referencing import Registry

    return Draft202012Validator(schema, registry=Registry()).is_valid(value)
