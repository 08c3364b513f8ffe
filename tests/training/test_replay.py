"""Tier A: what the seed picks passes, whatever else the same policy could have said does not."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from marketplace.gym.checking import GroupToScore
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.gym.provenance import OffPolicyScorer, ReplayTolerance
from marketplace.gym.replay import SeededGroup, replay
from marketplace.gym.spec import SamplingSpec
from marketplace.miner.sampler import ReplayableSampler, SamplingRules, TransformersSampler
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import keccak
from marketplace.protocol.trace import Trace

PROMPTS = ["1 + 2 = ", "1 + 30 = ", "4", "1 + 2 = "]
SEEDS = [keccak(bytes([place])) for place in range(len(PROMPTS))]
RULES = SamplingRules(group_size=5, temperature=0.9, max_tokens=8, stop=("\n", "a"))
SAMPLING = SamplingSpec(temperature=0.9, max_tokens=8, stop=("\n", "a"))


def _sampled(policy, rules=RULES, seeds=SEEDS, prompts=PROMPTS, **settings):
    sampler = TransformersSampler(policy, "tiny", **settings)
    return list(sampler.replay(prompts, rules, seeds=seeds))


def _to_score(groups, rules=RULES, seeds=SEEDS, prompts=PROMPTS):
    """As check_batch hands them to the scorer."""
    return [
        GroupToScore(
            prompt,
            tuple(
                Trace(
                    task=task,
                    sample=place,
                    prompt=prompt,
                    completion=one.text,
                    tokens=one.tokens,
                    logprobs=one.logprobs,
                    finish=one.finish,
                    checkpoint=7,
                    model="tiny",
                    temperature=SAMPLING.temperature,
                    max_tokens=rules.max_tokens,
                    claimed_score=None,
                )
                for place, one in enumerate(group)
            ),
            seed,
        )
        for task, (prompt, seed, group) in enumerate(zip(prompts, seeds, groups, strict=True))
    ]


def _off(policy, groups, sampling=SAMPLING, **settings):
    return OffPolicyScorer(lambda _: policy, sampling, **settings).off_policy(7, groups)


def _scored(policy, trace, tokens):
    """The trace with other tokens, everything else as an honest miner would state it."""
    ((logprobs,),) = completion_logprobs(
        policy, [TokenGroup(policy.codec.encode(trace.prompt), (tokens,))], SAMPLING.temperature
    )
    finish = policy.codec.finish(tokens, SAMPLING.stop, SAMPLING.max_tokens) or "stop"
    text = policy.codec.completion(tokens, SAMPLING.stop)
    logprobs = tuple(min(one, 0.0) for one in logprobs)
    return replace(trace, tokens=tokens, logprobs=logprobs, finish=finish, completion=text)


# --- sampling ----------------------------------------------------------------------


def test_the_seed_decides_and_nothing_else(policy):
    whole = _sampled(policy)
    assert isinstance(TransformersSampler(policy, "tiny"), ReplayableSampler)
    # Another batch shape, another order of tasks: the same tokens.
    assert [[one.tokens for one in group] for group in _sampled(policy, batch_rows=5)] == [
        [one.tokens for one in group] for group in whole
    ]
    turned = _sampled(policy, seeds=SEEDS[::-1], prompts=PROMPTS[::-1])[::-1]
    assert [[one.tokens for one in group] for group in turned] == [
        [one.tokens for one in group] for group in whole
    ]
    assert whole[0] != whole[3]  # the same prompt with another seed
    assert len({one.tokens for one in whole[0]}) > 1  # places differ, too
    # A group of another size begins with the same samples: there is no luck in its size either.
    (larger,) = _sampled(policy, replace(RULES, group_size=9), seeds=SEEDS[:1], prompts=PROMPTS[:1])
    assert [one.tokens for one in larger[:5]] == [one.tokens for one in whole[0]]


def test_what_it_says_of_its_tokens_is_true(policy):
    for prompt, group in zip(PROMPTS, _sampled(policy), strict=True):
        tokens = TokenGroup(policy.codec.encode(prompt), tuple(one.tokens for one in group))
        (verified,) = completion_logprobs(policy, [tokens], RULES.temperature)
        for one, values in zip(group, verified, strict=True):
            assert one.logprobs == pytest.approx(values, abs=1e-4)
            assert policy.codec.finish(one.tokens, RULES.stop, RULES.max_tokens) == one.finish


def test_seeds_draw_from_the_whole_distribution(policy):
    rules = SamplingRules(group_size=4000, temperature=1.0, max_tokens=1)
    (group,) = _sampled(policy, rules, seeds=SEEDS[:1], prompts=["1 + "])
    every = TokenGroup(
        policy.codec.encode("1 + "), tuple((token,) for token in range(policy.codec.vocabulary))
    )
    ((*logprobs,),) = completion_logprobs(policy, [every], 1.0)
    counts = Counter(one.tokens[0] for one in group)
    for token, (logprob,) in enumerate(logprobs):
        chance = math.exp(logprob)
        deviation = math.sqrt(4000 * chance * (1 - chance))
        assert abs(counts[token] - 4000 * chance) <= 6 * deviation + 1


def test_every_prompt_needs_its_seed(policy):
    with pytest.raises(InvalidValue, match="3 task seeds for 4 prompts"):
        _sampled(policy, seeds=SEEDS[:3])


# --- the pass ----------------------------------------------------------------------


def _plain_margins(policy, prompt, tokens, seed, sample, temperature):
    """By definition: one plain sequence, noise from the documented formula, without the table."""
    import numpy as np
    import torch

    from marketplace.protocol.seeds import noise_key

    inputs = torch.tensor([[*policy.codec.encode(prompt), *tokens]])
    with torch.no_grad():
        logits = policy.model(input_ids=inputs, use_cache=False).logits[0].double().numpy()
    rows = logits[len(inputs[0]) - len(tokens) - 1 : -1] / temperature
    margins = []
    for position, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        word = int.from_bytes(noise_key(seed, sample, position), "little")
        stream = np.random.Philox(key=word % 2**128, counter=word >> 128 << 128)
        halves = [half for word in stream.random_raw(len(row)) for half in _halves(int(word))]
        draws = np.array(halves[: len(row)], float) + 0.5
        scores = row - np.log(-np.log1p(-draws / 2**32))
        margins.append(np.delete(scores, token).max() - scores[token])
    return margins


def _halves(word):
    return word % 2**32, word >> 32


@pytest.mark.parametrize("token_budget", [1, 5, 20, 512])
def test_margins_are_those_of_the_definition(policy, token_budget):
    groups = _sampled(policy)
    # Tokens of other places: margins of both signs.
    seeded = [
        SeededGroup(
            TokenGroup(policy.codec.encode(prompt), tuple(one.tokens for one in group)),
            seed,
            (0, 1, 2, 7, 8),
        )
        for prompt, group, seed in zip(PROMPTS, groups, SEEDS, strict=True)
    ]
    signs = Counter()
    found = replay(policy, seeded, 0.9, token_budget=token_budget)
    for group, judged, prompt in zip(seeded, found, PROMPTS, strict=True):
        for tokens, sample, one in zip(
            group.tokens.completions, group.samples, judged, strict=True
        ):
            wanted = _plain_margins(policy, prompt, tokens, group.seed, sample, 0.9)
            # A cell of the table is 2**-11 of its value wide; low noise, coarser, never wins.
            assert one.margins == pytest.approx(wanted, abs=2e-3)
            assert len(one.logprobs) == len(tokens)
            signs.update(margin > 0 for margin in one.margins)
    assert signs[True]
    assert signs[False]


@pytest.mark.parametrize("token_budget", [1, 20, 512])
def test_honest_traces_pass_in_any_shape(policy, token_budget):
    groups = _to_score(_sampled(policy))
    assert _off(policy, groups, token_budget=token_budget) == [False] * 20
    assert _off(policy, groups[::-1], token_budget=token_budget) == [False] * 20


def test_another_place_or_task_does_not_pass(policy):
    groups = _to_score(_sampled(policy))
    first = groups[0]
    # Best-of-n: a trace that the same policy and seed give, but for another place.
    for place, other in ((0, 1), (1, 2)):
        assert first.traces[place].tokens != first.traces[other].tokens
        chosen = replace(first.traces[other], sample=place)
        assert _off(policy, [replace(first, traces=(chosen,))]) == [True]
    # The seed of another task with the same prompt.
    assert all(_off(policy, [replace(first, seed=SEEDS[3])]))
    # Tier B admits all of them: their log-probabilities are true.
    assert not any(_off(policy, [replace(first, seed=None)]))


def test_the_free_sampler_of_tier_b_does_not_pass(policy):
    groups = list(TransformersSampler(policy, "tiny").sample(PROMPTS, RULES, seed=1))
    off = _off(policy, _to_score(groups))
    # A short completion may be the seed's by chance.
    honest = _sampled(policy)
    same = [
        one.tokens == other.tokens
        for group, own in zip(groups, honest, strict=True)
        for one, other in zip(group, own, strict=True)
    ]
    assert off == [not one for one in same]
    assert sum(off) > 10


def test_another_policy_and_temperature_do_not_pass(make_policy, policy):
    assert sum(_off(make_policy(1), _to_score(_sampled(policy)))) == 20
    colder = _sampled(policy, replace(RULES, temperature=0.5))
    scored = [
        replace(group, traces=tuple(_scored(policy, one, one.tokens) for one in group.traces))
        for group in _to_score(colder)
    ]
    honest = [one.tokens for group in _sampled(policy) for one in group]
    differ = [one.tokens != own for one, own in zip(_flat(scored), honest, strict=True)]
    assert _off(policy, scored) == differ
    assert sum(differ) > 5


def _flat(groups):
    return [trace for group in groups for trace in group.traces]


def test_edited_and_cut_traces_do_not_pass(policy):
    group = _to_score(_sampled(policy))[0]
    trace = next(one for one in group.traces if len(one.tokens) > 2)
    alone = replace(group, traces=(trace,))
    assert _off(policy, [alone]) == [False]
    token = (trace.tokens[0] + 1) % policy.codec.vocabulary
    lies = {
        "edited text": replace(trace, completion=trace.completion + "4"),
        "edited token": _scored(policy, trace, (token, *trace.tokens[1:])),
        "cut": _scored(policy, trace, trace.tokens[:-1]),
        "cut by an end of its own": _scored(policy, trace, (*trace.tokens[:1], 0)),
        "false logprobs": replace(trace, logprobs=tuple(one - 0.1 for one in trace.logprobs)),
        "no token": replace(trace, tokens=None, logprobs=None),
    }
    for name, lie in lies.items():
        assert _off(policy, [replace(group, traces=(lie,))]) == [True], name


def test_equal_traces_of_a_group_are_honest_if_the_seed_gives_them(policy):
    rules = replace(RULES, group_size=300, max_tokens=1)  # more than there are tokens
    groups = _sampled(policy, rules, seeds=SEEDS[:1], prompts=PROMPTS[:1])
    assert len({one.tokens for one in groups[0]}) < 300
    scored = _to_score(groups, rules, seeds=SEEDS[:1], prompts=PROMPTS[:1])
    assert not any(_off(policy, scored, SAMPLING.model_copy(update={"max_tokens": 1})))


# --- tolerance ---------------------------------------------------------------------


def test_replay_tolerance():
    tolerance = ReplayTolerance(margin=0.01, flips=0.1)
    assert tolerance.admits([0.0, -5.0])
    assert tolerance.admits([0.01])  # one token may always be beaten
    assert not tolerance.admits([0.011, -5.0])
    assert not tolerance.admits([0.001, 0.001, *[-1.0] * 17])
    assert tolerance.admits([0.001, 0.001, *[-1.0] * 18])
    assert not tolerance.admits([math.nan])
    assert not tolerance.admits([math.inf])
    assert not tolerance.admits([])
    assert not ReplayTolerance(0.01, 0.0).admits([0.001, 0.001])


@pytest.mark.parametrize(
    "change", [{"margin": 0.0}, {"margin": math.nan}, {"flips": -0.1}, {"flips": math.nan}]
)
def test_replay_tolerances_that_make_no_sense(change):
    with pytest.raises(InvalidValue, match=f"{next(iter(change))} tolerance"):
        ReplayTolerance(**change)
