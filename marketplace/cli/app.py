"""The command tree and its global options."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler

import marketplace
from marketplace.cli import (
    accounts,
    audits,
    batches,
    bounties,
    chains,
    demo_command,
    disputes,
    economics,
    environments,
    experts,
    export,
    juries,
    lineage,
    mining,
    models,
    randomness,
    royalties,
    training,
    verifiers,
    watching,
)
from marketplace.cli.context import Context
from marketplace.cli.output import messages

app = typer.Typer(
    name="tracemarket",
    help="An open, stablecoin-paid market for verified reasoning traces.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(chains.chain_app, name="chain")
app.command("deploy")(chains.deploy_market)
app.command("economics")(economics.economics)
app.add_typer(chains.market_app, name="market")
app.add_typer(accounts.key_app, name="key")
app.add_typer(environments.app, name="env")
app.add_typer(bounties.app, name="bounty")
app.command("mine")(mining.mine)
app.add_typer(batches.batch_app, name="batch")
app.add_typer(batches.trace_app, name="trace")
app.add_typer(verifiers.app, name="verifier")
app.add_typer(randomness.app, name="randomness")
app.command("watch")(watching.watch)
app.add_typer(disputes.app, name="dispute")
app.add_typer(audits.app, name="audit")
app.add_typer(juries.app, name="jury")
app.command("train")(training.train)
app.add_typer(lineage.app, name="model")
models.app.command("expert")(experts.expert)
models.app.command("compose")(experts.compose)
models.app.command("compare")(experts.compare)
models.app.command("export")(export.export)
app.add_typer(royalties.app, name="royalties")
app.command("balance")(accounts.balance)
app.command("withdraw")(accounts.withdraw)
app.command("serve")(chains.serve)
app.command("demo")(demo_command.demo)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tracemarket {marketplace.__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    rpc: Annotated[
        str, typer.Option(envvar="TRACEMARKET_RPC", help="JSON-RPC URL of a node")
    ] = "http://127.0.0.1:8545",
    deployment: Annotated[
        Path, typer.Option(envvar="TRACEMARKET_DEPLOYMENT", help="deployment file of the market")
    ] = Path("deployment.json"),
    store: Annotated[
        str,
        typer.Option(
            envvar="TRACEMARKET_STORE",
            help='content store: "dir:/path" or "ipfs:/ip4/127.0.0.1/tcp/5001/http"',
        ),
    ] = "dir:tracemarket-store",
    drand: Annotated[
        list[str] | None,
        typer.Option(
            envvar="TRACEMARKET_DRAND",
            help="URL of a drand relay, such as https://api.drand.sh, for markets that draw from a "
            "beacon; several are tried in order",
        ),
    ] = None,
    drand_timeout: Annotated[
        float, typer.Option(min=0.1, help="seconds to wait for one drand relay")
    ] = 10.0,
    keystore: Annotated[
        Path | None,
        typer.Option(envvar="TRACEMARKET_KEYSTORE", help="keystore v3 file of the signing key"),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            envvar="TRACEMARKET_PASSWORD_FILE",
            help="file with the keystore's password (or set TRACEMARKET_PASSWORD, or be asked)",
        ),
    ] = None,
    home: Annotated[
        Path,
        typer.Option(
            envvar="TRACEMARKET_HOME", help="journals, spools, fetched checkpoints, the index"
        ),
    ] = Path("tracemarket-home"),
    confirmations: Annotated[
        int,
        typer.Option(
            envvar="TRACEMARKET_CONFIRMATIONS", min=0, help="blocks on top before a call counts"
        ),
    ] = 0,
    gas_log: Annotated[
        Path | None,
        typer.Option(envvar="TRACEMARKET_GAS_LOG", help="append the gas of each call as JSON"),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log what happens")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=messages, show_path=False)],
    )
    # RPC URLs may hold keys, and these log them.
    for noisy in ("httpx", "web3", "urllib3", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    ctx.obj = Context(
        rpc=rpc,
        deployment_path=deployment,
        store_url=store,
        drand=tuple(drand or ()),
        drand_timeout=drand_timeout,
        keystore=keystore,
        password_file=password_file,
        home=home,
        confirmations=confirmations,
        gas_log=gas_log,
    )
