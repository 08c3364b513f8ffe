"""Sampling on a server: its tokens, the market's ends, the checkpoint's log-probabilities."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from served import completing, serving
from vllm_stand_in import vllm_like

from marketplace.gym.endpoint import Endpoint
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.gym.provenance import ReplayTolerance
from marketplace.gym.replay import SeededGroup, replay
from marketplace.miner.sampler import ReplayableSampler, SamplingRules, TransformersSampler
from marketplace.miner.vllm_sampler import VllmSampler
from marketplace.protocol.errors import InvalidValue, SamplerError
from marketplace.protocol.hashing import keccak

PROMPTS = ("1 + 2 = ", "7 - 4 = ", "1 + 2 = ")
SEEDS = tuple(keccak(bytes([place])) for place in range(3))
RULES = SamplingRules(group_size=4, temperature=0.8, max_tokens=12, stop=tuple("aeio1357\n"))


@pytest.fixture
def sampler(policy):
    """Makes samplers on servers with the given answers; closed after the test."""

    def make(answer, **options):
        endpoint = Endpoint(opened.enter_context(completing(answer)), "m", retries=0)
        opened.callback(endpoint.close)
        return VllmSampler(endpoint, policy, "checkpoint-1", **options)

    with ExitStack() as opened:
        yield make


@pytest.mark.parametrize("overrun", [0, 1, 3])
def test_what_the_seeds_pick_is_what_this_process_would_sample(policy, sampler, overrun):
    served = sampler(vllm_like(policy, overrun=overrun))
    assert isinstance(served, ReplayableSampler)
    expected = list(TransformersSampler(policy, "m").replay(PROMPTS, RULES, seeds=SEEDS))
    found = list(served.replay(PROMPTS, RULES, seeds=SEEDS))
    assert {one.finish for group in expected for one in group} == {"stop", "length"}
    for ours, theirs in zip(expected, found, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one.text, one.tokens, one.finish) == (other.text, other.tokens, other.finish)
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    with pytest.raises(InvalidValue, match="2 task seeds for 3 prompts"):
        list(served.replay(PROMPTS, RULES, seeds=SEEDS[:2]))


def test_drawn_samples_have_the_checkpoints_log_probabilities(policy, sampler):
    seen = []
    answer = vllm_like(policy)
    served = sampler(lambda body: seen.append(body) or answer(body))
    found = list(served.sample(PROMPTS, RULES, seed=5))
    for prompt, group in zip(PROMPTS, found, strict=True):
        rows = tuple(one.tokens for one in group)
        (values,) = completion_logprobs(
            policy, [TokenGroup(policy.codec.encode(prompt), rows)], RULES.temperature
        )
        for one, expected in zip(group, values, strict=True):
            assert one.logprobs == pytest.approx(expected, abs=1e-6)
            assert policy.codec.finish(one.tokens, RULES.stop, RULES.max_tokens) == one.finish
    assert found[0] != found[2]  # the same prompt twice
    assert [body["n"] for body in seen] == [4, 4, 4]
    assert list(served.sample(PROMPTS, RULES, seed=5)) == found
    # The server's own defaults would cut the distribution.
    assert {(body["top_p"], body["top_k"], body["min_p"]) for body in seen} == {(1.0, -1, 0.0)}


def test_a_server_without_the_noise_or_with_other_weights_is_found_out(
    policy, sampler, make_policy
):
    for answer in (vllm_like(policy, noise=False), vllm_like(make_policy(1))):
        with pytest.raises(SamplerError, match=r"did not pick: another was ahead by .* nats"):
            list(sampler(answer).replay(PROMPTS, RULES, seeds=SEEDS))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"text": "3"}, "gave no token ids"),
        ({"token_ids": []}, "gave no token ids"),
        ({"token_ids": [5, 90_000]}, "gave token 90000, and checkpoint-1 has 258"),
        ({"token_ids": [5, 5]}, "ended a completion after 2 tokens"),
        ({"token_ids": [-1]}, "something else than completions"),
        ({"token_ids": ["x"]}, "something else than completions"),
    ],
)
def test_answers_that_are_of_no_use(policy, sampler, choice, words):
    served = sampler(lambda body: {"choices": [choice] * body["n"]})
    with pytest.raises(SamplerError, match=words):
        list(served.sample(PROMPTS[:1], RULES, seed=1))


def test_too_few_samples_and_prompts_that_do_not_fit(policy, sampler):
    served = sampler(lambda body: {"choices": []})
    with pytest.raises(SamplerError, match="answered 4 samples with 0"):
        list(served.sample(PROMPTS, RULES, seed=1))
    with pytest.raises(SamplerError, match="do not fit"):
        list(served.sample(["1" * 200], RULES, seed=1))


def test_what_another_verifiers_pass_would_refuse_is_not_taken(policy, sampler):
    """Rounding is another in passes of another shape, and a refusal there is paid for."""
    rules = replace(RULES, stop=())
    prompts = [f"{one} + {other} = " for one in range(4) for other in range(4)]
    seeds = [keccak(prompt.encode()) for prompt in prompts]
    groups = []
    for prompt, seed, group in zip(
        prompts,
        seeds,
        TransformersSampler(policy, "m").replay(prompts, rules, seeds=seeds),
        strict=True,
    ):
        rows = tuple((*one.tokens[:-1], 65) for one in group)  # a last token of the server's own
        tokens = TokenGroup(policy.codec.encode(prompt), rows)
        groups.append(SeededGroup(tokens, seed, (0, 1, 2, 3)))
    together = replay(policy, groups, rules.temperature)
    found = []
    for group, verified in zip(groups, together, strict=True):
        (alone,) = replay(policy, [group], rules.temperature)
        ours, theirs = (max(max(one.margins) for one in some) for some in (alone, verified))
        found.append((theirs - ours, (ours + theirs) / 2, group))
    gap, margin, group = max(found, key=lambda one: one[0])
    assert 0 < gap < 1e-4
    served = sampler(
        lambda body: {
            "choices": [{"token_ids": group.tokens.completions[body["vllm_xargs"]["noise_sample"]]}]
        },
        tolerance=ReplayTolerance(margin=margin),
    )
    prompt = prompts[groups.index(group)]
    with pytest.raises(SamplerError, match="did not pick"):
        list(served.replay([prompt], rules, seeds=[group.seed]))


def test_what_nobody_waits_for_any_more_is_not_asked_again(policy):
    app, seen, first = FastAPI(), [], list(policy.codec.encode(PROMPTS[0]))

    @app.post("/v1/completions")
    async def completions(request: Request):
        seen.append(await request.json())
        if seen[-1]["prompt"] == first:
            return {"choices": []}
        await asyncio.sleep(0.5)  # until that was found to be of no use
        return JSONResponse({}, status_code=503)

    with serving(app) as url:
        endpoint = Endpoint(url, "m", retries=3, wait=lambda seconds: None)
        with pytest.raises(SamplerError, match="answered 4 samples with 0"):
            list(VllmSampler(endpoint, policy, "m").sample(PROMPTS[:2], RULES, seed=1))
        endpoint.close()
    assert len(seen) == 2
