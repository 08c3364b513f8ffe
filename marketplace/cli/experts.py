"""Experts: train an adapter, compose several, set them side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from marketplace.chain.client import MarketClient
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Checkpoint
from marketplace.cli.context import Context, of
from marketplace.cli.mining import routed_sampler
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, progress, say
from marketplace.gym.modules import base_of, is_adapter, is_router
from marketplace.protocol.errors import CheckpointError, ConfigError
from marketplace.protocol.hashing import ZERO32, keccak
from marketplace.protocol.merkle import dataset_root
from marketplace.storage.cid import Cid
from verifier_node.checkpoints import CheckpointCache

if TYPE_CHECKING:
    from marketplace.gym.environment import Environment
    from marketplace.miner.sampler import Sampler
    from trainer.compose import Base, Expert

Ids = Annotated[list[int], typer.Option("--expert", help="checkpoint id of an expert (repeat)")]
Out = Annotated[Path, typer.Option(help="new folder for the result")]
PROMPTS = 64
"""Of each expert's environment, that a router is fitted on."""

Register = Annotated[bool, typer.Option(help="publish and register the result")]


def expert(
    ctx: typer.Context,
    bounty: Annotated[
        list[int], typer.Option(help="bounty whose settled batches to train on (repeatable)")
    ],
    parent: Annotated[
        int, typer.Option(min=1, help="checkpoint that wrote the traces: the base, or an expert")
    ],
    out: Out,
    settings: Annotated[Path | None, typer.Option(help="TOML file of training settings")] = None,
    rank: Annotated[int, typer.Option(min=1, help="of the adapter")] = 16,
    alpha: Annotated[float, typer.Option(min=0.001, help="scale times rank")] = 32.0,
    register: Register = True,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds for each download")] = 60.0,
) -> None:
    """Train an adapter for one environment on the attested traces of its bounties. An expert as
    --parent is trained on, with its own rank."""
    try:
        from trainer.experts import LoraSettings, Start, train_expert
        from trainer.turn import publish
    except ImportError as error:
        raise ConfigError(
            f"training needs {error.name}", fix="install tracemarket[train]"
        ) from None
    from marketplace.cli.market_traces import fetched
    from trainer.config import TrainSettings, load_settings
    from trainer.pull import settled_batches
    from verifier_node.checking import fetch_spec

    context = of(ctx)
    client, store = context.client(), context.store()
    chosen = TrainSettings() if settings is None else load_settings(settings)
    if out.exists():
        raise ConfigError(f"{out} exists already", fix="name a new folder with --out")
    final = list(settled_batches(client, set(bounty)))
    attested, _ = fetched(client, store, final, timeout)
    environments = {one.terms.environment for one in attested}
    if len(environments) != 1:
        raise ConfigError(
            f"{len(final)} settled batches of {len(environments)} environments",
            fix="name bounties of one environment that have settled batches",
        )
    spec = fetch_spec(store, environments.pop(), timeout)
    cache = _cache(context, client)
    registered = client.checkpoint(parent)
    folder = cache.files(registered)
    start = Start(folder, _cid_of(registered))
    if is_adapter(folder):
        start = Start(cache.base_folder(parent), base_of(folder), folder)
    with progress("training", None) as advance:
        trained = train_expert(
            start,
            parent,
            attested,
            spec,
            chosen,
            out,
            lora=LoraSettings(rank=rank, alpha=alpha),
            on_step=lambda *_: advance(),
        )
    say(
        f"trained an adapter for {spec.name} on {trained.metrics.groups} groups of "
        f"{len(trained.batches)} batches; left out: {trained.dataset.skipped or 'nothing'}"
    )
    if not register:
        print(out)
        return
    checkpoint, cid = publish(client, store, out, parent=registered, root=trained.dataset_root)
    print(checkpoint)
    say(f"checkpoint {checkpoint} (child of {parent}) is {cid}")


def compose(
    ctx: typer.Context,
    method: Annotated[str, typer.Option(help="linear, mixture, ties, dare or route")],
    expert: Ids,
    out: Out,
    weight: Annotated[
        list[float] | None, typer.Option(help="of each expert, in their order")
    ] = None,
    density: Annotated[
        float | None, typer.Option(min=0.001, max=1, help="share that ties and dare keep (0.5)")
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="of the result of ties and dare")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of what dare drops (0)")] = None,
    prompts: Annotated[
        int | None, typer.Option(min=1, help="of each expert, to fit a router (64)")
    ] = None,
    register: Annotated[bool, typer.Option(help="publish and register the result")] = False,
) -> None:
    """Compose experts of one base: merge their adapters into one, or fit a router."""
    from trainer.compose import ComposeSettings, merge_experts, route_experts
    from trainer.turn import publish

    context = of(ctx)
    reader = context.client() if register else context.reader()
    try:
        asked = {
            "weights": tuple(weight) if weight else None,
            "density": density,
            "rank": rank,
            "seed": seed,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        chosen = ComposeSettings.model_validate({"method": method, **given})
        if prompts is not None and chosen.method != "route":
            raise ConfigError(f"{method} has no use for --prompts", fix="leave it out")
    except ValidationError as error:
        raise ConfigError(
            f"these settings can't be used: {str(error).splitlines()[2].strip()}",
            fix="the methods are linear, mixture, ties, dare and route",
        ) from None
    cache = _cache(context, reader)
    base, registered, experts = _members(reader, cache, expert)
    dataset, root = union(reader, experts)
    if chosen.method == "route":
        fitted = {
            one.checkpoint: [
                environment.task(keccak(b"route" + index.to_bytes(8, "big"))).prompt
                for index in range(prompts or PROMPTS)
            ]
            for one in experts
            for environment in [_environment_of(context, reader, one)]
        }
        route_experts(base, experts, fitted, out, dataset=dataset)
    else:
        merge_experts(base, experts, chosen, out, dataset=dataset)
    say(f"{method} of checkpoints {', '.join(map(str, expert))} is in {out}")
    if not register:
        print(out)
        return
    assert isinstance(reader, MarketClient)
    checkpoint, cid = publish(reader, context.store(), out, parent=registered, root=root)
    print(checkpoint)
    say(f"checkpoint {checkpoint} (child of {base.checkpoint}) is {cid}")


def compare(
    ctx: typer.Context,
    expert: Ids,
    composed: Annotated[
        list[int] | None, typer.Option(help="checkpoint id of what was composed (repeat)")
    ] = None,
    tasks: Annotated[int, typer.Option(min=2, help="held-out tasks of each environment")] = 100,
    samples: Annotated[int, typer.Option(min=1, help="samples of each task")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="of the sampler")] = 20_000,
    out: Annotated[Path | None, typer.Option(help="folder for table and plot")] = None,
    as_json: AsJson = False,
) -> None:
    """Base, experts and what was composed of them, on held-out tasks of each environment."""
    from trainer.evaluate import heldout_tasks
    from trainer.side_by_side import Complete, Exam, side_by_side

    context = of(ctx)
    reader = context.reader()
    cache = CheckpointCache(
        reader, context.store(), context.folder("checkpoints"), loaded=len(expert) + 1
    )
    base, _, experts = _members(reader, cache, expert)
    built = by_name([(one.checkpoint, _environment_of(context, reader, one)) for one in experts])
    exams = [
        Exam(name, heldout_tasks(environment, tasks), environment.score)
        for name, environment in built.items()
    ]

    def models() -> Iterator[tuple[str, Callable[[Exam], Complete]]]:
        names = {base.checkpoint: f"base {base.checkpoint}"}
        names |= {one: f"expert {one}" for one in expert}
        names |= {one: f"composed {one}" for one in composed or ()}
        for checkpoint, name in names.items():
            yield name, partial(answer, sampler_of(cache, checkpoint))

    def answer(sampler: Sampler, exam: Exam) -> Complete:
        return completing(sampler, built[exam.name], samples, seed)

    with progress("evaluating", (1 + len(expert) + len(composed or ())) * len(exams)) as advance:
        found = side_by_side(models(), exams, on_exam=lambda *_: advance())
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "experts.json").write_text(json.dumps(found.record(), indent=1) + "\n", "utf-8")
        (out / "experts.md").write_text(found.markdown(), "utf-8")
        (out / "experts.png").write_bytes(found.plot())
    if as_json:
        emit_json(found.record())
    else:
        print(found.markdown(), end="")


def by_name(found: Iterable[tuple[int, Environment]]) -> dict[str, Environment]:
    """Environments of experts (their checkpoint ids) by name, each once. A name is nobody's own:
    of another environment with the same one the expert is said too."""
    built: dict[str, Environment] = {}
    for checkpoint, environment in found:
        if any(known.spec == environment.spec for known in built.values()):
            continue
        name = environment.spec.name
        built[f"{name} (expert {checkpoint})" if name in built else name] = environment
    return built


def sampler_of(cache: CheckpointCache, checkpoint: int) -> Sampler:
    """A sampler of any registered checkpoint; of a router, one that asks its experts."""
    from marketplace.miner.sampler import TransformersSampler

    if is_router(cache.folder(checkpoint)):
        return routed_sampler(cache, checkpoint)
    return TransformersSampler(cache.policy(checkpoint), f"checkpoint-{checkpoint}")


def completing(
    sampler: Sampler, environment: Environment, samples: int, seed: int
) -> Callable[[Sequence[str]], Iterable[Sequence[str]]]:
    """Completions of prompts by the environment's sampling rules."""
    from marketplace.miner.sampler import SamplingRules

    rules = environment.spec.sampling
    asked = SamplingRules(
        group_size=samples,
        temperature=rules.temperature,
        max_tokens=rules.max_tokens,
        stop=rules.stop,
    )

    def complete(prompts: Sequence[str]) -> Iterable[Sequence[str]]:
        for group in sampler.sample(prompts, asked, seed=seed):
            yield [completion.text for completion in group]

    return complete


def union(reader: MarketReader, experts: Sequence[Expert]) -> tuple[dict[str, Any], bytes]:
    """What the experts were trained on, all together, and its dataset root.

    Raises CheckpointError if an expert's record does not lead to the root it is registered with.
    """
    from trainer.checkpoint import read_record
    from trainer.compose import joined

    chain, market = reader.deployment.chain_id, reader.deployment.address("market")
    datasets = []
    for one in experts:
        registered = reader.checkpoint(one.checkpoint).dataset_root
        own = []
        try:
            for entry in _batches(read_record(one.folder)):
                root = bytes.fromhex(entry["verdict_root"].removeprefix("0x"))
                own.append((entry["batch"], root, entry["units"], entry["weight_ppm"]))
            found = dataset_root(chain, market, own)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"training.json of expert {one.checkpoint} lists no batches: {error!r:.200}"
            ) from None
        if found != registered:
            raise CheckpointError(
                f"the batches of expert {one.checkpoint} lead to root 0x{found.hex()}, but it is "
                f"registered with 0x{registered.hex()}",
                fix="compose experts whose record is true",
            )
        datasets.append(own)
    entries = joined(datasets)
    root = dataset_root(chain, market, entries) if entries else ZERO32
    rows = [
        {"batch": batch, "verdict_root": "0x" + leaf.hex(), "units": units, "weight_ppm": ppm}
        for batch, leaf, units, ppm in entries
    ]
    return {"root": "0x" + root.hex(), "batches": rows}, root


def _batches(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = record["dataset"].get("batches", [])
    return list(found)


def _members(
    reader: MarketReader, cache: CheckpointCache, ids: Sequence[int]
) -> tuple[Base, Checkpoint, list[Expert]]:
    """The experts' base, as it was fetched and as it is registered, and they."""
    from trainer.compose import Base, Expert

    experts = []
    for one in ids:
        registered = reader.checkpoint(one)
        folder = cache.files(registered)
        if not is_adapter(folder):
            raise CheckpointError(
                f"checkpoint {one} is no adapter",
                fix="name experts made by `tracemarket model expert`",
            )
        experts.append(Expert(one, _cid_of(registered), folder))
    cid = base_of(experts[0].folder)
    folder = cache.base_folder(ids[0])
    ancestor = reader.checkpoint(reader.checkpoint(ids[0]).parent)
    while _cid_of(ancestor) != cid:
        ancestor = reader.checkpoint(ancestor.parent)
    return Base(ancestor.id, cid, folder), ancestor, experts


def _environment_of(context: Context, reader: MarketReader, one: Expert) -> Environment:
    """The environment whose traces an expert was trained on."""
    from marketplace.gym.environment import Environment
    from marketplace.storage.assets import fetch_assets
    from trainer.checkpoint import read_record
    from verifier_node.checking import fetch_spec

    batches = _batches(read_record(one.folder))
    if not batches:
        raise CheckpointError(
            f"expert {one.checkpoint} was trained on no batch, so it has no environment",
            fix="name an expert that was trained",
        )
    bounty = reader.batch(batches[0]["batch"]).bounty
    store = context.store()
    spec = fetch_spec(store, reader.bounty(bounty).terms.environment, 30.0)
    fetch_assets(store, spec.to_fetch(), context.assets, timeout=30.0)
    return Environment(spec, context.assets)


def _cid_of(one: Checkpoint) -> str:
    return str(Cid.from_chain(one.content.digest, one.content.codec))


def _cache(context: Context, reader: MarketReader) -> CheckpointCache:
    return CheckpointCache(reader, context.store(), context.folder("checkpoints"))
