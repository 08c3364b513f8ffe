"""The connection to a node that misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from eth_abi.abi import encode

from marketplace.chain.errors import NodeRefused, NodeTimeout, NodeUnreachable
from marketplace.chain.rpc import connect, node_errors, node_name
from marketplace.protocol.errors import ChainError, ConfigError, Reverted


class Server(ThreadingHTTPServer):
    """Answers every request as `answer` says: bytes for the body, an int for an HTTP status,
    None to close the connection, an Event to wait for before closing it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: object = None
        self.methods: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.methods.append(body["method"])
        answer = self.server.answer
        if isinstance(answer, threading.Event):
            answer.wait(20)
        if isinstance(answer, bytes):
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        elif isinstance(answer, int):
            self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def ask(url: str, **options: float) -> None:
    w3 = connect(url, **options)
    with node_errors(w3):
        _ = w3.eth.block_number


PAUSED = "0x08c379a0" + encode(["string"], ["paused"]).hex()


def rpc_answer(**fields: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 0, **fields}).encode()


@pytest.mark.parametrize("url", ["ws://node", "node:8545", "", "file:///etc/passwd", "http://"])
def test_another_kind_of_url_is_refused(url) -> None:
    with pytest.raises(ConfigError, match="RPC URL"):
        connect(url)


def test_a_name_without_secrets() -> None:
    assert node_name(connect("https://user:pass@node.example:8545/v3/KEY?k=KEY")) == (
        "node.example:8545"
    )
    assert node_name(connect("https://node.example/v3/KEY")) == "node.example"


def test_a_lost_connection_is_tried_again_for_reads_and_never_for_sends(server) -> None:
    with pytest.raises(NodeUnreachable, match="does not answer"):
        ask(server.url + "/SECRET")
    assert server.methods == ["eth_blockNumber"] * 3
    server.methods.clear()
    w3 = connect(server.url)
    with pytest.raises(NodeUnreachable), node_errors(w3):
        w3.eth.send_raw_transaction(b"\x01")
    assert server.methods == ["eth_sendRawTransaction"]


def test_an_http_status_is_shown(server) -> None:
    server.answer = 429
    with pytest.raises(NodeRefused, match="HTTP status 429") as caught:
        ask(server.url + "/SECRET")
    assert "SECRET" not in str(caught.value)


def test_a_node_that_says_nothing_runs_into_the_timeout(server) -> None:
    server.answer = threading.Event()
    try:
        with pytest.raises(NodeTimeout, match="in time"):
            ask(server.url, timeout=0.05)
    finally:
        server.answer.set()


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"{}"])
def test_what_is_no_json_rpc_is_a_chain_error(server, body) -> None:
    server.answer = body
    with pytest.raises(ChainError, match=r"127\.0\.0\.1"):
        ask(server.url)


def test_an_error_of_the_node_is_shown_in_its_words(server) -> None:
    server.answer = rpc_answer(error={"code": -32000, "message": "header not found"})
    with pytest.raises(NodeRefused, match="refused: header not found"):
        ask(server.url)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"data": "0x"}, "without saying why"),
        ({"data": None}, "without saying why"),
        ({"data": "0xdeadbeef"}, "0xdeadbeef"),
        ({"data": {"data": "0xdeadbeef"}}, "0xdeadbeef"),
        ({"data": "Reverted " + PAUSED}, "the contract refused: paused"),
    ],
)
def test_reverts_in_the_forms_of_different_nodes(server, error, said) -> None:
    server.answer = rpc_answer(error={"code": 3, "message": "execution reverted", **error})
    w3 = connect(server.url)
    with pytest.raises(Reverted, match=said), node_errors(w3):
        w3.eth.call({"to": "0x" + "11" * 20})
    assert server.methods == ["eth_call"]
