"""Worlds of messages: several turns, in which the world answers (tools, a game master, a shell).

A trace is the transcript, a JSON list of messages that alternate:

    [{"role": "assistant", "content": ...}, {"role": "tool", "content": ...}, ...]

The first observation stands in the prompt. Every message of the model is followed by the world's
turn, the last one too. Who checks replays the model's messages and compares the world's turns: a
tool result that the world did not give makes the trace worthless, whatever it led to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from marketplace.gym.source import Explained, UnreadableAnswer
from marketplace.protocol import strict_json

MODEL: Final = "assistant"
WORLD: Final = "tool"


class Turn(NamedTuple):
    """What the world answers. reward: in [0, 1], of the whole dialogue; it counts when done."""

    observation: str
    done: bool
    reward: float


class Exchange(NamedTuple):
    """A message of the model and the observation that followed it."""

    message: str
    observation: str


class Dialogue(Protocol):
    """A replayable world: the same seed and messages give the same turns, in every process, on
    every machine and every day."""

    @property
    def rules(self) -> str:
        """What the model has to know before the first observation."""
        ...

    def reset(self, seed: int) -> str:
        """A fresh episode and its first observation. seed: 64 bits."""
        ...

    def step(self, message: str) -> Turn:
        """The world's turn. A message that can't be read is answered, not raised about."""
        ...

    def solution(self, seed: int) -> list[str]:
        """Messages that get the full reward; ValueError for a seed that has none."""
        ...


def written(exchanges: Sequence[Exchange]) -> str:
    """The transcript."""
    messages = []
    for message, observation in exchanges:
        messages += [_as_json(MODEL, message), _as_json(WORLD, observation)]
    return json.dumps(messages, ensure_ascii=False)


def read(text: str, max_turns: int) -> list[Exchange]:
    """The exchanges of a transcript. UnreadableAnswer if it is none, or longer than max_turns."""
    try:
        messages = strict_json.loads(text, depth=2)
    except ValueError as error:
        raise UnreadableAnswer(f"the transcript is not JSON: {error}") from None
    if not isinstance(messages, list) or not messages or len(messages) % 2:
        raise UnreadableAnswer("the transcript is no JSON list of pairs of messages")
    if len(messages) > 2 * max_turns:
        raise UnreadableAnswer(f"{len(messages) // 2} turns are over {max_turns}")
    contents = []
    for place, message in enumerate(messages):
        role = WORLD if place % 2 else MODEL
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise UnreadableAnswer(f"message {place} has not exactly the keys role and content")
        content = message["content"]
        if message["role"] != role or not isinstance(content, str):
            raise UnreadableAnswer(f"message {place} is no text of role {role!r}")
        if not content.isascii() and any("\ud800" <= char <= "\udfff" for char in content):
            raise UnreadableAnswer(f"message {place} holds half a character")
        contents.append(content)
    return [Exchange(*pair) for pair in zip(contents[::2], contents[1::2], strict=True)]


def replayed(world: Dialogue, seed: int, exchanges: Sequence[Exchange]) -> Explained:
    """The reward, if the transcript is what happened and the dialogue ended with it; else 0."""
    world.reset(seed)
    turn = Turn("", False, 0.0)
    for place, (message, observation) in enumerate(exchanges):
        if turn.done:
            return Explained(0.0, f"the dialogue had ended before turn {place}")
        turn = world.step(message)
        if turn.observation != observation:
            return Explained(
                0.0,
                f"turn {place} is forged: the world says {_short(turn.observation)}, the "
                f"transcript {_short(observation)}",
            )
    if not turn.done:
        return Explained(0.0, f"the dialogue goes on after {len(exchanges)} turns")
    return Explained(turn.reward, f"{len(exchanges)} turns, reward {turn.reward:g}")


def solved(world: Dialogue, seed: int, max_turns: int) -> list[Exchange]:
    """A dialogue of full reward. ValueError if the seed has none within max_turns."""
    messages = world.solution(seed)
    conversation = Conversation(world, seed)
    for message in messages[:max_turns]:
        conversation.say(message)
    if not conversation.done or conversation.reward != 1.0:
        raise ValueError("no full reward can be reached")
    return conversation.exchanges


class Conversation:
    """A dialogue under way."""

    def __init__(self, world: Dialogue, seed: int) -> None:
        self._world = world
        self.first = world.reset(seed)
        self.exchanges: list[Exchange] = []
        self.done = False
        self.reward = 0.0

    def say(self, message: str) -> Turn:
        """The world's turn after a message. ValueError once the dialogue is over."""
        if self.done:
            raise ValueError("the dialogue is over")
        turn = self._world.step(message)
        if not math.isfinite(turn.reward):
            raise ArithmeticError(f"the world gave a reward of {turn.reward}")
        self.exchanges.append(Exchange(message, turn.observation))
        self.done, self.reward = turn.done, turn.reward
        return turn


def prompted(prompt: str, exchanges: Sequence[Exchange]) -> str:
    """What a model that completes text is asked for its next message."""
    said = "".join(f"{MODEL}: {one.message}\n{WORLD}: {one.observation}\n" for one in exchanges)
    return f"{prompt}{said}{MODEL}:"


def _as_json(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _short(text: str) -> str:
    told = repr(text)
    return told if len(told) <= 100 else f"{told[:97]}..."
