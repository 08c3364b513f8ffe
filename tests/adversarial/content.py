"""Batches with content, and what honest verifiers find in them: the verifier node's own checker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from arena import GROUP, Arena

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import ContentId
from marketplace.gym.environment import Environment, Task
from marketplace.gym.spec import builtin_spec, environment_id, spec_bytes
from marketplace.protocol import batch_file
from marketplace.protocol.hashing import keccak
from marketplace.protocol.merkle import Tree, batch_tree
from marketplace.protocol.seeds import task_seed
from marketplace.protocol.trace import Trace, decode_line, encode_line
from marketplace.protocol.verdict import Reason
from marketplace.storage.cid import Cid
from marketplace.storage.unixfs import cid_of_bytes
from verifier_node.checking import BatchChecker, Finding

Say = Callable[[Task, int], str]
"""(task, place in its group) -> a completion."""

_environments: dict[str, Environment] = {}


@dataclass(frozen=True, slots=True)
class Work:
    """A committed batch, with what was committed."""

    batch: int
    lines: tuple[bytes, ...]
    tree: Tree
    data: bytes
    cid: Cid

    @property
    def traces(self) -> list[Trace]:
        return [decode_line(line) for line in self.lines]


def bounty_on(arena: Arena, name: str, **terms: Any) -> tuple[int, Environment]:
    """A bounty on a built-in environment."""
    spec = builtin_spec(name)
    if name not in _environments:
        _environments[name] = Environment(spec)
    ident = environment_id(spec_bytes(spec))
    arena.store.put(spec_bytes(spec))
    if int(arena.view("environments", "authorOf", ident), 16) == 0:
        arena.send("poster", "environments", "register", ident)
    return arena.open_bounty(2_000 * 10**6, environment=ident, **terms), _environments[name]


def tasks(
    arena: Arena, miner: str, groups: int, bounty: int | None = None, env: Environment | None = None
) -> list[tuple[int, Task]]:
    """The miner's next tasks, with their numbers."""
    bounty = bounty or arena.bounty
    seed = arena.enrol(miner, bounty)
    first = arena.view("assignments", "get", bounty, arena.address(miner))[2]
    ident = bytes(arena.view("escrow", "get", bounty)[3][0])
    return [
        (
            number,
            (env or arena.environment).task(
                task_seed(ident, bounty, arena.address(miner), seed, number)
            ),
        )
        for number in range(first, first + groups)
    ]


def write(assigned: Sequence[tuple[int, Task]], say: Say) -> list[Trace]:
    """Traces as an honest miner of tier C writes them, but for what it says."""
    return [
        Trace(
            task=number,
            sample=place,
            prompt=task.prompt,
            completion=say(task, place),
            tokens=None,
            logprobs=None,
            finish="stop",
            checkpoint=None,
            model="arithmetic",
            temperature=0.7,
            max_tokens=8,
            claimed_score=None,
        )
        for number, task in assigned
        for place in range(GROUP)
    ]


def honest(task: Task, place: int) -> str:
    """One right answer in a group, and three different wrong ones."""
    return task.answer if place == 0 else f"{int(task.answer) + 100 + place}"


def wrong(task: Task, place: int) -> str:
    return f"{int(task.answer) + 100 + place}"


def commit(
    arena: Arena,
    miner: str,
    traces: Sequence[Trace | bytes],
    *,
    bounty: int | None = None,
    claimed: int | None = None,
    publish: bool = True,
) -> Work:
    """Commits a batch and publishes it. claimed: the count on chain, where it is another one."""
    lines = tuple(one if isinstance(one, bytes) else encode_line(one) for one in traces)
    data = batch_file.pack(lines)
    deployment = arena.deployment
    tree = batch_tree(
        deployment.chain_id,
        deployment.address("market"),
        bounty or arena.bounty,
        arena.address(miner),
        lines,
    )
    cid = cid_of_bytes(data)
    batch = arena.commit(
        miner,
        traces=claimed or len(lines),
        root=tree.root,
        bounty=bounty,
        content=(cid.digest, cid.codec),
    )
    if publish:
        arena.store.put(data)
    return Work(batch, lines, tree, data, cid)


class _Facts(MarketReader):
    """The reader of the checker, told where a batch's content is: one search less."""

    content: ContentId

    def batch_content(self, batch: int) -> ContentId:
        return self.content


def find(arena: Arena, work: Work) -> Finding:
    """What a verifier that fetches and checks the batch says."""
    facts = _Facts(arena.node.url, arena.deployment, check=False)
    facts.content = ContentId(work.cid.digest, work.cid.codec)
    assert arena.pool is not None
    checker = BatchChecker(facts, arena.store, arena.pool, fetch_seconds=0, scorer_for=None)
    batch: SimpleNamespace = arena.batch(work.batch)
    return checker.find(batch)  # type: ignore[arg-type]


def reasons(finding: Finding) -> set[Reason]:
    return set() if finding.check is None else {one.reason for one in finding.check.verdicts}


def proofs(work: Work, finding: Finding, index: int) -> tuple[Any, ...]:
    """The arguments of disputeLeaf after the batch: a verdict and that it is the attested one."""
    assert finding.check is not None
    return leaf_arguments(work, finding.check.tree(), finding.check.verdicts[index], index)


def leaf_arguments(work: Work, tree: Any, verdict: Any, index: int) -> tuple[Any, ...]:
    return (
        (index, verdict.score_ppm, int(verdict.reason), verdict.units, verdict.faults),
        [(node.hash, node.units, node.faults) for node in tree.proof(index)],
        keccak(work.lines[index]),
        work.tree.proof(index),
    )
