"""TRL's own loss on our tokens: GRPOTrainer._compute_loss, called without the rest of a trainer.

The method reads settings of its trainer and asks it for log-probabilities; both are given here,
so that what is computed is TRL's code, line by line, on the numbers that our loss sees.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch

from trainer.advantages import centred, normalised
from trainer.config import TrainSettings
from trainer.loss import TokenLoss, Tokens
from trainer.objectives import Objective


def trl_loss(
    tokens: Tokens,
    loss_type: str = "dapo",
    *,
    level: str = "token",
    epsilon: float = 0.2,
    epsilon_high: float = 0.2,
    delta: float | None = None,
    drift: float | None = None,
    longest: int = 256,
) -> torch.Tensor:
    """The scalar of TRL's loss for one micro-batch in one step. drift: its off-policy mask
    threshold. longest: its max_completion_length."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    rows, columns, shape = _places(tokens.traces)

    def padded(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(shape, dtype=values.dtype).index_put((rows, columns), values)

    mask = padded(torch.ones_like(tokens.traces))
    ids = torch.zeros(shape, dtype=torch.long)
    args = SimpleNamespace(delta=delta, use_bias_correction_kl=False, steps_per_generation=1)
    stub: Any = SimpleNamespace(
        args=args,
        model=SimpleNamespace(training=True),
        loss_type=loss_type,
        importance_sampling_level=level,
        epsilon_low=epsilon,
        epsilon_high=epsilon_high,
        beta=0.0,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=drift,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        max_completion_length=longest,
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda one: one, reduce=lambda one, reduction: one
        ),
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
        _get_per_token_logps_and_entropies=lambda *_, **__: (
            padded(tokens.current),
            torch.zeros(shape),
            None,
        ),
    )
    first = torch.zeros(shape[0], dtype=torch.long).index_put((rows,), torch.arange(len(rows)))
    old = torch.where(tokens.proximal.isfinite(), tokens.proximal, tokens.current.detach())
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones_like(ids[:, :1]),
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": tokens.advantages[first],
        "old_per_token_logps": padded(old),
        "num_items_in_batch": mask.sum(),
    }
    if tokens.behaviour is not None:
        inputs["sampling_per_token_logps"] = padded(tokens.behaviour)
    found: torch.Tensor = GRPOTrainer._compute_loss(stub, None, inputs)
    return found


def trl_objective(loss_type: str = "dapo") -> Objective:
    """TRL 1.16's default recipe for a step (loss dapo, epsilon 0.2, scores scaled by the group's
    standard deviation) as an objective for train_turn."""

    def loss(tokens: Tokens, settings: TrainSettings) -> TokenLoss:
        value = trl_loss(tokens, loss_type, longest=settings.dr_grpo_length)
        count = len(tokens.current)
        units = {"dapo": count, "grpo": len(tokens.traces.unique())}[loss_type]
        ratio = (tokens.current.detach() - tokens.proximal).nan_to_num(nan=0.0).exp()
        good = tokens.advantages >= 0
        clipped = torch.where(good, ratio > 1.2, ratio < 0.8)
        # One number for all tokens: train_turn sums the terms.
        return TokenLoss((value * units)[None], float(units), ratio, clipped)

    return Objective(centred if loss_type == "dr_grpo" else normalised, loss)


def _places(traces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Where each token goes in a padded [traces, longest] tensor."""
    counts = torch.bincount(traces)
    starts = counts.cumsum(0) - counts
    columns = torch.arange(len(traces)) - starts[traces]
    return traces, columns, (len(counts), int(counts.max()))
