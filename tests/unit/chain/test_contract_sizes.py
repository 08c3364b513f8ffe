"""Runtime bytes of every contract, exact, against contracts/snapshots/sizes.json; `make snapshots`
writes the file."""

from __future__ import annotations

import json
import os

import pytest

from marketplace.chain.artifacts import MARKET_CONTRACTS
from marketplace.chain.generate_abi import COMPILED, PROJECT

FILE = PROJECT / "contracts" / "snapshots" / "sizes.json"
LIMIT = 24_576
"""Bytes of code that a chain accepts (EIP-170)."""


def runtime_bytes(name: str) -> int:
    (file,) = (COMPILED / "contracts" / "src").glob(f"**/{name}.sol/{name}.json")
    code = json.loads(file.read_text("utf-8"))["deployedBytecode"]
    return len(bytes.fromhex(code.removeprefix("0x")))


@pytest.mark.skipif(
    not (COMPILED / "build-info").exists(), reason="contracts are not compiled (make setup)"
)
def test_contracts_are_as_large_as_recorded_and_fit_a_chain():
    sizes = {name: runtime_bytes(name) for name in sorted(MARKET_CONTRACTS.values())}
    if os.environ.get("UPDATE_SNAPSHOTS") == "true":
        FILE.write_text(json.dumps(sizes, indent=2) + "\n", "utf-8")
    assert sizes == json.loads(FILE.read_text("utf-8")), "make snapshots, and look at the change"
    assert {name: size for name, size in sizes.items() if size >= LIMIT} == {}
