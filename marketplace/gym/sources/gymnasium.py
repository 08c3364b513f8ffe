"""Gymnasium environments: a trace is a list of actions, checked by replaying it.

The task gives the seed; the question tells rules and first situation; the answer is a JSON list of
actions. It must bring the episode to its end, and no action may follow it. The score is a declared
function of the return (the sum of rewards). See docs/worlds.md for what keeps a replay exact.
"""

from __future__ import annotations

import difflib
import importlib
import json
import math
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, JsonValue, ValidationError

from marketplace.gym.source import Entry, Explained, Part, Source, UnreadableAnswer
from marketplace.gym.sources.offered import entry_point
from marketplace.gym.worlds.action_worlds import (
    GYMNASIUM_WORLDS,
    OWN_WORLDS,
    REFUSED_WORLDS,
    ActionWorld,
    OwnWorld,
)
from marketplace.protocol import strict_json
from marketplace.protocol.errors import EnvironmentMismatch, SpecError

GROUP: Final = "tracemarket.worlds"
"""The entry point group in which a distribution offers worlds of its own."""


class AtLeast(Part):
    """1 from this return on, else 0."""

    kind: Literal["at_least"]
    value: float


class Between(Part):
    """0 up to the return `zero`, 1 from `one` on, linear between them."""

    kind: Literal["between"]
    zero: float
    one: float


class Reference(Part):
    """0 up to the return `zero`, 1 from the reference answer's return on, linear between them."""

    kind: Literal["reference"]
    zero: float


ReturnRule = Annotated[AtLeast | Between | Reference, Field(discriminator="kind")]


class GymnasiumSource(Source):
    """Episodes of a world: one of Gymnasium's (FrozenLake-v1, Taxi-v4, ...), one of ours
    ("driving"), or, with `distribution`, what its entry point `world` in the group
    "tracemarket.worlds" makes of config.

    max_steps: of an episode, which then ends. score: of its return.
    """

    PACKAGES: ClassVar[tuple[str, ...]] = ("gymnasium", "numpy")
    PRELOAD: ClassVar[tuple[str, ...]] = ("gymnasium",)

    kind: Literal["gymnasium"]
    world: Annotated[str, Field(min_length=1, max_length=100)]
    distribution: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    config: dict[str, JsonValue] = Field(default_factory=dict)
    max_steps: Annotated[int, Field(ge=1, le=5000)]
    score: ReturnRule

    def open(self) -> GymnasiumTasks:
        return GymnasiumTasks(self)

    def packages(self) -> tuple[str, ...]:
        return self.PACKAGES + ((self.distribution,) if self.distribution else ())


class GymnasiumTasks:
    """A TaskSource over one world. SpecError for a world, config or score that can't be used."""

    def __init__(self, source: GymnasiumSource) -> None:
        if isinstance(source.score, Between) and source.score.one <= source.score.zero:
            raise SpecError(f"score.one is {source.score.one}, not over score.zero")
        self._name = source.world
        self._rule = source.score
        self._max_steps = source.max_steps
        try:
            self._world = _opened(source)
            self._size = _actions_of(self._world.begin(0)[0])
        except (SpecError, EnvironmentMismatch):
            raise
        except Exception as error:
            raise SpecError(
                f"world {source.world!r} fails with config {json.dumps(source.config)}: "
                f"{type(error).__name__}: {error}"
            ) from None

    def draw(self, number: int) -> Entry:
        """The episode of a number. ValueError where it has no reference answer of full score."""
        _, situation = self._world.begin(number)
        actions = self._world.solve(number, self._max_steps)[: self._max_steps]
        best, ended = self._play(number, actions)
        if not ended or self._scored(best, best) < 1.0:
            raise ValueError("no full score can be reached")
        question = (
            f"{self._world.rules}\n{situation}\nAn episode has at most {self._max_steps} steps. "
            "Give all actions up to its end, as a JSON list of numbers."
        )
        return Entry(question, json.dumps(actions), {"number": number, "best": best})

    def score(self, answer: str, entry: Entry) -> object:
        """The declared function of the return, by replay."""
        actions = self._read(answer)
        total, ended = self._play(entry.raw["number"], actions)
        if not ended:
            return Explained(0.0, f"the episode goes on after {len(actions)} actions")
        score = self._scored(total, entry.raw["best"])
        return Explained(score, f"return {total:g} in {len(actions)} steps scores {score:g}")

    def _read(self, answer: str) -> list[int]:
        try:
            actions = strict_json.loads(answer, depth=1)
        except ValueError as error:
            raise UnreadableAnswer(f"the answer is no JSON list of actions: {error}") from None
        if not isinstance(actions, list):
            raise UnreadableAnswer("the answer is no JSON list of actions")
        if not 1 <= len(actions) <= self._max_steps:
            raise UnreadableAnswer(f"{len(actions)} actions, not 1 to {self._max_steps}")
        for place, action in enumerate(actions):
            if type(action) is not int or not 0 <= action < self._size:
                raise UnreadableAnswer(
                    f"action {place} is {str(action)[:40]!r}, not 0 to {self._size - 1}"
                )
        return actions

    def _play(self, number: int, actions: list[int]) -> tuple[float, bool]:
        """The return, and whether the episode ended with the last action. UnreadableAnswer if it
        ended before."""
        env, _ = self._world.begin(number)
        total, ended = 0.0, False
        for place, action in enumerate(actions):
            if ended:
                raise UnreadableAnswer(f"the episode ended before action {place}")
            _, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            ended = bool(terminated or truncated or place + 1 == self._max_steps)
        if not math.isfinite(total):
            raise ArithmeticError(f"world {self._name!r} gave a return of {total}")
        return total, ended

    def _scored(self, total: float, best: float) -> float:
        rule = self._rule
        if isinstance(rule, AtLeast):
            return float(total >= rule.value)
        one = best if isinstance(rule, Reference) else rule.one
        if one <= rule.zero:
            return 0.0
        return min(max((total - rule.zero) / (one - rule.zero), 0.0), 1.0)


def _opened(source: GymnasiumSource) -> ActionWorld:
    if source.distribution is not None:
        make = entry_point(source.distribution, source.world, GROUP)
        return OwnWorld(partial(make, **source.config))
    if source.world in OWN_WORLDS:
        module, _, name = OWN_WORLDS[source.world].partition(":")
        return OwnWorld(partial(getattr(importlib.import_module(module), name), **source.config))
    if source.world in REFUSED_WORLDS:
        raise SpecError(f"{source.world} can't be used: {REFUSED_WORLDS[source.world]}")
    if source.world not in GYMNASIUM_WORLDS:
        known = [*GYMNASIUM_WORLDS, *OWN_WORLDS]
        near = difflib.get_close_matches(source.world, known, n=3, cutoff=0.5)
        raise SpecError(
            f"there is no world {source.world!r}",
            fix=f"did you mean {near}?" if near else f"use one of {known}",
        )
    try:
        world: Any = GYMNASIUM_WORLDS[source.world].model_validate_json(json.dumps(source.config))
    except ValidationError as error:
        said = error.errors(include_url=False)[0]
        raise SpecError(
            f"world {source.world!r} refuses config {json.dumps(source.config)}: "
            f"{'.'.join(map(str, said['loc']))}: {said['msg']}"
        ) from None
    return world


def _actions_of(env: Any) -> int:
    """How many actions there are. SpecError unless they are the numbers from 0."""
    from gymnasium.spaces import Discrete

    space = env.action_space
    if not isinstance(space, Discrete) or int(space.start) != 0:
        raise SpecError(
            f"its action space is {space}, not Discrete from 0",
            fix="offer a world with a list of discrete actions (speeds and angles in steps)",
        )
    return int(space.n)
