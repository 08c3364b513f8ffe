"""The process in which checkers run: confined, expendable, one environment.

Forked by a worker (worker.py) that has imported the libraries already, so that starting
another after a crash takes milliseconds. It builds the environment, then answers items one by
one, so that its worker always knows which item it died on.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from marketplace.gym import frames
from marketplace.gym.environment import Judgement, checked_score
from marketplace.gym.machine import FIX, MACHINE, is_of_machine
from marketplace.gym.records import MAX_DETAIL_CHARS, Answer, State, pack_answer, unpack_items
from marketplace.gym.spec import parse_spec
from marketplace.protocol.errors import CheckerTimeout, TracemarketError
from marketplace.protocol.verdict import Reason

_PR_SET_PDEATHSIG = 1
_RING = b"\0"
_RECURSION = 1000  # Python's own; some libraries raise it so far that the stack overflows first


_RING_BYTES = 1 << 14
"""Answers that may wait for the worker in the pipe, which holds four times as much."""


def run(inbox: int, outbox: int, bell: int, job: dict[str, Any]) -> None:
    """Serves items from inbox until it is closed. Sends {"built": true} first, or the refusal.

    Every answer is written at once, so that it outlives this process; a byte goes to bell when the
    worker should look.
    """
    _confine(job["memory_mb"])
    try:
        environment = _build(job["factory"], job["spec"], job["assets"])
    except BaseException as error:
        frames.send(outbox, {"refused": refusal(error)})
        return
    frames.send(outbox, {"built": True})
    os.write(bell, _RING)
    checks = Checks(environment)
    number = 0
    while (items := frames.receive_bytes(inbox)) is not None:
        unread = 0
        for seed, completion, prompt in unpack_items(items):
            answer = checks.check(seed, completion, prompt)
            record = pack_answer(number, answer, time.process_time())
            frames.write(outbox, record)
            number += 1
            unread += len(record)
            if unread >= _RING_BYTES:
                os.write(bell, _RING)
                unread = 0
        os.write(bell, _RING)


class Checks:
    """One environment's checks, without any isolation."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._last: tuple[bytes, Any] | None = None  # a group asks for the same task G times

    def check(self, seed: bytes, completion: str | None, prompt: str | None) -> Answer:
        """The answer to one item. Raises nothing, whatever the checker does."""
        try:
            return self._checked(seed, completion, prompt)
        except BaseException as error:  # SystemExit too: whatever a checker does is its own state
            state = State.ERROR
            if isinstance(error, CheckerTimeout):
                state = State.TIMEOUT
            elif isinstance(error, MemoryError):
                state = State.MEMORY
            elif is_of_machine(error):
                state = State.MACHINE
            return Answer(state, 0, 0.0, _said(error))

    def _checked(self, seed: bytes, completion: str | None, prompt: str | None) -> Answer:
        if self._last is None or self._last[0] != seed:
            self._last = (seed, self._environment.task(seed))
        task = self._last[1]
        if prompt is not None and prompt != task.prompt:
            return Answer(State.PROMPT, 0, 0.0, _difference(prompt, task.prompt))
        if completion is None:
            return Answer(State.UNSCORED, 0, 0.0, "")
        judgement: Judgement = self._environment.judge(task, completion)
        score = checked_score(judgement.score)
        return Answer(State.SCORED, int(Reason(judgement.reason)), score, judgement.detail)


def _build(factory: str, spec: str, assets: str | None) -> Any:
    module, _, name = factory.partition(":")
    make = getattr(importlib.import_module(module), name)
    parsed = parse_spec(spec.encode("utf-8"))
    environment = make(parsed) if assets is None else make(parsed, Path(assets))
    environment.self_test()  # also warms caches up, outside the time of the first item
    return environment


def _confine(memory_mb: int) -> None:
    """Limits this process: address space, no file writes, no core dump, dies with its worker."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.setrecursionlimit(_RECURSION)
    limit = _address_space() + (memory_mb << 20)
    with contextlib.suppress(ValueError, OSError):  # a lower hard limit is in force already
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _address_space() -> int:
    """Bytes of address space in use. What the libraries take must not count for the checker."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 4 << 30


def refusal(error: BaseException) -> dict[str, str | None]:
    """An exception while building, as the pool gets it."""
    if is_of_machine(error):
        return {"kind": MACHINE, "message": _said(error), "fix": FIX}
    if isinstance(error, TracemarketError):
        return {"kind": type(error).__name__, "message": error.message, "fix": error.fix}
    return {"kind": "", "message": _said(error), "fix": None}


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a hostile or broken exception class
        text = ""
    if isinstance(error, TracemarketError):
        return text[:MAX_DETAIL_CHARS]
    return f"the checker raised {type(error).__name__}: {text}"[:MAX_DETAIL_CHARS]


def _difference(found: str, expected: str) -> str:
    pairs = zip(found, expected, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
    return (
        f"the prompt differs from the assigned one at character {place}: "
        f"{found[place : place + 60]!r} instead of {expected[place : place + 60]!r}"
    )
