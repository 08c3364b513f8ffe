"""What a turn takes in: verified against the policy that sampled, replayed, and not repeated."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.trace import Tier
from trainer.config import TrainSettings
from trainer.data import (
    ALL_ALIKE,
    COPY,
    IMPROBABLE,
    NOT_REPLAYED,
    OFF_POLICY,
    OTHER_VOCABULARY,
    TOO_OFTEN,
    TrainingGroup,
)
from trainer.grpo import train_turn, verify_behaviour

SETTINGS = TrainSettings(token_budget=128)


def _group(policy, task=0, answers=("2\n", "3\n", "11\n"), scores=(1.0, 0.0, 0.0), **more):
    prompt = policy.codec.encode(f"{task} + 1 = ")
    completions = tuple(map(policy.codec.encode, answers))
    (behaviour,) = completion_logprobs(policy, [TokenGroup(prompt, completions)], 1.0)
    return TrainingGroup(1, task, prompt, completions, tuple(behaviour), scores, **more)


def _verified(policy, groups, settings=SETTINGS, **more):
    return verify_behaviour(policy, groups, settings, temperature=1.0, **more)


def test_stale_traces_keep_both_policies_own_values(make_policy):
    parent, older = make_policy(0), make_policy(1)
    fresh = _group(parent, 1, checkpoint=9)
    stale = _group(older, 2, checkpoint=7, age=2)
    (first, second), dropped = _verified(parent, [fresh, stale], behaviour_of={7: older}.get)
    assert dropped == {}
    assert first.proximal is None
    own = _group(parent, 2)
    for got, expected in (
        (first.behaviour, fresh.behaviour),
        (second.behaviour, stale.behaviour),
        (second.proximal, own.behaviour),
    ):
        for row, values in zip(got, expected, strict=True):
            assert row == pytest.approx(values, abs=1e-4)


def test_who_names_an_earlier_checkpoint_is_held_to_that_one(make_policy):
    """A miner can't choose the checkpoint in whose light its samples look good."""
    parent, older = make_policy(0), make_policy(1)
    pretended = replace(_group(parent, 2), checkpoint=7, age=2)
    kept, dropped = _verified(parent, [pretended], behaviour_of={7: older}.get)
    assert (kept, dropped) == ([], {OFF_POLICY: 3})


def test_an_earlier_checkpoint_without_its_weights(policy):
    with pytest.raises(ConfigError, match="checkpoint 7 need that checkpoint's weights"):
        _verified(policy, [_group(policy, checkpoint=7, age=1)])


def test_an_earlier_checkpoint_of_another_vocabulary(make_policy):
    parent, older = make_policy(0), make_policy(1)
    foreign = replace(older, tokenizer=SimpleNamespace(get_vocab=lambda: {"<end>": 0}))
    stale = _group(older, 2, checkpoint=7, age=2)
    found = _verified(parent, [_group(parent, 1), stale], behaviour_of={7: foreign}.get)
    assert (len(found[0]), found[1]) == (1, {OTHER_VOCABULARY: 3})


def test_training_on_stale_traces_moves_the_parent(make_policy):
    parent, older = make_policy(0), make_policy(0)
    with torch.no_grad():
        older.model.model.embed_tokens.weight += 0.01
    group = _group(older, checkpoint=7, age=1)
    before = sum(_group(parent).behaviour[0])
    settings = SETTINGS.model_copy(update={"learning_rate": 3e-3})
    metrics = train_turn(parent, [group], settings, temperature=1.0, behaviour_of={7: older}.get)
    assert metrics.steps[0].mean_ratio != pytest.approx(1, abs=1e-4)
    assert sum(_group(parent).behaviour[0]) > before


@pytest.mark.parametrize("claim", [math.nan, math.inf, -math.inf, 0.7, -900.0])
def test_log_probabilities_that_are_none(policy, claim):
    honest = _group(policy)
    lie = (claim, *honest.behaviour[1][1:])
    group = replace(honest, behaviour=(honest.behaviour[0], lie, honest.behaviour[2]))
    (kept,), dropped = _verified(policy, [group])
    assert dropped == {OFF_POLICY: 1}
    assert all(math.isfinite(one) and one <= 0 for row in kept.behaviour for one in row)


def _replayable(policy, tasks, seed):
    rules = SamplingRules(group_size=4, temperature=1.0, max_tokens=4, stop=("\n",))
    prompts = [f"{task} = " for task in tasks]
    seeds = [bytes([seed, task]) * 16 for task in tasks]
    sampled = TransformersSampler(policy, "tiny").replay(prompts, rules, seeds=seeds)
    return [
        TrainingGroup(
            batch=1,
            task=task,
            prompt=policy.codec.encode(prompt),
            completions=tuple(one.tokens for one in group),
            behaviour=tuple(one.logprobs for one in group),
            scores=(1.0, 0.0, 0.5, 0.0),
            tier=Tier.A,
            seed=own,
            samples=(0, 1, 2, 3),
        )
        for task, prompt, own, group in zip(tasks, prompts, seeds, sampled, strict=True)
    ]


def test_tier_a_is_sampled_again(policy):
    groups = _replayable(policy, range(6), 1)
    settings = SETTINGS.model_copy(update={"replay_share": 1.0})
    kept, dropped = _verified(policy, groups, settings)
    assert (len(kept), dropped) == (6, {})
    # The same texts, sold for another seed: chosen, not drawn.
    chosen = [replace(one, seed=bytes(32)) for one in groups]
    kept, dropped = _verified(policy, chosen, settings)
    assert dropped[NOT_REPLAYED] > 12
    kept, dropped = _verified(policy, chosen, settings.model_copy(update={"replay_share": 0.0}))
    assert (len(kept), dropped) == (6, {})


def test_one_that_fails_has_its_whole_batch_replayed(policy):
    sound = [replace(one, batch=1) for one in _replayable(policy, range(10), 1)]
    lie = [replace(one, batch=2, seed=bytes(32)) for one in _replayable(policy, range(10), 1)]
    everything = SETTINGS.model_copy(update={"replay_share": 1.0})
    _, all_lies = _verified(policy, lie, everything)
    few = SETTINGS.model_copy(update={"replay_share": 0.2})
    kept, dropped = _verified(policy, sound + lie, few)
    assert dropped[NOT_REPLAYED] == all_lies[NOT_REPLAYED]
    assert sum(one.batch == 1 for one in kept) == 10


def test_which_groups_are_replayed_is_the_draws_not_the_miners_to_know(policy):
    lies = [
        replace(one, batch=place, seed=bytes(32))
        for place, one in enumerate(_replayable(policy, range(10), 1))
    ]
    settings = SETTINGS.model_copy(update={"replay_share": 0.5})

    def kept(drawn, groups):
        return {
            one.batch
            for one in _verified(policy, [replace(g, drawn=drawn) for g in groups], settings)[0]
        }

    first, second = kept(b"\x01" * 32, lies), kept(b"\x02" * 32, lies)
    assert first != second
    assert kept(b"\x01" * 32, lies[::-1]) == first  # whatever else was bought


def test_a_text_handed_in_eight_times_counts_as_often_as_chance_has_it(policy):
    answers, scores = ("2\n",) * 6 + ("3\n", "11\n"), (1.0,) * 6 + (0.0, 0.0)
    group = _group(policy, answers=answers, scores=scores)
    (kept,), dropped = _verified(policy, [group])
    left = kept.completions.count(group.completions[0])
    assert 1 <= left <= 2
    assert dropped == {TOO_OFTEN: 6 - left}
    # Under tier A the seed drew them.
    (kept,), dropped = _verified(policy, [replace(group, tier=Tier.A)])
    assert (len(kept.completions), dropped) == (8, {})


def test_attested_copies_of_unlikely_texts_are_left_out_at_tier_b(policy):
    answers = ("2\n", "3\n", "a long text that nobody comes to twice\n")
    group = _group(policy, answers=answers, scores=(1.0, 0.0, 1.0), copies=(True, False, True))
    settings = SETTINGS.model_copy(update={"poison_sigmas": 0.0})
    (kept,), dropped = _verified(policy, [group], settings)
    assert dropped == {COPY: 1}
    assert kept.completions == group.completions[:2]
    (kept,), dropped = _verified(policy, [replace(group, tier=Tier.A)], settings)
    assert (len(kept.completions), dropped) == (3, {})


def test_a_copy_that_no_seed_draws_twice_is_replayed_at_tier_a(policy):
    """Somebody's long text, under a seed that gives another: none of it is taken on trust."""
    settings = SETTINGS.model_copy(update={"poison_sigmas": 0.0, "replay_share": 0.0})
    answers = ("2\n", "3\n", "a long text that nobody comes to twice\n")
    group = _group(policy, answers=answers, scores=(1.0, 0.0, 1.0), copies=(False, False, True))
    group = replace(group, tier=Tier.A, seed=bytes(32), samples=(0, 1, 2))
    kept, dropped = _verified(policy, [group], settings)
    assert kept == []
    assert dropped[NOT_REPLAYED] >= 2
    # What a seed may well draw twice is a sample like any other, and counts as often as it came.
    honest = replace(_replayable(policy, [1], 1)[0], copies=(False, True, False, True))
    (kept,), dropped = _verified(policy, [honest], settings)
    assert (kept.completions, dropped) == (honest.completions, {})
    likely = replace(group, completions=group.completions[:2], behaviour=group.behaviour[:2])
    likely = replace(likely, scores=(1.0, 0.0), samples=(0, 1), copies=(False, True))
    (kept,), dropped = _verified(policy, [likely], settings)
    assert (len(kept.completions), dropped) == (2, {})


def _sampled(policy, tasks):
    """Honest groups: nothing but samples of the policy."""
    rules = SamplingRules(group_size=4, temperature=1.0, max_tokens=8, stop=("\n",))
    prompts = [f"{task} = " for task in tasks]
    groups = TransformersSampler(policy, "tiny").sample(prompts, rules, seed=3)
    return [
        TrainingGroup(
            batch=1,
            task=task,
            prompt=policy.codec.encode(prompt),
            completions=tuple(one.tokens for one in group),
            behaviour=tuple(one.logprobs for one in group),
            scores=(1.0, 0.0, 0.5, 0.0),
        )
        for task, prompt, group in zip(tasks, prompts, groups, strict=True)
    ]


def _least_likely(policy, group):
    """A completion of tokens that the policy would hardly ever take."""
    completion: tuple[int, ...] = ()
    for _ in range(8):
        ids = torch.tensor([group.prompt + completion])
        with torch.no_grad():
            completion += (int(policy.model(input_ids=ids).logits[0, -1].argmin()),)
    return completion


@pytest.mark.parametrize("tier", [Tier.B, Tier.C])
def test_poison_with_true_log_probabilities_is_left_out(policy, tier):
    honest = _sampled(policy, range(40))
    kept, dropped = _verified(policy, honest)
    assert (len(kept), dropped) == (40, {})
    poison = _least_likely(policy, honest[0])
    (row,) = completion_logprobs(policy, [TokenGroup(honest[0].prompt, (poison,))], 1.0)
    groups = [
        replace(
            honest[0],
            completions=(poison, *honest[0].completions[1:]),
            behaviour=(row[0], *honest[0].behaviour[1:]),
        ),
        *honest[1:],
    ]
    if tier is Tier.C:
        groups = [replace(one, behaviour=None, tier=tier) for one in groups]
    kept, dropped = _verified(policy, groups)
    assert dropped == {IMPROBABLE: 1}
    assert all(poison not in one.completions for one in kept)


def test_what_is_left_must_say_something(policy):
    group = _group(policy, answers=("2\n",) * 7 + ("3\n",), scores=(1.0,) * 7 + (0.0,))
    lie = tuple(one - 9 for one in group.behaviour[7])
    (kept, dropped) = _verified(policy, [replace(group, behaviour=(*group.behaviour[:7], lie))])
    assert kept == []
    assert dropped[OFF_POLICY] == 1
    assert dropped[ALL_ALIKE if dropped.get(ALL_ALIKE) else "alone in its group"] >= 1
    assert sum(dropped.values()) == 8
