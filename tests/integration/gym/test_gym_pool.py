"""Checkers that hang, die, lie about their score or flood the output cost their own item only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from marketplace.gym.environment import Environment
from marketplace.gym.jobs import Chunks
from marketplace.gym.pool import CheckItem, CheckPool, CheckResult, Status
from marketplace.gym.spec import EnvironmentSpec, builtin_spec
from marketplace.gym.worker import KEPT_BYTES, KEPT_RUNNERS
from marketplace.protocol.errors import CheckerFailed, EnvironmentMismatch, InvalidValue, SpecError
from marketplace.protocol.verdict import Reason

FACTORY = "misbehaving_environment:MisbehavingEnvironment"
SEED = b"\x07" * 32


def small_spec(name: str = "small", seconds: float = 2.0, memory_mb: int = 64) -> EnvironmentSpec:
    return EnvironmentSpec.model_validate(
        {
            "v": 1,
            "name": name,
            "source": {"kind": "math_answer", "families": ("linear",)},
            "scoring": {"kind": "exact"},
            "limits": {"seconds": seconds, "memory_mb": memory_mb, "max_chars": 100},
        }
    )


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        with CheckPool(1, factory=FACTORY) as made:
            yield made


def run(pool: CheckPool, *completions: str) -> list[CheckResult]:
    return pool.check(small_spec(), [CheckItem(SEED, text) for text in completions])


def statuses(results: list[CheckResult]) -> list[Status]:
    return [result.status for result in results]


def test_good_items_keep_their_order_and_share_a_process(pool: CheckPool) -> None:
    results = run(pool, *["fine"] * 200)
    assert statuses(results) == [Status.OK] * 200
    assert {result.score for result in results} == {1.0}
    assert len({result.detail for result in results}) == 1


@pytest.mark.parametrize(
    "what", ["nan", "infinity", "1.7", "-0.5", "text", "none", "raise", "exit"]
)
def test_a_checker_that_gives_no_score_is_an_error(pool: CheckPool, what: str) -> None:
    before, bad, after = run(pool, "fine", what, "fine")
    assert (before.status, bad.status, after.status) == (Status.OK, Status.ERROR, Status.OK)
    assert (bad.score, bad.reason) == (None, Reason.CHECKER_ERROR)
    assert before.detail == after.detail  # the same process went on


@pytest.mark.parametrize("what", ["crash", "hog"])
def test_a_dying_checker_costs_its_own_item(pool: CheckPool, what: str) -> None:
    results = run(pool, "fine", what, "fine", what, "fine")
    assert statuses(results) == [Status.OK, Status.ERROR] * 2 + [Status.OK]


@pytest.mark.parametrize(
    "what", ["reason", "score", "NaN", "clock", "past", "state", "length", "text", "number"]
)
def test_a_forged_answer_costs_its_own_item(pool: CheckPool, what: str) -> None:
    before, bad, after = run(pool, "fine", f"forged {what}", "fine")
    assert statuses([before, bad, after]) == [Status.OK, Status.ERROR, Status.OK], before
    assert bad.detail == "the checker's process sent something unreadable"


def test_how_it_died_is_told(pool: CheckPool) -> None:
    crash, hog = run(pool, "crash", "hog")
    assert crash.detail == "the checker's process exited with code 3"
    assert "MemoryError" in hog.detail


def test_a_hang_is_a_timeout(pool: CheckPool) -> None:
    items = [CheckItem(SEED, text) for text in ("fine", "spin", "fine", "sleep", "fine")]
    results = pool.check(small_spec(seconds=0.15), items)
    assert statuses(results) == [Status.OK, Status.TIMEOUT] * 2 + [Status.OK]
    assert (results[1].score, results[1].reason) == (None, Reason.CHECKER_TIMEOUT)


def test_what_an_earlier_item_left_behind_is_not_blamed_on_a_later_one(pool: CheckPool) -> None:
    assert statuses(run(pool, "fine", "crash unless first")) == [Status.OK] * 2
    assert statuses(run(pool, "hoard", "hoard", "hoard")) == [Status.OK] * 3


def test_a_machine_without_file_handles_says_nothing(pool: CheckPool) -> None:
    """A verdict that only this verifier comes to would be a wrong vote."""
    for items in (
        [CheckItem(SEED, "fine"), CheckItem(SEED, "no handles")],
        [CheckItem(SEED, "fine"), CheckItem(b"\x01" * 32, "fine")],
    ):
        with pytest.raises(CheckerFailed, match="this machine can't check"):
            pool.check(small_spec(), items)
        assert statuses(run(pool, "fine")) == [Status.OK]  # once there are some again
    # Those that an earlier item left open are not the machine's want.
    assert statuses(run(pool, "leak", "open", "fine")) == [Status.OK] * 3


def test_a_machine_without_disk_does_not_call_an_environment_broken(pool: CheckPool) -> None:
    with pytest.raises(CheckerFailed, match="No space left on device"):
        pool.check(small_spec("no-disk"), [CheckItem(SEED, "fine")])


def test_output_is_discarded(pool: CheckPool, capfd: pytest.CaptureFixture[str]) -> None:
    assert statuses(run(pool, "print", "print")) == [Status.OK] * 2
    assert capfd.readouterr() == ("", "")


def test_no_files_can_be_written(pool: CheckPool) -> None:
    (result,) = run(pool, "write")
    assert result.status is Status.ERROR
    assert "OSError" in result.detail


def test_the_prompt_is_checked_and_the_checker_not_run(pool: CheckPool) -> None:
    items = [
        CheckItem(SEED, "fine", "prompt 0707"),
        CheckItem(SEED, "crash", "prompt 0708"),
        CheckItem(SEED, None, "prompt 0707"),
        CheckItem(bytes(32), "fine", "prompt 0000"),
    ]
    good, tampered, only, underivable = pool.check(small_spec(), items)
    assert (good.status, good.score) == (Status.OK, 1.0)
    assert (tampered.status, tampered.reason) == (Status.PROMPT, Reason.TAMPERED_PROMPT)
    assert "at character 10: '8' instead of '7'" in tampered.detail
    assert (only.status, only.score, only.reason) == (Status.OK, None, None)
    assert (underivable.status, underivable.detail) == (Status.ERROR, "seed zero has no task")


def test_items_are_taken_as_they_are_needed(pool: CheckPool) -> None:
    taken = 0

    def items() -> Iterator[CheckItem]:
        nonlocal taken
        for _ in range(100_000):
            taken += 1
            yield CheckItem(SEED, "fine")

    results = pool.stream(small_spec(), items())
    for _ in range(10):
        next(results)
    assert taken <= 32 + 64 + 1  # what these came with, what the worker has now, a look ahead
    with pytest.raises(InvalidValue, match="in use"):
        pool.check(small_spec(), [])
    results.close()
    assert statuses(run(pool, "fine")) == [Status.OK]  # of this stream, not of the one before


def test_a_slow_item_does_not_let_the_others_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    taken = 0

    def items() -> Iterator[CheckItem]:
        nonlocal taken
        for number in range(500):
            taken += 1
            yield CheckItem(SEED, "fine" if number else "sleep")

    with CheckPool(2, factory=FACTORY, chunk_items=1) as pool:
        results = pool.stream(small_spec(seconds=0.1), items())
        assert next(results).status is Status.TIMEOUT
        assert taken < 10
        assert statuses(list(results)) == [Status.OK] * 499


def pids(pool: CheckPool, spec: EnvironmentSpec, what: str = "fine") -> set[str]:
    return {one.detail for one in pool.check(spec, [CheckItem(SEED, what)])}


def test_a_runner_is_kept_while_another_environment_is_checked(pool: CheckPool) -> None:
    specs = [small_spec(f"kept-{number}") for number in range(KEPT_RUNNERS)]
    first = [pids(pool, spec) for spec in specs]
    assert [pids(pool, spec) for spec in specs] == first
    assert pids(pool, small_spec("one-more")) not in first
    assert pids(pool, specs[0]) != first[0]  # the one that rested longest had to go
    assert pids(pool, specs[-1]) == first[-1]


def test_runners_that_hold_much_memory_are_not_kept(pool: CheckPool) -> None:
    each = KEPT_BYTES // 2 >> 20
    one, two, three = (small_spec(f"large-{n}", memory_mb=2 * each) for n in range(3))
    first, second = pids(pool, one, "fill"), pids(pool, two, "fill")
    pids(pool, three)
    assert pids(pool, two) == second
    assert pids(pool, one) != first


def test_a_tasks_items_are_kept_together() -> None:
    seeds = [bytes([place // 10]) * 32 for place in range(100)]
    chunks = Chunks([CheckItem(seed, "x") for seed in seeds], 64, 10_000)
    first = chunks.take()
    chunks.learn(len(first), 1.0)  # slow: smaller chunks from here on
    rest = [chunks.take() for _ in range(9)]
    assert [len(one) for one in (first, *rest)] == [20, *[10] * 8, 0]
    assert chunks.taken == 9
    big = Chunks([CheckItem(SEED, "x" * 600)] * 5, 64, 1000)
    assert [len(big.take()) for _ in range(4)] == [2, 2, 1, 0]


@pytest.mark.parametrize("told", [True, False])
def test_the_last_chunks_are_small(told: bool) -> None:
    items = [CheckItem(place.to_bytes(32, "big"), "x") for place in range(100)]
    if told:
        chunks = Chunks(iter(items), 64, 10_000, workers=2, count=100)
    else:
        chunks = Chunks(items, 64, 10_000, workers=2)
    sizes = []
    while chunk := chunks.take():
        sizes.append(len(chunk))
        chunks.learn(len(chunk), 0.001)
    assert sizes == [16, 21, 15, 12, 9, 6, 5, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unbuildable", "'unbuildable' can't be built: the checker raised RuntimeError: no such"),
        ("dies", "'dies' can't be built: the process building it exited with code 9"),
    ],
)
def test_an_environment_that_can_not_be_built_gives_no_results(
    pool: CheckPool, name: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        pool.check(small_spec(name), [CheckItem(SEED, "fine")])
    assert statuses(run(pool, "fine")) == [Status.OK]


def test_another_package_version_is_refused() -> None:
    spec = builtin_spec("math_answer")
    pinned = {**spec.packages, "sympy": "0.0.1"}
    with CheckPool(1) as pool, pytest.raises(EnvironmentMismatch, match=r"sympy 0\.0\.1") as caught:
        pool.check(spec.model_copy(update={"packages": pinned}), [CheckItem(SEED, "1")])
    assert caught.value.fix == "pip install sympy==0.0.1"


def test_a_worker_that_dies_is_replaced_and_reported_only_if_it_dies_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with CheckPool(1, factory=FACTORY) as pool:
        run(pool, "fine")
        with pytest.raises(Exception, match="failed twice"):
            run(pool, "kill the worker")
        assert statuses(run(pool, "fine")) == [Status.OK]


def test_every_process_is_reaped_also_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    before = set(psutil.Process().children(recursive=True))

    def use() -> None:
        with CheckPool(2, factory=FACTORY, chunk_items=1) as pool:
            for result in pool.stream(small_spec(), [CheckItem(SEED, "fine")] * 6):
                started = set(psutil.Process().children(recursive=True)) - before
                assert len(started) >= 2
                children.update(started)
                raise KeyError(result.status)

    children: set[psutil.Process] = set()
    with pytest.raises(KeyError):
        use()
    _, alive = psutil.wait_procs(children, timeout=10)  # runners are reaped by init
    assert not alive
    assert set(psutil.Process().children(recursive=True)) == before


def test_a_closed_pool_says_so() -> None:
    pool = CheckPool(1)
    pool.close()
    pool.close()
    with pytest.raises(InvalidValue, match="closed"):
        pool.check(small_spec(), [])


def test_workers_see_no_secrets_and_load_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEMARKET_PASSWORD", "secret")
    spec = builtin_spec("chain_sum")
    task = Environment(spec).task(SEED)
    with CheckPool(1) as pool:
        (result,) = pool.check(spec, [(SEED, f" {task.answer}\n")])  # type: ignore[list-item]
        assert (result.score, result.reason) == (1.0, Reason.CORRECT)
        for child in psutil.Process(os.getpid()).children(recursive=True):
            assert "TRACEMARKET_PASSWORD" not in child.environ()
            assert not [m.path for m in child.memory_maps() if "libtorch" in m.path]
