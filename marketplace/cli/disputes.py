"""Disputes: doubt an attestation, follow a dispute, appeal."""

from __future__ import annotations

from typing import Annotated

import typer

from marketplace.chain.client import MarketClient
from marketplace.chain.errors import show_time
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, Dispute, DisputePhase, Kind, OpeningStatus, Standing
from marketplace.cli.context import Context, of
from marketplace.cli.options import AsJson, BatchId
from marketplace.cli.output import emit_json, facts, say, table
from marketplace.protocol.disputes import find_fault
from marketplace.protocol.errors import ConfigError, ContentUnavailable, InvalidValue, ProofFailed
from marketplace.protocol.verdict import MALFORMED, OUTCOMES, Attestation
from verifier_node.checking import fetch_lines
from verifier_node.published import Published, published
from verifier_node.watchtower import dispute_leaf

app = typer.Typer(
    help="Dispute what a committee attested; every dispute needs a bond.", no_args_is_help=True
)

DisputeId = Annotated[int, typer.Argument(min=1, help="dispute id")]
Timeout = Annotated[float, typer.Option(min=0.0, help="seconds to look for each file")]

_KINDS = {
    Kind.LEAF: "one verdict",
    Kind.OPENING: "one verdict of a withheld tree",
    Kind.MALFORMED: 'the outcome "malformed"',
    Kind.UNAVAILABLE: 'the outcome "unavailable"',
    Kind.CONFLICT: "two votes of a round without a quorum",
}
_STANDINGS = {
    Standing.NONE: "not decided",
    Standing.STANDS: "the attestation stands",
    Standing.FALLS: "the attestation falls",
    Standing.UNAVAILABLE: "the content can't be had",
    Standing.RIVAL: "the second vote stands",
}


@app.command("leaf")
def leaf(
    ctx: typer.Context,
    batch: BatchId,
    index: Annotated[int, typer.Argument(min=0, help="place of the trace in the batch, from 0")],
    timeout: Timeout = 10.0,
) -> None:
    """Dispute the attested verdict of one trace. A jury re-checks that trace alone."""
    context = of(ctx)
    client, store = context.client(), context.store()
    found = client.batch(batch)
    if index >= found.count:
        raise InvalidValue(
            f"batch {batch} has {found.count} traces, there is no trace {index}",
            fix=f"give an index from 0 to {found.count - 1}",
        )
    said = _verdicts_of(found)
    known = _published(context, client, found, said, timeout)
    if find_fault(batch, said, known.leaves) is not None:
        raise ProofFailed(
            f"the verdict tree of batch {batch} is no honest one: it proves no verdict",
            fix=f"let it fall at once: `tracemarket dispute prove {batch}`",
        )
    lines = fetch_lines(client, store, found, timeout)
    _say_bond(client, client.dispute_bond(batch))
    print(dispute_leaf(client, found, known, lines, index))


@app.command("outcome")
def outcome(ctx: typer.Context, batch: BatchId) -> None:
    """Dispute that a batch is "malformed" or "unavailable". Where "unavailable" falls, the
    content may have come late: nobody is convicted, and you bear the jurors' fees."""
    client = of(ctx).client()
    found = client.batch(batch)
    if found.attestation is not None and found.attestation not in OUTCOMES:
        raise ConfigError(
            f"batch {batch} is attested with verdicts, not with an outcome",
            fix=f"dispute one of them: `tracemarket dispute leaf {batch} INDEX`",
        )
    _say_bond(client, client.dispute_bond(batch))
    dispute, _ = client.dispute_outcome(found)
    print(dispute)


@app.command("open")
def open_tree(ctx: typer.Context, batch: BatchId) -> None:
    """Demand that a withheld verdict tree be opened, move by move, to a verdict that then goes
    to a jury. `tracemarket watch` with the same key makes your moves; a move you do not make in
    time loses the bond."""
    client = of(ctx).client()
    found = client.batch(batch)
    _verdicts_of(found)
    _say_bond(client, client.dispute_bond(batch))
    dispute, _ = client.demand_opening(found)
    print(dispute)
    say(
        "the committee must answer within "
        f"{client.parameters.opening_window} s for each move; keep `tracemarket watch` running"
    )


@app.command("prove")
def prove(ctx: typer.Context, batch: BatchId, timeout: Timeout = 10.0) -> None:
    """Show that an attested verdict tree can't be an honest one: a sum that does not follow, a
    verdict that can't exist. It falls at once, without a jury and without a bond."""
    context = of(ctx)
    client = context.client()
    found = client.batch(batch)
    said = _verdicts_of(found)
    known = _published(context, client, found, said, timeout)
    shown = find_fault(batch, said, known.leaves)
    if shown is None:
        raise ProofFailed(
            f"the verdict tree of batch {batch} shows no fault",
            fix=f"where a verdict is wrong: `tracemarket dispute leaf {batch} INDEX`",
        )
    client.prove_fault(batch, shown[1])
    say(f"the attestation of batch {batch} has fallen: {shown[0].name.lower()} fault")


@app.command("appeal")
def appeal(ctx: typer.Context, dispute: DisputeId) -> None:
    """Appeal a jury's decision with twice the bond before it. The bond is lost if the decision
    remains."""
    client = of(ctx).client()
    found = client.dispute(dispute)
    batch = client.batch(found.batch)
    _say_bond(client, client.appeal_bond(dispute))
    client.appeal(found, batch)
    say(f"appealed: a larger jury is drawn against '{_STANDINGS[found.standing]}'")


@app.command("show")
def show(ctx: typer.Context, dispute: DisputeId, as_json: AsJson = False) -> None:
    """One dispute: what is disputed, its juries and appeals, where it stands."""
    reader = of(ctx).reader()
    _require(reader, dispute)
    found = reader.dispute(dispute)
    appeals = reader.appeals(dispute)
    juries = [reader.round(jury) for jury in reader.juries_of(dispute)]
    opening = reader.opening(dispute)
    if as_json:
        record = _record(found)
        record["juries"] = [
            {
                "round": jury.id,
                "phase": jury.phase,
                "seats": jury.seats,
                "size": jury.size,
                "revealed": jury.revealed,
            }
            for jury in juries
        ]
        record["appeals"] = [
            {"appellant": one.appellant, "against": one.against, "bond": str(one.bond)}
            for one in appeals
        ]
        record["opening"] = opening and {
            "status": opening.status,
            "first": opening.node.first,
            "size": opening.node.size,
            "deadline": opening.deadline,
        }
        emit_json(record)
        return
    money = reader.token.format
    rows: list[tuple[str, object]] = [
        ("about", _KINDS[found.kind]),
        ("batch", found.batch),
        ("trace", found.index if _has_index(found) else "-"),
        ("challenger", found.challenger),
        ("bond", money(found.bond) if found.kind is not Kind.CONFLICT else "-"),
        ("phase", _words(found.phase.name)),
        ("so far", _STANDINGS[found.standing]),
    ]
    if found.phase is DisputePhase.APPEALABLE and found.decided_at is not None:
        until = found.decided_at + reader.parameters.appeal_window
        rows.append(("appeals until", show_time(until)))
        rows.append(("bond of an appeal", money(reader.appeal_bond(dispute))))
    if opening is not None:
        rows.append(("opening", _words(opening.status.name)))
        if opening.status in (OpeningStatus.ASKED, OpeningStatus.ANSWERED):
            first = opening.node.first
            rows.append(("at verdicts", f"{first} to {first + opening.node.size - 1}"))
            rows.append(("next move until", show_time(opening.deadline)))
    facts(f"dispute {dispute}", rows)
    if juries:
        table(
            "juries",
            ["round>", "seats>", "wanted>", "revealed>", "phase"],
            [(j.id, j.seats, j.size, j.revealed, _words(j.phase.name)) for j in juries],
        )
    if appeals:
        table(
            "appeals",
            ["appellant", "against", "bond>"],
            [(one.appellant, _STANDINGS[one.against], money(one.bond)) for one in appeals],
        )


@app.command("list")
def list_disputes(
    ctx: typer.Context,
    batch: Annotated[int | None, typer.Option(min=1, help="of one batch only")] = None,
    as_json: AsJson = False,
) -> None:
    """All disputes."""
    reader = of(ctx).reader()
    ids = range(1, reader.dispute_count() + 1) if batch is None else reader.disputes_of(batch)
    found = [reader.dispute(number) for number in ids]
    if as_json:
        emit_json([_record(one) for one in found])
        return
    table(
        "disputes",
        ["id>", "batch>", "about", "trace>", "challenger", "bond>", "phase", "so far"],
        [
            (
                one.id,
                one.batch,
                _KINDS[one.kind],
                one.index if _has_index(one) else "-",
                one.challenger,
                reader.token.format(one.bond) if one.kind is not Kind.CONFLICT else "-",
                _words(one.phase.name),
                _STANDINGS[one.standing],
            )
            for one in found
        ],
    )


def _verdicts_of(batch: Batch) -> Attestation:
    """The attestation of a batch, if it is one with verdicts."""
    if batch.attestation is None:
        raise ConfigError(
            f"batch {batch.id} is {_words(batch.phase.name)}: nothing is attested",
            fix="wait for its attestation: `tracemarket batch show`",
        )
    if batch.attestation in OUTCOMES:
        name = "malformed" if batch.attestation == MALFORMED else "unavailable"
        raise ConfigError(
            f'batch {batch.id} is attested as "{name}", without verdicts',
            fix=f"dispute that: `tracemarket dispute outcome {batch.id}`",
        )
    return batch.attestation


def _published(
    context: Context, client: MarketClient, batch: Batch, said: Attestation, timeout: float
) -> Published:
    known = published(client, context.store(), batch, said, timeout=timeout)
    if known is None:
        raise ContentUnavailable(
            f"no verdict file of batch {batch.id} can be had",
            fix=f"demand that it be opened: `tracemarket dispute open {batch.id}`",
        )
    return known


def _require(reader: MarketReader, dispute: int) -> None:
    if dispute > reader.dispute_count():
        raise InvalidValue(
            f"there is no dispute {dispute}", fix="list them: `tracemarket dispute list`"
        )


def _say_bond(client: MarketClient, bond: int) -> None:
    say(f"the bond is {client.token.format(bond)}")


def _has_index(dispute: Dispute) -> bool:
    outcome = dispute.kind in (Kind.MALFORMED, Kind.UNAVAILABLE)
    return not outcome and (dispute.kind is not Kind.OPENING or dispute.jury is not None)


def _record(dispute: Dispute) -> dict[str, object]:
    return {
        "id": dispute.id,
        "batch": dispute.batch,
        "kind": dispute.kind,
        "index": dispute.index if _has_index(dispute) else None,
        "challenger": dispute.challenger,
        "bond": "0" if dispute.kind is Kind.CONFLICT else str(dispute.bond),
        "phase": dispute.phase,
        "standing": dispute.standing,
        "jury": dispute.jury,
        "decided_at": dispute.decided_at,
        "final": dispute.last,
    }


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
