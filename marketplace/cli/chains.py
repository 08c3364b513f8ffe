"""A local chain, the deployment of a market, and the API service."""

from __future__ import annotations

import signal
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from eth_utils import is_address, to_checksum_address
from web3.types import RPCEndpoint

from marketplace.chain.anvil import LOCAL_CHAIN_ID, AnvilNode, published_account
from marketplace.chain.deploying import LOCAL_CHAIN_IDS, DrandSource, deploy
from marketplace.chain.deployment import save_deployment
from marketplace.chain.parameters import preset
from marketplace.chain.relays import load_network
from marketplace.chain.rpc import connect, node_errors
from marketplace.cli.context import of
from marketplace.cli.economics import require_sound
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, facts, say
from marketplace.protocol.errors import ConfigError

chain_app = typer.Typer(help="A local chain for trying things out.", no_args_is_help=True)
market_app = typer.Typer(help="The market as a whole.", no_args_is_help=True)


class Randomness(StrEnum):
    """What decides draws and tasks."""

    BLOCKHASH = "blockhash"
    DRAND = "drand"


@chain_app.command("up")
def up(
    port: Annotated[int, typer.Option(help="port on this machine")] = 8545,
    block_time: Annotated[int, typer.Option(min=1, help="seconds between blocks")] = 1,
    state: Annotated[
        Path | None, typer.Option(help="file to load the chain from and save it to")
    ] = None,
) -> None:
    """Run Anvil until interrupted. Its accounts are published test keys: never use them
    elsewhere."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with AnvilNode(port=port, block_time=block_time, state=state) as node:
        say(f"chain id {node.chain_id} at {node.url}, a block every {block_time} s")
        print(node.url, flush=True)
        while not stop.wait(0.5):
            if not node.running:
                raise ConfigError("anvil ended", fix="see its last words with --verbose")
    say("the chain is down" + (f", its state is in {state}" if state else ""))


@chain_app.command("faucet")
def faucet(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(help="who gets it")],
    tokens: Annotated[
        str, typer.Option(help="test stablecoins, once a market is deployed")
    ] = "1000",
    coins: Annotated[int, typer.Option(min=0, help="native coins for gas")] = 10,
) -> None:
    """Give gas money and test stablecoins on a local chain."""
    context = of(ctx)
    w3 = connect(context.rpc)
    with node_errors(w3):
        chain_id = w3.eth.chain_id
        if chain_id != LOCAL_CHAIN_ID:
            raise ConfigError(
                f"chain id {chain_id} is no local chain",
                fix="get tokens and gas money where that chain's users get them",
            )
        if not is_address(address):
            raise ConfigError(f"{address!r} is no address", fix="see `tracemarket key show FILE`")
        account = to_checksum_address(address)
        # Anvil's own call: a faucet that can't run dry.
        wei = w3.eth.get_balance(account) + coins * 10**18
        w3.provider.make_request(RPCEndpoint("anvil_setBalance"), [account, hex(wei)])
    given = f"{coins} native coins"
    if context.deployment_path.exists():
        client = context.client(published_account(0))
        amount = client.token.parse(tokens)
        client.mint_test_tokens(account, amount)
        given += f" and {client.token.format(amount)}"
    say(f"{account} got {given}")


def deploy_market(
    ctx: typer.Context,
    preset_name: Annotated[
        str, typer.Option("--preset", help="minimal (seconds, for trying out) or standard")
    ] = "standard",
    token: Annotated[
        str | None,
        typer.Option(help="stablecoin address; without it a test token, on local chains only"),
    ] = None,
    randomness: Annotated[
        Randomness,
        typer.Option(help="what decides draws: hashes of later blocks, or a drand beacon"),
    ] = Randomness.BLOCKHASH,
    drand_network: Annotated[
        str, typer.Option(help="evmnet, or a file with another network's chain info")
    ] = "evmnet",
    drand_delay: Annotated[
        int, typer.Option(min=1, help="seconds from asking to the beacon round, at least")
    ] = 36,
    drand_patience: Annotated[
        int, typer.Option(min=1, help="seconds in which a beacon round must be delivered")
    ] = 3600,
    allow_unsound: Annotated[
        bool, typer.Option("--allow-unsound", help="even where an attack pays (for tests)")
    ] = False,
) -> None:
    """Deploy a market and write its deployment file. Refuses parameters under which an attack
    pays (see `tracemarket economics`)."""
    context = of(ctx)
    if context.deployment_path.exists():
        raise ConfigError(
            f"{context.deployment_path} exists already",
            fix="name another file with --deployment, or move that one away",
        )
    chosen = preset(preset_name)
    drand = None
    if randomness is Randomness.DRAND:
        drand = DrandSource(load_network(drand_network), drand_delay, drand_patience)
    w3 = connect(context.rpc)
    if not allow_unsound:
        with node_errors(w3):
            local = w3.eth.chain_id in LOCAL_CHAIN_IDS
        require_sound(chosen, local=local)
    deployment = deploy(
        w3,
        context.account(),
        chosen,
        token=token,
        drand=drand,
        on_gas=context.log_gas,
        progress=lambda name, address: say(f"{name} at {address}"),
    )
    save_deployment(deployment, context.deployment_path)
    facts(
        f"market on chain id {deployment.chain_id}",
        [*deployment.addresses.items(), ("token", deployment.token.address)],
    )
    if drand is not None:
        say(
            f"draws wait for {drand.network.name}: run `tracemarket randomness deliver`, or give "
            "verifiers a relay (--drand)"
        )
    say(f"wrote {context.deployment_path}: share it with posters, miners and verifiers")


@market_app.command("show")
def show_market(ctx: typer.Context, as_json: AsJson = False) -> None:
    """What the market holds, its insurance pool, and who can be drawn."""
    reader = of(ctx).reader()
    court, pool = reader.held_for("court"), reader.pool()
    money = {
        "bounties": reader.held_for("escrow"),
        "stake": reader.held_for("stake"),
        "batches": reader.held_for("market"),
        "dispute_bonds": court - pool,
        "insurance_pool": pool,
        "all": reader.ledger_tokens(),
    }
    counts = {
        "bounties_made": reader.bounty_count(),
        "batches_committed": reader.batch_count(),
        "disputes_opened": reader.dispute_count(),
        "eligible_verifiers": reader.eligible_verifiers(),
        "free_seats": reader.free_seats(),
    }
    if as_json:
        emit_json({name: str(units) for name, units in money.items()} | counts)
        return
    shown = {name: reader.token.format(units) for name, units in money.items()} | counts
    facts("the market", [(name.replace("_", " "), value) for name, value in shown.items()])


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on")] = 8600,
) -> None:
    """Run the API: an index in SQLite that follows the chain, read over HTTP (see /docs)."""
    # Imported here: no other command needs a web framework.
    from marketplace.api.serve import serve as run

    context = of(ctx)
    reader = context.reader()
    index = context.folder("index.sqlite")
    index.parent.mkdir(parents=True, exist_ok=True)
    say(f"API on http://{host}:{port}, documented at /docs; Ctrl-C ends it")
    run(
        index,
        reader,
        reader.deployment,
        host=host,
        port=port,
        confirmations=context.confirmations,
    )
