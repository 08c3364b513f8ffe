"""Run a watchtower: re-check what committees attest, dispute what is wrong."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from marketplace.chain.client import MarketClient
from marketplace.cli.context import Context, of
from marketplace.cli.output import printable, say
from marketplace.gym.jobs import CheckExecutor
from marketplace.gym.pool import CheckPool
from marketplace.gym.ray_pool import RayPool
from marketplace.storage.rooms import Room
from marketplace.storage.store import ContentStore
from verifier_node.checking import BatchChecker
from verifier_node.checkpoints import CheckpointCache, scorer_maker
from verifier_node.daemon import follow
from verifier_node.duties import Done
from verifier_node.fetching import Fetches, inline
from verifier_node.journal import Journal
from verifier_node.sold import SoldIndex
from verifier_node.watchtower import Watchtower

Once = Annotated[bool, typer.Option("--once", help="one pass, then end")]
Poll = Annotated[float, typer.Option(min=0.1, help="seconds between passes")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="checker processes; without it, one less than this machine's cores, or as many as the "
        "Ray cluster has CPUs",
    ),
]


class ExecutorKind(StrEnum):
    """Where checks run."""

    LOCAL = "local"
    RAY = "ray"


Executor = Annotated[
    ExecutorKind,
    typer.Option("--executor", help="where checks run: on this machine, or over a Ray cluster"),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        envvar="TRACEMARKET_RAY_ADDRESS",
        help='with --executor ray: host:port of the cluster, or "auto"; else one is started here',
    ),
]
FetchSeconds = Annotated[
    float, typer.Option(min=0.1, help="how long one look for content may take")
]
CheckpointGb = Annotated[
    float,
    typer.Option(
        min=0.001,
        help="gigabytes (10^9 bytes) that fetched checkpoints may take on this disk; those not "
        "used for longest go first",
    ),
]
CHECKPOINT_GB = 150.0
"""An adapter and its base, each as large as a checkpoint may be."""
MaxBonds = Annotated[str, typer.Option(help="tokens of bonds at stake at once, at most")]
MaxAppeals = Annotated[
    str,
    typer.Option(
        help="tokens of bonds at stake at once, at most, for appeals of juries that decide "
        "against your own check; 0 never appeals"
    ),
]
Share = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="share of the attestations to re-check")
]
DemandWithheld = Annotated[
    bool,
    typer.Option(
        "--demand-withheld",
        help="also demand openings where the traces can't be had (a bond at risk, if they appear)",
    ),
]

WORKERS = max(1, (os.cpu_count() or 2) - 1)


def make_executor(
    kind: ExecutorKind, ray_address: str | None, workers: int | None, assets: Path
) -> CheckPool | RayPool:
    """What checks items."""
    if kind is ExecutorKind.RAY:
        return RayPool(ray_address, workers, assets=assets)
    return CheckPool(workers or WORKERS, assets=assets)


def watch(
    ctx: typer.Context,
    once: Once = False,
    poll: Poll = 2.0,
    max_bonds: MaxBonds = "100",
    max_appeals: MaxAppeals = "100",
    share: Share = 1.0,
    demand_withheld: DemandWithheld = False,
    workers: Workers = None,
    executor: Executor = ExecutorKind.LOCAL,
    ray_address: RayAddress = None,
    fetch_seconds: FetchSeconds = 20.0,
    checkpoint_gb: CheckpointGb = CHECKPOINT_GB,
) -> None:
    """Re-check attested batches, dispute what is wrong and appeal juries that say otherwise, with
    bonds of your own. Needs no stake. The journal in the home directory holds what it began: keep
    it, and run one watch for each key."""
    context = of(ctx)
    client, store = context.client(), context.store()
    journal = Journal(context.folder("watch", f"{client.address}.sqlite"))
    with make_executor(executor, ray_address, workers, context.assets) as pool:
        checkpoints = make_checkpoints(
            context, client, store, fetch_seconds, checkpoint_gb, once=once
        )
        checker = make_checker(context, client, store, pool, fetch_seconds, checkpoints)
        settings = Settings(max_bonds, max_appeals, share, demand_withheld, fetch_seconds)
        tower = make_watchtower(client, store, journal, checker, settings)
        if once:
            tell(tower.run_once())
            return
        stop = stop_signal()
        say(f"{client.address} is watching; Ctrl-C ends it")
        follow(tower.run_once, stop, poll)
    say("the watch has ended; its open disputes are in its journal")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options of a watch say, whoever runs it."""

    max_bonds: str
    max_appeals: str
    share: float
    demand_withheld: bool
    fetch_seconds: float


def make_watchtower(
    client: MarketClient,
    store: ContentStore,
    journal: Journal,
    checker: BatchChecker,
    settings: Settings,
) -> Watchtower:
    return Watchtower(
        client,
        store,
        journal,
        checker,
        max_bonds=client.token.parse(settings.max_bonds),
        max_appeals=client.token.parse(settings.max_appeals),
        share=settings.share,
        fetch_seconds=settings.fetch_seconds,
        demand_withheld=settings.demand_withheld,
    )


def make_checkpoints(
    context: Context,
    client: MarketClient,
    store: ContentStore,
    fetch_seconds: float,
    gigabytes: float,
    *,
    once: bool,
) -> CheckpointCache:
    """once: for one pass, which waits for what it needs; else it is fetched beside the passes."""
    folder = context.folder("checkpoints")
    fetches = Fetches(fetch_seconds, start=inline) if once else Fetches(fetch_seconds)
    room = Room(folder, int(gigabytes * 10**9))
    return CheckpointCache(client, store, folder, fetches=fetches, room=room)


def make_checker(
    context: Context,
    client: MarketClient,
    store: ContentStore,
    pool: CheckExecutor,
    fetch_seconds: float,
    checkpoints: CheckpointCache,
) -> BatchChecker:
    chain_id, market = client.deployment.chain_id, client.deployment.address("market")
    return BatchChecker(
        client,
        store,
        pool,
        fetch_seconds=fetch_seconds,
        scorer_for=scorer_maker(checkpoints),
        sold=SoldIndex(context.folder("originality") / f"{chain_id}-{market}.sqlite"),
    )


def stop_signal() -> threading.Event:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def tell(done: list[Done]) -> None:
    """What a pass did, for people."""
    for one in done:
        about = f"batch {one.batch}" + (f", dispute {one.dispute}" if one.dispute else "")
        say(f"{about}: {one.duty.name.lower()} ({escape(printable(one.detail))})")
