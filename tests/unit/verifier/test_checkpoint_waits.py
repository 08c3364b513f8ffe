"""A node with votes to give waits for a checkpoint that nobody serves, but not again and again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from marketplace.protocol.errors import ContentUnavailable
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.embedded import EmbeddedStore
from verifier_node.checkpoints import FETCH_SECONDS, PAUSE_SECONDS, CheckpointCache


class Asked(EmbeddedStore):
    """Notes how long it was to wait, and waits by a clock of its own."""

    def __init__(self, directory, time):
        super().__init__(directory, clock=lambda: time.now, wait=self._pass)
        self.time, self.waits = time, []

    def _pass(self, seconds):
        self.time.now += seconds

    def get(self, cid, *, timeout, max_bytes=None):
        self.waits.append(timeout)
        return super().get(cid, timeout=timeout, max_bytes=max_bytes)

    def get_file(self, cid, path, *, timeout, max_bytes=None):
        self.waits.append(round(timeout))
        super().get_file(cid, path, timeout=timeout, max_bytes=max_bytes)


@pytest.fixture
def time():
    return SimpleNamespace(now=1000.0)


@pytest.fixture
def world(tmp_path, time):
    """A store, and how to make a cache over it whose checkpoint 1 is the published one."""
    store = Asked(tmp_path / "store", time)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    cid = put_checkpoint(store, tmp_path / "model")
    content = SimpleNamespace(digest=cid.digest, codec=cid.codec)
    reader = SimpleNamespace(checkpoint=lambda _: SimpleNamespace(content=content))

    def cache(**options):
        return CheckpointCache(reader, store, tmp_path / "node", clock=lambda: time.now, **options)

    return store, cache


def _withhold(store, part):
    (found,) = (one for one in store._content.glob("*/*") if part in one.read_bytes())
    kept = found.rename(found.with_suffix(".away"))
    return lambda: kept.rename(found)


def test_weights_that_nobody_serves_are_waited_for_once_in_a_while(world, time):
    store, cache = world
    node = cache(look=20.0)
    publish = _withhold(store, b"weights")
    for _ in range(2):
        with pytest.raises(ContentUnavailable):
            node.folder(1)
    assert store.waits == [20.0, FETCH_SECONDS, 0.0, 0]
    time.now += PAUSE_SECONDS
    with pytest.raises(ContentUnavailable):
        node.folder(1)
    assert store.waits[4:] == [20.0, FETCH_SECONDS]
    publish()  # what has come is found at once, pause or not
    assert node.folder(1).is_dir()


def test_a_manifest_that_nobody_serves_is_looked_for_each_time_for_a_moment(world):
    store, cache = world
    node = cache(look=20.0)
    _withhold(store, b"model.safetensors")
    for _ in range(2):
        with pytest.raises(ContentUnavailable):
            node.folder(1)
    assert store.waits == [20.0, 20.0]


def test_a_command_of_a_person_waits_each_time(world):
    store, cache = world
    person = cache()
    _withhold(store, b"model.safetensors")
    for _ in range(2):
        with pytest.raises(ContentUnavailable):
            person.folder(1)
    assert store.waits == [FETCH_SECONDS, FETCH_SECONDS]
