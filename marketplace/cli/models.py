"""Checkpoints: train, register, list, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marketplace.chain.client import MarketClient
from marketplace.cli.context import Context, of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, facts, progress, say, table
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.shares import MOST_PASSED_ON, Split
from marketplace.storage.cid import Cid
from verifier_node.checkpoints import CheckpointCache

app = typer.Typer(help="Registered checkpoints.", no_args_is_help=True)


@app.command("register")
def register(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="folder of safetensors, config and tokenizer")],
) -> None:
    """Publish and register a base model (parent 0). Prints its id."""
    from marketplace.gym.policy import Policy
    from trainer.turn import publish

    context = of(ctx)
    Policy.load(folder)  # what can't be loaded must not be sampled from
    checkpoint, cid = publish(context.client(), context.store(), folder, parent=0, root=ZERO32)
    print(checkpoint)
    say(f"checkpoint {checkpoint} is {cid}")


@app.command("base")
def base(folder: Annotated[Path, typer.Argument(help="folder to make")]) -> None:
    """Make a folder with the small base model of the demo (SmolLM2-135M-Instruct)."""
    from marketplace.gym.base_model import prepare_base_model

    print(prepare_base_model(folder))


@app.command("list")
def list_models(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The registered checkpoints."""
    reader = of(ctx).reader()
    found = [reader.checkpoint(number) for number in range(1, reader.checkpoint_count() + 1)]
    rows = [
        {
            "id": one.id,
            "parent": one.parent,
            "trainer": one.trainer,
            "cid": str(Cid.from_chain(one.content.digest, one.content.codec)),
            "dataset_root": one.dataset_root,
            "block": one.registered_block,
        }
        for one in found
    ]
    if as_json:
        emit_json(rows)
        return
    table(
        "checkpoints",
        ["id>", "parent>", "trainer", "content", "trained on"],
        [
            (
                row["id"],
                row["parent"] or "-",
                row["trainer"],
                row["cid"],
                "nothing (a base model)"
                if one.dataset_root == ZERO32
                else "0x" + one.dataset_root.hex()[:12] + "…",
            )
            for row, one in zip(rows, found, strict=True)
        ],
    )


def train(
    ctx: typer.Context,
    bounty: Annotated[
        list[int], typer.Option(help="bounty whose settled batches to train on (repeatable)")
    ],
    out: Annotated[Path, typer.Option(help="new folder for the checkpoint")],
    settings: Annotated[
        Path | None, typer.Option(help="TOML file of training settings; defaults without it")
    ] = None,
    register: Annotated[bool, typer.Option(help="publish and register the result")] = True,
    contributors: Annotated[
        str, typer.Option(help="percent of its royalties for the miners of the batches")
    ] = "60",
    authors: Annotated[str, typer.Option(help="percent for the environment's author")] = "10",
    pass_on: Annotated[str, typer.Option(help="percent that goes on to the parent, 50 at most")] = (
        "10"
    ),
    held_out: Annotated[
        int, typer.Option(min=0, help="held-out tasks to evaluate before and after; 0 for none")
    ] = 0,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds for each download")] = 60.0,
) -> None:
    """Train your newest checkpoint on the attested traces it wrote, register the result as its
    child. Traces whose proofs fail are refused."""
    try:
        from marketplace.cli.evaluation import evaluator
        from marketplace.gym.policy import Policy
        from trainer.turn import publish, train_on_batches
    except ImportError as error:
        raise ConfigError(
            f"training needs {error.name}", fix="install tracemarket[train]"
        ) from None
    from trainer.config import TrainSettings, load_settings
    from trainer.pull import pull_attested, settled_batches
    from trainer.royalties import parse_percent
    from verifier_node.checking import fetch_spec

    context = of(ctx)
    client, store = context.client(), context.store()
    chosen = TrainSettings() if settings is None else load_settings(settings)
    if out.exists():
        raise ConfigError(f"{out} exists already", fix="name a new folder with --out")
    split = Split(
        parse_percent(contributors, "--contributors"), parse_percent(authors, "--authors")
    )
    passed_on = parse_percent(pass_on, "--pass-on")
    if passed_on > MOST_PASSED_ON:
        raise ConfigError(f"--pass-on is {pass_on} %", fix="pass on 50 % at most")
    parent = _newest(client, client.address)
    final = list(settled_batches(client, set(bounty)))
    with progress("fetching batches", len(final)) as advance:
        attested = []
        for batch in final:
            attested.append(pull_attested(client, store, batch, timeout=timeout))
            advance()
    environments = {one.terms.environment for one in attested}
    if len(environments) != 1:
        raise ConfigError(
            f"{len(final)} settled batches of {len(environments)} environments",
            fix="name bounties of one environment that have settled batches",
        )
    spec = fetch_spec(store, environments.pop(), timeout)
    policy = Policy.load(_cache(context, client).folder(parent))
    with progress("training", None) as advance:
        trained = train_on_batches(
            policy,
            parent,
            attested,
            spec,
            chosen,
            out,
            on_step=lambda *_: advance(),
            evaluate=evaluator(context, store, spec, held_out) if held_out else None,
        )
    say(
        f"trained checkpoint {parent} on {trained.metrics.groups} groups of "
        f"{len(trained.batches)} batches; left out: {trained.dataset.skipped or 'nothing'}"
    )
    if not register:
        print(out)
        return
    checkpoint, cid = publish(
        client,
        store,
        out,
        parent=parent,
        root=trained.dataset_root,
        split=split,
        pass_on_ppm=passed_on,
    )
    print(checkpoint)
    say(f"checkpoint {checkpoint} (child of {parent}) is {cid}")


@app.command("eval")
def evaluate_model(
    ctx: typer.Context,
    checkpoint: Annotated[int, typer.Argument(min=1, help="checkpoint id")],
    environment: Annotated[str, typer.Option(help="environment id")],
    tasks: Annotated[int, typer.Option(min=2, help="held-out tasks")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="samples of each task")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="of the sampler")] = 20_000,
    as_json: AsJson = False,
) -> None:
    """Accuracy on held-out tasks, which are never sold, with standard errors."""
    from marketplace.cli.bounties import parse_environment
    from marketplace.cli.evaluation import evaluate_policy
    from marketplace.gym.environment import Environment
    from marketplace.storage.assets import fetch_assets
    from trainer.evaluate import heldout_tasks
    from verifier_node.checking import fetch_spec

    context = of(ctx)
    reader, store = context.reader(), context.store()
    spec = fetch_spec(store, parse_environment(environment), 30.0)
    fetch_assets(store, spec.to_fetch(), context.assets, timeout=30.0)
    built = Environment(spec, context.assets)
    policy = CheckpointCache(reader, store, context.folder("checkpoints")).policy(checkpoint)
    with progress("evaluating", tasks) as advance:
        found = evaluate_policy(
            policy,
            built,
            heldout_tasks(built, tasks),
            samples=samples,
            seed=seed,
            on_task=lambda *_: advance(),
        )
    once, any_of = found.pass_at_1(), found.pass_at_k(samples)
    record = {
        "checkpoint": checkpoint,
        "environment": environment,
        "tasks": tasks,
        "samples": samples,
        "seed": seed,
        "pass_at_1": once.value,
        "standard_error": once.error,
        f"pass_at_{samples}": any_of.value,
    }
    if as_json:
        emit_json(record)
        return
    facts(
        f"checkpoint {checkpoint} on {spec.name}",
        [
            ("pass@1", f"{once.value:.3f} ± {once.error:.3f}"),
            (f"pass@{samples}", f"{any_of.value:.3f} ± {any_of.error:.3f}"),
            ("held-out tasks, samples", f"{tasks}, {samples}"),
        ],
    )


def _newest(client: MarketClient, trainer: str) -> int:
    newest = client.latest_checkpoint(trainer)
    if newest is None:
        raise ConfigError(
            f"{trainer} has no checkpoint",
            fix="register a base model first: `tracemarket model register FOLDER`",
        )
    return newest


def _cache(context: Context, client: MarketClient) -> CheckpointCache:
    return CheckpointCache(client, context.store(), context.folder("checkpoints"))
