"""Everything a turn needs to go on after an interruption: weights, optimizer, steps done.

    state = load_state(folder) or TrainState()
    train_turn(parent, groups, settings, ..., state=state,
               on_step=lambda *_: save_state(state, folder))

One safetensors file, written beside its place and renamed: a kill at any point leaves the state
of the last step that was saved, never half of one. Tensors of the weights are named `weight/...`,
those of AdamW `optimizer/<parameter>/<name>`; the rest is JSON in the file's metadata.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from marketplace.protocol.errors import CheckpointError
from marketplace.storage.pending import sync
from trainer.config import TrainSettings
from trainer.data import TrainingGroup

STATE_NAME: Final = "state.safetensors"
_VERSION: Final = 1


@dataclass(slots=True)
class TrainState:
    """Where a turn is. Made empty; train_turn fills it after each step, before on_step is called.

    run: what it belongs to, `run_digest` of settings and groups. steps: metrics of each step
    done, as plain data. weights: trained parameters by name. optimizer: AdamW's per parameter
    name. Both hold the live tensors of the run: save_state copies them out. stopped: epochs'
    stop rule has struck. precision: of the steps, once it is known what "auto" is; "" before.
    """

    run: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    stopped: bool = False
    precision: str = ""

    def about(self) -> dict[str, Any]:
        """What is no tensor, as plain data."""
        return {
            "run": self.run,
            "steps": self.steps,
            "stopped": self.stopped,
            "precision": self.precision,
        }

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Self:
        """The state, without its tensors. Those of before a precision was noted have none.

        Raises KeyError."""
        noted = about.get("precision", "")
        return cls(about["run"], about["steps"], stopped=about["stopped"], precision=noted)


def run_digest(settings: TrainSettings, groups: Iterable[TrainingGroup]) -> str:
    """A name for a run: equal settings (the seed of the order among them) and equal groups."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for group in groups:
        digest.update(repr(group).encode())
    return digest.hexdigest()


def save_state(state: TrainState, folder: str | Path) -> Path:
    """Write the state into the folder, over an older one. CheckpointError if the disk is full."""
    path = Path(folder) / STATE_NAME
    tensors = {f"weight/{name}": one for name, one in state.weights.items()}
    for name, kept in state.optimizer.items():
        tensors |= {f"optimizer/{name}/{key}": one for key, one in kept.items()}
    about = {"v": _VERSION, **state.about()}
    data = save(
        {name: one.detach().cpu().contiguous() for name, one in tensors.items()},
        {"state": json.dumps(about, sort_keys=True)},
    )
    write_atomically(path, data)
    return path


def load_state(folder: str | Path) -> TrainState | None:
    """The state in the folder, None if there is none. CheckpointError if it can't be read."""
    path = Path(folder) / STATE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["state"])
            if about["v"] != _VERSION:
                raise ValueError(f"version {about['v']!r}, not {_VERSION}")
            state = TrainState.of(about)
            for name in file.keys():  # noqa: SIM118  (not a mapping)
                kind, _, rest = name.partition("/")
                if kind == "weight":
                    state.weights[rest] = file.get_tensor(name)
                else:
                    parameter, _, key = rest.rpartition("/")
                    state.optimizer.setdefault(parameter, {})[key] = file.get_tensor(name)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the training state {str(path)!r} can't be read: {error}",
            fix="delete it to start the turn again",
        ) from error
    return state


def resume(
    state: TrainState,
    run: str,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put a saved state's weights and moments in place. CheckpointError if it is another run's.

    parameters: by name, in the optimizer's order.
    """
    if state.run and state.run != run:
        raise CheckpointError(
            f"the training state belongs to run {state.run[:12]}, not {run[:12]}: "
            "its settings or its traces differ",
            fix="resume with the settings and batches it was started with, or delete the state",
        )
    state.run = run
    if not state.steps:
        return
    if state.weights.keys() != parameters.keys():
        raise CheckpointError(
            f"the training state has {len(state.weights)} trained weights, "
            f"the policy {len(parameters)}",
            fix="resume with the parent checkpoint it was started with",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state.weights[name])
    places = {name: place for place, name in enumerate(parameters)}
    optimizer.load_state_dict(
        {
            "state": {places[name]: kept for name, kept in state.optimizer.items()},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )


def record(
    state: TrainState,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: Mapping[str, Any],
) -> None:
    """Note a step that is done."""
    state.steps.append(dict(step))
    state.weights = dict(parameters)
    state.optimizer = {
        name: dict(optimizer.state[one])
        for name, one in parameters.items()
        if one in optimizer.state
    }


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or the old one, and the whole one once this returns, also after a power cut.
    CheckpointError, naming path and size, if it can't be had."""
    # One name for what is pending: a kill leaves one file behind, not one for each kill.
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CheckpointError(
            f"can't write {len(data):,} bytes to {str(path)!r}: {error.strerror or error}",
            fix="free disk space or name another folder" if full else "name another folder",
        ) from error
