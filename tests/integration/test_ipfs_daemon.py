"""The IPFS store and our CIDs against a real daemon. `make test-ipfs` runs these.

The daemon (npm `ipfs`, see tests/ipfs/daemon.py) takes minutes to install and 290 MB, so
plain `make test` skips this file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import ipfshttpclient
import pytest

from marketplace.protocol.errors import ContentTooLarge, ContentUnavailable
from marketplace.storage import unixfs
from marketplace.storage.cid import Cid
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.ipfs import IpfsStore
from marketplace.storage.store import open_store
from marketplace.storage.unixfs import CHUNK_BYTES, WIDTH, cid_of_bytes

pytestmark = [
    pytest.mark.ipfs,
    pytest.mark.skipif(
        os.environ.get("TRACEMARKET_IPFS") != "1",
        reason="needs a real IPFS daemon: make test-ipfs (sets TRACEMARKET_IPFS=1)",
    ),
    pytest.mark.filterwarnings("ignore:The 'strict' parameter:FutureWarning"),
]

PATIENCE = 60.0
"""Seconds for reads of what the daemon has."""

SIZES = [
    0,
    1,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    5_000_000,
    WIDTH * CHUNK_BYTES,
    WIDTH * CHUNK_BYTES + 1,
    100_000_000,
]


def content(size: int) -> bytes:
    """`size` bytes in which no chunk is like another."""
    return hashlib.shake_256(b"tracemarket").digest(size)


def starter() -> ModuleType:
    path = Path(__file__).parent.parent / "ipfs" / "daemon.py"
    spec = importlib.util.spec_from_file_location("tracemarket_test_ipfs_daemon", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with starter().running_daemon() as multiaddr:
        yield multiaddr


@pytest.fixture
def store(address: str) -> IpfsStore:
    return IpfsStore(address)


@pytest.fixture
def client(address: str) -> ipfshttpclient.Client:
    """The daemon itself, past our store."""
    return ipfshttpclient.Client(address)


def plain_add(client: ipfshttpclient.Client, data: bytes, **options: str) -> Cid:
    """What the daemon makes of `data` when asked for nothing but version 1."""
    reply = client.add(io.BytesIO(data), cid_version=1, raw_leaves=True, opts=options)
    return Cid.parse(reply["Hash"])


@pytest.mark.parametrize("size", SIZES)
def test_our_cid_is_the_daemons(client: ipfshttpclient.Client, size: int) -> None:
    data = content(size)
    assert plain_add(client, data) == cid_of_bytes(data)


def test_our_cid_of_three_levels_is_the_daemons(
    client: ipfshttpclient.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With the real chunks that would be 8 GB.
    monkeypatch.setattr(unixfs, "CHUNK_BYTES", 64)
    data = content(64 * WIDTH * WIDTH + 1)
    reply = client.add(
        io.BytesIO(data),
        cid_version=1,
        raw_leaves=True,
        chunker="size-64",
        only_hash=True,
        pin=False,
    )
    assert Cid.parse(reply["Hash"]) == cid_of_bytes(data)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5_000_000])
def test_what_is_put_comes_back(store: IpfsStore, size: int) -> None:
    data = content(size)
    cid = store.put(data)
    assert cid == cid_of_bytes(data)
    assert store.get(cid, timeout=PATIENCE, max_bytes=size) == data


def test_files_travel_between_the_stores(address: str, tmp_path: Path) -> None:
    daemon, embedded = open_store(f"ipfs:{address}"), open_store(f"dir:{tmp_path}/store")
    assert isinstance(embedded, EmbeddedStore)
    data = content(WIDTH * CHUNK_BYTES + 12_345)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    first.write_bytes(data)
    cid = embedded.put_file(first)
    embedded.get_file(cid, second, timeout=0)
    assert daemon.put_file(second) == cid
    daemon.get_file(cid, third, timeout=PATIENCE, max_bytes=len(data))
    assert third.read_bytes() == data


def test_what_is_put_is_pinned_and_survives_garbage_collection(
    store: IpfsStore, client: ipfshttpclient.Client
) -> None:
    kept, dropped = store.put(b"kept by the store"), store.put(b"dropped on purpose")
    assert store.has(kept)
    assert store.has(dropped)
    client.pin.rm(str(dropped))
    assert not store.has(dropped)
    client.repo.gc()
    assert store.get(kept, timeout=PATIENCE) == b"kept by the store"
    with pytest.raises(ContentUnavailable):
        store.get(dropped, timeout=1)


def test_content_that_nobody_has_is_unavailable(store: IpfsStore) -> None:
    for size in (100, 3 * CHUNK_BYTES):
        cid = cid_of_bytes(os.urandom(size))
        assert not store.has(cid)
        with pytest.raises(ContentUnavailable, match=str(cid)):
            store.get(cid, timeout=1)


def test_content_over_the_limit_is_refused(store: IpfsStore, tmp_path: Path) -> None:
    cid = store.put(content(5_000_000))
    with pytest.raises(ContentTooLarge):
        store.get(cid, timeout=PATIENCE, max_bytes=4_999_999)
    with pytest.raises(ContentTooLarge):
        store.get_file(cid, tmp_path / "copy", timeout=PATIENCE, max_bytes=300_000)
    assert list(tmp_path.iterdir()) == []
    # The daemon took no harm from being cut short.
    assert store.get(cid, timeout=PATIENCE) == content(5_000_000)
