"""How much smaller a delta is than the checkpoint, on the real model after real steps.

    python benchmarks/deltas/run.py [--tasks N] [--steps N ...] [--out FOLDER]

Samples groups from the base model, trains a turn on them, and after some of its optimizer steps
measures the delta from the base: as it is (fp32), with both files rounded to the nearest bf16,
and as `weights = "bf16"` stores them (a base that fits bf16, the child rounded at random). The
last children of each kind are evaluated on held-out tasks, with the same samples' seeds. Writes
results.json and results.md. About five minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.torch import load_file, save_file

from marketplace.gym.environment import Environment
from marketplace.gym.policy import Policy
from marketplace.gym.spec import builtin_spec
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.storage import deltas
from marketplace.storage.cid import Cid
from marketplace.storage.store import write_verified
from marketplace.storage.unixfs import cid_of_file
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.evaluate import evaluate, heldout_tasks, paired_gain
from trainer.grpo import StepMetrics, train_turn
from trainer.rounding import round_weights

import torch  # isort: skip  (after the policy, which sets how its threads wait)

MODEL: Final = Path("build/models/smollm2-135m")
MEGABITS: Final = (10, 50, 100, 1000)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def sampled(policy: Policy, tasks: int, samples: int) -> list[TrainingGroup]:
    """Groups of the demo's environment, sampled from the policy and scored."""
    environment = Environment(builtin_spec("two_digit_sums"))
    rules = environment.spec.sampling
    asked = [environment.task(index.to_bytes(32, "big")) for index in range(tasks)]
    sampling = SamplingRules(
        group_size=samples,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        stop=rules.stop,
    )
    sampler = TransformersSampler(policy, "bench")
    groups = []
    for index, (task, group) in enumerate(
        zip(asked, sampler.sample([one.prompt for one in asked], sampling, seed=1), strict=True)
    ):
        groups.append(
            TrainingGroup(
                batch=1,
                task=index,
                prompt=policy.codec.encode(task.prompt),
                completions=tuple(one.tokens or () for one in group),
                behaviour=tuple(one.logprobs or () for one in group),
                scores=tuple(environment.score(task, one.text) for one in group),
            )
        )
    return groups


def trained(
    policy: Policy, folder: Path, settings: TrainSettings, tasks: int, steps: list[int]
) -> dict[int, Path]:
    """Trains a turn; weight files after these steps, and after none (0)."""
    kept: dict[int, Path] = {}

    def keep(done: int) -> None:
        policy.model.save_pretrained(folder / str(done))
        policy.tokenizer.save_pretrained(folder / str(done))
        kept[done] = folder / str(done) / "model.safetensors"

    def after(done: int, _: int, metrics: StepMetrics) -> None:
        say(f"step {done}: gradient norm {metrics.grad_norm:.2f}")
        if done in steps:
            keep(done)

    keep(0)
    train_turn(policy, sampled(policy, tasks, 8), settings, temperature=1.0, on_step=after)
    return kept


def examined(
    name: str, policy: Policy, tasks: int, base: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Held-out pass@1, four samples each, and the gain over the base, paired by task."""
    environment = Environment(builtin_spec("two_digit_sums"))
    rules = environment.spec.sampling
    asked = heldout_tasks(environment, tasks)
    sampling = SamplingRules(
        group_size=4,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        stop=rules.stop,
    )

    def complete(prompts: Sequence[str]) -> Iterator[list[str]]:
        for group in TransformersSampler(policy, name).sample(prompts, sampling, seed=20_000):
            yield [one.text for one in group]

    found = evaluate(asked, complete, environment.score)
    once = found.pass_at_1()
    row = {"name": name, "tasks": tasks, "pass_at_1": once.value, "error": once.error}
    if base is not None:
        gain = paired_gain(base["found"], found)
        row |= {"gain": gain.value, "gain_error": gain.error}
    say(json.dumps(row))
    return {**row, "found": found}


def counted(steps: int) -> str:
    return f"{steps} step{'s' * (steps > 1)}"


def measured(name: str, parent: Path, child: Path, work: Path) -> dict[str, Any]:
    """One row. Wall seconds; the CID of the child is checked while applying, as a fetcher does."""
    started = time.perf_counter()
    size = deltas.make_delta(parent, child, work / "delta")
    made = time.perf_counter() - started
    whole = child.stat().st_size
    cid: Cid = cid_of_file(child)
    started = time.perf_counter()
    write_verified(cid, deltas.rebuilt(parent, work / "delta", whole), work / "back", source="")
    applied = time.perf_counter() - started
    if (work / "back").read_bytes() != child.read_bytes():
        raise SystemExit(f"{name}: the rebuilt file differs")
    row = {
        "name": name,
        "bytes": whole,
        "delta_bytes": size,
        "ratio": round((size or whole) / whole, 4),
        "changed": round(changed(parent, child), 4),
        "xor_ratio": round(xor_ratio(parent, child), 4),
        "alone_ratio": round(xor_ratio(None, child), 4),
        "make_seconds": round(made, 1),
        "apply_seconds": round(applied, 1),
    }
    say(json.dumps(row))
    return row


def changed(parent: Path, child: Path) -> float:
    """The share of weights that differ in any bit."""
    before, after = load_file(parent), load_file(child)
    bits = {4: torch.int32, 2: torch.int16}
    moved = sum(
        int((before[name].view(bits[one.itemsize]) != one.view(bits[one.itemsize])).sum())
        for name, one in after.items()
    )
    return moved / sum(one.numel() for one in after.values())


def xor_ratio(parent: Path | None, child: Path) -> float:
    """The size of the same planes with xor in place of subtraction, every eighth tensor. parent:
    None packs the child alone, as whoever has no parent could."""
    after = load_file(child)
    before = load_file(parent) if parent else {k: torch.zeros_like(v) for k, v in after.items()}
    plain = packed = 0
    for place, name in enumerate(sorted(after)):
        if place % 8:
            continue
        kind = f"<u{after[name].itemsize}"
        pair = [
            np.frombuffer(one[name].contiguous().view(torch.uint8).numpy().tobytes(), kind)
            for one in (before, after)
        ]
        mixed = pair[0] ^ pair[1]
        plain += mixed.nbytes
        packed += min(len(deltas._pack_planes(mixed)), mixed.nbytes)
    return packed / plain


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def halved(file: Path, out: Path) -> Path:
    """The file with its weights rounded to bf16."""
    save_file({k: v.to(torch.bfloat16) for k, v in load_file(file).items()}, out, {"format": "pt"})
    return out


def markdown(result: dict[str, Any]) -> str:
    lines = [
        "# Deltas between checkpoints",
        "",
        f"Written by `make bench-deltas` on {result['machine']}; wall seconds on a machine that "
        "did other work too. SmolLM2-135M, AdamW, "
        f"learning rate {result['learning_rate']:g} (first step half), {result['groups']} groups "
        "of the demo's environment. Ratio: delta over the whole file. With xor: in place of "
        "subtraction. Packed alone: the child in the same byte planes, without its parent. Both "
        "of every eighth tensor.",
        "",
        "| child | file MB | weights changed | delta MB | ratio | with xor | packed alone | make s "
        "| apply s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['name']} | {row['bytes'] / 1e6:.1f} | {row['changed']:.1%} | "
            f"{row['delta_bytes'] / 1e6:.1f} | {row['ratio']:.3f} | {row['xor_ratio']:.3f} | "
            f"{_share(row.get('alone_ratio'))} | {row['make_seconds']:.1f} | "
            f"{row['apply_seconds']:.1f} |"
        )
    lines += [
        "",
        "Seconds to have the child, whole / delta (download and applying, one after the other):",
        "",
        "| child | " + " | ".join(f"{rate} Mbit/s" for rate in MEGABITS) + " |",
        "|---|" + "---|" * len(MEGABITS),
    ]
    for row in result["rows"]:
        cells = []
        for rate in MEGABITS:
            second = rate * 1e6 / 8
            short = row["delta_bytes"] / second + row["apply_seconds"]
            cells.append(f"{row['bytes'] / second:.1f} / {short:.1f}")
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Held-out pass@1 after the turn, ± standard error, and the gain over the base, paired by "
        f"task ({result['accuracy'][0]['tasks']} tasks, 4 samples each):",
        "",
        "| weights | pass@1 | gain |",
        "|---|---|---|",
        *(
            f"| {one['name']} | {one['pass_at_1']:.3f} ± {one['error']:.3f} | "
            + (f"{one['gain']:+.3f} ± {one['gain_error']:.3f} |" if "gain" in one else "|")
            for one in result["accuracy"]
        ),
        "",
        "fp32: Adam moves nearly every weight in every step, so nothing is sparse; what is small "
        "is the distance. bf16, nearest: most moves are below half a unit in the last place and "
        'round away, turn after turn. bf16, at random: as `weights = "bf16"` stores them; right '
        "on average.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=48, help="groups to sample")
    options.add_argument("--steps", type=int, nargs="+", default=[1, 2, 6])
    options.add_argument("--heldout", type=int, default=128, help="tasks to evaluate on")
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    if not MODEL.is_dir():
        options.error(f"there is no model in {MODEL}: run `make setup` first")
    rows: list[dict[str, Any]] = []
    accuracy: list[dict[str, Any]] = []
    settings = TrainSettings(groups_per_step=max(1, given.tasks // 2 // max(given.steps)))
    with tempfile.TemporaryDirectory(dir="build") as folder:
        work = Path(folder)
        policy = Policy.load(MODEL)
        accuracy.append(examined("base", policy, given.heldout))
        children = trained(policy, work / "whole", settings, given.tasks, given.steps)
        accuracy.append(examined("fp32", policy, given.heldout, accuracy[0]))
        base = children.pop(0)
        small = halved(base, work / "base16")
        for steps, child in children.items():
            rows.append(measured(f"fp32, {counted(steps)}", base, child, work))
        for steps, child in children.items():
            half = halved(child, work / f"{steps}-16")
            rows.append(measured(f"bf16, nearest, {counted(steps)}", small, half, work))
        shutil.rmtree(work / "whole")
        with torch.no_grad():
            for weights in policy.model.parameters():
                weights.copy_(weights.bfloat16())
        accuracy.append(examined("bf16, nearest", policy, given.heldout, accuracy[0]))

        policy = Policy.load(MODEL)
        with torch.no_grad():
            for weights in policy.model.parameters():
                weights.copy_(weights.bfloat16())
        children = trained(policy, work / "half", settings, given.tasks, given.steps)
        base = halved(children.pop(0), work / "base16")
        for steps, child in children.items():
            rounded = Policy.load(child.parent)
            round_weights(rounded, 0)
            save_file(dict(rounded.model.named_parameters()), work / "rounded", {"format": "pt"})
            half = halved(work / "rounded", work / f"{steps}-16")
            rows.append(measured(f"bf16, at random, {counted(steps)}", base, half, work))
        accuracy.append(examined("bf16, at random", rounded, given.heldout, accuracy[0]))
    result = {
        "written_by": "make bench-deltas",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "learning_rate": settings.learning_rate,
        "groups": given.tasks,
        "rows": rows,
        "accuracy": [
            {name: value for name, value in one.items() if name != "found"} for one in accuracy
        ],
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (given.out / "results.md").write_text(markdown(result), "utf-8")
    print(markdown(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
