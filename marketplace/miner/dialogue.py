"""Samples tasks of several turns: asks the sampler for a message, the world for its answer.

All samples of all tasks go on side by side, a turn at a time, each against a world of its own. What
comes out is text without tokens (a transcript is not what one model sampled in one go), so it suits
bounties of tier C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from marketplace.gym.environment import Environment, Task
from marketplace.gym.worlds.dialogue import Conversation, prompted, written
from marketplace.miner.sampler import Completion, Sampler, SamplingRules
from marketplace.protocol.errors import SamplerError


def sample_dialogues(
    environment: Environment,
    tasks: Sequence[Task],
    sampler: Sampler,
    rules: SamplingRules,
    *,
    seed: int,
) -> list[tuple[Completion, ...]]:
    """The group of each task: transcripts, those not finished in time with finish
    "length". rules.max_tokens and rules.stop hold for each message.

    Raises SamplerError if the sampler gives anything but one message for one prompt.
    """
    talks = [(task, environment.begin(task)) for task in tasks for _ in range(rules.group_size)]
    single = replace(rules, group_size=1)
    turns = environment.spec.source.turns()
    for turn in range(turns):
        going = [(task, talk) for task, talk in talks if not talk.done]
        if not going:
            break
        prompts = [prompted(task.prompt, talk.exchanges) for task, talk in going]
        # A seed of its own for every turn: else a model would meet its own draws again.
        sampled = sampler.sample(prompts, single, seed=(seed * turns + turn) % 2**63)
        for (_, talk), group in zip(going, sampled, strict=True):
            if len(group) != 1:
                raise SamplerError(f"{len(group)} messages for one prompt")
            talk.say(group[0].text.strip())
    completions = [_completion(talk) for _, talk in talks]
    size = rules.group_size
    return [tuple(completions[i : i + size]) for i in range(0, len(completions), size)]


def _completion(talk: Conversation) -> Completion:
    return Completion(written(talk.exchanges), None, None, "stop" if talk.done else "length")
