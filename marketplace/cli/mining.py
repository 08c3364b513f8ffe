"""Mine: sample assigned tasks, commit, publish."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from marketplace.chain.client import MarketClient
from marketplace.chain.records import Assignment, Bounty
from marketplace.cli.context import Context, of
from marketplace.cli.options import AsJson, BountyId
from marketplace.cli.output import emit_json, progress, say
from marketplace.gym.checking import check_batch
from marketplace.gym.environment import Environment
from marketplace.gym.jobs import CheckExecutor
from marketplace.gym.pool import CheckPool
from marketplace.miner.mine import Miner, Screen
from marketplace.miner.originals import Screened, terms_before_commit, without_copies
from marketplace.miner.sampler import Sampler
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import ConfigError, SamplerError
from marketplace.protocol.trace import Tier
from marketplace.storage.store import ContentStore
from verifier_node.earlier import EarlierSales
from verifier_node.sold import SoldIndex


def mine(
    ctx: typer.Context,
    bounty: BountyId,
    groups: Annotated[int, typer.Option(min=1, help="groups in this batch, at most")] = 16,
    model: Annotated[
        Path | None, typer.Option(help="sample a model folder of your own (tier C)")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="sample an OpenAI-compatible server, such as http://127.0.0.1:8000/v1"),
    ] = None,
    endpoint_model: Annotated[
        str | None, typer.Option(help="the model's name at the endpoint")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="of the sampler (tiers B, C); a random one without it"),
    ] = None,
    toploc: Annotated[
        bool, typer.Option("--toploc", help="add proofs of the model's activations to the traces")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Solve the next assigned tasks and commit them as one batch.

    Without --model or --endpoint it samples the newest checkpoint of the bounty's trainer.
    Whatever an interrupted run left is finished first.
    """
    context = of(ctx)
    client, store = context.client(), context.store()
    miner = Miner(
        client,
        store,
        Spool(context.folder("miner", client.address)),
        beacons=context.beacons_if_any(client),
        assets=context.assets,
    )
    for mined in miner.resume():
        say(f"batch {mined.batch} of an earlier run is committed and published")
    # Cheap refusals (unknown or expired bounty, no funds) before a model is loaded.
    found = client.bounty(bounty)
    tier = Tier(found.terms.tier)
    if tier is not Tier.C and (model or endpoint):
        raise ConfigError(
            f"bounty {bounty} asks for traces of its trainer's checkpoint",
            fix="leave --model and --endpoint out",
        )
    if tier is Tier.A and seed is not None:
        raise ConfigError(
            f"bounty {bounty} is of tier A: each task's seed decides what is sampled",
            fix="leave --seed out",
        )
    if toploc and endpoint:
        raise ConfigError(
            "an endpoint does not give the model's activations", fix="leave --toploc out"
        )
    sampler, checkpoint = sampler_for(
        context, client, found.terms.trainer, model, endpoint, endpoint_model, toploc=toploc
    )
    wanted = min(groups, max(1, miner.affordable_groups(found)))
    with progress("sampling", wanted) as advance:
        mined = miner.mine(
            bounty,
            groups,
            sampler,
            checkpoint=checkpoint,
            seed=secrets.randbits(63) if seed is None else seed,
            progress=advance,
            screen=screen_of(context, client),
        )
    if as_json:
        emit_json(mined)
    else:
        print(mined.batch)
        say(
            f"batch {mined.batch}: {mined.traces} traces for tasks {mined.first_task} to "
            f"{mined.first_task + mined.groups - 1}, content {mined.cid}"
        )


def screen_of(context: Context, client: MarketClient) -> Screen:
    """Leaves out what would be refused as a copy of what was bought earlier, and says how much."""

    def screen(
        bounty: Bounty, environment: Environment, assignment: Assignment, lines: Sequence[bytes]
    ) -> Sequence[bytes]:
        if environment.spec.originality.earlier == 0:
            return lines
        market = f"{client.deployment.chain_id}-{client.deployment.address('market')}"
        sold = SoldIndex(context.folder("miner") / f"sold-{market}.sqlite")
        with CheckPool(workers=1, assets=context.assets) as pool:
            found = screened(
                client, context.store(), sold, pool, bounty, environment, assignment, lines
            )
        if not found.lines:
            raise SamplerError(
                f"all groups hold nothing but copies of what was bought ({found.copies} traces)",
                fix="sample again, with another --seed or model; nothing was committed",
            )
        if found.copies:
            say(
                f"{found.copies} traces are copies of what was bought and would earn nothing; "
                f"{found.left_out} traces at the end are left out for it"
            )
        return found.lines

    return screen


def screened(
    client: MarketClient,
    store: ContentStore,
    sold: SoldIndex,
    pool: CheckExecutor,
    bounty: Bounty,
    environment: Environment,
    assignment: Assignment,
    lines: Sequence[bytes],
    *,
    fetch_seconds: float = 20.0,
) -> Screened:
    """The lines without copies, if they were committed in the next block. Raises as check_batch and
    EarlierSales.before."""
    spec = environment.spec
    sales = EarlierSales(client, store, sold, fetch_seconds=fetch_seconds)
    earlier = sales.before(client.head().number + 1, bounty.terms.environment, spec)
    check = check_batch(
        lines,
        spec=spec,
        terms=terms_before_commit(client, bounty, assignment),
        pool=pool,
        earlier=earlier,
    )
    return without_copies(lines, check.verdicts, bounty.terms.group_size)


def sampler_for(
    context: Context,
    client: MarketClient,
    trainer: str | None,
    model: Path | None,
    endpoint: str | None,
    endpoint_model: str | None,
    *,
    toploc: bool = False,
) -> tuple[Sampler, int | None]:
    """The sampler that the options name, and the registered checkpoint that it samples from."""
    if endpoint is not None:
        from marketplace.miner.endpoint import OpenAICompatibleSampler

        if endpoint_model is None:
            raise ConfigError("--endpoint needs the model's name", fix="add --endpoint-model NAME")
        return OpenAICompatibleSampler(endpoint, endpoint_model), None

    from marketplace.gym.policy import Policy
    from marketplace.miner.sampler import TransformersSampler

    if model is not None:
        return TransformersSampler(Policy.load(model), model.name, toploc=toploc), None
    newest = None if trainer is None else client.latest_checkpoint(trainer)
    if newest is None:
        raise ConfigError(
            "the bounty names no trainer with a checkpoint",
            fix="sample a model of your own with --model FOLDER or --endpoint URL",
        )
    from verifier_node.checkpoints import CheckpointCache

    cache = CheckpointCache(client, context.store(), context.folder("checkpoints"))
    say(f"fetching checkpoint {newest}")
    policy, name = cache.policy(newest), f"checkpoint-{newest}"
    return TransformersSampler(policy, name, toploc=toploc), newest
