"""From an assignment to a committed and published batch.

Order matters: the batch is on disk before its commit is signed, committed before its content is
published (nobody can copy what nobody has seen), and published as soon as the commit counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from marketplace.chain.client import MarketClient
from marketplace.chain.delivering import BeaconKeeper
from marketplace.chain.errors import ContractError, show_time
from marketplace.chain.records import Assignment, Bounty, RandomnessStatus
from marketplace.gym.environment import Environment
from marketplace.gym.spec import MAX_SPEC_BYTES, SamplingSpec, parse_spec
from marketplace.miner.dialogue import sample_dialogues
from marketplace.miner.sampler import (
    Completion,
    ReplayableSampler,
    Sampler,
    SamplingRules,
)
from marketplace.miner.spool import Entry, Spool
from marketplace.protocol import batch_file
from marketplace.protocol.economics import most_sold
from marketplace.protocol.errors import (
    BeaconError,
    ConfigError,
    InsufficientFunds,
    Reverted,
    SamplerError,
)
from marketplace.protocol.merkle import batch_tree
from marketplace.protocol.seeds import task_seed
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.storage.assets import fetch_assets
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.store import ContentStore
from marketplace.storage.unixfs import cid_of_bytes

_log = logging.getLogger(__name__)

Progress = Callable[[int], None]
CheckpointOf = int | Callable[[str], int] | None
"""The registered checkpoint that a sampler samples from: one, one for each prompt, or none."""
Screen = Callable[[Bounty, Environment, Assignment, Sequence[bytes]], Sequence[bytes]]

_DECIDED = frozenset({RandomnessStatus.READY, RandomnessStatus.MISSED})

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
    randomness is awaited. fetch_seconds: for the environment's spec, and for its data sets.
    beacons: brings the beacon that an assignment waits for, where the market draws from one; None
    leaves it to others. assets: folder where data sets are kept; None refuses environments that
    have some.
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
        beacons: BeaconKeeper | None = None,
        assets: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._store = store
        self._spool = spool
        self._poll = poll
        self._patience = patience
        self._fetch_seconds = fetch_seconds
        self._beacons = beacons
        self._assets = assets
        self._clock = clock
        self._sleep = sleep

    def environment(self, bounty: Bounty) -> Environment:
        """The bounty's environment. Raises StorageError, SpecError, EnvironmentMismatch."""
        cid = Cid(bounty.terms.environment, RAW)
        data = self._store.get(cid, timeout=self._fetch_seconds, max_bytes=MAX_SPEC_BYTES)
        spec = parse_spec(data)
        if wanted := spec.to_fetch():
            if self._assets is None:
                raise ConfigError(f"{spec.name!r} needs data sets, and there is no folder for them")
            fetch_assets(self._store, wanted, self._assets, timeout=self._fetch_seconds)
        return Environment(spec, self._assets)

    def enrol(self, bounty: int) -> Assignment:
        """The miner's open assignment, requested and opened where that is still to do.

        Waits for the randomness, at most `patience` seconds (ConfigError; BeaconError where a
        beacon is waited for that no relay gave)."""
        deadline = self._clock() + self._patience
        failure: BeaconError | None = None
        while True:
            assignment = self._client.assignment(bounty, self._client.address)
            if assignment is None:
                self._client.request_assignment(bounty)
            elif assignment.seed is not None:
                return assignment
            elif (status := self._client.randomness(assignment.point)) in _DECIDED:
                self._client.open_assignment(bounty)
            elif self._clock() > deadline:
                raise failure or self._waited(assignment, status)
            else:
                if status is RandomnessStatus.AWAITED and self._beacons is not None:
                    try:
                        self._beacons.deliver(assignment.point)
                        continue
                    except BeaconError as error:
                        failure = error
                self._sleep(self._poll)

    def _waited(self, assignment: Assignment, status: RandomnessStatus) -> ConfigError:
        waits = f"the assignment for bounty {assignment.bounty} waits for"
        if status is RandomnessStatus.AWAITED:
            return ConfigError(
                f"{waits} beacon round {assignment.point}, which nobody delivered in "
                f"{self._patience:g} s",
                fix="name a drand relay with --drand, then run the command again",
            )
        what = "block" if self._client.deployment.beacon is None else "beacon round"
        return ConfigError(
            f"{waits} {what} {assignment.point}, and the chain did not get there in "
            f"{self._patience:g} s",
            fix="check that the chain makes blocks, then run the command again",
        )

    def affordable_groups(self, bounty: Bounty) -> int:
        """Groups that the bounty can still reserve and one batch may hold: neither what it can
        cost nor its bond may be more than a lying majority of its committee would lose."""
        return min(bounty.available // _group_cost(bounty), self._most_groups(bounty))

    def _most_groups(self, bounty: Bounty) -> int:
        """Groups of the largest batch that the market takes, whatever the bounty holds."""
        rules, terms = self._client.parameters, bounty.terms
        sellable = most_sold(rules, terms.price_per_unit, terms.fee_per_trace)
        return min(sellable, rules.max_traces) // terms.group_size

    def mine(
        self,
        bounty_id: int,
        groups: int,
        sampler: Sampler,
        *,
        checkpoint: CheckpointOf = None,
        seed: int = 0,
        progress: Progress | None = None,
        screen: Screen | None = None,
    ) -> Mined:
        """Samples up to `groups` groups on the next assigned tasks, commits and publishes them.

        checkpoint: the registered checkpoint that the sampler samples from, or which one answers
        a prompt (a router's expert); None for a model that is not registered. seed: of the
        sampler; under tier A the tasks' seeds take its place. progress: called with 1 after each
        group. screen: chooses what of the sampled lines is committed, whole groups from the
        first; what it raises ends this before anything is spent.

        Raises InsufficientFunds where the bounty can't pay one group or the miner its bond,
        ConfigError for a bounty that can't be mined (so), SamplerError, StorageError, ChainError.
        """
        bounty = self._client.bounty(bounty_id)
        _check_tier(bounty, checkpoint, sampler)
        groups = self.clamp(bounty, groups)
        environment = self.environment(bounty)
        _check_turns(bounty, environment)
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
        if screen is not None:
            lines = list(screen(bounty, environment, assignment, lines))
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
        checkpoint: CheckpointOf,
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
        sampled: Iterable[tuple[Completion, ...]]
        if environment.spec.source.turns():
            if callable(checkpoint):  # each turn may have been another expert's
                checkpoint = None
            sampled = sample_dialogues(environment, tasks, sampler, rules, seed=seed)
        elif Tier(bounty.terms.tier) is Tier.A:
            sampled = _replayable(bounty, sampler).replay(prompts, rules, seeds=seeds)
        else:
            sampled = sampler.sample(prompts, rules, seed=seed)
        for number, task, completions in zip(numbers, tasks, sampled, strict=True):
            if len(completions) != size:
                raise SamplerError(f"{len(completions)} completions for a group of {size}")
            wrote = checkpoint(task.prompt) if callable(checkpoint) else checkpoint
            for place, completion in enumerate(completions):
                trace = _trace(
                    number, place, task.prompt, completion, sampler.model, wrote, sampling
                )
                lines.append(encode_line(trace))
            if progress is not None:
                progress(1)
        return lines

    def spool(self, bounty: Bounty, assignment: Assignment, lines: Sequence[bytes]) -> Entry:
        """Packs the lines and writes them to the spool: from then on they are committed, if not by
        this run by the next one's `resume`."""
        entry, data = self.packed(bounty, assignment, lines)
        self._spool.add(entry, data)
        return entry

    def packed(
        self, bounty: Bounty, assignment: Assignment, lines: Sequence[bytes]
    ) -> tuple[Entry, bytes]:
        """The entry that the lines would have in the spool, and their file."""
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
        return entry, data

    def commit_and_publish(self, entry: Entry) -> Mined:
        """The last two steps, from whatever point they had come to.

        ConfigError, and nothing is committed, where the spool has lost the content."""
        data = self._spool.data(entry)
        if entry.batch is None:
            batch, _ = self._client.commit_batch(
                entry.bounty,
                root=bytes.fromhex(entry.root[2:]),
                traces=entry.traces,
                first_task=entry.first_task,
                seed=bytes.fromhex(entry.seed[2:]),
                content=Cid.parse(entry.cid),
            )
            try:
                entry = self._spool.committed(entry, batch)
            except OSError as error:  # the chain says it too: what counts now is to publish
                _log.warning("commit_not_noted batch=%d reason=%s", batch, error)
                entry = replace(entry, batch=batch)
        assert entry.batch is not None
        self._store.put(data)
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
        One whose content is lost is set aside too, unless it is committed already (ConfigError).
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
            lost = self._is_lost(known)
            if lost and known.batch is None:
                self._spool.set_aside(known)
                continue
            if lost and self._store.has(Cid.parse(known.cid)):
                self._spool.published(known)  # by another process
                continue
            try:
                finished.append(self.commit_and_publish(known))
            except Reverted as error:
                if isinstance(error, ContractError) and error.name in _PASSING:
                    waiting.add(entry.bounty)
                    _log.warning("batch_waits root=%s reason=%s", entry.root, error)
                    continue
                # What took the tasks may be the same commit, from a run that died waiting for it.
                known = self._find_commit(known)
                if known.batch is None:
                    self._spool.set_aside(known)
                else:
                    finished.append(self.commit_and_publish(known))
        return finished

    def _is_lost(self, entry: Entry) -> bool:
        try:
            self._spool.data(entry)
        except ConfigError as error:
            _log.warning("batch_lost root=%s reason=%s", entry.root, error)
            return True
        return False

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

    def clamp(self, bounty: Bounty, groups: int) -> int:
        """So many groups, or as many as one batch may have. Raises as mine() does."""
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
            if self._most_groups(bounty) == 0:
                rules, size = self._client.parameters, bounty.terms.group_size
                most = token.format(rules.most_batch_value)
                raise ConfigError(
                    f"no group of bounty {bounty.id} fits a batch: it has {size} traces, can cost "
                    f"{token.format(cost)} and needs a bond of "
                    f"{token.format(self._client.bond_for(bounty.id, size))}; a batch on this "
                    f"market has at most {rules.max_traces} traces, costs at most {most} and has "
                    f"a bond of at most {most}",
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


def _check_tier(bounty: Bounty, checkpoint: CheckpointOf, sampler: Sampler) -> None:
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


def _check_turns(bounty: Bounty, environment: Environment) -> None:
    tier = Tier(bounty.terms.tier)
    if environment.spec.source.turns() and tier is not Tier.C:
        raise ConfigError(
            f"bounty {bounty.id} asks for tier {tier.name}, and its environment "
            f"{environment.spec.name!r} for dialogues of several turns: a transcript is not one "
            "sample of one model, so no log-probs can be re-scored",
            fix="mine a bounty of tier C with this environment",
        )


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
        toploc=completion.toploc,
    )
