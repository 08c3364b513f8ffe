"""Fetching a checkpoint: what a stranger put in it, kills in the middle, stores that are away."""

from __future__ import annotations

import json
import os

import pytest

from marketplace.protocol.errors import CheckpointError, ContentUnavailable, StorageError
from marketplace.storage import checkpoints
from marketplace.storage.checkpoints import (
    ABANDONED_SECONDS,
    MAX_TEXT_BYTES,
    fetch_checkpoint,
    put_checkpoint,
    read_manifest,
)
from marketplace.storage.embedded import EmbeddedStore

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture
def store(tmp_path):
    return EmbeddedStore(tmp_path / "store")


@pytest.fixture
def published(store, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    return put_checkpoint(store, tmp_path / "model")


def test_a_fetched_checkpoint_needs_no_store(store, published, tmp_path):
    folder = fetch_checkpoint(store, published, tmp_path / "node", timeout=0)
    nothing = EmbeddedStore(tmp_path / "nothing")
    assert fetch_checkpoint(nothing, published, tmp_path / "node", timeout=0) == folder
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(ContentUnavailable):
        fetch_checkpoint(nothing, published, tmp_path / "node", timeout=0)


def test_json_that_ends_a_parsers_process_is_not_taken_in(store, tmp_path):
    cid = store.put(DEEP.encode())
    entry = {"cid": str(cid), "size": len(DEEP)}
    manifest = store.put(json.dumps({"v": 1, "files": {"config.json": entry}}).encode())
    with pytest.raises(CheckpointError, match="nests too deeply"):
        fetch_checkpoint(store, manifest, tmp_path / "node", timeout=0)
    assert not (tmp_path / "node").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(DEEP)
    with pytest.raises(CheckpointError, match="nests too deeply"):
        put_checkpoint(store, tmp_path / "mine")


def test_texts_that_fill_a_readers_memory(store):
    cid = str(store.put(b"{}"))
    large = {"cid": cid, "size": MAX_TEXT_BYTES + 1}
    for name in ("config.json", "base.json", "chat_template.jinja"):
        with pytest.raises(CheckpointError, match=name):
            read_manifest(json.dumps({"v": 1, "files": {name: large}}).encode())
    weights = {"v": 1, "files": {"model.safetensors": large}}
    assert read_manifest(json.dumps(weights).encode())[0].size == MAX_TEXT_BYTES + 1


def test_what_a_killed_fetch_left_is_swept_and_what_another_writes_is_not(
    store, published, tmp_path
):
    for name in ("old", "new"):
        (tmp_path / f".node-{name}" / "checkpoint").mkdir(parents=True)
        (tmp_path / f".node-{name}" / "checkpoint" / "part").write_bytes(b"half")
    long_ago = os.stat(tmp_path).st_mtime - ABANDONED_SECONDS - 60
    left = tmp_path / ".node-old"
    for one in (left, left / "checkpoint", left / "checkpoint" / "part"):
        os.utime(one, (long_ago, long_ago))
    fetch_checkpoint(store, published, tmp_path / "node", timeout=0)
    assert not left.exists()
    assert (tmp_path / ".node-new").exists()


def test_a_full_disk_is_a_storage_error(store, published, tmp_path, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.tempfile, "TemporaryDirectory", full)
    with pytest.raises(StorageError, match="No space left on device"):
        fetch_checkpoint(store, published, tmp_path / "node", timeout=0)
