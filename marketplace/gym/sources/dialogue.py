"""Dialogues: several turns with tools, checked by replaying them (see worlds/dialogue.py)."""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import Field, JsonValue

from marketplace.gym.source import Entry, Source
from marketplace.gym.sources.offered import entry_point
from marketplace.gym.worlds.dialogue import Conversation, Dialogue, read, replayed, solved, written
from marketplace.protocol.errors import SpecError

GROUP: Final = "tracemarket.dialogues"
"""The entry point group in which a distribution offers worlds of its own."""

WORLDS: Final = {"store": "marketplace.gym.worlds.store:Store"}


class DialogueSource(Source):
    """Episodes of a world: one of ours ("store"), or, with `distribution`, what its entry point
    `world` in the group "tracemarket.dialogues" makes of config. max_turns: of the model."""

    kind: Literal["dialogue"]
    world: Annotated[str, Field(min_length=1, max_length=100)]
    distribution: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict)
    max_turns: Annotated[int, Field(ge=1, le=100)] = 8

    def open(self) -> DialogueTasks:
        return DialogueTasks(_maker(self), self.max_turns)

    def turns(self) -> int:
        return self.max_turns

    def packages(self) -> tuple[str, ...]:
        return (self.distribution,) if self.distribution else ()


class DialogueTasks:
    """A TaskSource over worlds that `make` makes: a fresh one for every episode."""

    def __init__(self, make: Callable[[], Dialogue], max_turns: int) -> None:
        self._make = make
        self.max_turns = max_turns

    def draw(self, number: int) -> Entry:
        """The episode of a number. ValueError where it has no full reward."""
        exchanges = solved(self._make(), number, self.max_turns)
        world = self._make()
        first = world.reset(number)
        question = f"{world.rules}\nYou have at most {self.max_turns} messages.\n{first}"
        return Entry(question, written(exchanges), {"number": number})

    def score(self, answer: str, entry: Entry) -> object:
        """The reward of the last turn, if the transcript is what the world says; else 0."""
        return replayed(self._make(), entry.raw["number"], read(answer, self.max_turns))

    def begin(self, entry: Entry) -> Conversation:
        """A conversation of the task, for whoever samples it."""
        return Conversation(self._make(), entry.raw["number"])


def _maker(source: DialogueSource) -> Callable[[], Dialogue]:
    make: Any
    if source.distribution is not None:
        make = entry_point(source.distribution, source.world, GROUP)
    elif source.world in WORLDS:
        module, _, name = WORLDS[source.world].partition(":")
        make = getattr(importlib.import_module(module), name)
    else:
        near = difflib.get_close_matches(source.world, WORLDS, n=3, cutoff=0.5)
        raise SpecError(
            f"there is no dialogue world {source.world!r}",
            fix=f"did you mean {near}?" if near else f"use one of {list(WORLDS)}",
        )
    made: Callable[[], Dialogue] = partial(make, **source.config)
    try:
        made().reset(0)
    except Exception as error:
        raise SpecError(
            f"dialogue world {source.world!r} fails with config {json.dumps(source.config)}: "
            f"{type(error).__name__}: {error}"
        ) from None
    return made
