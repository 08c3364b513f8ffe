"""OpenEnv environments: several turns, replayed in this process, without OpenEnv's server.

`distribution` is the one that the classes are in, pinned by the spec; "tracemarket" stands for the
example that ships here. The environment has one method more than OpenEnv asks for, solution(seed).
"""

from __future__ import annotations

import importlib
import json
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from marketplace.gym.source import Source
from marketplace.gym.sources.dialogue import DialogueTasks
from marketplace.gym.sources.offered import class_of
from marketplace.protocol.errors import SpecError

ClassPath = Annotated[
    str, Field(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$")
]


class OpenEnvSource(Source):
    """environment, action: "module:Class" of the distribution. config: what the environment's class
    is called with. reward: of the last step, or the sum of all; it has to end up in [0, 1]."""

    # pydantic writes the schema that the prompt holds.
    PACKAGES: ClassVar[tuple[str, ...]] = ("openenv", "pydantic")
    PRELOAD: ClassVar[tuple[str, ...]] = ("marketplace.gym.worlds.openenv_runtime",)

    kind: Literal["openenv"]
    distribution: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    environment: ClassPath
    action: ClassPath
    config: dict[str, JsonValue] = Field(default_factory=dict)
    max_turns: Annotated[int, Field(ge=1, le=100)] = 8
    reward: Literal["last", "sum"] = "last"

    def open(self) -> DialogueTasks:
        importlib.import_module("marketplace.gym.worlds.openenv_runtime")  # first: see there
        from openenv.core.env_server.interfaces import Environment
        from openenv.core.env_server.types import Action

        from marketplace.gym.worlds.openenv_world import OpenEnvWorld, check_environment

        environment: Any = class_of(self.distribution, self.environment, Environment, "openenv")
        action = class_of(self.distribution, self.action, Action, "openenv")
        make = partial(environment, **self.config)
        world = partial(OpenEnvWorld, make, action, total=self.reward == "sum")
        try:
            check_environment(make(), self.environment)
            first, again = world().reset(1), world().reset(1)
        except SpecError:
            raise
        except Exception as error:
            raise SpecError(
                f"OpenEnv environment {self.environment} fails with config "
                f"{json.dumps(self.config)}: {type(error).__name__}: {error}"
            ) from None
        if first != again:
            raise SpecError(
                f"OpenEnv environment {self.environment} begins differently under the same seed",
                fix="let reset(seed) decide everything",
            )
        return DialogueTasks(world, self.max_turns)

    def turns(self) -> int:
        return self.max_turns

    def packages(self) -> tuple[str, ...]:
        own = () if self.distribution == "tracemarket" else (self.distribution,)
        return (*self.PACKAGES, *own)
