"""The dishonest miner: three batches, one kind of lie each, all committed like honest ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from marketplace.chain.records import Assignment
from marketplace.cli.demo.world import World
from marketplace.miner.sampler import Sampler
from marketplace.protocol import batch_file
from marketplace.protocol.seeds import task_seed
from marketplace.protocol.trace import Trace, decode_line, encode_line
from marketplace.storage.cid import Cid

Forge = Callable[[list[Trace], list[Trace], list[str]], list[Trace]]
"""(own samples, somebody's published traces, reference answers) -> what is committed."""


def copy_answers(own: list[Trace], published: list[Trace], answers: list[str]) -> list[Trace]:
    """Right answers of another miner, with their tokens and log-probs, under its own prompts."""
    del answers
    return [
        replace(
            mine,
            completion=theirs.completion,
            tokens=theirs.tokens,
            logprobs=theirs.logprobs,
            finish=theirs.finish,
        )
        for mine, theirs in zip(own, published, strict=False)
    ]


def tamper_prompts(own: list[Trace], published: list[Trace], answers: list[str]) -> list[Trace]:
    """The answer slipped into the prompt."""
    del published
    return [
        replace(trace, prompt=f"(Hint: {answer}) {trace.prompt}")
        for trace, answer in zip(own, answers, strict=True)
    ]


def claim_scores(own: list[Trace], published: list[Trace], answers: list[str]) -> list[Trace]:
    """Whatever was sampled, claimed to be right."""
    del published, answers
    return [replace(trace, claimed_score=1.0) for trace in own]


LIES: Final[dict[str, Forge]] = {
    "copies answers": copy_answers,
    "tampers prompts": tamper_prompts,
    "claims scores": claim_scores,
}


@dataclass(frozen=True, slots=True)
class Lie:
    kind: str
    batch: int


def lie(
    world: World, bounty_id: int, sampler: Sampler, checkpoint: int, honest_batch: int
) -> list[Lie]:
    """Commits and publishes one batch of each kind of lie."""
    miner = world.miner_of(world.liar)
    bounty = world.liar.bounty(bounty_id)
    environment = miner.environment(bounty)
    # Published since its commit was included: anybody can read it.
    theirs = world.liar.batch_content(honest_batch)
    data = world.store.get(Cid.from_chain(theirs.digest, theirs.codec), timeout=5.0)
    count = world.liar.batch(honest_batch).count
    published = [decode_line(line) for line in batch_file.unpack(data, count)]
    told = []
    for kind, forge in LIES.items():
        assignment = miner.enrol(bounty_id)
        lines = miner.sample(
            bounty,
            environment,
            assignment,
            world.settings.liar_groups,
            sampler,
            checkpoint=checkpoint,
            seed=world.settings.seed + 1,
        )
        own = [decode_line(line) for line in lines]
        answers = [
            environment.task(_seed(world, assignment, bounty.terms.environment, trace.task)).answer
            for trace in own
        ]
        forged = forge(own, published, answers)
        entry = miner.spool(bounty, assignment, [encode_line(trace) for trace in forged])
        told.append(Lie(kind, miner.commit_and_publish(entry).batch))
    return told


def _seed(world: World, assignment: Assignment, environment: bytes, task: int) -> bytes:
    assert assignment.seed is not None
    return task_seed(environment, assignment.bounty, world.liar.address, assignment.seed, task)
