"""Environments: register a spec, see what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli.context import of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, say, table
from marketplace.gym.environment import Environment
from marketplace.gym.spec import (
    MAX_SPEC_BYTES,
    builtin_names,
    builtin_spec,
    environment_id,
    parse_spec,
    spec_bytes,
)
from marketplace.protocol.errors import ConfigError, StorageError, TracemarketError
from marketplace.storage.cid import RAW, Cid

app = typer.Typer(help="Environments: what is asked and how it is checked.", no_args_is_help=True)


@app.command("register")
def register(
    ctx: typer.Context,
    spec: Annotated[str, typer.Argument(help="a spec file (JSON), or the name of a built-in one")],
) -> None:
    """Check a spec, store it and register its id. Prints the id."""
    context = of(ctx)
    if Path(spec).exists():
        data = spec_bytes(parse_spec(Path(spec).read_bytes()))
    elif spec in builtin_names():
        data = spec_bytes(builtin_spec(spec))
    else:
        raise ConfigError(
            f"{spec!r} is neither a file nor a built-in environment",
            fix=f"name a file, or one of: {', '.join(builtin_names())}",
        )
    # Built and tried before money depends on it.
    Environment(parse_spec(data)).self_test()
    ident = environment_id(data)
    client = context.client()
    context.store().put(data)
    author = client.environment_author(ident)
    if author is None:
        client.register_environment(ident)
    else:
        say(f"it is registered already, by {author}")
    print("0x" + ident.hex())


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
            entry |= {"name": spec.name, "description": spec.description}
        except (StorageError, TracemarketError) as error:
            entry |= {"name": None, "description": f"({type(error).__name__})"}
        found.append(entry)
    if as_json:
        emit_json(found)
        return
    table(
        "environments",
        ["id", "name", "author", "what it is"],
        [(e["id"][:14] + "…", e["name"] or "?", e["author"], e["description"]) for e in found],
    )


@app.command("show")
def show(
    spec: Annotated[str, typer.Argument(help="a spec file, or the name of a built-in one")],
    tasks: Annotated[int, typer.Option(min=0, max=20, help="example tasks to show")] = 2,
) -> None:
    """Print a spec and example prompts of its held-out tasks."""
    parsed = parse_spec(Path(spec).read_bytes()) if Path(spec).exists() else builtin_spec(spec)
    print(spec_bytes(parsed).decode())
    environment = Environment(parsed)
    for index in range(tasks):
        task = environment.heldout(index)
        say(f"[bold]held-out task {index}[/bold], answer {task.answer!r}:")
        print(task.prompt)


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
