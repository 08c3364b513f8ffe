"""Rounding to bf16 keeps what a step taught on average, and most weights as they were."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from marketplace.gym.policy import Policy
from marketplace.gym.spec import SamplingSpec
from marketplace.protocol.errors import CheckpointError
from trainer.checkpoint import TrainingRecord, save_checkpoint
from trainer.rounding import round_weights

RECORD = TrainingRecord(parent=1, dataset={}, settings={}, metrics={})


def _flat(policy):
    return torch.cat([one.detach().flatten() for one in policy.model.parameters()]).clone()


def _fits(weights):
    return weights.to(torch.bfloat16).float() == weights


def test_rounded_weights_fit_and_are_neighbours(make_policy):
    policy = make_policy(0)
    before = _flat(policy)
    round_weights(policy, 0)
    after = _flat(policy)
    assert bool(_fits(after).all())
    unit = before.abs() * 2.0**-7
    assert bool(((after - before).abs() <= unit).all())
    # Signs, zeros and numbers that fit already stay.
    assert bool(((after == 0) | (after.sign() == before.sign())).all())
    again = after.clone()
    round_weights(policy, 1)
    assert torch.equal(_flat(policy), again)


def test_small_steps_are_kept_on_average_and_by_few_weights(make_policy):
    policy = make_policy(0)
    round_weights(policy, 0)
    for weights in policy.model.parameters():
        weights.data.fill_(0.1).copy_(weights.to(torch.bfloat16).float())
    start = _flat(policy)
    step = 1e-5  # a fiftieth of bf16's unit there
    moved = torch.zeros_like(start)
    for seed in range(20):
        for weights in policy.model.parameters():
            weights.data.fill_(float(start[0]) + step)
        round_weights(policy, seed)
        change = _flat(policy) - start
        share = float((change != 0).float().mean())
        assert 0.01 < share < 0.04
        moved += change
    assert float(moved.mean() / 20) == pytest.approx(step, rel=0.05)
    # The nearest number is the old one: all of it would be lost.
    assert torch.equal((start + step).to(torch.bfloat16).float(), start)


def test_a_seed_decides(make_policy):
    flat = []
    for seed in (0, 0, 1):
        policy = make_policy(0)
        round_weights(policy, seed)
        flat.append(_flat(policy))
    assert torch.equal(flat[0], flat[1])
    assert not torch.equal(flat[0], flat[2])


def test_weights_that_are_not_finite_stay_so(make_policy):
    policy = make_policy(0)
    policy.model.model.norm.weight.data[:2] = torch.tensor([float("nan"), float("inf")])
    round_weights(policy, 0)
    assert policy.model.model.norm.weight[0].isnan()
    assert policy.model.model.norm.weight[1].isinf()


def test_half_a_checkpoint_is_the_whole_policy(make_policy, tmp_path):
    policy = make_policy(0)
    options = {"sampling": SamplingSpec(), "record": RECORD}
    with pytest.raises(CheckpointError, match="does not fit bf16"):
        save_checkpoint(policy, tmp_path / "half", half=True, **options)
    round_weights(policy, 0)
    half = save_checkpoint(policy, tmp_path / "half", half=True, **options)
    whole = save_checkpoint(policy, tmp_path / "whole", **options)
    stored = load_file(half / "model.safetensors")
    assert {one.dtype for one in stored.values()} == {torch.bfloat16}
    sizes = [(one / "model.safetensors").stat().st_size for one in (half, whole)]
    assert sizes[0] < 0.6 * sizes[1]
    # Whoever loads it computes with the very weights that the trainer had.
    loaded = Policy.load(half)
    assert torch.equal(_flat(loaded), _flat(policy))
    assert next(policy.model.parameters()).dtype == torch.float32
