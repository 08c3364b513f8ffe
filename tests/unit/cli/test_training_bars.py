"""The time that is left, where a step takes longer than rich looks back."""

from __future__ import annotations

from marketplace.cli.training_bars import training_progress


def test_slow_steps_have_an_estimate():
    now = 0.0
    bar = training_progress(lambda: now)
    steps = bar.add_task("steps", total=10)
    for done in range(1, 5):
        now += 60.0
        bar.update(steps, completed=done)
    assert bar.tasks[0].time_remaining == 6 * 60
