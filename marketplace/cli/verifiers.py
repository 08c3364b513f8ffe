"""Verifiers: stake, run the node, unstake."""

from __future__ import annotations

import os
import signal
import threading
from typing import Annotated

import typer

from marketplace.cli.context import of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, facts, say
from marketplace.gym.pool import CheckPool
from verifier_node.checking import BatchChecker
from verifier_node.checkpoints import CheckpointCache, scorer_maker
from verifier_node.daemon import VerifierNode
from verifier_node.journal import Journal

app = typer.Typer(help="Stake, check batches, earn fees.", no_args_is_help=True)


@app.command("stake")
def stake(
    ctx: typer.Context, amount: Annotated[str, typer.Argument(help="tokens to stake")]
) -> None:
    """Add stake: one seat in the lot for each whole seat stake."""
    client = of(ctx).client()
    client.stake(client.token.parse(amount))
    verifier = client.verifier(client.address)
    say(f"{client.token.format(verifier.stake)} staked, {verifier.free_seats} free seats")


@app.command("unstake")
def unstake(
    ctx: typer.Context,
    amount: Annotated[
        str | None, typer.Argument(help="tokens; all that is free without it")
    ] = None,
    claim: Annotated[
        bool, typer.Option("--claim", help="take what is unbonded into the ledger balance")
    ] = False,
) -> None:
    """Ask for stake back, or (--claim) collect it after the unbonding delay, then withdraw."""
    client = of(ctx).client()
    if claim:
        sent = client.claim_stake()
        say(f"{client.token.format(sent.event('Unstaked').args['amount'])} are in your balance")
        return
    verifier = client.verifier(client.address)
    free = verifier.stake - verifier.open_seats * client.parameters.seat_stake
    units = free if amount is None else client.token.parse(amount)
    sent = client.request_unstake(units)
    due = sent.event("UnstakeRequested").args["claimableAt"]
    wait = max(0, due - client.head().timestamp)
    say(
        f"{client.token.format(units)} are unbonding; in {wait} s run "
        "`tracemarket verifier unstake --claim`"
    )


@app.command("show")
def show(
    ctx: typer.Context,
    account: Annotated[str | None, typer.Argument(help="address; your own without it")] = None,
    as_json: AsJson = False,
) -> None:
    """A verifier's stake and seats."""
    context = of(ctx)
    reader = context.reader()
    verifier = reader.verifier(account or context.address())
    if as_json:
        emit_json(
            {
                "address": verifier.address,
                "stake": str(verifier.stake),
                "unbonding": str(verifier.unbonding),
                "claimable_at": verifier.claimable_at,
                "open_seats": verifier.open_seats,
                "free_seats": verifier.free_seats,
            }
        )
        return
    money = reader.token.format
    facts(
        verifier.address,
        [
            ("staked", money(verifier.stake)),
            ("unbonding", money(verifier.unbonding)),
            ("claimable at", verifier.claimable_at or "-"),
            ("open seats", verifier.open_seats),
            ("free seats", verifier.free_seats),
        ],
    )


@app.command("run")
def run(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="one pass, then end")] = False,
    poll: Annotated[float, typer.Option(min=0.1, help="seconds between passes")] = 2.0,
    keeper: Annotated[bool, typer.Option(help="also make the calls that move any batch on")] = True,
    workers: Annotated[int, typer.Option(min=1, help="checker processes")] = max(
        1, (os.cpu_count() or 2) - 1
    ),
    fetch_seconds: Annotated[
        float, typer.Option(min=0.1, help="how long one look for content may take")
    ] = 20.0,
    collect_above: Annotated[
        str | None, typer.Option(help="withdraw fees to your address above so many tokens")
    ] = None,
) -> None:
    """Run the node: join rounds it is drawn in, check, commit, reveal, collect. The journal in
    the home directory holds its salts: keep it, and run one node for each key."""
    context = of(ctx)
    client, store = context.client(), context.store()
    journal = Journal(context.folder("verifier", f"{client.address}.sqlite"))
    checkpoints = CheckpointCache(client, store, context.folder("checkpoints"))
    with CheckPool(workers=workers) as pool:
        node = VerifierNode(
            client,
            store,
            journal,
            BatchChecker(
                client,
                store,
                pool,
                fetch_seconds=fetch_seconds,
                scorer_for=scorer_maker(checkpoints),
            ),
            keeper=keeper,
            collect_above=None if collect_above is None else client.token.parse(collect_above),
        )
        if once:
            for done in node.run_once():
                say(f"batch {done.batch}: {done.duty.name.lower()} ({done.detail})")
            return
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        say(f"verifier {client.address} is at work; Ctrl-C ends it")
        node.follow(stop, poll)
    say("the node has ended; open commitments are in its journal")
