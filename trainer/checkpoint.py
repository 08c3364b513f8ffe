"""Saves a checkpoint folder: weights, config, tokenizer, and what they came from.

    model.safetensors, config.json, generation_config.json, tokenizer.json, ...
    sampling.json   the sampling rules that its traces must follow
    training.json   parent, dataset, settings, metrics, evaluation; package versions, revision and
                    machine, so that the run can be repeated

No time and no path goes into any file, so the same weights and record give the same CID. The
folder goes to a content store with marketplace.storage.checkpoints.put_checkpoint.
"""

from __future__ import annotations

import copy
import json
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from safetensors import SafetensorError

from marketplace.gym.policy import Policy
from marketplace.gym.spec import SamplingSpec
from marketplace.protocol import strict_json
from marketplace.protocol.errors import CheckpointError
from marketplace.storage.pending import publish_folder
from trainer.records import MAX_LEVELS, SAMPLING_NAME, TRAINING_NAME

import torch  # isort: skip  (after the policy, which sets how its threads wait)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ORIGIN_KEYS: Final = ("_name_or_path", "name_or_path", "is_local", "local_files_only")
PACKAGES: Final = (
    "tracemarket", "torch", "transformers", "tokenizers", "safetensors", "numpy", "peft",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """Where weights came from. All of it plain JSON data.

    parent: checkpoint id, None for a base model. dataset: batches, roots and counts. settings:
    of the run. metrics: what the run measured. evaluation: before and after, on held-out tasks;
    None where nothing was evaluated. machine: over what `machine` says of this process.
    """

    parent: int | None
    dataset: Mapping[str, Any]
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    machine: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(
    policy: Policy,
    folder: str | Path,
    *,
    sampling: SamplingSpec,
    record: TrainingRecord,
    half: bool = False,
) -> Path:
    """Write the policy to a new folder, which appears in one step, complete.

    half: in bf16; the weights must fit (rounding.round_weights), so that what is registered is
    what was trained and evaluated. Raises CheckpointError if the folder exists already, a weight
    is not finite or the disk is full.
    """
    path = new_path(folder)
    for name, weights in policy.model.named_parameters():
        if not bool(weights.isfinite().all()):
            raise CheckpointError(
                f"weight {name} is not finite", fix="lower learning_rate and train again"
            )
    with whole_folder(path) as made:
        (_halved(policy.model) if half else policy.model).save_pretrained(made)
        policy.tokenizer.save_pretrained(made)
        for name in ("config.json", "tokenizer_config.json"):
            _forget_origin(made / name)
        write_records(made, sampling, record)
    return path


def new_path(folder: str | Path) -> Path:
    """Where a module is to be saved, absolute. CheckpointError where something is already."""
    path = Path(folder).absolute()
    if path.exists():
        raise CheckpointError(f"{str(path)!r} exists already", fix="save to a new folder")
    return path


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which then appears as `path` in one step, complete and on disk.

    Raises CheckpointError where it can't be written, also by what fills it."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with (
        _writing(path),
        tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as work,
    ):
        made = Path(work) / "module"
        made.mkdir()
        yield made
        for file in made.iterdir():
            file.chmod(0o644)  # safetensors writes its file for the owner only
        publish_folder(made, path)


def _halved(model: PreTrainedModel) -> PreTrainedModel:
    for name, weights in model.named_parameters():
        if not bool((weights.to(torch.bfloat16).float() == weights).all()):
            raise CheckpointError(f"weight {name} does not fit bf16", fix="round the weights first")
    made = copy.deepcopy(model)
    return made.to(torch.bfloat16)  # type: ignore[arg-type]


def write_records(folder: Path, sampling: SamplingSpec | None, record: TrainingRecord) -> None:
    """sampling.json and training.json: what every module has beside its weights.

    sampling: None for modules of several environments.
    """
    if sampling is not None:
        write_json(folder / SAMPLING_NAME, sampling.model_dump(mode="json"))
    write_json(
        folder / TRAINING_NAME,
        {
            "v": 1,
            "parent": record.parent,
            "dataset": dict(record.dataset),
            "settings": dict(record.settings),
            "metrics": dict(record.metrics),
            "packages": package_versions(),
            "revision": source_revision(),
            "machine": {**machine(), **record.machine},
        },
    )


def read_record(folder: str | Path) -> dict[str, Any]:
    """training.json of a checkpoint folder. CheckpointError if there is none or it is not JSON."""
    path = Path(folder) / TRAINING_NAME
    try:
        record = strict_json.loads(path.read_text("utf-8"), depth=MAX_LEVELS)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} can't be read: {error}") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{str(path)!r} holds no object")
    return record


def package_versions() -> dict[str, str]:
    """Versions of what computes the weights; "none" for what is not installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    # safetensors has an error of its own for a write that fails.
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"can't write the checkpoint to {str(path)!r}: {error}",
            fix="free disk space or name another folder",
        ) from error


def source_revision(file: str | Path = __file__) -> str:
    """The git commit that this code was run from, with "-dirty" where tracked files differ from
    it; "unknown" where it was not run from a checkout."""
    path = Path(file).resolve()
    try:
        # An installed copy inside somebody's repository is not tracked by it.
        _git(path.parent, "ls-files", "--error-unmatch", path.name)
        revision = _git(path.parent, "rev-parse", "HEAD")
        changed = _git(path.parent, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{revision}-dirty" if changed else revision


def machine() -> dict[str, Any]:
    """What else the last bits of a run depend on."""
    return {
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


def _forget_origin(config: Path) -> None:
    """Take out where the parent was loaded from: this machine's paths are nobody's business."""
    record = json.loads(config.read_text("utf-8"))
    for key in _ORIGIN_KEYS:
        record.pop(key, None)
    write_json(config, record)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """The same record gives the same bytes."""
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", "utf-8")
