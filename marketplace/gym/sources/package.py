"""Environments that come as installable packages: a task source and its scorer in Python.

The distribution declares a factory in the entry point group "tracemarket.environments"; the spec
pins its exact version, so that all verifiers run the same code. The factory is called with the
spec's config as keyword arguments and returns an object with two methods:

    draw(number)        (question, answer, raw): two texts and any JSON value, a function of the
                        64-bit number alone. An exception means that this number has no task.
    score(answer, raw)  a number from 0 to 1, or None if no answer can be read from the text.
                        answer comes from strangers. An exception is a checker error.

`raw` is what the scorer needs to know about the task; it goes through JSON, so that a scorer
can't rely on the process that drew the task. This runs a contributor's code: in check workers
under the limits of the spec, and in the processes of whoever draws tasks. Install only what you
have read or trust, or check in the sandbox.
"""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, JsonValue

from marketplace.gym.source import Entry, Source, UnreadableAnswer
from marketplace.protocol.errors import EnvironmentMismatch, SpecError

GROUP: Final = "tracemarket.environments"
MAX_TASK_CHARS: Final = 1 << 20
"""Of question, answer and raw each: what a task may have."""


class PackageSource(Source):
    """What entry point `entry` of a distribution makes of config. Its version is pinned in the
    spec's packages, under the same name."""

    kind: Literal["package"]
    distribution: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")]
    entry: Annotated[str, Field(min_length=1, max_length=100)]
    config: dict[str, JsonValue] = Field(default_factory=dict)

    def open(self) -> PackageTasks:
        return PackageTasks(self)

    def packages(self) -> tuple[str, ...]:
        return (self.distribution,)


class PackageTasks:
    """A TaskSource over a package's object. SpecError where the entry point or config don't fit."""

    def __init__(self, source: PackageSource) -> None:
        self._name = f"{source.distribution}:{source.entry}"
        make = _entry_point(source)
        try:
            self._tasks = make(**source.config)
        except Exception as error:
            raise SpecError(
                f"environment package {self._name} refuses config {json.dumps(source.config)}: "
                f"{type(error).__name__}: {error}"
            ) from None
        for method in ("draw", "score"):
            if not callable(getattr(self._tasks, method, None)):
                raise SpecError(
                    f"environment package {self._name} made a {type(self._tasks).__name__} "
                    f"without {method}()",
                    fix="see docs/environments.md for what it must have",
                )

    def draw(self, number: int) -> Entry:
        """The task of a 64-bit number."""
        question, answer, raw = self._tasks.draw(number)
        if not isinstance(question, str) or not isinstance(answer, str):
            raise TypeError("draw() gave a question or an answer that is not text")
        question.encode("utf-8")  # hashed and sent later: a lone surrogate must not get through
        answer.encode("utf-8")
        told = json.dumps(raw, allow_nan=False)
        if max(len(question), len(answer), len(told)) > MAX_TASK_CHARS:
            raise ValueError(f"draw() gave a task of over {MAX_TASK_CHARS} characters")
        return Entry(question, answer, {"raw": told})

    def score(self, answer: str, entry: Entry) -> object:
        """The package's own score, unchecked. Each call gets a raw of its own."""
        score = self._tasks.score(answer, json.loads(entry.raw["raw"]))
        if score is None:
            raise UnreadableAnswer(f"{self._name} reads no answer from it")
        return score


def check_installed(folder: Path, source: PackageSource) -> None:
    """EnvironmentMismatch if other code is installed than the package's folder has: an author who
    changed it would check and publish what it was before."""
    fix = f"pip install {folder if folder.is_absolute() else f'./{folder}'}"
    try:
        files = metadata.files(source.distribution) or []
    except metadata.PackageNotFoundError:
        raise EnvironmentMismatch(
            f"environment package {source.distribution} is not installed, and the market never "
            "loads a folder",
            fix=fix,
        ) from None
    for file in files:
        if file.suffix != ".py":
            continue
        for own in (folder / file, folder / "src" / file):
            installed = Path(str(file.locate()))
            if own.is_file() and (
                not installed.is_file() or own.read_bytes() != installed.read_bytes()
            ):
                raise EnvironmentMismatch(f"{own} is not what is installed", fix=fix)


def _entry_point(source: PackageSource) -> Any:
    try:
        found = metadata.distribution(source.distribution).entry_points
    except metadata.PackageNotFoundError:
        raise EnvironmentMismatch(
            f"environment package {source.distribution} is not installed",
            fix=f"pip install {source.distribution}, in the version that the spec pins",
        ) from None
    offered = {point.name: point for point in found.select(group=GROUP)}
    if source.entry not in offered:
        raise SpecError(
            f"{source.distribution} has no entry point {source.entry!r} in group {GROUP!r}",
            fix=f"use one of {sorted(offered)}" if offered else "declare it in its pyproject.toml",
        )
    try:
        return offered[source.entry].load()
    except Exception as error:
        raise SpecError(
            f"environment package {source.distribution} can't be imported: "
            f"{type(error).__name__}: {error}"
        ) from None


def unpinned(source: PackageSource, pinned: dict[str, str]) -> list[str]:
    """Direct requirements of the package that `pinned` does not name: another version of them
    could give other tasks or scores. Those for extras, and of tracemarket itself, don't count."""
    names = {_normal(name) for name in pinned} | {"tracemarket"}
    missing = []
    for requirement in metadata.requires(source.distribution) or []:
        name, _, marker = requirement.partition(";")
        name = re.split(r"[\s<>=!~(\[@]", name.strip(), maxsplit=1)[0]
        if "extra" not in marker and _normal(name) not in names:
            missing.append(name)
    return missing


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
