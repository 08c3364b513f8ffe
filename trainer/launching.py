"""Starts the processes of a turn and waits for them: what `tracemarket train --processes N` does.

The command itself trains nothing. It writes the turn's job, starts torchrun, which starts the
processes (trainer/distributed.py), passes on the steps that they tell, and takes the weights
when they are done. All of them end with it, also when it is killed; started again they go on
from their last saved state, and a turn that was done is not computed again.

The number of processes and their threads decide the order of additions, hence the last bits of
the weights: equal numbers on one machine give equal bits, others agree to about 1e-5.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

from marketplace.gym.policy import Policy
from marketplace.protocol.errors import CheckpointError, ConfigError
from marketplace.storage.pending import publish_folder
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.devices import CPU, find_device, placed
from trainer.distributed import (
    FAILED_NAME,
    METRICS_NAME,
    STARTER_VARIABLE,
    STEP_MARK,
    WEIGHTS_NAME,
    Job,
    read_job,
    tie_to_parent,
    write_job,
)
from trainer.grpo import StepMetrics, TurnMetrics
from trainer.measures import step_of
from trainer.state import TrainState, run_digest
from trainer.verify import PolicyOf

import torch  # isort: skip  (after the policy, which sets how its threads wait)
import torch.distributed as dist

OnStep = Callable[[int, int, StepMetrics], None]
_SAID_LINES: Final = 40
_FEWEST: Final = 2
"""Processes that any machine may run."""


@dataclass(frozen=True, slots=True)
class Apart:
    """Trains a turn in processes of its own; called as trainer.grpo.train_turn is.

    folder: of the job, kept until the turn is done. parent: of the policy's weights. processes,
    threads: how many, and of each (by default the cores are divided). save_seconds: least time
    between two saved states.
    """

    folder: Path
    parent: Path
    processes: int
    threads: int | None = None
    save_seconds: float = 60.0

    @property
    def machine(self) -> dict[str, int]:
        """What the last bits depend on, for the training record."""
        return {"processes": self.processes, "threads": _threads(self.processes, self.threads)}

    def __call__(
        self,
        policy: Policy,
        groups: Sequence[TrainingGroup],
        settings: TrainSettings,
        *,
        temperature: float,
        behaviour_of: PolicyOf | None = None,
        on_step: OnStep | None = None,
        state: TrainState | None = None,
    ) -> TurnMetrics:
        """The policy's weights are then those that the processes trained. state: not used, they
        keep their own. Raises as `launch`."""
        device, older = policy.device, {}
        for checkpoint in sorted({group.checkpoint for group in groups if group.age}):
            if behaviour_of is not None:
                older[checkpoint] = self._kept(checkpoint, behaviour_of)
        job = Job(self.parent, tuple(groups), settings, temperature, older, self.save_seconds)
        write_job(self.folder, job)
        if device.type == "cuda":  # the processes need its memory
            placed(policy, CPU)
            torch.cuda.empty_cache()
        metrics = launch(
            self.folder, self.processes, threads=self.threads, on_step=on_step, device=device.type
        )
        trained = Policy.load(self.folder / WEIGHTS_NAME).model.state_dict()
        policy.model.load_state_dict(trained)
        placed(policy, device)
        return metrics

    def _kept(self, checkpoint: int, behaviour_of: PolicyOf) -> Path:
        """An earlier checkpoint as a folder that every process can load."""
        place = self.folder / f"older-{checkpoint}"
        if not place.exists():
            part = place.with_name(f".{place.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            older = placed(behaviour_of(checkpoint), CPU)
            older.model.save_pretrained(part)
            older.tokenizer.save_pretrained(part)
            publish_folder(part, place)
        return place


def check_processes(processes: int, device: str = "auto") -> None:
    """ConfigError if this machine can't run so many on the device."""
    if processes < 1:
        raise ConfigError(f"{processes} processes can't train", fix="use 1 or more")
    if not dist.is_available():
        raise ConfigError(
            "this build of torch has no torch.distributed",
            fix="install one that has, or train in one process",
        )
    gpus = torch.cuda.device_count() if find_device(device).type == "cuda" else 0
    if gpus and processes > gpus:
        raise ConfigError(
            f"{processes} processes need as many GPUs, and there are {gpus}",
            fix=f"use --processes {gpus}, or --device cpu to train on processors",
        )
    cores = os.cpu_count() or 1
    if not gpus and processes > max(_FEWEST, cores):
        raise ConfigError(
            f"{processes} processes would share {cores} cores, and each holds a model in memory",
            fix=f"use --processes {max(_FEWEST, cores)} at most",
        )
    if not gpus and not dist.is_gloo_available():
        raise ConfigError(
            "this build of torch has no gloo, by which processes without a GPU talk",
            fix="install one that has, or train in one process",
        )


def launch(
    folder: str | Path,
    processes: int,
    *,
    threads: int | None = None,
    on_step: OnStep | None = None,
    device: str = "auto",
) -> TurnMetrics:
    """Run the job in a folder on so many processes of this machine; the turn's metrics.

    threads: of each process; by default the cores are divided. device: one GPU for each process,
    or processors only. on_step: called with (steps done,
    steps in all, metrics), also for steps of an earlier run that the saved state holds. The
    weights are then in folder/weights. A job that is done is not run again; what another job left
    in the folder is not taken for it. Raises ConfigError
    (check_processes); CheckpointError if a process fails, with what it said; the same call goes
    on from the last saved state.
    """
    path = Path(folder)
    check_processes(processes, device)
    if not _is_done(path):
        (path / METRICS_NAME).unlink(missing_ok=True)
        shutil.rmtree(path / FAILED_NAME, ignore_errors=True)
        _run(path, processes, _threads(processes, threads), on_step, find_device(device))
    elif on_step is not None:
        done = _metrics(path).steps
        for number, step in enumerate(done, 1):
            on_step(number, len(done), step)
    return _metrics(path)


def _is_done(path: Path) -> bool:
    if not (path / METRICS_NAME).exists():
        return False
    job = read_job(path)
    return bool(_plain(path).get("run") == run_digest(job.settings, job.groups))


def _run(
    path: Path, processes: int, threads: int, on_step: OnStep | None, device: torch.device
) -> None:
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device.type == "cpu" else {}
    # torchrun picks a free port by itself (--standalone): two runs don't meet.
    started = subprocess.Popen(
        [
            *(sys.executable, "-m", "trainer.launching", "--standalone"),
            *("--nproc-per-node", str(processes), "-m", "trainer.distributed", str(path)),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            STARTER_VARIABLE: str(os.getpid()),
            **hidden,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert started.stdout is not None
    assert started.stderr is not None
    said: deque[str] = deque(maxlen=_SAID_LINES)
    reader = Thread(target=_collect, args=(started.stderr, said), daemon=True)
    reader.start()
    try:
        for line in started.stdout:
            if line.startswith(STEP_MARK) and on_step is not None:
                told = json.loads(line.removeprefix(STEP_MARK))
                on_step(told["done"], told["total"], step_of(told["step"]))
        started.wait()
    finally:
        if started.poll() is None:  # interrupted: the processes end with torchrun
            started.kill()
            started.wait()
        reader.join(timeout=5)
    if started.returncode:
        message, fix = _failure(path, said)
        raise CheckpointError(
            f"training on {processes} processes ended with {started.returncode}: {message}",
            fix=fix or "mend what it says and run it again: it goes on from the last saved state",
        )


def _collect(stream: IO[str], said: deque[str]) -> None:
    for line in stream:
        said.append(line)


def _failure(path: Path, said: Sequence[str]) -> tuple[str, str | None]:
    """What the first process to fail left, and what to do; else the end of what all said.

    Where one fails, the others see a connection close: an error that was expected says more.
    """
    notes: list[dict[str, Any]] = []
    for file in (path / FAILED_NAME).glob("*.json"):
        notes.append({"rank": file.stem, **json.loads(file.read_text("utf-8"))})
    if not notes:
        return "".join(said)[-1500:], None
    first = min(notes, key=lambda one: (not one["expected"], one["at"]))
    return f"process {first['rank']}: {first['message']}", first["fix"]


def _plain(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((path / METRICS_NAME).read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{str(path / METRICS_NAME)!r} can't be read: {error}",
        fix="delete it to train the turn again",
    )


def _metrics(path: Path) -> TurnMetrics:
    plain = _plain(path)
    try:
        return TurnMetrics(
            tuple(map(step_of, plain["steps"])),
            plain["groups"],
            plain["traces"],
            plain["tokens"],
            plain["dropped"],
            plain["stopped_early"],
            {int(batch): tokens for batch, tokens in plain["batch_tokens"].items()},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _threads(processes: int, threads: int | None) -> int:
    return threads or max(1, (os.cpu_count() or 1) // processes)


if __name__ == "__main__":
    # torchrun itself, but it doesn't outlive who started it.
    from torch.distributed.run import main

    tie_to_parent()
    os.environ[STARTER_VARIABLE] = str(os.getpid())  # of the processes that it starts
    main(sys.argv[1:])
