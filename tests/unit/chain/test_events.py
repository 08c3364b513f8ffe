"""Paging and decoding of logs, against a node that refuses what real ones refuse."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from web3 import Web3
from web3.providers.base import BaseProvider

from marketplace.chain.artifacts import MARKET_CONTRACTS, artifact
from marketplace.chain.deployment import Deployment
from marketplace.chain.errors import NodeRefused
from marketplace.chain.events import EventDecoder, read_events
from marketplace.chain.parameters import MINIMAL
from marketplace.chain.records import Token
from marketplace.protocol.errors import InvalidValue

ADDRESSES = {s: "0x" + f"{i:040d}" for i, s in enumerate(MARKET_CONTRACTS, 1)}
TOKEN = Token("0x" + f"{99:040d}", "Test USD", "tUSD", 6, "1")
DEPLOYMENT = Deployment(31337, 0, ADDRESSES, TOKEN, MINIMAL.parameters(6), 1)
DECODER = EventDecoder(DEPLOYMENT)
SOMEBODY = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
FUNDED = Web3.keccak(text="BountyFunded(uint64,address,uint256)")


def funded(block: int, index: int, bounty: int, amount: int) -> dict:
    return {
        "address": ADDRESSES["escrow"],
        "topics": [
            FUNDED.to_0x_hex(),
            "0x" + encode(["uint64"], [bounty]).hex(),
            "0x" + encode(["address"], [SOMEBODY]).hex(),
        ],
        "data": "0x" + encode(["uint256"], [amount]).hex(),
        "blockNumber": hex(block),
        "blockHash": "0x" + f"{block:064x}",
        "transactionHash": "0x" + f"{index:064x}",
        "transactionIndex": "0x0",
        "logIndex": hex(index),
        "removed": False,
    }


class Node(BaseProvider):
    """Serves logs by block; refuses ranges over `limit` blocks and answers over `most` logs."""

    def __init__(self, logs, limit=10**9, most=10**9):
        super().__init__()
        self.logs, self.limit, self.most = logs, limit, most
        self.asked: list[tuple[int, int]] = []
        self.queries: list[dict] = []

    def make_request(self, method, params):
        assert method == "eth_getLogs"
        query = params[0]
        self.queries.append(query)
        start, end = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        self.asked.append((start, end))
        found = [log for log in self.logs if start <= int(log["blockNumber"], 16) <= end]
        if end - start + 1 > self.limit or len(found) > self.most:
            error = {"code": -32005, "message": "query returned more than 10000 results"}
            return {"jsonrpc": "2.0", "id": 1, "error": error}
        return {"jsonrpc": "2.0", "id": 1, "result": found}


LOGS = [funded(block, block, bounty=1 + block % 3, amount=block) for block in range(0, 40, 2)]


def read(node, start=0, end=39, **options):
    return list(read_events(Web3(node), DEPLOYMENT, DECODER, start, end, **options))


def test_a_log_becomes_an_event() -> None:
    (event,) = read(Node(LOGS), 4, 5)
    assert (event.name, event.contract) == ("BountyFunded", "escrow")
    assert event.args == {"bounty": 2, "from": SOMEBODY, "amount": 4}
    assert (event.block, event.log_index) == (4, 4)
    assert event.block_hash == (4).to_bytes(32, "big")
    assert event.tx_hash == (4).to_bytes(32, "big")


@pytest.mark.parametrize("page", [1, 3, 7, 40, 5000])
@pytest.mark.parametrize("limit", [1, 2, 5, 39, 10**9])
@pytest.mark.parametrize("most", [1, 10**9])
def test_pages_shrink_until_the_node_accepts_and_nothing_is_lost(page, limit, most) -> None:
    events = read(Node(LOGS, limit, most), page=page)
    assert [event.block for event in events] == list(range(0, 40, 2))


def test_pages_grow_again_but_never_over_the_first() -> None:
    crowded = [funded(1, index, 1, 1) for index in range(5)]
    node = Node([*crowded, funded(2, 9, 1, 1)], most=5)
    assert len(read(node, 0, 100, page=16)) == 6
    sizes = [end - start + 1 for start, end in node.asked]
    assert max(sizes) == 16
    assert sizes[-2] == 16


def test_a_node_that_refuses_one_block_is_an_error() -> None:
    with pytest.raises(NodeRefused, match="more than 10000"):
        read(Node(LOGS, limit=0))


def test_an_empty_range_asks_nothing() -> None:
    node = Node(LOGS)
    assert read(node, 5, 4) == []
    assert node.asked == []


def test_events_come_in_chain_order() -> None:
    mixed = [funded(3, 7, 1, 1), funded(2, 9, 1, 1), funded(3, 6, 1, 1)]
    assert [(e.block, e.log_index) for e in read(Node(mixed))] == [(2, 9), (3, 6), (3, 7)]


def test_names_and_arguments_become_topics() -> None:
    node = Node(LOGS)
    read(node, names=["BountyFunded"], where={"bounty": 7})
    topics = node.queries[0]["topics"]
    assert topics[0] == [FUNDED.to_0x_hex()]
    assert topics[1] == "0x" + encode(["uint64"], [7]).hex()
    assert topics[2] is None
    assert set(node.queries[0]["address"]) == set(ADDRESSES.values())


@pytest.mark.parametrize(
    ("names", "where", "said"),
    [
        (["Nonsense"], None, "Nonsense"),
        (["Transfer"], None, "Transfer"),
        (["BountyFunded"], {"amount": 1}, "no indexed argument 'amount'"),
        (["BountyFunded"], {"bounty": -1}, "-1"),
        (["BountyFunded"], {"bounty": "x"}, "'x'"),
        (["BountyFunded", "BountyRefunded"], {"bounty": 1}, "2 events"),
        (None, {"bounty": 1}, "by argument"),
    ],
)
def test_a_filter_that_can_match_nothing_is_refused(names, where, said) -> None:
    with pytest.raises(InvalidValue, match=said):
        read(Node(LOGS), names=names, where=where)


def test_what_is_none_of_ours_is_skipped() -> None:
    log = Web3(Node([funded(1, 1, 1, 1)])).eth.get_logs({"fromBlock": 0, "toBlock": 5})[0]
    assert DECODER.decode(log) is not None
    assert DECODER.decode({**log, "address": "0x" + "77" * 20}) is None
    assert DECODER.decode({**log, "topics": []}) is None
    assert DECODER.decode({**log, "topics": log["topics"][:2]}) is None
    assert DECODER.decode({**log, "data": b""}) is None


def test_every_event_of_the_contracts_is_known() -> None:
    for short, contract in MARKET_CONTRACTS.items():
        for entry in artifact(contract).abi:
            if entry["type"] == "event":
                assert any(kind.contract == short for kind in DECODER._by_name[entry["name"]]), (
                    entry["name"]
                )
