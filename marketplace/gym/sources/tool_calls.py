"""Requests to be turned into calls of tools, as JSON.

A family is a wish: it makes up a sentence and states every call that fulfils it, for sometimes
several do. A task joins one to three wishes, to be met in order or in any order, and lists the
tools they need among others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from random import Random
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from marketplace.gym.answers import read_json
from marketplace.gym.families import FamilyNames, chosen_families
from marketplace.gym.source import Entry, Source, UnreadableAnswer

MAX_WISHES: Final = 4

TOOLS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "get_weather": (
        "The forecast for a city.",
        {"city": "string", "days": "integer, default 1", "units": 'string: "metric" or "imperial"'},
    ),
    "set_light": (
        "Switches a room's light.",
        {"room": "string", "on": "boolean", "percent": "integer, default 100"},
    ),
    "send_email": ("Sends an e-mail.", {"to": "string, a first name", "text": "string"}),
    "send_sms": ("Sends a text message.", {"to": "string, a first name", "text": "string"}),
    "transfer": (
        "Sends money.",
        {"to": "string, a first name", "amount": "number", "currency": 'string, default "EUR"'},
    ),
    "set_timer": ("Rings after some time.", {"seconds": "integer"}),
    "add_event": (
        "Enters an event in the calendar.",
        {"title": "string", "date": "string, YYYY-MM-DD", "guests": "array of strings, default []"},
    ),
    "convert": (
        "Converts an amount of money.",
        {"amount": "number", "source": "string, three letters", "target": "string, three letters"},
    ),
    "set_thermostat": ("Sets a room's temperature.", {"room": "string", "celsius": "number"}),
    "book_table": (
        "Books a table.",
        {"restaurant": "string", "people": "integer", "time": "string, HH:MM, 24-hour clock"},
    ),
    "find_files": ("Finds files by name.", {"pattern": "string", "folder": 'string, default "/"'}),
    "delete_file": ("Deletes a file for good.", {"path": "string"}),
    "lock_door": ("Locks or unlocks a door.", {"door": "string", "locked": "boolean"}),
    "play_music": ("Plays an artist's songs.", {"artist": "string", "shuffle": "boolean"}),
}
"""Name to description and parameters."""

_NAMES: Final = ("Ada", "Ben", "Chloe", "Dev", "Ema", "Farid", "Grace", "Hana")
_CITIES: Final = ("Lisbon", "Oslo", "Porto", "Riga", "Turin", "Vienna", "Zagreb")
_ROOMS: Final = ("kitchen", "hall", "bedroom", "office", "cellar", "bathroom")


@dataclass(frozen=True, slots=True)
class Call:
    """A right call. optional: arguments that may be left out, for these are their defaults."""

    tool: str
    needed: dict[str, Any]
    optional: dict[str, Any] = field(default_factory=dict)

    def accepts(self, call: Any) -> bool:
        """True if call, a checked part of an answer, is this call."""
        given, allowed = call["arguments"], {**self.needed, **self.optional}
        return (
            call["name"] == self.tool
            and given.keys() >= self.needed.keys()
            and all(
                name in allowed and _same_argument(value, allowed[name])
                for name, value in given.items()
            )
        )


Wish = tuple[str, tuple[Call, ...]]
Family = Callable[[Random], Wish]


def _weather(rng: Random) -> Wish:
    city, days = rng.choice(_CITIES), rng.randint(1, 7)
    scale, units = rng.choice((("Celsius", "metric"), ("Fahrenheit", "imperial")))
    needed = {"city": city, "units": units}
    if days == 1:
        call = Call("get_weather", needed, {"days": 1})
        return f"get the weather of {city} for one day, in degrees {scale}", (call,)
    call = Call("get_weather", {**needed, "days": days})
    return f"get the weather of {city} for {days} days, in degrees {scale}", (call,)


def _light(rng: Random) -> Wish:
    room, percent = rng.choice(_ROOMS), rng.randint(1, 19) * 5
    which = rng.randrange(3)
    if which == 0:
        return f"switch the light in the {room} off", (
            Call("set_light", {"room": room, "on": False}, {"percent": 100}),
            Call("set_light", {"room": room, "on": False, "percent": 0}),
        )
    if which == 1:
        return f"switch the light in the {room} on, as bright as it goes", (
            Call("set_light", {"room": room, "on": True}, {"percent": 100}),
        )
    return f"dim the light in the {room} to {percent} percent", (
        Call("set_light", {"room": room, "on": True, "percent": percent}),
    )


def _message(rng: Random) -> Wish:
    name = rng.choice(_NAMES)
    text = f"{rng.choice(('Dinner', 'Train', 'Meeting', 'Class'))} at {rng.randint(7, 22)}:15"
    needed = {"to": name, "text": text}
    ways = {
        "by e-mail": (Call("send_email", needed),),
        "by text message": (Call("send_sms", needed),),
        "by e-mail or text message, whichever you like": (
            Call("send_email", needed),
            Call("send_sms", needed),
        ),
    }
    way = rng.choice(list(ways))
    return f'write to {name} {way}, with exactly the text "{text}"', ways[way]


def _transfer(rng: Random) -> Wish:
    name, amount = rng.choice(_NAMES), rng.randint(100, 99_999) / 100
    currency = rng.choice(("EUR", "EUR", "USD", "GBP"))
    words = f"send {name} {amount:.2f} {currency}"
    if currency == "EUR":
        return words, (Call("transfer", {"to": name, "amount": amount}, {"currency": "EUR"}),)
    return words, (Call("transfer", {"to": name, "amount": amount, "currency": currency}),)


def _timer(rng: Random) -> Wish:
    minutes, seconds = rng.randint(1, 90), rng.choice((0, 15, 30, 45))
    tail = f" {seconds} s" if seconds else ""
    return f"let a timer ring after {minutes} min{tail}", (
        Call("set_timer", {"seconds": 60 * minutes + seconds}),
    )


def _event(rng: Random) -> Wish:
    title = f"{rng.choice(('Dentist', 'Lunch', 'Interview', 'Rehearsal'))} {rng.randint(1, 40)}"
    month, day, year = rng.randint(1, 12), rng.randint(1, 28), rng.randint(2025, 2031)
    months = "January February March April May June July August September October November December"
    words = f'enter "{title}" for {day} {months.split()[month - 1]} {year}'
    needed = {"title": title, "date": f"{year}-{month:02}-{day:02}"}
    if rng.random() < 0.5:
        return words, (Call("add_event", needed, {"guests": []}),)
    one, two = rng.sample(_NAMES, 2)
    # In either order: nothing says that guests have one.
    both = tuple(Call("add_event", {**needed, "guests": list(g)}) for g in ((one, two), (two, one)))
    return f"{words} with {one} and {two} as guests", both


def _convert(rng: Random) -> Wish:
    source, target = rng.sample(("EUR", "USD", "GBP", "JPY", "CHF", "SEK"), 2)
    amount = rng.randint(1, 5000)
    return f"find out how much {target} one gets for {amount} {source}", (
        Call("convert", {"amount": float(amount), "source": source, "target": target}),
    )


def _thermostat(rng: Random) -> Wish:
    room, half = rng.choice(_ROOMS), rng.randint(30, 48)
    return f"set the {room} to {half / 2:g} degrees Celsius", (
        Call("set_thermostat", {"room": room, "celsius": half / 2}),
    )


def _table(rng: Random) -> Wish:
    place = rng.choice(("Olive", "Harbour", "Old Mill", "Lantern", "Fig Tree"))
    people, hour, minute = rng.randint(2, 12), rng.randint(6, 10), rng.choice((0, 15, 30, 45))
    return f'book a table for {people} at "{place}" for {hour}:{minute:02} p.m.', (
        Call(
            "book_table",
            {"restaurant": place, "people": people, "time": f"{hour + 12}:{minute:02}"},
        ),
    )


def _music(rng: Random) -> Wish:
    artist = rng.choice(("Nina Simone", "Bach", "Clara Schumann", "Fela Kuti", "Miles Davis"))
    shuffle = rng.random() < 0.5
    return f"play {artist}, {'shuffled' if shuffle else 'not shuffled'}", (
        Call("play_music", {"artist": artist, "shuffle": shuffle}),
    )


FAMILIES: Final[dict[str, Family]] = {
    "weather": _weather,
    "light": _light,
    "message": _message,
    "transfer": _transfer,
    "timer": _timer,
    "event": _event,
    "convert": _convert,
    "thermostat": _thermostat,
    "table": _table,
    "music": _music,
}


class ToolCallsSource(Source):
    """Requests to be turned into tool calls. wishes: most calls that a task needs.

    tools: how many are listed at least, needed ones among them.
    """

    kind: Literal["tool_calls"]
    families: FamilyNames
    wishes: Annotated[int, Field(ge=1, le=MAX_WISHES)] = 3
    tools: Annotated[int, Field(ge=5, le=len(TOOLS))] = 8

    def open(self) -> ToolCallsTasks:
        return ToolCallsTasks(self)


class ToolCallsTasks:
    """A TaskSource over some families. SpecError for a family that does not exist."""

    def __init__(self, source: ToolCallsSource) -> None:
        self._families = chosen_families("tool_calls", FAMILIES, source.families)
        self._wishes = min(source.wishes, len(self._families))
        self._tools = source.tools

    def draw(self, number: int) -> Entry:
        """The request of a 64-bit number; raw holds the right calls of every wish."""
        rng = Random(number)
        families = rng.sample(self._families, rng.randint(1, self._wishes))
        wishes = [family(rng) for family in families]
        ordered = len(wishes) > 1 and rng.random() < 0.5
        needed = {call.tool for _, calls in wishes for call in calls}
        listed = [name for name in TOOLS if name in needed]
        others = [name for name in TOOLS if name not in needed]
        listed += rng.sample(others, max(0, min(self._tools - len(listed), len(others))))
        rng.shuffle(listed)
        signatures = [
            json.dumps({"name": name, "does": TOOLS[name][0], "parameters": TOOLS[name][1]})
            for name in listed
        ]
        joined = (", then " if ordered else "; ").join(words for words, _ in wishes)
        how = "In this order" if ordered else "Please"
        free = " The order of the calls does not matter." if not ordered and len(wishes) > 1 else ""
        question = "\n".join(["Tools:", *signatures, f"Request: {how}: {joined}.{free}"])
        answer = [{"name": calls[0].tool, "arguments": calls[0].needed} for _, calls in wishes]
        raw = {"wishes": [calls for _, calls in wishes], "ordered": ordered}
        return Entry(question, json.dumps(answer), raw)

    def score(self, answer: str, entry: Entry) -> object:
        """1 if every wish is met by a call of its own and no call is left over, else 0."""
        calls = _read_calls(answer)
        wishes: list[tuple[Call, ...]] = entry.raw["wishes"]
        if len(calls) != len(wishes):
            return 0.0
        orders = [calls] if entry.raw["ordered"] else permutations(calls)
        return float(
            any(
                all(
                    any(right.accepts(call) for right in alternatives)
                    for call, alternatives in zip(order, wishes, strict=True)
                )
                for order in orders
            )
        )


def _read_calls(answer: str) -> list[dict[str, Any]]:
    calls = read_json(answer)
    if not isinstance(calls, list):
        raise UnreadableAnswer("the answer is not a JSON array of calls")
    for call in calls:
        if not (
            isinstance(call, dict)
            and call.keys() == {"name", "arguments"}
            and isinstance(call["name"], str)
            and isinstance(call["arguments"], dict)
        ):
            raise UnreadableAnswer('a call is an object with "name" and "arguments", no more')
    return calls


def _same_argument(given: Any, right: Any) -> bool:
    """By type: an integer takes no 1.0, a boolean no 1, a number takes 3 for 3.0."""
    if isinstance(right, float):
        return type(given) in (int, float) and bool(given == right)
    if isinstance(right, list):
        return (
            isinstance(given, list)
            and len(given) == len(right)
            and all(map(_same_argument, given, right))
        )
    return type(given) is type(right) and bool(given == right)
