"""The API's server with its indexer on a real chain: restarts, kills, refusals."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent))

from api_kit import GOOD, TUSD, answer, check_everything, settle

from marketplace.api.app import create_app
from marketplace.api.serve import Service
from marketplace.chain.deployment import save_deployment
from marketplace.chain.reads import MarketReader
from marketplace.indexer.follow import Indexer
from marketplace.indexer.store import IndexStore
from marketplace.protocol.errors import ConfigError, TracemarketError


@contextmanager
def running(market: Any, index: Path, **options: Any) -> Iterator[httpx.Client]:
    """A real server with its indexer; gone afterwards."""
    service = Service(
        index, MarketReader(market.anvil.url, market.deployment), market.deployment,
        port=0, poll_interval=0.02, **options,
    )  # fmt: skip
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=30) as client:
            yield client
    finally:
        service.stop()
        thread.join(timeout=30)
    assert not thread.is_alive()


def caught_up(client: httpx.Client, market: Any) -> None:
    """Poll until the index has the chain's newest block."""
    head = market.reader.head()
    until(lambda: health(client).get("indexed_hash") == "0x" + head.hash.hex())


def health(client: httpx.Client) -> Any:
    try:
        return client.get("/health").json()
    except httpx.TransportError:
        return {}


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def test_a_server_follows_the_chain_and_goes_on_after_a_restart(
    market: Any, accounts: Any, tmp_path: Path
) -> None:
    index, reader = tmp_path / "index.sqlite", market.reader

    def clock() -> float:
        return float(reader.head().timestamp)

    bounty = market.open_bounty()
    with running(market, index, clock=clock) as client:
        caught_up(client, market)
        market.stake_verifiers(5)
        market.open_assignment(bounty)
        batch = market.commit_batch(bounty)
        drawn = market.draw(batch)
        caught_up(client, market)
        assert answer(client.get(f"/batches/{batch}"))["rounds"][0]["phase"] == "committing"
    market.vote(drawn, [GOOD, GOOD, GOOD])  # while nobody indexes
    with running(market, index, clock=clock) as client:
        caught_up(client, market)
        settle(market, batch, GOOD)
        caught_up(client, market)
        check_everything(lambda path: answer(client.get(path)), reader)
        assert answer(client.get(f"/batches/{batch}"))["phase"] == "settled"


_SERVE = """
import sys
from pathlib import Path
from marketplace.api.serve import serve
from marketplace.chain.deployment import load_deployment
from marketplace.chain.reads import MarketReader
url, deployment, index, port = sys.argv[1:]
deployment = load_deployment(Path(deployment))
reader = MarketReader(url, deployment)
serve(Path(index), reader, deployment, port=int(port), poll_interval=0.02)
"""


def test_a_killed_server_goes_on_and_a_terminated_one_ends_well(
    market: Any, tmp_path: Path
) -> None:
    save_deployment(market.deployment, tmp_path / "market.json")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _SERVE, market.anvil.url, str(tmp_path / "market.json")]
    command += [str(tmp_path / "index.sqlite"), str(port)]
    bounty = market.open_bounty()
    market.stake_verifiers(5)
    for end in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                caught_up(client, market)
                # the kill may come before or after it
                market.reader.fund_bounty(market.reader.bounty(bounty), TUSD)
                if end is signal.SIGTERM:
                    caught_up(client, market)
                    check_everything(lambda path: answer(client.get(path)), market.reader)
            process.send_signal(end)
            code = process.wait(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert code == (-signal.SIGKILL if end is signal.SIGKILL else 0)


def test_a_port_in_use_is_named(market: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1 port {port}: Address already in use"):
            Service(tmp_path / "i", market.reader, market.deployment, port=port)


def test_a_failing_indexer_ends_the_server(market: Any, tmp_path: Path) -> None:
    class Broken:
        def head(self) -> Any:
            raise RuntimeError("a bug")

    service = Service(tmp_path / "i", Broken(), market.deployment, port=0)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="a bug"):
        service.run()


def test_an_unreachable_node_leaves_the_old_answers(market: Any, tmp_path: Path) -> None:
    index = tmp_path / "index.sqlite"
    with IndexStore(index, market.deployment) as store:
        Indexer(market.reader, store, clock=lambda: 0).run_once()
        nowhere = MarketReader("http://127.0.0.1:9", market.deployment, check=False)
        with pytest.raises(TracemarketError, match=r"127\.0\.0\.1:9 does not answer"):
            Indexer(nowhere, store, clock=lambda: 0).run_once()
    with TestClient(create_app(index)) as client:
        assert answer(client.get("/health"))["indexed_block"] == market.reader.head().number
