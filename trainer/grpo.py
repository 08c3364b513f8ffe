"""One training turn: groups in, the policy's weights changed in place, metrics out.

    verify    log-probabilities of every completion under the policy that sampled it and under
              the parent; what they speak against is left out (verify.py)
    plan      minibatches of about groups_per_step groups, in an order fixed by the seed
    step      per minibatch: influence capped, packed forward and backward in micro-batches, one
              denominator, gradient norm clipped, AdamW

Claims are replaced by facts first, so that a miner can't steer the ratio of a single token.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice

import torch

from marketplace.gym.packing import Pack, TokenGroup, pack_groups, prefetched
from marketplace.gym.policy import Policy, pack_logprobs
from marketplace.protocol.errors import CheckpointError
from marketplace.protocol.trace import Tier
from trainer.advantages import is_solved, priced
from trainer.caps import capped
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.forward import resolved, training_forward, whole_norm
from trainer.loss import Tokens, effective_share
from trainer.measures import (
    StepMetrics,
    TurnMetrics,
    epoch_effective_share,
    kl_quantiles,
    step_of,
)
from trainer.objectives import OBJECTIVES, Objective
from trainer.state import TrainState, record, resume, run_digest
from trainer.verify import PolicyOf, verify_behaviour

__all__ = ["StepMetrics", "TurnMetrics", "train_turn", "verify_behaviour"]

# Of one process: loss, units, clipped tokens, masked ones by reason, ratios.
_Part = tuple[float, float, int, dict[str, int], list[torch.Tensor]]

CAPPED = "over its miner's or tier's share"


def train_turn(
    policy: Policy,
    groups: Sequence[TrainingGroup],
    settings: TrainSettings,
    *,
    temperature: float,
    behaviour_of: PolicyOf | None = None,
    objective: Objective | None = None,
    on_step: Callable[[int, int, StepMetrics], None] | None = None,
    state: TrainState | None = None,
) -> TurnMetrics:
    """Train the policy in place on groups that were sampled at `temperature`.

    policy: the parent's, also where a state is resumed, whose weights are put in place once the
    behaviour is verified. Only parameters that require a gradient change.
    behaviour_of: weights of the earlier checkpoints that groups with an age come from.
    objective: instead of the one that settings.loss names.
    on_step: called with (steps done, steps in all, metrics). state: filled before each on_step,
    for trainer.state.save_state; a state that holds steps makes the turn go on behind them and
    end in the same weights. Without usable groups nothing changes. Raises CheckpointError if a
    gradient is not finite (the weights are then those of the last good step) or the state is
    another run's.
    """
    state = TrainState() if state is None else state
    objective = objective or OBJECTIVES[settings.loss]
    run = run_digest(settings, groups)
    groups, dropped = verify_behaviour(
        policy, groups, settings, temperature=temperature, behaviour_of=behaviour_of
    )
    named = {name: one for name, one in policy.model.named_parameters() if one.requires_grad}
    optimizer = torch.optim.AdamW(
        list(named.values()),
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over the weights and moments
    )
    per_epoch = max(1, round(len(groups) / settings.groups_per_step)) if groups else 0
    resume(state, run, named, optimizer)
    # Once for a turn, and by one process for all: "auto" measures, and may measure otherwise.
    found = policy.team.gather(resolved(settings.precision, policy.device.type))
    state.precision = state.precision or found[0]
    settings = settings.model_copy(update={"precision": state.precision})
    steps = [step_of(one) for one in state.steps]
    for minibatch in islice(_minibatches(groups, per_epoch, settings), len(steps), None):
        if state.stopped:
            break
        warmth = min(1.0, (len(steps) + 1) / (settings.warmup_steps + 1))
        optimizer.param_groups[0]["lr"] = settings.learning_rate * warmth
        step = _train_step(policy, optimizer, minibatch, objective, settings, temperature)
        steps.append(step)
        record(state, named, optimizer, asdict(step))
        state.stopped = _stale(steps, per_epoch, settings)
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
        tokens_by_batch(groups),
    )


def tokens_by_batch(groups: Sequence[TrainingGroup]) -> dict[int, int]:
    """Completion tokens that each batch gave, by ascending batch."""
    counted: Counter[int] = Counter()
    for group in groups:
        counted[group.batch] += group.tokens
    return dict(sorted(counted.items()))


def _minibatches(
    groups: Sequence[TrainingGroup], per_epoch: int, settings: TrainSettings
) -> Iterator[list[TrainingGroup]]:
    order = random.Random(settings.seed)
    for _ in range(settings.epochs):
        shuffled = list(groups)
        order.shuffle(shuffled)
        for index in range(per_epoch):
            yield shuffled[index::per_epoch]


def _stale(steps: Sequence[StepMetrics], per_epoch: int, settings: TrainSettings) -> bool:
    """The stop rule: at the end of each epoch, over all of its tokens. One minibatch says little,
    and the data of an epoch are as old at its start as at its end."""
    if len(steps) % per_epoch:
        return False
    return epoch_effective_share(steps[-per_epoch:]) < settings.min_effective_share


def _train_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    groups: list[TrainingGroup],
    objective: Objective,
    settings: TrainSettings,
    temperature: float,
) -> StepMetrics:
    tokens = sum(group.tokens for group in groups)
    advantages, imitation, taken = _advantages(groups, objective, settings)
    optimizer.zero_grad(set_to_none=True)
    total, units, clipped = 0.0, 0.0, 0
    masked: dict[str, int] = {}
    ratios: list[torch.Tensor] = []
    packed = [TokenGroup(group.prompt, group.completions) for group in groups]
    packs = prefetched(pack_groups(packed, settings.token_budget))
    for pack, counts in policy.team.share(packs):
        with training_forward(
            policy.model, precision=settings.precision, recompute=settings.recompute
        ):
            logprobs = pack_logprobs(policy, pack, temperature)
        gathered = _gathered(pack, groups, logprobs, advantages, imitation)
        result = objective.loss(gathered, settings)
        loss = result.terms.sum()
        # What a step is divided by is known only once all of it was seen (which tokens are kept
        # depends on the current policy), so gradients are brought to it at the end.
        (loss * (policy.team.weight(counts) / tokens)).backward()
        if not counts:
            continue
        total += float(loss.detach())
        units += result.units
        ratios.append(result.ratio.cpu())
        clipped += int(result.clipped.sum())
        for reason, count in result.masked.items():
            masked[reason] = masked.get(reason, 0) + count
    total, units, clipped, masked, ratios = _summed(
        policy.team.gather((total, units, clipped, masked, ratios))
    )
    norm = _apply(optimizer, tokens / units, total, settings) if units else 0.0
    together = torch.cat(ratios)
    scores = [score for group in groups for score in group.scores]
    shares = {reason: count / tokens for reason, count in sorted(masked.items())}
    return StepMetrics(
        loss=total / units if units else 0.0,
        grad_norm=norm,
        mean_ratio=float(together.mean()),
        clipped_share=clipped / tokens,
        effective_share=effective_share(together),
        groups=len(groups),
        tokens=tokens,
        kl_quantiles=kl_quantiles(together),
        masked={**shares, CAPPED: taken} if taken else shares,
        mean_length=tokens / len(scores),
        mean_score=math.fsum(scores) / len(scores),
    )


def _summed(parts: Sequence[_Part]) -> _Part:
    """What the processes of a team saw, as if one had seen it all."""
    totals, units, clipped, masked, ratios = zip(*parts, strict=True)
    counts: Counter[str] = Counter()
    for one in masked:
        counts.update(one)
    return (
        math.fsum(totals),
        math.fsum(units),
        sum(clipped),
        dict(counts),
        [one for some in ratios for one in some],
    )


def _apply(
    optimizer: torch.optim.Optimizer, scale: float, loss: float, settings: TrainSettings
) -> float:
    """Scale, clip and apply the gradients; their norm before clipping."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for one in parameters:
        if one.grad is not None:
            one.grad.mul_(scale)
    norm = whole_norm(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
    if not math.isfinite(norm):
        raise CheckpointError(
            f"the gradient norm is {norm} after a loss of {loss}",
            fix="lower learning_rate, or look for corrupt weights in the parent checkpoint",
        )
    optimizer.step()
    return norm


def _gathered(
    pack: Pack,
    groups: Sequence[TrainingGroup],
    logprobs: torch.Tensor,
    advantages: Sequence[Sequence[float]],
    imitation: Sequence[Sequence[float]],
) -> Tokens:
    """The completions of a pack, one after the other."""
    rows: list[int] = []
    behaviour: list[float] = []
    proximal: list[float] = []
    weights: list[float] = []
    imitated: list[float] = []
    traces: list[int] = []
    strict: list[bool] = []
    for number, span in enumerate(pack.spans):
        group, count = groups[span.group], len(span.rows)
        sampled = group.behaviour[span.completion] if group.behaviour else (math.nan,) * count
        behaviour += sampled
        proximal += group.proximal[span.completion] if group.proximal else sampled
        rows += span.rows.tolist()
        weights += [advantages[span.group][span.completion]] * count
        imitated += [imitation[span.group][span.completion]] * count
        traces += [number] * count
        strict += [group.tier is Tier.B] * count
    device = logprobs.device
    stale = any(groups[span.group].proximal for span in pack.spans)
    return Tokens(
        current=logprobs[torch.tensor(rows, device=device)],
        proximal=torch.tensor(proximal, device=device),
        behaviour=torch.tensor(behaviour, device=device) if stale else None,
        advantages=torch.tensor(weights, device=device),
        traces=torch.tensor(traces, device=device),
        strict=torch.tensor(strict, device=device),
        imitation=torch.tensor(imitated, device=device) if any(imitated) else None,
    )


def _advantages(
    groups: Sequence[TrainingGroup], objective: Objective, settings: TrainSettings
) -> tuple[list[list[float]], list[list[float]], float]:
    """Per group and trace, capped: the advantage and the weight of imitation; and the share of
    both, times tokens, that the caps took."""
    found: list[tuple[float, ...]] = []
    for group in groups:
        if group.behaviour is None:
            found.append((settings.opaque_weight,) * len(group.completions))
        elif is_solved(group.scores):  # to imitate only: a length price must not compare them
            found.append((0.0,) * len(group.completions))
        else:
            lengths = [len(one) for one in group.completions]
            found.append(objective.advantages(priced(group.scores, lengths, settings.length_price)))
    imitation = [_imitation(group, row, settings) for group, row in zip(groups, found, strict=True)]
    masses = [
        math.fsum(
            (abs(a) + i) * len(c) for a, i, c in zip(row, own, group.completions, strict=True)
        )
        for row, own, group in zip(found, imitation, groups, strict=True)
    ]
    factors = capped(
        masses,
        [group.miner for group in groups],
        [Tier.C if group.behaviour is None else group.tier for group in groups],
        miner_share=settings.miner_share,
        scorable_share=settings.scorable_share,
    )
    whole = math.fsum(masses)
    left = math.fsum(mass * factor for mass, factor in zip(masses, factors, strict=True))
    taken = 1 - left / whole if whole else 0.0
    weighted, imitated = (
        [[one * factor for one in row] for row, factor in zip(rows, factors, strict=True)]
        for rows in (found, imitation)
    )
    return weighted, imitated, taken if taken > 1e-12 else 0.0


def _imitation(
    group: TrainingGroup, advantages: Sequence[float], settings: TrainSettings
) -> list[float]:
    """Of each trace: positive_ce where its score is full and no length price made it a bad one.
    Tier C has its weight as an advantage."""
    if group.behaviour is None or not settings.imitates:
        return [0.0] * len(group.completions)
    return [
        settings.positive_ce if score >= 1.0 and advantage >= 0 else 0.0
        for score, advantage in zip(group.scores, advantages, strict=True)
    ]
