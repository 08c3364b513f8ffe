"""What is compared, and what the traces are that all of them are given."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import arithmetic
from trl_peer import trl_objective

from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import Policy, completion_logprobs
from marketplace.miner.sampler import TransformersSampler
from marketplace.protocol.trace import Tier
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.grpo import TurnMetrics, train_turn

Method = Literal["ours", "trl", "sft"]
METHODS: Final[dict[Method, str]] = {
    "ours": "ours",
    "trl": "TRL 1.16 (dapo) at ratio 1",
    "sft": "SFT on positives",
}
GROUP = 8
UPDATES = 8
"""Optimizer steps of a turn."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """stale: most updates between the sampler's weights and the turn's parent (no sampler is older
    than the base model). foreign: sampled by another base model, registered and open. liars: share
    of groups whose miner claims false log-probabilities. poison: share of traces that are right
    and end in junk. name: seeds its traces and names it in results.json."""

    name: str
    stale: int = 0
    foreign: bool = False
    liars: float = 0.0
    poison: float = 0.0

    def behind(self, turn: int) -> int:
        """Turns between the sampler's weights and the parent in a turn, from 0 on."""
        return min(turn, self.stale // UPDATES)

    def told(self, turns: int) -> str:
        """What a reader is told of a run of so many turns."""
        oldest = UPDATES * self.behind(turns - 1)
        return f"up to {oldest} updates stale" if oldest < self.stale else self.name


SCENARIOS: Final = (
    Scenario("fresh"),
    Scenario("8 updates stale", stale=8),
    Scenario("64 updates stale", stale=64),
    Scenario("another checkpoint", foreign=True),
    Scenario("30 % false log-probs", liars=0.3),
    Scenario("10 % poisoned", poison=0.1),
)


def contributed(
    sampler: Policy, scenario: Scenario, groups: int, *, age: int, seed: int
) -> list[TrainingGroup]:
    """Groups as an honest market with some liars delivers them, those of one score too. Equal for
    every method that has the same sampler."""
    draw = random.Random(f"{scenario.name} {seed}")
    asked = draw.sample(arithmetic.questions(held_out=False), groups)
    rules = arithmetic.sampling(GROUP)
    prompts = [arithmetic.prompt_of(one) for one in asked]
    sampled = TransformersSampler(sampler, "miner").sample(prompts, rules, seed=seed)
    found = []
    for task, (question, prompt, texts) in enumerate(zip(asked, prompts, sampled, strict=True)):
        completions = [one.tokens for one in texts]
        behaviour = [one.logprobs for one in texts]
        for place in range(GROUP):
            if draw.random() < scenario.poison:
                junk = arithmetic.answer_of(question) + arithmetic.JUNK + "\n"
                completions[place] = sampler.codec.encode(junk)
                (rows,) = completion_logprobs(
                    sampler,
                    [TokenGroup(sampler.codec.encode(prompt), (completions[place],))],
                    1.0,
                )
                behaviour[place] = rows[0]  # true ones: the text is the lie
        if draw.random() < scenario.liars:
            behaviour = [tuple(one - draw.uniform(0.5, 3.0) for one in row) for row in behaviour]
        scores = tuple(
            arithmetic.score(question, sampler.codec.completion(one, arithmetic.STOP))
            for one in completions
        )
        found.append(
            TrainingGroup(
                batch=1,
                task=task,
                prompt=sampler.codec.encode(prompt),
                completions=tuple(completions),
                behaviour=tuple(behaviour),
                scores=scores,
                miner=f"miner {task % 8}",
                checkpoint=1 if age else 2,
                age=age,
            )
        )
    return found


def train(
    method: Method,
    parent: Policy,
    sampler: Policy,
    groups: Sequence[TrainingGroup],
    settings: TrainSettings,
) -> TurnMetrics:
    """One turn of a method on the groups, in place."""
    groups = [one for one in groups if _is_of_use(method, one, settings)]
    settings = settings.model_copy(
        update={"groups_per_step": max(1, round(len(groups) / UPDATES)), "token_budget": 2048}
    )
    if method == "ours":
        return train_turn(parent, groups, settings, temperature=1.0, behaviour_of=lambda _: sampler)
    # The others believe what they are given: nothing is verified, filtered or capped.
    open_ = settings.model_copy(
        update={
            "mean_tolerance": 1e9,
            "max_tolerance": 1e9,
            "poison_sigmas": 0.0,
            "miner_share": 1.0,
            "min_effective_share": 0.0,
            "opaque_weight": 1.0,
            "positive_ce": 0.0,
        }
    )
    if method == "trl":
        believed = [replace(one, age=0, tier=Tier.A) for one in groups]
        return train_turn(parent, believed, open_, temperature=1.0, objective=trl_objective("dapo"))
    positives = [
        replace(one.only([i for i, s in enumerate(one.scores) if s == 1]), behaviour=None, age=0)
        for one in groups
    ]
    return train_turn(parent, positives, open_, temperature=1.0)


def _is_of_use(method: Method, group: TrainingGroup, settings: TrainSettings) -> bool:
    """Where all are wrong no method learns anything. Where all are right TRL's advantages are 0:
    such groups would only make its steps smaller. The others imitate them."""
    if method == "trl" or (method == "ours" and not settings.imitates):
        return len(set(group.scores)) > 1
    return max(group.scores) == 1
