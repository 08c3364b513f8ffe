"""The embedded store: what goes in comes out, whoever meddles, however many use it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import marketplace
from marketplace.protocol.errors import (
    ConfigError,
    ContentCorrupt,
    ContentTooLarge,
    ContentUnavailable,
    StorageError,
)
from marketplace.storage.cid import Cid
from marketplace.storage.embedded import ABANDONED_SECONDS, EmbeddedStore
from marketplace.storage.unixfs import CHUNK_BYTES, cid_of_bytes

SIZES = [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3_000_000]


class FakeTime:
    """Time that passes only while somebody waits. on_wait: what happens meanwhile."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.waits = 0
        self.on_wait = lambda: None

    def clock(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        self.waits += 1
        self.on_wait()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(directory: Path) -> EmbeddedStore:
    return EmbeddedStore(directory)


def file_of(directory: Path, cid: Cid) -> Path:
    return directory / "content" / cid.digest.hex()[:2] / str(cid)


def flip_a_byte(path: Path, position: int) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back(store: EmbeddedStore, size: int) -> None:
    data = os.urandom(size)
    cid = store.put(data)
    assert cid == cid_of_bytes(data)
    assert store.has(cid)
    assert store.get(cid, timeout=0, max_bytes=size) == data


@pytest.mark.parametrize("size", SIZES)
def test_files_come_back(store: EmbeddedStore, size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(data)
    cid = store.put_file(source)
    assert cid == cid_of_bytes(data)
    store.get_file(cid, copy, timeout=0)
    assert copy.read_bytes() == data


def test_putting_twice_is_harmless(store: EmbeddedStore) -> None:
    assert store.put(b"twice") == store.put(b"twice")
    assert store.get(cid_of_bytes(b"twice"), timeout=0) == b"twice"


def test_content_outlives_the_store_object(store: EmbeddedStore, directory: Path) -> None:
    cid = store.put(b"kept")
    assert EmbeddedStore(directory).get(cid, timeout=0) == b"kept"


@pytest.mark.parametrize("position", [0, CHUNK_BYTES, -1])
def test_one_flipped_byte_is_corrupt(
    store: EmbeddedStore, directory: Path, tmp_path: Path, position: int
) -> None:
    cid = store.put(os.urandom(2 * CHUNK_BYTES))
    flip_a_byte(file_of(directory, cid), position)
    with pytest.raises(ContentCorrupt) as caught:
        store.get(cid, timeout=0)
    assert str(cid) in str(caught.value)
    target = tmp_path / "target"
    target.write_bytes(b"before")
    with pytest.raises(ContentCorrupt):
        store.get_file(cid, target, timeout=0)
    assert target.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "target"]


@pytest.mark.parametrize("size", [1000, 2 * CHUNK_BYTES])
def test_shortened_and_lengthened_content_is_corrupt(
    store: EmbeddedStore, directory: Path, size: int
) -> None:
    data = os.urandom(size)
    path = file_of(directory, store.put(data))
    path.chmod(0o644)
    for wrong in (data[:-1], data + b"\0", b""):
        path.write_bytes(wrong)
        with pytest.raises(ContentCorrupt):
            store.get(cid_of_bytes(data), timeout=0)


def test_putting_again_repairs(store: EmbeddedStore, directory: Path) -> None:
    cid = store.put(b"precious")
    flip_a_byte(file_of(directory, cid), 0)
    store.put(b"precious")
    assert store.get(cid, timeout=0) == b"precious"


def test_no_caller_holds_a_door_into_the_store(
    store: EmbeddedStore, directory: Path, tmp_path: Path
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(b"original")
    cid = store.put_file(source)
    store.get_file(cid, copy, timeout=0)
    source.write_bytes(b"scribble")
    copy.write_bytes(b"scribble")
    assert store.get(cid, timeout=0) == b"original"
    assert stat.S_IMODE(file_of(directory, cid).stat().st_mode) & 0o222 == 0


def test_unknown_content_is_unavailable_at_once_with_timeout_0(directory: Path) -> None:
    time = FakeTime()
    store = EmbeddedStore(directory, clock=time.clock, wait=time.wait)
    cid = cid_of_bytes(b"nobody has this")
    assert not store.has(cid)
    with pytest.raises(ContentUnavailable) as caught:
        store.get(cid, timeout=0)
    assert str(cid) in str(caught.value)
    assert str(directory) in str(caught.value)
    assert time.waits == 0


def test_unknown_content_is_unavailable_when_the_timeout_is_over(directory: Path) -> None:
    time = FakeTime()
    store = EmbeddedStore(directory, clock=time.clock, wait=time.wait)
    with pytest.raises(ContentUnavailable, match=r"30 s"):
        store.get(cid_of_bytes(b"nobody has this"), timeout=30)
    assert time.seconds == pytest.approx(30)


def test_a_get_waits_for_the_publisher(directory: Path) -> None:
    time = FakeTime()
    store = EmbeddedStore(directory, clock=time.clock, wait=time.wait)
    cid = cid_of_bytes(b"published late")
    time.on_wait = lambda: EmbeddedStore(directory).put(b"published late") if time.waits == 3 else 0
    assert store.get(cid, timeout=30) == b"published late"
    assert time.waits == 3


def test_content_over_the_limit_is_not_read(
    store: EmbeddedStore, directory: Path, tmp_path: Path
) -> None:
    cid = store.put(bytes(1001))
    # Corrupt as well: had it been read, the error would be another.
    flip_a_byte(file_of(directory, cid), 0)
    with pytest.raises(ContentTooLarge, match=r"1,001 bytes.*1,000 are allowed"):
        store.get(cid, timeout=0, max_bytes=1000)
    with pytest.raises(ContentTooLarge):
        store.get_file(cid, tmp_path / "target", timeout=0, max_bytes=1000)
    assert not (tmp_path / "target").exists()


def test_two_puts_of_one_process_do_not_meet(store: EmbeddedStore, directory: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"outer "
        store.put(b"inner")
        yield b"content"

    assert store.get(store._put(pieces()), timeout=0) == b"outer content"
    assert store.get(cid_of_bytes(b"inner"), timeout=0) == b"inner"
    assert list((directory / "incoming").iterdir()) == []


def test_an_interrupted_put_leaves_nothing(store: EmbeddedStore, directory: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._put(pieces())
    assert [path for path in directory.rglob("*") if path.is_file()] == []


def test_what_a_dead_process_left_is_swept_and_the_living_are_spared(
    store: EmbeddedStore, directory: Path
) -> None:
    dead = directory / "incoming" / ".1-dead.part"
    living = directory / "incoming" / ".2-living.part"
    dead.write_bytes(b"x")
    living.write_bytes(b"x")
    os.utime(dead, (1000, 1000))
    os.utime(living, (2000, 2000))
    EmbeddedStore(directory, now=lambda: 1500 + ABANDONED_SECONDS)
    assert not dead.exists()
    assert living.exists()


def test_unreadable_sources_and_unwritable_targets_are_named(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="no-such-file"):
        store.put_file(tmp_path / "no-such-file")
    with pytest.raises(StorageError, match="Is a directory"):
        store.put_file(tmp_path)
    cid = store.put(b"content")
    with pytest.raises(StorageError, match="no-such-directory"):
        store.get_file(cid, tmp_path / "no-such-directory" / "file", timeout=0)


def test_a_file_in_the_place_of_the_directory_is_a_config_error(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(ConfigError, match="taken"):
        EmbeddedStore(taken)


# One process of the test below: puts shared and own content, reads everything back.
WORKER = """
import sys
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.unixfs import cid_of_bytes
store, me, count = EmbeddedStore(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for turn in range(15):
    shared = bytes([turn]) * 300_000
    assert store.put(shared) == cid_of_bytes(shared)
    assert store.get(cid_of_bytes(shared), timeout=0) == shared
    store.put(b"%d of %d" % (turn, me))
for other in range(count):
    for turn in range(15):
        name = b"%d of %d" % (turn, other)
        assert store.get(cid_of_bytes(name), timeout=60) == name
"""


def test_several_processes_share_one_directory(directory: Path) -> None:
    count = 3
    root = str(Path(marketplace.__file__).parent.parent)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(directory), str(me), str(count)],
            env={**os.environ, "PYTHONPATH": root},
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in range(count)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert list((directory / "incoming").iterdir()) == []
