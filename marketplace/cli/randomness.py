"""The beacon that a market with drand draws from: what is waited for, and its delivery."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from marketplace.chain.delivering import BeaconKeeper, wanted
from marketplace.chain.errors import show_time
from marketplace.cli.context import of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, say, table
from marketplace.cli.watching import Once, Poll, stop_signal
from marketplace.protocol.errors import ChainError, TracemarketError

app = typer.Typer(
    help="Bring drand beacons on chain, in markets that draw from them.", no_args_is_help=True
)

Assignments = Annotated[
    bool, typer.Option(help="also what only miners' assignments wait for (anybody can request one)")
]


@app.command("deliver")
def deliver(
    ctx: typer.Context,
    rounds: Annotated[
        list[int] | None,
        typer.Argument(min=1, help="beacon rounds; without any, all that is waited for"),
    ] = None,
    once: Once = False,
    poll: Poll = 3.0,
    assignments: Assignments = True,
) -> None:
    """Fetch the beacon rounds that draws and assignments wait for, verify them and deliver them.

    Goes on until interrupted; with --once or with rounds it ends, with an error where one could
    not be delivered. Anybody may run it, and several at once: what is on chain costs nothing."""
    context = of(ctx)
    client = context.client()
    keeper = context.beacons(client)
    if rounds:
        _each(keeper, rounds)
        return
    if once:
        done = keeper.run_once(assignments=assignments)
        _tell(done.delivered)
        if not (done.delivered or done.failed):
            say("nothing is waited for")
        _fail(done.failed)
        return
    stop = stop_signal()
    say(f"{client.address} delivers beacons; Ctrl-C ends it")
    while not stop.is_set():
        try:
            _tell(keeper.run_once(assignments=assignments).delivered)
        except ChainError as error:
            say(f"the pass failed, the next one follows: {escape(str(error))}")
        stop.wait(poll)


@app.command("status")
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The beacon rounds that open draws and assignments wait for."""
    found = wanted(of(ctx).reader())
    if as_json:
        emit_json(found)
        return
    table(
        "beacon rounds",
        ["round>", "status", "comes at", "deliver by", "draws of rounds", "tasks of"],
        [
            (
                one.point,
                one.status.name.lower(),
                show_time(one.time),
                show_time(one.deadline),
                ", ".join(map(str, one.draws)) or "-",
                ", ".join(f"{miner} (bounty {bounty})" for bounty, miner in one.assignments) or "-",
            )
            for one in found
        ],
    )


def _each(keeper: BeaconKeeper, rounds: list[int]) -> None:
    failed: dict[int, TracemarketError] = {}
    for number in rounds:
        try:
            if keeper.deliver(number):
                _tell((number,))
            else:
                say(f"beacon round {number} is on chain already")
        except TracemarketError as error:
            failed[number] = error
    _fail(failed)


def _tell(delivered: tuple[int, ...]) -> None:
    for number in delivered:
        say(f"beacon round {number} is on chain")


def _fail(failed: dict[int, TracemarketError]) -> None:
    """Say why each failed; the last one is the command's own error."""
    errors = list(failed.values())
    for error in errors[:-1]:
        say(f"{type(error).__name__}: {escape(str(error))}")
    if errors:
        raise errors[-1]
