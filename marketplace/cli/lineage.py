"""Where checkpoints came from: `model show`, `model lineage`, `model prove`."""

from __future__ import annotations

from typing import Annotated

import typer

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch
from marketplace.cli.context import of
from marketplace.cli.models import app
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, facts, say
from marketplace.storage.store import ContentStore
from trainer.lineage import (
    Step,
    described,
    lineage,
    prove_batch,
    read_step,
    settled_blocks,
    verify_step,
)
from trainer.records import EvaluationFile

SECONDS = 60.0

CheckpointId = Annotated[int, typer.Argument(min=1, help="checkpoint id")]
Timeout = Annotated[float, typer.Option(min=0.1, help="seconds for each download")]


@app.command("show")
def show_model(
    ctx: typer.Context,
    checkpoint: CheckpointId,
    timeout: Timeout = SECONDS,
    as_json: AsJson = False,
) -> None:
    """One checkpoint: what is registered and what its own record says."""
    context = of(ctx)
    step = read_step(context.reader(), context.store(), checkpoint, timeout=timeout)
    if as_json:
        emit_json(described(step, None))
        return
    _print(step, None)


@app.command("lineage")
def show_lineage(
    ctx: typer.Context,
    checkpoint: CheckpointId,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="derive each dataset root again from the chain"),
    ] = False,
    timeout: Timeout = SECONDS,
    as_json: AsJson = False,
) -> None:
    """A checkpoint and its parents, down to the base model. --verify refuses a record that says
    another thing than the chain, and names the batch."""
    context = of(ctx)
    reader, store = context.reader(), context.store()
    steps = lineage(reader, store, checkpoint, timeout=timeout)
    checked: dict[int, list[Batch]] = {}
    if verify:
        settled = settled_blocks(reader)
        for step in steps:
            checked[step.checkpoint.id] = verify_step(reader, store, step, settled, timeout=timeout)
    if as_json:
        emit_json([described(step, checked.get(step.checkpoint.id)) for step in steps])
        return
    for step in steps:
        _print(step, checked.get(step.checkpoint.id))
    if verify:
        say(f"all {len(steps)} steps are what the chain says")


@app.command("prove")
def prove(
    ctx: typer.Context,
    checkpoint: CheckpointId,
    batch: Annotated[int, typer.Argument(min=1, help="batch id")],
    timeout: Timeout = SECONDS,
    as_json: AsJson = False,
) -> None:
    """Prove that a batch is in a checkpoint's dataset: the Merkle proof up to the root on chain."""
    context = of(ctx)
    reader = context.reader()
    step = read_step(reader, context.store(), checkpoint, timeout=timeout)
    deployment = reader.deployment
    proof = prove_batch(deployment.chain_id, deployment.address("market"), step, batch)
    record = {
        "checkpoint": checkpoint,
        "chain_id": deployment.chain_id,
        "market": deployment.address("market"),
        **proof.entry.model_dump(include={"batch", "verdict_root", "units", "weight_ppm"}),
        "index": proof.index,
        "size": proof.size,
        "leaf": proof.leaf,
        "siblings": proof.siblings,
        "root": proof.root,
    }
    if as_json:
        emit_json(record)
        return
    facts(
        f"batch {batch} in the dataset of checkpoint {checkpoint}",
        [
            ("weight", _percent(proof.entry.weight_ppm)),
            ("leaf", "0x" + proof.leaf.hex()),
            *((f"sibling {level}", "0x" + node.hex()) for level, node in enumerate(proof.siblings)),
            ("root on chain", "0x" + proof.root.hex()),
        ],
    )


def read_verified(
    reader: MarketReader, store: ContentStore, checkpoint: int, timeout: float
) -> tuple[Step, list[Batch]]:
    """One step with the batches that were found to be in its dataset. Raises ProofFailed."""
    step = read_step(reader, store, checkpoint, timeout=timeout)
    return step, verify_step(reader, store, step, settled_blocks(reader), timeout=timeout)


def _print(step: Step, verified: list[Batch] | None) -> None:
    one, training = step.checkpoint, step.training
    batches = ", ".join(f"{e.batch} ({_percent(e.weight_ppm)})" for e in step.entries)
    found: list[tuple[str, object]] = [
        ("trainer", one.trainer),
        ("parent", one.parent or "- (a base model)"),
        ("content", step.cid),
        ("dataset root", "0x" + one.dataset_root.hex() if any(one.dataset_root) else "- (nothing)"),
        ("identity", "0x" + one.identity.hex()),
        ("bounties", ", ".join(map(str, step.bounties)) or "-"),
        ("batches", batches or "-"),
        ("sampling rules", "-" if step.sampling is None else step.sampling.model_dump(mode="json")),
        ("evaluation", _claims(step.evaluation)),
        ("royalties", f"{one.holders} shares, {_percent(one.pass_on_ppm)} go on to the parent"),
        ("source revision", training.revision if training else "-"),
    ]
    if verified is not None:
        found.append(("verified", f"{len(verified)} batches, as the chain has them"))
    facts(f"checkpoint {one.id}", found)


def _claims(evaluation: EvaluationFile | None) -> str:
    if evaluation is None:
        return "-"
    return "; ".join(
        f"{one.environment_name}: pass@1 {one.pass_at_1:.3f} ± {one.standard_error:.3f}, "
        f"{one.tasks} tasks, by the trainer"
        for one in evaluation.environments.values()
    )


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:g} %"
