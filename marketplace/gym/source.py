"""What a task source gives: entries drawn from 64-bit seeds, and possibly its own scorer.

Each kind of source is a module in `sources/` with two classes: a Source, its part of the spec, and
what Source.open() makes of it, a TaskSource. `sources/__init__.py` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of a spec."""

    # strict: "32" is not 32. Lists become tuples, which is why parsing goes through JSON.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Asset(NamedTuple):
    """Content that a spec names by CID: a data set. max_bytes: larger content is refused."""

    cid: str
    max_bytes: int


class Source(Part):
    """The source of a spec; subclasses add `kind` and their own fields.

    PACKAGES: distributions that the spec must pin, for another version may give other tasks or
    scores. PRELOAD: modules that a check worker imports once. SCORES: it has a scorer of its own
    (scoring kind "source").
    """

    PACKAGES: ClassVar[tuple[str, ...]] = ()
    PRELOAD: ClassVar[tuple[str, ...]] = ()
    SCORES: ClassVar[bool] = True

    def open(self) -> TaskSource:
        """The tasks. SpecError where the fields name what there is not."""
        raise NotImplementedError

    def open_with(self, assets: Path | None) -> TaskSource:
        """The tasks of a source that has assets(). assets: a folder with a file for each, named by
        its CID; whoever fetched them has verified them."""
        return self.open()

    def assets(self) -> tuple[Asset, ...]:
        """The content that the tasks are made of, beside packages."""
        return ()

    def turns(self) -> int:
        """0 where a completion is one text. Else it is a transcript of at most so many messages of
        the model, and the tasks have begin(entry), which gives a Conversation
        (worlds/dialogue.py)."""
        return 0

    def packages(self) -> tuple[str, ...]:
        """PACKAGES, and those that the fields name."""
        return self.PACKAGES


@dataclass(frozen=True, slots=True)
class Entry:
    """One problem of a source: question and reference answer as text.

    raw: what the source's own scorer needs to know about it.
    """

    question: str
    answer: str
    raw: Mapping[str, Any] = field(default_factory=dict)


class TaskSource(Protocol):
    """Deterministic: the same number gives the same entry in every process and on every day."""

    def draw(self, number: int) -> Entry:
        """The entry of a 64-bit number. Any exception means that this number has none."""
        ...

    def score(self, answer: str, entry: Entry) -> object:
        """The source's own score of an answer. Unchecked: whatever the scorer returned.

        Raises UnreadableAnswer if the answer is not of a form that may be scored.
        """
        ...


class Explained(NamedTuple):
    """A score with a line that says how it came about; a scorer may return it instead."""

    score: object
    detail: str


class UnreadableAnswer(Exception):
    """No answer can be read from a completion (a parse failure, not a wrong answer)."""
