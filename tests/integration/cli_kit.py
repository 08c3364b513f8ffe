"""The command line as people type it, in a test's own folder, against the test's market."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from eth_account.signers.local import LocalAccount

from marketplace.chain.deployment import save_deployment
from marketplace.chain.keystore import create_keystore
from marketplace.cli.main import main

PASSWORD = "correct horse"


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def command_line(
    url: str,
    deployment: Any,
    keys: Mapping[str, LocalAccount],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ran]:
    """run("bounty", "show", 1, key="poster") -> Ran of `tracemarket` in tmp_path, with the
    keystore of that name or none. The folder `store` is the store.

    url: of the chain. deployment: None for a folder without one.
    """
    if deployment is not None:
        save_deployment(deployment, tmp_path / "deployment.json")
    for name, account in keys.items():
        # A work factor for tests: what is tested here is not scrypt.
        create_keystore(tmp_path / f"{name}.json", PASSWORD, key=bytes(account.key), iterations=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACEMARKET_RPC", url)
    monkeypatch.setenv("TRACEMARKET_PASSWORD", PASSWORD)
    monkeypatch.setenv("TRACEMARKET_STORE", f"dir:{tmp_path / 'store'}")
    # Messages are compared whole: no line breaks of a narrow terminal.
    monkeypatch.setenv("COLUMNS", "600")

    def run(*words: object, key: str | None = None) -> Ran:
        argv = ["tracemarket", *(["--keystore", f"{key}.json"] if key else []), *map(str, words)]
        monkeypatch.setattr(sys, "argv", argv)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code or 0
        return Ran(code if isinstance(code, int) else 1, captured.out, captured.err)

    return run


def command(
    name: str,
    market: Any,
    account: LocalAccount,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ran]:
    """run(*words) -> Ran of `tracemarket name *words` with the account's key."""
    run = command_line(
        market.anvil.url, market.deployment, {"key": account}, tmp_path, monkeypatch, capsys
    )
    return lambda *words: run(name, *words, key="key")
