"""Bounties: what posters do."""

from __future__ import annotations

import re
import time
from typing import Annotated, TypeVar

import typer

from marketplace.chain.errors import show_time
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Bounty, BountyTerms
from marketplace.cli.context import of
from marketplace.cli.juries import class_of, judging_terms
from marketplace.cli.options import AsJson, BountyId, Identity, require_identity
from marketplace.cli.output import emit_json, facts, say, table
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier

app = typer.Typer(help="Bounties: money for traces.", no_args_is_help=True)

_Choice = TypeVar("_Choice", Tier, PayRule)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """Seconds of "90s", "30m", "12h" or "7d"; ConfigError otherwise."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"{text!r} is no duration", fix='write it as "90s", "30m", "12h" or "7d"')
    return int(match[1]) * _SECONDS[match[2]]


def parse_environment(text: str) -> bytes:
    """The 32 bytes of an environment id; ConfigError otherwise."""
    digits = text.removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise ConfigError(
            f"{text!r} is no environment id",
            fix="give the 0x… id that `tracemarket env register` printed",
        )
    return bytes.fromhex(digits)


@app.command("create")
def create(
    ctx: typer.Context,
    environment: Annotated[str, typer.Option(help="environment id")],
    price: Annotated[str, typer.Option(help="tokens for one payable unit")],
    fee: Annotated[str, typer.Option(help="tokens for the checking of one trace")],
    amount: Annotated[str, typer.Option(help="tokens to put in")],
    lasts: Annotated[str, typer.Option(help="until the deadline: 90s, 30m, 12h, 7d")] = "7d",
    group_size: Annotated[int, typer.Option(min=1, max=65535, help="traces of one task")] = 8,
    tier: Annotated[
        str,
        typer.Option(
            help="provenance: A (replayed from the task's seed), B (log-probs re-scored) or C "
            "(answer only)"
        ),
    ] = "C",
    pay: Annotated[
        str, typer.Option(help="correct (each right trace) or informative (mixed groups)")
    ] = "correct",
    trainer: Annotated[
        str | None,
        typer.Option(help="tiers A, B: whose checkpoints are the policy; your own without it"),
    ] = None,
    judge_pay: Annotated[
        str | None,
        typer.Option(help="class rubric: tokens for each judge for grading one trace"),
    ] = None,
    judge_pot: Annotated[
        str | None, typer.Option(help="class rubric: tokens to put in for the judges")
    ] = None,
) -> None:
    """Open a bounty and fund it. Prints its id."""
    chosen = _member(Tier, tier, "tier")
    rule = _member(PayRule, pay, "pay rule")
    client = of(ctx).client()
    judging = judging_terms(of(ctx), parse_environment(environment), fee, judge_pay, judge_pot)
    terms = BountyTerms(
        environment=parse_environment(environment),
        trainer=None if chosen is Tier.C else (trainer or client.address),
        # The chain's clock: a local chain's may differ from this machine's.
        deadline=max(client.head().timestamp, int(time.time())) + parse_duration(lasts),
        group_size=group_size,
        tier=chosen,
        pay_rule=rule,
        price_per_unit=client.token.parse(price),
        fee_per_trace=client.token.parse(fee),
    )
    funds = client.token.parse(amount)
    bounty, _ = client.create_bounty(terms, funds)
    if judging is not None:
        each, pot = judging
        client.open_pot(bounty, each)
        client.fund_pot(Bounty(bounty, client.address, funds, 0, terms), pot)
    print(bounty)


@app.command("fund")
def fund(
    ctx: typer.Context,
    bounty: BountyId,
    amount: Annotated[str, typer.Argument(help="tokens to add")],
    identity: Identity = None,
) -> None:
    """Pay more into a bounty; anybody may."""
    client = of(ctx).client()
    found = client.bounty(bounty)
    require_identity(f"bounty {bounty}", found.identity, identity)
    say(f"bounty {bounty} is {found.poster}'s: 0x{found.identity.hex()}")
    client.fund_bounty(found, client.token.parse(amount))
    say(f"bounty {bounty} has {client.token.format(client.bounty(bounty).available)} free")


@app.command("refund")
def refund(ctx: typer.Context, bounty: BountyId) -> None:
    """After the deadline: move what is free into the poster's ledger balance (then withdraw)."""
    client = of(ctx).client()
    sent = client.refund_bounty(bounty)
    back = sent.event("BountyRefunded").args
    say(f"{client.token.format(back['amount'])} went to the ledger balance of {back['poster']}")
    held = client.bounty(bounty).reserved
    if held:
        say(f"{client.token.format(held)} wait for pending batches: refund again after they settle")


@app.command("show")
def show(ctx: typer.Context, bounty: BountyId, as_json: AsJson = False) -> None:
    """One bounty: its terms and its money."""
    reader = of(ctx).reader()
    found = reader.bounty(bounty)
    if as_json:
        emit_json(_record(reader, found, class_of(of(ctx), found.terms.environment)))
        return
    money, terms = reader.token.format, found.terms
    facts(
        f"bounty {bounty}",
        [
            ("poster", found.poster),
            ("identity", "0x" + found.identity.hex()),
            ("environment", "0x" + terms.environment.hex()),
            ("class", class_of(of(ctx), terms.environment) or "? (its spec can't be had)"),
            ("judges' pay, pot", _judging(reader, bounty)),
            ("tier, pay rule", f"{Tier(terms.tier).name}, {PayRule(terms.pay_rule).name.lower()}"),
            ("trainer", terms.trainer or "-"),
            ("group size", terms.group_size),
            ("price per unit", money(terms.price_per_unit)),
            ("fee per trace", money(terms.fee_per_trace)),
            ("free", money(found.available)),
            ("reserved", money(found.reserved)),
            ("deadline", _when(reader, terms.deadline)),
        ],
    )


@app.command("list")
def list_bounties(ctx: typer.Context, as_json: AsJson = False) -> None:
    """All bounties."""
    reader = of(ctx).reader()
    found = [reader.bounty(number) for number in range(1, reader.bounty_count() + 1)]
    if as_json:
        classes: dict[bytes, str | None] = {}
        for ident in {bounty.terms.environment for bounty in found}:
            classes[ident] = class_of(of(ctx), ident)
        emit_json([_record(reader, one, classes[one.terms.environment]) for one in found])
        return
    table(
        "bounties",
        ["id>", "environment", "tier", "pays for", "price>", "free>", "reserved>", "deadline"],
        [
            (
                bounty.id,
                "0x" + bounty.terms.environment.hex()[:12] + "…",
                Tier(bounty.terms.tier).name,
                PayRule(bounty.terms.pay_rule).name.lower(),
                reader.token.format(bounty.terms.price_per_unit),
                reader.token.format(bounty.available),
                reader.token.format(bounty.reserved),
                _when(reader, bounty.terms.deadline),
            )
            for bounty in found
        ],
    )


def _record(reader: MarketReader, bounty: Bounty, kind: str | None) -> dict[str, object]:
    terms, pot = bounty.terms, reader.pot(bounty.id)
    return {
        "id": bounty.id,
        "poster": bounty.poster,
        "identity": bounty.identity,
        "environment": terms.environment,
        "class": kind,
        "judge_pay": str(pot.per_trace),
        "judge_pot": str(pot.available),
        "tier": Tier(terms.tier).name,
        "pay_rule": PayRule(terms.pay_rule).name.lower(),
        "trainer": terms.trainer,
        "group_size": terms.group_size,
        "deadline": terms.deadline,
        "price_per_unit": str(terms.price_per_unit),
        "fee_per_trace": str(terms.fee_per_trace),
        "available": str(bounty.available),
        "reserved": str(bounty.reserved),
    }


def _judging(reader: MarketReader, bounty: int) -> str:
    pot = reader.pot(bounty)
    if pot.per_trace == 0:
        return "-"
    money = reader.token.format
    return f"{money(pot.per_trace)} a trace on each sheet, {money(pot.available)}"


def _when(reader: MarketReader, deadline: int) -> str:
    left = deadline - reader.head().timestamp
    if left < 0:
        return f"{show_time(deadline)} (passed)"
    days, rest = divmod(left, 86400)
    hours, rest = divmod(rest, 3600)
    return f"{show_time(deadline)} (in {days}d {hours}h {rest // 60}m)"


def _member(kind: type[_Choice], text: str, what: str) -> _Choice:
    try:
        return kind[text.upper()]
    except KeyError:
        names = ", ".join(
            member.name.lower() if kind is PayRule else member.name for member in kind
        )
        raise ConfigError(f"{text!r} is no {what}", fix=f"use one of: {names}") from None
