"""Our training step against TRL's GRPO step on one GPU, both in bf16, interleaved in one run.

    python benchmarks/train/gpu.py [--repeats N] [--out FOLDER]

Writes gpu.json and gpu.md. A step is many groups here: one alone does not fill a GPU. Weights are
random, of the shapes of published models; what a step costs does not depend on their values.
Peak memory is what torch allocated at most during a step, above weights, gradients and moments.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final
from unittest import mock

import gpu_report
import work
from peer import Peer, padded
from run import PACKAGES, say, useful_flops
from work import MAX_NORM, TEMPERATURE, Ours, Outcome, Policy, Traces

from marketplace.gym.packing import pack_groups, prefetched
from marketplace.gym.policy import pack_logprobs
from trainer import forward
from trainer.devices import find_device, repeatable
from trainer.forward import training_forward

import torch  # isort: skip  (after the policy, which sets how its threads wait)

SHAPES: Final = {
    # layers, width, inner width, heads, key heads: of SmolLM2-135M and SmolLM2-1.7B
    "135M": (30, 576, 1536, 9, 3),
    "1.7B": (24, 2048, 8192, 32, 32),
    "toy": (2, 64, 128, 4, 2),
}
VOCABULARY: Final = 49_152
ATTENTIONS: Final = ("flex", "blocks", "dense")


@dataclass(frozen=True, slots=True)
class Point:
    """groups of `group` completions of shortest to longest tokens, spread evenly. budget: nodes of
    our packs. micro_batches: traces at once that TRL may choose from."""

    model: str
    prompt: int
    group: int
    groups: int
    shortest: int
    longest: int
    micro_batches: tuple[int, ...]
    budget: int = 32_768


POINTS: Final = (
    Point("135M", 256, 8, 16, 64, 192, (16, 128)),
    Point("1.7B", 256, 8, 16, 64, 192, (16, 32), budget=16_384),
    Point("135M", 256, 8, 48, 64, 192, (64, 128), budget=65_536),
    Point("135M", 1024, 8, 16, 128, 512, (16, 64)),
    Point("1.7B", 1024, 8, 8, 128, 512, (8, 16), budget=16_384),
)


def load(name: str, device: torch.device) -> Policy:
    """A random model of a published shape."""
    layers, width, inner, heads, key_heads = SHAPES[name]
    return work.llama(
        layers=layers,
        width=width,
        inner=inner,
        heads=heads,
        key_heads=key_heads,
        vocabulary=VOCABULARY,
        context=8192,
        device=device,
    )


class GpuOurs(Ours):
    """Our step over many groups."""

    precision: forward.Precision = "bf16"

    def many(self, every: list[Traces]) -> Outcome:
        self.optimizer.zero_grad(set_to_none=True)
        total, tokens = 0.0, sum(one.tokens for one in every)
        packs = prefetched(pack_groups([one.group for one in every], self.budget))
        for pack in packs:
            with training_forward(
                self.policy.model, precision=self.precision, recompute=self.recompute
            ):
                logprobs = pack_logprobs(self.policy, pack, TEMPERATURE)
            rows, old, advantages = self._gathered(pack, every)
            ratio = (logprobs[rows] - old).exp()
            clipped = ratio.clamp(work.LOW, work.HIGH)
            loss = -torch.minimum(ratio * advantages, clipped * advantages).sum() / tokens
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
        self.optimizer.step()
        return Outcome(total, float(norm))

    def _gathered(self, pack: Any, every: list[Traces]) -> Iterator[torch.Tensor]:
        rows: list[int] = []
        old: list[float] = []
        advantages: list[float] = []
        for span in pack.spans:
            traces = every[span.group]
            rows += span.rows.tolist()
            old += traces.old[span.completion]
            advantages += [traces.advantages[span.completion]] * len(span.rows)
        return (torch.tensor(one, device=self.policy.device) for one in (rows, old, advantages))


class GpuPeer(Peer):
    """TRL's step over many groups, micro-batches across them. Prompts are of one length."""

    def many(self, every: list[Traces]) -> Outcome:
        flat = [(one, place) for one in every for place in range(len(one.advantages))]
        tokens = sum(one.tokens for one in every)
        device = next(self.model.parameters()).device
        starts = range(0, len(flat), self.micro_batch)
        return self.over(
            _together(flat[one : one + self.micro_batch], tokens, device) for one in starts
        )


def _together(
    some: list[tuple[Traces, int]], tokens: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Inputs of single traces side by side, completions padded to the longest."""
    parts = [padded(traces, slice(place, place + 1)) for traces, place in some]
    widest = max(one["completion_ids"].shape[1] for one in parts)
    made: dict[str, torch.Tensor] = {}
    for name in parts[0]:
        if name == "num_items_in_batch":
            made[name] = torch.tensor(float(tokens), device=device)
            continue
        rows = [one[name] for one in parts]
        if name.startswith(("completion", "old")):
            filler = 2 if name == "completion_ids" else 0
            rows = [
                torch.nn.functional.pad(row, (0, widest - row.shape[1]), value=filler)
                for row in rows
            ]
        made[name] = torch.cat(rows).to(device)
    return made


@contextmanager
def attending(how: str) -> Iterator[None]:
    """Within it our step attends by flex attention, blocks or a dense mask."""
    with mock.patch.object(forward, "takes_flex", return_value=how == "flex"):
        if how == "dense":
            with mock.patch("marketplace.gym.policy.tree_blocks", return_value=None):
                yield
        else:
            yield


def clocked(step: Callable[[], Any]) -> tuple[Any, float, int]:
    """Result, seconds and peak of allocated bytes above what was allocated before."""
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.synchronize()
    started = time.perf_counter()
    result = step()
    torch.cuda.synchronize()
    took = time.perf_counter() - started
    return result, took, torch.cuda.max_memory_allocated() - before


def drawn(policy: Policy, point: Point) -> list[Traces]:
    """The point's groups, with old log-probabilities."""
    every = []
    for seed in range(point.groups):
        traces = work.draw(
            policy,
            prompt=point.prompt,
            group=point.group,
            shortest=point.shortest,
            longest=point.longest,
            seed=seed,
        )
        every.append(work.with_old(policy, traces, point.budget))
    return every


def compare(point: Point, repeats: int, device: torch.device) -> dict[str, Any]:
    """Both sides in turn, from equal weights."""
    policy, theirs = load(point.model, device), load(point.model, device)
    every = drawn(policy, point)
    ours = GpuOurs(policy, budget=point.budget)
    exact = _exact(ours, theirs, every) if point is POINTS[0] else {}
    peer = GpuPeer(
        theirs, group=point.group, micro_batch=point.micro_batches[0], gpu=device.type == "cuda"
    )

    # Warm up, compile, choose: none of it counts.
    tried: dict[str, float] = {}
    for how in ATTENTIONS if point is POINTS[0] else ATTENTIONS[:1]:
        with attending(how):
            ours.many(every)
            tried[how] = clocked(lambda: ours.many(every))[1]
    micro: dict[int, float] = {}
    for size in point.micro_batches:
        peer.micro_batch = size
        try:
            peer.many(every)
            micro[size] = clocked(lambda: peer.many(every))[1]
        except torch.OutOfMemoryError:
            say(f"TRL: {size} at once do not fit")
        theirs.model.zero_grad()
    peer.micro_batch = min(micro, key=lambda size: micro[size])
    say(f"{point}: {tried} {micro}")
    turns: list[dict[str, Any]] = []
    for _ in range(repeats):
        # Both have stepped: by rates of 1e-6 from equal weights, with equal gradients.
        mine, ours_took, ours_peak = clocked(lambda: ours.many(every))
        other, peer_took, peer_peak = clocked(lambda: peer.many(every))
        with repeatable(device):
            _, fixed, _ = clocked(lambda: ours.many(every))
        turns.append(
            {
                "ours": ours_took,
                "trl": peer_took,
                "deterministic": fixed,
                "ours_peak": ours_peak,
                "trl_peak": peer_peak,
                "losses": (mine.loss, other.loss),
                "norms": (mine.grad_norm, other.grad_norm),
            }
        )
        say(f"{turns[-1]}")
    packs = list(pack_groups([one.group for one in every], point.budget))
    # Pairs of attention are left out: few beside the layers, and dear to count.
    sizes = {
        "nodes": sum(len(pack.tokens) for pack in packs),
        "head_rows": sum(len({*pack.parents[pack.scored].tolist()}) for pack in packs),
        "pairs": 0,
    }
    return {
        **asdict(point),
        "exact": exact,
        "tokens": sum(one.tokens for one in every),
        "nodes": sizes["nodes"],
        "padded": point.groups * point.group * (point.prompt + point.longest),
        "attentions": tried,
        "micro_batches_tried": micro,
        "micro_batch": peer.micro_batch,
        "flops": useful_flops(policy, sizes),
        "states": sum(one.numel() for one in policy.model.parameters()) * 4,
        "seconds": {
            name: median(one[name] for one in turns) for name in ("ours", "trl", "deterministic")
        },
        "speedups": [one["trl"] / one["ours"] for one in turns],
        "peaks": {name: max(one[f"{name}_peak"] for one in turns) for name in ("ours", "trl")},
        "losses": [one["losses"] for one in turns],
        "norms": [one["norms"] for one in turns],
    }


def _exact(ours: GpuOurs, theirs: Policy, every: list[Traces]) -> dict[str, tuple[float, float]]:
    """Loss and gradient norm of one step in fp32 from equal weights: ours and TRL's."""
    ours.precision = "fp32"
    mine = ours.many(every)
    ours.precision = "bf16"
    peer = GpuPeer(theirs, group=len(every[0].advantages), micro_batch=16, gpu=True, half=False)
    other = peer.many(every)
    return {"loss": (mine.loss, other.loss), "grad_norm": (mine.grad_norm, other.grad_norm)}


def product_rate(device: torch.device, size: int = 8192) -> float:
    """FLOP/s of a large bf16 product: the most this GPU gives."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(13):
        _, took, _ = clocked(lambda: left @ right)
        times.append(took)
    return 2 * size**3 / median(times[3:])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--points", type=int, nargs="+", default=list(range(len(POINTS))))
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    device = find_device("cuda")
    started = time.perf_counter()
    results = {
        "gpu": torch.cuda.get_device_name(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
            "cuda": torch.version.cuda,
        },
        "repeats": given.repeats,
        "product_rate": product_rate(device),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for place in given.points:
        rows.append(compare(POINTS[place], given.repeats, device))
        gc.collect()
        torch.cuda.empty_cache()
        # Each time: a machine may be lent for less than all of it takes.
        results |= {"points": rows, "seconds": round(time.perf_counter() - started)}
        (given.out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        (given.out / "gpu.md").write_text(gpu_report.markdown(results), "utf-8")
    print(gpu_report.markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
