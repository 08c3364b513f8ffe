"""Environments: begin one, check it, publish it, see what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from marketplace.cli.context import Context, of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, out, plain, printable, say, table
from marketplace.cli.scaffold import scaffold
from marketplace.gym.environment import Environment
from marketplace.gym.sources.dataset import builtin_asset
from marketplace.gym.sources.package import PackageSource, check_installed
from marketplace.gym.spec import (
    MAX_SPEC_BYTES,
    EnvironmentSpec,
    builtin_names,
    builtin_spec,
    environment_id,
    parse_spec,
    spec_bytes,
)
from marketplace.gym.trial import TASKS, Trial, TrialBench, examine
from marketplace.protocol.errors import ConfigError, SpecError, StorageError, TracemarketError
from marketplace.protocol.sheets import least_fee, least_judge_pay
from marketplace.storage.assets import fetch_assets
from marketplace.storage.cid import RAW, Cid

FETCH_SECONDS = 30.0
_RUBRIC = "no right answers: a jury of verifiers grades, and its median is opinion, not proof"

app = typer.Typer(help="Environments: what is asked and how it is checked.", no_args_is_help=True)

SpecName = Annotated[
    str, typer.Argument(help="a spec file (JSON), a folder with spec.json, or a built-in name")
]
Tasks = Annotated[int, typer.Option(min=4, max=1000, help="tasks to draw")]


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="of the environment: a-z, 0-9, _")],
    kind: Annotated[str, typer.Option(help='"spec" (a file) or "package" (Python)')] = "spec",
    folder: Annotated[
        Path | None, typer.Option("--out", help="the folder to make; ./NAME without it")
    ] = None,
) -> None:
    """Begin an environment: a folder that passes `env check` as it is, to be changed."""
    folder = folder or Path(name)
    scaffold(name, kind, folder)
    print(folder)
    say(f"next: read {folder / 'README.md'}")


@app.command("data")
def data(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON Lines, possibly compressed with zstd")],
) -> None:
    """Store a data set. Prints its CID, for the spec's source."""
    cid = of(ctx).store().put_file(file)
    print(cid)
    with file.open("rb") as lines:
        say(f"{file.stat().st_size:,} bytes, {sum(1 for _ in lines)} lines")


@app.command("check")
def check(
    ctx: typer.Context, spec: SpecName, tasks: Tasks = TASKS, as_json: AsJson = False
) -> None:
    """Test an environment: same tasks and verdicts in several processes, right answers right,
    junk worth nothing, no leaks; and how many checks a second it takes. Exits 1 if it fails."""
    parsed = load_spec(spec)
    trial = _tried(of(ctx), parsed, tasks)
    if as_json:
        emit_json({**plain(trial), "class": parsed.kind, "passed": trial.passed})
    else:
        say(f"class: {parsed.kind}" + (f" ({_RUBRIC})" if parsed.rubric else ""))
        _show(trial)
    if not trial.passed:
        raise typer.Exit(1)


@app.command("publish")
def publish(ctx: typer.Context, spec: SpecName, tasks: Tasks = TASKS) -> None:
    """Check an environment as `env check` does, and only if it passes: store its spec and data
    sets, and register its id. Prints the id."""
    context = of(ctx)
    parsed = load_spec(spec)
    trial = _tried(context, parsed, tasks)
    if parsed.rubric is not None:
        say(f"class: rubric ({_RUBRIC})")
        say(_floors(context))
    if not trial.passed:
        raise SpecError(
            f"environment {parsed.name!r} fails: "
            + "; ".join(f"{one.name}: {one.detail}" for one in trial.failures),
            fix="see `tracemarket env check`",
        )
    say(f"{len(trial.checks)} checks passed, {trial.checks_per_second or 0:,.0f} checks/s")
    print(_register(context, parsed))


@app.command("register")
def register(ctx: typer.Context, spec: SpecName) -> None:
    """Store a spec and register its id after its self-test alone: for what was checked before.
    Prints the id."""
    context = of(ctx)
    parsed = load_spec(spec)
    _fetch(context, parsed)
    Environment(parsed, context.assets).self_test()
    print(_register(context, parsed))


@app.command("list")
def list_environments(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The registered environments, and what their specs say where they can be fetched."""
    context = of(ctx)
    reader, store = context.reader(), context.store()
    found = []
    for event in reader.events(reader.deployment.block, names=["EnvironmentRegistered"]):
        ident = event.args["environment"]
        entry = {
            "id": "0x" + ident.hex(),
            "author": event.args["author"],
            "cid": str(Cid(ident, RAW)),
        }
        try:
            spec = parse_spec(store.get(Cid(ident, RAW), timeout=5, max_bytes=MAX_SPEC_BYTES))
            entry |= {"name": spec.name, "class": spec.kind, "description": spec.description}
        except (StorageError, TracemarketError) as error:
            entry |= {"name": None, "class": None, "description": f"({type(error).__name__})"}
        found.append(entry)
    if as_json:
        emit_json(found)
        return
    table(
        "environments",
        ["id", "name", "class", "author", "what it is"],
        [
            (e["id"][:14] + "…", e["name"] or "?", e["class"] or "?", e["author"], e["description"])
            for e in found
        ],
    )


@app.command("show")
def show(
    ctx: typer.Context,
    spec: SpecName,
    tasks: Annotated[int, typer.Option(min=0, max=20, help="example tasks to show")] = 2,
) -> None:
    """Print a spec and example prompts of its held-out tasks."""
    parsed = load_spec(spec)
    print(printable(spec_bytes(parsed).decode()))
    say(f"class: {parsed.kind}" + (f" ({_RUBRIC})" if parsed.rubric else ""))
    _fetch(of(ctx), parsed)
    environment = Environment(parsed, of(ctx).assets)
    for index in range(tasks):
        task = environment.heldout(index)
        say(f"[bold]held-out task {index}[/bold], answer {escape(repr(task.answer))}:")
        print(printable(task.prompt))


@app.command("sandbox")
def sandbox(as_json: AsJson = False) -> None:
    """Try every sandbox for contributed code, and print what each guarantees here and by what."""
    from marketplace.gym.sandbox.outcome import FLOOR, Property
    from marketplace.gym.sandbox.probe import BACKENDS, guarantees_of, missing, unused

    found = {name: guarantees_of(name) for name in BACKENDS}
    usable = {name: not missing(name, FLOOR) for name in BACKENDS}
    if as_json:
        emit_json(
            {
                name: {
                    "usable": usable[name],
                    "guarantees": {
                        str(one): {"held": got.held, "how": got.how} for one, got in held.items()
                    },
                }
                for name, held in found.items()
            }
        )
        return
    rows = [
        (
            str(one),
            *(f"{'yes' if found[n][one].held else 'NO'}: {found[n][one].how}" for n in found),
        )
        for one in Property
    ]
    judges = ("judges contributed code", *("yes" if usable[n] else "NO" for n in found))
    table("sandboxes", ["property", *found], [*rows, judges])
    for name, why in unused().items():
        say(f"{name}: {why}")


def load_spec(spec: str) -> EnvironmentSpec:
    """The spec of a file, a folder with spec.json, or a built-in name. Raises EnvironmentMismatch
    where the folder holds a package and other code is installed than it has."""
    path = Path(spec)
    if path.is_dir():
        folder, path = path, path / "spec.json"
        if path.is_file():
            parsed = parse_spec(path.read_bytes())
            if isinstance(parsed.source, PackageSource):
                check_installed(folder, parsed.source)
            return parsed
    if path.is_file():
        return parse_spec(path.read_bytes())
    if spec in builtin_names():
        return builtin_spec(spec)
    raise ConfigError(
        f"{spec!r} is neither a file nor a built-in environment",
        fix=f"name a file, or one of: {', '.join(builtin_names())}",
    )


def _fetch(context: Context, spec: EnvironmentSpec) -> None:
    if wanted := spec.to_fetch():
        fetch_assets(context.store(), wanted, context.assets, timeout=FETCH_SECONDS)


def _tried(context: Context, spec: EnvironmentSpec, tasks: int) -> Trial:
    _fetch(context, spec)
    with TrialBench(context.assets) as bench:
        return examine(spec, bench, tasks=tasks)


def _register(context: Context, spec: EnvironmentSpec) -> str:
    data = spec_bytes(spec)
    ident = environment_id(data)
    client, store = context.client(), context.store()
    store.put(data)
    for asset in spec.assets():  # so that this store pins them, wherever they came from
        store.put_file(builtin_asset(asset.cid) or context.assets / asset.cid)
    author = client.environment_author(ident)
    if author is None:
        client.register_environment(ident)
    else:
        say(f"it is registered already, by {author}")
    return "0x" + ident.hex()


def _floors(context: Context) -> str:
    reader = context.reader()
    parameters, money = reader.parameters, reader.token.format
    fee = least_fee(parameters.min_fee_per_trace)
    pay = least_judge_pay(parameters.min_fee_per_trace, parameters.committee_size)
    return (
        f"its bounties pay at least {money(fee)} for checking a trace, and each judge {money(pay)} "
        "for grading it"
    )


def _show(trial: Trial) -> None:
    table(
        f"environment {trial.environment}",
        ["check", "result", "figures"],
        [(one.name, "ok" if one.passed else "FAILS", one.detail) for one in trial.checks],
    )
    if trial.checks_per_second is not None:
        out.print(f"{trial.checks_per_second:,.0f} checks per second in one worker")
    for failure in trial.failures:
        say(f"error: {failure.name}: {escape(printable(failure.detail))}")
