"""Which weights a turn starts from: the newest checkpoint of the run, or an adapter of its own for
each environment over one base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from marketplace.gym.policy import Policy


class Weights(Protocol):
    """Policies of a run, by environment."""

    def policy(self, environment: str) -> Policy:
        """What the environment's next turn starts from. It may be trained in place; the same
        object may come again until `advance` says otherwise."""
        ...

    def advance(self, environment: str, folder: Path) -> None:
        """The environment's turn is done, and its checkpoint is in the folder."""
        ...

    def needs(self, folder: Path) -> bool:
        """Whether a checkpoint folder of the run is still wanted."""
        ...

    def number(self, environment: str, first: int, records: Sequence[Mapping[str, Any]]) -> int:
        """The checkpoint that the environment's next turn trains. first: the base's. records: of
        the turns done."""
        ...

    def saving(self, environment: str) -> dict[str, Any]:
        """Keywords for train_on_batches: how the result is saved."""
        ...


class WholeModel:
    """One model, trained by every turn."""

    def __init__(self, base: Path) -> None:
        self._folder = base
        self._loaded: Policy | None = None

    def policy(self, environment: str) -> Policy:
        if self._loaded is None:
            self._loaded = Policy.load(self._folder)
        return self._loaded

    def advance(self, environment: str, folder: Path) -> None:
        # Trained in place: what is in memory is what the folder holds. Where the turn was done
        # by an earlier process, nothing is in memory yet.
        self._folder = folder

    def needs(self, folder: Path) -> bool:
        return folder == self._folder

    def number(self, environment: str, first: int, records: Sequence[Mapping[str, Any]]) -> int:
        return int(records[-1]["checkpoint"]) if records else first

    def saving(self, environment: str) -> dict[str, Any]:
        return {}
