"""Juries of rubric environments: what they said, what they are paid, gold for their calibration."""

from __future__ import annotations

import re
import secrets
from typing import Annotated

import typer

from marketplace.cli.context import Context, of
from marketplace.cli.options import AsJson, BountyId, Identity, require_identity
from marketplace.cli.output import emit_json, facts, say, table
from marketplace.gym.spec import MAX_SPEC_BYTES, parse_spec
from marketplace.protocol.errors import ConfigError, SpecError, StorageError
from marketplace.protocol.sheets import (
    UNKNOWN,
    gold_commitment,
    least_fee,
    least_judge_pay,
    pack,
)
from marketplace.storage.cid import RAW, Cid
from verifier_node.panels import panel_of

FETCH_SECONDS = 5.0

app = typer.Typer(
    help="Juries: grades where there is no right answer (docs/juries.md).", no_args_is_help=True
)

BatchId = Annotated[int, typer.Argument(min=1, help="batch id")]
Grades = Annotated[
    str, typer.Argument(help='a grade from 0 to 4 for each trace, "x" for not known: 430x2')
]


def class_of(context: Context, environment: bytes) -> str | None:
    """The class of an environment: "checked" or "rubric"; None where its spec can't be had."""
    try:
        data = context.store().get(
            Cid(environment, RAW), timeout=FETCH_SECONDS, max_bytes=MAX_SPEC_BYTES
        )
        return parse_spec(data).kind
    except (SpecError, StorageError):
        return None


def judging_terms(
    context: Context, environment: bytes, fee: str, judge_pay: str | None, judge_pot: str | None
) -> tuple[int, int] | None:
    """What a new bounty pays each judge for a trace, and what goes into the pot; None where the
    environment has no jury. ConfigError below the floors of its class."""
    kind = class_of(context, environment)
    if kind is None:
        say("the environment's spec can't be had here: whether a jury scores it is not known")
    if kind != "rubric":
        if judge_pay is not None or judge_pot is not None:
            raise ConfigError(
                f"judges are paid in environments of class rubric, this one is {kind or 'unknown'}",
                fix="leave out --judge-pay and --judge-pot",
            )
        return None
    reader = context.reader()
    parameters, token = reader.parameters, reader.token
    floor = least_fee(parameters.min_fee_per_trace)
    if token.parse(fee) < floor:
        raise ConfigError(
            f"the environment is of class rubric, and its fee for a trace is {fee}: every member "
            "runs a judge of its own over every trace, and writes two more transactions",
            fix=f"pay at least {token.format(floor)} (docs/juries.md)",
        )
    least = least_judge_pay(parameters.min_fee_per_trace, parameters.committee_size)
    if judge_pay is None or judge_pot is None or token.parse(judge_pay) < least:
        raise ConfigError(
            f"the environment is of class rubric, and --judge-pay is {judge_pay}, --judge-pot "
            f"{judge_pot}",
            fix=f"pay each judge at least {token.format(least)} a trace, and put money in the pot",
        )
    return token.parse(judge_pay), token.parse(judge_pot)


@app.command("show")
def show(ctx: typer.Context, batch: BatchId, as_json: AsJson = False) -> None:
    """The sheets of a batch: medians, who agreed, what each judge weighed, who is paid."""
    context = of(ctx)
    reader = context.reader()
    found = reader.batch(batch)
    environment = reader.bounty(found.bounty).terms.environment
    data = context.store().get(
        Cid(environment, RAW), timeout=FETCH_SECONDS, max_bytes=MAX_SPEC_BYTES
    )
    rubric = parse_spec(data).rubric
    if rubric is None:
        raise ConfigError(
            f"batch {batch} is of a checked environment: it has no jury",
            fix="see `tracemarket batch show`",
        )
    panel = panel_of(reader, found, rubric)
    rows = [
        {
            "seat": one.seat,
            "verifier": one.verifier,
            "weight": one.weight,
            "agrees": agrees,
            "paid": paid,
            "grades": "".join(map(str, one.grades)),
        }
        for one, agrees, paid in zip(panel.sheets, panel.agreements(), panel.paid(), strict=True)
    ]
    medians = None if panel.grades is None else "".join(map(str, panel.grades))
    if as_json:
        emit_json({"batch": batch, "needed": panel.needed, "medians": medians, "sheets": rows})
        return
    facts(
        f"jury of batch {batch}",
        [
            ("sheets that count", f"{panel.counted}, {panel.needed} needed"),
            ("median grades", medians or "none: too few sheets"),
        ],
    )
    table(
        "sheets",
        ["seat>", "verifier", "weight>", "agrees on>", "paid", "grades"],
        [
            (
                one["seat"],
                one["verifier"],
                one["weight"],
                f"{one['agrees']} of {found.count}",
                "yes" if one["paid"] else "NO",
                _short(str(one["grades"])),
            )
            for one in rows
        ],
    )


@app.command("fund")
def fund(
    ctx: typer.Context,
    bounty: BountyId,
    amount: Annotated[str, typer.Argument(help="tokens to add")],
    identity: Identity = None,
) -> None:
    """Pay more into the pot of a bounty's judges; anybody may."""
    client = of(ctx).client()
    found = client.bounty(bounty)
    require_identity(f"bounty {bounty}", found.identity, identity)
    say(f"bounty {bounty} is {found.poster}'s: 0x{found.identity.hex()}")
    client.fund_pot(found, client.token.parse(amount))
    say(f"the pot of bounty {bounty} has {client.token.format(client.pot(bounty).available)}")


@app.command("refund")
def refund(ctx: typer.Context, bounty: BountyId) -> None:
    """After the deadline: take what is left in the pot, to its poster (then `jury withdraw`)."""
    client = of(ctx).client()
    back = client.refund_pot(bounty).event("PotRefunded").args
    say(f"{client.token.format(back['amount'])} are {back['poster']}'s to withdraw")


@app.command("withdraw")
def withdraw(ctx: typer.Context) -> None:
    """Take what you earned by judging, or got back from a pot."""
    client = of(ctx).client()
    amount = client.judging_balance(client.address)
    client.withdraw_judging()
    say(f"{client.token.format(amount)} sent to {client.address}")


@app.command("plant")
def plant(
    ctx: typer.Context,
    root: Annotated[str, typer.Argument(help="root of a batch of yours that is not committed")],
    grades: Grades,
) -> None:
    """Commit to the right grades of a batch to come: gold. Prints the salt: keep it."""
    client = of(ctx).client()
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", root):
        raise ConfigError(f"{root!r} is no batch root", fix="give 0x and 64 hex digits")
    salt = secrets.token_bytes(32)
    deployment = client.deployment
    commitment = gold_commitment(
        deployment.chain_id,
        deployment.address("sheets"),
        bytes.fromhex(root[2:]),
        client.address,
        parse_grades(grades),
        salt,
    )
    # Before it is sent: it counts also where this command ends without a receipt.
    print("0x" + salt.hex(), flush=True)
    client.plant_gold(commitment)


@app.command("open")
def open_gold(
    ctx: typer.Context,
    batch: BatchId,
    grades: Grades,
    salt: Annotated[str, typer.Argument(help="what `jury plant` printed")],
) -> None:
    """Open the gold of a settled batch: judges weigh by it from then on."""
    client = of(ctx).client()
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", salt):
        raise ConfigError(f"{salt!r} is no salt", fix="give what `jury plant` printed")
    client.open_gold(batch, parse_grades(grades), bytes.fromhex(salt[2:]))
    say(f"the gold of batch {batch} is open")


def parse_grades(text: str) -> bytes:
    """The gold sheet of a text of digits and x. ConfigError for anything else."""
    if not re.fullmatch(r"[0-4x]+", text):
        raise ConfigError(
            f"{_short(text)!r} are no grades", fix='write a digit from 0 to 4 or "x" for each trace'
        )
    return pack([UNKNOWN if one == "x" else int(one) for one in text], gold=True)


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:21]}..."
