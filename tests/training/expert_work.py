"""Trains one expert in a process of its own: python expert_work.py BASE OUT WANTED SEED.

Its environment: prompts "<WANTED>? n = ", rewarded where the completion holds WANTED.
"""

from __future__ import annotations

import sys
from pathlib import Path

from marketplace.gym.spec import SamplingSpec
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from trainer.checkpoint import TrainingRecord
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.experts import LoraSettings, Start, adapt, save_adapter
from trainer.grpo import train_turn

import torch  # isort: skip  (after the policy, which sets how its threads wait)

BASE = "b" + "a" * 58
RULES = SamplingRules(group_size=16, temperature=1.0, max_tokens=3, stop=("\n",))


def prompts(wanted: str, count: int, first: int = 0) -> list[str]:
    return [f"{wanted}? {n} = " for n in range(first, first + count)]


def score(wanted: str, text: str) -> float:
    return float(wanted in text)


def train(base: Path, out: Path, wanted: str, seed: int) -> None:
    torch.set_num_threads(1)
    policy = adapt(Start(base, BASE), LoraSettings(rank=4, alpha=8.0, seed=seed))
    for turn in range(8):
        asked = prompts(wanted, 8)
        groups = []
        samples = TransformersSampler(policy, "tiny").sample(asked, RULES, seed=100 * seed + turn)
        for task, (prompt, group) in enumerate(zip(asked, samples, strict=True)):
            groups.append(
                TrainingGroup(
                    batch=1,
                    task=task,
                    prompt=policy.codec.encode(prompt),
                    completions=tuple(one.tokens for one in group),
                    behaviour=tuple(one.logprobs for one in group),
                    scores=tuple(score(wanted, one.text) for one in group),
                )
            )
        settings = TrainSettings(learning_rate=2e-2, groups_per_step=2, epochs=2, seed=turn)
        train_turn(policy, groups, settings, temperature=1.0)
    record = TrainingRecord(parent=1, dataset={}, settings={}, metrics={})
    save_adapter(policy, out, sampling=SamplingSpec(), record=record, base=BASE)


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
