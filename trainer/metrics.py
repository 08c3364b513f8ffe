"""Streams of a run's measures: one record for each optimizer step, and one for each turn.

    jsonl         metrics.jsonl in the run folder
    tensorboard   event files in its tensorboard/ (torch.utils.tensorboard)
    wandb         Weights & Biases, where it is installed; offline unless WANDB_API_KEY is set
    trackio       Trackio, where it is installed

After an interruption a run goes on behind its last saved step: steps that were told and then
lost are told again, with the same values. metrics.jsonl is cut back to what was saved first, and
TensorBoard's files are told to drop them. The services take nothing back: Trackio then holds two
equal records of a step, W&B (offline) a second folder of the same run id that begins with them.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from marketplace.protocol.errors import ConfigError
from trainer.grpo import StepMetrics
from trainer.state import write_atomically

METRICS_NAME: Final = "metrics.jsonl"

Values = Mapping[str, float]


class Stream(Protocol):
    """Takes measures by name. step: optimizer steps of the whole run."""

    def tell(self, step: int, values: Values) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line, flushed at once."""

    def __init__(self, folder: Path, steps: int) -> None:
        path = folder / METRICS_NAME
        kept = b"".join(line + b"\n" for line in _lines(path) if _step_of(line) <= steps)
        write_atomically(path, kept)
        self._file = path.open("a", encoding="utf-8")

    def tell(self, step: int, values: Values) -> None:
        self._file.write(json.dumps({"step": step, **values}, sort_keys=True) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Event files; a viewer drops what came after `steps` in older ones."""

    def __init__(self, folder: Path, steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(
            str(folder / "tensorboard"), purge_step=steps + 1, flush_secs=10
        )

    def tell(self, step: int, values: Values) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A run of Weights & Biases, the same one after an interruption."""

    def __init__(self, folder: Path, run: str, config: Mapping[str, Any]) -> None:
        import wandb

        self._run: Any = wandb.init(
            project="tracemarket",
            id=run,
            name=folder.name,
            dir=str(folder),
            config=dict(config),
            resume="allow",
            mode="online" if os.environ.get("WANDB_API_KEY") else "offline",
        )

    def tell(self, step: int, values: Values) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run of Trackio, on this machine, the same one after an interruption."""

    def __init__(self, folder: Path, run: str, config: Mapping[str, Any]) -> None:
        import trackio

        self._trackio: Any = trackio
        trackio.init(project="tracemarket", name=run, config=dict(config), resume="allow")

    def tell(self, step: int, values: Values) -> None:
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        self._trackio.finish()


class Streams:
    """Several streams as one."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams

    def tell(self, step: int, values: Values) -> None:
        for stream in self._streams:
            stream.tell(step, values)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


STREAMS: Final[dict[str, tuple[str | None, Callable[..., Stream]]]] = {
    "jsonl": (None, lambda folder, steps, run, config: JsonLines(folder, steps)),
    "tensorboard": ("tensorboard", lambda folder, steps, run, config: TensorBoard(folder, steps)),
    "wandb": ("wandb", lambda folder, steps, run, config: Wandb(folder, run, config)),
    "trackio": ("trackio", lambda folder, steps, run, config: Trackio(folder, run, config)),
}
"""By name: the package it needs, and how it is opened."""


def parse_streams(text: str) -> tuple[str, ...]:
    """Names in a list with commas. ConfigError for one that there is not, or is not installed."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in STREAMS:
            raise ConfigError(
                f"there is no metrics stream {name!r}", fix=f"use {', '.join(STREAMS)}"
            )
        package = STREAMS[name][0]
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"metrics stream {name!r} needs {package}, which is not installed",
                fix=f"pip install {package}",
            )
    return tuple(dict.fromkeys(names))


def open_streams(
    names: Sequence[str], folder: Path, *, steps: int, run: str, config: Mapping[str, Any]
) -> Streams:
    """steps: of the run that are done and saved; what was told beyond them is dropped."""
    return Streams([STREAMS[name][1](folder, steps, run, config) for name in names])


def step_values(metrics: StepMetrics) -> dict[str, float]:
    """A step's measures by name, grouped by what stands before the slash."""
    median, ninety, ninety_nine = metrics.kl_quantiles
    return {
        "train/loss": metrics.loss,
        "train/grad_norm": metrics.grad_norm,
        "train/ratio": metrics.mean_ratio,
        "train/effective_share": metrics.effective_share,
        "train/clipped_share": metrics.clipped_share,
        "train/tokens": float(metrics.tokens),
        "kl/median": median,
        "kl/90": ninety,
        "kl/99": ninety_nine,
        "traces/score": metrics.mean_score,
        "traces/length": metrics.mean_length,
        **{f"masked/{reason}": share for reason, share in metrics.masked.items()},
    }


def _lines(path: Path) -> list[bytes]:
    """Whole lines only: a kill may have cut the last one."""
    data = path.read_bytes() if path.exists() else b""
    return data.split(b"\n")[:-1]


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
