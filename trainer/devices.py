"""Which processor or GPU a run computes on, and equal bits there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal, get_args

from marketplace.gym.policy import Policy
from marketplace.protocol.errors import ConfigError

import torch  # isort: skip  (after the policy, which sets how its threads wait)

DeviceName = Literal["auto", "cpu", "cuda"]
CPU: Final = torch.device("cpu")

# Read when a process first multiplies on a GPU, which is before `repeatable`: without it cuBLAS
# adds in no fixed order.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def find_device(asked: str) -> torch.device:
    """The device of a DeviceName; auto is the first GPU that torch sees, else the processor.

    ConfigError for another name, or for a GPU where torch sees none.
    """
    if asked not in get_args(DeviceName):
        raise ConfigError(
            f"there is no device {asked!r}", fix=f"use one of {', '.join(get_args(DeviceName))}"
        )
    seen = torch.cuda.is_available()
    if asked == "cuda" and not seen:
        raise ConfigError(
            "torch sees no GPU" if torch.version.cuda else "this build of torch is without CUDA",
            fix="use --device cpu, or install a driver and a torch with CUDA",
        )
    if asked == "cpu" or not seen:
        return CPU
    return torch.device("cuda", 0)


def placed(policy: Policy, device: torch.device) -> Policy:
    """The policy with its weights on the device, in place."""
    model: Any = policy.model
    model.to(device)
    return policy


def device_record(device: torch.device) -> dict[str, str]:
    """What a training record says of the device; nothing of a processor."""
    if device.type != "cuda":
        return {}
    return {"gpu": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Within it equal inputs give equal bits on the device. A processor does so by itself; a GPU
    adds in the order in which its threads arrive unless it is told not to."""
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
