"""An OpenEnv environment as a world of messages.

The model's message ends with one line, a JSON object: an action of the environment's action class.
The observation it gets is the environment's, as JSON, without reward, done and metadata. Rubrics,
async ones too, run inside the environment's step, as OpenEnv wants it.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from marketplace.gym.worlds.dialogue import Turn
from marketplace.protocol import strict_json
from marketplace.protocol.errors import SpecError

_MAX_LINE = 4000
_MAX_DEPTH = 8


class OpenEnvWorld:
    """A Dialogue. make: makes the environment. total: the reward is the sum of all steps'."""

    def __init__(self, make: Callable[[], Any], action: type[Any], *, total: bool) -> None:
        self._env = make()
        self._action = action
        self._total = total
        self._reward = 0.0

    @property
    def rules(self) -> str:
        """The environment's description and its actions' schema."""
        schema = self._action.model_json_schema()
        schema.get("properties", {}).pop("metadata", None)
        told = json.dumps(schema, sort_keys=True, ensure_ascii=False)
        return (
            f"{self._env.get_metadata().description}\nEach of your messages ends with one line, a "
            f"JSON object that meets this schema: {told}"
        )

    def reset(self, seed: int) -> str:
        """The environment's first observation."""
        self._reward = 0.0
        return _shown(_finished(self._env.reset_async(seed=seed, episode_id="episode")))

    def step(self, message: str) -> Turn:
        """The environment's observation of an action."""
        action = self._read(message)
        if action is None:
            return Turn("error: the last line is no action that meets the schema", False, 0.0)
        observation = _finished(self._env.step_async(action))
        reward = observation.reward
        if isinstance(reward, bool | int | float):
            self._reward = float(reward) + (self._reward if self._total else 0.0)
        elif not self._total:
            self._reward = 0.0
        return Turn(_shown(observation), bool(observation.done), self._reward)

    def solution(self, seed: int) -> list[str]:
        """What the environment's own solution(seed) gives: actions, or JSON objects of them."""
        told = self._env.solution(seed)
        return [
            json.dumps(one if isinstance(one, dict) else one.model_dump(exclude={"metadata"}))
            for one in told
        ]

    def _read(self, message: str) -> Any:
        line = message.strip().rpartition("\n")[2].strip()
        if len(line) > _MAX_LINE:
            return None
        try:
            record = strict_json.loads(line, depth=_MAX_DEPTH)
            if not isinstance(record, dict) or "metadata" in record:
                return None
            return self._action.model_validate_json(json.dumps(record), strict=True)
        except (ValidationError, ValueError):
            return None


def check_environment(env: Any, name: str) -> None:
    """SpecError for an environment whose rewards can't be told again from a transcript."""
    if not callable(getattr(env, "solution", None)):
        raise SpecError(
            f"OpenEnv environment {name} has no solution(seed), so its checker can't be tested",
            fix="subclass it with a solution(seed) that gives actions of full reward",
        )
    for place, one in _parts(env):
        kinds = {kind.__name__ for kind in type(one).__mro__}
        if kinds & {"LLMJudge", "LLMClient"}:
            raise SpecError(
                f"OpenEnv environment {name} asks a model in {place} ({type(one).__name__}): "
                "verifiers would not agree on what it says",
                fix="use rubrics that are computed",
            )
        if "MCPEnvironment" in kinds:
            raise SpecError(
                f"OpenEnv environment {name} serves its tools through MCP, which can't be replayed",
                fix="offer the tools as actions of an Environment",
            )


def _parts(env: Any) -> Iterator[tuple[str, Any]]:
    """The environment, its rubrics, and what they hold."""
    found = [("the environment", env)]
    rubric = getattr(env, "rubric", None)
    if rubric is not None:
        found.append(("rubric", rubric))
        found += [(f"rubric {name}", one) for name, one in rubric.named_rubrics()]
    for place, one in found:
        yield place, one
        for name, value in vars(one).items():
            yield f"{place}, attribute {name}", value


def _finished(result: Any) -> Any:
    """The result of what may be a coroutine."""
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _shown(observation: Any) -> str:
    record = observation.model_dump(mode="json", exclude={"reward", "done", "metadata"})
    return json.dumps(record, sort_keys=True, ensure_ascii=False, allow_nan=False)
