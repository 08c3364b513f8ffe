"""Dialogues: a transcript is worth what its world says about it, and nothing if it is forged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from marketplace.gym.environment import Environment
from marketplace.gym.spec import EnvironmentSpec, builtin_spec, parse_spec
from marketplace.gym.worlds.dialogue import Conversation, Exchange, read, replayed, written
from marketplace.gym.worlds.store import Store
from marketplace.miner.dialogue import sample_dialogues
from marketplace.miner.mine import _check_turns
from marketplace.miner.sampler import Completion, SamplingRules
from marketplace.protocol.errors import ConfigError, SamplerError, SpecError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.trace import Tier
from marketplace.protocol.verdict import Reason


def seed(number: int) -> bytes:
    return keccak(number.to_bytes(8, "big"))


@pytest.fixture(scope="module")
def store() -> Environment:
    return Environment(builtin_spec("store_tools"))


def call(world: Store, **record: Any) -> str:
    return world.step(json.dumps(record)).observation


# --- the built-in world ------------------------------------------------------------


def test_tools_answer_and_an_answer_counts_only_if_it_was_looked_up() -> None:
    world = Store()
    world.reset(3)
    one, other = world._needed
    total = world._total()
    assert (
        call(world, tool="lookup", key="price of gold") == "error: there is no key 'price of gold'"
    )
    assert call(world, tool="calculate", expression="3 * 14 + 9 - 2*2") == "47"
    assert call(world, tool="calculate", expression="1 - 2 * 3 - 4") == "-9"
    for expression in ("2 ** 9", "(1)", "9" * 10, "1 +", "__import__('os')", "1 * " * 20 + "1"):
        assert call(world, tool="calculate", expression=expression).startswith("error")
    assert world.step(json.dumps({"answer": total})).reward == 0.0  # guessed, not looked up
    world.reset(3)
    assert call(world, tool="lookup", key=one) == str(world._values[one])
    call(world, tool="lookup", key=other)
    assert world.step(json.dumps({"answer": total + 1})) == ("Thank you.", True, 0.0)
    world.reset(3)
    for key in world._needed:
        call(world, tool="lookup", key=key)
    assert world.step(f'I think so.\n{{"answer": {total}}}') == ("Thank you.", True, 1.0)


@pytest.mark.parametrize(
    "message",
    ["", "hello", "{", '{"answer": true}', '{"answer": 1.0}', '{"answer": 1, "x": 1}',
     '{"tool": "lookup"}', '{"tool": "open", "key": "a"}', "[" * 9999, "[1]", "null",
     '{"answer": 1' + "0" * 5000 + "}"],
)  # fmt: skip
def test_messages_that_cannot_be_read_are_answered(message: str) -> None:
    world = Store()
    world.reset(1)
    turn = world.step(message)
    assert turn == ("error: the last line is no tool call and no answer", False, 0.0)


# --- transcripts -------------------------------------------------------------------


def test_the_reference_is_paid_and_every_forgery_is_not(store: Environment) -> None:
    task = store.task(seed(1))
    right = json.loads(task.answer)
    assert store.judge(task, task.answer).reason is Reason.CORRECT
    for place in range(1, len(right), 2):
        forged = json.loads(task.answer)
        forged[place]["content"] += "0"
        judged = store.judge(task, json.dumps(forged))
        assert judged.reason is Reason.WRONG
        assert judged.detail.startswith(f"turn {place // 2} is forged: the world says ")
    # A result that was made up, and an answer that follows from it.
    made_up = [
        {"role": "assistant", "content": '{"tool": "lookup", "key": "price of tea"}'},
        {"role": "tool", "content": "999999"},
        {"role": "assistant", "content": '{"answer": 999999}'},
        {"role": "tool", "content": "Thank you."},
    ]
    assert "turn 0 is forged" in store.judge(task, json.dumps(made_up)).detail
    cases = [
        (right[:-2], "the dialogue goes on after 3 turns"),
        ([*right, *right[:2]], "the dialogue had ended before turn 4"),
        ([*right[:2], *right], "5 turns, reward 1"),  # asked twice: allowed
    ]
    for messages, said in cases:
        assert store.judge(task, json.dumps(messages)).detail == said
    other = store.task(seed(2))
    assert store.judge(other, task.answer).score == 0.0


PAIR = [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}]
JUNK: list[Any] = [
    [],
    {},
    None,
    PAIR[:1],
    PAIR[::-1],
    PAIR * 9,
    [{"role": "assistant", "content": 1}, PAIR[1]],
    [{"role": "assistant"}, PAIR[1]],
    [{**PAIR[0], "name": "x"}, PAIR[1]],
    [{"role": "system", "content": "a"}, PAIR[1]],
    [{"role": "assistant", "content": "\ud800"}, PAIR[1]],
    [[PAIR[0]], PAIR[1]],
]


def test_what_is_no_transcript_is_a_parse_failure(store: Environment) -> None:
    task = store.task(seed(1))
    for junk in [*map(json.dumps, JUNK), "", "hello", "[" * 9000, "[NaN]", task.answer[:-1]]:
        assert store.judge(task, junk).reason is Reason.PARSE_FAILURE, junk[:80]


def test_transcripts_read_back_as_written() -> None:
    exchanges = [Exchange('say "ü"\n\\', "\u2028"), Exchange("", "")]
    assert read(written(exchanges), 2) == exchanges


def test_only_the_spec_of_whole_answers_fits() -> None:
    record = builtin_spec("store_tools").model_dump(mode="json")
    with pytest.raises(SpecError, match=r'several turns: answer.kind has to be "whole"'):
        parse_spec(json.dumps({**record, "answer": {"kind": "last_line"}}).encode())
    with pytest.raises(SpecError, match=r"no dialogue world 'stor'.*did you mean \['store'\]"):
        Environment(_changed(builtin_spec("store_tools"), world="stor"))
    with pytest.raises(SpecError, match="most is 1, not a whole number from 5"):
        Environment(_changed(builtin_spec("store_tools"), config={"most": 1}))
    sums = Environment(builtin_spec("chain_sum"))
    with pytest.raises(SpecError, match="tasks of kind 'reasoning_gym' have no turns"):
        sums.begin(sums.task(seed(1)))


# --- the miner's side --------------------------------------------------------------


class ScriptedSampler:
    """Plays the store by what stands in the prompt alone, as a model would.

    Every second conversation of a group asks for a key that is not there first.
    """

    model = "scripted"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        assert rules.group_size == 1
        self.calls.append(seed)
        for place, prompt in enumerate(prompts):
            text = self._message(prompt, clumsy=place % 2 == 1)
            yield (Completion(f" {text}\n", None, None, "stop"),)

    def _message(self, prompt: str, clumsy: bool) -> str:
        keys = re.findall(r"'([^']+)'", prompt.split("knows the keys")[1].split("and more")[0])
        count = re.search(r"I buy (\d+)", prompt)
        said = re.findall(r"^tool: (.*)$", prompt, re.MULTILINE)
        numbers = [one for one in said if one.isdigit()]
        if clumsy and not said:
            return '{"tool": "lookup", "key": "everything"}'
        assert count
        if len(numbers) < 2:
            return json.dumps({"tool": "lookup", "key": keys[len(numbers)]})
        if len(numbers) == 2:
            expression = f"{count[1]} * {numbers[0]} + {numbers[1]}"
            return json.dumps({"tool": "calculate", "expression": expression})
        return json.dumps({"answer": int(numbers[2])})


RULES = SamplingRules(group_size=2, temperature=1.0, max_tokens=64)


def test_a_sampler_is_taken_through_the_turns(store: Environment) -> None:
    tasks = [store.task(seed(number)) for number in range(3)]
    sampler = ScriptedSampler()
    groups = sample_dialogues(store, tasks, sampler, RULES, seed=5)
    assert [len(group) for group in groups] == [2, 2, 2]
    for task, group in zip(tasks, groups, strict=True):
        for completion in group:
            assert completion.finish == "stop"
            assert completion.tokens is None
            assert store.judge(task, completion.text).reason is Reason.CORRECT
    assert "there is no key" in groups[0][1].text
    assert len(set(sampler.calls)) == len(sampler.calls) == 5


class Mumbler:
    model = "mumbler"
    size = 1

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        for _ in prompts:
            yield (Completion("hm", (1,), (-0.1,), "stop"),) * self.size


def test_a_dialogue_without_end_is_cut_and_earns_nothing(store: Environment) -> None:
    task = store.task(seed(1))
    ((completion, _),) = sample_dialogues(store, [task], Mumbler(), RULES, seed=1)
    assert completion.finish == "length"
    assert completion.logprobs is None
    assert store.judge(task, completion.text).detail == "the dialogue goes on after 8 turns"
    greedy = Mumbler()
    greedy.size = 2
    with pytest.raises(SamplerError, match="2 messages for one prompt"):
        sample_dialogues(store, [task], greedy, RULES, seed=1)


@pytest.mark.parametrize("tier", [Tier.A, Tier.B])
def test_tiers_that_need_tokens_are_refused_by_name(store: Environment, tier: Tier) -> None:
    bounty: Any = SimpleNamespace(id=7, terms=SimpleNamespace(tier=int(tier)))
    with pytest.raises(ConfigError, match=f"bounty 7 asks for tier {tier.name}.*'store_tools'"):
        _check_turns(bounty, store)
    _check_turns(bounty, Environment(builtin_spec("chain_sum")))
    bounty.terms.tier = int(Tier.C)
    _check_turns(bounty, store)


class Infinite(Store):
    def step(self, message: str) -> Any:
        return super().step(message)._replace(reward=float("inf"))


def test_a_world_of_bad_rewards_is_an_error_not_a_score() -> None:
    conversation = Conversation(Infinite(), 1)
    with pytest.raises(ArithmeticError, match="reward of inf"):
        conversation.say("x")
    assert replayed(Store(), 1, [Exchange("x", "y")]).score == 0.0


def _changed(spec: EnvironmentSpec, **source: Any) -> EnvironmentSpec:
    record = spec.model_dump(mode="json")
    record["source"] |= source
    return parse_spec(json.dumps(record).encode())
