"""TRL's GRPO step on the same work: GRPOTrainer's own loss, backward, clipping and optimizer.

What is chosen for it, to its advantage: no reference model (beta 0), no generation and no reward
in the measured part, its fused optimizer, no gradient checkpointing where speed is measured,
prompts padded to the left and completions to the longest of a micro-batch as its collator does,
and the fastest of several micro-batch sizes. Its language-model head is its own fused one, which
gives entropies too: TRL computes them at every step, for a metric.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import Any

from work import BETAS, HIGH, LOW, MAX_NORM, RATE, TEMPERATURE, Outcome, Traces

from marketplace.gym.policy import Policy

import torch  # isort: skip  (after the policy, which sets how its threads wait)

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def micro_batches(group: int) -> list[int]:
    """Traces at once that are tried, all of a group among them. One at a time needs no padding,
    which on a processor can be the fastest."""
    return sorted({size for size in (1, 2, 4, group) if size <= group})


class Peer:
    """TRL's trainer around a model, at a micro-batch size. gpu: there; half: in bf16."""

    def __init__(
        self,
        policy: Policy,
        *,
        group: int,
        micro_batch: int,
        recompute: bool = False,
        gpu: bool = False,
        half: bool = True,
    ) -> None:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        self.micro_batch = micro_batch
        tokenizer = policy.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        config = GRPOConfig(
            output_dir=tempfile.mkdtemp(prefix="bench-train-"),
            use_cpu=not gpu,
            bf16=gpu and half,
            report_to="none",
            save_strategy="no",
            per_device_train_batch_size=group,
            num_generations=group,
            max_completion_length=2048,
            beta=0.0,
            loss_type="dapo",
            epsilon=1 - LOW,
            epsilon_high=HIGH - 1,
            temperature=TEMPERATURE,
            learning_rate=RATE,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            weight_decay=0.0,
            max_grad_norm=MAX_NORM,
            gradient_checkpointing=recompute,
            disable_tqdm=True,
        )
        self.trainer: Any = GRPOTrainer(
            model=policy.model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=config,
            train_dataset=Dataset.from_dict({"prompt": ["a"] * group}),
            processing_class=tokenizer,
        )
        self.trainer.current_gradient_accumulation_steps = 1
        if recompute:  # as Trainer.train does before its first step
            policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.model: Any = self.trainer.model
        self.optimizer: Any = self.trainer.create_optimizer()

    def step(self, traces: Traces) -> Outcome:
        starts = range(0, len(traces.advantages), self.micro_batch)
        return self.over(padded(traces, slice(one, one + self.micro_batch)) for one in starts)

    def over(self, micro_batches: Iterable[dict[str, torch.Tensor]]) -> Outcome:
        """One optimizer step over the inputs of several micro-batches."""
        trainer, model = self.trainer, self.model
        model.train()
        total = 0.0
        for inputs in micro_batches:
            with trainer.compute_loss_context_manager():
                loss = trainer.compute_loss(model, inputs)
            trainer.accelerator.backward(loss)
            total += float(loss.detach())
        norm = trainer.accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
        self.optimizer.step()
        model.zero_grad()
        return Outcome(total, float(norm))


def padded(traces: Traces, part: slice) -> dict[str, torch.Tensor]:
    """The inputs that GRPOTrainer makes of such completions. The prompts are of one length."""
    group = traces.group
    completions, old = group.completions[part], traces.old[part]
    longest = max(map(len, completions))
    ids = torch.full((len(completions), longest), 2)
    mask = torch.zeros_like(ids)
    before = torch.zeros(ids.shape)
    for row, (tokens, values) in enumerate(zip(completions, old, strict=True)):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
        before[row, : len(tokens)] = torch.tensor(values)
    prompt = torch.tensor([group.prompt] * len(completions))
    return {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": torch.tensor(traces.advantages[part]),
        "old_per_token_logps": before,
        "num_items_in_batch": torch.tensor(float(traces.tokens)),
    }
