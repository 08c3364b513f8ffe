"""Processes that run one policy together: how packs are divided and what each found is shared.

Alone by default. Where the weights are sharded (trainer/distributed.py) every process must run
the model equally often, so one that has no pack left runs one again that doesn't count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

_T = TypeVar("_T")


class Team:
    """A single process."""

    rank: int = 0
    count: int = 1

    def share(self, items: Iterable[_T]) -> Iterator[tuple[_T, bool]]:
        """This process's part of the items (equal in all), and whether each counts."""
        return ((item, True) for item in items)

    def gather(self, mine: _T) -> list[_T]:
        """What each process gives, by rank. Plain data only."""
        return [mine]

    def weight(self, counts: bool) -> float:
        """What a loss is multiplied with so that the gradient is the sum over all processes."""
        return 1.0 if counts else 0.0

    def wait(self) -> None:
        """Until all are here."""


ALONE: Final = Team()
