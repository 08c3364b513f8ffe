"""Which weights a turn starts from: the newest checkpoint of the run, or an adapter of its own for
each environment over one base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from marketplace.gym.policy import Policy
from marketplace.protocol.errors import ConfigError
from trainer.devices import CPU, placed
from trainer.experts import LoraSettings, Start, adapt, save_adapter

import torch  # isort: skip  (after the policy, which sets how its threads wait)


class Weights(Protocol):
    """Policies of a run, by environment."""

    def policy(self, environment: str) -> Policy:
        """What the environment's next turn starts from. It may be trained in place; the same
        object may come again until `advance` says otherwise."""
        ...

    def advance(self, environment: str, folder: Path) -> None:
        """The environment's turn is done, and its checkpoint is in the folder."""
        ...

    def roll_back(self) -> None:
        """The turn that was just trained is not kept: the next one starts where it started."""
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

    def folder(self, environment: str) -> Path:
        """Whole weights that the environment's next turn starts from, for processes of their own.

        ConfigError where they train something else."""
        ...


class WholeModel:
    """One model, trained by every turn, on a device."""

    def __init__(self, base: Path, device: torch.device = CPU) -> None:
        self._folder, self._device = base, device
        self._loaded: Policy | None = None

    def policy(self, environment: str) -> Policy:
        if self._loaded is None:
            self._loaded = placed(Policy.load(self._folder), self._device)
        return self._loaded

    def advance(self, environment: str, folder: Path) -> None:
        # Trained in place: what is in memory is what the folder holds. Where the turn was done
        # by an earlier process, nothing is in memory yet.
        self._folder = folder

    def roll_back(self) -> None:
        self._loaded = None

    def needs(self, folder: Path) -> bool:
        return folder == self._folder

    def number(self, environment: str, first: int, records: Sequence[Mapping[str, Any]]) -> int:
        return int(records[-1]["checkpoint"]) if records else first

    def saving(self, environment: str) -> dict[str, Any]:
        return {}

    def folder(self, environment: str) -> Path:
        return self._folder


class AdapterEach:
    """A LoRA adapter for each environment over one frozen base; one of them in memory at a time.

    base: folder of the whole model. cid: its manifest's, which every adapter names. device: where
    they are trained.
    """

    def __init__(
        self, base: Path, cid: str, *, rank: int, alpha: float, device: torch.device = CPU
    ) -> None:
        self._base, self._cid, self._device = base, cid, device
        self._lora = LoraSettings(rank=rank, alpha=alpha)
        self._folders: dict[str, Path] = {}
        self._loaded: tuple[str, Policy] | None = None

    def policy(self, environment: str) -> Policy:
        if self._loaded is None or self._loaded[0] != environment:
            self._loaded = None  # two models need not fit into memory
            start = Start(self._base, self._cid, self._folders.get(environment))
            self._loaded = environment, placed(adapt(start, self._lora), self._device)
        return self._loaded[1]

    def advance(self, environment: str, folder: Path) -> None:
        self._folders[environment] = folder

    def roll_back(self) -> None:
        self._loaded = None

    def needs(self, folder: Path) -> bool:
        return folder in self._folders.values()

    def number(self, environment: str, first: int, records: Sequence[Mapping[str, Any]]) -> int:
        own = [one for one in records if one["environment"] == environment]
        return int(own[-1]["checkpoint"]) if own else first

    def saving(self, environment: str) -> dict[str, Any]:
        return {"save": partial(save_adapter, base=self._cid)}

    def folder(self, environment: str) -> Path:
        raise ConfigError(
            "several processes train whole models, and this recipe trains adapters",
            fix="train it in one process; adapters of several environments can be trained by a "
            "command each, with --environment",
        )
