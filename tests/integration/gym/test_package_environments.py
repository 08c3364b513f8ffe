"""Environments that are installed packages: what they may do wrong costs their own traces only."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from package_kit import DISTRIBUTION, install, package_spec

from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckItem, CheckPool, Status
from marketplace.gym.sources.package import unpinned
from marketplace.gym.spec import builtin_spec
from marketplace.protocol.errors import EnvironmentMismatch, SpecError, TracemarketError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Reason

SEED = keccak(b"a task")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    install(folder, requires="Requires-Dist: pydantic>=2\nRequires-Dist: ruff; extra == 'dev'\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def pool(installed: Path) -> Iterator[CheckPool]:
    with CheckPool(1) as made:
        yield made


def source(**changes: Any) -> dict[str, Any]:
    return {"kind": "package", "distribution": DISTRIBUTION, "entry": "main", **changes}


def test_tasks_and_scores_are_the_packages(pool: CheckPool) -> None:
    spec = package_spec()
    task = Environment(spec).task(SEED)
    assert task.question.startswith("What is twice ")
    right, wrong, junk = pool.check(
        spec, [CheckItem(SEED, text, task.prompt) for text in (task.answer, "7", "seven")]
    )
    assert (right.score, wrong.score, junk.score) == (1.0, 0.0, 0.0)
    assert [one.reason for one in (right, wrong, junk)] == [
        Reason.CORRECT,
        Reason.WRONG,
        Reason.PARSE_FAILURE,
    ]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("hang", Reason.CHECKER_TIMEOUT),
        ("sleep", Reason.CHECKER_TIMEOUT),
        ("raise", Reason.CHECKER_ERROR),
        ("exit", Reason.CHECKER_ERROR),
        ("die", Reason.CHECKER_ERROR),
        ("1.7", Reason.CHECKER_ERROR),
        ("nan", Reason.CHECKER_ERROR),
        ("print", Reason.PARSE_FAILURE),  # printed, then judged: the output goes nowhere
    ],
)
def test_what_a_checker_does_wrong_touches_no_other_trace(
    pool: CheckPool, capfd: pytest.CaptureFixture[str], what: str, reason: Reason
) -> None:
    spec = package_spec("Obedient")
    answer = Environment(spec).task(SEED).answer
    capfd.readouterr()
    before, bad, after = pool.check(
        spec, [CheckItem(SEED, text) for text in (answer, what, answer)]
    )
    assert bad.reason is reason
    assert (bad.score is None) == (reason is not Reason.PARSE_FAILURE)
    assert [(one.status, one.score) for one in (before, after)] == [(Status.OK, 1.0)] * 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        (
            package_spec(
                source=source(distribution="no-such-gym"), packages={"no-such-gym": "1.0"}
            ),
            EnvironmentMismatch,
            r"no-such-gym 1\.0, but it is not installed. Fix: pip install no-such-gym==1\.0",
        ),
        (
            package_spec(packages={DISTRIBUTION: "9.9"}),
            EnvironmentMismatch,
            r"gym-kit 9\.9, but 1\.2\.3 is installed. Fix: pip install gym-kit==9\.9",
        ),
        (
            package_spec(source=source(entry="mane")),
            SpecError,
            r"no entry point 'mane' .* use one of \['broken', 'main'\]",
        ),
        (
            package_spec(source=source(entry="broken")),
            SpecError,
            "can't be imported: ModuleNotFoundError",
        ),
        (
            package_spec(source=source(config={"size": 1})),
            SpecError,
            'refuses config {"size": 1}: TypeError',
        ),
        (package_spec("NotAnEnvironment"), SpecError, r"a NotAnEnvironment without draw\(\)"),
        (package_spec("Harsh"), SpecError, "the reference answer .* is PARTIAL"),
    ],
)
def test_a_package_that_can_not_be_used_is_named(
    pool: CheckPool, spec: Any, kind: type[TracemarketError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        pool.check(spec, [CheckItem(SEED, "1")])
    with pytest.raises(kind, match=message):
        Environment(spec).self_test()


def test_the_packages_version_must_be_pinned() -> None:
    with pytest.raises(SpecError, match=r'"package" needs packages\["gym-kit"\], its exact'):
        package_spec(packages={})


def test_requirements_that_are_not_pinned(installed: Path) -> None:
    spec = package_spec()
    assert unpinned(spec.source, {DISTRIBUTION: "1.2.3"}) == ["pydantic"]
    assert unpinned(spec.source, {DISTRIBUTION: "1.2.3", "Pydantic": "2"}) == []


def test_raw_goes_through_json(installed: Path) -> None:
    spec = package_spec()
    entry = Environment(spec).task(SEED).entry
    assert set(json.loads(entry.raw["raw"])) == {"n"}


@pytest.mark.parametrize("name", ["code", "openenv_guess", "verifiers_code_words"])
def test_reference_answers_score_one_and_junk_none(name: str) -> None:
    """As tests/unit/gym/test_gym_environment.py of the other built-in environments."""
    environment = Environment(builtin_spec(name))
    environment.self_test()
    for number in range(30):
        task = environment.task(keccak(number.to_bytes(8, "big")))
        assert environment.judge(task, environment.reference_completion(task)).score == 1.0
        for junk in ("", "   ", "no idea", "<answer></answer>", "<answer>many</answer>"):
            assert environment.judge(task, junk).score == 0.0
