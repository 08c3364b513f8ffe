"""The recorded drand rounds, and a local relay that serves them as drand's HTTP API does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from marketplace.protocol.beacons import EVMNET

_VECTORS = json.loads(
    (Path(__file__).parents[1] / "vectors" / "drand_evmnet.json").read_text("utf-8")
)
RECORDED: dict[int, bytes] = {
    row["round"]: bytes.fromhex(row["signature"][2:])
    for row in _VECTORS["rounds"]
    if row["network"] == "evmnet"
}
VALUES: dict[int, bytes] = {
    row["round"]: bytes.fromhex(row["value"][2:])
    for row in _VECTORS["rounds"]
    if row["network"] == "evmnet"
}
"""What the contract keeps of a round."""


class Relay:
    """What it serves can be changed. rounds: signatures by round. asked: the rounds that were
    asked for. raw: a body that takes the place of every answer. slow: seconds before an answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rounds: dict[int, bytes] = {}
        self.asked: list[int] = []
        self.raw: bytes | None = None
        self.slow = 0.0

    def answer(self, path: str) -> tuple[int, bytes]:
        head, _, number = path.rpartition("/")
        if head != f"/{EVMNET.chain_hash[2:]}/public" or not number.isdigit():
            return 404, b"{}"
        self.asked.append(int(number))
        time.sleep(self.slow)
        if self.raw is not None:
            return 200, self.raw
        signature = self.rounds.get(int(number))
        if signature is None:
            return 404, b""
        body = {
            "round": int(number),
            "randomness": hashlib.sha256(signature).hexdigest(),
            "signature": signature.hex(),
        }
        return 200, json.dumps(body).encode()


@contextmanager
def relay(rounds: dict[int, bytes]) -> Iterator[Relay]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = served.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # whoever asked went away
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Relay(f"http://127.0.0.1:{server.server_port}")
    served.rounds = dict(rounds)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
