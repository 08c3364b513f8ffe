"""Mine: sample assigned tasks, commit, publish."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from marketplace.miner.mine import CheckpointOf, Miner, Screen
from marketplace.miner.originals import Screened, terms_before_commit, without_copies
from marketplace.miner.sampler import Sampler
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import ConfigError, SamplerError
from marketplace.protocol.trace import Tier
from marketplace.storage.store import ContentStore
from verifier_node.earlier import EarlierSales
from verifier_node.sold import SoldIndex

if TYPE_CHECKING:
    from marketplace.gym.policy import Policy
    from marketplace.miner.routed import RoutedSampler
    from verifier_node.checkpoints import CheckpointCache

SERVED_SECONDS = 300.0
"""For one request: the server batches many, and each waits for its turn."""

Accepts = Callable[[int, str], None]
"""Raises for a checkpoint (the second is how to call it) whose traces can't be sold."""


def mine(
    ctx: typer.Context,
    bounty: BountyId,
    groups: Annotated[int, typer.Option(min=1, help="groups in this batch, at most")] = 16,
    model: Annotated[
        Path | None, typer.Option(help="sample a model folder of your own (tier C)")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="sample an OpenAI-compatible server, such as http://127.0.0.1:8000/v1; at tiers "
            "A and B a vLLM server of the checkpoint (docs/provenance.md)"
        ),
    ] = None,
    endpoint_model: Annotated[
        str | None, typer.Option(help="the model's name at the endpoint")
    ] = None,
    checkpoint: Annotated[
        int | None,
        typer.Option(
            min=1, help="sample this registered checkpoint; of a router each prompt's expert"
        ),
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

    Without --model, --endpoint or --checkpoint it samples the newest checkpoint of the bounty's
    trainer. The traces of a router name the expert that wrote them.
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
    if tier is not Tier.C and model:
        raise ConfigError(
            f"bounty {bounty} asks for traces of its trainer's checkpoint",
            fix="leave --model out",
        )
    if checkpoint is not None and (model or (endpoint and tier is Tier.C)):
        raise ConfigError(
            "--checkpoint names what to sample, and so do --model and --endpoint", fix="give one"
        )
    if (endpoint is None) != (endpoint_model is None):
        raise ConfigError(
            "--endpoint and --endpoint-model go together", fix="give the address and the name there"
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
    accepts = None if tier is Tier.C else accepted_by(client, found)
    # Of tiers A and B the endpoint has to be the checkpoint, which samples what it is asked.
    served = None
    if endpoint and endpoint_model and accepts:
        served = Served(endpoint, endpoint_model, miner, found)
    sampler, wrote = sampler_for(
        context,
        client,
        found.terms.trainer,
        model,
        None if served else endpoint,
        endpoint_model,
        checkpoint=checkpoint,
        accepts=accepts,
        toploc=toploc,
        served=served,
    )
    wanted = min(groups, max(1, miner.affordable_groups(found)))
    with progress("sampling", wanted) as advance:
        mined = miner.mine(
            bounty,
            groups,
            sampler,
            checkpoint=wrote,
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


@dataclass(frozen=True, slots=True)
class Served:
    """A vLLM server that has the checkpoint a bounty asks for. name: the model's, there."""

    address: str
    name: str
    miner: Miner
    bounty: Bounty

    def sampler(self, policy: Policy, model: str) -> Sampler:
        """Judges what it gets by the environment's own tolerance, as strictly as any verifier."""
        from marketplace.gym.endpoint import Endpoint
        from marketplace.gym.provenance import ReplayTolerance
        from marketplace.miner.vllm_sampler import VllmSampler

        endpoint = Endpoint(self.address, self.name, timeout=SERVED_SECONDS)
        rules = self.miner.environment(self.bounty).spec.provenance
        tolerance = ReplayTolerance(rules.margin, rules.flips)
        return VllmSampler(endpoint, policy, model, tolerance=tolerance)


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


def accepted_by(client: MarketClient, bounty: Bounty) -> Accepts:
    """Raises ConfigError for a checkpoint whose traces the bounty's verifiers would refuse."""

    def accepts(checkpoint: int, what: str) -> None:
        if client.checkpoint(checkpoint).trainer != bounty.terms.trainer:
            raise ConfigError(
                f"{what} was registered by {client.checkpoint(checkpoint).trainer}, and bounty "
                f"{bounty.id} of tier {Tier(bounty.terms.tier).name} takes traces of checkpoints "
                f"of its trainer {bounty.terms.trainer} only",
                fix="sample a checkpoint of that trainer, or mine a bounty of tier C",
            )

    return accepts


def sampler_for(
    context: Context,
    client: MarketClient,
    trainer: str | None,
    model: Path | None,
    endpoint: str | None,
    endpoint_model: str | None,
    *,
    checkpoint: int | None = None,
    accepts: Accepts | None = None,
    toploc: bool = False,
    served: Served | None = None,
) -> tuple[Sampler, CheckpointOf]:
    """The sampler that the options name, and the registered checkpoint that it samples from.

    checkpoint: instead of the trainer's newest. accepts: raises for those that can't be sold.
    served: a server of the checkpoint, which samples in place of this process.
    """
    if endpoint is not None:
        from marketplace.miner.endpoint import OpenAICompatibleSampler

        if endpoint_model is None:
            raise ConfigError("--endpoint needs the model's name", fix="add --endpoint-model NAME")
        return OpenAICompatibleSampler(endpoint, endpoint_model), None

    from marketplace.gym.policy import Policy
    from marketplace.miner.sampler import TransformersSampler

    if model is not None:
        return TransformersSampler(Policy.load(model), model.name, toploc=toploc), None
    if checkpoint is None and trainer is not None:
        checkpoint = client.latest_checkpoint(trainer)
    if checkpoint is None:
        raise ConfigError(
            "the bounty names no trainer with a checkpoint",
            fix="sample a model of your own with --model FOLDER or --endpoint URL",
        )
    if checkpoint > (count := client.checkpoint_count()):
        raise ConfigError(
            f"there is no checkpoint {checkpoint}: {count} are registered",
            fix="see `tracemarket model list`",
        )
    from marketplace.gym.modules import is_router
    from verifier_node.checkpoints import CheckpointCache

    cache = CheckpointCache(client, context.store(), context.folder("checkpoints"))
    say(f"fetching checkpoint {checkpoint}")
    if is_router(cache.folder(checkpoint)):
        if served is not None:
            raise ConfigError(
                f"checkpoint {checkpoint} is a router, and an endpoint serves one model",
                fix="leave --endpoint out, or name one of its experts with --checkpoint",
            )
        routed = routed_sampler(cache, checkpoint, accepts, toploc=toploc)
        return routed, routed.expert_of
    if accepts is not None:
        accepts(checkpoint, f"checkpoint {checkpoint}")
    policy, name = cache.policy(checkpoint), f"checkpoint-{checkpoint}"
    if served is not None:
        return served.sampler(policy, name), checkpoint
    return TransformersSampler(policy, name, toploc=toploc), checkpoint


def routed_sampler(
    cache: CheckpointCache, checkpoint: int, accepts: Accepts | None = None, *, toploc: bool = False
) -> RoutedSampler:
    """A sampler of a registered router. accepts: asked about each expert, before one is fetched.

    Its experts write the traces, and each trace names its own: that is what verifiers re-score.
    """
    from marketplace.gym.policy import Policy
    from marketplace.gym.routing import read_router
    from marketplace.miner.routed import RoutedSampler

    router = read_router(cache.folder(checkpoint))
    for expert in router.experts if accepts is not None else ():
        assert accepts is not None
        accepts(expert, f"expert {expert} of router {checkpoint}")
    base = Policy.load(cache.base_folder(checkpoint))
    return RoutedSampler(router, base, cache.policy, f"checkpoint-{checkpoint}", toploc=toploc)
