"""A fetcher who has the parent downloads what changed; whatever is wrong with that, the whole."""

from __future__ import annotations

import json

import pytest

from marketplace.gym.spec import SamplingSpec
from marketplace.protocol.errors import CheckpointError, ContentUnavailable
from marketplace.storage.checkpoints import fetch_checkpoint, put_checkpoint, read_manifest
from marketplace.storage.cid import Cid
from marketplace.storage.embedded import EmbeddedStore
from trainer.checkpoint import TrainingRecord, save_checkpoint

WEIGHTS = "model.safetensors"


class Metered(EmbeddedStore):
    """Counts what is read."""

    def __init__(self, directory):
        super().__init__(directory)
        self.read = {}

    def get(self, cid, **options):
        data = super().get(cid, **options)
        self.read[cid] = len(data)
        return data

    def get_file(self, cid, path, **options):
        super().get_file(cid, path, **options)
        self.read[cid] = path.stat().st_size


@pytest.fixture
def store(tmp_path):
    return Metered(tmp_path / "store")


def _save(policy, folder, parent):
    record = TrainingRecord(parent=parent, dataset={}, settings={}, metrics={})
    return save_checkpoint(policy, folder, sampling=SamplingSpec(), record=record)


@pytest.fixture
def pair(policy, store, tmp_path):
    """A parent that was fetched, and its published child. CIDs, and the child's files."""
    nodes = tmp_path / "node"
    parent = put_checkpoint(store, _save(policy, tmp_path / "parent", None))
    fetched = fetch_checkpoint(store, parent, nodes / str(parent), timeout=0)
    for name, weights in policy.model.named_parameters():
        if "layers.1" in name:
            weights.data[:1] += 1e-5
    saved = _save(policy, tmp_path / "child", 1)
    child = put_checkpoint(store, saved, parent=fetched)
    store.read.clear()
    return parent, child, saved


def _fetch(store, child, tmp_path, name="node"):
    folder = tmp_path / name / str(child)
    return fetch_checkpoint(store, child, folder, timeout=0, bases=tmp_path / name)


def _same(fetched, saved):
    names = {one.name for one in saved.iterdir()}
    assert {one.name for one in fetched.iterdir()} == names | {"manifest.json"}
    assert all((fetched / name).read_bytes() == (saved / name).read_bytes() for name in names)


def _entry(store, child, name=WEIGHTS):
    files = read_manifest(store.get(child, timeout=0))
    store.read.clear()
    return next(file for file in files if file.name == name)


def test_only_what_changed_is_fetched(store, pair, tmp_path):
    _, child, saved = pair
    entry = _entry(store, child)
    fetched = _fetch(store, child, tmp_path)
    _same(fetched, saved)
    # The manifest, the delta and the new record; neither weights nor tokenizer.
    assert entry.delta.cid in store.read
    assert entry.cid not in store.read
    assert len(store.read) == 3
    assert sum(store.read.values()) < 0.2 * entry.size
    # Published again it is the same checkpoint.
    assert put_checkpoint(store, fetched) == child


def test_without_the_parent_the_whole_is_fetched(store, pair, tmp_path):
    _, child, saved = pair
    entry = _entry(store, child)
    _same(_fetch(store, child, tmp_path, "new"), saved)
    assert (entry.cid in store.read, entry.delta.cid in store.read) == (True, False)


def _replaced(store, child, **change):
    """The child's manifest with another delta."""
    record = json.loads(store.get(child, timeout=0))
    record["delta"]["files"][WEIGHTS] |= change
    return store.put(json.dumps(record).encode())


def _whole_after_all(store, child, saved, tmp_path):
    entry = _entry(store, child)
    _same(_fetch(store, child, tmp_path), saved)
    assert entry.cid in store.read
    assert not [one for one in (tmp_path / "node").iterdir() if one.name.startswith(".")]


def test_a_delta_that_nobody_has(store, pair, tmp_path):
    _, child, saved = pair
    gone = Cid(b"\x07" * 32, 0x55)
    _whole_after_all(store, _replaced(store, child, cid=str(gone)), saved, tmp_path)


def test_a_delta_that_is_another_ones(store, pair, tmp_path, make_policy, caplog):
    _, child, saved = pair
    other = _save(make_policy(1), tmp_path / "other", None)
    parent = next((tmp_path / "node").iterdir())
    wrong = put_checkpoint(store, other, parent=parent)
    record = json.loads(store.get(wrong, timeout=0)).get("delta", {"files": {}})["files"]
    if WEIGHTS not in record:  # too large to be worth it: make it by hand
        from marketplace.storage.deltas import make_delta

        size = make_delta(parent / WEIGHTS, other / WEIGHTS, tmp_path / "delta")
        record[WEIGHTS] = {"cid": str(store.put_file(tmp_path / "delta")), "size": size}
    entry = _entry(store, child)
    change = {"cid": record[WEIGHTS]["cid"], "size": min(record[WEIGHTS]["size"], entry.size - 1)}
    _whole_after_all(store, _replaced(store, child, **change), saved, tmp_path)
    assert "delta_unusable file=model.safetensors" in caplog.text


def test_a_delta_cut_short_or_larger_than_it_says(store, pair, tmp_path):
    _, child, saved = pair
    entry = _entry(store, child)
    data = store.get(entry.delta.cid, timeout=0)
    cut = store.put(data[: len(data) // 2])
    _whole_after_all(store, _replaced(store, child, cid=str(cut)), saved, tmp_path)
    long = _replaced(store, child, size=1)
    _whole_after_all(store, long, saved, tmp_path)
    huge = _replaced(store, child, size=entry.size)
    _whole_after_all(store, huge, saved, tmp_path)


def test_a_parent_that_rotted_on_disk(store, pair, tmp_path):
    parent, child, saved = pair
    weights = tmp_path / "node" / str(parent) / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    tokenizer = weights.with_name("tokenizer.json")
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    _whole_after_all(store, child, saved, tmp_path)
    (tmp_path / "node" / str(parent) / "manifest.json").write_text("{}")
    folder = tmp_path / "node" / "again"
    _same(fetch_checkpoint(store, child, folder, timeout=0, bases=tmp_path / "node"), saved)


def test_what_is_in_no_store_is_missed_with_a_delta_too(store, pair, tmp_path):
    _, child, _ = pair
    entry = _entry(store, child)
    for cid in (entry.cid, entry.delta.cid):
        next((tmp_path / "store" / "content").glob(f"*/{cid}")).unlink()
    with pytest.raises(ContentUnavailable, match=str(entry.cid)):
        _fetch(store, child, tmp_path)
    assert not (tmp_path / "node" / str(child)).exists()


def test_a_delta_that_saves_nothing_is_not_published(store, pair, tmp_path, make_policy):
    parent, _, _ = pair
    other = _save(make_policy(1), tmp_path / "other", None)
    cid = put_checkpoint(store, other, parent=tmp_path / "node" / str(parent))
    entry = _entry(store, cid)
    if entry.delta is not None:
        assert entry.delta.size < 0.9 * entry.size
    # A parent that was never fetched has no manifest to name.
    with pytest.raises(Exception, match=r"manifest\.json"):
        put_checkpoint(store, other, parent=tmp_path / "parent")


@pytest.mark.parametrize(
    "delta", [{"base": "nonsense", "files": {}}, {"files": {}}, [], {"base": 1, "files": {}}]
)
def test_manifests_with_a_broken_delta(store, pair, delta):
    _, child, _ = pair
    record = json.loads(store.get(child, timeout=0)) | {"delta": delta}
    with pytest.raises(CheckpointError, match="not a checkpoint manifest"):
        read_manifest(json.dumps(record).encode())


def test_the_first_bad_delta_is_the_last_that_is_tried(store, pair, tmp_path, caplog):
    parent, child, _ = pair
    manifest = json.loads(store.get(child, timeout=0))
    bad = {"cid": str(store.put(b"no delta")), "size": 8}
    record = json.loads((tmp_path / "node").joinpath(str(parent), "manifest.json").read_bytes())
    changed = [name for name in record["files"] if name != WEIGHTS]
    for name in changed:
        manifest["files"][name] = {"cid": str(store.put(b'{"of":"the child"}')), "size": 18}
    manifest["delta"]["files"] = {name: bad for name in (*changed, WEIGHTS)}
    cid = store.put(json.dumps(manifest).encode())
    _fetch(store, cid, tmp_path)
    assert caplog.text.count("delta_unusable") == 1
