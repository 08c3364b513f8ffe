"""Which recipe `train` runs: the one named, changed by the options, or one turn on bounties."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marketplace.cli.context import Context
from marketplace.protocol.errors import ConfigError

if TYPE_CHECKING:
    from trainer.recipe import Recipe


def chosen_recipe(
    recipe: str | None,
    bounty: Sequence[int] | None,
    environment: Sequence[str] | None,
    settings: Path | None,
    evaluate: int | None,
    samples: int,
) -> Recipe | None:
    """The recipe with what the options change; None where bounties say it all."""
    from trainer.config import load_settings
    from trainer.recipe import EvaluationPolicy, load_recipe

    if recipe is None:
        if environment:
            raise ConfigError("--environment goes with --recipe: bounties have theirs")
        return None
    found = load_recipe(recipe)
    changed: dict[str, Any] = {}
    if environment:
        changed["environments"] = tuple(environment)
        changed["stages"] = tuple(
            stage.model_copy(update={"environments": ()}) for stage in found.stages
        )
    if settings is not None:
        changed["settings"] = load_settings(settings).model_dump(mode="json")
    if evaluate is not None:
        changed["evaluation"] = (
            EvaluationPolicy(tasks=max(2, evaluate), samples=samples) if evaluate else None
        )
    return found.model_copy(update=changed)


def recipe_of_bounties(
    context: Context,
    bounties: Sequence[int],
    settings: Path | None,
    evaluate: int | None,
    samples: int,
) -> Recipe:
    """One turn on the batches of bounties, as a recipe."""
    from trainer.config import load_settings
    from trainer.recipe import EvaluationPolicy, Recipe, Stage

    reader = context.reader()
    environments = {reader.bounty(number).terms.environment for number in bounties}
    if len(environments) != 1:
        raise ConfigError(
            f"bounties {', '.join(map(str, bounties))} are of {len(environments)} environments",
            fix="name bounties of one environment that have settled batches",
        )
    chosen = {} if settings is None else load_settings(settings).model_dump(mode="json")
    return Recipe(
        v=1,
        name="train",
        environments=("0x" + environments.pop().hex(),),
        evaluation=EvaluationPolicy(tasks=max(2, evaluate), samples=samples) if evaluate else None,
        settings=chosen,
        stages=(Stage(name="bought", kind="rl"),),
    )
