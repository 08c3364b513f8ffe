"""A run whose turns do better and worse: which of them are kept, registered and built on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import trainer.run
from trainer.curves import evaluation_record
from trainer.evaluate import Evaluation
from trainer.metrics import open_streams
from trainer.recipe import EvaluationPolicy, Recipe, Stage
from trainer.report import run_page
from trainer.run import Bought, Options, RunFolder, run_recipe

SOLVED = {"base": 4, "turn-1": 6, "turn-2": 1, "turn-3": 7, "turn-4": 9}
"""Of ten tasks with one sample each."""


class Weights:
    """Names of weights instead of weights. `trained`: what a turn has made of them, in place."""

    def __init__(self) -> None:
        self.kept = self.trained = "base"
        self.started: list[str] = []

    def policy(self, environment):
        return self

    def advance(self, environment, folder):
        self.kept = folder.parent.name

    def roll_back(self):
        self.trained = self.kept

    def needs(self, folder):
        return folder.parent.name == self.kept

    def number(self, environment, first, records):
        return records[-1]["checkpoint"] if records else first

    def saving(self, environment):
        return {}


class Trader:
    unit = None

    def __init__(self) -> None:
        self.registered: list[int] = []
        self.lost: list[int] = []

    def spec(self, environment):
        return None

    def buy(self, plan, policy, parent):
        return Bought([], float(plan.turn))

    def publish(self, plan, trained):
        self.registered.append(plan.turn)
        return 10 + plan.turn

    def rolled_back(self, plan, trained):
        self.lost.append(plan.turn)


def train(policy, parent, batches, spec, settings, folder, **_):
    policy.started.append(policy.trained)
    folder.mkdir(parents=True)
    policy.trained = folder.parent.name
    (folder / "model.safetensors").write_text(policy.trained)
    return SimpleNamespace(
        dataset=SimpleNamespace(traces=8, mean_score=0.5, mean_tokens=3.0),
        left_out={"copy": 3},
        metrics=SimpleNamespace(groups=2, tokens=16, steps=(), stopped_early=False),
    )


def evaluate(policy, environment):
    scores = tuple((float(task < SOLVED[policy.trained]),) for task in range(10))
    return evaluation_record(Evaluation(scores), environment="0x01")


@pytest.fixture
def play(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer.run, "train_on_batches", train)
    monkeypatch.setattr(trainer.run, "write_report", lambda *_: None)

    def run(environments=("sums",), turns=3, unit=None, **settings):
        recipe = Recipe(
            v=1,
            name="three",
            environments=environments,
            evaluation=EvaluationPolicy(tasks=10, samples=1),
            settings=settings,
            stages=(Stage(name="rl", kind="rl", turns=turns),),
        )
        weights, trader, folder = Weights(), Trader(), RunFolder(tmp_path)
        trader.unit = unit
        report = run_recipe(
            recipe,
            weights,
            folder,
            trader,
            evaluate,
            lambda steps: open_streams([], tmp_path, steps=steps, run="run", config={}),
            Options(),
            first=10,
        )
        return weights, trader, report

    return run


def test_a_turn_that_did_worse_is_neither_registered_nor_built_on(play, tmp_path):
    weights, trader, report = play()
    assert weights.started == ["base", "turn-1", "turn-1"]
    assert (trader.registered, trader.lost) == ([1, 3], [2])
    (one,) = report["evaluations"]
    assert [(point["turn"], point["rolled_back"]) for point in one["over_turns"]] == [
        (0, False),
        (1, False),
        (2, True),
        (3, False),
    ]
    # One reason, given before and after verification.
    assert report["left_out"] == {"copy": 3 * (1 + 2)}
    turns = report["turns"]
    assert [turn["rolled_back"] for turn in turns] == [False, True, False]
    assert [(turn["parent"], turn["checkpoint"]) for turn in turns] == [
        (10, 11),
        (11, 11),
        (11, 13),
    ]
    assert (tmp_path / "turn-3" / "checkpoint").exists()
    assert not (tmp_path / "turn-2").exists()


def test_a_run_that_goes_on_knows_what_was_rolled_back(play, tmp_path):
    play()
    (tmp_path / "turn-3.json").unlink()  # killed before the last turn was done
    weights, trader, report = play()
    assert (weights.kept, trader.registered) == ("turn-3", [3])
    assert [turn["parent"] for turn in report["turns"]] == [10, 11, 11]


def test_how_much_worse_is_a_setting(play):
    _, trader, report = play(rollback_sigmas=100.0)
    assert trader.registered == [1, 2, 3]
    assert not any(turn["rolled_back"] for turn in report["turns"])


def test_each_environment_has_its_own_money_and_an_accuracy_of_the_last_weights(play):
    _, _, report = play(("sums", "products"), turns=2, unit="tUSD", rollback_sigmas=100.0)
    assert [turn["environment"] for turn in report["turns"]] == ["sums", "products"] * 2
    spent = [(row["environment"], row["turn"], row["total"]) for row in report["money"]["rows"]]
    assert spent == [("sums", 1, 1.0), ("products", 2, 2.0), ("sums", 3, 4.0), ("products", 4, 6.0)]
    # Points of products are none of what was spent on sums.
    assert report["money"]["rows"][3]["per_point"] == pytest.approx(6 / 50)
    # Turn 4 trained on products: what the model can do in sums afterwards is measured, not
    # remembered from turn 3.
    sums, products = report["evaluations"]
    assert (sums["after"]["pass_at_1"], products["after"]["pass_at_1"]) == (0.9, 0.9)
    page = run_page(report)
    assert "<th>environment</th><th>spent in it, tUSD</th><th>spent on its environment</th>" in page
