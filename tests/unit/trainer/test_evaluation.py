"""Held-out accuracy: known values, error bars that cover, tasks that differ."""

from __future__ import annotations

import math
import random

import pytest

from marketplace.gym.environment import Environment
from marketplace.gym.spec import builtin_spec
from marketplace.protocol.errors import InvalidValue, SpecError
from trainer.evaluate import Estimate, Evaluation, evaluate, heldout_tasks, paired_gain


def test_known_values():
    evaluation = Evaluation(((1.0, 1.0), (0.0, 0.5), (1.0, 0.0), (0.0, 0.0)))
    assert evaluation.samples == 2
    accuracy = evaluation.pass_at_1()
    assert accuracy.value == pytest.approx(3 / 8)
    # Task means 1, 0, 1/2, 0: sample variance 0.229166..., over four tasks.
    assert accuracy.error == pytest.approx(math.sqrt(0.22916666666 / 4))
    assert evaluation.mean_score().value == pytest.approx(3.5 / 8)
    assert evaluation.pass_at_k(2).value == pytest.approx(0.5)
    assert evaluation.pass_at_k(1).value == pytest.approx(accuracy.value)


def test_samples_of_one_task_do_not_count_as_independent():
    # Ten tasks whose samples all agree are ten observations, however many samples.
    once = Evaluation(tuple((float(i % 2),) for i in range(10)))
    often = Evaluation(tuple((float(i % 2),) * 50 for i in range(10)))
    assert often.pass_at_1().error == pytest.approx(once.pass_at_1().error)


def test_pass_at_k_is_unbiased():
    draw = random.Random(1)
    chances = [draw.random() for _ in range(2000)]
    scores = tuple(tuple(float(draw.random() < p) for _ in range(6)) for p in chances)
    expected = sum(1 - (1 - p) ** 3 for p in chances) / len(chances)
    estimate = Evaluation(scores).pass_at_k(3)
    assert abs(estimate.value - expected) < 5 * estimate.error


def test_paired_gain_is_sharper_than_the_difference_of_two_means():
    draw = random.Random(2)
    before, after = [], []
    for _ in range(300):
        chance = draw.choice((0.05, 0.9))
        before.append(tuple(float(draw.random() < chance) for _ in range(4)))
        after.append(tuple(float(draw.random() < chance + 0.08) for _ in range(4)))
    first, second = Evaluation(tuple(before)), Evaluation(tuple(after))
    gain = paired_gain(first, second)
    assert gain.value == pytest.approx(second.pass_at_1().value - first.pass_at_1().value)
    apart = math.hypot(first.pass_at_1().error, second.pass_at_1().error)
    assert gain.error < 0.7 * apart
    assert gain.sigmas > 2


def test_sigmas_without_error():
    assert Estimate(0.0, 0.0).sigmas == 0
    assert Estimate(-0.5, 0.0).sigmas == -math.inf


@pytest.mark.parametrize(
    "scores",
    [(), ((1.0,),), ((1.0,), ()), ((1.0, 0.0), (1.0,)), ((1.0,), (1.5,)), ((1.0,), (math.nan,))],
)
def test_scores_that_are_no_evaluation(scores):
    with pytest.raises(InvalidValue, match="an evaluation needs"):
        Evaluation(scores)


def test_what_can_not_be_asked():
    evaluation = Evaluation(((1.0, 0.0), (0.0, 0.0)))
    with pytest.raises(InvalidValue, match="pass@3"):
        evaluation.pass_at_k(3)
    with pytest.raises(InvalidValue, match="not paired"):
        paired_gain(evaluation, Evaluation(((1.0,),) * 3))


def test_heldout_tasks_all_differ_and_are_held_out():
    environment = Environment(builtin_spec("two_digit_sums"))
    tasks = heldout_tasks(environment, 200)
    assert len({task.question for task in tasks}) == 200
    assert tasks == heldout_tasks(environment, 201)[:200]
    sold = {environment.task(index.to_bytes(32, "big")).question for index in range(2000)}
    assert not sold & {task.question for task in tasks}


def test_too_few_heldout_questions():
    spec = builtin_spec("chain_sum")
    source = spec.source.model_copy(
        update={"config": {"min_terms": 1, "max_terms": 1, "min_digits": 1, "max_digits": 1}}
    )
    prompt = spec.prompt.model_copy(update={"shots": 0})
    changed = spec.model_copy(update={"source": source, "prompt": prompt, "holdout_ppm": 400_000})
    with pytest.raises(SpecError, match="held-out questions, not 11"):
        heldout_tasks(Environment(changed), 11)


def test_evaluate_asks_and_scores_in_order():
    environment = Environment(builtin_spec("two_digit_sums"))
    tasks = heldout_tasks(environment, 3)
    asked, told = [], []

    def complete(prompts):
        asked.extend(prompts)
        return [(task.answer, "no") for task in tasks]

    evaluation = evaluate(
        tasks, complete, environment.score, on_task=lambda done, of: told.append((done, of))
    )
    assert asked == [task.prompt for task in tasks]
    assert evaluation.scores == ((1.0, 0.0),) * 3
    assert told == [(1, 3), (2, 3), (3, 3)]
