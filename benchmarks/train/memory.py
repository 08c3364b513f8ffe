"""Peak memory of one side's step, in a process of its own.

    python benchmarks/train/memory.py '{"side": "ours", "model": "small", ...}'

Resident memory with the model loaded and its pages touched is the baseline; the kernel's own
high-water mark, set back at that point (/proc/self/clear_refs), is the peak over two optimizer
steps. Gradients and AdamW's two moments, which both sides hold alike, are in the peak; the second
figure leaves them out.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement. traces: label of the traces that sides share. length: of completions."""

    side: str
    traces: str
    prompt: int
    group: int
    length: int
    budget: int = 0
    micro_batch: int = 0
    recompute: bool = False


def main(asked: dict[str, Any]) -> dict[str, Any]:
    model = asked.pop("model")
    case = Case(**asked)

    import peer
    import torch
    import work

    # Allocations of tensors go back to the system when freed, as the peak needs to be exact.
    ctypes.CDLL("libc.so.6").mallopt(-3, 1 << 20)
    policy = work.load(model)
    traces = work.draw(
        policy, prompt=case.prompt, group=case.group, shortest=case.length, longest=case.length
    )
    # Random ones: the peak needs no model's.
    old = tuple((-9.0,) * case.length for _ in range(case.group))
    traces = work.replace(traces, old=old)
    side: work.Ours | peer.Peer
    if case.side == "ours":
        side = work.Ours(policy, budget=case.budget, recompute=case.recompute)
    else:
        side = peer.Peer(
            policy,
            group=case.group,
            micro_batch=case.micro_batch,
            recompute=case.recompute,
        )
    weights = sum(one.numel() * one.element_size() for one in policy.model.parameters())
    with torch.no_grad():
        _ = [float(one.sum()) for one in policy.model.parameters()]
        a = torch.ones(64, 64)
        _ = a @ a
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    for _ in range(2):
        side.step(traces)
    peak = _status("VmHWM") - before
    return {**asdict(case), "peak": peak, "above_states": peak - 3 * weights, "weights": weights}


def _status(name: str) -> int:
    """Bytes, from the kernel's account of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
