"""Before a turn: claims are replaced by facts, and what facts speak against is left out.

score     one pass without gradient of the checkpoint that sampled (behaviour) and of the
          parent (proximal); for the parent's own traces these are the same pass
claims    traces whose miner claimed other log-probabilities are left out; the rest goes on
          with ours, so that no miner steers the ratio of a single token
replay    tier A: the attestation says that the seed picked every token. Some groups, drawn
          by what the batch's committee was drawn with (nobody knew it when the batch was
          committed) and the run's seed, are sampled again here; where one fails, all of it is,
          because then its committee lied or errs. Replaying all would cost a row of noise
          per token for what a staked committee has done already. Groups with an attested copy
          that chance does not give are always replayed: no seed draws such a text twice.
copies    tier B: see `_repeated`
poison    tiers B and C: texts far less likely than others of their kind (filters.py)
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from marketplace.gym.packing import TokenGroup, pack_groups
from marketplace.gym.policy import Policy, pack_logprobs
from marketplace.gym.provenance import ReplayTolerance, Tolerance
from marketplace.gym.replay import SeededGroup, replay
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.trace import Tier
from trainer.advantages import is_informative, is_solved
from trainer.config import TrainSettings
from trainer.data import (
    ALL_ALIKE,
    COPY,
    IMPROBABLE,
    NOT_REPLAYED,
    OFF_POLICY,
    OTHER_VOCABULARY,
    SINGLE,
    TOO_OFTEN,
    TrainingGroup,
)
from trainer.filters import improbable, peak_surprise, too_often

import torch  # isort: skip  (after the policy, which sets how its threads wait)

PolicyOf = Callable[[int], Policy]
"""The policy of an earlier checkpoint of the lineage, by its id; it may be loaded on demand."""

_Row = tuple[float, ...]


def verify_behaviour(
    policy: Policy,
    groups: Sequence[TrainingGroup],
    settings: TrainSettings,
    *,
    temperature: float,
    behaviour_of: PolicyOf | None = None,
) -> tuple[list[TrainingGroup], dict[str, int]]:
    """Groups with verified log-probabilities; traces that were left out, by reason.

    policy: the parent's. behaviour_of: needed for traces of earlier checkpoints (ConfigError
    without it). What is left of a group that says nothing any more is left out too.
    """
    proximal, surprises = _scored(policy, groups, temperature, settings)
    behaviour = list(proximal)
    foreign: set[int] = set()
    for checkpoint in sorted({group.checkpoint for group in groups if group.age}):
        if behaviour_of is None:
            raise ConfigError(
                f"traces of checkpoint {checkpoint} need that checkpoint's weights",
                fix="train with behaviour_of, or with max_staleness 0",
            )
        places = [i for i, one in enumerate(groups) if one.age and one.checkpoint == checkpoint]
        older = behaviour_of(checkpoint)
        if older.tokenizer.get_vocab() != policy.tokenizer.get_vocab():
            foreign.add(checkpoint)  # the same ids would be other words
            continue
        scored, peaks = _scored(older, [groups[i] for i in places], temperature, settings)
        for place, rows, found in zip(places, scored, peaks, strict=True):
            behaviour[place], surprises[place] = rows, found
    dropped: Counter[str] = Counter()
    known = [not (group.age and group.checkpoint in foreign) for group in groups]
    strange = _strange_copies(groups, behaviour, settings)
    bad = _not_replayed(policy, groups, known, strange, settings, temperature, behaviour_of)
    unlikely = _unlikely(groups, surprises, settings)
    tolerance = Tolerance(settings.mean_tolerance, settings.max_tolerance)
    kept: list[TrainingGroup] = []
    for index, group in enumerate(groups):
        if not known[index]:
            dropped[OTHER_VOCABULARY] += len(group.completions)
            continue
        repeated = _repeated(group, behaviour[index], settings)
        good = []
        for place, own in enumerate(behaviour[index]):
            if group.behaviour is not None and not tolerance.admits(own, group.behaviour[place]):
                dropped[OFF_POLICY] += 1
            elif (index, place) in bad:
                dropped[NOT_REPLAYED] += 1
            elif reason := repeated[place]:
                dropped[reason] += 1
            elif unlikely[index][place]:
                dropped[IMPROBABLE] += 1
            else:
                good.append(place)
        if group.behaviour is None:
            if good:
                kept.append(group.only(good))
        elif is_informative(scores := [group.scores[place] for place in good]) or (
            settings.imitates and is_solved(scores)
        ):
            sure = replace(
                group,
                behaviour=tuple(behaviour[index]),
                proximal=tuple(proximal[index]) if group.age else None,
            )
            kept.append(sure.only(good))
        else:
            dropped[ALL_ALIKE if len(good) > 1 else SINGLE] += len(good)
    return kept, {reason: count for reason, count in sorted(dropped.items()) if count}


@torch.no_grad()
def _scored(
    policy: Policy, groups: Sequence[TrainingGroup], temperature: float, settings: TrainSettings
) -> tuple[list[list[_Row]], list[list[float]]]:
    """Per group and completion: its tokens' log-probabilities, and its peak surprise."""
    packed = [TokenGroup(group.prompt, group.completions) for group in groups]
    logprobs: list[list[_Row]] = [[()] * len(group.completions) for group in groups]
    peaks = [[0.0] * len(group.completions) for group in groups]
    for pack in pack_groups(packed, settings.token_budget):
        values, entropies = pack_logprobs(policy, pack, temperature, want_entropy=True)
        rows, expected = values.cpu().numpy(), entropies.cpu().numpy()
        for span in pack.spans:
            own = tuple(rows[span.rows].tolist())
            logprobs[span.group][span.completion] = own
            peaks[span.group][span.completion] = peak_surprise(own, expected[span.rows].tolist())
    return logprobs, peaks


def _not_replayed(
    policy: Policy,
    groups: Sequence[TrainingGroup],
    known: Sequence[bool],
    strange: set[int],
    settings: TrainSettings,
    temperature: float,
    behaviour_of: PolicyOf | None,
) -> set[tuple[int, int]]:
    """(group, place) of tier A traces that their seed does not sample, among those looked at.

    strange: groups that are looked at in any case.
    """
    seeded = [i for i, one in enumerate(groups) if known[i] and one.tier is Tier.A and one.seed]
    drawn = [i for i in seeded if _is_drawn(groups[i], settings) or i in strange]
    failed = _replayed(policy, groups, drawn, temperature, settings, behaviour_of)
    suspect = {groups[i].batch for i, _ in failed}
    looked_at = set(drawn)
    rest = [i for i in seeded if groups[i].batch in suspect and i not in looked_at]
    return failed | _replayed(policy, groups, rest, temperature, settings, behaviour_of)


def _is_drawn(group: TrainingGroup, settings: TrainSettings) -> bool:
    of = f"replay {settings.seed} {group.batch} {group.drawn.hex()} {group.task}"
    return random.Random(of).random() < settings.replay_share


def _replayed(
    policy: Policy,
    groups: Sequence[TrainingGroup],
    places: Sequence[int],
    temperature: float,
    settings: TrainSettings,
    behaviour_of: PolicyOf | None,
) -> set[tuple[int, int]]:
    tolerance = ReplayTolerance()
    failed = set()
    by_checkpoint: dict[int, list[int]] = {}
    for i in places:
        by_checkpoint.setdefault(groups[i].checkpoint if groups[i].age else 0, []).append(i)
    for checkpoint, some in by_checkpoint.items():
        model = policy if not checkpoint or behaviour_of is None else behaviour_of(checkpoint)
        seeded = [
            SeededGroup(
                TokenGroup(groups[i].prompt, groups[i].completions),
                groups[i].seed,
                groups[i].samples,
            )
            for i in some
        ]
        found = replay(model, seeded, temperature, token_budget=settings.token_budget)
        for i, rows in zip(some, found, strict=True):
            failed |= {(i, p) for p, row in enumerate(rows) if not tolerance.admits(row.margins)}
    return failed


def _strange_copies(
    groups: Sequence[TrainingGroup], behaviour: Sequence[Sequence[_Row]], settings: TrainSettings
) -> set[int]:
    """Tier A groups with a trace attested as a copy that is too unlikely to be drawn twice."""
    return {
        i
        for i, (group, rows) in enumerate(zip(groups, behaviour, strict=True))
        if group.tier is Tier.A
        and any(
            copy and -sum(row) >= settings.copy_nats
            for copy, row in zip(group.copies, rows, strict=False)
        )
    }


def _repeated(
    group: TrainingGroup, rows: Sequence[_Row], settings: TrainSettings
) -> list[str | None]:
    """Why a trace counts as somebody's or its own copy, if it does.

    Tier A: never, the seed drew it (where that is hard to believe, it is replayed). Tier B: a
    short likely answer comes up twice in honest groups, and to leave it out would bias the
    estimate against what the policy says most often. So a text that was attested as a copy is
    left out where it is too unlikely for that, and a text that repeats within its group where it
    does so more often than by chance.
    """
    if group.behaviour is None or group.tier is not Tier.B:
        return [None] * len(rows)
    nats = [-sum(row) for row in rows]
    often = too_often(group.completions, nats)
    copies = group.copies or (False,) * len(rows)
    return [
        COPY if copy and cost >= settings.copy_nats else TOO_OFTEN if many else None
        for copy, cost, many in zip(copies, nats, often, strict=True)
    ]


def _unlikely(
    groups: Sequence[TrainingGroup], peaks: Sequence[Sequence[float]], settings: TrainSettings
) -> list[tuple[bool, ...]]:
    """Per group and trace: out of proportion to all traces of its tier in the turn? At tier B under
    the checkpoint that is said to have sampled it, at tier C under the parent. Tier A is proven."""
    reference: dict[Tier, list[float]] = {}
    for group, rows in zip(groups, peaks, strict=True):
        reference.setdefault(_kind(group), []).extend(rows)
    return [
        (False,) * len(rows)
        if _kind(group) is Tier.A
        else improbable(rows, reference[_kind(group)], settings.poison_sigmas)
        for group, rows in zip(groups, peaks, strict=True)
    ]


def _kind(group: TrainingGroup) -> Tier:
    return Tier.C if group.behaviour is None else group.tier
