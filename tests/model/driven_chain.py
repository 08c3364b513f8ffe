"""A real chain that is driven block by block: every transaction gets a block at a chosen second.

Calls and transactions are encoded from the committed interfaces (marketplace/chain/abi) and sent
raw, all reads of one step in one JSON-RPC batch. The senders are Anvil's published accounts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak

from marketplace.chain.anvil import AnvilNode
from marketplace.chain.artifacts import MARKET_CONTRACTS, TOKEN_CONTRACT, artifact
from marketplace.chain.deploying import deploy
from marketplace.chain.parameters import Preset

GAS = 12_000_000

Call = tuple[str, str, Sequence[Any]]
"""Contract (short name), function, arguments."""


@dataclass(frozen=True)
class Function:
    selector: bytes
    takes: list[str]
    gives: list[str]


@dataclass
class Known:
    """A read and its last answer: most don't change from step to step, and decoding is slow."""

    data: str
    raw: str = ""
    value: Any = None


class Interface:
    """A contract's functions by name; none of those used here is overloaded."""

    def __init__(self, contract: str) -> None:
        self.functions: dict[str, Function] = {}
        self.errors: dict[bytes, str] = {}
        for entry in artifact(contract).abi:
            if entry["type"] not in ("function", "error"):
                continue
            takes = [_canonical(one) for one in entry["inputs"]]
            selector = keccak(f"{entry['name']}({','.join(takes)})".encode())[:4]
            if entry["type"] == "error":
                self.errors[selector] = entry["name"]
            else:
                gives = [_canonical(one) for one in entry["outputs"]]
                self.functions[entry["name"]] = Function(selector, takes, gives)


def _canonical(parameter: dict[str, Any]) -> str:
    kind: str = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_canonical(one) for one in parameter["components"])
    return f"({inner}){kind[5:]}"


class DrivenChain:
    """A market on its own Anvil, in which every step's block and time are known."""

    def __init__(self, node: AnvilNode, preset: Preset, timeout: float = 60.0) -> None:
        self.node = node
        self.deployment = deploy(node.url, node.accounts[0], preset, timeout=timeout)
        contracts = {**MARKET_CONTRACTS, "token": TOKEN_CONTRACT}
        self.addresses = {
            **{short: self.deployment.address(short) for short in MARKET_CONTRACTS},
            "token": self.deployment.token.address,
        }
        self._interfaces = {short: Interface(name) for short, name in contracts.items()}
        self._errors = {k: v for one in self._interfaces.values() for k, v in one.errors.items()}
        for library in ("ERC20InsufficientBalance(address,uint256,uint256)",):
            self._errors[keccak(library.encode())[:4]] = library.split("(")[0]
        self._http = HTTPConnection(node.url.removeprefix("http://"), timeout=timeout)
        self.hashes: dict[int, bytes] = {}
        self._known: dict[tuple[Any, ...], Known] = {}
        self.number, self.time = self._head()
        # From here on the chain's clock is ours, not the machine's.
        node.set_automine(False)
        self.advance(1_000)

    def close(self) -> None:
        self._http.close()

    # --- blocks ----------------------------------------------------------------------

    def advance(self, seconds: int, blocks: int = 1) -> None:
        """Mine empty blocks, the first after `seconds`, the rest a second apart."""
        self._rpc("evm_mine", {"timestamp": self.time + seconds})
        if blocks > 1:
            self._rpc("anvil_mine", hex(blocks - 1), "0x1")
        self.number, self.time = self._head()

    def snapshot(self) -> tuple[str, int, int]:
        return self.node.snapshot(), self.number, self.time

    def revert(self, snapshot: tuple[str, int, int]) -> None:
        self.node.revert(snapshot[0])
        _, self.number, self.time = snapshot
        self.hashes = {n: one for n, one in self.hashes.items() if n <= self.number}

    def blockhash(self, number: int) -> bytes:
        if number not in self.hashes:
            found = self._rpc("eth_getBlockByNumber", hex(number), False)
            self.hashes[number] = bytes.fromhex(found["hash"][2:])
        return self.hashes[number]

    # --- transactions and reads ------------------------------------------------------

    def send(self, who: str, call: Call, seconds: int = 1) -> str | None:
        """Mine one transaction `seconds` after the last block; its custom error, or None."""
        transaction = {
            "from": who,
            "to": self.addresses[call[0]],
            "data": self._data(call),
            "gas": hex(GAS),
        }
        digest = self._rpc("eth_sendTransaction", transaction)
        self._rpc("evm_mine", {"timestamp": self.time + seconds})
        receipt = self._rpc("eth_getTransactionReceipt", digest)
        self.number, self.time = int(receipt["blockNumber"], 16), self.time + seconds
        if receipt["status"] == "0x1":
            return None
        trace = self._rpc("debug_traceTransaction", digest, {"tracer": "callTracer"})
        output = bytes.fromhex(trace.get("output", "0x")[2:])
        return self._errors.get(output[:4], f"{trace.get('error')}: 0x{output.hex()[:200]}")

    def read(self, calls: Sequence[Call]) -> list[Any]:
        """The results at the last block; one value bare, several as a tuple."""
        known = [self._read_before(call) for call in calls]
        body = [
            {
                "jsonrpc": "2.0",
                "id": place,
                "method": "eth_call",
                "params": [{"to": self.addresses[call[0]], "data": before.data}, "latest"],
            }
            for place, (call, before) in enumerate(zip(calls, known, strict=True))
        ]
        for answer in self._post(body):
            call, before = calls[answer["id"]], known[answer["id"]]
            if "error" in answer:
                raise AssertionError(f"{call} gave {answer['error']}")
            if answer["result"] != before.raw:
                gives = self._interfaces[call[0]].functions[call[1]].gives
                values = decode(gives, bytes.fromhex(answer["result"][2:]))
                before.raw = answer["result"]
                before.value = values[0] if len(values) == 1 else values
        return [before.value for before in known]

    def _read_before(self, call: Call) -> Known:
        key = (call[0], call[1], *call[2])
        if key not in self._known:
            self._known[key] = Known(self._data(call))
        return self._known[key]

    def _rpc(self, method: str, *params: Any) -> Any:
        answer = self._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        if "error" in answer:
            raise AssertionError(f"Anvil refused {method}: {answer['error']}")
        return answer["result"]

    def _post(self, body: Any) -> Any:
        """Plain HTTP on one connection: a general client costs more than the node's answer."""
        headers = {"Content-Type": "application/json"}
        self._http.request("POST", "/", json.dumps(body), headers)
        return json.loads(self._http.getresponse().read())

    def _data(self, call: Call) -> str:
        function = self._interfaces[call[0]].functions[call[1]]
        return "0x" + (function.selector + encode(function.takes, call[2])).hex()

    def _head(self) -> tuple[int, int]:
        block = self._rpc("eth_getBlockByNumber", "latest", False)
        return int(block["number"], 16), int(block["timestamp"], 16)
