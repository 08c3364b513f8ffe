"""One training turn: groups in, the policy's weights changed in place, metrics out.

    verify    the parent's own log-probabilities of every completion (one pass without gradient);
              traces whose miner claimed others are dropped, the rest is trained with ours
    plan      minibatches of about groups_per_step groups, in an order fixed by the seed
    step      per minibatch: packed forward and backward in micro-batches, one denominator,
              gradient norm clipped, AdamW

The first pass replaces claims by facts, so that a miner can't steer the ratio of a single token.
It is possible because a turn trains the very checkpoint that its traces came from.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from marketplace.gym.packing import TokenGroup, pack_groups
from marketplace.gym.policy import Policy, completion_logprobs, pack_logprobs
from marketplace.gym.provenance import Tolerance
from marketplace.protocol.errors import CheckpointError
from trainer.advantages import is_informative, leave_one_out
from trainer.config import TrainSettings
from trainer.data import ALL_ALIKE, OFF_POLICY, SINGLE, TrainingGroup
from trainer.loss import ClipBand, effective_share, policy_loss


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One optimizer step. grad_norm: before clipping. clipped_share, effective_share: of tokens."""

    loss: float
    grad_norm: float
    mean_ratio: float
    clipped_share: float
    effective_share: float
    groups: int
    tokens: int


@dataclass(frozen=True, slots=True)
class TurnMetrics:
    """A whole turn. dropped: traces left out by verification. stopped_early: the data went stale.

    groups, traces, tokens: what was trained on, once per epoch. batch_tokens: the tokens by batch.
    """

    steps: tuple[StepMetrics, ...]
    groups: int
    traces: int
    tokens: int
    dropped: dict[str, int]
    stopped_early: bool
    batch_tokens: dict[int, int] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Plain data for a training record: counts, and means over the steps."""
        names = ("loss", "grad_norm", "mean_ratio", "clipped_share", "effective_share")
        means = {
            name: math.fsum(getattr(step, name) for step in self.steps) / max(1, len(self.steps))
            for name in names
        }
        return {
            **means,
            "optimizer_steps": len(self.steps),
            "groups": self.groups,
            "traces": self.traces,
            "tokens": self.tokens,
            "dropped": self.dropped,
            "stopped_early": self.stopped_early,
            "steps": [asdict(step) for step in self.steps],
        }


def train_turn(
    policy: Policy,
    groups: Sequence[TrainingGroup],
    settings: TrainSettings,
    *,
    temperature: float,
    on_step: Callable[[int, int, StepMetrics], None] | None = None,
) -> TurnMetrics:
    """Train the policy in place on groups that were sampled from it at `temperature`.

    on_step: called with (steps done, steps in all, metrics). Without usable groups nothing
    changes. Raises CheckpointError if a gradient is not finite; the weights are then those of
    the last good step.
    """
    groups, dropped = verify_behaviour(policy, groups, settings, temperature=temperature)
    parameters = [one for one in policy.model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
    )
    per_epoch = max(1, round(len(groups) / settings.groups_per_step)) if groups else 0
    steps: list[StepMetrics] = []
    stopped = False
    for minibatch in _minibatches(groups, per_epoch, settings):
        warmth = min(1.0, (len(steps) + 1) / (settings.warmup_steps + 1))
        optimizer.param_groups[0]["lr"] = settings.learning_rate * warmth
        step = _train_step(policy, optimizer, parameters, minibatch, settings, temperature)
        steps.append(step)
        if on_step is not None:
            on_step(len(steps), per_epoch * settings.epochs, step)
        if step.effective_share < settings.min_effective_share:
            stopped = True
            break
    optimizer.zero_grad(set_to_none=True)
    return TurnMetrics(
        tuple(steps),
        len(groups),
        sum(len(group.completions) for group in groups),
        sum(group.tokens for group in groups),
        dropped,
        stopped,
        tokens_by_batch(groups),
    )


def tokens_by_batch(groups: Sequence[TrainingGroup]) -> dict[int, int]:
    """Completion tokens that each batch gave, by ascending batch."""
    counted: Counter[int] = Counter()
    for group in groups:
        counted[group.batch] += group.tokens
    return dict(sorted(counted.items()))


def verify_behaviour(
    policy: Policy,
    groups: Sequence[TrainingGroup],
    settings: TrainSettings,
    *,
    temperature: float,
) -> tuple[list[TrainingGroup], dict[str, int]]:
    """The groups with the policy's own log-probabilities as behaviour; dropped traces by reason.

    A trace that claimed others (over the settings' tolerances) is dropped; so is what is left
    of a group that says nothing any more. Opaque groups pass as they are.
    """
    tolerance = Tolerance(settings.mean_tolerance, settings.max_tolerance)
    claimed = [group for group in groups if group.behaviour is not None]
    verified = completion_logprobs(
        policy, list(map(_tokens, claimed)), temperature, token_budget=settings.token_budget
    )
    kept: list[TrainingGroup] = []
    dropped: Counter[str] = Counter()
    for group, own in zip(claimed, verified, strict=True):
        good = [
            place
            for place, (ours, theirs) in enumerate(zip(own, group.behaviour or (), strict=True))
            if tolerance.admits(ours, theirs)
        ]
        dropped[OFF_POLICY] += len(own) - len(good)
        scores = tuple(group.scores[place] for place in good)
        if is_informative(scores):
            completions = tuple(group.completions[place] for place in good)
            behaviour = tuple(own[place] for place in good)
            kept.append(replace(group, completions=completions, behaviour=behaviour, scores=scores))
        else:
            dropped[ALL_ALIKE if len(good) > 1 else SINGLE] += len(good)
    kept += [group for group in groups if group.behaviour is None]
    return kept, {reason: count for reason, count in dropped.items() if count}


def _minibatches(
    groups: Sequence[TrainingGroup], per_epoch: int, settings: TrainSettings
) -> Iterator[list[TrainingGroup]]:
    order = random.Random(settings.seed)
    for _ in range(settings.epochs):
        shuffled = list(groups)
        order.shuffle(shuffled)
        for index in range(per_epoch):
            yield shuffled[index::per_epoch]


def _train_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
    groups: list[TrainingGroup],
    settings: TrainSettings,
    temperature: float,
) -> StepMetrics:
    band = ClipBand(settings.ratio_low, settings.ratio_high, settings.negative_ratio_cap)
    denominator = sum(group.tokens for group in groups)
    advantages = [_advantages(group, settings) for group in groups]
    optimizer.zero_grad(set_to_none=True)
    total, clipped = 0.0, 0
    ratios: list[torch.Tensor] = []
    for pack in pack_groups(list(map(_tokens, groups)), settings.token_budget):
        logprobs = pack_logprobs(policy, pack, temperature)
        rows: list[int] = []
        behaviour: list[float] = []
        weights: list[float] = []
        for span in pack.spans:
            known = groups[span.group].behaviour
            rows += span.rows.tolist()
            behaviour += known[span.completion] if known else [math.nan] * len(span.rows)
            weights += [advantages[span.group][span.completion]] * len(span.rows)
        result = policy_loss(
            logprobs[torch.tensor(rows, device=policy.device)],
            torch.tensor(behaviour, device=policy.device),
            torch.tensor(weights, device=policy.device),
            denominator=denominator,
            band=band,
        )
        result.loss.backward()
        total += float(result.loss.detach())
        ratios.append(result.ratio.cpu())
        clipped += int(result.clipped.sum())
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
    if not math.isfinite(norm):
        raise CheckpointError(
            f"the gradient norm is {norm} after a loss of {total}",
            fix="lower learning_rate, or look for corrupt weights in the parent checkpoint",
        )
    optimizer.step()
    together = torch.cat(ratios)
    return StepMetrics(
        loss=total,
        grad_norm=norm,
        mean_ratio=float(together.mean()),
        clipped_share=clipped / denominator,
        effective_share=effective_share(together),
        groups=len(groups),
        tokens=denominator,
    )


def _advantages(group: TrainingGroup, settings: TrainSettings) -> tuple[float, ...]:
    if group.behaviour is None:
        return (settings.opaque_weight,) * len(group.completions)
    return leave_one_out(group.scores)


def _tokens(group: TrainingGroup) -> TokenGroup:
    return TokenGroup(group.prompt, group.completions)
