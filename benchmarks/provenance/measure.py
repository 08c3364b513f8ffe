"""What is measured: honest re-runs, lies, and the statistics of their margins."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from marketplace.gym.environment import Environment
from marketplace.gym.packing import TOKEN_BUDGET, TokenGroup
from marketplace.gym.policy import Policy
from marketplace.gym.provenance import ReplayTolerance
from marketplace.gym.replay import SeededGroup, replay
from marketplace.gym.spec import builtin_spec
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.hashing import keccak

import torch  # isort: skip  (after the policy, which sets how its threads wait)

PLACES: Final = 8
TEXTS: Final = (
    "The first thing to know about a bridge is",
    "Question: A farmer has 17 sheep and buys twice as many. How many are there?\nReasoning:",
    "Dear editor, I read your article about the sea and",
    "def median(values):\n    ",
)


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks to sample. answers: the right text of each, where there is one."""

    name: str
    prompts: tuple[str, ...]
    rules: SamplingRules
    answers: tuple[str, ...] = ()

    def seeds(self, run: str) -> list[bytes]:
        return [keccak(f"{self.name}/{run}/{one}".encode()) for one in range(len(self.prompts))]


@dataclass(frozen=True, slots=True)
class Told:
    """A completion as a miner hands it in. honest: what the seed really gives there, or ()."""

    tokens: tuple[int, ...]
    prompt: str
    seed: bytes
    place: int
    honest: tuple[int, ...] = ()


def short_work(tasks: int) -> Work:
    """Sums of two digits, few tokens each: the demo's environment."""
    spec = builtin_spec("two_digit_sums")
    environment = Environment(spec)
    made = [environment.task(keccak(f"bench/{one}".encode())) for one in range(tasks)]
    sampling = spec.sampling
    rules = SamplingRules(
        group_size=PLACES,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        stop=sampling.stop,
    )
    answers = tuple(environment.reference_completion(task) for task in made)
    return Work("short", tuple(task.prompt for task in made), rules, answers)


def long_work(tokens: int, tasks: int = len(TEXTS)) -> Work:
    """Free text at temperature 1: every token has real alternatives. No two prompts are equal."""
    rules = SamplingRules(group_size=PLACES, temperature=1.0, max_tokens=tokens)
    numbered = (f"Page {one}\n\n{TEXTS[one % len(TEXTS)]}" for one in range(len(TEXTS), tasks))
    return Work("long", (*TEXTS, *numbered)[:tasks], rules)


def heated(work: Work, temperature: float) -> Work:
    """The same tasks and seeds, sampled at another temperature."""
    return replace(work, rules=replace(work.rules, temperature=temperature))


def single(work: Work) -> Work:
    """Some of the tasks with one trace each, for samplers without batches."""
    return replace(work, prompts=work.prompts[:4], rules=replace(work.rules, group_size=1))


def sampled(policy: Policy, work: Work, run: str, *, rows: int = 64, first: int = 0) -> list[Told]:
    """The groups of a work from its seeds of this run. first: place that the group starts at
    (what a best-of-n liar would look at besides)."""
    rules = replace(work.rules, group_size=first + PLACES)
    seeds = work.seeds(run)
    sampler = TransformersSampler(policy, "bench", batch_rows=max(rows, first + PLACES))
    groups = sampler.replay(work.prompts, rules, seeds=seeds)
    return [
        Told(one.tokens or (), prompt, seed, place)
        for prompt, seed, group in zip(work.prompts, seeds, groups, strict=True)
        for place, one in enumerate(group)
        if place >= first
    ]


def margins_of(
    policy: Policy, told: Sequence[Told], temperature: float, *, budget: int = TOKEN_BUDGET
) -> list[tuple[float, ...]]:
    """What a verifier finds: the margins of each completion, in order."""
    by_task: dict[tuple[str, bytes], list[int]] = {}
    for index, one in enumerate(told):
        by_task.setdefault((one.prompt, one.seed), []).append(index)
    groups = [
        SeededGroup(
            TokenGroup(policy.codec.encode(prompt), tuple(told[i].tokens for i in indices)),
            seed,
            tuple(told[i].place for i in indices),
        )
        for (prompt, seed), indices in by_task.items()
    ]
    found: list[tuple[float, ...]] = [()] * len(told)
    replayed = replay(policy, groups, temperature, token_budget=budget)
    for indices, group in zip(by_task.values(), replayed, strict=True):
        for index, one in zip(indices, group, strict=True):
            found[index] = one.margins
    return found


# --- other models ------------------------------------------------------------------


def with_model(policy: Policy, change: Any) -> Policy:
    """A copy of the policy with its model changed in place by `change`."""
    model = copy.deepcopy(policy.model)
    with torch.no_grad():
        change(model)
    return Policy.of(model, policy.tokenizer)


def to_bf16(model: Any) -> None:
    model.to(torch.bfloat16)


def weight_noise(share: float) -> Any:
    """Adds to each weight normal noise of this share of its tensor's spread."""

    def change(model: Any) -> None:
        generator = torch.Generator().manual_seed(1)
        for weights in model.parameters():
            if weights.dim() > 1:
                noise = torch.randn(weights.shape, generator=generator)
                weights += share * weights.std() * noise

    return change


def rounded(bits: int, group: int) -> Any:
    """Rounds each matrix to so many bits, symmetric, one scale for `group` weights of a row."""

    def change(model: Any) -> None:
        most = 2 ** (bits - 1) - 1
        for weights in model.parameters():
            if weights.dim() < 2:
                continue
            wide = weights.reshape(-1, group)
            scale = wide.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / most
            weights.copy_((wide / scale).round().mul(scale).reshape(weights.shape))

    return change


def trained(policy: Policy, work: Work, steps: int) -> Policy:
    """A copy after so many AdamW steps (learning rate 1e-5) on right answers, eight a step."""
    copied = with_model(policy, lambda model: None)
    optimizer = torch.optim.AdamW(copied.model.parameters(), lr=1e-5, weight_decay=0.0)
    for step in range(steps):
        for one in range(8 * step, 8 * step + 8):
            prompt = copied.codec.encode(work.prompts[one % len(work.prompts)])
            answer = copied.codec.encode_completion(
                work.answers[one % len(work.prompts)], work.rules.stop
            )
            inputs = torch.tensor([[*prompt, *answer]])
            logits = copied.model(input_ids=inputs).logits[0, len(prompt) - 1 : -1]
            (torch.nn.functional.cross_entropy(logits, torch.tensor(answer)) / 8).backward()
        optimizer.step()
        optimizer.zero_grad()
    copied.model.eval()
    return copied


# --- lies with the right model -----------------------------------------------------


def best_of_two(policy: Policy, work: Work, honest: list[Told], others: list[Told]) -> list[Told]:
    """Where the seed gave a wrong answer and another place a right one: that one."""
    answers = dict(zip(work.prompts, work.answers, strict=True))

    def right(one: Told) -> bool:
        return policy.codec.completion(one.tokens, work.rules.stop).strip() == answers[one.prompt]

    return [
        replace(own, tokens=other.tokens, honest=own.tokens)
        for own, other in zip(honest, others, strict=True)
        if right(other) and not right(own)
    ]


def other_place(honest: list[Told], others: list[Told]) -> list[Told]:
    """Where there is no right answer: whatever another place gave."""
    return [
        replace(own, tokens=other.tokens, honest=own.tokens)
        for own, other in zip(honest, others, strict=True)
    ]


def edited_answers(policy: Policy, work: Work, honest: list[Told]) -> list[Told]:
    """Wrong answers, put right."""
    answers = dict(zip(work.prompts, work.answers, strict=True))
    edited = []
    for one in honest:
        said = policy.codec.completion(one.tokens, work.rules.stop).strip()
        if said != answers[one.prompt]:
            tokens = policy.codec.encode_completion(answers[one.prompt], work.rules.stop)
            edited.append(replace(one, tokens=tokens, honest=one.tokens))
    return edited


def one_token_edited(policy: Policy, work: Work, honest: list[Told]) -> list[Told]:
    """One token, at a random place, replaced by what the model finds next best there."""
    lot = random.Random(1)
    edited = []
    for one in honest:
        place = lot.randrange(len(one.tokens))
        prompt = policy.codec.encode(one.prompt)
        with torch.no_grad():
            inputs = torch.tensor([[*prompt, *one.tokens[:place]]])
            best = policy.model(input_ids=inputs, logits_to_keep=1).logits[0, -1].topk(2).indices
        token = next(int(other) for other in best if int(other) != one.tokens[place])
        tokens = (*one.tokens[:place], token, *one.tokens[place + 1 :])
        edited.append(replace(one, tokens=tokens, honest=one.tokens))
    return edited


# --- statistics --------------------------------------------------------------------


def upper(hits: int, trials: int) -> float:
    """95 % upper bound of a rate: 3/n for no hit, else Wilson's."""
    if trials == 0:
        return 1.0
    if hits == 0:
        return min(1.0, 3 / trials)
    share, z = hits / trials, 1.645
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return min(1.0, (middle + spread) / (1 + z * z / trials))


def spread_of(margins: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Of all tokens: how many lost, and by how much."""
    every = sorted(one for trace in margins for one in trace)
    lost = [one for one in every if one > 0]
    return {
        "traces": len(margins),
        "tokens": len(every),
        "flips": len(lost),
        "largest": max(every),
        "lost_median": lost[len(lost) // 2] if lost else 0.0,
        "lost_p99": lost[min(len(lost) - 1, int(0.99 * len(lost)))] if lost else 0.0,
        "traces_with_a_flip": sum(any(one > 0 for one in trace) for trace in margins),
    }


def rounded_margins(margins: Sequence[float]) -> tuple[float, ...]:
    """Seven digits, for the record; a flip stays one."""
    return tuple(float(f"{one:.7g}") for one in margins)


def refused(margins: Sequence[Sequence[float]], tolerance: ReplayTolerance) -> list[bool]:
    return [not tolerance.admits(one) for one in margins]


def tokens_until_caught(
    lengths: Sequence[int], caught: Sequence[bool], *, shuffles: int = 2000
) -> int | None:
    """Tokens of such traces, in random order, that a verifier re-scores until the first refusal:
    95th percentile. None if none is refused."""
    if not any(caught):
        return None
    lot = random.Random(1)
    order = list(range(len(caught)))
    found = []
    for _ in range(shuffles):
        lot.shuffle(order)
        total = 0
        for one in order:
            total += lengths[one]
            if caught[one]:
                break
        found.append(total)
    return sorted(found)[int(0.95 * shuffles)]


def freedom(margins: Sequence[Sequence[float]], tolerances: Sequence[float]) -> list[float]:
    """Share of honest tokens whose runner-up is within each tolerance: where a liar may choose."""
    every = [one for trace in margins for one in trace]
    return [sum(-one <= bound for one in every) / len(every) for bound in tolerances]
