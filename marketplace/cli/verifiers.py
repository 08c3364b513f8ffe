"""Verifiers: stake, run the node, unstake."""

from __future__ import annotations

from typing import Annotated

import typer

from marketplace.chain.reads import MarketReader
from marketplace.cli.context import of
from marketplace.cli.judging import (
    JudgeEndpoint,
    JudgeFolder,
    JudgeKey,
    JudgeModel,
    make_judge,
)
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, facts, say, table
from marketplace.cli.watching import (
    CHECKPOINT_GB,
    CheckpointGb,
    DemandWithheld,
    Executor,
    ExecutorKind,
    FetchSeconds,
    MaxAppeals,
    MaxBonds,
    Once,
    Poll,
    RayAddress,
    Settings,
    Share,
    Workers,
    make_checker,
    make_checkpoints,
    make_executor,
    make_watchtower,
    stop_signal,
    tell,
)
from verifier_node.daemon import VerifierNode
from verifier_node.journal import Journal
from verifier_node.relay_link import RelayLink

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


@app.command("status")
def status(
    ctx: typer.Context,
    account: Annotated[str | None, typer.Argument(help="address; your own without it")] = None,
    as_json: AsJson = False,
) -> None:
    """A verifier's seats in rounds that are not judged: in committees and in juries."""
    context = of(ctx)
    reader = context.reader()
    seats = _open_seats(reader, reader.verifier(account or context.address()).address)
    if as_json:
        emit_json(seats)
        return
    table(
        "open seats",
        ["round>", "in", "batch>", "dispute>", "phase", "seat"],
        [
            (
                seat["round"],
                "jury" if seat["dispute"] else "committee",
                seat["batch"],
                seat["dispute"] or "-",
                str(seat["phase"]).replace("_", " "),
                seat["seat"],
            )
            for seat in seats
        ],
    )


def _open_seats(reader: MarketReader, address: str) -> list[dict[str, object]]:
    names = ("BatchCommitted", "BatchRoundOpened", "JuryOpened", "RoundDrawn")
    batches: dict[int, int] = {}
    juries: dict[int, int] = {}
    mine: list[int] = []
    events = reader.events(reader.deployment.block, reader.head().number, names=names)
    for event in events:
        if event.name == "RoundDrawn":
            if address in event.args["members"]:
                mine.append(event.args["round"])
        elif event.name == "JuryOpened":
            juries[event.args["round"]] = event.args["dispute"]
        else:
            batches[event.args["round"]] = event.args["batch"]
    found: list[dict[str, object]] = []
    for number in mine:
        round_ = reader.round(number)
        seat = None if round_.judged else reader.seat_of(number, address)
        if seat is None:
            continue
        dispute = juries.get(number)
        batch = batches.get(number) if dispute is None else reader.dispute(dispute).batch
        found.append(
            {
                "round": number,
                "batch": batch,
                "dispute": dispute,
                "phase": round_.phase.name.lower(),
                "seat": seat.state.name.lower(),
            }
        )
    return found


@app.command("run")
def run(
    ctx: typer.Context,
    once: Once = False,
    poll: Poll = 2.0,
    keeper: Annotated[
        bool, typer.Option(help="also make the calls that move any batch or dispute on")
    ] = True,
    challenge: Annotated[
        bool,
        typer.Option(
            "--challenge", help="also re-check attestations, and dispute wrong ones with bonds"
        ),
    ] = False,
    max_bonds: MaxBonds = "100",
    max_appeals: MaxAppeals = "100",
    share: Share = 1.0,
    demand_withheld: DemandWithheld = False,
    workers: Workers = None,
    executor: Executor = ExecutorKind.LOCAL,
    ray_address: RayAddress = None,
    fetch_seconds: FetchSeconds = 20.0,
    checkpoint_gb: CheckpointGb = CHECKPOINT_GB,
    collect_above: Annotated[
        str | None, typer.Option(help="withdraw fees to your address above so many tokens")
    ] = None,
    relay: Annotated[
        str | None,
        typer.Option(
            "--relay",
            metavar="URL",
            help="a relay that brings your votes on chain and pays for them; what it has not "
            "brought when half of a window is over, the node brings itself",
        ),
    ] = None,
    judge: JudgeFolder = None,
    judge_endpoint: JudgeEndpoint = None,
    judge_model: JudgeModel = None,
    judge_key_env: JudgeKey = None,
) -> None:
    """Run the node: join committees and juries it is drawn in, check, commit, reveal, defend what
    it signed, collect. The journal in the home directory holds its salts: keep it, and run one
    node for each key."""
    context = of(ctx)
    client, store = context.client(), context.store()
    journal = Journal(context.folder("verifier", f"{client.address}.sqlite"))
    grader = make_judge(judge, judge_endpoint, judge_model, judge_key_env)
    with make_executor(executor, ray_address, workers, context.assets) as pool:
        checkpoints = make_checkpoints(
            context, client, store, fetch_seconds, checkpoint_gb, once=once
        )
        checker = make_checker(context, client, store, pool, fetch_seconds, checkpoints)
        tower = None
        if challenge:
            settings = Settings(max_bonds, max_appeals, share, demand_withheld, fetch_seconds)
            tower = make_watchtower(client, store, journal, checker, settings)
        node = VerifierNode(
            client,
            store,
            journal,
            checker,
            keeper=keeper,
            fetch_seconds=fetch_seconds,
            collect_above=None if collect_above is None else client.token.parse(collect_above),
            watchtower=tower,
            beacons=context.beacons_if_any(client),
            relay=None if relay is None else RelayLink(relay, context.account()),
            judge=grader,
        )
        if once:
            tell(node.run_once())
            return
        stop = stop_signal()
        say(f"verifier {client.address} is at work; Ctrl-C ends it")
        node.follow(stop, poll)
    say("the node has ended; open commitments are in its journal")


@app.command("relay")
def relay(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on, 0 for any")] = 8001,
    poll: Poll = 2.0,
) -> None:
    """Bring other verifiers' votes on chain: one transaction for all of a round. You pay for it;
    members name your URL with `verifier run --relay`."""
    from marketplace.cli.relaying import serve_relay

    serve_relay(of(ctx).client(), host, port, poll)
