"""A check worker: a process of its own that keeps runners at work and outlives all of them.

The pool says which environment it is about, then sends items and gets their answers in one frame.
The worker watches the runner item by item: one that dies or runs over its time is killed, its item
gets an error or a timeout, and a fresh runner takes the next item. A worker runs no checker and
handles one thing at a time, so it has no reason to fail itself.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import time
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from marketplace.gym import frames, records, runner
from marketplace.gym.environment import installed_version
from marketplace.gym.records import Answer, State

HEADER: Final = b"H"
ITEMS: Final = b"I"
RESULTS: Final = b"R"
REFUSAL: Final = b"N"
"""How the bodies of frames between pool and worker begin. Only ITEMS get an answer."""

BUILD_SECONDS: Final = 30.0
"""Time limit for building an environment."""

WALL_FACTOR: Final = 10.0
"""A check may take its limit in CPU seconds, and this many times that on the clock.

CPU time does not depend on how busy the machine is, so verifiers agree on what times out.
"""

RUNNER_ITEMS: Final = 4096
"""Items after which a runner is replaced: what libraries cache must not pile up."""

KEPT_RUNNERS: Final = 16
KEPT_BYTES: Final = 512 << 20
"""Environments that a worker keeps ready, as batches of many bounties come in turn, and what their
runners may hold in memory together, beyond what they share."""

_POLL_SECONDS = 0.05
_MAX_MESSAGE_BYTES = 1 << 16


class _Died(Exception):
    """The runner ended. Its argument says how."""


class _Overrun(Exception):
    """The runner used up its time."""


class _Refused(Exception):
    """The environment can't be built; holds the refusal as the pool gets it."""


def main() -> NoReturn:
    """Serves jobs from stdin until it is closed; answers on stdout."""
    inbox, outbox = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # whatever a checker or library prints goes nowhere
        os.dup2(nothing, fd)
    worker = Worker(inbox, outbox)
    while (message := frames.receive_bytes(inbox)) is not None:
        if message[:1] == HEADER:
            worker.begin(json.loads(message[1:]))
        else:
            frames.send_bytes(outbox, *worker.answer(message[1:]))
    worker.stop_all()
    os._exit(0)


@dataclass(slots=True)
class _Runner:
    """A running runner. to, answers, bell: pipes; it rings the bell when it is through with what it
    was sent. used: items it has answered. cpu: CPU seconds it last reported. since: when it was
    last heard of or sent something."""

    pid: int
    to: int
    answers: int
    bell: int
    used: int = 0
    cpu: float = 0.0
    since: float = field(default_factory=time.monotonic)
    buffer: bytearray = field(default_factory=bytearray)


class Worker:
    """The worker's state: some runners, each of another environment, one at work. inbox, outbox:
    pipes from and to the pool."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._runners: dict[tuple[str, str], _Runner] = {}  # the one used last comes last
        self._job: dict[str, Any] = {}
        self._key = ("", "")
        self._loaded: set[str] = set()

    def begin(self, job: dict[str, Any]) -> None:
        """What the items that follow are of."""
        self._job, self._key = job, (job["factory"], job["spec"])
        while self._held_bytes() > KEPT_BYTES:
            self._stop_one()

    def answer(self, items: bytes) -> tuple[bytes, ...]:
        """RESULTS and the answers to all items, or REFUSAL and JSON."""
        try:
            self._preload()
            return (RESULTS, *self._results(items))
        except _Refused as refusal:
            told = refusal.args[0]
        except ImportError as error:
            told = _refusal(f"{error}")
        return (REFUSAL, json.dumps(told).encode("ascii"))

    def stop_all(self) -> None:
        """Ends every runner."""
        for key in list(self._runners):
            self._stop(key)

    def _preload(self) -> None:
        for package in self._job["packages"]:
            installed_version(package)  # so that runners find it read
        new = set(self._job["preload"]) - self._loaded
        for module in sorted(new):
            importlib.import_module(module)  # before forking, so that runners start fast
        if new:
            gc.collect()
            gc.freeze()  # or the first collection of a runner copies all memory it shares
        self._loaded |= new

    def _stop(self, key: tuple[str, str]) -> str:
        """Ends a runner, if there is one, and says how it had ended."""
        gone = self._runners.pop(key, None)
        if gone is None:
            return "was not running"
        for fd in (gone.to, gone.answers, gone.bell):
            os.close(fd)
        os.kill(gone.pid, signal.SIGKILL)  # no effect on what has ended already
        _, status = os.waitpid(gone.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"

    def _results(self, items: bytes) -> list[bytes]:
        places, seconds = records.starts(items), self._job["seconds"]
        results: list[bytes] = []
        while len(results) < len(places):
            active = self._ready_runner()
            try:
                self._send(active, items[places[len(results)] :])
                while (left := len(places) - len(results)) > 0:
                    if not _take(active, results, left):
                        self._wait(active, seconds)
            except _Overrun:
                self._stop(self._key)
                results.append(_failed(State.TIMEOUT, f"over {seconds:g} seconds"))
            except _Died as death:
                worn = active.used > 0
                how = death.args[0] if death.args else self._stop(self._key)
                self._stop(self._key)
                # Earlier items may have left it in a bad state: only a fresh runner's word counts.
                if not worn:
                    results.append(_failed(State.ERROR, f"the checker's process {how}"))
        return results

    def _ready_runner(self) -> _Runner:
        key = self._key
        if (known := self._runners.get(key)) is not None and known.used >= RUNNER_ITEMS:
            self._stop(key)
            known = None
        if known is not None:
            self._runners[key] = self._runners.pop(key)
            return known
        while len(self._runners) >= KEPT_RUNNERS:
            self._stop_one()
        active = self._runners[key] = self._fork()
        try:
            while (built := _message(active)) is None:
                self._wait(active, BUILD_SECONDS)
        except _Overrun:
            self._stop(key)
            raise _Refused(_refusal(f"building it took over {BUILD_SECONDS:g} s")) from None
        except _Died:
            raise _Refused(_refusal(f"the process building it {self._stop(key)}")) from None
        if "refused" in built:
            self._stop(key)
            raise _Refused(built["refused"])
        return active

    def _stop_one(self) -> None:
        """Ends the runner that has rested longest."""
        self._stop(next(iter(self._runners)))

    def _held_bytes(self) -> int:
        """Resident memory of all runners, beyond this process's own, of which they are copies."""
        own = _resident_bytes(os.getpid())
        return sum(max(0, _resident_bytes(one.pid) - own) for one in self._runners.values())

    def _fork(self) -> _Runner:
        inbox, to = os.pipe()
        answers, outbox = os.pipe()
        bell, rope = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                others = [
                    fd for one in self._runners.values() for fd in (one.to, one.answers, one.bell)
                ]
                for fd in (to, answers, bell, self._inbox, self._outbox, *others):
                    os.close(fd)
                runner.run(inbox, outbox, rope, self._job)
            finally:
                os._exit(0)
        for fd in (inbox, outbox, rope):
            os.close(fd)
        for fd in (answers, bell):
            os.set_blocking(fd, False)
        return _Runner(pid, to, answers, bell)

    def _send(self, active: _Runner, items: bytes) -> None:
        if active.buffer:  # it answered more than it was asked
            raise _Died(_UNREADABLE)
        active.since = time.monotonic()
        try:
            frames.send_bytes(active.to, items)
        except BrokenPipeError:
            raise _Died from None

    def _wait(self, active: _Runner, seconds: float) -> None:
        """Puts what the runner sends next into its buffer. Raises _Died or _Overrun; ends
        everything with the pool."""
        poll = select.poll()
        # Not the answers themselves: waking up for each takes longer than many a check.
        poll.register(active.bell, select.POLLIN)
        poll.register(self._inbox, 0)  # reports only that the pool is gone
        wait = min(_POLL_SECONDS, seconds)
        while True:
            ready = [fd for fd, _ in poll.poll(wait * 1000)]
            if self._inbox in ready:
                self.stop_all()
                os._exit(0)
            hung_up = bool(ready) and _read(active.bell) == b""
            piece = _read(active.answers)
            if piece:
                active.buffer += piece
                return
            if hung_up or piece == b"":
                raise _Died
            waited = time.monotonic() - active.since
            if waited >= seconds and _is_over(active, seconds, waited):
                raise _Overrun
            wait = _POLL_SECONDS if waited >= seconds else min(_POLL_SECONDS, seconds - waited)


_UNREADABLE: Final = "sent something unreadable"

_WORN: Final = {
    State.MEMORY: "ran out of memory",
    State.MACHINE: "ran out of disk or file handles",
}
"""What earlier items may have brought about: a fresh runner has the last word."""


def _read(fd: int) -> bytes | None:
    """What is in a pipe; None if there is nothing now, b"" if nobody can write any more."""
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return None


def _message(active: _Runner) -> Any:
    """The runner's word on whether it could build the environment; None if it has not come."""
    try:
        return frames.take_frame(active.buffer, _MAX_MESSAGE_BYTES)
    except ValueError:
        raise _Died(_UNREADABLE) from None


def _take(active: _Runner, results: list[bytes], most: int) -> bool:
    """Moves whole answers, `most` at most, from the runner's buffer to results: True if there
    were any."""
    try:
        taken, states, cpu = records.take_answers(active.buffer, active.used, active.cpu, most)
    except ValueError:  # its process may be out of its mind
        raise _Died(_UNREADABLE) from None
    for record, state in zip(taken, states, strict=True):
        if state in _WORN and active.used:
            raise _Died(_WORN[State(state)])
        results.append(record)
        active.used += 1
    if taken:
        active.cpu, active.since = cpu, time.monotonic()
    return bool(taken)


def _failed(state: State, detail: str) -> bytes:
    return records.pack_answer(0, Answer(state, 0, 0.0, detail), 0.0)


def _is_over(active: _Runner, seconds: float, waited: float) -> bool:
    if waited >= seconds * WALL_FACTOR:
        return True
    used = _cpu_seconds(active.pid)
    return used is None or used - active.cpu >= seconds


def _cpu_seconds(pid: int) -> float | None:
    """CPU seconds of a process, or None where the system does not say (proc(5): utime, stime)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_bytes(pid: int) -> int:
    """Of a process; 0 where the system does not say (proc(5): resident)."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _refusal(message: str) -> dict[str, str | None]:
    return {"kind": "", "message": message, "fix": None}
