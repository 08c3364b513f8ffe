"""A turn on several processes: weights, gradients and moments sharded, packs divided.

    python -m torch.distributed.run --nproc-per-node 2 -m trainer.distributed FOLDER

FSDP2 (torch's fully_shard, as accelerate sets it up for a transformers model): every layer is
gathered for its own forward and backward only. gloo between processors, NCCL between GPUs, there
in bf16 with flex attention if the settings say so. Each process runs its share of a step's packs;
gradients are summed over all with the step's one denominator, so it does not matter how many
packs each one had. Loss and weights are those of one process, up to the order of additions.

FOLDER holds what `write_job` put there and gets, from the first process,

    state/      sharded checkpoints (trainer/sharded.py): a killed run started again goes on from
                the last one, also with another number of processes
    weights/    the trained model, in one step, complete
    metrics.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from marketplace.gym.policy import Policy
from marketplace.gym.team import Team
from marketplace.protocol.errors import CheckpointError, ConfigError
from trainer.config import TrainSettings, parse_settings
from trainer.data import TrainingGroup
from trainer.grpo import StepMetrics, TurnMetrics, train_turn
from trainer.sharded import load_sharded, save_sharded
from trainer.state import TrainState, write_atomically

import torch  # isort: skip  (after the policy, which sets how its threads wait)
import torch.distributed as dist

JOB_NAME: Final = "job.json"
METRICS_NAME: Final = "metrics.json"
WEIGHTS_NAME: Final = "weights"
STATE_NAME: Final = "state"

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
    """A turn to run: the parent's folder, its traces and how to train on them."""

    parent: Path
    groups: tuple[TrainingGroup, ...]
    settings: TrainSettings
    temperature: float


def write_job(folder: str | Path, job: Job) -> Path:
    """Write a job for `python -m trainer.distributed`."""
    from pydantic import TypeAdapter

    path = Path(folder) / JOB_NAME
    plain = {
        "v": 1,
        "parent": str(job.parent.absolute()),
        "temperature": job.temperature,
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
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"the job {str(path)!r} can't be read: {str(error)[:300]}",
            fix="write it with trainer.distributed.write_job",
        ) from error


def launch(folder: str | Path, processes: int, *, threads: int | None = None) -> dict[str, Any]:
    """Run the job in a folder on so many processes of this machine; the turn's metrics.

    threads: of each process; by default the cores are divided. The weights are then in
    folder/weights. CheckpointError if a process fails, with the end of what it said; the same
    call goes on from the last saved state.
    """
    if processes < 1:
        raise ConfigError(f"{processes} processes can't train", fix="use 1 or more")
    each = threads or max(1, (os.cpu_count() or 1) // processes)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(processes), "-m", "trainer.distributed", str(folder)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": str(each)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CheckpointError(
            f"training on {processes} processes ended with {done.returncode}: "
            f"{done.stderr[-1500:]}",
            fix="mend what it says and run it again: it goes on from the last saved state",
        )
    metrics: dict[str, Any] = json.loads((Path(folder) / METRICS_NAME).read_text("utf-8"))
    return metrics


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


def shard(policy: Policy, team: Team, settings: TrainSettings) -> Policy:
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
        move: Any = policy.model
        move.cuda()
        if settings.precision != "fp32":
            policy.model.set_attn_implementation("flex_attention")
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
        policy.model.save_pretrained(part, state_dict=whole)
        policy.tokenizer.save_pretrained(part)
        part.rename(folder)
    policy.team.wait()


def train_job(folder: str | Path, job: Job, team: Team) -> TurnMetrics:
    """Run a job as one of the team, from the last state saved in the folder if there is one.

    Raises CheckpointError, ConfigError.
    """
    path = Path(folder)
    policy = shard(Policy.load(job.parent), team, job.settings)
    state = load_sharded(policy, path / STATE_NAME) or TrainState()

    def keep(done: int, total: int, step: StepMetrics) -> None:
        save_sharded(state, path / STATE_NAME, team)

    metrics = train_turn(
        policy,
        job.groups,
        job.settings,
        temperature=job.temperature,
        state=state,
        on_step=keep,
    )
    save_whole(policy, path / WEIGHTS_NAME)
    return metrics


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    (folder,) = arguments
    if (Path(folder) / WEIGHTS_NAME).exists():
        raise ConfigError(
            f"{folder}/{WEIGHTS_NAME} exists already", fix="name the folder of another job"
        )
    job = read_job(folder)
    team = join()
    try:
        metrics = train_job(folder, job, team)
        if team.rank == 0:
            data = json.dumps(metrics.summary(), indent=1, sort_keys=True) + "\n"
            write_atomically(Path(folder) / METRICS_NAME, data.encode())
        team.wait()
    finally:
        dist.destroy_process_group()
    return 0


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
