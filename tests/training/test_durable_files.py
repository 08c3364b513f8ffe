"""What a run has made is on disk before anything says that it is there."""

from __future__ import annotations

import errno

import pytest
from durable import Disk
from safetensors import SafetensorError

from marketplace.cli.training import _move
from marketplace.gym.spec import SamplingSpec
from marketplace.protocol.errors import CheckpointError
from trainer import experts
from trainer.checkpoint import TrainingRecord, save_checkpoint
from trainer.distributed import save_whole
from trainer.experts import LoraSettings, Start, adapt, save_adapter
from trainer.run import RunFolder
from trainer.state import TrainState, save_state

BASE = "b" + "a" * 58
RECORD = TrainingRecord(parent=1, dataset={}, settings={}, metrics={})
SAVING = {"sampling": SamplingSpec(), "record": RECORD}


@pytest.fixture
def disk(monkeypatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def adapted(policy, tmp_path):
    base = save_checkpoint(policy, tmp_path / "base", **SAVING)
    return adapt(Start(base, BASE), LoraSettings(rank=2, alpha=4.0, targets=("q_proj",)))


def test_weights_and_adapters_survive_a_power_cut(policy, adapted, disk, tmp_path):
    assert disk.survives(save_checkpoint(policy, tmp_path / "whole", **SAVING))
    assert disk.survives(save_adapter(adapted, tmp_path / "adapter", base=BASE, **SAVING))
    save_whole(policy, tmp_path / "weights")
    assert disk.survives(tmp_path / "weights")


def test_states_and_records_survive_a_power_cut(disk, tmp_path):
    assert disk.survives(save_state(TrainState(), tmp_path / "turn-1"))
    folder = RunFolder(tmp_path)
    folder.begin({"v": 1}, resume=True)
    assert disk.survives(tmp_path / "run.json")
    folder.finish(1, {})
    assert disk.survives(tmp_path / "turn-1.json")


def test_a_result_on_another_file_system_is_there_before_its_source_goes(
    disk, tmp_path, monkeypatch
):
    made, out = tmp_path / "made", tmp_path / "out"
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"weights")

    def elsewhere(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("marketplace.cli.training.os.rename", _once(elsewhere))
    _move(made, out)
    assert disk.survives(out)
    assert (out / "model.safetensors").read_bytes() == b"weights"
    assert not made.exists()


@pytest.mark.parametrize("kind", [OSError, SafetensorError])
def test_a_full_disk_leaves_no_adapter(adapted, tmp_path, monkeypatch, kind):
    def full(*_):
        raise kind(28, "No space left on device")

    monkeypatch.setattr(experts, "save_file", full)
    before = set(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        save_adapter(adapted, tmp_path / "new", base=BASE, **SAVING)
    assert "free disk space" in caught.value.fix
    assert set(tmp_path.iterdir()) == before
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="can't write the checkpoint"):
        save_adapter(adapted, tmp_path / "file" / "new", base=BASE, **SAVING)


def _once(call):
    """The first call is this one; later ones are what stood there before."""
    import os

    later, calls = os.rename, []

    def chosen(*arguments):
        calls.append(arguments)
        return call(*arguments) if len(calls) == 1 else later(*arguments)

    return chosen
