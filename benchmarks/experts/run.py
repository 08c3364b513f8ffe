"""Experts on the real model: trained apart, merged four ways, routed; all side by side.

    python benchmarks/experts/run.py [--groups N] [--turns N] [--tasks N] [--jobs N] [--out FOLDER]

Each expert is trained in a process of its own, on groups that it sampled itself. Writes
results.json, results.md and results.png. About ten minutes on two quiet cores, half an hour beside
other work; adapters stay in build/experts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from environments import NAMES, build

from marketplace.gym.adapters import load_adapter
from marketplace.gym.environment import Environment
from marketplace.gym.policy import Policy
from marketplace.gym.routing import read_router
from marketplace.miner.routed import RoutedSampler
from marketplace.miner.sampler import Sampler, SamplingRules, TransformersSampler
from marketplace.protocol.hashing import keccak
from trainer.checkpoint import TrainingRecord
from trainer.compose import Base, ComposeSettings, Expert, merge_experts, route_experts
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.evaluate import heldout_tasks
from trainer.experts import LoraSettings, Start, adapt, save_adapter
from trainer.grpo import train_turn
from trainer.side_by_side import Complete, Exam, side_by_side

import torch  # isort: skip  (after the policy, which sets how its threads wait)

MODEL: Final = Path("build/models/smollm2-135m")
WORK: Final = Path("build/experts")
CID: Final = "b" + "a" * 58  # nothing is registered here
SETTINGS: Final = TrainSettings(learning_rate=2e-4, groups_per_step=8)
LORA: Final = LoraSettings(rank=16, alpha=32.0)
MERGES: Final = ("linear", "mixture", "ties", "dare")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def rules_of(environment: Environment, samples: int) -> SamplingRules:
    rules = environment.spec.sampling
    return SamplingRules(
        group_size=samples,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        stop=rules.stop,
    )


def train(name: str, turns: int, groups: int) -> None:
    """One expert: turns of sampling and training on its own environment."""
    environment = build(name)
    temperature = environment.spec.sampling.temperature
    policy = adapt(Start(MODEL, CID), LORA)
    told = []
    for turn in range(turns):
        seeds = [keccak(f"{name} {turn} {index}".encode()) for index in range(groups)]
        tasks = [environment.task(seed) for seed in seeds]
        sampler = TransformersSampler(policy, name)
        sampled = sampler.sample([one.prompt for one in tasks], rules_of(environment, 8), seed=turn)
        rows = [
            TrainingGroup(
                batch=turn + 1,
                task=index,
                prompt=policy.codec.encode(task.prompt),
                completions=tuple(one.tokens or () for one in group),
                behaviour=tuple(one.logprobs or () for one in group),
                scores=tuple(environment.score(task, one.text) for one in group),
            )
            for index, (task, group) in enumerate(zip(tasks, sampled, strict=True))
        ]
        mean = sum(sum(row.scores) for row in rows) / (8 * groups)
        metrics = train_turn(policy, rows, SETTINGS, temperature=temperature)
        told.append({"mean_score": mean, "groups": metrics.groups, "steps": len(metrics.steps)})
        say(f"{name}, turn {turn + 1}: mean score {mean:.3f}, {metrics.groups} groups trained on")
    record = TrainingRecord(parent=1, dataset={}, settings={}, metrics={"turns": told})
    save_adapter(policy, WORK / name, sampling=environment.spec.sampling, record=record, base=CID)


def trained_apart(names: Sequence[str], jobs: int, turns: int, groups: int) -> None:
    """A process for each expert, `jobs` at a time."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting, running = list(names), []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                command = [sys.executable, __file__, "--expert", waiting.pop(0)]
                command += ["--turns", str(turns), "--groups", str(groups)]
                environ = {**os.environ, "OMP_NUM_THREADS": str(threads)}
                running.append(subprocess.Popen(command, env=environ))
            if running.pop(0).wait():
                raise SystemExit("an expert's process failed")
    finally:
        for process in running:
            process.terminate()


def composed(names: Sequence[str], environments: dict[str, Environment]) -> dict[str, float]:
    """All merges and the router, in WORK. Seconds for each."""
    base = Base(1, CID, MODEL)
    experts = [Expert(place, CID, WORK / name) for place, name in enumerate(names, start=2)]
    seconds = {}
    for method in MERGES:
        started = time.perf_counter()
        settings = ComposeSettings.model_validate({"method": method})
        merge_experts(base, experts, settings, WORK / method, dataset={})
        seconds[method] = round(time.perf_counter() - started, 1)
        say(f"{method}: {seconds[method]} s")
    prompts = {
        place: [environments[name].task(keccak(b"route" + bytes([n]))).prompt for n in range(64)]
        for place, name in enumerate(names, start=2)
    }
    started = time.perf_counter()
    route_experts(base, experts, prompts, WORK / "router", dataset={})
    seconds["router"] = round(time.perf_counter() - started, 1)
    return seconds


def models(
    names: Sequence[str], environments: dict[str, Environment], samples: int
) -> Iterator[tuple[str, Callable[[Exam], Complete]]]:
    """Base, experts, merges and router; experts are kept for the router."""

    def answering(sampler: Sampler) -> Callable[[Exam], Complete]:
        def of(exam: Exam) -> Complete:
            rules = rules_of(environments[exam.name], samples)

            def complete(prompts: Sequence[str]) -> Iterable[Sequence[str]]:
                for group in sampler.sample(prompts, rules, seed=20_000):
                    yield [one.text for one in group]

            return complete

        return of

    base = Policy.load(MODEL)
    yield "base", answering(TransformersSampler(base, "base"))
    kept = {}
    for place, name in enumerate(names, start=2):
        kept[place] = load_adapter(WORK / name, MODEL)
        yield f"expert {name}", answering(TransformersSampler(kept[place], name))
    router = read_router(WORK / "router")
    yield "router", answering(RoutedSampler(router, base, kept.__getitem__, "router"))
    for method in MERGES:
        yield method, answering(TransformersSampler(load_adapter(WORK / method, MODEL), method))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--groups", type=int, default=96, help="a turn, eight samples each")
    options.add_argument("--turns", type=int, default=2)
    options.add_argument("--tasks", type=int, default=128, help="held out, of each environment")
    options.add_argument("--samples", type=int, default=4, help="of each of them")
    options.add_argument("--jobs", type=int, default=1, help="experts trained at the same time")
    options.add_argument("--expert", choices=NAMES, help="train this one only (a process's work)")
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    if not MODEL.is_dir():
        options.error(f"there is no model in {MODEL}: run `make setup` first")
    if given.expert:
        train(given.expert, given.turns, given.groups)
        return 0
    environments = {name: build(name) for name in NAMES}
    # Before anything is trained: an environment may have fewer held-out questions.
    exams = [
        Exam(name, heldout_tasks(one, given.tasks), one.score) for name, one in environments.items()
    ]
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    started = time.perf_counter()
    trained_apart(NAMES, given.jobs, given.turns, given.groups)
    training = time.perf_counter() - started
    seconds = composed(NAMES, environments)
    found = side_by_side(
        models(NAMES, environments, given.samples),
        exams,
        on_exam=lambda model, exam: say(f"{model} on {exam}"),
    )
    base, router = Policy.load(MODEL), read_router(WORK / "router")
    routed = {
        exam.name: sum(router.choose(base, task.prompt) == place for task in exam.tasks)
        / len(exam.tasks)
        for place, exam in enumerate(exams, start=2)
    }
    size = (WORK / NAMES[0] / "adapter_model.safetensors").stat().st_size
    whole = (MODEL / "model.safetensors").stat().st_size
    result: dict[str, Any] = {
        "written_by": "make bench-experts",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "settings": SETTINGS.model_dump(mode="json"),
        "adapter": LORA.model_dump(mode="json"),
        "turns": given.turns,
        "groups": given.groups,
        "adapter_bytes": size,
        "model_bytes": whole,
        "routed_right": routed,
        "compose_seconds": seconds,
        "training_seconds": round(training),
        "seconds": round(time.perf_counter() - started),
        "rows": found.record(),
    }
    shares = ", ".join(f"{name} {share:.1%}" for name, share in routed.items())
    text = "\n".join(
        [
            "# Experts side by side",
            "",
            f"Written by `make bench-experts` on {os.cpu_count()} cores in {result['seconds']} s. "
            f"SmolLM2-135M; LoRA of rank {LORA.rank} in all projections, {given.turns} turns of "
            f"{given.groups} groups of 8, AdamW at {SETTINGS.learning_rate:g}. One adapter is "
            f"{size / 1e6:.1f} MB, {size / whole:.1%} of the model. Held-out pass@1 on "
            f"{given.tasks} tasks, {given.samples} samples each, ± standard error (in brackets "
            "the gain over the base, paired by task). One seed of training and of DARE's draw: "
            "the errors say nothing of the spread between runs.",
            "",
            found.markdown(),
            f"Held-out prompts that the router sends to their own expert: {shares}.",
            "",
        ]
    )
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    (given.out / "results.md").write_text(text, "utf-8")
    (given.out / "results.png").write_bytes(found.plot())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
