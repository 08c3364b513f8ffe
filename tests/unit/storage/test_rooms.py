"""Room for checkpoints on a disk that several processes share, some of which are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from marketplace.protocol.errors import ContentUnavailable, NoRoom, StorageError
from marketplace.storage import rooms
from marketplace.storage.checkpoints import fetch_checkpoint, put_checkpoint
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.rooms import LEFT_SECONDS, Room, hold

SIZE = 4000


class Trickling(EmbeddedStore):
    """Serves `served` bytes of weights, then nothing more."""

    served = 10

    def get_file(self, cid, path, *, timeout, max_bytes=None, on_bytes=None):
        if on_bytes is not None:
            on_bytes(self.served)
        raise ContentUnavailable("no more comes")


@pytest.fixture
def store(tmp_path):
    return EmbeddedStore(tmp_path / "store")


@pytest.fixture
def published(store, tmp_path):
    """CIDs of four checkpoints of SIZE bytes each."""
    found = []
    for letter in b"abcd":
        model = tmp_path / f"model-{letter}"
        model.mkdir()
        (model / "model.safetensors").write_bytes(bytes([letter]) * SIZE)
        found.append(put_checkpoint(store, model))
    return found


def _fetch(store, cid, directory, most=None, **options):
    room = None if most is None else Room(directory, most, **options)
    return fetch_checkpoint(store, cid, directory / str(cid), timeout=0, room=room)


def _used_at(folder, when):
    os.utime(folder / "manifest.json", (when, when))


def _on_disk(directory):
    return {one.name for one in directory.iterdir()}


def test_the_least_lately_used_goes_when_it_is_needed(store, published, tmp_path):
    first, second, third, fourth = published
    node = tmp_path / "node"
    for place, cid in enumerate((first, second, third)):
        _used_at(_fetch(store, cid, node), 1000 + place)
    with hold(node / str(first)):  # used now
        pass
    _fetch(store, fourth, node, 4 * SIZE)
    assert _on_disk(node) == {str(first), str(third), str(fourth)}


def test_what_is_held_stays_and_is_let_go_in_the_end(store, published, tmp_path):
    first, second, third, _ = published
    node = tmp_path / "node"
    _used_at(_fetch(store, first, node), 1000)
    _fetch(store, second, node)
    held = hold(node / str(first))
    _fetch(store, third, node, 3 * SIZE)
    assert _on_disk(node) == {str(first), str(third)}
    with hold(node / str(third)), pytest.raises(NoRoom, match="4,000 more bytes"):
        _fetch(store, second, node, 3 * SIZE)
    assert _on_disk(node) == {str(first), str(third)}
    held.release()
    _used_at(node / str(first), 1000)
    _fetch(store, second, node, 3 * SIZE)
    assert _on_disk(node) == {str(second), str(third)}


def test_what_is_only_announced_drives_nothing_out(store, published, tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "STEP_BYTES", 100)
    node, trickling = tmp_path / "node", Trickling(tmp_path / "store")
    _fetch(store, published[0], node)
    most = int(1.5 * SIZE)
    with pytest.raises(ContentUnavailable):
        _fetch(trickling, published[1], node, most)
    assert _on_disk(node) == {str(published[0])}
    _fetch(store, published[1], node, most)
    assert _on_disk(node) == {str(published[1])}


def test_a_checkpoint_over_the_limit_names_both_sizes_and_costs_nobody_its_place(
    store, published, tmp_path
):
    node = tmp_path / "node"
    _fetch(store, published[0], node)
    with pytest.raises(NoRoom, match=r"has 4,000 bytes.*may take 3,000 .*--checkpoint-gb"):
        _fetch(store, published[1], node, 3000)
    assert _on_disk(node) == {str(published[0])}


def test_what_a_checkpoint_is_made_from_goes_last_and_what_is_copied_counts(
    store, published, tmp_path
):
    base, other, *_ = published
    node = tmp_path / "node"
    folder = _fetch(store, base, node)
    (tmp_path / "child").mkdir()
    (tmp_path / "child" / "model.safetensors").write_bytes(b"a" * SIZE)
    child = put_checkpoint(store, tmp_path / "child", parent=folder)
    _used_at(folder, 1000)
    _fetch(store, other, node)
    room = Room(node, 3 * SIZE)
    fetch_checkpoint(store, child, node / str(child), timeout=0, bases=node, room=room)
    assert _on_disk(node) == {str(base), str(child)}


def test_where_only_its_place_makes_room_what_it_was_made_from_goes(store, published, tmp_path):
    folder = _fetch(store, published[0], tmp_path / "node")
    (tmp_path / "child").mkdir()
    (tmp_path / "child" / "config.json").write_text("{}")
    (tmp_path / "child" / "model.safetensors").write_bytes(b"a" * SIZE)
    child = put_checkpoint(store, tmp_path / "child", parent=folder)
    node, room = tmp_path / "node", Room(tmp_path / "node", int(1.5 * SIZE))
    fetch_checkpoint(store, child, node / str(child), timeout=0, bases=node, room=room)
    assert _on_disk(node) == {str(child)}


def test_a_full_disk_is_room_that_is_not_there(store, published, tmp_path, monkeypatch):
    node = tmp_path / "node"
    folder = _fetch(store, published[0], node)

    def usage(_):
        return type("Usage", (), {"free": 10 if folder.exists() else 10**9})

    monkeypatch.setattr(rooms.shutil, "disk_usage", usage)
    _fetch(store, published[1], node, 10**9)
    assert _on_disk(node) == {str(published[1])}


def test_killed_while_it_removes_files_it_leaves_no_checkpoint_that_lacks_some(
    store, published, tmp_path, monkeypatch
):
    node = tmp_path / "node"
    folder = _fetch(store, published[0], node)
    monkeypatch.setattr(rooms.shutil, "rmtree", lambda *_, **__: None)
    _fetch(store, published[1], node, int(1.5 * SIZE))
    assert not folder.exists()
    assert hold(folder) is None


def test_what_is_removed_while_somebody_takes_it_up_is_not_believed(
    store, published, tmp_path, monkeypatch
):
    folder = _fetch(store, published[0], tmp_path / "node")
    monkeypatch.setattr(rooms.fcntl, "flock", lambda *_: folder.rename(tmp_path / "gone"))
    assert hold(folder) is None


@pytest.mark.parametrize(
    ("came", "others", "fair"),
    [
        (400, 3600, True),  # alone it would have come
        (400, 3599, False),  # not even alone
        (50, 6400, True),
        (50, 6401, False),  # it trickles
        (0, 10**6, False),  # nobody serves it
        (4000, 10**4, False),  # it is whole
    ],
)
def test_a_line_that_others_took_is_no_lack_of_content(published, tmp_path, came, others, fair):
    room = Room(tmp_path, 10**9)
    room.meter(published[0], 10**7)(10**7)  # before
    one, other = room.meter(published[1], SIZE), room.meter(published[2], 10**7)

    def download():
        with one.shared():
            one(came // 2)
            other(others)
            one(came - came // 2)
            raise ContentUnavailable("too slow")

    with pytest.raises(StorageError) as found:
        download()
    assert isinstance(found.value, ContentUnavailable) is not fair


def test_who_fetches_beside_others_hears_of_its_line(published, tmp_path):
    room = Room(tmp_path / "node", 10**9)

    class Slow(EmbeddedStore):
        def get_file(self, cid, path, *, timeout, max_bytes=None, on_bytes=None):
            on_bytes(SIZE // 2)
            room.meter(cid, SIZE)(SIZE // 2)
            raise ContentUnavailable("too slow")

    slow, folder = Slow(tmp_path / "store"), tmp_path / "node" / str(published[0])
    with pytest.raises(StorageError, match=r"shared the line: 2,000 .* 2,000 of others"):
        fetch_checkpoint(slow, published[0], folder, timeout=0, room=room)


HALF_WAY = """
import sys, threading
from pathlib import Path
from marketplace.storage.checkpoints import fetch_checkpoint
from marketplace.storage.cid import Cid
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.rooms import hold

class Slow(EmbeddedStore):
    def get_file(self, cid, path, **options):
        Path(path).with_name("half.part").write_bytes(b"half of it")
        print("half", flush=True)
        threading.Event().wait()

store, node, first, second = sys.argv[1:]
held = hold(Path(node) / first)
assert held is not None
fetch_checkpoint(Slow(store), Cid.parse(second), Path(node) / second, timeout=600)
"""


def test_a_process_that_is_killed_leaves_nothing_that_is_believed_or_in_the_way(
    store, published, tmp_path
):
    first, second, third, _ = published
    node = tmp_path / "node"
    _used_at(_fetch(store, first, node), 1000)
    words = [sys.executable, "-c", HALF_WAY, str(tmp_path / "store"), str(node)]
    with subprocess.Popen(
        [*words, str(first), str(second)], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout.readline() == "half\n"
            later = os.stat(node).st_mtime + 10 * LEFT_SECONDS
            # It uses the first and fetches the second: neither makes room.
            with pytest.raises(NoRoom):
                _fetch(store, third, node, SIZE + 1000, now=lambda: later)
            assert str(first) in _on_disk(node)
        finally:
            os.kill(other.pid, signal.SIGKILL)
    assert hold(node / str(second)) is None
    (half,) = (one for one in _on_disk(node) if one.startswith(f".{second}-"))
    # Where nobody needs room it stays; and where somebody does while it is young.
    _fetch(store, third, node, 3 * SIZE)
    assert {half, str(first), str(third)} == _on_disk(node)
    _fetch(store, second, node, 2 * SIZE + 500)
    assert {half, str(second), str(third)} == _on_disk(node)
    _used_at(node / str(third), 1000)
    _fetch(store, first, node, 2 * SIZE + 500, now=lambda: later)
    assert {str(first), str(second)} == _on_disk(node)
