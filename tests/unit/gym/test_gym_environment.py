"""Tasks, prompts, the held-out split and scores: fixed by the spec and the seed alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marketplace.gym.environment import Environment, checked_score, installed_version
from marketplace.gym.spec import EnvironmentSpec, builtin_names, builtin_spec, parse_spec
from marketplace.protocol.errors import CheckerFailed, EnvironmentMismatch, SpecError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Reason


def seed(number: int) -> bytes:
    return keccak(number.to_bytes(8, "big"))


def reasoning_gym_spec(task: str = "chain_sum", **config: Any) -> EnvironmentSpec:
    return changed(
        builtin_spec("chain_sum"),
        source={"kind": "reasoning_gym", "task": task, "config": config},
        scoring={"kind": "source"},
    )


def changed(spec: EnvironmentSpec, **changes: Any) -> EnvironmentSpec:
    return parse_spec(json.dumps({**spec.model_dump(mode="json"), **changes}).encode())


@pytest.fixture(scope="module")
def sums() -> Environment:
    return Environment(builtin_spec("chain_sum"))


# --- tasks -------------------------------------------------------------------------


# Sandboxes and large packages: tests/integration/gym/test_package_environments.py.
SLOW = {"code", "openenv_guess", "verifiers_code_words"}


@pytest.mark.parametrize("name", sorted(set(builtin_names()) - SLOW))
def test_reference_answers_score_one_and_junk_none(name: str) -> None:
    environment = Environment(builtin_spec(name))
    environment.self_test()
    # Of what a jury grades no checker says anything: it is readable, and worth nothing by itself.
    full = 1.0 if environment.spec.rubric is None else 0.0
    for number in range(30):
        task = environment.task(seed(number))
        assert environment.judge(task, environment.reference_completion(task)).score == full
        for junk in ("", "   ", "no idea", "<answer></answer>", "<answer>many</answer>"):
            assert environment.judge(task, junk).score == 0.0


def test_a_task_is_its_seed(sums: Environment) -> None:
    assert sums.task(seed(1)) == sums.task(seed(1))
    assert len({sums.task(seed(number)).question for number in range(50)}) > 40


def test_known_tasks_stay_what_they_are(sums: Environment) -> None:
    """A changed walk, split or generator would make sold traces answer other questions."""
    arithmetic = "State the final answer to the following arithmetic problem: "
    assert [sums.task(seed(number)).question for number in range(3)] == [
        arithmetic + "67 - 62 =",
        arithmetic + "1 - 6 =",
        arithmetic + "9 + 0 =",
    ]
    assert sums.heldout(0).question == arithmetic + "5 - 9 ="


# --- the held-out split ------------------------------------------------------------


def test_no_heldout_question_is_ever_sold(sums: Environment) -> None:
    sold = {sums.task(seed(number)).question for number in range(3000)}
    heldout = {sums.heldout(index).question for index in range(500)}
    assert not sold & heldout
    assert len(heldout) > 200


def test_the_split_has_the_size_that_the_spec_asks_for() -> None:
    spec = builtin_spec("chain_sum")
    environment = Environment(spec)
    everything = Environment(changed(spec, holdout_ppm=0))
    questions = {everything.task(seed(number)).question for number in range(3000)}
    heldout = sum(environment._is_heldout(everything.task(seed(n)).entry) for n in range(3000))
    assert len(questions) > 1000
    assert 0.07 < heldout / 3000 < 0.13  # 10 % and five standard errors


def test_asking_for_what_is_not_there(sums: Environment) -> None:
    none_held_out = Environment(changed(sums.spec, holdout_ppm=0))
    with pytest.raises(SpecError, match="holdout_ppm is 0"):
        none_held_out.heldout(0)
    config = {"min_terms": 1, "max_terms": 1, "min_digits": 1, "max_digits": 1}
    ten_questions = {
        "prompt": {"shots": 0},
        "source": {"kind": "reasoning_gym", "task": "chain_sum", "config": config},
    }
    with pytest.raises(SpecError, match="no held-out question in 10000 draws at holdout_ppm 1"):
        Environment(changed(sums.spec, holdout_ppm=1, **ten_questions)).heldout(0)
    with pytest.raises(CheckerFailed, match=r"no task found in 10000 draws from seed 0x"):
        Environment(changed(sums.spec, holdout_ppm=999_999, **ten_questions)).task(seed(0))
    with pytest.raises(SpecError, match=r"prompt.shots is 12, but .* only \d+ different"):
        Environment(changed(sums.spec, **{**ten_questions, "prompt": {"shots": 12}}))


# --- prompts -----------------------------------------------------------------------


def test_shots_come_first_solved_and_are_never_asked(sums: Environment) -> None:
    lines = sums.task(seed(0)).prompt.split("\n")
    assert len(lines) == 5
    shots = [line.rpartition(" = ") for line in lines[:4]]
    for question, _, answer in shots:
        left, sign, right = question.rpartition(": ")[2].split()
        assert int(answer) == int(left) + (int(right) if sign == "+" else -int(right))
    shown = {f"{question} =" for question, _, _ in shots}
    assert len(shown) == 4
    asked = {sums.task(seed(number)).question for number in range(2000)}
    asked |= {sums.heldout(number).question for number in range(500)}
    assert not shown & asked


def test_placeholders_are_replaced_literally_and_once() -> None:
    spec = changed(
        builtin_spec("products"),
        prompt={
            "template": "{0} {question.__class__} {question}!",
            "shots": 1,
            "shot_template": "({answer}|{question})",
        },
    )
    task = Environment(spec).task(seed(3))
    shown, _, asked = task.prompt.partition(")")
    assert shown.startswith("(")
    assert asked == f"{{0}} {{question.__class__}} {task.question}!"


# --- answers and scores ------------------------------------------------------------


def test_exact_scoring_reads_the_stripped_completion(sums: Environment) -> None:
    task = sums.task(seed(5))
    assert sums.judge(task, f"  {task.answer}\n").reason is Reason.CORRECT
    assert sums.judge(task, f"{task.answer}.0").reason is Reason.WRONG
    assert sums.judge(task, " \n").reason is Reason.PARSE_FAILURE
    assert sums.score(task, task.answer) == 1.0


@pytest.mark.parametrize(
    ("rule", "completion", "reason"),
    [
        ({"kind": "last_line"}, "so it must be\n {} \n\n", Reason.CORRECT),
        ({"kind": "last_line"}, "{}\nor so", Reason.WRONG),
        ({"kind": "between", "start": "<<", "end": ">>"}, "<<1>> no, << {} >> !", Reason.CORRECT),
        ({"kind": "between", "start": "<<", "end": ">>"}, "<<<<{}>>", Reason.CORRECT),
        ({"kind": "between", "start": "<<", "end": ">>"}, "{}", Reason.PARSE_FAILURE),
        ({"kind": "between", "start": "<<", "end": ">>"}, ">>{}<<", Reason.PARSE_FAILURE),
        ({"kind": "between", "start": "<<", "end": ">>"}, "<<{}", Reason.PARSE_FAILURE),
        ({"kind": "between", "start": "<<", "end": ">>"}, "<<  >>", Reason.PARSE_FAILURE),
        ({"kind": "between", "start": "#", "end": "#"}, "is #{}#", Reason.CORRECT),
    ],
)
def test_answer_rules(rule: dict[str, str], completion: str, reason: Reason) -> None:
    environment = Environment(changed(builtin_spec("chain_sum"), answer=rule))
    task = environment.task(seed(5))
    assert environment.judge(task, completion.format(task.answer)).reason is reason
    environment.self_test()


def test_a_scorer_of_parts_gives_partial() -> None:
    environment = Environment(builtin_spec("products"))
    task = environment.task(seed(5))
    judgement = environment.judge(task, f"about {task.answer}")
    assert judgement.reason is Reason.PARTIAL
    assert 0 < judgement.score < 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.7, -0.1, "1", None, [1.0]])
def test_only_numbers_from_0_to_1_are_scores(value: object) -> None:
    with pytest.raises(CheckerFailed, match=r"the checker returned .*not a number"):
        checked_score(value)


def test_rounding_just_over_one_is_one() -> None:
    assert checked_score(1.0000000000000002) == 1.0
    assert checked_score(1) == 1.0


def test_a_checker_that_raises_is_an_error_not_a_zero() -> None:
    environment = Environment(reasoning_gym_spec("prime_factorization"))
    with pytest.raises(CheckerFailed, match="the checker raised ValueError"):
        environment.judge(environment.task(seed(0)), "junk")


def test_an_environment_that_refuses_its_own_answers_is_named() -> None:
    spec = changed(
        builtin_spec("chain_sum"),
        source={"kind": "reasoning_gym", "task": "spell_backward", "config": {}},
        answer={"kind": "last_line"},
        scoring={"kind": "math_verify"},
        packages=dict(builtin_spec("math_answer").packages, **{"reasoning-gym": "0.1.25"}),
    )
    with pytest.raises(SpecError, match=r"the reference answer '.*' of '.*' is"):
        Environment(spec).self_test()


# --- what a source refuses ---------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "config", "message"),
    [
        ("chain_sums", {}, r"no reasoning-gym task 'chain_sums'\. Fix: did you mean \['chain_sum'"),
        ("zzzz", {}, r"no reasoning-gym task 'zzzz'\. Fix: use one of \['ab', "),
        ("chain_sum", {"max_term": 2}, r"no config key 'max_term'\. Fix: .*'max_terms'"),
        ("chain_sum", {"seed": 2}, "config key 'seed' of task 'chain_sum' is fixed"),
        ("chain_sum", {"size": 2}, "config key 'size' of task 'chain_sum' is fixed"),
        ("chain_sum", {"max_terms": "2"}, "'max_terms' of task 'chain_sum' is '2': .*integer"),
        ("chain_sum", {"max_terms": 2.5}, "'max_terms' of task 'chain_sum' is 2.5: .*integer"),
        (
            "chain_sum",
            {"max_terms": 0},
            r"refuses config \{\"max_terms\": 0\}: AssertionError: max",
        ),
        ("word_ladder", {}, "'word_ladder' can't be used: .*hash seed"),
        ("time_intervals", {}, "'time_intervals' can't be used: .*today's date"),
        ("rush_hour", {}, "'rush_hour' can't be used: it gives no reference answer"),
    ],
)
def test_a_task_or_config_that_can_not_be_used(
    task: str, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        Environment(reasoning_gym_spec(task, **config))


def test_unknown_math_families_are_named() -> None:
    spec = changed(
        builtin_spec("math_answer"), source={"kind": "math_answer", "families": ["calculus"]}
    )
    with pytest.raises(SpecError, match=r"no math_answer family 'calculus'.*'linear'"):
        Environment(spec)


def test_another_package_version_is_refused_before_anything_else() -> None:
    with pytest.raises(EnvironmentMismatch, match=r"needs reasoning-gym 0\.1, but 0\.1\.25"):
        Environment(changed(builtin_spec("chain_sum"), packages={"reasoning-gym": "0.1"}))
    pinned = {"reasoning-gym": "0.1.25", "no-such-package": "1"}
    with pytest.raises(EnvironmentMismatch, match=r"no-such-package 1, but it is not installed"):
        Environment(changed(builtin_spec("chain_sum"), packages=pinned))


@pytest.mark.parametrize(
    ("task", "hostile"),
    [
        ("spiral_matrix", "__import__('os')._exit(7)"),
        ("n_queens", "[].__class__"),
        ("countdown", "__import__('os')._exit(7)"),
        ("puzzle24", "x.__class__"),
        ("puzzle24", "lambda"),
        ("simple_integration", "exec(chr(49))"),
        ("simple_integration", "'a'"),
    ],
)
def test_no_code_in_an_answer_is_evaluated(task: str, hostile: str) -> None:
    environment = Environment(reasoning_gym_spec(task))
    judgement = environment.judge(environment.task(seed(0)), hostile)
    assert judgement.reason is Reason.PARSE_FAILURE


# --- math_answer -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (r"<answer>\frac{A}{B}</answer>", Reason.CORRECT),
        (r"<answer>$\frac{A}{B}$</answer>", Reason.CORRECT),
        ("<answer>x = A/B</answer>", Reason.CORRECT),
        (r"<answer>\boxed{A/B}</answer>", Reason.CORRECT),
        ("<answer>A</answer>", Reason.WRONG),
        ("<answer>some</answer>", Reason.PARSE_FAILURE),
        ("A/B", Reason.PARSE_FAILURE),
        ("<answer>" + "1+" * 400 + "1</answer>", Reason.PARSE_FAILURE),
    ],
)
def test_answers_are_compared_as_mathematics(completion: str, reason: Reason) -> None:
    spec = changed(
        builtin_spec("math_answer"), source={"kind": "math_answer", "families": ["fraction_sum"]}
    )
    environment = Environment(spec)
    task = next(found for n in range(99) if "/" in (found := environment.task(seed(n))).answer)
    top, bottom = task.answer.split("/")
    said = completion.replace("A", top).replace("B", bottom)
    assert environment.judge(task, said).reason is reason


def test_what_is_wrong_with_this_machine_changes_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment(builtin_spec("chain_sum"))

    def draw(number: int) -> None:
        raise OSError("too many open files")

    monkeypatch.setattr(environment._source, "draw", draw)
    with pytest.raises(OSError, match="too many open files"):
        environment.task(bytes(32))


def test_openenv_is_installed_without_what_it_asks_for() -> None:
    spec = builtin_spec("openenv_guess")
    pinned = {**spec.packages, "openenv": "0.0.9"}
    with pytest.raises(EnvironmentMismatch) as caught:
        Environment(spec.model_copy(update={"packages": pinned}))
    assert caught.value.fix == "pip install --no-deps openenv==0.0.9"


def test_a_package_installed_later_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert installed_version("tracemarket-arrives-late") is None
    found = tmp_path / "tracemarket_arrives_late-1.2.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Name: tracemarket-arrives-late\nVersion: 1.2\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_version("tracemarket-arrives-late") == "1.2"
