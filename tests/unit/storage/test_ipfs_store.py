"""The IPFS store against a daemon that lies, stalls, trickles, breaks off or is not there.

In the daemon's place stands a small HTTP server that answers what a test tells it.
tests/integration/test_ipfs_daemon.py has a real daemon.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from marketplace.protocol.errors import (
    ContentCorrupt,
    ContentTooLarge,
    ContentUnavailable,
    StorageError,
)
from marketplace.storage.cid import Cid
from marketplace.storage.ipfs import IpfsStore
from marketplace.storage.unixfs import CHUNK_BYTES, cid_of_bytes

pytestmark = pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning")

Answer = Callable[[BaseHTTPRequestHandler], None]

SMALL = b"some content"
LARGE = os.urandom(3 * CHUNK_BYTES)
PATIENCE = 30.0
"""Seconds for reads that are answered at once."""


@dataclass(slots=True)
class FakeDaemon:
    """answers: by API command, what writes the answer to a request of it.
    requests: (command, options) as they came. closing: set when the test is over."""

    address: str
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            command = parts.path.removeprefix("/api/v0/")
            fake.requests.append((command, parse_qs(parts.query)))
            drain(self)
            self.close_connection = True
            # Raised when the client had enough.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                fake.answers[command](self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake = FakeDaemon(f"/ip4/127.0.0.1/tcp/{server.server_port}/http")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield fake
        finally:
            fake.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def store(daemon: FakeDaemon) -> IpfsStore:
    return IpfsStore(daemon.address)


def drain(handler: BaseHTTPRequestHandler) -> None:
    """Read the request's body: a client gets to the answer only after sending it."""
    if handler.headers.get("Transfer-Encoding") == "chunked":
        while size := int(handler.rfile.readline(), 16):
            handler.rfile.read(size + 2)
        handler.rfile.readline()
    else:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))


def sends(body: bytes, status: int = 200, claimed: int | None = None) -> Answer:
    """An answer with this body. claimed: the length in its header, if that is a lie."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def fails(message: str, status: int = 500) -> Answer:
    """An error as daemons word it."""
    body = {"Message": message, "Code": 0, "Type": "error"}
    return sends(json.dumps(body).encode(), status)


def never(daemon: FakeDaemon) -> Answer:
    """No answer at all, on an open connection."""
    return lambda handler: not daemon.closing.wait() and None


def trickles(daemon: FakeDaemon) -> Answer:
    """A byte now and then, for ever."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**9))
        handler.end_headers()
        while not daemon.closing.wait(0.02):
            handler.wfile.write(b"x")

    return answer


@pytest.mark.parametrize("data", [b"", SMALL, LARGE])
def test_right_bytes_are_accepted(
    daemon: FakeDaemon, store: IpfsStore, data: bytes, tmp_path: Path
) -> None:
    daemon.answers["cat"] = sends(data)
    cid = cid_of_bytes(data)
    assert store.get(cid, timeout=PATIENCE, max_bytes=len(data)) == data
    store.get_file(cid, tmp_path / "copy", timeout=PATIENCE)
    assert (tmp_path / "copy").read_bytes() == data
    command, options = daemon.requests[0]
    assert (command, options["arg"]) == ("cat", [str(cid)])
    assert options["length"] == [str(len(data) + 1)]
    assert options["timeout"][0].endswith("s")


@pytest.mark.parametrize("data", [SMALL, LARGE])
def test_wrong_bytes_are_corrupt(
    daemon: FakeDaemon, store: IpfsStore, data: bytes, tmp_path: Path
) -> None:
    cid = cid_of_bytes(data)
    flipped = bytes([data[0] ^ 1]) + data[1:]
    for wrong in (flipped, data[:-1], data + b"\0", b""):
        daemon.answers["cat"] = sends(wrong)
        with pytest.raises(ContentCorrupt) as caught:
            store.get(cid, timeout=PATIENCE)
        assert str(cid) in str(caught.value)
        assert daemon.address in str(caught.value)
    with pytest.raises(ContentCorrupt):
        store.get_file(cid, tmp_path / "copy", timeout=PATIENCE)
    assert list(tmp_path.iterdir()) == []


def test_a_daemon_that_never_answers_is_a_timeout(daemon: FakeDaemon, store: IpfsStore) -> None:
    daemon.answers["cat"] = never(daemon)
    with pytest.raises(ContentUnavailable, match=r"within 0\.5 s .*timeout"):
        store.get(cid_of_bytes(SMALL), timeout=0)


def test_a_daemon_that_trickles_does_not_hold_us(daemon: FakeDaemon, store: IpfsStore) -> None:
    daemon.answers["cat"] = trickles(daemon)
    with pytest.raises(ContentUnavailable, match="timeout"):
        store.get(cid_of_bytes(LARGE), timeout=0)


def test_a_broken_off_answer_is_unavailable_and_not_corrupt(
    daemon: FakeDaemon, store: IpfsStore
) -> None:
    daemon.answers["cat"] = sends(LARGE[:1000], claimed=len(LARGE))
    with pytest.raises(ContentUnavailable, match=r"broke off .* after 1,000 bytes"):
        store.get(cid_of_bytes(LARGE), timeout=PATIENCE)


def test_reading_stops_at_the_limit(daemon: FakeDaemon, store: IpfsStore, tmp_path: Path) -> None:
    # A daemon that ignores the length it was asked for: only the start of it arrives.
    daemon.answers["cat"] = sends(LARGE, claimed=10**12)
    cid = cid_of_bytes(LARGE)
    with pytest.raises(ContentTooLarge, match=r"1,000 are allowed"):
        store.get(cid, timeout=PATIENCE, max_bytes=1000)
    with pytest.raises(ContentTooLarge):
        store.get_file(cid, tmp_path / "copy", timeout=PATIENCE, max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_too_much_for_a_raw_address_is_corrupt_before_it_ends(
    daemon: FakeDaemon, store: IpfsStore
) -> None:
    daemon.answers["cat"] = sends(LARGE, claimed=10**12)
    with pytest.raises(ContentCorrupt, match="too many for raw content"):
        store.get(cid_of_bytes(SMALL), timeout=PATIENCE)


def test_an_offline_daemon_is_asked_again_until_it_has_the_content(daemon: FakeDaemon) -> None:
    waits: list[float] = []
    store = IpfsStore(daemon.address, wait=waits.append)
    missing = fails("block was not found locally (offline)")
    answers = itertools.chain([missing, missing], itertools.repeat(sends(SMALL)))
    daemon.answers["cat"] = lambda handler: next(answers)(handler)
    assert store.get(cid_of_bytes(SMALL), timeout=PATIENCE) == SMALL
    assert len(waits) == 2


def test_content_that_nobody_has_is_unavailable_when_the_timeout_is_over(
    daemon: FakeDaemon,
) -> None:
    seconds = [0.0]
    store = IpfsStore(
        daemon.address,
        clock=lambda: seconds[0],
        wait=lambda pause: seconds.__setitem__(0, seconds[0] + pause),
    )
    daemon.answers["cat"] = fails("could not find QmNobody")
    with pytest.raises(ContentUnavailable, match=r"nobody .* within 2 s .*could not find QmNobody"):
        store.get(cid_of_bytes(SMALL), timeout=2)
    assert seconds[0] == pytest.approx(2)


def test_another_server_in_the_place_of_the_api_is_named(
    daemon: FakeDaemon, store: IpfsStore
) -> None:
    daemon.answers["cat"] = sends(b"404 page not found", status=404)
    with pytest.raises(ContentUnavailable, match=r"404 page not found.*not of its gateway"):
        store.get(cid_of_bytes(SMALL), timeout=PATIENCE)


@pytest.fixture
def down() -> IpfsStore:
    """A store whose daemon does not run."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return IpfsStore(f"/ip4/127.0.0.1/tcp/{unused.getsockname()[1]}/http")


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.put(SMALL),
        lambda store: store.get(cid_of_bytes(SMALL), timeout=PATIENCE),
        lambda store: store.has(cid_of_bytes(SMALL)),
    ],
    ids=["put", "get", "has"],
)
def test_a_daemon_that_is_down_is_named_with_the_fix(
    down: IpfsStore, call: Callable[[IpfsStore], object]
) -> None:
    with pytest.raises(ContentUnavailable) as caught:
        call(down)
    assert "/ip4/127.0.0.1/tcp/" in str(caught.value)
    assert "does not connect" in str(caught.value)
    assert "ipfs daemon" in str(caught.value)


def adds_as(cid: str) -> Answer:
    return sends(json.dumps({"Name": "file", "Hash": cid, "Size": "1"}).encode() + b"\n")


def test_putting_asks_for_the_layout_that_gives_our_address(
    daemon: FakeDaemon, store: IpfsStore, tmp_path: Path
) -> None:
    cid = cid_of_bytes(LARGE)
    daemon.answers["add"] = adds_as(str(cid))
    assert store.put(LARGE) == cid
    (tmp_path / "file").write_bytes(LARGE)
    assert store.put_file(tmp_path / "file") == cid
    for command, options in daemon.requests:
        assert command == "add"
        asked = {name: values[0].lower() for name, values in options.items()}
        assert asked["cid-version"] == "1"
        assert asked["raw-leaves"] == "true"
        assert asked["chunker"] == "size-262144"
        assert asked["max-file-links"] == "174"
        assert asked["pin"] == "true"


def test_a_daemon_that_answers_in_base58_is_understood(
    daemon: FakeDaemon, store: IpfsStore
) -> None:
    import multiformats

    cid = cid_of_bytes(LARGE)
    daemon.answers["add"] = adds_as(
        multiformats.CID.decode(str(cid)).set(base="base58btc").encode()
    )
    assert store.put(LARGE) == cid


def test_a_daemon_that_adds_something_else_is_an_error(
    daemon: FakeDaemon, store: IpfsStore
) -> None:
    other = str(cid_of_bytes(b"other"))
    daemon.answers["add"] = adds_as(other)
    with pytest.raises(StorageError, match=other):
        store.put(SMALL)


@pytest.mark.parametrize("answer", [b"not json", b"{}", b'{"Hash": 7}', b""])
def test_a_nonsense_answer_to_an_add_is_an_error(
    daemon: FakeDaemon, store: IpfsStore, answer: bytes
) -> None:
    daemon.answers["add"] = sends(answer)
    with pytest.raises(StorageError):
        store.put(SMALL)


def test_a_daemon_that_refuses_to_add_is_an_error(daemon: FakeDaemon, store: IpfsStore) -> None:
    daemon.answers["add"] = fails("no space left on device")
    with pytest.raises(StorageError, match="no space left on device"):
        store.put(SMALL)


def test_an_add_that_is_broken_off_is_unavailable(
    daemon: FakeDaemon, store: IpfsStore, tmp_path: Path
) -> None:
    daemon.answers["add"] = sends(b'{"Name"', claimed=100)
    with pytest.raises(ContentUnavailable, match="IPFS daemon"):
        store.put(SMALL)
    (tmp_path / "file").write_bytes(SMALL)
    with pytest.raises(ContentUnavailable, match="IPFS daemon"):
        store.put_file(tmp_path / "file")


def test_adding_has_a_limit_in_time(daemon: FakeDaemon) -> None:
    daemon.answers["add"] = never(daemon)
    with pytest.raises(ContentUnavailable, match="in time"):
        IpfsStore(daemon.address, add_seconds=0.2).put(SMALL)


def test_an_unreadable_source_is_named(store: IpfsStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no-such-file"):
        store.put_file(tmp_path / "no-such-file")


def pins(cid: Cid) -> Answer:
    return sends(json.dumps({"Keys": {str(cid): {"Type": "recursive"}}}).encode())


def test_has_asks_for_pins(daemon: FakeDaemon, store: IpfsStore) -> None:
    cid = cid_of_bytes(SMALL)
    daemon.answers["pin/ls"] = pins(cid)
    assert store.has(cid)
    daemon.answers["pin/ls"] = fails(f"path '{cid}' is not pinned")
    assert not store.has(cid)
    daemon.answers["pin/ls"] = fails("the disk is on fire")
    with pytest.raises(StorageError, match="the disk is on fire"):
        store.has(cid)


def test_has_does_not_hang(
    daemon: FakeDaemon, store: IpfsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marketplace.storage.ipfs.QUICK_SECONDS", 0.2)
    daemon.answers["pin/ls"] = never(daemon)
    with pytest.raises(ContentUnavailable, match="in time"):
        store.has(cid_of_bytes(SMALL))
