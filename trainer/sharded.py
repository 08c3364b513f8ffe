"""Checkpoints of a sharded turn: each process writes its own part, and any number reads them.

    folder/step-000012/   torch.distributed.checkpoint's files, and state.json
    folder/.step-000013/  one being written; not looked at until its last process is done

All parts are written and synced beside their place; then the folder is renamed and older ones go.
A kill at any point leaves the state of the last step whose save was over.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed.checkpoint as dcp

from marketplace.gym.policy import Policy
from marketplace.gym.team import Team
from marketplace.protocol.errors import CheckpointError
from marketplace.storage.pending import publish_folder
from trainer.state import TrainState, write_atomically

ABOUT_NAME: Final = "state.json"
_PREFIX: Final = "step-"
_VERSION: Final = 1


def save_sharded(state: TrainState, folder: str | Path, team: Team) -> Path:
    """Write the state, by all of the team together. CheckpointError if the disk is full."""
    home = Path(folder)
    name = f"{_PREFIX}{len(state.steps):06}"
    part = home / f".{name}"
    _together(team, home, lambda: _begin(part), first_only=True)
    _together(
        team,
        home,
        lambda: dcp.save(_tensors(state), checkpoint_id=part, no_dist=team.count == 1),
    )
    _together(team, home, lambda: _finish(state, part, home / name), first_only=True)
    return home / name


def load_sharded(policy: Policy, folder: str | Path) -> TrainState | None:
    """The newest whole state in the folder, in parts that fit the policy; None if there is none.

    Any number of processes may have written it. CheckpointError if it can't be read.
    """
    found = sorted(one for one in Path(folder).glob(f"{_PREFIX}*") if (one / ABOUT_NAME).exists())
    if not found:
        return None
    path = found[-1]
    try:
        about = json.loads((path / ABOUT_NAME).read_text("utf-8"))
        if about["v"] != _VERSION:
            raise ValueError(f"version {about['v']!r}, not {_VERSION}")
        state = TrainState.of(about)
        trained = {n: one for n, one in policy.model.named_parameters() if one.requires_grad}
        state.weights = {name: torch.zeros_like(one.detach()) for name, one in trained.items()}
        state.optimizer = {
            name: {
                key: torch.tensor(0.0)
                if key == "step"
                else torch.zeros_like(trained[name].detach())
                for key in keys
            }
            for name, keys in about["optimizer"].items()
        }
        tensors = _tensors(state)
        dcp.load(tensors, checkpoint_id=path, no_dist=policy.team.count == 1)
    except (OSError, ValueError, KeyError, TypeError, dcp.api.CheckpointException) as error:
        raise CheckpointError(
            f"the training state {str(path)!r} can't be read: {str(error)[:300]}",
            fix="delete it to start the turn again",
        ) from error
    return state


def _together(
    team: Team, home: Path, work: Callable[[], object], *, first_only: bool = False
) -> None:
    """Do it in every process (or the first); if it fails in one, CheckpointError in all."""
    problem = ""
    if team.rank == 0 or not first_only:
        try:
            work()
        except (OSError, CheckpointError, dcp.api.CheckpointException) as error:
            problem = str(error)[:300] or type(error).__name__
    if problems := [one for one in team.gather(problem) if one]:
        raise CheckpointError(
            f"the training state can't be written to {str(home)!r}: {problems[0]}",
            fix="free disk space or name another folder",
        )


def _begin(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)


def _finish(state: TrainState, part: Path, place: Path) -> None:
    about = {
        "v": _VERSION,
        **state.about(),
        "optimizer": {one: sorted(kept) for one, kept in state.optimizer.items()},
    }
    write_atomically(part / ABOUT_NAME, json.dumps(about, sort_keys=True).encode())
    shutil.rmtree(place, ignore_errors=True)
    publish_folder(part, place)
    for old in place.parent.glob(f"{_PREFIX}*"):
        if old != place:
            shutil.rmtree(old, ignore_errors=True)


def _tensors(state: TrainState) -> dict[str, Any]:
    tensors: dict[str, Any] = {f"weight/{name}": one for name, one in state.weights.items()}
    for name, kept in state.optimizer.items():
        tensors |= {f"optimizer/{name}/{key}": one for key, one in kept.items()}
    return {name: one.detach() for name, one in tensors.items()}
