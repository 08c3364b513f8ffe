"""Progress of `train`: bars of the turns and of the steps, with the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import Progress

from marketplace.cli.output import bars, say

if TYPE_CHECKING:
    from trainer.grpo import StepMetrics
    from trainer.recipe import Plan, Recipe
    from trainer.run import Options

SPEED_SECONDS = 24 * 3600.0
"""What the time that is left is estimated from: the last so many seconds."""


def training_progress(clock: Callable[[], float] | None = None) -> Progress:
    """Bars with the time that is left. By default rich takes the speed of the last 30 seconds, and
    knows none where a step takes longer than that; here evaluations and waiting count too."""
    return bars(speed_estimate_period=SPEED_SECONDS, get_time=clock)


@contextmanager
def training_bars(recipe: Recipe, turns: int) -> Iterator[Callable[[float, int], Options]]:
    """Progress of the turns, and of the steps of the one in work, with the time that is left."""
    from trainer.run import Options

    with training_progress() as bar:
        run = bar.add_task(f"{recipe.name}, turns", total=turns)
        steps = bar.add_task("steps", total=None, visible=False)
        at = 0

        def on_step(plan: Plan, done: int, total: int, metrics: StepMetrics) -> None:
            nonlocal at
            if plan.turn != at:
                bar.reset(steps, total=total, visible=True)
                at = plan.turn
            bar.update(steps, completed=done, total=total, description=f"turn {plan.turn}, steps")
            bar.update(run, completed=plan.turn - 1 + done / total)

        yield lambda save_seconds, processes: Options(
            save_seconds=save_seconds, processes=processes, say=say, on_step=on_step
        )
