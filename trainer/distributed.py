"""A turn on several processes: weights, gradients and moments sharded, packs divided.

    python -m torch.distributed.run --nproc-per-node 2 -m trainer.distributed FOLDER

`tracemarket train --processes 2` does it through trainer/launching.py.

FSDP2 (torch's fully_shard, as accelerate sets it up for a transformers model): every layer is
gathered for its own forward and backward only. gloo between processors, NCCL between GPUs. Each
process runs its share of a step's packs; gradients are summed over all with the step's one
denominator, so it does not matter how many packs each one had. Loss and weights are those of one
process, up to the order of additions.

FOLDER holds what `write_job` put there and gets, from the first process,

    state/      sharded checkpoints (trainer/sharded.py): a killed run started again goes on from
                the last one, also with another number of processes
    weights/    the trained model, in one step, complete
    metrics.json    written last: the turn is done, and which one it was
    failed/     of a run that failed: what each process said

The first process tells each step on its standard output, one line of JSON behind STEP_MARK.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from marketplace.gym.policy import Policy
from marketplace.gym.team import Team
from marketplace.protocol.errors import ConfigError, TracemarketError
from marketplace.storage.pending import publish_folder
from trainer.config import TrainSettings, parse_settings
from trainer.data import TrainingGroup
from trainer.devices import placed, repeatable
from trainer.grpo import StepMetrics, TurnMetrics, train_turn
from trainer.measures import step_of
from trainer.sharded import load_sharded, save_sharded
from trainer.state import TrainState, run_digest, write_atomically

import torch  # isort: skip  (after the policy, which sets how its threads wait)
import torch.distributed as dist

JOB_NAME: Final = "job.json"
METRICS_NAME: Final = "metrics.json"
WEIGHTS_NAME: Final = "weights"
STATE_NAME: Final = "state"
FAILED_NAME: Final = "failed"
LOCK_NAME: Final = "lock"
STEP_MARK: Final = "tracemarket-step "

STARTER_VARIABLE: Final = "TRACEMARKET_STARTED_BY"
"""Environment variable with the number of the process that started this one."""

_LOCK_SECONDS: Final = 20.0
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h

_T = TypeVar("_T")


class Ranks(Team):
    """The processes of torch.distributed."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def share(self, items: Iterable[_T]) -> Iterator[tuple[_T, bool]]:
        every = list(items)
        mine = every[self.rank :: self.count]
        yield from ((item, True) for item in mine)
        if len(mine) < -(-len(every) // self.count):
            # The layers of the others come from here too: this process has to take part.
            yield every[-1], False

    def gather(self, mine: _T) -> list[_T]:
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, mine)
        return parts

    def weight(self, counts: bool) -> float:
        # FSDP averages gradients over the processes.
        return float(self.count) if counts else 0.0

    def wait(self) -> None:
        dist.barrier()


@dataclass(frozen=True, slots=True)
class Job:
    """A turn to run: the parent's folder, its traces and how to train on them.

    older: folders of the earlier checkpoints that groups with an age come from. save_seconds:
    least time between two saved states; 0 saves after every step.
    """

    parent: Path
    groups: tuple[TrainingGroup, ...]
    settings: TrainSettings
    temperature: float
    older: Mapping[int, Path] = field(default_factory=dict)
    save_seconds: float = 0.0


def write_job(folder: str | Path, job: Job) -> Path:
    """Write a job for `python -m trainer.distributed`."""
    from pydantic import TypeAdapter

    path = Path(folder) / JOB_NAME
    plain = {
        "v": 1,
        "parent": str(job.parent.absolute()),
        "temperature": job.temperature,
        "older": {str(number): str(place.absolute()) for number, place in job.older.items()},
        "save_seconds": job.save_seconds,
        "settings": job.settings.model_dump(mode="json"),
        "groups": TypeAdapter(tuple[TrainingGroup, ...], config=_HEX).dump_python(
            job.groups, mode="json"
        ),
    }
    write_atomically(path, json.dumps(plain, allow_nan=False).encode())
    return path


def read_job(folder: str | Path) -> Job:
    """The job in a folder. ConfigError if there is none or it can't be read."""
    from pydantic import TypeAdapter

    path = Path(folder) / JOB_NAME
    try:
        plain = json.loads(path.read_text("utf-8"))
        groups = TypeAdapter(tuple[TrainingGroup, ...], config=_HEX).validate_python(
            plain["groups"]
        )
        return Job(
            Path(plain["parent"]),
            groups,
            parse_settings(plain["settings"], source=str(path)),
            float(plain["temperature"]),
            {int(number): Path(place) for number, place in plain["older"].items()},
            float(plain["save_seconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"the job {str(path)!r} can't be read: {str(error)[:300]}",
            fix="write it with trainer.distributed.write_job",
        ) from error


def join() -> Ranks:
    """This process's place among those that torchrun started."""
    from accelerate import PartialState

    # Its own start-up, because it knows every kind of device and picks the backend that fits.
    PartialState(cpu=not torch.cuda.is_available())
    if not dist.is_initialized():
        raise ConfigError(
            "this process was not started by torchrun",
            fix="python -m torch.distributed.run --nproc-per-node 2 -m trainer.distributed FOLDER",
        )
    return Ranks()


def shard(policy: Policy, team: Team) -> Policy:
    """The policy with its weights divided over the team, in place. Changes nothing else."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model

    layers = getattr(policy.model, "_no_split_modules", None)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=sorted(layers) if layers else None,
        cpu_ram_efficient_loading=False,
    )
    if torch.cuda.is_available():
        placed(policy, torch.device("cuda", torch.cuda.current_device()))
    # Accelerator itself offers FSDP on accelerators only; what it calls works with gloo as well.
    sharded = fsdp2_prepare_model(_Accelerator(_State(plugin), team.rank == 0), policy.model)
    # Of the outermost layers too: a pass without backward would leave them whole, and who asks for
    # the model's parameters then gets some that are gone after the next step.
    sharded.set_reshard_after_forward(True)
    return replace(policy, model=sharded, team=team)


def save_whole(policy: Policy, folder: Path) -> None:
    """The sharded model as one folder of safetensors, written by the first process."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    whole = get_model_state_dict(
        policy.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if policy.team.rank == 0:
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        policy.model.save_pretrained(part, state_dict=whole)
        policy.tokenizer.save_pretrained(part)
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed before its metrics
        publish_folder(part, folder)
    policy.team.wait()


def train_job(
    folder: str | Path,
    job: Job,
    team: Team,
    *,
    tell: Callable[[int, int, StepMetrics], None] = lambda done, total, step: None,
    clock: Callable[[], float] = time.monotonic,
) -> TurnMetrics:
    """Run a job as one of the team, from the last state saved in the folder if there is one.

    tell: takes each step, also those of the saved state. Raises CheckpointError, ConfigError.
    """
    path = Path(folder)
    policy = shard(Policy.load(job.parent), team)
    state = load_sharded(policy, path / STATE_NAME) or TrainState()
    before, saved = [step_of(one) for one in state.steps], clock()

    def again(total: int) -> None:
        for number, one in enumerate(before, 1):
            tell(number, total, one)
        before.clear()

    def keep(done: int, total: int, step: StepMetrics) -> None:
        nonlocal saved
        again(total)
        # All must save together, so the first one's clock decides.
        if team.gather(clock() - saved >= job.save_seconds)[0]:
            save_sharded(state, path / STATE_NAME, team)
            saved = clock()
        tell(done, total, step)

    with repeatable(policy.device):
        metrics = train_turn(
            policy,
            job.groups,
            job.settings,
            temperature=job.temperature,
            behaviour_of=lambda number: shard(Policy.load(job.older[number]), team),
            state=state,
            on_step=keep,
        )
    again(len(metrics.steps))  # killed behind the last step
    save_whole(policy, path / WEIGHTS_NAME)
    return metrics


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    tie_to_parent()
    with _failing(folder):
        if (folder / METRICS_NAME).exists():
            raise ConfigError(
                f"the job in {str(folder)!r} is done", fix="name the folder of another job"
            )
        job = read_job(folder)
        with _alone_in(folder):
            team = join()
            try:
                metrics = train_job(folder, job, team, tell=_tell if team.rank == 0 else _silent)
                if team.rank == 0:
                    plain = {
                        **metrics.summary(),
                        "batch_tokens": metrics.batch_tokens,
                        "run": run_digest(job.settings, job.groups),
                    }
                    data = json.dumps(plain, indent=1, sort_keys=True) + "\n"
                    write_atomically(folder / METRICS_NAME, data.encode())
                team.wait()
            finally:
                dist.destroy_process_group()
    return 0


def tie_to_parent() -> None:
    """Let the kernel kill this process when the one that started it is gone: after a kill -9 of
    the command nothing of it must go on writing. Linux only; elsewhere it ends by itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Gone already: loading torch, before this is called, takes seconds.
    if os.environ.get(STARTER_VARIABLE, str(os.getppid())) != str(os.getppid()):
        os.kill(os.getpid(), signal.SIGKILL)


def _tell(done: int, total: int, step: StepMetrics) -> None:
    plain = {"done": done, "total": total, "step": asdict(step)}
    print(STEP_MARK + json.dumps(plain), flush=True)


def _silent(done: int, total: int, step: StepMetrics) -> None:
    pass


@contextmanager
def _failing(folder: Path) -> Iterator[None]:
    """Leave in the folder what this process ended with, for whoever started it."""
    try:
        yield
    except Exception as error:
        message = f"{type(error).__name__}: {error}"[:2000]
        plain: dict[str, Any] = {"message": message, "fix": None, "expected": False}
        if isinstance(error, TracemarketError):
            plain = {"message": error.message, "fix": error.fix, "expected": True}
        plain["at"] = time.time()
        name = f"{os.environ.get('RANK', '0')}.json"
        with suppress(TracemarketError):  # no disk, no note
            write_atomically(folder / FAILED_NAME / name, json.dumps(plain).encode())
        raise


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock in the first process. Two runs would write over each other."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with (folder / LOCK_NAME).open("w") as lock:
        for attempt in range(int(_LOCK_SECONDS / 0.5)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # perhaps of a run that was just killed
                time.sleep(0.5 if attempt else 0.05)
        else:
            raise ConfigError(
                f"another run trains in {str(folder)!r}", fix="wait for it, or end it first"
            )
        yield


@dataclass(frozen=True, slots=True)
class _State:
    fsdp_plugin: Any


@dataclass(frozen=True, slots=True)
class _Accelerator:
    """What fsdp2_prepare_model asks of an Accelerator."""

    state: _State
    is_main_process: bool
    mixed_precision: str = "no"
    torch_device_mesh: None = None


_HEX: Final[Any] = {"ser_json_bytes": "hex", "val_json_bytes": "hex", "arbitrary_types_allowed": 1}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
