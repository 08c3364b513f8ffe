"""Keys, balances, withdrawals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from marketplace.chain.keystore import create_keystore, keystore_address, password
from marketplace.cli.context import of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, facts, say

key_app = typer.Typer(help="Keystore v3 files.", no_args_is_help=True)


@key_app.command("new")
def new_key(ctx: typer.Context, path: Annotated[Path, typer.Argument(help="file to make")]) -> None:
    """Make a new key. Prints its address."""
    file = of(ctx).password_file
    prompt = None
    if file is None and typer.get_text_stream("stdin").isatty():

        def prompt() -> str:
            return str(
                typer.prompt(
                    "new keystore password", hide_input=True, confirmation_prompt=True, err=True
                )
            )

    print(create_keystore(path, password(file=file, prompt=prompt)))


@key_app.command("show")
def show_key(path: Annotated[Path, typer.Argument(help="keystore file")]) -> None:
    """Print the address of a keystore file; needs no password."""
    print(keystore_address(path))


def balance(
    ctx: typer.Context,
    account: Annotated[
        str | None, typer.Argument(help="address; the keystore's own without it")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What an account has: in the ledger (can be withdrawn), in tokens, staked."""
    context = of(ctx)
    reader = context.reader()
    address = account or context.address()
    verifier = reader.verifier(address)
    found = {
        "account": address,
        "ledger": str(reader.balance(address)),
        "tokens": str(reader.token_balance(address)),
        "stake": str(verifier.stake),
        "unbonding": str(verifier.unbonding),
        "native_wei": str(reader.native_balance(address)),
        "token": reader.token.address,
    }
    if as_json:
        emit_json(found)
        return
    show = reader.token.format
    facts(
        address,
        [
            ("in the ledger", show(int(found["ledger"]))),
            ("in the wallet", show(int(found["tokens"]))),
            ("staked", show(verifier.stake)),
            ("unbonding", show(verifier.unbonding)),
            ("gas money", f"{int(found['native_wei']) / 10**18:.6f} (native coin)"),
        ],
    )


def withdraw(
    ctx: typer.Context,
    amount: Annotated[
        str | None, typer.Option(help="tokens to withdraw; everything without it")
    ] = None,
    to: Annotated[str | None, typer.Option(help="receiving address; your own without it")] = None,
) -> None:
    """Send what the ledger holds for you: one call for any number of settled batches."""
    client = of(ctx).client()
    units = client.balance(client.address) if amount is None else client.token.parse(amount)
    if units == 0:
        say(f"{client.address} has nothing in the ledger")
        return
    client.withdraw(units, to=to)
    say(f"withdrew {client.token.format(units)} to {to or client.address}")
