"""Held-out accuracy at equal contributed tokens: ours, TRL at ratio 1, SFT on positives.

    python benchmarks/learning/run.py             everything; writes results.* beside this file
    python benchmarks/learning/run.py --quick     a minute, to see that it works; writes to build/
    python benchmarks/learning/run.py --tune      learning rates and gates on seeds of their own
    python benchmarks/learning/run.py --real      the real model only, into the same results
    python benchmarks/learning/run.py --no-real   the tiny one only, into the same results
    python benchmarks/learning/run.py --report    the text and the plot again

A run is a market loop: in each turn miners sample questions from a checkpoint of the learner's
own lineage (how old a one is the scenario's), the method takes eight optimizer steps on what
they sold, and held-out questions measure the child. Every method gets as many groups per turn
of the same questions; where the sampler is of its lineage, the traces are its own.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import arithmetic  # noqa: E402
import real  # noqa: E402
from arithmetic import Policy  # noqa: E402
from methods import METHODS, SCENARIOS, UPDATES, Method, Scenario, contributed, train  # noqa: E402
from report import machine, write_report  # noqa: E402

from marketplace.miner.sampler import TransformersSampler  # noqa: E402
from trainer.config import TrainSettings  # noqa: E402

import torch  # noqa: E402  isort: skip

SEEDS = (1, 2, 3, 4, 5, 6)
TUNING_SEEDS = (101, 102)
TURNS = 9
GROUPS = 128
TEACHING = 500
HELD_OUT = 250
LEARNING_RATES: dict[Method, float] = {"ours": 6e-4, "trl": 3e-4, "sft": 6e-4}
"""Of each method: the best mean of --tune, whose seeds are not those of the results."""
TUNED_OVER = (1e-4, 3e-4, 6e-4, 1e-3)
WARMUP = 3
"""Steps, for all methods: AdamW's moments are new each turn, and its first steps are mostly noise
at these rates."""


def measure(policy: Policy, tasks: int, seed: int) -> dict[str, float]:
    """Of held-out questions: share answered right and cleanly, and share that end in junk."""
    asked = arithmetic.questions(held_out=True)[:tasks]
    rules = arithmetic.sampling(2)
    groups = TransformersSampler(policy, "held out").sample(
        [arithmetic.prompt_of(one) for one in asked], rules, seed=seed
    )
    right = junk = count = 0
    for question, group in zip(asked, groups, strict=True):
        for one in group:
            right += bool(arithmetic.score(question, one.text)) and arithmetic.is_clean(one.text)
            junk += any(symbol in one.text for symbol in arithmetic.JUNK)
            count += 1
    return {"accuracy": right / count, "junk": junk / count}


def play(
    method: Method,
    scenario: Scenario,
    base: Policy,
    other: Policy,
    settings: TrainSettings,
    *,
    turns: int,
    groups: int,
    tasks: int,
    seed: int,
) -> dict[str, Any]:
    """The curve of one run: accuracy before, and after each turn."""
    lineage = [arithmetic.copy_of(base)]
    curve = [measure(base, tasks, 9)]
    left_out: dict[str, int] = {}
    tokens, steps, stopped = 0, [], 0
    for turn in range(turns):
        back = scenario.behind(turn)
        sampler = other if scenario.foreign else lineage[len(lineage) - 1 - back]
        age = 1 if scenario.foreign else back
        sold = contributed(sampler, scenario, groups, age=age, seed=1000 * seed + turn)
        tokens += sum(one.tokens for one in sold)
        child = arithmetic.copy_of(lineage[-1])
        metrics = train(method, child, sampler, sold, settings.model_copy(update={"seed": turn}))
        lineage.append(child)
        stopped += metrics.stopped_early
        for reason, count in metrics.dropped.items():
            left_out[reason] = left_out.get(reason, 0) + count
        steps.append(metrics.summary())
        curve.append(measure(child, tasks, 9))
    return {
        "method": method,
        "scenario": scenario.name,
        "seed": seed,
        "accuracy": [one["accuracy"] for one in curve],
        "junk": [one["junk"] for one in curve],
        "tokens": tokens,
        "left_out": left_out,
        "stopped_early": stopped,
        "effective_share": [one["effective_share"] for one in steps],
        "clipped_share": [one["clipped_share"] for one in steps],
        "masked": next((s["masked"] for one in steps[::-1] for s in one["steps"][-1:]), {}),
    }


def bases(seed: int, teaching: int) -> tuple[Policy, Policy]:
    """The learner's base, and that of whoever samples from another checkpoint: the next seed's."""
    return (
        arithmetic.base_policy(seed, steps=teaching),
        arithmetic.base_policy(seed + 1, steps=teaching),
    )


def settings_of(method: Method, **changes: Any) -> TrainSettings:
    own = {"learning_rate": LEARNING_RATES[method], "warmup_steps": WARMUP}
    return TrainSettings(**(own | changes))


def run_all(
    seeds: Sequence[int], *, turns: int, groups: int, teaching: int, tasks: int
) -> list[dict[str, Any]]:
    """A process for each seed, as many at a time as there are cores."""
    play_seed = partial(run_seed, turns=turns, groups=groups, teaching=teaching, tasks=tasks)
    workers = min(len(seeds), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [one for runs in pool.map(play_seed, seeds) for one in runs]


def run_seed(
    seed: int, *, turns: int, groups: int, teaching: int, tasks: int
) -> list[dict[str, Any]]:
    """All methods in all scenarios, from the base model of this seed."""
    one_thread()
    found = []
    base, other = bases(seed, teaching)
    for scenario in SCENARIOS:
        for method in METHODS:
            start = time.monotonic()
            one = play(
                method, scenario, base, other, settings_of(method),
                turns=turns, groups=groups, tasks=tasks, seed=seed,
            )  # fmt: skip
            one["seconds"] = round(time.monotonic() - start, 1)
            print(
                f"seed {seed}  {scenario.name:22} {method:5} "
                f"{one['accuracy'][0]:.3f} -> {one['accuracy'][-1]:.3f}  "
                f"junk {one['junk'][-1]:.3f}  {one['seconds']} s",
                file=sys.stderr,
                flush=True,
            )
            found.append(one)
    return found


def one_thread() -> None:
    """Tiny matrices: a second thread only waits."""
    torch.set_num_threads(1)


def tune(args: argparse.Namespace) -> None:
    """Prints the mean final accuracy of each choice; writes nothing."""
    choices: dict[str, dict[str, Any]] = json.loads(args.choices) if args.choices else {
        f"{rate:g}": {"learning_rate": rate} for rate in TUNED_OVER
    }  # fmt: skip
    for seed in TUNING_SEEDS[: args.tuning_seeds]:
        base, other = bases(seed, TEACHING)
        for method in args.methods.split(","):
            for name, changes in choices.items():
                row = []
                for scenario in (SCENARIOS[int(one)] for one in args.scenarios.split(",")):
                    one = play(
                        method, scenario, base, other, settings_of(method, **changes),
                        turns=TURNS, groups=GROUPS, tasks=HELD_OUT, seed=seed,
                    )  # fmt: skip
                    row.append(one["accuracy"][-1])
                shown = "  ".join(f"{value:.3f}" for value in row)
                print(f"seed {seed} {method:5} {name:24} {shown}  mean {sum(row) / len(row):.3f}",
                      flush=True)  # fmt: skip


def save(record: dict[str, Any], out: Path) -> None:
    """After each part: the second one may fail."""
    record["machine"] = machine()
    (out / "results.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    write_report(record, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--real", action="store_true", help="the real model only")
    parser.add_argument("--no-real", action="store_true", help="the tiny model only")
    parser.add_argument("--report", action="store_true", help="text and plot of results.json")
    parser.add_argument("--methods", default="ours,trl,sft")
    parser.add_argument("--scenarios", default="0,2", help="places, for --tune")
    parser.add_argument("--choices", help="JSON: name -> changed settings, for --tune")
    parser.add_argument("--tuning-seeds", type=int, default=len(TUNING_SEEDS))
    parser.add_argument("--model", type=Path, default=Path("build/models/smollm2-135m"))
    args = parser.parse_args()
    one_thread()
    if args.tune:
        tune(args)
        return
    out = Path("build/learning") if args.quick else HERE
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    record = json.loads(file.read_text()) if file.exists() and (args.real or args.no_real) else {}
    if args.report:
        write_report(json.loads(file.read_text()), out)
        return
    start = time.monotonic()
    if not args.real:
        size: dict[str, int] = {"turns": TURNS, "groups": GROUPS, "teaching": TEACHING}
        seeds: Sequence[int] = SEEDS
        if args.quick:
            size, seeds = {"turns": 1, "groups": 16, "teaching": 30}, (1, 2)
        tasks = 50 if args.quick else HELD_OUT
        record["tiny"] = {
            "runs": run_all(seeds, **size, tasks=tasks),
            "size": {**size, "seeds": list(seeds), "held_out": tasks, "updates": UPDATES},
            "learning_rates": LEARNING_RATES,
            "positive_ce": TrainSettings().positive_ce,
            "tuned_over": TUNED_OVER,
            "warmup_steps": WARMUP,
            "seconds": round(time.monotonic() - start),
        }
        save(record, out)
    if not args.no_real and not args.quick:
        real.run(args.model, lambda found: save(record | {"real": found}, out))
    print(f"wrote {out}/results.json, .md and .png")


if __name__ == "__main__":
    main()
