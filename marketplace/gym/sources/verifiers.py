"""Tasksets of the `verifiers` package (its v1): a row is a task, its rewards are the checker.

The completion becomes the one reply of a trace that `verifiers` scores offline, as its own `replay`
does: no harness, no runtime, no network. The sum of the weighted rewards is the score. What needs
more than that is refused by name: judge models, tools, containers, rewards that want a runtime.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue

from marketplace.gym.source import Entry, Explained, Source
from marketplace.gym.sources.offered import module_of
from marketplace.protocol.errors import SpecError


class VerifiersSource(Source):
    """taskset: a module of `distribution` that exports one Taskset in __all__ ("tracemarket" brings
    the example that ships here). config: of the taskset. rows: how many of its rows are tasks, at
    most. answer: the field of a row's data that holds the reference answer. reference: what of it
    a model would write."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("verifiers",)
    PRELOAD: ClassVar[tuple[str, ...]] = ("verifiers.v1",)

    kind: Literal["verifiers"]
    distribution: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    taskset: Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
    config: dict[str, JsonValue] = Field(default_factory=dict)
    rows: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    answer: Annotated[str, Field(min_length=1, max_length=100)] = "answer"
    reference: Annotated[str, Field(max_length=1000)] = "{answer}"

    def open(self) -> VerifiersTasks:
        return VerifiersTasks(self)

    def packages(self) -> tuple[str, ...]:
        own = () if self.distribution == "tracemarket" else (self.distribution,)
        return (*self.PACKAGES, *own)


class VerifiersTasks:
    """A TaskSource over the rows of a taskset. SpecError for one that can't be used."""

    def __init__(self, source: VerifiersSource) -> None:
        module = module_of(source.distribution, source.taskset, "verifiers")
        kind = _taskset(module, source.taskset)
        _refuse_judges(module, source.taskset)
        self._answer, self._reference = source.answer, source.reference
        try:
            self._rows = _rows(kind, source)
        except Exception as error:
            raise SpecError(
                f"taskset {source.taskset} refuses config {json.dumps(source.config)}: "
                f"{type(error).__name__}: {error}"
            ) from None
        if not self._rows:
            raise SpecError(f"taskset {source.taskset} has no rows")
        for index, row in enumerate(self._rows):
            problem = _problem(row, source.answer)
            if problem is not None:
                raise SpecError(f"row {index} of taskset {source.taskset} {problem}")

    def draw(self, number: int) -> Entry:
        """A row."""
        index = number % len(self._rows)
        data = self._rows[index].data
        answer = self._reference.replace("{answer}", str(getattr(data, self._answer)))
        system = f"{data.system_prompt}\n\n" if data.system_prompt else ""
        return Entry(f"{system}{data.prompt}", answer, {"row": index})

    def score(self, answer: str, entry: Entry) -> object:
        """The sum of the row's weighted rewards."""
        row = self._rows[entry.raw["row"]]
        trace = _trace(row, answer)
        asyncio.run(row.score(trace, None))
        if trace.info.get("judge_calls"):
            raise RuntimeError("a judge model was asked")
        rewards = {name: reward for name, reward in sorted(trace.rewards.items())}
        missing = [name for name, reward in rewards.items() if reward is None]
        if missing:
            raise RuntimeError(f"rewards {missing} were not computed")
        told = ", ".join(f"{name} {reward.score:g}" for name, reward in rewards.items())
        return Explained(sum(reward.value for reward in rewards.values()), told)


def _taskset(module: Any, name: str) -> Any:
    from verifiers.v1 import Taskset

    found = [getattr(module, one, None) for one in getattr(module, "__all__", ())]
    kinds = [one for one in found if isinstance(one, type) and issubclass(one, Taskset)]
    if len(kinds) != 1:
        raise SpecError(f"module {name} exports {len(kinds)} tasksets in __all__, not one")
    return kinds[0]


def _refuse_judges(module: Any, name: str) -> None:
    """SpecError where the module has a judge model at hand."""
    from verifiers.v1 import Judge

    for held, value in sorted(vars(module).items(), key=lambda item: item[0]):
        if isinstance(value, Judge) or (isinstance(value, type) and issubclass(value, Judge)):
            raise SpecError(
                f"taskset {name} uses the judge model {held}: verifiers would not agree on what it "
                "says",
                fix="use rewards that are computed",
            )


def _rows(kind: Any, source: VerifiersSource) -> list[Any]:
    from verifiers.v1 import TasksetConfig
    from verifiers.v1.utils.generic import concrete_type

    config = concrete_type(kind, TasksetConfig) or TasksetConfig
    record = {**source.config, "id": source.taskset}
    taskset = kind(config.model_validate_json(json.dumps(record), strict=True))
    if kind.toolsets(taskset.config):
        raise ValueError("it has tools, which run in servers")
    return list(islice(taskset, source.rows))


def _problem(row: Any, answer: str) -> str | None:
    """Why a row can't be a task, or None."""
    if row.config.judges:
        names = [str(judge.id) for judge in row.config.judges]
        return f"is scored by the judge models {names}: verifiers would not agree on what they say"
    if row.NEEDS_CONTAINER:
        return "needs a container"
    if type(row).toolsets(row.config):
        return "has tools, which run in servers"
    if not isinstance(row.data.prompt, str):
        return "has no text as its prompt"
    if not isinstance(getattr(row.data, answer, None), str | int | float):
        return f"has no {answer!r} in its data"
    rewards = row.hooks("reward")
    if not rewards:
        return "has no rewards"
    for reward in rewards:
        wanted = inspect.signature(reward).parameters.get("runtime")
        if wanted is not None and wanted.default is inspect.Parameter.empty:
            return f"has the reward {reward.__name__}, which wants a runtime"
    return None


def _trace(row: Any, answer: str) -> Any:
    """A finished trace: the row's prompt and one reply."""
    from verifiers.v1 import AgentConfig, MessageNode, Trace
    from verifiers.v1.trace import AgentInfo, TraceTask
    from verifiers.v1.types import AssistantMessage, UserMessage

    nodes = [
        MessageNode(message=UserMessage(content=row.data.prompt)),
        MessageNode(parent=0, message=AssistantMessage(content=answer), sampled=True),
    ]
    task = TraceTask(type=type(row).__name__, data=row.data)
    agent = AgentInfo(config=AgentConfig())
    return Trace(task=task, agent=agent, nodes=nodes, is_completed=True, ok=True)
