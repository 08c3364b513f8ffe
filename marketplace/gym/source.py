"""What a task source gives: entries drawn from 64-bit seeds, and possibly its own scorer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


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


class UnreadableAnswer(Exception):
    """No answer can be read from a completion (a parse failure, not a wrong answer)."""
