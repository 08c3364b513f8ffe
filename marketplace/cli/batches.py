"""Batches and receipts: what became of every trace, and the proof of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, BatchPhase
from marketplace.cli.context import of
from marketplace.cli.options import AsJson, BatchId
from marketplace.cli.output import emit_json, facts, out, printable, say, table
from marketplace.protocol.errors import InvalidValue, ProofFailed, StorageError
from marketplace.protocol.merkle import batch_tree, trace_leaf, verify_inclusion
from marketplace.protocol.payout import PayRule
from marketplace.protocol.verdict import (
    MALFORMED,
    UNAVAILABLE,
    Reason,
    Verdict,
    batch_verdicts,
    verdict_leaf,
    verify_verdict,
)
from marketplace.storage.cid import Cid
from trainer.data import AttestedBatch
from trainer.pull import pull_attested

batch_app = typer.Typer(help="Batches.", no_args_is_help=True)
trace_app = typer.Typer(help="Single traces.", no_args_is_help=True)

Timeout = Annotated[float, typer.Option(min=0.0, help="seconds to look for content")]

_MEANING = {
    Reason.CORRECT: "right",
    Reason.WRONG: "wrong",
    Reason.PARTIAL: "partly right",
    Reason.PARSE_FAILURE: "no answer could be read from it",
    Reason.CHECKER_ERROR: "the checker failed on it, so it has no score",
    Reason.CHECKER_TIMEOUT: "the checker ran out of time on it, so it has no score",
    Reason.TOO_LONG: "longer than the environment allows",
    Reason.DUPLICATE: "a text like it was bought before for the same question",
    Reason.MALFORMED_LINE: "a lie: not a trace at all",
    Reason.UNASSIGNED: "a lie: it answers a task that its place was not assigned",
    Reason.TAMPERED_PROMPT: "a lie: its prompt is not the assigned task's",
    Reason.FALSE_CLAIM: "a lie: it claims another score than the checker gives",
    Reason.OFF_POLICY: "a lie: the named checkpoint did not write it so",
}


@batch_app.command("show")
def show(
    ctx: typer.Context, batch: BatchId, timeout: Timeout = 10.0, as_json: AsJson = False
) -> None:
    """One batch: where it stands, what was attested, its traces by reason."""
    context = of(ctx)
    reader = context.reader()
    found = reader.batch(batch)
    content = reader.batch_content(batch)
    record: dict[str, object] = {
        "id": batch,
        "phase": found.phase.name.lower(),
        "bounty": found.bounty,
        "miner": found.miner,
        "traces": found.count,
        "first_task": found.first_task,
        "root": found.root,
        "content": str(Cid.from_chain(content.digest, content.codec)),
        "bond": str(found.bond),
        "rounds": list(reader.rounds_of(batch)),
        "attestation": None,
        "reasons": None,
    }
    if found.attestation is not None:
        record["attestation"] = {
            "outcome": _outcome(found),
            "verdict_root": found.attestation.root,
            "units": found.attestation.units,
            "faults": found.attestation.faults,
        }
        if _outcome(found) == "verdicts":
            try:
                opened = pull_attested(reader, context.store(), found, timeout=timeout)
                counted = Counter(verdict.reason.name.lower() for verdict in opened.verdicts)
                record["reasons"] = dict(sorted(counted.items()))
            except StorageError as error:
                say(f"its content can't be fetched: {escape(str(error))}")
    if as_json:
        emit_json(record)
        return
    shown = record | {"bond": reader.token.format(found.bond), "root": "0x" + found.root.hex()}
    shown.pop("attestation")
    shown.pop("reasons")
    facts(f"batch {batch}", shown.items())
    if found.attestation is not None:
        attested = found.attestation
        facts(
            "attestation",
            [
                ("outcome", _outcome(found)),
                ("verdict root", "0x" + attested.root.hex()),
                ("units", f"{attested.units} of {found.count}"),
                ("faults", attested.faults),
            ],
        )
    if isinstance(record["reasons"], dict):
        table("traces by reason", ["reason", "traces>"], record["reasons"].items())


@batch_app.command("wait")
def wait(
    ctx: typer.Context,
    batch: BatchId,
    seconds: Annotated[float, typer.Option(min=0.0, help="how long to wait at most")] = 600.0,
) -> None:
    """Wait until a batch is settled or void; exit code 1 where it is neither in time."""
    reader = of(ctx).reader()
    deadline = time.monotonic() + seconds
    while (phase := reader.batch(batch).phase) not in (BatchPhase.SETTLED, BatchPhase.VOID):
        if time.monotonic() > deadline:
            say(f"batch {batch} is still {phase.name.lower().replace('_', ' ')}")
            raise typer.Exit(1)
        time.sleep(1.0)
    print(phase.name.lower())


@batch_app.command("list")
def list_batches(ctx: typer.Context, as_json: AsJson = False) -> None:
    """All batches."""
    reader = of(ctx).reader()
    found = [reader.batch(number) for number in range(1, reader.batch_count() + 1)]
    if as_json:
        emit_json(
            [
                {
                    "id": batch.id,
                    "phase": batch.phase.name.lower(),
                    "bounty": batch.bounty,
                    "miner": batch.miner,
                    "traces": batch.count,
                    "units": batch.attestation.units if batch.attestation else None,
                    "faults": batch.attestation.faults if batch.attestation else None,
                }
                for batch in found
            ]
        )
        return
    table(
        "batches",
        ["id>", "bounty>", "miner", "traces>", "phase", "units>", "faults>"],
        [
            (
                batch.id,
                batch.bounty,
                batch.miner,
                batch.count,
                batch.phase.name.lower().replace("_", " "),
                batch.attestation.units if batch.attestation else "-",
                batch.attestation.faults if batch.attestation else "-",
            )
            for batch in found
        ],
    )


@trace_app.command("explain")
def explain(
    ctx: typer.Context,
    batch: BatchId,
    index: Annotated[int, typer.Argument(min=0, help="place of the trace in the batch, from 0")],
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """The receipt of one trace: why it was paid, refused or fined, with Merkle proofs that lead
    to the roots on chain."""
    context = of(ctx)
    reader, store = context.reader(), context.store()
    found = reader.batch(batch)
    if index >= found.count:
        raise InvalidValue(
            f"batch {batch} has {found.count} traces, there is no trace {index}",
            fix=f"give an index from 0 to {found.count - 1}",
        )
    opened = pull_attested(reader, store, found, timeout=timeout)
    lines, verdicts = opened.lines, opened.verdicts
    record = _receipt(reader, found, opened, index)
    if as_json:
        emit_json(record)
        return
    verdict = verdicts[index]
    price = reader.bounty(found.bounty).terms.price_per_unit
    facts(
        f"trace {index} of batch {batch}",
        [
            ("why", record["why"]),
            ("reason code", f"{int(verdict.reason)} ({verdict.reason.name.lower()})"),
            ("score", f"{verdict.score_ppm / 1e6:g}"),
            ("units", f"{verdict.units} ({reader.token.format(verdict.units * price)})"),
            ("faults", verdict.faults),
            ("trace leaf", "0x" + record["trace_proof"]["leaf"].hex()),  # type: ignore[index]
            ("batch root", "0x" + found.root.hex() + " (proof holds)"),
            ("verdict leaf", "0x" + record["verdict_proof"]["leaf"].hex()),  # type: ignore[index]
            ("verdict root", "0x" + opened.attestation.root.hex() + " (proof holds)"),
        ],
    )
    out.rule("the trace")
    out.print(printable(lines[index].decode("utf-8", "replace")), markup=False)


def _receipt(
    reader: MarketReader,
    batch: Batch,
    opened: AttestedBatch,
    index: int,
) -> dict[str, object]:
    lines, verdicts = opened.lines, opened.verdicts
    deployment = reader.deployment
    binding = (deployment.chain_id, deployment.address("market"), batch.bounty, batch.miner)
    leaf = trace_leaf(*binding, index, lines[index])
    path = batch_tree(*binding, lines).proof(index)
    node = verdict_leaf(batch.id, index, verdicts[index])
    sums = batch_verdicts(batch.id, verdicts).proof(index)
    # Verified here as anybody else would, not taken from the trees that made them.
    if not verify_inclusion(leaf, index, batch.count, path, batch.root):
        raise ProofFailed(f"trace {index} does not lead to the root of batch {batch.id}")
    if not verify_verdict(node, index, batch.count, sums, opened.attestation):
        raise ProofFailed(f"verdict {index} does not lead to the attestation of batch {batch.id}")
    return {
        "batch": batch.id,
        "index": index,
        "why": _why(reader, batch, verdicts, index),
        "verdict": {
            "score_ppm": verdicts[index].score_ppm,
            "reason": verdicts[index].reason.name.lower(),
            "reason_code": int(verdicts[index].reason),
            "units": verdicts[index].units,
            "faults": verdicts[index].faults,
        },
        "trace": lines[index].decode("utf-8", "replace"),
        "trace_proof": {"leaf": leaf, "path": path, "root": batch.root},
        "verdict_proof": {
            "leaf": node.hash,
            "path": [{"hash": n.hash, "units": n.units, "faults": n.faults} for n in sums],
            "root": opened.attestation.root,
            "units": opened.attestation.units,
            "faults": opened.attestation.faults,
        },
    }


def _why(reader: MarketReader, batch: Batch, verdicts: Sequence[Verdict], index: int) -> str:
    verdict = verdicts[index]
    told = _MEANING[verdict.reason]
    terms = reader.bounty(batch.bounty).terms
    token, parameters = reader.token, reader.parameters
    if verdict.faults:
        fine = parameters.fault_multiple * parameters.bond_per_trace
        return f"{told}; it forfeits {token.format(fine)} of the batch's bond of " + token.format(
            batch.bond
        )
    if verdict.units:
        return f"{told}, and paid {token.format(terms.price_per_unit)}"
    if PayRule(terms.pay_rule) is PayRule.INFORMATIVE:
        first = index - index % terms.group_size
        group = verdicts[first : first + terms.group_size]
        mean = sum(member.score_ppm for member in group) / len(group) / 1e6
        task = batch.first_task + index // terms.group_size
        if mean in (0.0, 1.0):
            return f"{told}; not paid, for all of task {task}'s group scored {mean:g}"
        return f"{told}; not paid, for task {task}'s group is not complete"
    return f"{told}; not paid"


def _outcome(batch: Batch) -> str:
    if batch.phase is BatchPhase.VOID:
        return "void"
    if batch.attestation is None:
        return "not attested yet"
    if batch.attestation == UNAVAILABLE:
        return "unavailable"
    return "malformed" if batch.attestation == MALFORMED else "verdicts"
