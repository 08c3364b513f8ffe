"""A run's folder: whose it is, and what an error says of another run's."""

from __future__ import annotations

import pytest

from marketplace.protocol.errors import ConfigError
from trainer.recipe import load_recipe, recipe_identity
from trainer.run import RunFolder


def test_what_differs_is_named(tmp_path):
    folder = RunFolder(tmp_path / "run")
    recipe = load_recipe("r1")
    identity = {"v": 1, "recipe": recipe_identity(recipe)}
    assert not folder.begin(identity, resume=True)
    assert folder.begin(identity, resume=True)
    stages = (recipe.stages[0], recipe.stages[1].model_copy(update={"turns": 5}))
    for changes, said in (
        ({"evaluation": None}, r"its recipe\.evaluation is \{.*\}, not None"),
        (
            {"settings": {"learning_rate": 2e-5}},
            r"recipe\.settings\.learning_rate is 1e-05, not 2e",
        ),
        ({"stages": stages}, r"recipe\.stages\.1\.turns is 6, not 5"),
    ):
        other = recipe_identity(recipe.model_copy(update=changes))
        with pytest.raises(ConfigError, match=said):
            folder.begin({"v": 1, "recipe": other}, resume=True)


def test_one_process_at_a_time(tmp_path):
    folder = RunFolder(tmp_path / "run")
    refused = pytest.raises(ConfigError, match="another process runs in")
    with folder.alone(), refused, folder.alone():
        pass
    with folder.alone():
        pass
