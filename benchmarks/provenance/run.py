"""Calibrates replayable sampling on a real model: honest re-runs, lies, and what checking costs.

    python benchmarks/provenance/run.py [--tasks N] [--tokens N] [--repeats N] [--out FOLDER]

Writes results.json, results.md and results.png. Every run has task seeds of its own, so that
runs are independent; lies and the honest reference share theirs. About ten minutes on two cores.
Each stage leaves what it measured in build/provenance, and `--stage NAME` runs one alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import costs
import measure
import report
from measure import PLACES, Told, Work

from marketplace.gym.policy import Policy
from marketplace.gym.provenance import ReplayTolerance
from marketplace.gym.spec import ProvenanceSpec

import torch  # isort: skip  (after the policy, which sets how its threads wait)

MODEL: Final = Path("build/models/smollm2-135m")
DEFAULTS: Final = ProvenanceSpec()
PROFILES: Final = {
    "default": ReplayTolerance(DEFAULTS.margin, DEFAULTS.flips),
    "bf16": ReplayTolerance(margin=0.75, flips=0.15),
}
STAGES: Final = ("costs", "honest", "bf16", "lies")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def honest_runs(policy: Policy, works: list[Work]) -> list[dict[str, Any]]:
    """fp32 samplers of different shape, each judged by fp32 verifiers of different shape."""
    threads = torch.get_num_threads()
    samplers = {
        "fp32": (threads, 64, "sdpa"),
        "fp32, one group at a time": (threads, PLACES, "sdpa"),
        "fp32, one thread": (1, 64, "sdpa"),
        "fp32, eager attention": (threads, 64, "eager"),
    }
    verifiers = {"fp32": (threads, 512), "fp32, one thread, packs of 96": (1, 96)}
    rows = []
    for name, (cores, width, attention) in samplers.items():
        torch.set_num_threads(cores)
        policy.model.set_attn_implementation(attention)
        told = [(work, measure.sampled(policy, work, name, rows=width)) for work in works]
        policy.model.set_attn_implementation("sdpa")
        for judge, (cores, budget) in verifiers.items():
            torch.set_num_threads(cores)
            rows.append(_judged(policy, told, name, judge, budget))
    torch.set_num_threads(threads)
    return rows


def half_runs(policy: Policy, works: list[Work]) -> list[dict[str, Any]]:
    """A bf16 sampler, judged in fp32 and in bf16."""
    half = measure.with_model(policy, measure.to_bf16)
    told = [(work, measure.sampled(half, work, "bf16")) for work in works]
    say("bf16: sampled")
    return [
        _judged(policy, told, "bf16", "fp32", 512),
        _judged(half, told[1:], "bf16", "bf16, texts only", 512),
    ]


def _judged(
    policy: Policy, told: list[tuple[Work, list[Told]]], sampler: str, judge: str, budget: int
) -> dict[str, Any]:
    margins = [
        measure.rounded_margins(one)
        for work, some in told
        for one in measure.margins_of(policy, some, work.rules.temperature, budget=budget)
    ]
    say(f"honest: {sampler} by {judge}: {measure.spread_of(margins)}")
    return {"sampler": sampler, "verifier": judge, "margins": margins}


def lies(policy: Policy, works: list[Work]) -> list[dict[str, Any]]:
    """Each lie, judged as a verifier with fp32 does."""
    short, long = works
    runs: dict[str, list[tuple[Work, list[Told]]]] = {}
    honest = {work.name: measure.sampled(policy, work, "lies") for work in works}
    others = {work.name: measure.sampled(policy, work, "lies", first=PLACES) for work in works}
    say("lies: reference")

    def every(name: str, made: Callable[[Work], list[Told]]) -> None:
        runs[name] = [(work, made(work)) for work in works]
        say(f"lies: {name}")

    def model(name: str, change: Any) -> None:
        other = measure.with_model(policy, change)
        every(name, lambda work: measure.sampled(other, work, "lies"))

    tuned = measure.trained(policy, short, 4)
    every("copy trained for 4 steps", lambda work: measure.sampled(tuned, work, "lies"))
    model("weights with 0.1 % noise", measure.weight_noise(0.001))
    model("weights in 8 bits", measure.rounded(8, 64))
    model("weights in 4 bits", measure.rounded(4, 32))
    every(
        "temperature 0.9 for 1.0",
        lambda work: measure.sampled(policy, measure.heated(work, 0.9), "lies"),
    )
    runs["another sample (best-of-n)"] = [
        (short, measure.best_of_two(policy, short, honest["short"], others["short"])),
        (long, measure.other_place(honest["long"], others["long"])),
    ]
    runs["answer edited"] = [
        (short, measure.edited_answers(policy, short, honest["short"])),
        (long, measure.one_token_edited(policy, long, honest["long"])),
    ]
    found = []
    for name, parts in runs.items():
        for work, told in parts:
            known = {(one.seed, one.place): one.tokens for one in honest[work.name]}
            told = [one for one in told if one.tokens]
            margins = measure.margins_of(policy, told, work.rules.temperature)
            changed = [one.tokens != known[one.seed, one.place] for one in told]
            row: dict[str, Any] = {
                "lie": name,
                "work": work.name,
                "margins": [measure.rounded_margins(one) for one in margins],
                "changed": changed,
            }
            found.append(row)
    say("lies: judged")
    return found


def header(policy: Policy, works: list[Work]) -> dict[str, Any]:
    import numpy
    import transformers

    return {
        "written_by": "make bench-provenance",
        "machine": report.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": numpy.__version__,
        },
        "threads": torch.get_num_threads(),
        "model": MODEL.name,
        "works": {
            work.name: {
                "tasks": len(work.prompts),
                "traces": len(work.prompts) * PLACES,
                "max_tokens": work.rules.max_tokens,
            }
            for work in works
        },
    }


def run(stage: str, tasks: int, tokens: int, repeats: int, largest: int) -> dict[str, Any]:
    """One stage: what it found, and how long that took."""
    started, used = time.perf_counter(), time.process_time()
    policy = Policy.load(MODEL)
    works = [measure.short_work(tasks), measure.long_work(tokens)]
    batches = [
        measure.short_work(min(largest, costs.SHORT_SIZES[-1])),
        measure.long_work(tokens, min(largest, costs.LONG_SIZES[-1])),
    ]
    steps: dict[str, Callable[[], Any]] = {
        "costs": lambda: costs.costs(policy, batches, repeats, say),
        "honest": lambda: honest_runs(policy, works),
        "bf16": lambda: half_runs(policy, works),
        "lies": lambda: lies(policy, works),
    }
    return {
        **header(policy, works),
        "found": steps[stage](),
        "seconds": round(time.perf_counter() - started),
        "cpu_seconds": round(time.process_time() - used),
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tasks", type=int, default=12, help="sums, eight traces each")
    options.add_argument("--tokens", type=int, default=16, help="of a long trace")
    options.add_argument("--repeats", type=int, default=2, help="of all batches but the largest")
    options.add_argument(
        "--largest", type=int, default=128, help="groups of a batch whose cost counts"
    )
    options.add_argument("--stage", choices=STAGES, help="only this one; what others found is kept")
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    if not MODEL.is_dir():
        options.error(f"there is no model in {MODEL}: run `make setup` first")
    parts = Path("build/provenance")
    parts.mkdir(parents=True, exist_ok=True)
    for stage in [given.stage] if given.stage else STAGES:
        part = run(stage, given.tasks, given.tokens, given.repeats, given.largest)
        (parts / f"{stage}.json").write_text(json.dumps(part), "utf-8")
    missing = [stage for stage in STAGES if not (parts / f"{stage}.json").is_file()]
    if missing:
        print(f"still to be measured: {', '.join(missing)}")
        return 0
    results = {stage: json.loads((parts / f"{stage}.json").read_text("utf-8")) for stage in STAGES}
    given.out.mkdir(parents=True, exist_ok=True)
    judged = report.judged(results, PROFILES)
    report.plot(judged, results, given.out / "results.png")
    (given.out / "results.json").write_text(json.dumps(judged, indent=1) + "\n", "utf-8")
    (given.out / "results.md").write_text(report.markdown(judged), "utf-8")
    print(report.markdown(judged))
    return 0


if __name__ == "__main__":
    sys.exit(main())
