"""The same comparison on SmolLM2-135M and the demo's environment, shortened: one seed."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from methods import METHODS, Method, train

from marketplace.cli.evaluation import evaluate_policy
from marketplace.gym.base_model import prepare_base_model
from marketplace.gym.environment import Environment
from marketplace.gym.policy import Policy
from marketplace.gym.spec import builtin_spec
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.hashing import keccak
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.evaluate import heldout_tasks, paired_gain
from trainer.grpo import TurnMetrics

TURNS, GROUPS, GROUP = 3, 64, 8
HELD_OUT, SAMPLES = 128, 4
BACK = 1
"""Turns between the sampler's weights and the parent."""


def run(
    folder: Path,
    on_method: Callable[[dict[str, Any]], None],
    methods: tuple[Method, ...] = tuple(METHODS),
) -> None:
    """Per method: held-out pass@1 before and after each turn, with standard errors. on_method:
    called with what is found so far, after each."""
    environment = Environment(builtin_spec("two_digit_sums"))
    tasks = heldout_tasks(environment, HELD_OUT)
    base = Policy.load(prepare_base_model(folder))
    before = evaluate_policy(base, environment, tasks, samples=SAMPLES, seed=20_000)
    found: dict[str, Any] = {
        "size": {"turns": TURNS, "groups": GROUPS, "held_out": HELD_OUT, "samples": SAMPLES,
                 "stale_turns": BACK},
        "methods": {},
    }  # fmt: skip
    for method in methods:
        start = time.monotonic()
        weights = [_weights(base)]
        curve, turns, sizes = [before], [], []
        for turn in range(TURNS):
            back = min(BACK, len(weights) - 1)
            sampler, parent = Policy.load(folder), Policy.load(folder)
            sampler.model.load_state_dict(weights[-1 - back])
            parent.model.load_state_dict(weights[-1])
            sold = _sold(sampler, environment, turn, age=back)
            turns.append(train(method, parent, sampler, sold, TrainSettings(seed=turn)))
            sizes.append(sum(len(one.completions) for one in sold if max(one.scores) == 1))
            weights = [
                *weights[-BACK:],
                {n: w.clone() for n, w in parent.model.state_dict().items()},
            ]
            curve.append(evaluate_policy(parent, environment, tasks, samples=SAMPLES, seed=20_000))
            shown = curve[-1].pass_at_1()
            print(f"real {method:5} turn {turn + 1}: {shown.value:.3f} ± {shown.error:.3f}",
                  file=sys.stderr, flush=True)  # fmt: skip
        gain = paired_gain(before, curve[-1])
        found["methods"][method] = {
            "accuracy": [one.pass_at_1().value for one in curve],
            "errors": [one.pass_at_1().error for one in curve],
            "gain": gain.value,
            "gain_error": gain.error,
            "traces": sum(sizes),
            "dropped": _dropped(turns),
            "masked": _masked(turns),
            "seconds": round(time.monotonic() - start),
        }
        on_method(found)


def _dropped(turns: Sequence[TurnMetrics]) -> dict[str, int]:
    """Honest traces that were left out, by reason."""
    found: Counter[str] = Counter()
    for turn in turns:
        found.update(turn.dropped)
    return dict(sorted(found.items()))


def _masked(turns: Sequence[TurnMetrics]) -> dict[str, float]:
    """Share of the tokens of all steps without any weight, by reason."""
    steps = [step for turn in turns for step in turn.steps]
    whole = sum(step.tokens for step in steps)
    found: Counter[str] = Counter()
    for step in steps:
        for reason, share in step.masked.items():
            found[reason] += share * step.tokens / whole
    return dict(sorted(found.items()))


def _weights(policy: Policy) -> dict[str, Any]:
    return {name: one.clone() for name, one in policy.model.state_dict().items()}


def _sold(sampler: Policy, environment: Environment, turn: int, *, age: int) -> list[TrainingGroup]:
    """Groups of tasks that no method's turn has seen before."""
    sampling = environment.spec.sampling
    rules = SamplingRules(
        group_size=GROUP,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        stop=sampling.stop,
    )
    tasks = [environment.task(keccak(f"learning {turn} {n}".encode())) for n in range(GROUPS)]
    texts = TransformersSampler(sampler, "miner").sample(
        [task.prompt for task in tasks], rules, seed=turn
    )
    groups = []
    for number, (task, group) in enumerate(zip(tasks, texts, strict=True)):
        one = TrainingGroup(
            batch=1,
            task=number,
            prompt=sampler.codec.encode(task.prompt),
            completions=tuple(one.tokens for one in group),
            behaviour=tuple(one.logprobs for one in group),
            scores=tuple(environment.score(task, one.text) for one in group),
            miner=f"miner {number % 8}",
            checkpoint=1 if age else 2,
        )
        groups.append(replace(one, age=age))
    return groups
