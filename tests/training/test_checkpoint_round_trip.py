"""A checkpoint travels through a content store whole or not at all."""

from __future__ import annotations

import json

import pytest
from safetensors import SafetensorError

from marketplace.gym.adapters import read_shape
from marketplace.gym.policy import Policy
from marketplace.gym.spec import SamplingSpec
from marketplace.protocol.errors import (
    CheckpointError,
    ContentCorrupt,
    ContentTooLarge,
    ContentUnavailable,
    StorageError,
)
from marketplace.storage.checkpoints import fetch_checkpoint, put_checkpoint, read_manifest
from marketplace.storage.embedded import EmbeddedStore
from trainer.checkpoint import TrainingRecord, read_record, save_checkpoint
from trainer.measured import read_evaluations

DEEP = "[" * 100_000

RECORD = TrainingRecord(
    parent=3, dataset={"root": "0x00"}, settings={"seed": 1}, metrics={"loss": -0.25}
)


@pytest.fixture
def store(tmp_path):
    return EmbeddedStore(tmp_path / "store")


@pytest.fixture
def saved(policy, tmp_path):
    return save_checkpoint(policy, tmp_path / "saved", sampling=SamplingSpec(), record=RECORD)


def _stored_files(tmp_path):
    return sorted((tmp_path / "store" / "content").glob("*/*"), key=lambda one: one.stat().st_size)


def test_round_trip_gives_the_same_policy(policy, saved, store, tmp_path):
    cid = put_checkpoint(store, saved)
    fetched = fetch_checkpoint(store, cid, tmp_path / "fetched", timeout=0)
    for file in saved.iterdir():
        assert (fetched / file.name).read_bytes() == file.read_bytes()
    loaded = Policy.load(fetched)
    ours, theirs = policy.model.state_dict(), loaded.model.state_dict()
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)
    record = read_record(fetched)
    assert (record["parent"], record["metrics"]["loss"]) == (3, -0.25)
    assert record["packages"]["torch"].startswith("2.")
    assert json.loads((fetched / "sampling.json").read_text())["temperature"] == 1.0


def test_same_weights_same_address(policy, saved, store, tmp_path):
    other = save_checkpoint(
        Policy.load(saved), tmp_path / "elsewhere", sampling=SamplingSpec(), record=RECORD
    )
    assert put_checkpoint(store, saved) == put_checkpoint(store, other)
    # A fetched folder can be published again: its manifest is no part of the content.
    cid = put_checkpoint(store, saved)
    fetched = fetch_checkpoint(store, cid, tmp_path / "fetched", timeout=0)
    assert put_checkpoint(store, fetched) == cid


def test_no_file_names_a_path_of_this_machine(saved, tmp_path):
    for file in saved.glob("*.json"):
        assert str(tmp_path) not in file.read_text()


def test_corrupt_content_leaves_no_folder(saved, store, tmp_path):
    cid = put_checkpoint(store, saved)
    weights = _stored_files(tmp_path)[-1]
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(data)
    with pytest.raises(ContentCorrupt):
        fetch_checkpoint(store, cid, tmp_path / "fetched", timeout=0)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["saved", "store"]


def test_missing_content_leaves_no_folder(saved, store, tmp_path):
    cid = put_checkpoint(store, saved)
    _stored_files(tmp_path)[-1].unlink()
    with pytest.raises(ContentUnavailable):
        fetch_checkpoint(store, cid, tmp_path / "fetched", timeout=0)
    assert not (tmp_path / "fetched").exists()


def test_fetching_twice_reads_the_files_once(saved, store, tmp_path):
    cid = put_checkpoint(store, saved)
    fetch_checkpoint(store, cid, tmp_path / "fetched", timeout=0)
    for file in _stored_files(tmp_path):
        if file.name != str(cid):
            file.unlink()
    assert fetch_checkpoint(store, cid, tmp_path / "fetched", timeout=0).is_dir()


def test_a_taken_name_is_left_alone(saved, store, tmp_path):
    cid = put_checkpoint(store, saved)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="taken"):
        fetch_checkpoint(store, cid, tmp_path / "taken", timeout=0)
    assert [one.name for one in (tmp_path / "taken").iterdir()] == ["mine.txt"]


def test_too_large(saved, store, tmp_path):
    cid = put_checkpoint(store, saved)
    with pytest.raises(ContentTooLarge, match="100 are allowed"):
        fetch_checkpoint(store, cid, tmp_path / "fetched", timeout=0, max_bytes=100)


def _manifest(store, **files):
    cid = store.put(b"{}")
    entries = {name: {"cid": str(cid), "size": 2, **change} for name, change in files.items()}
    return json.dumps({"v": 1, "files": entries}).encode()


@pytest.mark.parametrize(
    "name",
    ["../evil.json", "a/b.json", "/etc/x.json", ".hidden.json", "model.bin", "run.py", "x.json\n",
     "manifest.json", "", "pytorch_model.pt", "a" * 130 + ".json"],
)  # fmt: skip
def test_names_that_a_checkpoint_may_not_hold(store, name):
    with pytest.raises(CheckpointError, match="no name of a checkpoint file"):
        read_manifest(_manifest(store, **{name: {}}))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"v":2,"files":{}}', b'{"v":1,"files":{}}', b"\xff", b'{"v":1}',
     b'{"v":1,"files":{"a.json":{"cid":"nonsense","size":1}}}',
     b'{"v":1,"files":{"a.json":{"cid":1,"size":1}}}'],
)  # fmt: skip
def test_content_that_is_no_manifest(store, tmp_path, data):
    cid = store.put(data)
    with pytest.raises(CheckpointError, match="not a checkpoint manifest"):
        fetch_checkpoint(store, cid, tmp_path / "fetched", timeout=0)


def test_a_manifest_that_lies_about_a_size(store, tmp_path):
    larger = store.put(_manifest(store, **{"a.json": {"size": 3}}))
    with pytest.raises(CheckpointError, match="has 2 bytes, not 3"):
        fetch_checkpoint(store, larger, tmp_path / "fetched", timeout=0)
    smaller = store.put(_manifest(store, **{"a.json": {"size": 1}}))
    with pytest.raises(ContentTooLarge):
        fetch_checkpoint(store, smaller, tmp_path / "fetched", timeout=0)


def test_folders_that_are_not_published(store, tmp_path):
    with pytest.raises(StorageError, match="missing"):
        put_checkpoint(store, tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="is empty"):
        put_checkpoint(store, tmp_path / "empty")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text("")
    with pytest.raises(CheckpointError, match=r"model\.py"):
        put_checkpoint(store, tmp_path / "code")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(CheckpointError, match="not a plain file"):
        put_checkpoint(store, tmp_path / "link")


def test_weights_that_are_not_finite_are_not_saved(policy, tmp_path):
    policy.model.model.norm.weight.data[0] = float("inf")
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is not finite"):
        save_checkpoint(policy, tmp_path / "saved", sampling=SamplingSpec(), record=RECORD)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(policy, saved):
    with pytest.raises(CheckpointError, match="exists already"):
        save_checkpoint(policy, saved, sampling=SamplingSpec(), record=RECORD)


def test_a_place_where_no_folder_can_be(policy, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"can't write .*file/new") as caught:
        save_checkpoint(policy, tmp_path / "file" / "new", sampling=SamplingSpec(), record=RECORD)
    assert "name another folder" in caught.value.fix


def test_records_that_can_not_be_read(tmp_path):
    with pytest.raises(CheckpointError, match=r"training\.json"):
        read_record(tmp_path)
    (tmp_path / "training.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no object"):
        read_record(tmp_path)
    (tmp_path / "training.json").write_text(DEEP)
    with pytest.raises(CheckpointError, match="nests too deeply"):
        read_record(tmp_path)
    (tmp_path / "evaluation.json").write_text(DEEP)
    with pytest.raises(CheckpointError, match="no record of evaluations"):
        read_evaluations(tmp_path)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"]
)
def test_brackets_without_end_are_no_model(saved, name):
    """A verifier reads these files of a stranger, and must not end over them."""
    (saved / name).write_text(DEEP)
    with pytest.raises(CheckpointError, match=f"{name}' is not JSON: nests too deeply"):
        Policy.load(saved)


def test_brackets_without_end_are_no_adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text(DEEP)
    with pytest.raises(CheckpointError, match="can't be read"):
        read_shape(tmp_path)


@pytest.mark.parametrize("kind", [OSError, SafetensorError])
def test_a_full_disk_leaves_no_checkpoint(policy, tmp_path, monkeypatch, kind):
    def full(self, folder):
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"half")
        raise kind(28, "No space left on device")

    monkeypatch.setattr(type(policy.model), "save_pretrained", full)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        save_checkpoint(policy, tmp_path / "new", sampling=SamplingSpec(), record=RECORD)
    assert "free disk space" in caught.value.fix
    assert list(tmp_path.iterdir()) == []
