"""Functions judged by hidden tests: tasks fixed by the seed, verdicts made outside the sandbox."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from marketplace.gym.environment import Environment, Task
from marketplace.gym.pool import CheckItem, CheckPool
from marketplace.gym.sandbox.guest import GuestSandbox
from marketplace.gym.sandbox.outcome import FLOOR, Ended, Limits, Outcome, Program
from marketplace.gym.sandbox.probe import missing
from marketplace.gym.sources.code import HARNESS, _right
from marketplace.gym.sources.code_families import FAMILIES
from marketplace.gym.spec import EnvironmentSpec, builtin_spec, parse_spec
from marketplace.protocol.errors import EnvironmentMismatch, SpecError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Reason

OURS = re.compile(r"MODULES = \(|marketplace\.gym\.worker")
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


def seed(number: int) -> bytes:
    return keccak(number.to_bytes(8, "big"))


def changed(**changes: Any) -> EnvironmentSpec:
    record = builtin_spec("code").model_dump(mode="json")
    record["source"] |= changes
    return parse_spec(json.dumps(record).encode())


def native(**changes: Any) -> EnvironmentSpec:
    record = builtin_spec("code").model_dump(mode="json")
    record["packages"] = {"pyseccomp": "0.1.2"}
    record["source"]["kind"] = "native_code"
    del record["source"]["fuel"]
    record["source"] |= {"python": HERE, "cpu_seconds": 0.5, **changes}
    return parse_spec(json.dumps(record).encode())


def code(source: str) -> str:
    return f"Here it is:\n```python\n{source}\n```"


@pytest.fixture(scope="module")
def environment() -> Iterator[Environment]:
    if lacking := missing("wasm", FLOOR):
        pytest.skip(lacking[0])
    made = Environment(changed(fuel=100_000_000))
    yield made
    made._source._sandbox.close()  # type: ignore[attr-defined]


def reason(environment: Environment, task: Task, source: str) -> Reason:
    return environment.judge(task, code(source)).reason


def wrong_in_one_case(task: Task) -> str:
    """Right for every hidden input but the first."""
    name, inputs = task.entry.raw["name"], task.entry.raw["inputs"]
    first = json.loads(json.dumps(inputs[0]))
    return (
        task.answer.replace(f"def {name}(", "def right(")
        + f"\ndef {name}(*args):\n    return None if list(args) == {first!r} else right(*args)\n"
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_many_tasks_and_answers_that_matter(family: str) -> None:
    source = changed(families=[family]).source.open()
    entries = [source.draw(number) for number in range(60)]
    assert [source.draw(number) for number in range(60)] == entries
    assert len({entry.question for entry in entries}) > 50
    constant = sum(len({json.dumps(one) for one in e.raw["outputs"]}) == 1 for e in entries)
    assert constant == 0  # no single answer passes the tests
    for entry in entries:
        json.dumps(entry.raw)
        assert entry.answer not in entry.question
        hidden = sum(repr(tuple(one))[1:-1] in entry.question for one in entry.raw["inputs"])
        assert hidden < len(entry.raw["inputs"])


def test_reference_answers_are_right_and_others_are_not(environment: Environment) -> None:
    for number in range(8):
        task = environment.task(seed(number))
        name = task.entry.raw["name"]
        assert reason(environment, task, task.answer) is Reason.CORRECT
        assert reason(environment, task, f"def {name}(*a):\n    return None") is Reason.WRONG
        assert reason(environment, task, wrong_in_one_case(task)) is Reason.WRONG
        assert reason(environment, task, "def other(): pass") is Reason.PARSE_FAILURE


def test_a_share_of_right_outputs_may_earn_a_share(environment: Environment) -> None:
    partial = Environment(changed(partial=True, tests=4))
    task = partial.task(seed(1))
    inputs = task.entry.raw["inputs"]
    repeated = inputs.count(inputs[0])
    judgement = partial.judge(task, code(wrong_in_one_case(task)))
    assert (judgement.score, judgement.reason) == (1 - repeated / 4, Reason.PARTIAL)
    partial._source._sandbox.close()  # type: ignore[attr-defined]


def test_prints_of_the_answer_do_no_harm(environment: Environment) -> None:
    task = environment.task(seed(2))
    assert reason(environment, task, task.answer + "\nprint('[[1]]')") is Reason.CORRECT


def test_hostile_items_in_a_pool_leave_the_others_alone(environment: Environment) -> None:
    hostile = {
        "while True: pass": Reason.WRONG,  # out of fuel, the same on every machine
        "import os\nos._exit(0)": Reason.WRONG,
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()": Reason.WRONG,
        "x = []\nwhile True: x.append(bytearray(1 << 20))": Reason.WRONG,
        "while True: print('x', file=__import__('sys').__stdout__)": Reason.WRONG,
        "\0": Reason.WRONG,
    }
    items, expected = [], []
    for number, (source, verdict) in enumerate(hostile.items()):
        task = environment.task(seed(number))
        header = f"def {task.entry.raw['name']}(*a): pass\n"
        items += [(seed(number), code(header + source)), (seed(number), code(task.answer))]
        expected += [verdict, Reason.CORRECT]
    before = children()
    with CheckPool(2, chunk_items=3) as pool:
        results = pool.check(environment.spec, [CheckItem(*item) for item in items])
        pids = sorted(children() - before)
        assert len(pids) >= 4  # workers and runners at least
    assert [result.reason for result in results] == expected
    assert_gone(pids)


def test_natively_too_slow_is_no_verdict() -> None:
    spec = native()
    try:
        environment = Environment(spec)
    except EnvironmentMismatch as mismatch:
        pytest.skip(mismatch.message)
    task = environment.task(seed(1))
    name = task.entry.raw["name"]
    items = [
        CheckItem(seed(1), code(task.answer)),
        CheckItem(seed(1), code(f"def {name}(*a):\n    while True: pass")),
        CheckItem(seed(1), code(f"def {name}(*a): return None")),
    ]
    with CheckPool(1) as pool:
        results = pool.check(spec, items)
    assert [one.reason for one in results] == [
        Reason.CORRECT,
        Reason.CHECKER_TIMEOUT,
        Reason.WRONG,
    ]


@pytest.mark.parametrize("kind", ["code", "native_code"])
def test_what_a_killed_runner_ran_dies_with_it(kind: str) -> None:
    lacking = missing("wasm" if kind == "code" else "process", FLOOR)
    if lacking:
        pytest.skip(lacking[0])
    spec = changed(fuel=100_000_000_000) if kind == "code" else native(cpu_seconds=60.0)
    spec = spec.model_copy(
        update={"limits": spec.limits.model_copy(update={"seconds": 0.2})}  # 2 on the clock
    )
    families = {"families": ("sum_of_multiples",)}
    spec = spec.model_copy(update={"source": spec.source.model_copy(update=families)})
    endless = code("def total(xs): pass\nwhile True: pass")
    before = children() | orphans()
    with CheckPool(1) as pool:
        [result] = pool.check(spec, [CheckItem(seed(1), endless)])
        # The worker alone is left of what ran.
        assert_gone_but(before, 1)
    assert result.reason is Reason.CHECKER_TIMEOUT
    assert_gone_but(before, 0)


def test_another_interpreter_is_a_mismatch() -> None:
    with pytest.raises(EnvironmentMismatch, match=r"judged by Python 3\.2, this is"):
        Environment(native(python="3.2"))


def test_namespaces_are_demanded_or_refused() -> None:
    spec = native(isolation="namespaces")
    usable = [name for name in ("bubblewrap", "crun") if not missing(name, FLOOR)]
    if not usable:
        with pytest.raises(EnvironmentMismatch, match="no sandbox here guarantees"):
            Environment(spec)
    else:
        assert Environment(spec)._source._sandbox.name == usable[0]  # type: ignore[attr-defined]


def test_specs_that_can_not_be() -> None:
    with pytest.raises(SpecError, match="there is no code family 'nothing'"):
        Environment(changed(families=["nothing"]))
    record = builtin_spec("code").model_dump(mode="json")
    del record["packages"]["wasmtime"]
    with pytest.raises(SpecError, match=r'needs packages\["wasmtime"\]'):
        parse_spec(json.dumps(record).encode())


@pytest.mark.parametrize(
    ("stdout", "right"),
    [
        (b"[[1], [true], [[1, 2]]]", 3),
        (b"[[1], [true], [[1, 2]]] ", 3),
        (b"[[1], [1], [[1, 2]]]", 2),
        (b"[[1.0], [true], [[1, 2.0]]]", 1),
        (b'[[1], "ValueError", [[1, 2, 3]]]', 1),
        (b"[[1], [true]]", 0),
        (b"[[1], [true], [[1, 2]], [4]]", 0),
        (b"[[1], [true], [[1, 2]]][]", 0),
        (b"[[NaN], [true], [[1, 2]]]", 0),
        (b"[[" + b"9" * 5000 + b"], [true], [[1, 2]]]", 0),
        (b"[" * 60_000, 0),
        (b"\xff", 0),
        (b"", 0),
        (b"{}", 0),
    ],
)
def test_outputs_are_compared_strictly(stdout: bytes, right: int) -> None:
    outcome = Outcome(Ended.EXITED, 0, stdout, b"")
    assert _right(outcome, [1, True, [1, 2]]) == right


def test_an_outcome_that_is_no_success_is_never_right() -> None:
    assert _right(Outcome(Ended.EXITED, 1, b"[[1]]", b""), [1]) == 0
    assert _right(Outcome(Ended.FUEL, 0, b"[[1]]", b""), [1]) == 0


def test_expected_outputs_never_enter_the_sandbox(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def record(self: GuestSandbox, program: Program, stdin: bytes, limits: Limits) -> Outcome:
        sent.append((program, json.loads(stdin)))
        return Outcome(Ended.EXITED, 0, b"[]", b"")

    monkeypatch.setattr(GuestSandbox, "run", record)
    task = environment.task(seed(3))
    assert reason(environment, task, task.answer) is Reason.WRONG
    [(program, request)] = sent
    assert program.files == {"main.py": HARNESS, "solution.py": task.answer.strip()}
    assert set(request) == {"name", "inputs"}


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def orphans() -> set[int]:
    """Programs of ours that nobody waits for any more."""
    return {
        one.pid
        for one in psutil.process_iter(["cmdline", "ppid"])
        if one.info["ppid"] == 1 and OURS.search(" ".join(one.info["cmdline"] or ()))
    }


def assert_gone_but(before: set[int], kept: int) -> None:
    deadline = time.monotonic() + 10
    while len(left := (children() | orphans()) - before) > kept:
        assert time.monotonic() < deadline, f"{left} are left"
        time.sleep(0.05)


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while alive := [pid for pid in pids if psutil.pid_exists(pid)]:
        assert time.monotonic() < deadline, f"{alive} are left"
        time.sleep(0.05)
