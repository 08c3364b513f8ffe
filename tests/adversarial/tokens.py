"""Markets whose stablecoin is odd (tests/solidity/tokens/OddTokens.sol)."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

from arena import TUSD, Arena
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from marketplace.protocol.hashing import keccak

_ROOT: Final = Path(__file__).parents[2]
_SOURCE: Final = _ROOT / "tests" / "solidity" / "tokens" / "OddTokens.sol"
_KINDS: Final = (
    "FeeToken",
    "SilentToken",
    "FalseToken",
    "LyingToken",
    "BlockingToken",
    "RebasingToken",
    "CallbackToken",
)
_COMPILE: Final = """
const solc = require("solc");
const sources = JSON.parse(require("fs").readFileSync(0, "utf8"));
const outputSelection = { "*": { "*": ["evm.bytecode.object"] } };
const settings = { outputSelection, evmVersion: "cancun" };
process.stdout.write(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
"""
_NAMED: Final = """
contract Named%(kind)s is %(kind)s {
    string public constant name = "Odd USD";
    string public constant symbol = "oUSD";
    uint8 public constant decimals = 6;
}
"""


@cache
def _compiled() -> dict[str, str]:
    """Creation code by contract name."""
    named = "".join(_NAMED % {"kind": kind} for kind in _KINDS)
    head = 'pragma solidity ^0.8.0;\nimport "odd.sol";\n'
    sources = {
        "odd.sol": {"content": _SOURCE.read_text("utf-8")},
        "named.sol": {"content": head + named},
    }
    done = subprocess.run(
        ["node", "-e", _COMPILE],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        check=True,
        cwd=_ROOT,
    )
    output = json.loads(done.stdout)
    wrong = [one for one in output.get("errors", ()) if one["severity"] == "error"]
    if wrong:
        raise RuntimeError(wrong[0]["formattedMessage"])
    return {
        name: contract["evm"]["bytecode"]["object"]
        for file in output["contracts"].values()
        for name, contract in file.items()
    }


def create(arena: Arena, contract: str) -> str:
    """The address of a new contract of OddTokens.sol."""
    call = {"from": arena.node.accounts[0].address, "data": "0x" + _compiled()[contract]}
    tx = arena.node.rpc("eth_sendTransaction", call | {"gas": hex(10_000_000)})
    return str(to_checksum_address(arena._receipt(tx)["contractAddress"]))


def odd_market(arena: Arena, kind: str) -> Arena:
    """Another market on the same chain, with such a token; the next reset takes it back."""
    token = create(arena, f"Named{kind}")
    return Arena(arena.node, token=token, verifiers=16, stake=300 * TUSD)


def command(arena: Arena, target: str, signature: str, *args: Any) -> None:
    """A call that the market's interface does not know."""
    call = {
        "from": arena.address("issuer"),
        "to": target,
        "data": "0x" + calldata(signature, *args).hex(),
        "gas": hex(10_000_000),
    }
    receipt = arena._receipt(arena.node.rpc("eth_sendTransaction", call))
    if int(receipt["status"], 16) != 1:
        raise AssertionError(f"{signature} failed")


def calldata(signature: str, *args: Any) -> bytes:
    types = signature.partition("(")[2].rstrip(")")
    return keccak(signature.encode())[:4] + encode(types.split(",") if types else [], list(args))
