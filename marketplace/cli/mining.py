"""Mine: sample assigned tasks, commit, publish."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from marketplace.chain.client import MarketClient
from marketplace.cli.context import Context, of
from marketplace.cli.options import AsJson, BountyId
from marketplace.cli.output import emit_json, progress, say
from marketplace.miner.mine import Miner
from marketplace.miner.sampler import Sampler
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.trace import Tier


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
        )
    if as_json:
        emit_json(mined)
    else:
        print(mined.batch)
        say(
            f"batch {mined.batch}: {mined.traces} traces for tasks {mined.first_task} to "
            f"{mined.first_task + mined.groups - 1}, content {mined.cid}"
        )


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
