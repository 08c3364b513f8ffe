"""A child is given up where held-out accuracy fell by more than chance explains."""

from __future__ import annotations

import pytest

from trainer.config import TrainSettings
from trainer.evaluate import Estimate, Evaluation
from trainer.rollback import fell, rolls_back


@pytest.mark.parametrize(
    ("gain", "error", "sigmas", "back"),
    [
        (0.1, 0.01, 1.0, False),
        (-0.01, 0.02, 1.0, False),
        (-0.03, 0.02, 1.0, True),
        (-0.03, 0.02, 2.0, False),
        (-0.001, 0.02, 0.0, True),
        (0.0, 0.0, 0.0, False),
        (-0.1, 0.0, 3.0, True),
    ],
)
def test_a_loss_beyond_its_error_is_one(gain, error, sigmas, back):
    assert fell(Estimate(gain, error), sigmas) is back


def test_errors_are_paired_by_task():
    # Hard and easy tasks differ much, each task little: only the paired error sees the loss.
    before = Evaluation(tuple((float(n % 2),) * 10 for n in range(20)))
    worse = Evaluation(tuple((1.0,) * 8 + (0.0,) * 2 if n % 2 else (0.0,) * 10 for n in range(20)))
    assert rolls_back(before, worse, TrainSettings(rollback_sigmas=2.0))
    assert not rolls_back(worse, before, TrainSettings(rollback_sigmas=2.0))
    assert not rolls_back(before, before, TrainSettings(rollback_sigmas=0.0))
