"""What checking a batch costs beside making it, by the size of the batch.

A batch is sampled all together, as the miner's command does, and its groups are drawn as a round
draws them: so many as the spec says (4 unless it says more), however large the batch is. What is
measured is all that a verifier's scorer does with them: tokenising the prompts, the rule of where
completions end, one pass, noise, margins.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import mean, median
from typing import Any, Final

from measure import PLACES, Work, single

from marketplace.gym.checking import GroupToScore, sampled_groups
from marketplace.gym.noise import gumbel_rows
from marketplace.gym.policy import Policy
from marketplace.gym.provenance import OffPolicyScorer
from marketplace.gym.spec import ProvenanceSpec, SamplingSpec
from marketplace.miner.sampler import Completion, TransformersSampler
from marketplace.protocol.hashing import keccak
from marketplace.protocol.trace import Trace

DRAWN: Final = ProvenanceSpec().groups
SHORT_SIZES: Final = (16, 64, 128)
LONG_SIZES: Final = (16, 64)
"""Groups of a batch. The largest is measured once, the others in every repeat."""

Seconds = dict[str, list[float]]


def costs(policy: Policy, works: Sequence[Work], repeats: int, say: Any) -> dict[str, Any]:
    """By work: CPU seconds per trace of the batch, for each size of it. works: with as many tasks
    as the largest of their sizes."""
    sizes = {"short": SHORT_SIZES, "long": LONG_SIZES}
    return {
        work.name: _costs(
            policy,
            work,
            [one for one in sizes[work.name] if one <= len(work.prompts)],
            repeats,
            say,
        )
        for work in works
    }


def _costs(
    policy: Policy, work: Work, sizes: Sequence[int], repeats: int, say: Any
) -> dict[str, Any]:
    sampler = TransformersSampler(policy, "bench")
    rules = work.rules
    sampling = SamplingSpec(
        temperature=rules.temperature, max_tokens=rules.max_tokens, stop=rules.stop
    )
    scorer = OffPolicyScorer(lambda _: policy, sampling)
    seconds: defaultdict[int, Seconds] = defaultdict(dict)
    tokens: list[int] = []

    def clock(size: int, name: str, traces: int, step: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = step()
        spent = (time.process_time() - started) / traces
        seconds[size].setdefault(name, []).append(spent)
        return result

    def made(run: str, some: Work) -> list[tuple[Completion, ...]]:
        return list(sampler.replay(some.prompts, some.rules, seeds=some.seeds(run)))

    def refused(groups: list[GroupToScore]) -> int:
        return sum(scorer.off_policy(1, groups))

    for repeat in range(repeats):
        for size in sizes if repeat == 0 else sizes[:-1]:
            run, batch = f"cost {repeat} {size}", replace(work, prompts=work.prompts[:size])
            completions = clock(size, "made", size * PLACES, partial(made, run, batch))
            tokens += [len(one.tokens or ()) for group in completions for one in group]
            groups = _to_score(batch, batch.seeds(run), completions)
            drawn = sampled_groups(keccak(run.encode()), size, DRAWN)
            some = [groups[place] for place in drawn]
            found = clock(size, "checked", size * PLACES, partial(refused, some))
            if size == sizes[0]:
                free = partial(sampler.sample, batch.prompts, rules, seed=repeat)
                clock(size, "made, tier B", size * PLACES, lambda free=free: list(free()))
                clock(size, "checked, all groups", size * PLACES, partial(refused, groups))
            if found:
                raise AssertionError(f"{found} honest traces of {run} were refused")
            say(f"costs: {work.name}, {size} groups, {repeat + 1}/{repeats}")
    alone = single(work)
    for prompt, seed in zip(alone.prompts, alone.seeds("alone"), strict=True):
        step = partial(sampler.replay, [prompt], alone.rules, seeds=[seed])
        clock(0, "made alone", 1, lambda step=step: list(step()))
    keys = [keccak(bytes([one])) for one in range(64)]
    clock(0, "noise", len(keys), partial(gumbel_rows, keys, policy.codec.vocabulary))
    return {
        "drawn": DRAWN,
        "tokens_per_trace": mean(tokens),
        "made_alone": mean(seconds[0]["made alone"]),
        "noise_per_token": seconds[0]["noise"][0],
        "sizes": [
            {"groups": size, **{name: median(values) for name, values in seconds[size].items()}}
            for size in sizes
        ],
    }


def _to_score(
    work: Work, seeds: Sequence[bytes], completions: Sequence[tuple[Completion, ...]]
) -> list[GroupToScore]:
    """As a verifier has them after the rules that need no model."""
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
                    checkpoint=1,
                    model="bench",
                    temperature=work.rules.temperature,
                    max_tokens=work.rules.max_tokens,
                    claimed_score=None,
                )
                for place, one in enumerate(group)
            ),
            seed,
        )
        for task, (prompt, seed, group) in enumerate(
            zip(work.prompts, seeds, completions, strict=True)
        )
    ]
