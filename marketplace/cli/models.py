"""Checkpoints: train, register, list, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli import model_eval
from marketplace.cli.context import of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, say, table
from marketplace.protocol.hashing import ZERO32
from marketplace.storage.cid import Cid

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
    checkpoint, cid = publish(context.client(), context.store(), folder, parent=None, root=ZERO32)
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
            "identity": one.identity,
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


app.command("eval")(model_eval.evaluate_model)
