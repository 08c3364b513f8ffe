"""Calls and blocks as web3 itself would read them, against a node that says what a test wants."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_abi.exceptions import EncodingError
from web3 import Web3
from web3.providers.base import BaseProvider

from marketplace.chain.artifacts import CONTRACTS, MARKET_CONTRACTS, artifact
from marketplace.chain.calls import Function, functions
from marketplace.chain.connection import Connection
from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import MINIMAL
from marketplace.chain.records import Token
from marketplace.chain.rpc import node_errors
from marketplace.protocol.errors import ChainError, Reverted

PLACE = "0x" + "11" * 20
SOMEBODY = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
POINT = {
    "type": "function",
    "name": "point",
    "stateMutability": "view",
    "inputs": [
        {"name": "id", "type": "bytes32"},
        {
            "name": "pairs",
            "type": "tuple[]",
            "components": [{"name": "who", "type": "address"}, {"name": "n", "type": "uint8"}],
        },
    ],
    "outputs": [
        {
            "name": "found",
            "type": "tuple",
            "components": [
                {"name": "who", "type": "address"},
                {"name": "numbers", "type": "uint64[2]"},
                {"name": "text", "type": "string"},
            ],
        },
        {"name": "flag", "type": "bool"},
    ],
}
ARGS = (b"\x07" * 32, [(SOMEBODY, 3), (SOMEBODY, 4)])
TYPES = ["(address,uint64[2],string)", "bool"]


class Node(BaseProvider):
    """Answers eth_call with `fields`, and serves blocks of these timestamps."""

    def __init__(self, times: tuple[int, ...] = (), **fields: Any) -> None:
        super().__init__()
        self.times, self.fields = times, fields
        self.asked: list[tuple[str, Any]] = []

    def make_request(self, method: Any, params: Any) -> Any:
        self.asked.append((method, params))
        if method == "eth_call":
            return {"jsonrpc": "2.0", "id": 1, **self.fields}
        if method == "eth_getLogs":
            return {"jsonrpc": "2.0", "id": 1, "result": []}
        assert method == "eth_getBlockByNumber"
        number = len(self.times) - 1 if params[0] == "latest" else int(params[0], 16)
        if number >= len(self.times):
            return {"jsonrpc": "2.0", "id": 1, "result": None}
        block = {"number": hex(number), "timestamp": hex(self.times[number])}
        block |= {name: "0x" + f"{number:064x}" for name in ("hash", "parentHash")}
        return {"jsonrpc": "2.0", "id": 1, "result": block}


def web3(node: Node) -> Web3:
    w3 = Web3(node)
    w3.middleware_onion.remove("validation")  # as connect() does
    return w3


def read(node: Node, *args: Any) -> Any:
    w3 = web3(node)
    with node_errors(w3):
        return Function(POINT).read(w3, PLACE, args or ARGS)


def test_a_call_says_and_means_what_web3_makes_of_it() -> None:
    answer = encode(TYPES, [(SOMEBODY, (5, 6), "ü"), True])
    node = Node(result="0x" + answer.hex())
    found = read(node)
    assert found == ((SOMEBODY, (5, 6), "ü"), True)  # the address with its checksum
    contract = web3(node).eth.contract(PLACE, abi=[POINT])
    ((_, (call, block)),) = node.asked
    assert (call["to"], block) == (PLACE, "latest")
    assert call["data"] == contract.encode_abi("point", args=list(ARGS))
    found = contract.functions.point(*ARGS).call()
    assert [list(found[0]), found[1]] == [[SOMEBODY, [5, 6], "ü"], True]


@pytest.mark.parametrize("name", CONTRACTS)
def test_no_function_hides_another_of_its_name(name: str) -> None:
    entries = [entry for entry in artifact(name).abi if entry["type"] == "function"]
    assert len(functions(name)) == len(entries)


@pytest.mark.parametrize(
    "args", [(b"short", []), (b"\x07" * 33, []), (b"\x07" * 32, [(SOMEBODY, 256)]), (b"\x07" * 32,)]
)
def test_arguments_that_do_not_fit_are_not_sent(args: tuple[Any, ...]) -> None:
    node = Node(result="0x")
    with pytest.raises((EncodingError, ValueError)):
        read(node, *args)
    assert not node.asked


@pytest.mark.parametrize("result", ["0x", "0x1234", "hello", None, 7, []])
def test_what_is_no_answer_is_a_chain_error(result: object) -> None:
    with pytest.raises(ChainError, match=r"point at 0x1111.* is no answer of it"):
        read(Node(result=result))


def test_a_revert_is_told() -> None:
    paused = "0x08c379a0" + encode(["string"], ["paused"]).hex()
    with pytest.raises(Reverted, match="the contract refused: paused"):
        read(Node(error={"code": 3, "message": "execution reverted", "data": paused}))


# --- blocks by their time ------------------------------------------------------------

TIMES = (10, 20, 20, 20, 30, 40, 50, 50, 60, 70, 71, 72, 90)


def connected(node: Node) -> Connection:
    addresses = {short: "0x" + f"{i:040d}" for i, short in enumerate(MARKET_CONTRACTS, 1)}
    token = Token("0x" + f"{99:040d}", "Test USD", "tUSD", 6, "1")
    deployment = Deployment(31337, 0, addresses, token, MINIMAL.parameters(6), 1)
    return Connection(web3(node), deployment, check=False)


def test_events_between_two_times_are_asked_of_exactly_their_blocks() -> None:
    node = Node(TIMES)
    connection = connected(node)
    for start in range(5, 95, 3):
        assert connection.first_block_after(start) == bisect_right(TIMES, start)
        for end in range(start, 95, 5):
            node.asked.clear()
            list(connection.events_between(start, end, "BatchCommitted", {"batch": 1}))
            first, last = bisect_right(TIMES, start - 1), bisect_right(TIMES, end) - 1
            asked = [params[0] for method, params in node.asked if method == "eth_getLogs"]
            got = [(int(one["fromBlock"], 16), int(one["toBlock"], 16)) for one in asked]
            assert got == ([(first, last)] if first <= last else []), (start, end)


def test_one_time_in_a_long_chain_takes_one_search() -> None:
    node = Node(tuple(range(0, 4096 * 2, 2)))
    list(connected(node).events_between(5000, 5000, "BatchCommitted", {"batch": 1}))
    assert len([method for method, _ in node.asked if method == "eth_getBlockByNumber"]) <= 15
