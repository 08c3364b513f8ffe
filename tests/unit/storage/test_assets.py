"""Bringing content into a folder: verified, within its limit, and only what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketplace.protocol.errors import (
    ContentCorrupt,
    ContentTooLarge,
    ContentUnavailable,
    InvalidValue,
)
from marketplace.storage.assets import fetch_assets
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.embedded import EmbeddedStore


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store")


def test_what_is_missing_is_fetched_once(store: EmbeddedStore, tmp_path: Path) -> None:
    wanted = [(str(store.put(data)), 10) for data in (b"one", b"two")]
    folder = tmp_path / "assets"
    fetch_assets(store, wanted, folder, timeout=0)
    assert {path.read_bytes() for path in folder.iterdir()} == {b"one", b"two"}
    fetch_assets(EmbeddedStore(tmp_path / "empty"), wanted, folder, timeout=0)


def test_what_can_not_be_had_leaves_nothing(store: EmbeddedStore, tmp_path: Path) -> None:
    folder = tmp_path / "assets"
    large, bad = store.put(b"x" * 11), store.put(b"good")
    path = tmp_path / "store" / "content" / bad.digest.hex()[:2] / str(bad)
    path.chmod(0o600)
    path.write_bytes(b"evil")
    for cid, error in (
        (str(large), ContentTooLarge),
        (str(bad), ContentCorrupt),
        (str(Cid(bytes(32), RAW)), ContentUnavailable),
        ("../../etc/passwd", InvalidValue),
    ):
        with pytest.raises(error):
            fetch_assets(store, [(cid, 10)], folder, timeout=0)
    assert list(folder.iterdir()) == []


def test_what_another_spec_fetched_is_still_too_large(store: EmbeddedStore, tmp_path: Path) -> None:
    cid = str(store.put(b"x" * 11))
    fetch_assets(store, [(cid, 20)], tmp_path / "assets", timeout=0)
    with pytest.raises(ContentTooLarge, match="11 bytes, and 10"):
        fetch_assets(store, [(cid, 10)], tmp_path / "assets", timeout=0)


def test_the_time_is_for_all_of_it(tmp_path: Path) -> None:
    waited: list[float] = []

    class Slow(EmbeddedStore):
        def get_file(self, cid, path, *, timeout, max_bytes=None):  # type: ignore[no-untyped-def]
            waited.append(timeout)
            super().get_file(cid, path, timeout=0, max_bytes=max_bytes)

    store = Slow(tmp_path / "store")
    wanted = [(str(store.put(bytes([n]))), 10) for n in range(3)]
    times = iter([0.0, 1.0, 4.0, 20.0])
    fetch_assets(store, wanted, tmp_path / "assets", timeout=10, clock=lambda: next(times))
    assert waited == [9.0, 6.0, 0.0]
