"""Streams take every step once, also after an interruption."""

from __future__ import annotations

import json
import sqlite3

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


@pytest.mark.parametrize("service", ["wandb", "trackio"])
def test_services_take_a_run_and_go_on_with_it(service, tmp_path, monkeypatch):
    """Where they are installed; neither is needed for anything else."""
    pytest.importorskip(service)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for done, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        streams = open_streams([service], tmp_path, steps=done, run="abc123", config={"a": [1]})
        for step in steps:
            streams.tell(step, step_values(STEP))
        streams.tell(steps[-1], {"turn/mean_score": 0.5})  # of the turn, at the same step
        streams.close()
    if service == "wandb":
        runs = sorted((tmp_path / "wandb").glob("offline-run-*-abc123"))
        assert [len(list(run.glob("*.wandb"))) for run in runs] == [1, 1]
        return
    with sqlite3.connect(tmp_path / "trackio" / "tracemarket.db") as kept:
        rows = kept.execute("SELECT run_name, step FROM metrics ORDER BY id").fetchall()
    assert {run for run, _ in rows} == {"abc123"}
    assert [step for _, step in rows] == [1, 2, 3, 3, 3, 4, 4]


def test_names(monkeypatch):
    assert parse_streams("jsonl, tensorboard,jsonl") == ("jsonl", "tensorboard")
    assert parse_streams("") == ()
    with pytest.raises(ConfigError, match=r"'csv'.*tensorboard"):
        parse_streams("csv")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install wandb"):
        parse_streams("wandb")
