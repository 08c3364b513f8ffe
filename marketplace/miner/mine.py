"""From an assignment to a committed and published batch.

Order matters: the batch is on disk before its commit is signed, committed before its content is
published (nobody can copy what nobody has seen), and published as soon as the commit counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from marketplace.chain.client import MarketClient
from marketplace.chain.errors import ContractError, show_time
from marketplace.chain.records import Assignment, Bounty, RandomnessStatus
from marketplace.gym.environment import Environment
from marketplace.gym.spec import MAX_SPEC_BYTES, SamplingSpec, parse_spec
from marketplace.miner.sampler import (
    Completion,
    ReplayableSampler,
    Sampler,
    SamplingRules,
)
from marketplace.miner.spool import Entry, Spool
from marketplace.protocol import batch_file
from marketplace.protocol.errors import ConfigError, InsufficientFunds, Reverted, SamplerError
from marketplace.protocol.merkle import batch_tree
from marketplace.protocol.seeds import task_seed
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.store import ContentStore
from marketplace.storage.unixfs import cid_of_bytes

_log = logging.getLogger(__name__)

Progress = Callable[[int], None]

_PASSING = frozenset({"BatchMarket_TooFewVerifiers", "BountyEscrow_InsufficientFunds"})
"""Refusals of a commit that time can undo: nothing that was sampled is given up for them."""


@dataclass(frozen=True, slots=True)
class Mined:
    """A batch that is committed and published."""

    batch: int
    bounty: int
    first_task: int
    groups: int
    traces: int
    cid: str


class Miner:
    """One miner's key at work on one market.

    poll, patience: seconds between two looks at the chain, and in all, while an assignment's
    randomness is awaited. fetch_seconds: for the environment's spec.
    """

    def __init__(
        self,
        client: MarketClient,
        store: ContentStore,
        spool: Spool,
        *,
        poll: float = 0.5,
        patience: float = 120.0,
        fetch_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._store = store
        self._spool = spool
        self._poll = poll
        self._patience = patience
        self._fetch_seconds = fetch_seconds
        self._clock = clock
        self._sleep = sleep

    def environment(self, bounty: Bounty) -> Environment:
        """The bounty's environment. Raises StorageError, SpecError, EnvironmentMismatch."""
        cid = Cid(bounty.terms.environment, RAW)
        data = self._store.get(cid, timeout=self._fetch_seconds, max_bytes=MAX_SPEC_BYTES)
        return Environment(parse_spec(data))

    def enrol(self, bounty: int) -> Assignment:
        """The miner's open assignment, requested and opened where that is still to do.

        Waits for the randomness, at most `patience` seconds (ConfigError)."""
        deadline = self._clock() + self._patience
        while True:
            assignment = self._client.assignment(bounty, self._client.address)
            if assignment is None:
                self._client.request_assignment(bounty)
            elif assignment.seed is not None:
                return assignment
            elif self._client.randomness(assignment.point) is not RandomnessStatus.PENDING:
                self._client.open_assignment(bounty)
            elif self._clock() > deadline:
                raise ConfigError(
                    f"the assignment for bounty {bounty} waits for block {assignment.point}, and "
                    f"the chain did not get there in {self._patience:g} s",
                    fix="check that the chain makes blocks, then run the command again",
                )
            else:
                self._sleep(self._poll)

    def affordable_groups(self, bounty: Bounty) -> int:
        """Groups that the bounty can still reserve and one batch may hold: a batch may not be
        worth more than a lying majority of its committee would lose."""
        rules = self._client.parameters
        available = min(bounty.available, rules.most_batch_value) // _group_cost(bounty)
        return min(available, rules.max_traces // bounty.terms.group_size)

    def mine(
        self,
        bounty_id: int,
        groups: int,
        sampler: Sampler,
        *,
        checkpoint: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Mined:
        """Samples up to `groups` groups on the next assigned tasks, commits and publishes them.

        checkpoint: the registered checkpoint that the sampler samples from; None for a model
        that is not registered. seed: of the sampler; under tier A the tasks' seeds take its
        place. progress: called with 1 after each group.

        Raises InsufficientFunds where the bounty can't pay one group or the miner its bond,
        ConfigError for a bounty that can't be mined (so), SamplerError, StorageError, ChainError.
        """
        bounty = self._client.bounty(bounty_id)
        _check_tier(bounty, checkpoint, sampler)
        groups = self._clamp(bounty, groups)
        environment = self.environment(bounty)
        assignment = self.enrol(bounty_id)
        lines = self.sample(
            bounty,
            environment,
            assignment,
            groups,
            sampler,
            checkpoint=checkpoint,
            seed=seed,
            progress=progress,
        )
        entry = self.spool(bounty, assignment, lines)
        return self.commit_and_publish(entry)

    def sample(
        self,
        bounty: Bounty,
        environment: Environment,
        assignment: Assignment,
        groups: int,
        sampler: Sampler,
        *,
        checkpoint: int | None,
        seed: int,
        progress: Progress | None = None,
    ) -> list[bytes]:
        """The lines of the next batch: whole groups, in task order."""
        size = bounty.terms.group_size
        sampling = environment.spec.sampling
        assert assignment.seed is not None
        lines: list[bytes] = []
        numbers = range(assignment.next_task, assignment.next_task + groups)
        seeds = [
            task_seed(
                bounty.terms.environment,
                bounty.id,
                self._client.address,
                assignment.seed,
                number,
            )
            for number in numbers
        ]
        tasks = [environment.task(one) for one in seeds]
        prompts = [task.prompt for task in tasks]
        rules = SamplingRules(
            group_size=size,
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            stop=sampling.stop,
        )
        if Tier(bounty.terms.tier) is Tier.A:
            sampled = _replayable(bounty, sampler).replay(prompts, rules, seeds=seeds)
        else:
            sampled = sampler.sample(prompts, rules, seed=seed)
        for number, task, completions in zip(numbers, tasks, sampled, strict=True):
            if len(completions) != size:
                raise SamplerError(f"{len(completions)} completions for a group of {size}")
            for place, completion in enumerate(completions):
                trace = _trace(
                    number, place, task.prompt, completion, sampler.model, checkpoint, sampling
                )
                lines.append(encode_line(trace))
            if progress is not None:
                progress(1)
        return lines

    def spool(self, bounty: Bounty, assignment: Assignment, lines: Sequence[bytes]) -> Entry:
        """Packs the lines and writes them to the spool."""
        deployment = self._client.deployment
        data = batch_file.pack(lines)
        tree = batch_tree(
            deployment.chain_id,
            deployment.address("market"),
            bounty.id,
            self._client.address,
            lines,
        )
        assert assignment.seed is not None
        entry = Entry(
            chain_id=deployment.chain_id,
            market=deployment.address("market"),
            miner=self._client.address,
            bounty=bounty.id,
            root="0x" + tree.root.hex(),
            seed="0x" + assignment.seed.hex(),
            first_task=assignment.next_task,
            traces=len(lines),
            cid=str(cid_of_bytes(data)),
        )
        self._spool.add(entry, data)
        return entry

    def commit_and_publish(self, entry: Entry) -> Mined:
        """The last two steps, from whatever point they had come to."""
        if entry.batch is None:
            batch, _ = self._client.commit_batch(
                entry.bounty,
                root=bytes.fromhex(entry.root[2:]),
                traces=entry.traces,
                first_task=entry.first_task,
                seed=bytes.fromhex(entry.seed[2:]),
                content=Cid.parse(entry.cid),
            )
            entry = self._spool.committed(entry, batch)
        assert entry.batch is not None
        self._store.put(self._spool.data(entry))
        self._spool.published(entry)
        size = self._client.bounty(entry.bounty).terms.group_size
        return Mined(
            entry.batch,
            entry.bounty,
            entry.first_task,
            entry.traces // size,
            entry.traces,
            entry.cid,
        )

    def resume(self) -> list[Mined]:
        """Finishes what an earlier run began: commits what was sampled, publishes what was
        committed.

        A batch that can never be committed any more (its tasks are taken, the bounty is over) is
        set aside in the spool. One that can't be committed now (too few free verifiers, too little
        left in the bounty) stays there for the next time, as do those that answer later tasks.
        """
        deployment = self._client.deployment
        finished = []
        waiting: set[int] = set()
        for entry in self._spool.entries(
            deployment.chain_id, deployment.address("market"), self._client.address
        ):
            if entry.bounty in waiting:
                continue
            known = entry if entry.batch is not None else self._find_commit(entry)
            try:
                finished.append(self.commit_and_publish(known))
            except Reverted as error:
                if isinstance(error, ContractError) and error.name in _PASSING:
                    waiting.add(entry.bounty)
                    _log.warning("batch_waits root=%s reason=%s", entry.root, error)
                else:
                    self._spool.set_aside(known)
        return finished

    def _find_commit(self, entry: Entry) -> Entry:
        """The entry with its batch id, where the commit was included before a crash."""
        commits = self._client.events(
            self._client.deployment.block,
            self._client.head().number,
            names=["BatchCommitted"],
            where={"miner": self._client.address, "bounty": entry.bounty},
        )
        for event in commits:
            if "0x" + event.args["root"].hex() == entry.root:
                return self._spool.committed(entry, event.args["batch"])
        return entry

    def _clamp(self, bounty: Bounty, groups: int) -> int:
        if groups < 1:
            raise ConfigError(f"groups is {groups}", fix="mine at least one group")
        deadline = bounty.terms.deadline
        if self._client.head().timestamp > deadline:
            raise ConfigError(
                f"bounty {bounty.id} had its deadline at {show_time(deadline)}",
                fix="mine an open one: `tracemarket bounty list`",
            )
        affordable = self.affordable_groups(bounty)
        if affordable == 0:
            cost = _group_cost(bounty)
            token = self._client.token
            most = self._client.parameters.most_batch_value
            if cost > most:
                raise ConfigError(
                    f"one group of bounty {bounty.id} can cost {token.format(cost)}, a batch on "
                    f"this market at most {token.format(most)}",
                    fix="mine a bounty with smaller groups or a lower price",
                )
            raise InsufficientFunds(
                f"bounty {bounty.id} has {token.format(bounty.available)} free, one group needs "
                f"{token.format(cost)}",
                fix="wait for pending batches to settle, fund the bounty, or mine another one",
            )
        return min(groups, affordable)


def _group_cost(bounty: Bounty) -> int:
    """What one group can cost the bounty, in base units."""
    terms = bounty.terms
    return terms.group_size * (terms.price_per_unit + terms.fee_per_trace)


def _check_tier(bounty: Bounty, checkpoint: int | None, sampler: Sampler) -> None:
    tier = Tier(bounty.terms.tier)
    if tier is not Tier.C and checkpoint is None:
        raise ConfigError(
            f"bounty {bounty.id} asks for tier {tier.name}: traces of a registered checkpoint",
            fix="sample its trainer's checkpoint (the default) instead of a model of your own",
        )
    if tier is Tier.A:
        _replayable(bounty, sampler)


def _replayable(bounty: Bounty, sampler: Sampler) -> ReplayableSampler:
    if not isinstance(sampler, ReplayableSampler):
        raise ConfigError(
            f"bounty {bounty.id} asks for tier A: tokens that the task's seed picks, and the "
            f"sampler of {sampler.model!r} can't be told the seed",
            fix="sample a local checkpoint with TransformersSampler (the default of `mine`)",
        )
    return sampler


def _trace(
    task: int,
    sample: int,
    prompt: str,
    completion: Completion,
    model: str,
    checkpoint: int | None,
    sampling: SamplingSpec,
) -> Trace:
    return Trace(
        task=task,
        sample=sample,
        prompt=prompt,
        completion=completion.text,
        tokens=completion.tokens,
        logprobs=completion.logprobs,
        finish=completion.finish,
        checkpoint=checkpoint,
        model=model,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens,
        claimed_score=None,
    )
