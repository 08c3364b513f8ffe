"""Our training step against TRL's GRPO step on the same traces, interleaved in one run.

    python benchmarks/train/run.py [--repeats N] [--models NAME ...] [--quick] [--out FOLDER]

Writes results.json, results.md and results.png. Speed: both sides in one process, step by step in
turn. Memory: a fresh process for each side and setting. About 15 minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final

import memory
import report
import work
from work import MODELS, SMOLLM, Ours, Traces

import torch  # isort: skip  (after the policy, which sets how its threads wait)

BUDGET: Final = 2048
"""Nodes of a pack in the speed measurements. The default, 512, is for small memories."""

TOLERANCE: Final = 1e-4
"""Relative difference of the two sides' losses and gradient norms that is let pass."""

PACKAGES: Final = ("torch", "transformers", "trl", "accelerate", "numpy")


@dataclass(frozen=True, slots=True)
class Point:
    """One comparison of speed. shortest, longest: completion tokens, spread evenly between."""

    model: str
    prompt: int
    group: int
    shortest: int = 32
    longest: int = 96
    series: str = "main"


POINTS: Final = (
    Point("smollm2-135m", 256, 8),
    *(Point("small", size, 8, series="prompt") for size in (64, 256, 1024)),
    *(Point("small", 256, size, series="group") for size in (2, 8, 32)),
    Point("middle", 256, 8, series="model"),
)

MEMORY: Final = (
    # 1,024 tokens, each computed once by us; TRL repeats the prompt.
    memory.Case("ours", "a", 256, 8, 96, budget=1024),
    memory.Case("ours", "a", 256, 8, 96, budget=512),
    memory.Case("ours", "a", 256, 8, 96, budget=512, recompute=True),
    memory.Case("trl", "a", 256, 8, 96, micro_batch=8),
    memory.Case("trl", "a", 256, 8, 96, micro_batch=1, recompute=True),  # its most frugal
    # 1,024 tokens and next to nothing to share: what the head and the packs' size do alone.
    memory.Case("ours", "b", 8, 8, 127, budget=1024),
    memory.Case("ours", "b", 8, 8, 127, budget=512, recompute=True),
    memory.Case("trl", "b", 8, 8, 127, micro_batch=8),
)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def clocked(step: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, used = time.perf_counter(), time.process_time()
    result = step()
    return result, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - used}


def compare(point: Point, repeats: int) -> dict[str, Any]:
    """Both sides in turn, and matrix products of the same shapes between them."""
    from peer import Peer, micro_batches

    ours_policy, peer_policy = work.load(point.model), work.load(point.model)
    traces = work.draw(
        ours_policy,
        prompt=point.prompt,
        group=point.group,
        shortest=point.shortest,
        longest=point.longest,
    )
    traces = work.with_old(ours_policy, traces, BUDGET)
    ours = Ours(ours_policy, budget=BUDGET)
    sizes = work.packed_sizes(traces, BUDGET)
    multiply = products(ours_policy, sizes)
    peer = Peer(peer_policy, group=point.group, micro_batch=point.group)

    differences = {"loss": 0.0, "grad_norm": 0.0}

    def turn() -> dict[str, dict[str, float]]:
        """A step of each side from equal weights, and products between them."""
        mine, ours_took = clocked(lambda: ours.step(traces))
        multiply()  # warm: what is compared with is the machine's best
        _, products_took = clocked(multiply)
        theirs, peer_took = clocked(lambda: peer.step(traces))
        for name in differences:
            a, b = getattr(mine, name), getattr(theirs, name)
            differences[name] = max(differences[name], abs(a - b) / abs(b))
        return {"ours": ours_took, "products": products_took, "trl": peer_took}

    # The first turns warm up and choose TRL's micro-batch; they don't count.
    tried = {}
    for size in (point.group, *micro_batches(point.group)):
        peer.micro_batch = size
        tried[size] = turn()["trl"]["wall"]
    peer.micro_batch = min(tried, key=lambda size: tried[size])
    turns = []
    for repeat in range(repeats):
        turns.append(turn())
        walls = {name: round(one["wall"], 2) for name, one in turns[-1].items()}
        say(
            f"{point.model}, prompt {point.prompt}, G {point.group}: {repeat + 1}/{repeats} {walls}"
        )
    if max(differences.values()) > TOLERANCE:
        raise SystemExit(f"{point}: the two sides computed different things: {differences}")
    flops = useful_flops(ours_policy, sizes)
    return {
        **asdict(point),
        "tokens": traces.tokens,
        "padded": padded_tokens(traces),
        "sizes": sizes,
        "differences": differences,
        "micro_batch": peer.micro_batch,
        "seconds": {
            name: {clock: median(one[name][clock] for one in turns) for clock in ("wall", "cpu")}
            for name in turns[0]
        },
        "speedups": {
            clock: [one["trl"][clock] / one["ours"][clock] for one in turns]
            for clock in ("wall", "cpu")
        },
        "useful_flops": flops,
        "product_flops": product_flops(ours_policy, sizes),
    }


def padded_tokens(traces: Traces) -> int:
    longest = max(map(len, traces.group.completions))
    return len(traces.group.completions) * (len(traces.group.prompt) + longest)


def shapes(policy: work.Policy) -> list[tuple[int, int, int]]:
    """(outputs, inputs, how many) of the linear layers inside the model's blocks."""
    counted: dict[tuple[int, int], int] = {}
    for name, one in policy.model.named_modules():
        if isinstance(one, torch.nn.Linear) and "layers" in name:
            counted[tuple(one.weight.shape)] = counted.get(tuple(one.weight.shape), 0) + 1
    return [(*shape, count) for shape, count in counted.items()]


def useful_flops(policy: work.Policy, sizes: dict[str, int]) -> float:
    """6 * weights * tokens of the layers and of the head's rows, and 12 * width for each pair of
    attention and layer. What is computed again in backward does not count."""
    config = policy.model.config
    layers = sum(out * into * count for out, into, count in shapes(policy))
    return float(
        6 * layers * sizes["nodes"]
        + 6 * config.vocab_size * config.hidden_size * sizes["head_rows"]
        + 12 * config.hidden_size * config.num_hidden_layers * sizes["pairs"]
    )


def products(policy: work.Policy, sizes: dict[str, int]) -> Callable[[], None]:
    """Does one layer's matrix products of a step, forward and backward. Operands and results are
    made here, so that their memory is not in the clock."""
    rows = sizes["nodes"] // sizes["packs"]
    made = []
    for out, into, _ in shapes(policy):
        weight, inputs, outputs = (
            torch.ones(one) for one in ((out, into), (rows, into), (rows, out))
        )
        made.append((weight, inputs, outputs, torch.ones_like(inputs), torch.ones_like(weight)))

    def multiply() -> None:
        for weight, inputs, outputs, to_inputs, to_weight in made:
            torch.mm(inputs, weight.T, out=outputs)
            torch.mm(outputs, weight, out=to_inputs)
            torch.mm(outputs.T, inputs, out=to_weight)

    return multiply


def product_flops(policy: work.Policy, sizes: dict[str, int]) -> float:
    rows = sizes["nodes"] // sizes["packs"]
    return float(sum(6 * out * into * rows for out, into, _ in shapes(policy)))


def measure_memory(model: str, cases: tuple[memory.Case, ...]) -> list[dict[str, Any]]:
    rows = []
    for case in cases:
        asked = json.dumps({**asdict(case), "model": model})
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("memory.py")), asked],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        say(f"memory: {rows[-1]}")
    return rows


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    options.add_argument("--quick", action="store_true", help="small model only, one repeat")
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    if not SMOLLM.is_dir():
        options.error(f"there is no model in {SMOLLM}: run `make setup` first")
    models, repeats = (("small",), 1) if given.quick else (given.models, given.repeats)
    torch.set_num_threads(os.cpu_count() or 1)
    started, load = time.perf_counter(), os.getloadavg()[0]
    rows = []
    for point in POINTS:
        if point.model in models:
            rows.append(compare(point, repeats))
            gc.collect()
    largest = "smollm2-135m" if "smollm2-135m" in models else "small"
    results = {
        "written_by": "make bench-train",
        "machine": report.machine(),
        "load": {"before": round(load, 1), "after": round(os.getloadavg()[0], 1)},
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "threads": torch.get_num_threads(),
        "budget": BUDGET,
        "tolerance": TOLERANCE,
        "micro_batches": "1, 2, 4 and all",
        "products_warm": True,
        "repeats": repeats,
        "points": rows,
        "memory": {"model": largest, "rows": measure_memory(largest, MEMORY)},
        "seconds": round(time.perf_counter() - started),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (given.out / "results.md").write_text(report.markdown(results), "utf-8")
    report.plot(results, given.out / "results.png")
    print(report.markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
