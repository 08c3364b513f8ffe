"""Two processes train as one does, and a killed run goes on from its last whole state."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from marketplace.gym.policy import Policy
from marketplace.gym.team import ALONE
from marketplace.protocol.errors import CheckpointError, ConfigError
from marketplace.protocol.trace import Tier
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.distributed import STARTER_VARIABLE, Job, read_job, write_job
from trainer.grpo import train_turn
from trainer.launching import Apart, check_processes, launch
from trainer.sharded import load_sharded, save_sharded
from trainer.state import TrainState

SETTINGS = TrainSettings(
    learning_rate=1e-3,
    groups_per_step=5,
    token_budget=24,
    mean_tolerance=1e3,
    max_tolerance=1e3,
    min_effective_share=0.0,
)


def _groups(count: int = 10) -> tuple[TrainingGroup, ...]:
    """Groups of several lengths, so that the packs of a step can't be divided evenly."""
    draw = random.Random(0)
    made = []
    for task in range(count):
        completions = tuple(
            tuple(draw.randrange(1, 250) for _ in range(draw.randrange(2, 9))) for _ in range(3)
        )
        made.append(
            TrainingGroup(
                batch=1,
                task=task,
                prompt=(7, 8, task + 1),
                completions=completions,
                behaviour=tuple((-5.0,) * len(one) for one in completions),
                scores=(1.0, 0.0, 0.0),
            )
        )
    return tuple(made)


def _saved_parent(policy: Policy, folder: Path) -> Path:
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return folder


def _close(policy: Policy, weights: dict[str, torch.Tensor]) -> None:
    for name, one in policy.model.named_parameters():
        torch.testing.assert_close(one.detach(), weights[name].detach(), atol=1e-5, rtol=1e-5)


@pytest.fixture
def job(policy, tmp_path) -> Job:
    return Job(_saved_parent(policy, tmp_path / "parent"), _groups(), SETTINGS, 0.9)


def test_a_job_comes_back_as_it_was_written(job, tmp_path):
    seeded = replace(job.groups[0], tier=Tier.A, seed=b"\xff\x00" * 16, samples=(2, 0, 1))
    opaque = replace(job.groups[1], tier=Tier.C, behaviour=None)
    job = replace(job, groups=(*job.groups, seeded, opaque), older={3: tmp_path / "three"})
    write_job(tmp_path / "job", job)
    assert read_job(tmp_path / "job") == job
    (tmp_path / "job" / "job.json").write_text('{"v": 1}')
    with pytest.raises(ConfigError, match=r"job\.json' can't be read"):
        read_job(tmp_path / "job")


def test_two_killed_processes_did_what_one_does_and_one_goes_on(job, make_policy, tmp_path):
    """One start of two processes, which is the dear part, for three questions."""
    alone = make_policy(0)
    after_first: dict[str, torch.Tensor] = {}
    state = TrainState()

    def keep(done, *_):
        if done == 1:
            after_first.update({name: one.clone() for name, one in state.weights.items()})

    turn = train_turn(alone, job.groups, SETTINGS, temperature=0.9, state=state, on_step=keep)
    assert len(turn.steps) == 2

    folder = tmp_path / "job"
    write_job(folder, job)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(Path(__file__).with_name("rank_killed.py"))),
            str(folder),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr or "-9" in done.stderr, done.stderr[-2000:]

    # The half-written second state is there and is not looked at.
    assert (folder / "state" / ".step-000002").exists()
    resumed = make_policy(0)
    found = load_sharded(resumed, folder / "state")
    assert len(found.steps) == 1
    for name in ("loss", "grad_norm", "mean_ratio", "effective_share"):
        assert found.steps[0][name] == pytest.approx(getattr(turn.steps[0], name), rel=1e-5)
    assert found.weights.keys() == after_first.keys()
    for name, one in found.weights.items():
        torch.testing.assert_close(one, after_first[name], atol=1e-5, rtol=1e-5)

    # One process takes over from two.
    metrics = train_turn(resumed, job.groups, SETTINGS, temperature=0.9, state=found)
    assert len(metrics.steps) == 2
    _close(resumed, dict(alone.model.named_parameters()))


def test_a_state_comes_back_and_an_older_one_goes(policy, make_policy, tmp_path):
    state = TrainState()
    train_turn(
        policy,
        _groups(),
        SETTINGS,
        temperature=0.9,
        state=state,
        on_step=lambda *_: save_sharded(state, tmp_path, ALONE),
    )
    assert [one.name for one in tmp_path.iterdir()] == ["step-000002"]
    found = load_sharded(make_policy(1), tmp_path)
    assert (found.run, found.stopped) == (state.run, state.stopped)
    assert found.steps == json.loads(json.dumps(state.steps))
    for name, one in state.weights.items():
        assert torch.equal(one, found.weights[name])
        for key, value in state.optimizer[name].items():
            assert torch.equal(value, found.optimizer[name][key])
    (tmp_path / "step-000002" / ".metadata").write_bytes(b"\x00")
    with pytest.raises(CheckpointError, match="can't be read"):
        load_sharded(make_policy(1), tmp_path)


def test_nothing_saved_and_nowhere_to_save(policy, tmp_path):
    assert load_sharded(policy, tmp_path) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="can't be written"):
        save_sharded(TrainState(), tmp_path / "file", ALONE)


@pytest.mark.deep
def test_launched_runs_on_two_processes_equal_one_and_go_on_from_one(job, make_policy, tmp_path):
    alone = make_policy(0)
    states: list[TrainState] = []
    state = TrainState()
    whole = tmp_path / "whole"
    taken_over = tmp_path / "taken over"
    for folder in (whole, taken_over):
        write_job(folder, job)

    def keep(done, *_):
        if done == 1:
            save_sharded(state, taken_over / "state", ALONE)
            states.append(state)

    turn = train_turn(alone, job.groups, SETTINGS, temperature=0.9, state=state, on_step=keep)
    assert states
    for folder in (whole, taken_over):  # from the start; from the state that one process left
        metrics = launch(folder, 2, threads=1)
        assert metrics.summary()["loss"] == pytest.approx(turn.summary()["loss"], rel=1e-5)
        assert metrics.batch_tokens == turn.batch_tokens
        _close(Policy.load(folder / "weights"), dict(alone.model.named_parameters()))


@pytest.mark.deep
def test_a_failing_process_is_named(job, tmp_path):
    write_job(tmp_path, job)
    (job.parent / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"ended with 1: process \d: .*no model\.saf"):
        launch(tmp_path, 2, threads=1)


def test_nothing_goes_on_whose_command_was_killed_while_it_was_still_starting(tmp_path):
    words = "import sys; from trainer.launching import launch; launch(sys.argv[1], 2)"
    command = subprocess.Popen([sys.executable, "-c", words, str(tmp_path)])
    started: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while not started and time.monotonic() < deadline:
        time.sleep(0.02)
        started = psutil.Process(command.pid).children()
    command.kill()
    command.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert started
    assert not alive
    assert not (tmp_path / "failed").exists()  # where processes say that there is no job


def test_a_process_whose_starter_is_gone_ends(monkeypatch):
    words = [sys.executable, "-c", "from trainer.distributed import *; tie_to_parent()"]
    for starter, code in ((os.getpid(), 0), (1 << 30, -signal.SIGKILL)):
        monkeypatch.setenv(STARTER_VARIABLE, str(starter))
        assert subprocess.run(words).returncode == code


def test_what_can_not_be_launched(job, tmp_path, monkeypatch):
    write_job(tmp_path, job)
    with pytest.raises(ConfigError, match="0 processes"):
        launch(tmp_path, 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.distributed.is_gloo_available", lambda: False)
    with pytest.raises(ConfigError, match="has no gloo"):
        launch(tmp_path, 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match="2 processes need as many GPUs, and there are 1"):
        check_processes(2)


@pytest.mark.deep
def test_traces_of_an_older_checkpoint_and_a_turn_that_is_done(job, make_policy, tmp_path):
    """Groups with an age need that checkpoint's weights in every process."""
    older = make_policy(1)
    groups = tuple(
        replace(one, checkpoint=7, age=1) if number % 2 else one
        for number, one in enumerate(job.groups)
    )
    alone = make_policy(0)
    turn = train_turn(alone, groups, SETTINGS, temperature=0.9, behaviour_of=lambda number: older)
    told = []
    apart = Apart(tmp_path / "apart", job.parent, 2, threads=1, save_seconds=0.0)
    together = make_policy(0)
    metrics = apart(
        together,
        groups,
        SETTINGS,
        temperature=0.9,
        behaviour_of=lambda number: older,
        on_step=lambda done, total, step: told.append((done, total)),
    )
    assert metrics.summary()["loss"] == pytest.approx(turn.summary()["loss"], rel=1e-5)
    assert told == [(1, 2), (2, 2)]
    _close(together, dict(alone.model.named_parameters()))
    # Once more: nothing is computed, the steps are told again.
    again = make_policy(0)
    (tmp_path / "apart" / "state").rename(tmp_path / "gone")
    assert apart(
        again, groups, SETTINGS, temperature=0.9, on_step=lambda *one: told.append(one[:2])
    )
    assert told == [(1, 2), (2, 2)] * 2
    for name, one in again.model.named_parameters():
        assert torch.equal(one, dict(together.model.named_parameters())[name])


@pytest.mark.deep
def test_what_another_job_left_in_the_folder_is_not_taken_for_this_one(job, make_policy, tmp_path):
    """Traces that teach nothing, and more of them bought behind that."""
    settings = SETTINGS.model_copy(update={"mean_tolerance": 4.0})
    worthless = tuple(
        replace(one, behaviour=tuple((-20.0,) * len(row) for row in one.completions))
        for one in job.groups
    )
    apart = Apart(tmp_path / "apart", job.parent, 2, threads=1)
    assert apart(make_policy(0), worthless, settings, temperature=0.9).tokens == 0
    policy, alone = make_policy(0), make_policy(0)
    turn = train_turn(alone, job.groups, settings, temperature=0.9)
    metrics = apart(policy, job.groups, settings, temperature=0.9)
    assert metrics.tokens == turn.tokens > 0
    _close(policy, dict(alone.model.named_parameters()))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_train_in_bf16(job, tmp_path):
    settings = SETTINGS.model_copy(update={"precision": "bf16", "recompute": True})
    write_job(tmp_path, Job(job.parent, job.groups, settings, 0.9))
    metrics = launch(tmp_path, 2)
    assert len(metrics.steps) == 2
    Policy.load(tmp_path / "weights")
