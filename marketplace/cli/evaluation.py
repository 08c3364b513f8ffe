"""Held-out accuracy of a policy, as `model eval` and the demo measure it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from marketplace.cli.context import Context
from marketplace.gym.environment import Environment, Task
from marketplace.gym.policy import Policy
from marketplace.gym.spec import EnvironmentSpec, environment_id, spec_bytes
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.storage.assets import fetch_assets
from marketplace.storage.store import ContentStore
from trainer.evaluate import Evaluation, evaluate, heldout_tasks


def evaluate_policy(
    policy: Policy,
    environment: Environment,
    tasks: Sequence[Task],
    *,
    samples: int,
    seed: int,
    on_task: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Samples each task `samples` times by the environment's sampling rules, and scores."""
    sampling = environment.spec.sampling
    rules = SamplingRules(
        group_size=samples,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        stop=sampling.stop,
    )
    sampler = TransformersSampler(policy, "held-out")

    def complete(prompts: Sequence[str]) -> Iterable[Sequence[str]]:
        for group in sampler.sample(prompts, rules, seed=seed):
            yield [completion.text for completion in group]

    return evaluate(tasks, complete, environment.score, on_task=on_task)


SAMPLES, SEED = 4, 20_000
"""Of a training run's own evaluation."""


def evaluator(
    context: Context, store: ContentStore, spec: EnvironmentSpec, tasks: int
) -> Callable[[Policy], Mapping[str, Any]]:
    """What measures a policy for a training record: plain data, the same for the same policy."""
    fetch_assets(store, spec.to_fetch(), context.assets, timeout=30.0)
    environment = Environment(spec, context.assets)
    heldout = heldout_tasks(environment, tasks)

    def measure(policy: Policy) -> Mapping[str, Any]:
        found = evaluate_policy(
            policy, environment, heldout, samples=SAMPLES, seed=SEED
        ).pass_at_1()
        return {
            "environment": "0x" + environment_id(spec_bytes(spec)).hex(),
            "tasks": tasks,
            "samples": SAMPLES,
            "seed": SEED,
            "pass_at_1": found.value,
            "standard_error": found.error,
        }

    return measure
