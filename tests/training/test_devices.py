"""A run says where it computes, and goes on there only. What needs a GPU is in test_gpu.py."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from test_resumed_run import command, run  # noqa: F401  (fixtures)

from marketplace.protocol.errors import ConfigError
from trainer.devices import CPU, device_record, find_device, repeatable
from trainer.launching import check_processes


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert find_device("auto") == find_device("cpu") == CPU
    with pytest.raises(ConfigError, match="there is no device 'tpu'"):
        find_device("tpu")
    monkeypatch.setattr("torch.version.cuda", None)
    with pytest.raises(ConfigError, match="this build of torch is without CUDA"):
        find_device("cuda")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        find_device("cuda")


def test_a_gpu_is_taken_unless_the_processor_is_asked_for(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda", 0)
    assert find_device("cpu") == CPU
    with pytest.raises(ConfigError, match="2 processes need as many GPUs, and there are 1"):
        check_processes(2, "auto")
    check_processes(2, "cpu")


def test_a_processor_needs_nothing_to_repeat_itself():
    with repeatable(CPU):
        assert not torch.are_deterministic_algorithms_enabled()
    assert device_record(CPU) == {}


@pytest.mark.parametrize("warn_only", [False, True])
@pytest.mark.parametrize("enabled", [False, True])
def test_what_a_gpu_needs_is_taken_back(enabled, warn_only):
    def flags():
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        )

    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    try:
        before = flags()
        with suppress(KeyboardInterrupt), repeatable(torch.device("cuda")):
            assert flags() == (True, False, False)
            raise KeyboardInterrupt
        assert flags() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_run_goes_on_where_it_was_begun(command, run, monkeypatch):  # noqa: F811
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, said = run([*command, "--out", "x", "--device", "cuda"])
    assert (code, "--device cpu" in said) == (2, True)
    code, said = run([*command, "--out", "x", "--device", "gpu"])
    assert (code, "there is no device 'gpu'" in said) == (2, True)
    assert not Path("x.run").exists()

    Path("x.run").mkdir()
    Path("x.run/run.json").write_text(json.dumps({"v": 1, "device": "cuda"}), "utf-8")
    code, said = run([*command, "--out", "x"])
    assert (code, "was begun with --device cuda, not cpu" in said) == (2, True)
