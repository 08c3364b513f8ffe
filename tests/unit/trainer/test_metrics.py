"""Streams take every step once, also after an interruption."""

from __future__ import annotations

import json

import pytest

from marketplace.protocol.errors import ConfigError
from trainer.grpo import StepMetrics
from trainer.metrics import open_streams, parse_streams, step_values

STEP = StepMetrics(
    loss=0.5,
    grad_norm=1.0,
    mean_ratio=1.0,
    clipped_share=0.1,
    effective_share=0.9,
    groups=2,
    tokens=20,
    kl_quantiles=(0.1, 0.2, 0.3),
    masked={"clipped": 0.1},
    mean_length=5.0,
    mean_score=0.25,
)


def test_values_have_names():
    values = step_values(STEP)
    assert values["masked/clipped"] == 0.1
    assert (values["kl/median"], values["kl/99"]) == (0.1, 0.3)
    assert (values["traces/score"], values["traces/length"]) == (0.25, 5.0)


def test_lost_steps_are_told_again(tmp_path):
    def told():
        return [json.loads(one) for one in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    streams = open_streams(["jsonl"], tmp_path, steps=0, run="a", config={})
    for step in (1, 2, 3):
        streams.tell(step, {"loss": step})
    streams.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"loss": 4, "st')  # killed while it was written
    streams = open_streams(["jsonl"], tmp_path, steps=2, run="a", config={})
    streams.tell(3, {"loss": 30})
    streams.close()
    assert told() == [
        {"step": 1, "loss": 1},
        {"step": 2, "loss": 2},
        {"step": 3, "loss": 30},
    ]


def test_tensorboard_files(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    streams = open_streams(["tensorboard"], tmp_path, steps=0, run="a", config={})
    for step in (1, 2):
        streams.tell(step, step_values(STEP))
    streams.close()
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert "masked/clipped" in read.Tags()["scalars"]
    assert [event.step for event in read.Scalars("train/loss")] == [1, 2]
    assert read.Scalars("train/loss")[0].value == pytest.approx(0.5)


def test_names(monkeypatch):
    assert parse_streams("jsonl, tensorboard,jsonl") == ("jsonl", "tensorboard")
    assert parse_streams("") == ()
    with pytest.raises(ConfigError, match=r"'csv'.*tensorboard"):
        parse_streams("csv")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        parse_streams("wandb")
