"""Recipes: a whole run in one TOML file. Strict: an unknown key or a bad value is an error that
names both.

    v = 1
    name = "r1-zero"
    environments = ["math_answer"]      # built-in names, 0x ids, or spec files beside the recipe

    [bounty]                            # what each turn's bounty offers, on a deployment
    price_per_unit = "0.01"
    budget = "100"                      # never more than this for all of them together

    [settings]                          # of every stage: trainer/config.py
    [evaluation]                        # on tasks that are never sold: trainer/curves.py
    [adapter]                           # train LoRA adapters, one for each environment

    [[stages]]                          # one after the other
    kind = "rl"                         # or "sft": full scores of tier C only
    turns = 3                           # each trains the checkpoint of the one before
    [stages.settings]                   # over those of the run
    [stages.reward]                     # trainer/shaping.py
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from marketplace.gym.source import Part
from marketplace.protocol.errors import ConfigError
from trainer.config import TrainSettings, parse_settings
from trainer.shaping import RewardShaping

_Count = Annotated[int, Field(ge=1, le=1_000_000)]
_Money = Annotated[str, Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,18})?$")]


class BountyPolicy(Part):
    """What each turn's bounty offers. amount: put into it, in tokens as all prices, or less where
    the turn's traces can't cost as much. budget: most that all bounties of the run may cost
    together (without gas). lasts_hours: until its deadline. wait_hours: for its traces to be
    settled, before the run gives up."""

    tier: Literal["A", "B"] = "B"
    pay: Literal["correct", "informative"] = "informative"
    price_per_unit: _Money = "0.01"
    fee_per_trace: _Money = "0.002"
    amount: _Money = "20"
    budget: _Money | None = None
    lasts_hours: Annotated[float, Field(gt=0, le=8760)] = 24.0
    wait_hours: Annotated[float, Field(gt=0, le=8760)] = 24.0


class EvaluationPolicy(Part):
    """tasks: held-out, of each environment. samples: of each, and so the largest k. every: so many
    turns; the first parent and the last turn are always evaluated. seed: of the sampler."""

    tasks: Annotated[int, Field(ge=2, le=100_000)] = 128
    samples: Annotated[int, Field(ge=1, le=1024)] = 8
    every: _Count = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 20_000


class Adapter(Part):
    """LoRA: rank and alpha as PEFT means them."""

    rank: Annotated[int, Field(ge=1, le=256)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0


class Stage(Part):
    """groups: bought (or sampled) in a turn, of group_size traces each. environments: those of
    the recipe without; several take turns. positives: where a dry run takes the full scores of an
    "sft" stage from: the task's own reference answers, or a player that taught itself the game."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    kind: Literal["sft", "rl"]
    turns: _Count = 1
    groups: Annotated[int, Field(ge=1, le=65_536)] = 128
    group_size: Annotated[int, Field(ge=1, le=1024)] = 8
    environments: tuple[str, ...] = ()
    positives: Literal["reference", "self_play"] = "reference"
    reward: RewardShaping = RewardShaping()
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _learns(self) -> Stage:
        if self.kind == "rl" and self.group_size < 2:
            raise ValueError("group_size is 1: traces of a group are compared with each other")
        if self.kind == "sft" and self.reward.changes:
            raise ValueError("reward is of an rl stage: an sft stage takes full scores as they are")
        return self


class Recipe(Part):
    """A run. settings: as trainer.config.TrainSettings, for all stages."""

    v: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
    description: Annotated[str, Field(max_length=2000)] = ""
    environments: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    bounty: BountyPolicy = BountyPolicy()
    evaluation: EvaluationPolicy | None = EvaluationPolicy()
    adapter: Adapter | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if len(set(self.environments)) != len(self.environments):
            raise ValueError(f"an environment is named twice: {', '.join(self.environments)}")
        if self.adapter is not None:
            outputs = {output_name(name): name for name in self.environments}
            for name in self.environments:
                if (other := outputs[output_name(name)]) != name:
                    raise ValueError(
                        f"the adapters of {name!r} and {other!r} would both be called "
                        f"{output_name(name)!r}"
                    )
        for stage in self.stages:
            for name in stage.environments:
                if name not in self.environments:
                    raise ValueError(
                        f"stage {stage.name!r} names environment {name!r}, and the recipe has "
                        f"{', '.join(self.environments)}"
                    )
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"two stages have one name: {', '.join(names)}")
        return self

    def settings_of(self, stage: Stage) -> TrainSettings:
        """The training settings of a stage. ConfigError names the key and the value."""
        return parse_settings(
            self.settings | stage.settings, source=f"recipe {self.name!r}, stage {stage.name!r}"
        )


def output_name(environment: str) -> str:
    """The folder, inside that of the run's result, for an environment's adapter."""
    return Path(environment).stem[:64]


_OFFER = frozenset(BountyPolicy.model_fields) - {"tier", "pay"}


def recipe_identity(recipe: Recipe) -> dict[str, Any]:
    """What a run can't change while it goes on: all but how much it offers, and for how long."""
    return recipe.model_dump(mode="json", exclude={"bounty": set(_OFFER)})


@dataclass(frozen=True, slots=True)
class Plan:
    """One turn of a run. turn: from 1."""

    turn: int
    stage: Stage
    environment: str
    settings: TrainSettings


def plans(recipe: Recipe) -> Iterator[Plan]:
    """The turns of a recipe, in order. In a stage, its environments take turns: with an adapter
    for each, one after the other."""
    turn = 0
    for stage in recipe.stages:
        settings = recipe.settings_of(stage)
        names = stage.environments or recipe.environments
        if recipe.adapter is not None:
            order = [name for name in names for _ in range(stage.turns)]
        else:
            order = [names[place % len(names)] for place in range(stage.turns * len(names))]
        for name in order:
            turn += 1
            seeded = settings.model_copy(update={"seed": settings.seed + turn - 1})
            yield Plan(turn, stage, name, seeded)


def recipe_names() -> list[str]:
    """Recipes that ship with the package."""
    folder = resources.files("trainer") / "recipes"
    return sorted(
        one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml")
    )


def load_recipe(name: str) -> Recipe:
    """The recipe of a file (a path that ends in .toml), or one that ships with the package."""
    if name.endswith(".toml"):
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"can't read {name!r}: {error}") from error
        return parse_recipe(text, source=name)
    if name not in recipe_names():
        raise ConfigError(
            f"there is no recipe {name!r}",
            fix=f"use one of {', '.join(recipe_names())}, or a path that ends in .toml",
        )
    text = (resources.files("trainer") / "recipes" / f"{name}.toml").read_text("utf-8")
    return parse_recipe(text, source=f"recipe {name!r}")


def changed_recipe(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with other values, checked as if a file had them. ConfigError as parse_recipe."""
    try:
        return Recipe.model_validate_json(json.dumps(recipe.model_dump(mode="json") | changes))
    except ValidationError as error:
        raise ConfigError(f"recipe {recipe.name!r}: {_described(error)}") from None


def parse_recipe(text: str, *, source: str) -> Recipe:
    """The recipe in TOML. ConfigError names the source, the key and the value."""
    try:
        # Through JSON, as specs: lists become tuples although nothing else is converted.
        record = json.dumps(tomllib.loads(text), allow_nan=False)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is not TOML: {error}") from None
    except (TypeError, ValueError) as error:  # dates, NaN
        raise ConfigError(f"{source} holds what no recipe has: {error}") from None
    try:
        recipe = Recipe.model_validate_json(record)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_described(error)}") from None
    for stage in recipe.stages:
        recipe.settings_of(stage)
    return recipe


def _described(error: ValidationError) -> str:
    problems = []
    found = error.errors(include_url=False)
    places = [one["loc"] for one in found]
    for one in found:
        # A list loses its invalid items and is then too short as well: only the items matter.
        below = [place for place in places if place[: len(one["loc"])] == one["loc"]]
        if one["type"] == "too_short" and len(below) > 1:
            continue
        place = ".".join(map(str, one["loc"])) or "recipe"
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            message = "there is no such key"
        shown = "" if one["type"] == "missing" else f" is {one['input']!r:.60}"
        if isinstance(one["input"], dict) and one["type"] != "extra_forbidden":
            shown = ""
        problems.append(f"{place}{shown}: {message}")
    return "; ".join(problems)
