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
from itertools import islice
from typing import Any, Final

import torch

from marketplace.gym.packing import TokenGroup, pack_groups, prefetched
from marketplace.gym.policy import Policy, completion_logprobs, pack_logprobs
from marketplace.gym.provenance import Tolerance
from marketplace.protocol.errors import CheckpointError
from trainer.advantages import is_informative, leave_one_out
from trainer.config import TrainSettings
from trainer.data import ALL_ALIKE, OFF_POLICY, SINGLE, TrainingGroup
from trainer.forward import training_forward, whole_norm
from trainer.loss import ClipBand, effective_share, policy_loss
from trainer.state import TrainState, record, resume, run_digest

KL_LEVELS: Final = (0.5, 0.9, 0.99)
CLIPPED: Final = "clipped"


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One optimizer step.

    grad_norm: before clipping. clipped_share, effective_share (ESS): of tokens. kl_quantiles: of
    the tokens' divergence ratio - 1 - log ratio, at KL_LEVELS. masked: share of the step's tokens
    that got no weight, by reason. mean_length: tokens of a completion. mean_score: of the traces.
    """

    loss: float
    grad_norm: float
    mean_ratio: float
    clipped_share: float
    effective_share: float
    groups: int
    tokens: int
    kl_quantiles: tuple[float, ...] = (0.0, 0.0, 0.0)
    masked: dict[str, float] = field(default_factory=dict)
    mean_length: float = 0.0
    mean_score: float = 0.0


@dataclass(frozen=True, slots=True)
class TurnMetrics:
    """A whole turn. dropped: traces left out by verification. stopped_early: the data went stale.

    groups, traces, tokens: what was trained on, once per epoch.
    """

    steps: tuple[StepMetrics, ...]
    groups: int
    traces: int
    tokens: int
    dropped: dict[str, int]
    stopped_early: bool

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
    state: TrainState | None = None,
) -> TurnMetrics:
    """Train the policy in place on groups that were sampled from it at `temperature`.

    policy: the parent's, also where a state is resumed, whose weights are put in place once the
    behaviour is verified. Only parameters that require a gradient change.
    on_step: called with (steps done, steps in all, metrics). state: filled before each on_step,
    for trainer.state.save_state; a state that holds steps makes the turn go on behind them and
    end in the same weights. Without usable groups nothing changes. Raises CheckpointError if a
    gradient is not finite (the weights are then those of the last good step) or the state is
    another run's.
    """
    state = TrainState() if state is None else state
    run = run_digest(settings, groups)
    groups, dropped = verify_behaviour(policy, groups, settings, temperature=temperature)
    named = {name: one for name, one in policy.model.named_parameters() if one.requires_grad}
    parameters = list(named.values())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over the weights and moments
    )
    per_epoch = max(1, round(len(groups) / settings.groups_per_step)) if groups else 0
    resume(state, run, named, optimizer)
    steps = [_step_of(one) for one in state.steps]
    for minibatch in islice(_minibatches(groups, per_epoch, settings), len(steps), None):
        if state.stopped:
            break
        warmth = min(1.0, (len(steps) + 1) / (settings.warmup_steps + 1))
        optimizer.param_groups[0]["lr"] = settings.learning_rate * warmth
        step = _train_step(policy, optimizer, parameters, minibatch, settings, temperature)
        steps.append(step)
        record(state, named, optimizer, asdict(step))
        state.stopped = step.effective_share < settings.min_effective_share
        if on_step is not None:
            on_step(len(steps), per_epoch * settings.epochs, step)
    optimizer.zero_grad(set_to_none=True)
    return TurnMetrics(
        tuple(steps),
        len(groups),
        sum(len(group.completions) for group in groups),
        sum(group.tokens for group in groups),
        dropped,
        state.stopped,
    )


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
    packs = prefetched(pack_groups(list(map(_tokens, groups)), settings.token_budget))
    for pack, counts in policy.team.share(packs):
        with training_forward(
            policy.model, precision=settings.precision, recompute=settings.recompute
        ):
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
        (result.loss * policy.team.weight(counts)).backward()
        if not counts:
            continue
        total += float(result.loss.detach())
        ratios.append(result.ratio.cpu())
        clipped += int(result.clipped.sum())
    parts = policy.team.gather((total, clipped, ratios))
    total = math.fsum(one for one, *_ in parts)
    clipped = sum(one for _, one, _ in parts)
    ratios = [one for *_, some in parts for one in some]
    norm = whole_norm(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
    if not math.isfinite(norm):
        raise CheckpointError(
            f"the gradient norm is {norm} after a loss of {total}",
            fix="lower learning_rate, or look for corrupt weights in the parent checkpoint",
        )
    optimizer.step()
    together = torch.cat(ratios)
    scores = [score for group in groups for score in group.scores]
    return StepMetrics(
        loss=total,
        grad_norm=norm,
        mean_ratio=float(together.mean()),
        clipped_share=clipped / denominator,
        effective_share=effective_share(together),
        groups=len(groups),
        tokens=denominator,
        kl_quantiles=kl_quantiles(together),
        masked={CLIPPED: clipped / denominator} if clipped else {},
        mean_length=denominator / len(scores),
        mean_score=math.fsum(scores) / len(scores),
    )


def kl_quantiles(ratios: torch.Tensor) -> tuple[float, ...]:
    """Of each token's ratio - 1 - log ratio: never negative, in expectation the divergence.

    (The estimator k3, http://joschu.net/blog/kl-approx.html.)
    """
    logs = ratios.double().log()
    found = torch.expm1(logs) - logs
    # Not torch.quantile, which refuses more than 2^24 values.
    ordered = found.sort().values
    return tuple(float(ordered[round(level * (len(ordered) - 1))]) for level in KL_LEVELS)


def _step_of(plain: dict[str, Any]) -> StepMetrics:
    return StepMetrics(**{**plain, "kl_quantiles": tuple(plain["kl_quantiles"])})


def _advantages(group: TrainingGroup, settings: TrainSettings) -> tuple[float, ...]:
    if group.behaviour is None:
        return (settings.opaque_weight,) * len(group.completions)
    return leave_one_out(group.scores)


def _tokens(group: TrainingGroup) -> TokenGroup:
    return TokenGroup(group.prompt, group.completions)
