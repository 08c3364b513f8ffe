"""The command line in a test's own folder, against the test's market."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from marketplace.chain.deployment import save_deployment
from marketplace.chain.keystore import create_keystore
from marketplace.cli.main import main


def command(
    name: str,
    market: Any,
    account: LocalAccount,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str, str]]:
    """run(*words) -> (exit code, stdout, stderr) of `tracemarket name *words` with the account's
    key, in tmp_path, whose folder `store` is the store."""
    save_deployment(market.deployment, tmp_path / "deployment.json")
    create_keystore(tmp_path / "key.json", "pass", key=bytes(account.key), iterations=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACEMARKET_RPC", market.anvil.url)
    monkeypatch.setenv("TRACEMARKET_PASSWORD", "pass")
    monkeypatch.setenv("TRACEMARKET_STORE", f"dir:{tmp_path / 'store'}")
    monkeypatch.setenv("COLUMNS", "400")

    def run(*words: object) -> tuple[int, str, str]:
        argv = ["tracemarket", "--keystore", "key.json", name, *map(str, words)]
        monkeypatch.setattr(sys, "argv", argv)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code or 0
        return (code if isinstance(code, int) else 1), captured.out, captured.err

    return run
