"""A turn that was interrupted goes on and ends in the weights it would have had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.protocol.errors import CheckpointError
from trainer import state as state_module
from trainer.config import TrainSettings
from trainer.data import TrainingGroup
from trainer.grpo import train_turn
from trainer.state import STATE_NAME, TrainState, load_state, save_state

SETTINGS = TrainSettings(
    learning_rate=3e-3, groups_per_step=2, epochs=2, token_budget=64, min_effective_share=0.0
)


class Killed(Exception):
    pass


def _groups(policy, count=6):
    found = []
    for task in range(count):
        prompt = policy.codec.encode(f"{task} + 1 = ")
        completions = tuple(map(policy.codec.encode, ("2\n", "3\n", "11\n")))
        (behaviour,) = completion_logprobs(policy, [TokenGroup(prompt, completions)], 1.0)
        found.append(TrainingGroup(1, task, prompt, completions, tuple(behaviour), (1.0, 0.0, 0.0)))
    return found


def _killed_after(policy, folder, at, settings=SETTINGS):
    state = TrainState()

    def on_step(done, total, metrics):
        save_state(state, folder)
        if done == at:
            raise Killed

    with pytest.raises(Killed):
        train_turn(policy, _groups(policy), settings, temperature=1.0, on_step=on_step, state=state)


@pytest.mark.parametrize("at", [1, 4])
def test_interrupted_turn_ends_in_the_same_weights(make_policy, tmp_path: Path, at):
    whole, killed, again = make_policy(3), make_policy(3), make_policy(3)
    expected = train_turn(whole, _groups(whole), SETTINGS, temperature=1.0)
    _killed_after(killed, tmp_path, at)

    seen = []
    metrics = train_turn(
        again,
        _groups(again),
        SETTINGS,
        temperature=1.0,
        state=load_state(tmp_path),
        on_step=lambda done, total, _: seen.append((done, total)),
    )
    assert seen == [(done, 6) for done in range(at + 1, 7)]
    assert metrics.summary() == expected.summary()
    for name, one in whole.model.state_dict().items():
        assert torch.equal(one, again.model.state_dict()[name]), name


def test_a_turn_ends_in_the_precision_that_it_was_begun_in(make_policy, tmp_path, monkeypatch):
    """What "auto" takes is measured, and a busy machine measures something else each time."""
    auto = SETTINGS.model_copy(update={"precision": "auto"})
    half = SETTINGS.model_copy(update={"precision": "bf16"})
    whole, killed, again = make_policy(3), make_policy(3), make_policy(3)
    train_turn(whole, _groups(whole), half, temperature=1.0)
    measured = iter([True, False, False, False, False, False])
    monkeypatch.setattr("trainer.forward.bf16_gains", lambda device: next(measured))
    _killed_after(killed, tmp_path, 2, auto)
    train_turn(again, _groups(again), auto, temperature=1.0, state=load_state(tmp_path))
    for name, one in whole.model.state_dict().items():
        assert torch.equal(one, again.model.state_dict()[name]), name


def test_finished_turn_is_not_trained_again(make_policy, tmp_path):
    policy, again = make_policy(3), make_policy(3)
    state = TrainState()
    train_turn(policy, _groups(policy), SETTINGS, temperature=1.0, state=state)
    save_state(state, tmp_path)
    train_turn(again, _groups(again), SETTINGS, temperature=1.0, state=load_state(tmp_path))
    for name, one in policy.model.state_dict().items():
        assert torch.equal(one, again.model.state_dict()[name]), name


def test_state_of_another_run_is_refused(make_policy, tmp_path):
    _killed_after(make_policy(3), tmp_path, 1)
    policy = make_policy(3)
    other = SETTINGS.model_copy(update={"seed": 9})
    with pytest.raises(CheckpointError, match="belongs to run"):
        train_turn(policy, _groups(policy), other, temperature=1.0, state=load_state(tmp_path))


def test_only_what_requires_a_gradient_changes(make_policy, tmp_path):
    policy = make_policy(3)
    before = {name: one.clone() for name, one in policy.model.state_dict().items()}
    for name, one in policy.model.named_parameters():
        one.requires_grad = "mlp" in name
    state = TrainState()
    train_turn(policy, _groups(policy), SETTINGS, temperature=1.0, state=state)
    changed = {n for n, one in policy.model.state_dict().items() if not torch.equal(one, before[n])}
    assert changed
    assert changed <= state.weights.keys()
    assert all("mlp" in name for name in state.weights)


def test_no_state_and_a_broken_one(tmp_path):
    assert load_state(tmp_path) is None
    (tmp_path / STATE_NAME).write_bytes(b"half of a")
    with pytest.raises(CheckpointError, match=r"state\.safetensors' can't be read"):
        load_state(tmp_path)


def test_a_full_disk_leaves_the_state_before(make_policy, tmp_path, monkeypatch):
    policy = make_policy(3)
    state = TrainState()
    train_turn(policy, _groups(policy, 1), SETTINGS, temperature=1.0, state=state)
    save_state(state, tmp_path)
    before = (tmp_path / STATE_NAME).read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module.os, "fsync", full)
    state.steps.append(state.steps[-1])
    with pytest.raises(CheckpointError, match="No space left") as caught:
        save_state(state, tmp_path)
    assert "free disk space" in str(caught.value.fix)
    assert (tmp_path / STATE_NAME).read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [STATE_NAME]
    assert json.dumps(load_state(tmp_path).steps)
