"""The loop itself: mine, check, settle, train, register, evaluate, and again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from marketplace.chain.records import BatchPhase, BountyTerms
from marketplace.cli.demo.liar import Lie, lie
from marketplace.cli.demo.world import World
from marketplace.cli.evaluation import evaluate_policy
from marketplace.gym.base_model import prepare_base_model
from marketplace.gym.environment import Environment, Task
from marketplace.gym.policy import Policy
from marketplace.gym.spec import builtin_spec, environment_id, spec_bytes
from marketplace.miner.sampler import TransformersSampler
from marketplace.protocol.errors import TracemarketError
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier
from trainer.config import TrainSettings
from trainer.evaluate import Evaluation, heldout_tasks
from trainer.pull import pull_attested, settled_batches
from trainer.turn import Trained, publish, train_on_batches

Announce = Callable[[str], None]

HELDOUT_SEED = 20_000
"""Of the sampler in evaluations: the same before and after, and apart from what miners use."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn. batches, traces, units: bought in it, the liar's included."""

    number: int
    parent: int
    checkpoint: int
    trained: Trained
    batches: tuple[int, ...]
    traces: int
    units: int
    evaluation: Evaluation


@dataclass(slots=True)
class Run:
    """All that a demo run produced, for the report."""

    bounty: int
    environment: Environment
    heldout: Sequence[Task]
    before: Evaluation
    base_checkpoint: int
    turns: list[Turn] = field(default_factory=list)
    lies: list[Lie] = field(default_factory=list)


def run_turns(world: World, base_model: Path, announce: Announce) -> Run:
    """The whole loop on a world that has just begun."""
    settings, meter = world.settings, world.meter
    spec = builtin_spec(settings.environment)
    environment = Environment(spec)
    heldout = heldout_tasks(environment, settings.heldout_tasks)

    with meter.stage("set-up"):
        prepare_base_model(base_model)
        for client in world.verifiers:
            client.stake(client.token.parse(settings.stake))
        checkpoint, _ = publish(world.poster, world.store, base_model, parent=None, root=ZERO32)
        data = spec_bytes(spec)
        world.store.put(data)
        world.poster.register_environment(environment_id(data))
        bounty = _open_bounty(world, environment_id(data))
        policy = world.checkpoints.policy(checkpoint)
    announce(
        f"bounty {bounty}: {settings.bounty} tUSD on {spec.name!r}, tier B, informative groups of "
        f"{settings.group_size}; {settings.verifiers} verifiers, committee of "
        f"{world.deployment.parameters.committee_size}"
    )
    with meter.stage("evaluate"):
        before = _evaluate(world, policy, environment, heldout)
    announce(f"before: held-out pass@1 {_shown(before)} on {len(heldout)} tasks never sold")

    run = Run(bounty, environment, heldout, before, checkpoint)
    for number in range(1, settings.turns + 1):
        turn = _turn(world, run, number, checkpoint, announce)
        run.turns.append(turn)
        checkpoint = turn.checkpoint
    return run


def close(world: World, run: Run) -> None:
    """Everybody leaves with what is theirs: refund, unstake, withdraw."""
    with world.meter.stage("withdraw"):
        client = world.poster
        terms = client.bounty(run.bounty).terms
        world.pass_time(terms.deadline - client.head().timestamp + 1)
        if client.bounty(run.bounty).available:
            client.refund_bounty(run.bounty)
        for verifier in world.verifiers:
            verifier.request_unstake(verifier.verifier(verifier.address).stake)
        world.pass_time(world.deployment.parameters.unbonding_delay + 1)
        for verifier in world.verifiers:
            verifier.claim_stake()
        for person in (world.poster, world.miner, world.liar, *world.verifiers):
            if person.balance(person.address):
                person.withdraw()


def _turn(world: World, run: Run, number: int, parent: int, announce: Announce) -> Turn:
    settings, meter = world.settings, world.meter
    registered = world.poster.checkpoint(parent)
    policy = world.checkpoints.policy(parent)
    sampler = TransformersSampler(policy, f"checkpoint-{parent}")
    miner = world.miner_of(world.miner)
    with meter.stage("mine"):
        mined = miner.mine(
            run.bounty,
            settings.groups,
            sampler,
            checkpoint=parent,
            seed=settings.seed * 100 + number,
        )
    batches = [mined.batch]
    if number == 1:
        with meter.stage("lie"):
            run.lies = lie(world, run.bounty, sampler, parent, mined.batch)
        batches += [told.batch for told in run.lies]
    with meter.stage("check and settle"):
        world.settle(batches)
    judged = [world.poster.batch(batch) for batch in batches]
    for batch in judged:
        if batch.phase is not BatchPhase.SETTLED or batch.attestation is None:
            raise TracemarketError(f"batch {batch.id} ended {batch.phase.name.lower()}")
    units = sum(batch.attestation.units for batch in judged if batch.attestation)
    traces = sum(batch.count for batch in judged)
    announce(f"turn {number}: {traces} traces committed, {units} units paid")

    with meter.stage("pull"):
        attested = [
            pull_attested(world.poster, world.store, batch, timeout=5.0)
            for batch in settled_batches(world.poster, {run.bounty})
            if batch.id in batches
        ]
    folder = world.folder / "models" / f"turn-{number}"
    with meter.stage("train"):
        # A fresh copy: training changes weights in place, and verifiers may hold the parent's.
        trained = train_on_batches(
            Policy.load(world.checkpoints.folder(parent)),
            parent,
            attested,
            run.environment.spec,
            TrainSettings(seed=settings.seed),
            folder,
        )
    with meter.stage("register"):
        checkpoint, _ = publish(
            world.poster, world.store, folder, parent=registered, root=trained.dataset_root
        )
        shutil.rmtree(folder)
    with meter.stage("evaluate"):
        evaluation = _evaluate(
            world, world.checkpoints.policy(checkpoint), run.environment, run.heldout
        )
    announce(
        f"turn {number}: trained on {trained.metrics.groups} groups, registered "
        f"checkpoint {checkpoint}, held-out pass@1 {_shown(evaluation)}"
    )
    return Turn(number, parent, checkpoint, trained, tuple(batches), traces, units, evaluation)


def _open_bounty(world: World, environment: bytes) -> int:
    client, settings = world.poster, world.settings
    terms = BountyTerms(
        environment=environment,
        trainer=client.address,
        deadline=client.head().timestamp + 86_400,
        group_size=settings.group_size,
        tier=Tier.B,
        pay_rule=PayRule.INFORMATIVE,
        price_per_unit=client.token.parse(settings.price_per_unit),
        fee_per_trace=client.token.parse(settings.fee_per_trace),
    )
    bounty, _ = client.create_bounty(terms, client.token.parse(settings.bounty))
    return bounty


def _evaluate(
    world: World, policy: Policy, environment: Environment, tasks: Sequence[Task]
) -> Evaluation:
    samples = world.settings.heldout_samples
    return evaluate_policy(policy, environment, tasks, samples=samples, seed=HELDOUT_SEED)


def _shown(evaluation: Evaluation) -> str:
    found = evaluation.pass_at_1()
    return f"{found.value:.3f} ± {found.error:.3f}"
