"""Whether a child is worth keeping: rollback to the parent where held-out accuracy fell.

The gates bound what one step can do, not what a thousand bought traces teach. Held-out tasks are
never sold, so accuracy on them is the last word that no seller has a hand in.
"""

from __future__ import annotations

from trainer.config import TrainSettings
from trainer.evaluate import Estimate, Evaluation, paired_gain


def rolls_back(before: Evaluation, after: Evaluation, settings: TrainSettings) -> bool:
    """Whether to go on from the parent: pass@1 on the same tasks fell by more than
    `rollback_sigmas` paired standard errors. before: the parent's. after: the child's.

    A child that is rolled back is not registered, so that miners go on with the parent; the next
    turn starts from there too.
    """
    return fell(paired_gain(before, after), settings.rollback_sigmas)


def fell(gain: Estimate, sigmas: float) -> bool:
    """Whether a gain is a loss of more than `sigmas` standard errors."""
    return gain.value < 0 and gain.value < -sigmas * gain.error
