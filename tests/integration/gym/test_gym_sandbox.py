"""Every escape against every sandbox that works here: refused, judged right, nothing left."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import psutil
import pytest

from marketplace.gym.sandbox.attempts import attempted
from marketplace.gym.sandbox.outcome import (
    CLOCKED,
    FLOOR,
    Backend,
    Ended,
    Limits,
    Outcome,
    Program,
    Property,
)
from marketplace.gym.sandbox.probe import BACKENDS, choose, guarantees_of, made, missing
from marketplace.gym.sources.code import HARNESS, _right
from marketplace.protocol.errors import EnvironmentMismatch, InvalidValue

ROOT = Path(__file__).parents[3]
_HOSTILE = runpy.run_path(str(Path(__file__).with_name("escapes.py")))
PRELUDE: str = _HOSTILE["PRELUDE"]
ESCAPES: dict[str, str] = _HOSTILE["ESCAPES"]
ENDLESS: dict[str, str] = _HOSTILE["ENDLESS"]
LIMITS = Limits(fuel=200_000_000, cpu_seconds=1.0, wall_seconds=20.0, memory_mb=64)
RANDOM = Random(1)
INPUTS = [[[RANDOM.randint(-9, 9) for _ in range(5)]] for _ in range(12)]
EXPECTED = [sum(xs) for (xs,) in INPUTS]
REQUEST = json.dumps({"name": "total", "inputs": INPUTS}).encode()
KNOWN: set[int] = set()
"""Children of this process that are no sandbox's."""


@pytest.fixture(scope="module", params=list(BACKENDS))
def sandbox(request: pytest.FixtureRequest) -> Iterator[Backend]:
    name = request.param
    if lacking := missing(name, FLOOR):
        pytest.skip(f"{name} lacks {lacking[0]}")
    before = children()
    backend = made(name)
    KNOWN.clear()
    KNOWN.update(before)
    yield backend
    backend.close()
    assert children() == before


@pytest.fixture(scope="module")
def bait(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """Things that an escape would reach: files open to everybody, a port, an environment."""
    directory = tmp_path_factory.mktemp("bait")
    answers, reward = directory / "answers.json", directory / "reward.txt"
    answers.write_text(json.dumps(EXPECTED))
    reward.write_text("0")
    for path, mode in ((directory, 0o777), (answers, 0o644), (reward, 0o666)):
        path.chmod(mode)
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        patch.setenv("TRACEMARKET_SECRET", "a key")
        yield {
            "ANSWERS": str(answers),
            "REWARD": str(reward),
            "DIRECTORY": str(directory),
            "STARTER": os.getpid(),
            "PORT": server.getsockname()[1],
        }
    assert sorted(path.name for path in directory.iterdir()) == ["answers.json", "reward.txt"]
    assert answers.read_text() == json.dumps(EXPECTED)
    assert reward.read_text() == "0"
    assert not Path("/tmp/tracemarket-link").is_symlink()


def judged(sandbox: Backend, solution: str, limits: Limits = LIMITS) -> tuple[Outcome, int]:
    """The outcome, and how many of the twelve outputs are right."""
    files = {"main.py": HARNESS, "solution.py": solution}
    outcome = sandbox.run(Program(files), REQUEST, limits)
    return outcome, _right(outcome, EXPECTED)


def with_bait(source: str, bait: dict[str, object]) -> str:
    names = "".join(f"{name} = {value!r}\n" for name, value in bait.items())
    return f"{names}{PRELUDE}\n{source}"


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def assert_works(sandbox: Backend) -> None:
    judged(sandbox, "")  # starts what the sandbox keeps
    before = children()
    outcome, right = judged(sandbox, "def total(xs):\n    return sum(xs)\n")
    assert right == 12, outcome
    assert children() == before


@pytest.mark.parametrize("name", ESCAPES)
def test_no_escape_succeeds(sandbox: Backend, bait: dict[str, object], name: str) -> None:
    outcome, right = judged(sandbox, with_bait(ESCAPES[name], bait))
    assert b"ESCAPED" not in outcome.stderr + outcome.stdout
    assert len(children() - KNOWN) <= 1  # the keeper, which waits for the next job
    assert outcome.ended not in CLOCKED  # so that every machine says the same
    assert right < 12
    assert len(outcome.stdout) <= LIMITS.output_bytes
    assert len(outcome.stderr) <= LIMITS.output_bytes


SECONDS = pytest.mark.deep  # of CPU time each, in every sandbox but WebAssembly


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=() if "signals" in one else SECONDS) for one in ENDLESS],
)
def test_what_does_not_end_is_ended(sandbox: Backend, bait: dict[str, object], name: str) -> None:
    outcome, right = judged(sandbox, with_bait(ENDLESS[name] + "\ntotal([])", bait))
    assert right == 0
    if sandbox.name == "wasm":
        assert outcome.ended is Ended.FUEL
    elif name == "endless recursion":  # by its memory, if that is faster used up than its time
        assert outcome.ended in (Ended.CPU, Ended.EXITED, Ended.KILLED)
    else:
        assert outcome.ended is Ended.CPU


@pytest.mark.parametrize("name", ENDLESS)
def test_fuel_ends_what_does_not_end(name: str) -> None:
    if lacking := missing("wasm", FLOOR):
        pytest.skip(lacking[0])
    with closing(made("wasm")) as sandbox:
        outcome, right = judged(sandbox, f"{PRELUDE}\n{ENDLESS[name]}\ntotal([])")
        assert (outcome.ended, outcome.fuel, right) == (Ended.FUEL, LIMITS.fuel, 0)
        assert_works(sandbox)


def test_the_next_run_knows_nothing_of_the_last(sandbox: Backend) -> None:
    judged(sandbox, "import json, math\nmath.pi = 3\njson.dumps = None\n")
    assert_works(sandbox)


def test_waiting_is_ended_by_the_clock(sandbox: Backend) -> None:
    limits = Limits(cpu_seconds=5.0, wall_seconds=1.0)
    outcome, right = judged(sandbox, "import time\ntime.sleep(3600)\n", limits)
    assert right == 0
    # WebAssembly has no clock to wait for: there it is an error at once.
    assert outcome.ended is (Ended.EXITED if sandbox.name == "wasm" else Ended.WALL)
    assert_works(sandbox)


def test_a_program_reads_its_input_and_exits_as_it_says(sandbox: Backend) -> None:
    main = "import sys, other\nsys.stdout.write(sys.stdin.read()[::-1] + other.NAME)\nsys.exit(7)\n"
    text = "abc" * 50_000
    program = Program({"main.py": main, "other.py": "NAME = __name__\n"})
    outcome = sandbox.run(program, text.encode(), Limits(output_bytes=1 << 20))
    assert (outcome.ended, outcome.status) == (Ended.EXITED, 7)
    assert outcome.stdout.decode() == text[::-1] + "other"


def test_input_that_nobody_reads_does_no_harm(sandbox: Backend) -> None:
    outcome = sandbox.run(Program({"main.py": "print(1)"}), bytes(1 << 20), LIMITS)
    assert (outcome.ended, outcome.stdout) == (Ended.EXITED, b"1\n")


def test_only_what_is_allowed_can_be_imported(sandbox: Backend) -> None:
    outcome = sandbox.run(Program({"main.py": "import sqlite3"}), b"", LIMITS)
    assert outcome.status == 1
    assert b"No module named 'sqlite3' in this sandbox" in outcome.stderr


def test_nothing_is_run_with_less_than_is_demanded() -> None:
    with pytest.raises(EnvironmentMismatch, match="same outcome everywhere"):
        choose(FLOOR | {Property.DETERMINISTIC})
    with pytest.raises(InvalidValue, match="no sandbox 'chroot'"):
        made("chroot")


def test_without_seccomp_the_floor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketplace.gym.sandbox.native.seccomp_filter", lambda: None)
    guarantees_of.cache_clear()
    try:
        found = guarantees_of("process")
        assert not found[Property.NO_NETWORK].held
        assert not found[Property.NO_FILES].held
        assert missing("process", FLOOR)
    finally:
        guarantees_of.cache_clear()


def test_attempts_report_what_works(sandbox: Backend) -> None:
    found = attempted(sandbox)
    assert found["environment"] == []
    worked = {name for name, what in found.items() if isinstance(what, list) and what}
    assert worked <= {"uid"}


def test_a_keeper_that_died_is_replaced() -> None:
    if lacking := missing("wasm", FLOOR):
        pytest.skip(lacking[0])
    before = children()
    with closing(made("wasm")) as sandbox:
        assert_works(sandbox)
        [keeper] = children() - before
        os.kill(keeper, signal.SIGKILL)
        assert_works(sandbox)
    assert children() == before


TRICKY = """
import random, time, decimal
words = {"amber", "cedar", "delta", "ember"}
print(list(words), id(words), hash("x"), time.time(), random.random(), object())
print(0.1 + 0.2, float("nan"), 1e308 * 10, decimal.Decimal(2).sqrt())
"""

_ONCE = f"""
from marketplace.gym.sandbox.guest import GuestSandbox
from marketplace.gym.sandbox.outcome import Limits, Program
sandbox = GuestSandbox()
sandbox.run(Program({{"main.py": "print(1)"}}), b"", Limits())
outcome = sandbox.run(Program({{"main.py": {TRICKY!r}}}), b"", Limits())
sandbox.close()
print(outcome.fuel, outcome.stdout)
"""


def test_webassembly_runs_are_the_same_in_every_process() -> None:
    if lacking := missing("wasm", FLOOR):
        pytest.skip(lacking[0])
    said = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", _ONCE],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "TZ": f"X{seed}"},
            capture_output=True,
            check=True,
        )
        said.add(done.stdout)
    assert len(said) == 1
