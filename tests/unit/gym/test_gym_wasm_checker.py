"""Checkers as WebAssembly modules: they score, and can do nothing else."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest

from marketplace.gym.environment import Environment
from marketplace.gym.spec import EnvironmentSpec, builtin_spec, parse_spec
from marketplace.protocol.errors import CheckerFailed, SpecError
from marketplace.protocol.verdict import Reason

wasmtime = pytest.importorskip("wasmtime")

SEED = b"\x07" * 32
PARAMETERS = " ".join(["(param i32)"] * 6)
MEMORY = '(memory (export "memory") 1)'
ALLOC = '(func (export "alloc") (param i32) (result i32) (i32.const 8))'


def spec_of(module: str, **changes: Any) -> EnvironmentSpec:
    record = builtin_spec("wasm_integer").model_dump(mode="json")
    record["source"] |= {"module": module, **changes}
    return parse_spec(json.dumps(record).encode())


def scoring(body: str, *, locals_: str = "", alloc: str = ALLOC, more: str = "") -> str:
    score = f'(func (export "score") {PARAMETERS} (result i32) {locals_} {body})'
    return f"(module {MEMORY} {alloc} {score} {more})"


def opened(module: str, **changes: Any) -> Any:
    return spec_of(module, **changes).source.open()


def scored(module: str, answer: str = "1", **changes: Any) -> object:
    tasks = opened(module, **changes)
    return tasks.score(answer, tasks.draw(1))


@pytest.fixture(scope="module")
def integers() -> Environment:
    return Environment(builtin_spec("wasm_integer"))


@pytest.mark.parametrize(
    ("off", "reason"), [(0, Reason.CORRECT), (1, Reason.PARTIAL), (-1, Reason.PARTIAL), (2, 2)]
)
def test_the_example_scores_by_distance(integers: Environment, off: int, reason: int) -> None:
    integers.self_test()
    task = integers.task(SEED)
    assert integers.judge(task, str(int(task.answer) + off)).reason == reason


@pytest.mark.parametrize(
    "text", ["", "x", "-", "--1", "1.0", "nan", "inf", "1" * 16, "9" * 2000, "\ud800", "１", "1\0"]
)
def test_the_example_reads_integers_alone(integers: Environment, text: str) -> None:
    assert integers.judge(integers.task(SEED), text).reason is Reason.PARSE_FAILURE


def test_scores_are_ppm() -> None:
    assert scored(scoring("(i32.const 250000)")) == 0.25
    for ppm in (-2, 1_000_001, 2**31 - 1, -(2**31)):
        with pytest.raises(CheckerFailed, match=f"the module scored {ppm}, not 0 to 1000000"):
            scored(scoring(f"(i32.const {ppm})"))


def test_modules_that_run_on_or_trap_fail_and_cost_their_own_item_only() -> None:
    with pytest.raises(CheckerFailed, match="all fuel consumed"):
        scored(scoring("(loop $on (br $on)) (i32.const 0)"))
    with pytest.raises(CheckerFailed, match="unreachable"):
        scored(scoring("unreachable"))
    with pytest.raises(CheckerFailed, match="out of bounds memory access"):
        scored(scoring("(i32.load (i32.const 100000))"))
    with pytest.raises(CheckerFailed, match=r"call stack exhausted|all fuel consumed"):
        scored(
            scoring(
                "(call $deep (i32.const 0))",
                more="(func $deep (param i32) (result i32) "
                "(i32.add (call $deep (local.get 0)) (i32.const 1)))",
            ),
            fuel=10_000_000_000,
        )
    with pytest.raises(CheckerFailed, match="does not start"):
        scored(scoring("(i32.const 0)", more="(func $on (loop $l (br $l))) (start $on)"))


TRAPS = """
import signal
from marketplace.gym.sandbox.wasm import compiled, engine
from wasmtime import Instance, Store, Trap, WasmtimeError

engine()
for one in (signal.SIGSEGV, signal.SIGILL, signal.SIGBUS, signal.SIGFPE):
    signal.signal(one, signal.SIG_DFL)
for body in (
    "unreachable",
    "(drop (i32.load (i32.const 100000)))",
    "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
    "(call_indirect (i32.const 0))",
    "(call $f)",
):
    text = f"(module (memory 1) (table 1 funcref) (func $f (export \\"f\\") {body}))"
    store = Store(engine())
    store.set_fuel(1_000_000_000)
    try:
        Instance(store, compiled(text), []).exports(store)["f"](store)
    except (Trap, WasmtimeError):
        print("trapped")
"""


def test_traps_need_no_signal_handler() -> None:
    """Ray takes the handlers when it connects, and leaves none when it disconnects."""
    ran = subprocess.run([sys.executable, "-c", TRAPS], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, (ran.returncode, ran.stderr)
    assert ran.stdout.split() == ["trapped"] * 5


def test_memory_is_limited() -> None:
    grown = scoring(
        "(if (i32.eq (memory.grow (i32.const 400)) (i32.const -1)) "
        "(then (return (i32.const 0)))) (i32.const 1000000)"
    )
    assert scored(grown, memory_mb=16) == 0.0
    assert scored(grown, memory_mb=64) == 1.0


def test_addresses_outside_of_the_memory_are_refused() -> None:
    far = '(func (export "alloc") (param i32) (result i32) (i32.const -4))'
    with pytest.raises(CheckerFailed, match="bytes at 4294967292, its memory has 65536"):
        scored(scoring("(i32.const 0)", alloc=far))


def test_nothing_is_remembered_between_answers() -> None:
    counting = scoring(
        "(global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)",
        more="(global $n (mut i32) (i32.const 0))",
    )
    tasks = opened(counting)
    assert [tasks.score("1", tasks.draw(1)) for _ in range(3)] == [1e-6] * 3


def test_modules_may_draw_their_own_tasks() -> None:
    draw = """
      (data (i32.const 100) "\\01\\00\\00\\00\\02\\00\\00\\00Q42")
      (func (export "draw") (param i64) (result i32)
        (if (i64.lt_s (local.get 0) (i64.const 0)) (then (return (i32.const 0))))
        (i32.const 100))
    """
    tasks = opened(scoring("(i32.const 1)", more=draw), tasks=None)
    entry = tasks.draw(5)
    assert (entry.question, entry.answer) == ("Q", "42")
    with pytest.raises(LookupError):
        tasks.draw(2**64 - 1)
    with pytest.raises(SpecError, match="'draw' must be a function"):
        opened(scoring("(i32.const 1)"), tasks=None)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("(module", "is not valid"),
        ("base64:@@", "is not base64"),
        ("base64:AAAA", "is not valid"),
        ('(module (import "env" "now" (func (result i64))))', "imports env.now"),
        ("(module)", 'exports no memory called "memory"'),
        (f"(module {MEMORY})", "'alloc' must be a function"),
        (f"(module {MEMORY} {ALLOC})", "'score' must be a function"),
        (
            f'(module {MEMORY} {ALLOC} (func (export "score") (result f64) (f64.const 1)))',
            "'score'",
        ),
    ],
)
def test_modules_of_another_shape_are_refused(module: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        opened(module)


def test_a_binary_is_as_good_as_text() -> None:
    binary = bytes(wasmtime.wat2wasm(scoring("(i32.const 7)")))
    assert scored("base64:" + base64.b64encode(binary).decode()) == 7e-6
