"""Tier B: honest traces pass in any shape; what did not come from the checkpoint does not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from marketplace.gym.checking import GroupToScore
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.gym.provenance import OffPolicyScorer, Tolerance
from marketplace.gym.spec import SamplingSpec
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.errors import CheckerFailed, InvalidValue
from marketplace.protocol.trace import Trace

SAMPLING = SamplingSpec(temperature=0.9, max_tokens=6, stop=("\n", "a"))
PROMPTS = ["1 + 2 = ", "1 + 30 = ", "4"]


@pytest.fixture
def groups(policy):
    """Groups honestly sampled from the policy."""
    rules = SamplingRules(group_size=4, temperature=0.9, max_tokens=6, stop=("\n", "a"))
    sampled = TransformersSampler(policy, "tiny").sample(PROMPTS, rules, seed=5)
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
                    temperature=0.9,
                    max_tokens=6,
                    claimed_score=None,
                )
                for place, one in enumerate(group)
            ),
        )
        for task, (prompt, group) in enumerate(zip(PROMPTS, sampled, strict=True))
    ]


def _scorer(policy, **settings):
    asked = []

    def policy_of(checkpoint):
        asked.append(checkpoint)
        return policy

    scorer = OffPolicyScorer(policy_of, SAMPLING, **settings)
    return scorer, asked


def _one(policy, groups, **change):
    """Answers for the first group with its second trace changed."""
    group = groups[0]
    traces = (group.traces[0], replace(group.traces[1], **change), *group.traces[2:])
    scorer, _ = _scorer(policy)
    return scorer.off_policy(7, [replace(group, traces=traces)])


@pytest.mark.parametrize("token_budget", [1, 20, 512])
def test_honest_traces_pass(policy, groups, token_budget):
    scorer, asked = _scorer(policy, token_budget=token_budget)
    assert scorer.off_policy(7, groups) == [False] * 12
    assert asked == [7]


def test_another_policy_does_not(make_policy, groups):
    scorer, _ = _scorer(make_policy(1))
    assert scorer.off_policy(7, groups) == [True] * 12


def test_the_same_trace_twice_is_judged_alike(policy, groups):
    scorer, _ = _scorer(policy)
    trace = groups[0].traces[0]
    assert scorer.off_policy(7, [GroupToScore(PROMPTS[0], (trace, trace))]) == [False, False]


def test_small_shift_of_every_logprob_is_found(policy, groups):
    claimed = groups[0].traces[1].logprobs
    assert _one(policy, groups, logprobs=tuple(one - 0.015 for one in claimed)) == [False] * 4
    shifted = tuple(one - 0.025 for one in claimed)
    assert _one(policy, groups, logprobs=shifted) == [False, True, False, False]


def test_sampling_at_another_temperature_is_found(policy):
    rules = SamplingRules(group_size=8, temperature=0.3, max_tokens=6, stop=("\n", "a"))
    (group,) = TransformersSampler(policy, "tiny").sample(PROMPTS[:1], rules, seed=5)
    traces = tuple(
        Trace(
            task=0, sample=place, prompt=PROMPTS[0], completion=one.text, tokens=one.tokens,
            logprobs=one.logprobs, finish=one.finish, checkpoint=7, model="tiny", temperature=0.9,
            max_tokens=6, claimed_score=None,
        )
        for place, one in enumerate(group)
    )  # fmt: skip
    scorer, _ = _scorer(policy)
    assert scorer.off_policy(7, [GroupToScore(PROMPTS[0], traces)]) == [True] * 8


def test_structural_lies_are_found_before_any_pass(policy, groups):
    trace = groups[0].traces[1]
    ids, values = trace.tokens, trace.logprobs
    lies = [
        {"completion": trace.completion + "x"},
        {"tokens": (*ids[:-1], 2**31), "logprobs": values},  # outside the vocabulary
        {"tokens": ids * 30, "logprobs": values * 30},  # longer than the context
        {"temperature": 0.8},
        {"max_tokens": 7},
        {"tokens": None, "logprobs": None},
    ]  # fmt: skip
    for change in lies:
        assert _one(policy, groups, **change) == [False, True, False, False], change


@pytest.mark.parametrize(
    ("text", "finish", "off"),
    [
        ("12\n", "stop", False),
        ("12", "length", True),  # broken off: whoever may stop early may choose
        ("12", "stop", True),
        ("12\n", "length", True),
        ("12\n3\n", "stop", True),  # sampled on after its end
        ("123456", "length", False),
    ],
)
def test_completions_must_end_where_a_sampler_ends(policy, groups, text, finish, off):
    tokens = policy.codec.encode(text)
    ((logprobs,),) = completion_logprobs(
        policy, [TokenGroup(policy.codec.encode(PROMPTS[0]), (tokens,))], SAMPLING.temperature
    )
    change = {"tokens": tokens, "logprobs": logprobs, "finish": finish}
    change["completion"] = policy.codec.completion(tokens, SAMPLING.stop)
    assert _one(policy, groups, **change) == [False, off, False, False]


def test_nothing_left_to_score(policy, groups):
    scorer, _ = _scorer(policy)
    broken = replace(groups[0].traces[0], completion="?")
    assert scorer.off_policy(7, [GroupToScore(PROMPTS[0], (broken,))]) == [True]
    assert scorer.off_policy(7, []) == []


def test_tolerance_admits_nothing_that_is_not_finite():
    tolerance = Tolerance(0.02, 0.5)
    assert tolerance.admits([-1.0, -2.0], [-1.01, -2.0])
    assert not tolerance.admits([math.nan, -2.0], [-1.0, -2.0])
    assert not tolerance.admits([-math.inf], [-math.inf])
    assert not tolerance.admits([-1.0], [-1.0, -2.0])
    assert not tolerance.admits([], [])
    # Far off in one token, near in the mean.
    assert not tolerance.admits([-1.0] * 100, [-1.6] + [-1.0] * 99)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_tolerances_that_make_no_sense(value):
    with pytest.raises(InvalidValue, match="tolerance is"):
        Tolerance(mean=value)
    with pytest.raises(InvalidValue, match="tolerance is"):
        Tolerance(maximum=value)


def test_a_model_that_fails_is_no_exception_that_ends_a_node(policy, groups, monkeypatch):
    def forward(*args, **kwargs):
        raise IndexError("index out of range in self")

    monkeypatch.setattr(policy.model, "forward", forward)
    scorer, _ = _scorer(policy)
    with pytest.raises(CheckerFailed, match="checkpoint 7 raised IndexError: index out of range"):
        scorer.off_policy(7, groups)
