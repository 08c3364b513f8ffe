"""Which recipe `train` runs: the one named, changed by the options, or one turn on bounties."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from marketplace.cli.context import Context
from marketplace.protocol.errors import ConfigError

if TYPE_CHECKING:
    from trainer.config import TrainSettings
    from trainer.recipe import EvaluationPolicy, Recipe


def chosen_recipe(
    recipe: str | None,
    bounty: Sequence[int] | None,
    environment: Sequence[str] | None,
    settings: Path | None,
    evaluate: int | None,
    samples: int | None,
) -> Recipe | None:
    """The recipe with what the options change; None where bounties say it all."""
    from trainer.config import load_settings
    from trainer.recipe import changed_recipe, load_recipe

    if recipe is None:
        if environment:
            raise ConfigError("--environment goes with --recipe: bounties have theirs")
        return None
    found = load_recipe(recipe)
    changed: dict[str, Any] = {"evaluation": _evaluation(found.evaluation, evaluate, samples)}
    if environment:
        changed["environments"] = tuple(environment)
        changed["stages"] = tuple(
            stage.model_dump(mode="json") | {"environments": ()} for stage in found.stages
        )
    if settings is not None:
        changed["settings"] = found.settings | _given(load_settings(settings))
    made = changed_recipe(found, changed)
    for stage in made.stages:
        made.settings_of(stage)
    return made


def recipe_of_bounties(
    context: Context,
    bounties: Sequence[int],
    settings: Path | None,
    evaluate: int | None,
    samples: int | None,
) -> Recipe:
    """One turn on the batches of bounties, as a recipe."""
    from trainer.config import load_settings
    from trainer.recipe import EvaluationPolicy, Recipe, Stage

    chosen = {} if settings is None else load_settings(settings).model_dump(mode="json")
    evaluation = _evaluation(None, evaluate, samples)
    reader = context.reader()
    environments = {reader.bounty(number).terms.environment for number in bounties}
    if len(environments) != 1:
        raise ConfigError(
            f"bounties {', '.join(map(str, bounties))} are of {len(environments)} environments",
            fix="name bounties of one environment that have settled batches",
        )
    return Recipe(
        v=1,
        name="train",
        environments=("0x" + environments.pop().hex(),),
        evaluation=None if evaluation is None else EvaluationPolicy(**evaluation),
        settings=chosen,
        stages=(Stage(name="bought", kind="rl"),),
    )


def _evaluation(
    policy: EvaluationPolicy | None, evaluate: int | None, samples: int | None
) -> dict[str, Any] | None:
    """What is evaluated: the policy with what --evaluate and --samples say. Checked."""
    from trainer.recipe import EvaluationPolicy

    if samples is not None and (evaluate == 0 or (evaluate is None and policy is None)):
        raise ConfigError(
            f"--samples is {samples}, and nothing is evaluated",
            fix="add --evaluate TASKS, or drop --samples",
        )
    if evaluate == 0 or (evaluate is None and policy is None):
        return None
    plain = (policy or EvaluationPolicy()).model_dump()
    for option, name, value in (("evaluate", "tasks", evaluate), ("samples", "samples", samples)):
        if value is None:
            continue
        try:
            EvaluationPolicy(**(plain | {name: value}))
        except ValidationError as error:
            raise ConfigError(
                f"--{option} is {value}: {error.errors()[0]['msg'].lower()}",
                fix="0 evaluates nothing" if option == "evaluate" else None,
            ) from None
        plain[name] = value
    return plain


def _given(settings: TrainSettings) -> dict[str, Any]:
    """The keys that a file of settings has."""
    return settings.model_dump(mode="json", exclude_unset=True)
