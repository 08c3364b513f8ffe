"""Royalties: pay for a checkpoint, see who gets it, collect, check the list of shares."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from marketplace.chain.client import MarketClient, Payment
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Checkpoint, Collection
from marketplace.cli.context import of
from marketplace.cli.lineage import SECONDS, read_verified
from marketplace.cli.options import AsJson, Identity, require_identity
from marketplace.cli.output import emit_json, facts, say, table
from marketplace.protocol.errors import (
    ConfigError,
    ProofFailed,
    StorageError,
    TracemarketError,
)
from marketplace.protocol.hashing import address20
from marketplace.protocol.seeds import PPM
from marketplace.protocol.shares import ShareList, derive_shares, earned_by, kept_of
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore
from trainer.records import fetch_training
from trainer.royalties import (
    SharesCheck,
    check_shares,
    contributions_of,
    due_now,
    fetch_shares,
    percent,
)

app = typer.Typer(help="Royalties of checkpoints.", no_args_is_help=True)

MOST_AT_ONCE: Final = 100
"""Collections or steps of a lineage in one transaction."""

CheckpointId = Annotated[int, typer.Argument(min=1, help="checkpoint id")]
Timeout = Annotated[float, typer.Option(min=0.1, help="seconds for each download")]


@app.command("pay")
def pay(
    ctx: typer.Context,
    checkpoint: CheckpointId,
    amount: Annotated[str, typer.Argument(help="tokens to pay")],
    payment: Annotated[
        Payment | None,
        typer.Option(help="how the ledger gets the tokens; a permit where the token knows them"),
    ] = None,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="pay without a look at the list of shares")
    ] = False,
    identity: Identity = None,
    timeout: Timeout = SECONDS,
    as_json: AsJson = False,
) -> None:
    """Pay for the use of a checkpoint. Refused where its list of shares can't be had or is not the
    registered one: nobody might be able to collect what you pay. Pays for what was looked at, and
    is refused where the chain has given the number to another checkpoint since."""
    context = of(ctx)
    client = context.client()
    units = client.token.parse(amount)
    one = client.checkpoint(checkpoint)
    require_identity(f"checkpoint {checkpoint}", one.identity, identity)
    if not unseen:
        _require_list(client, context.store(), one, timeout)
    say(f"checkpoint {checkpoint} is {one.trainer}'s: 0x{one.identity.hex()}")
    sent = client.pay_royalty(one, units, payment=payment)
    if as_json:
        emit_json(
            {
                "checkpoint": checkpoint,
                "trainer": one.trainer,
                "identity": one.identity,
                "paid": str(units),
                "transaction": sent.tx_hash,
            }
        )
        return
    say(f"paid {client.token.format(units)} for checkpoint {checkpoint}")


@app.command("show")
def show(
    ctx: typer.Context,
    checkpoint: CheckpointId,
    account: Annotated[
        str | None, typer.Option(help="only this account's share; all of them without it")
    ] = None,
    timeout: Timeout = SECONDS,
    as_json: AsJson = False,
) -> None:
    """What came in for a checkpoint, where it went, and what each share has earned."""
    context = of(ctx)
    reader = context.reader()
    one, sums = reader.checkpoint(checkpoint), reader.royalties(checkpoint)
    holders: list[dict[str, Any]] | None = None
    try:
        shares = _list_of(reader, context.store(), one, timeout)
    except StorageError as error:
        say(f"the list of shares can't be had: {error.message}")
    else:
        holders = _holders(reader, one, shares, sums.received, account)
    record: dict[str, Any] = {
        "checkpoint": checkpoint,
        "trainer": one.trainer,
        "identity": one.identity,
        "received": str(sums.received),
        "kept": str(kept_of(sums.received, one.pass_on_ppm)),
        "collected": str(sums.collected),
        "parent": one.parent or None,
        "pass_on_ppm": one.pass_on_ppm,
        "passed_on": str(sums.passed_on),
        "due_to_parent": str(reader.royalty_due_to_parent(checkpoint)),
        "shares_root": one.shares_root,
        "holders": holders,
    }
    if as_json:
        emit_json(record)
        return
    money = reader.token.format
    facts(
        f"royalties of checkpoint {checkpoint}",
        [
            ("trainer", one.trainer),
            ("identity", "0x" + one.identity.hex()),
            ("received", money(sums.received)),
            ("kept for its holders", money(int(record["kept"]))),
            ("collected", money(sums.collected)),
            ("goes on to", _parent(one)),
            (
                "passed on, still due",
                f"{money(sums.passed_on)}, {money(int(record['due_to_parent']))}",
            ),
        ],
    )
    if holders is not None:
        table(
            "shares",
            ["account=", "share>", "earned>", "collected>", "due>"],
            [
                (
                    row["account"],
                    percent(row["share"]),
                    *(money(int(row[name])) for name in ("earned", "collected", "due")),
                )
                for row in holders
            ],
        )


@app.command("collect")
def collect(
    ctx: typer.Context,
    checkpoints: Annotated[
        list[int] | None, typer.Argument(min=1, help="checkpoint ids; all without any")
    ] = None,
    account: Annotated[str | None, typer.Option(help="whose shares; your own without it")] = None,
    timeout: Timeout = SECONDS,
    as_json: AsJson = False,
) -> None:
    """Move what your shares have earned into your ledger balance (then withdraw), with everything
    since the last time: one transaction for up to 100 checkpoints."""
    context = of(ctx)
    client, store = context.client(), context.store()
    whose = account or client.address
    address20(whose, "account")
    # A checkpoint that is named twice is collected once.
    wanted = dict.fromkeys(checkpoints or range(1, client.checkpoint_count() + 1))
    found: list[tuple[Collection, int]] = []
    for number in wanted:
        due = _due(client, store, number, whose, timeout, must=bool(checkpoints))
        if due is not None and due[1]:
            found.append(due)
    total = sum(units for _, units in found)
    for start in range(0, len(found), MOST_AT_ONCE):
        part = found[start : start + MOST_AT_ONCE]
        client.collect_royalties([collection for collection, _ in part])
    if as_json:
        rows = [{"checkpoint": one.checkpoint, "amount": str(units)} for one, units in found]
        emit_json({"account": whose, "collected": str(total), "checkpoints": rows})
        return
    if not found:
        say(f"{whose} has no royalties to collect")
        return
    for one, units in found:
        say(f"checkpoint {one.checkpoint}: {client.token.format(units)}")
    say(f"{client.token.format(total)} went to the ledger balance of {whose}")


@app.command("pass-on")
def pass_on(
    ctx: typer.Context,
    checkpoint: CheckpointId,
    to_base: Annotated[
        bool, typer.Option("--to-base", help="and on from the parent, down to the base model")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move what is due to the parent's royalties; anybody may."""
    client = of(ctx).client()
    steps = _steps_due(client, checkpoint, to_base)
    for start in range(0, len(steps), MOST_AT_ONCE):
        client.pass_on_royalties([child for child, _, _ in steps[start : start + MOST_AT_ONCE]])
    if as_json:
        rows = [
            {"checkpoint": child, "parent": parent, "amount": str(units)}
            for child, parent, units in steps
        ]
        emit_json({"passed_on": rows})
        return
    if not steps:
        say(f"checkpoint {checkpoint} has nothing to pass on")
    for child, parent, units in steps:
        say(f"{client.token.format(units)} went from checkpoint {child} to checkpoint {parent}")


@app.command("check")
def check(
    ctx: typer.Context,
    checkpoint: CheckpointId,
    timeout: Timeout = SECONDS,
    as_json: AsJson = False,
) -> None:
    """Derive a checkpoint's list of shares again, from its dataset and the chain, and compare it
    with the registered one. Exit code 5 where they differ."""
    context = of(ctx)
    reader, store = context.reader(), context.store()
    step, batches = read_verified(reader, store, checkpoint, timeout)
    registered = fetch_shares(reader, store, step.checkpoint, timeout=timeout)
    entries = step.entries[: len(batches)]  # of a base model nothing was verified
    found = check_shares(reader, registered, step.checkpoint, entries, batches)
    if as_json:
        emit_json(
            {
                "checkpoint": checkpoint,
                "derived": found.honest,
                "usual_split": found.usual_split,
                "split": registered.split,
                "differences": found.differences,
                "pass_on_ppm": step.checkpoint.pass_on_ppm,
                "batches": len(batches),
            }
        )
    else:
        _tell(found, step.checkpoint)
    if not found.honest:
        raise typer.Exit(ProofFailed.exit_code)


def _tell(found: SharesCheck, checkpoint: Checkpoint) -> None:
    split = found.registered.split
    rest = PPM - split.contributors_ppm - split.authors_ppm
    facts(
        f"shares of checkpoint {found.checkpoint}",
        [
            ("list", "derived from its dataset" if found.honest else "NOT the derived one"),
            (
                "split",
                f"{_percent(split.contributors_ppm)} contributors, {_percent(split.authors_ppm)} "
                f"authors, {_percent(rest)} trainer"
                + ("" if found.usual_split else " (not the usual split)"),
            ),
            ("goes on to", _parent(checkpoint)),
        ],
    )
    if found.differences:
        table(
            "where they differ",
            ["account=", "registered>", "derived>"],
            [
                (one.account, percent(one.registered), percent(one.derived))
                for one in found.differences
            ],
        )


def _require_list(
    client: MarketClient, store: ContentStore, one: Checkpoint, timeout: float
) -> None:
    try:
        _list_of(client, store, one, timeout)
    except (StorageError, ProofFailed) as error:
        raise type(error)(
            f"nothing was paid, as nobody may be able to collect it: {error.message}",
            fix="ask its trainer for the list of shares; --unseen pays nevertheless",
        ) from None


def _list_of(
    reader: MarketReader, store: ContentStore, one: Checkpoint, timeout: float
) -> ShareList:
    """The registered list. Where its file is gone, derived again from the checkpoint's dataset by
    the usual split, if that leads to the registered root."""
    try:
        return fetch_shares(reader, store, one, timeout=timeout)
    except StorageError as error:
        try:
            cid = Cid.from_chain(one.content.digest, one.content.codec)
            record = fetch_training(store, cid, f"checkpoint {one.id}", timeout=timeout)
            entries = () if record is None else record.dataset.batches
            derived = derive_shares(one.trainer, contributions_of(reader, entries))
        except TracemarketError:
            raise error from None
        if (derived.root, len(derived.shares)) != (one.shares_root, one.holders):
            raise
        say(f"the list of shares of checkpoint {one.id} is gone; derived it from the dataset")
        return derived


def _due(
    client: MarketClient,
    store: ContentStore,
    number: int,
    whose: str,
    timeout: float,
    *,
    must: bool,
) -> tuple[Collection, int] | None:
    """must: a checkpoint that can't be collected from is an error, not left out."""
    one = client.checkpoint(number)
    if not client.royalties(number).received and not must:
        return None
    try:
        due = due_now(client, one, _list_of(client, store, one, timeout), whose)
    except TracemarketError as error:
        if must:
            raise
        say(f"checkpoint {number} is left out: {error.message}")
        return None
    if due is None and must:
        raise ConfigError(
            f"{whose} has no share in checkpoint {number}",
            fix="see `tracemarket royalties show`",
        )
    return due


def _steps_due(client: MarketClient, checkpoint: int, to_base: bool) -> list[tuple[int, int, int]]:
    """(child, parent, base units) of each step that has something to pass on, with what the step
    before brings counted."""
    steps: list[tuple[int, int, int]] = []
    arrived = 0
    one = client.checkpoint(checkpoint)
    while one.parent:
        sums = client.royalties(one.id)
        part = (sums.received + arrived) * one.pass_on_ppm // PPM
        due = part - sums.passed_on
        if due:
            steps.append((one.id, one.parent, due))
        if not to_base:
            break
        arrived = due
        one = client.checkpoint(one.parent)
    return steps


def _holders(
    reader: MarketReader, one: Checkpoint, shares: ShareList, received: int, account: str | None
) -> list[dict[str, Any]]:
    places = range(len(shares.shares))
    if account is not None:
        index = shares.index(account)
        if index is None:
            raise ConfigError(f"{account} has no share in checkpoint {one.id}")
        places = range(index, index + 1)
    rows = []
    for index in places:
        holder = shares.shares[index]
        earned = earned_by(received, one.pass_on_ppm, holder.share)
        collected = reader.royalty_collected(one.id, index)
        rows.append(
            {
                "account": "0x" + holder.account.hex(),
                "share": holder.share,
                "earned": str(earned),
                "collected": str(collected),
                "due": str(earned - collected),
            }
        )
    return rows


def _parent(one: Checkpoint) -> str:
    if not one.parent:
        return "- (a base model)"
    return f"checkpoint {one.parent}: {_percent(one.pass_on_ppm)}"


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:g} %"
