"""What every command shares: where the chain, the deployment, the content store and the key are.

Each setting comes from a global option or its environment variable, is read once, and is
opened only when a command needs it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import typer
from eth_account.signers.local import LocalAccount

from marketplace.chain.client import MarketClient
from marketplace.chain.delivering import BeaconKeeper, source
from marketplace.chain.deployment import Deployment, load_deployment
from marketplace.chain.keystore import keystore_address, load_keystore, password
from marketplace.chain.reads import MarketReader
from marketplace.chain.relays import Relays
from marketplace.chain.rpc import connect
from marketplace.cli.output import say
from marketplace.protocol.errors import ConfigError
from marketplace.storage.store import ContentStore, open_store


@dataclass(frozen=True, slots=True)
class Context:
    """Settings as given; paths are not checked until something is opened."""

    rpc: str
    deployment_path: Path
    store_url: str
    drand: tuple[str, ...]
    drand_timeout: float
    keystore: Path | None
    password_file: Path | None
    home: Path
    confirmations: int
    gas_log: Path | None

    def deployment(self) -> Deployment:
        return load_deployment(self.deployment_path)

    def reader(self) -> MarketReader:
        """Reads only: needs no key."""
        return MarketReader(connect(self.rpc), self.deployment())

    def account(self) -> LocalAccount:
        """The key that signs."""
        if self.keystore is None:
            raise ConfigError(
                "this command signs, and no keystore was given",
                fix="make one with `tracemarket key new FILE` and name it with --keystore or "
                "TRACEMARKET_KEYSTORE",
            )
        prompt = None
        if self.password_file is None and typer.get_text_stream("stdin").isatty():
            prompt = lambda: str(typer.prompt("keystore password", hide_input=True, err=True))  # noqa: E731
        return load_keystore(self.keystore, password(file=self.password_file, prompt=prompt))

    def address(self) -> str:
        """The address of the keystore, without its password."""
        if self.keystore is None:
            raise ConfigError(
                "no address and no keystore was given",
                fix="give an address, or a keystore with --keystore or TRACEMARKET_KEYSTORE",
            )
        return keystore_address(self.keystore)

    def client(self, account: LocalAccount | None = None) -> MarketClient:
        """Reads and writes, signing with the keystore's key."""
        return MarketClient(
            connect(self.rpc),
            self.deployment(),
            self.account() if account is None else account,
            confirmations=self.confirmations,
            on_gas=self.log_gas,
        )

    def beacons(self, client: MarketClient) -> BeaconKeeper:
        """Delivers beacons. ConfigError without a relay, and where the market needs none."""
        network, _ = source(client)
        return BeaconKeeper(client, Relays(network, self.drand, timeout=self.drand_timeout))

    def beacons_if_any(self, client: MarketClient) -> BeaconKeeper | None:
        """The same for commands that can do without: None where the market draws from block
        hashes, and where no relay is configured."""
        if client.deployment.beacon is None:
            return None
        if not self.drand:
            say(
                "this market draws from a drand beacon and no relay is configured (--drand): "
                "others must deliver what this command waits for"
            )
            return None
        return self.beacons(client)

    def store(self) -> ContentStore:
        return open_store(self.store_url)

    def folder(self, *parts: str) -> Path:
        """A folder under the home directory."""
        return self.home.joinpath(*parts)

    @property
    def assets(self) -> Path:
        """Where the data sets of environments are kept."""
        return self.folder("assets")

    def log_gas(self, action: str, gas_used: int) -> None:
        say(f"[dim]{action}: {gas_used:,} gas[/dim]")
        if self.gas_log is not None:
            with self.gas_log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"action": action, "gas": gas_used}) + "\n")


def of(ctx: typer.Context) -> Context:
    """The context that the root command made."""
    found = ctx.find_object(Context)
    assert found is not None  # the root callback always runs first
    return found
