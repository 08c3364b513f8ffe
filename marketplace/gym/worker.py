"""A check worker: a process of its own that keeps one runner at work and outlives all of them.

The pool sends a job (a spec and some items) and gets the results in one answer. The worker
watches the runner item by item: one that dies or runs over its time is killed, its item gets
an error or a timeout, and a fresh runner takes the next item. A worker runs no checker and
handles one thing at a time, so it has no reason to fail itself.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import time
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from marketplace.gym import frames, runner
from marketplace.protocol.verdict import Reason

BUILD_SECONDS: Final = 30.0
"""Time limit for building an environment."""

WALL_FACTOR: Final = 10.0
"""A check may take its limit in CPU seconds, and this many times that on the clock.

CPU time does not depend on how busy the machine is, so verifiers agree on what times out.
"""

RUNNER_ITEMS: Final = 4096
"""Items after which a runner is replaced: what libraries cache must not pile up."""

_REASONS: Final = frozenset(int(reason) for reason in Reason)
_MAX_ANSWER_BYTES = 1 << 16
_POLL_SECONDS = 0.05


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
    while (job := frames.receive(inbox)) is not None:
        frames.send(outbox, worker.answer(job))
    worker.stop()
    os._exit(0)


@dataclass(slots=True)
class _Runner:
    """A running runner. used: items it has answered. cpu: CPU seconds it last reported."""

    key: tuple[str, str]
    pid: int
    to: int
    answers: int
    used: int = 0
    cpu: float = 0.0
    buffer: bytearray = field(default_factory=bytearray)


class Worker:
    """The worker's state: at most one runner. inbox, outbox: pipes from and to the pool."""

    def __init__(self, inbox: int, outbox: int) -> None:
        self._inbox, self._outbox = inbox, outbox
        self._runner: _Runner | None = None

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        """{"results": [...]} with one result per item, or {"refused": ...}."""
        try:
            for module in job["preload"]:
                importlib.import_module(module)  # before forking, so that runners start fast
            return {"results": self._results(job)}
        except _Refused as refusal:
            return {"refused": refusal.args[0]}
        except ImportError as error:
            return {"refused": {"kind": "", "message": f"{error}", "fix": None}}

    def stop(self) -> str:
        """Ends the runner, if there is one, and says how it had ended."""
        if self._runner is None:
            return "was not running"
        gone, self._runner = self._runner, None
        os.close(gone.to)
        os.close(gone.answers)
        os.kill(gone.pid, signal.SIGKILL)  # no effect on what has ended already
        _, status = os.waitpid(gone.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"

    def _results(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        items, seconds = job["items"], job["seconds"]
        results: list[dict[str, Any]] = []
        while len(results) < len(items):
            active = self._ready_runner(job)
            try:
                self._send(active, items[len(results) :])
                while len(results) < len(items):
                    result = _checked_result(self._receive(active, seconds))
                    if result.get("memory") and active.used:
                        raise _Died("ran out of memory")
                    active.used += 1
                    active.cpu = result["cpu"]
                    results.append(result)
            except _Overrun:
                self.stop()
                results.append({"status": "timeout", "detail": f"over {seconds:g} seconds"})
            except _Died as death:
                worn = active.used > 0
                how = death.args[0] if death.args else self.stop()
                self.stop()
                # Earlier items may have left it in a bad state: only a fresh runner's word counts.
                if not worn:
                    results.append({"status": "error", "detail": f"the checker's process {how}"})
        return results

    def _ready_runner(self, job: dict[str, Any]) -> _Runner:
        key = (job["factory"], job["spec"])
        if self._runner is not None and (
            self._runner.key != key or self._runner.used >= RUNNER_ITEMS
        ):
            self.stop()
        if self._runner is None:
            self._runner = self._fork(key, job)
            try:
                built = self._receive(self._runner, BUILD_SECONDS)
            except _Overrun:
                self.stop()
                raise _Refused(_refusal(f"building it took over {BUILD_SECONDS:g} s")) from None
            except _Died:
                how = self.stop()
                raise _Refused(_refusal(f"the process building it {how}")) from None
            if "refused" in built:
                self.stop()
                raise _Refused(built["refused"])
        return self._runner

    def _fork(self, key: tuple[str, str], job: dict[str, Any]) -> _Runner:
        inbox, to = os.pipe()
        answers, outbox = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for fd in (to, answers, self._inbox, self._outbox):
                    os.close(fd)
                runner.run(inbox, outbox, job)
            finally:
                os._exit(0)
        os.close(inbox)
        os.close(outbox)
        return _Runner(key, pid, to, answers)

    def _send(self, active: _Runner, items: list[Any]) -> None:
        try:
            frames.send(active.to, items)
        except BrokenPipeError:
            raise _Died from None

    def _receive(self, active: _Runner, seconds: float) -> Any:
        """The runner's next message. Raises _Died or _Overrun; ends everything with the pool."""
        poll = select.poll()
        poll.register(active.answers, select.POLLIN)
        poll.register(self._inbox, 0)  # reports only that the pool is gone
        started = time.monotonic()
        while True:
            try:
                message = frames.take_frame(active.buffer, _MAX_ANSWER_BYTES)
            except ValueError:
                raise _Died("sent something unreadable") from None
            if message is not None:
                return message
            waited = time.monotonic() - started
            if waited >= seconds and _is_over(active, seconds, waited):
                raise _Overrun
            wait = _POLL_SECONDS if waited >= seconds else seconds - waited
            for fd, _ in poll.poll(wait * 1000):
                if fd == self._inbox:
                    self.stop()
                    os._exit(0)
                piece = os.read(active.answers, 1 << 16)
                if not piece:
                    raise _Died
                active.buffer += piece


def _checked_result(message: Any) -> dict[str, Any]:
    """message, if it is a result as runner.py sends it: its process may be out of its mind."""
    match message:
        case {"status": "ok", "score": None, "reason": None, "detail": str(), "cpu": float()}:
            return dict(message)
        case {
            "status": "ok",
            "score": float(score),
            "reason": int(reason),
            "detail": str(),
            "cpu": float(),
        } if 0.0 <= score <= 1.0 and reason in _REASONS:
            return dict(message)
        case {"status": "error" | "prompt" | "timeout", "detail": str(), "cpu": float()}:
            return dict(message)
    raise _Died("sent something unreadable")


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


def _refusal(message: str) -> dict[str, str | None]:
    return {"kind": "", "message": message, "fix": None}
