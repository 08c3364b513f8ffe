"""Recipes are strict, and those that ship with the package say what their names promise."""

from __future__ import annotations

import pytest

from marketplace.cli.training_choice import chosen_recipe
from marketplace.gym.spec import builtin_names
from marketplace.protocol.errors import ConfigError
from trainer.recipe import changed_recipe, load_recipe, parse_recipe, plans, recipe_names

GOOD = """
v = 1
name = "good"
environments = ["chain_sum", "products"]
[settings]
learning_rate = 2e-5
betas = [0.8, 0.9]
[[stages]]
name = "one"
kind = "rl"
turns = 2
[stages.settings]
learning_rate = 3e-5
seed = 10
"""


def test_the_packages_recipes():
    assert recipe_names() == ["alphazero", "experts", "r1", "r1-zero"]
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert set(recipe.environments) <= set(builtin_names())
        assert list(plans(recipe))
    zero, one = load_recipe("r1-zero"), load_recipe("r1")
    assert [stage.kind for stage in zero.stages] == ["rl"]  # no human data
    assert zero.stages[0].reward.binary
    assert zero.stages[0].reward.format == zero.stages[0].reward.language == 0
    assert [stage.kind for stage in one.stages] == ["sft", "rl"]
    assert one.stages[1].reward.format > 0 < one.stages[1].reward.language
    assert load_recipe("alphazero").stages[0].positives == "self_play"
    assert load_recipe("experts").adapter is not None


def test_turns_and_settings():
    recipe = parse_recipe(GOOD, source="good.toml")
    found = list(plans(recipe))
    assert [one.environment for one in found] == ["chain_sum", "products"] * 2
    assert [one.turn for one in found] == [1, 2, 3, 4]
    assert {one.settings.learning_rate for one in found} == {3e-5}  # the stage's, not the run's
    assert found[0].settings.betas == (0.8, 0.9)
    assert [one.settings.seed for one in found] == [10, 11, 12, 13]
    adapted = recipe.model_copy(update={"adapter": load_recipe("experts").adapter})
    order = [one.environment for one in plans(adapted)]
    assert order == ["chain_sum"] * 2 + ["products"] * 2  # one expert after the other


@pytest.mark.parametrize(
    ("change", "to", "said"),
    [
        ("turns = 2", "turns = 0", "stages.0.turns is 0"),
        ("turns = 2", 'turns = "2"', "stages.0.turns is '2'"),
        ("turns = 2", "turn = 2", "stages.0.turn is 2: there is no such key"),
        ("v = 1", "v = 2", "v is 2"),
        ('name = "good"', "", "name: Field required"),
        ('kind = "rl"', 'kind = "ppo"', "stages.0.kind is 'ppo'"),
        ("learning_rate = 3e-5", "learning_rate = -1.0", "learning_rate is -1.0"),
        ("learning_rate = 3e-5", "rate = 3e-5", "rate is 3e-05"),
        ("turns = 2", "turns = 2\ngroup_size = 1", "group_size is 1"),
        ("turns = 2", 'turns = 2\nenvironments = ["code"]', "names environment 'code'"),
        ("[[stages]]", '[bounty]\nprice_per_unit = "-1"\n[[stages]]', "price_per_unit is '-1'"),
        ("[[stages]]", '[bounty]\ntier = "C"\n[[stages]]', "bounty.tier is 'C'"),
        ("[[stages]]", "[evaluation]\ntasks = 1\n[[stages]]", "evaluation.tasks is 1"),
        ('kind = "rl"', 'kind = "sft"\nreward = {binary = true}', "reward is of an rl stage"),
        ("turns = 2", "turns = 2026-01-01", "holds what no recipe has"),
        ("v = 1", "v = ", "is not TOML"),
    ],
)
def test_errors_name_the_key_and_the_value(change, to, said):
    assert change in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_recipe(GOOD.replace(change, to, 1), source="good.toml")
    assert said in str(caught.value)
    assert "good" in str(caught.value)


def test_recipes_that_there_are_not(tmp_path):
    with pytest.raises(ConfigError, match=r"no recipe 'r3'.*r1-zero"):
        load_recipe("r3")
    with pytest.raises(ConfigError, match=r"can't read .*none\.toml"):
        load_recipe(str(tmp_path / "none.toml"))


def test_two_results_never_have_one_place():
    with pytest.raises(ConfigError, match="an environment is named twice: products, products"):
        changed_recipe(parse_recipe(GOOD, source="x"), {"environments": ["products"] * 2})
    with pytest.raises(
        ConfigError, match=r"'a/spec\.json' and 'b/spec\.json' would both be called"
    ):
        changed_recipe(load_recipe("experts"), {"environments": ["a/spec.json", "b/spec.json"]})
    whole = parse_recipe(GOOD, source="x")
    assert changed_recipe(whole, {"environments": ["a/spec.json", "b/spec.json"]}).environments


def test_what_the_options_change(tmp_path):
    def chosen(recipe="experts", settings=None, evaluate=None, samples=None, environment=None):
        return chosen_recipe(recipe, None, environment, settings, evaluate, samples)

    assert chosen() == load_recipe("experts")
    # What an option does not name stays the recipe's.
    policy = chosen(evaluate=7).evaluation
    assert (policy.tasks, policy.samples, policy.every) == (7, 8, 3)
    assert chosen("r1-zero", samples=4).evaluation.samples == 4
    assert chosen(evaluate=0).evaluation is None
    fast = tmp_path / "fast.toml"
    fast.write_text("token_budget = 1024\n", "utf-8")
    settings = next(plans(chosen(settings=fast))).settings
    assert (settings.token_budget, settings.learning_rate) == (1024, 1e-4)
    for options, said in (
        ({"evaluate": 1}, "--evaluate is 1: input should be greater than or equal to 2"),
        ({"evaluate": 200_000}, "--evaluate is 200000"),
        ({"samples": 2000}, "--samples is 2000"),
        ({"evaluate": 0, "samples": 4}, "--samples is 4, and nothing is evaluated"),
        ({"environment": ["products", "products"]}, "named twice"),
    ):
        with pytest.raises(ConfigError, match=said):
            chosen(**options)
