"""What the sampler records is what a teacher-forced pass finds."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.errors import InvalidValue, SamplerError

PROMPTS = ["1 + 2 = ", "1 + 10 = ", "1", "1 + 2 = ", "1 - 333 = "]
RULES = SamplingRules(group_size=6, temperature=0.8, max_tokens=7, stop=("\n", "a"))


def _sample(policy, prompts=PROMPTS, rules=RULES, seed=1, **settings):
    return list(TransformersSampler(policy, "tiny", **settings).sample(prompts, rules, seed=seed))


@pytest.mark.parametrize("batch_rows", [6, 13, 512])
def test_logprobs_equal_a_teacher_forced_pass(policy, batch_rows):
    groups = _sample(policy, batch_rows=batch_rows)
    assert len(groups) == len(PROMPTS)
    tokens = [
        TokenGroup(policy.codec.encode(prompt), tuple(one.tokens for one in group))
        for prompt, group in zip(PROMPTS, groups, strict=True)
    ]
    scored = completion_logprobs(policy, tokens, RULES.temperature)
    for group, rows in zip(groups, scored, strict=True):
        assert len(group) == RULES.group_size
        for completion, values in zip(group, rows, strict=True):
            assert completion.logprobs == pytest.approx(values, abs=1e-4)
            assert all(value <= 0 for value in completion.logprobs)


def test_completions_end_where_the_codec_says(policy):
    rules = SamplingRules(group_size=64, temperature=1.5, max_tokens=4, stop=("\n", "a", "b", "c"))
    finishes = Counter()
    for group in _sample(policy, rules=rules):
        for one in group:
            assert policy.codec.finish(one.tokens, rules.stop, rules.max_tokens) == one.finish
            assert policy.codec.completion(one.tokens, rules.stop) == one.text
            assert not any(stop in one.text for stop in rules.stop)
            finishes[one.finish] += 1
    assert finishes["stop"]
    assert finishes["length"]


def test_same_seed_same_samples_other_seed_others(policy):
    assert _sample(policy, seed=3) == _sample(policy, seed=3)
    assert _sample(policy, seed=3) != _sample(policy, seed=4)


def test_equal_prompts_get_different_samples(policy):
    groups = _sample(policy)
    assert groups[0] != groups[3]
    assert len({one.tokens for one in groups[0]}) > 1


def test_the_first_token_is_drawn_from_the_whole_distribution(policy):
    rules = SamplingRules(group_size=4000, temperature=1.0, max_tokens=1)
    (group,) = _sample(policy, prompts=["1 + "], rules=rules)
    prompt = policy.codec.encode("1 + ")
    every = TokenGroup(prompt, tuple((token,) for token in range(policy.codec.vocabulary)))
    ((*logprobs,),) = completion_logprobs(policy, [every], 1.0)
    chances = [math.exp(one) for (one,) in logprobs]
    assert sum(chances) == pytest.approx(1, abs=1e-4)
    counts = Counter(one.tokens[0] for one in group)
    for token, chance in enumerate(chances):
        deviation = math.sqrt(4000 * chance * (1 - chance))
        # Six standard deviations (and one for rare tokens): one false alarm in many millions.
        assert abs(counts[token] - 4000 * chance) <= 6 * deviation + 1


def test_no_prompts_no_groups(policy):
    assert _sample(policy, prompts=[]) == []


def test_prompts_that_do_not_fit_are_refused(policy):
    with pytest.raises(SamplerError, match="context of 128"):
        _sample(policy, prompts=["1", "2" * 125])
    with pytest.raises(SamplerError, match="no token"):
        _sample(policy, prompts=[""])


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.0}, {"temperature": math.nan}, {"group_size": 0}, {"max_tokens": 0}],
)
def test_rules_that_make_no_sense(change):
    good = {"group_size": 2, "temperature": 1.0, "max_tokens": 4}
    with pytest.raises(InvalidValue, match=next(iter(change))):
        SamplingRules(**{**good, **change})
