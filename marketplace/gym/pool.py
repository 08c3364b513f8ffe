"""The check pool: checkers in isolated processes, items streamed through, results in order.

    CheckPool ──job──> worker (one per slot, supervises) ──fork──> runner (runs the checker)

A checker that raises, hangs, dies or takes too much memory costs its own item only. Whether
an environment can be used at all is another matter: then no item gets a result, and the
stream raises.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from marketplace.gym import frames, records
from marketplace.gym.records import Answer, State
from marketplace.gym.spec import EnvironmentSpec, spec_bytes
from marketplace.gym.worker import BUILD_SECONDS, HEADER, ITEMS, REFUSAL, WALL_FACTOR
from marketplace.protocol.errors import (
    CheckerFailed,
    EnvironmentMismatch,
    InvalidValue,
    SpecError,
)
from marketplace.protocol.verdict import Reason

ENVIRONMENT: Final = "marketplace.gym.environment:Environment"

FIRST_CHUNK: Final = 16
"""Items of a stream's first chunks, before it is known how long a check takes."""

CHUNK_SECONDS: Final = 0.04
"""What a chunk should take: far more than sending it, far less than a batch."""

_MATH_VERIFY: Final = "marketplace.gym.sources.math_warm"
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from marketplace.gym.worker import main; main()"
)
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")
_REFUSALS = {kind.__name__: kind for kind in (SpecError, EnvironmentMismatch)}


class CheckItem(NamedTuple):
    """One thing to check. seed: 32 bytes, of the task. completion: None to check the prompt only.

    prompt: what the task's prompt has to be, or None to leave it unchecked.
    """

    seed: bytes
    completion: str | None
    prompt: str | None = None


class Status(StrEnum):
    """What became of an item."""

    OK = "ok"
    PROMPT = "prompt"  # the prompt is not the task's; the checker did not run
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """score in [0, 1] and reason when the checker ran; score None otherwise.

    reason is None only for an item without completion. detail: one line for people; it is not
    part of any verdict.
    """

    status: Status
    score: float | None
    reason: Reason | None
    detail: str


class CheckPool:
    """Some worker processes. A context manager: leaving it ends and reaps every one of them.

    One stream at a time; not for use from several threads at once.

    workers: how many processes check at the same time. factory: "module:name" of what makes an
    environment out of a spec. chunk_items, chunk_chars: the most that is sent to a worker at once;
    less where checks take long, so that no worker waits long for another at the end. assets: folder
    of what specs name by CID, filled by whoever uses the pool. hash_seed: of the workers' Python;
    scores must not depend on it, which `env check` puts to the test.
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        factory: str = ENVIRONMENT,
        chunk_items: int = 256,
        chunk_chars: int = 1 << 18,
        assets: Path | None = None,
        hash_seed: int = 0,
    ) -> None:
        if workers < 1 or chunk_items < 1:
            raise InvalidValue(f"workers is {workers}, chunk_items {chunk_items}: both from 1")
        self._factory = factory
        self._hash_seed = hash_seed
        self.assets = assets
        self._chunk_items, self._chunk_chars = chunk_items, chunk_chars
        self._workers: list[_Process | None] = [None] * workers
        self._streaming = threading.Lock()
        self._closed = False
        self._finalizer = weakref.finalize(self, _end_all, self._workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every worker and its runner and waits for them. May be called twice."""
        self._closed = True
        _end_all(self._workers)

    def check(self, spec: EnvironmentSpec, items: Iterable[CheckItem]) -> list[CheckResult]:
        """The results of all items, in order. Errors as `stream`."""
        return list(self.stream(spec, items))

    def stream(self, spec: EnvironmentSpec, items: Iterable[CheckItem]) -> Iterator[CheckResult]:
        """The results in order, as they come; items are only taken as workers get free.

        Raises SpecError or EnvironmentMismatch if the environment can't be built here, and
        CheckerFailed if a worker itself fails repeatedly. Plain (seed, completion) pairs do too.
        """
        if self._closed:
            raise InvalidValue("the check pool is closed")
        if not self._streaming.acquire(blocking=False):
            raise InvalidValue(
                "the check pool is in use by another stream", fix="use one pool per stream"
            )
        try:
            yield from self._streamed(_Header(self._factory, spec, self.assets), items)
        finally:
            for slot, process in enumerate(self._workers):
                if process is not None and process.job is not None:
                    self._replace(slot)  # its answer belongs to a stream that nobody reads
            self._streaming.release()

    # --- one stream ----------------------------------------------------------------

    def _streamed(self, header: _Header, items: Iterable[CheckItem]) -> Iterator[CheckResult]:
        chunks = _Chunks(items, self._chunk_items, self._chunk_chars)
        retry: deque[_Job] = deque()
        done: dict[int, list[CheckResult]] = {}
        next_out = 0
        exhausted = False
        with selectors.DefaultSelector() as selector:
            while True:
                for slot in range(len(self._workers)):
                    if self._is_busy(slot):
                        continue
                    if retry:
                        job = retry.popleft()
                    elif exhausted or len(done) >= 2 * len(self._workers):
                        break  # one slow chunk must not let the others pile up behind it
                    elif not (chunk := chunks.take()):
                        exhausted = True
                        break
                    else:
                        job = _Job(chunks.taken - 1, chunk)
                    self._submit(slot, header, job, selector)
                while next_out in done:  # after submitting: workers go on while these are used
                    yield from done.pop(next_out)
                    next_out += 1
                if not selector.get_map():
                    if exhausted and not retry:
                        return
                    continue
                for slot, job, answer in self._answers(header, selector):
                    if answer is not None:
                        done[job.number] = results_of(header.spec, len(job.items), answer)
                        chunks.learn(len(job.items), time.monotonic() - job.sent)
                    elif job.failures < 1:
                        retry.append(_Job(job.number, job.items, job.failures + 1))
                    else:
                        raise CheckerFailed(
                            f"check worker {slot} failed twice on the same items",
                            fix="look for the system's out-of-memory killer",
                        )

    def _is_busy(self, slot: int) -> bool:
        process = self._workers[slot]
        return process is not None and process.job is not None

    def _submit(
        self, slot: int, header: _Header, job: _Job, selector: selectors.BaseSelector
    ) -> None:
        process = self._workers[slot]
        if process is None:
            process = self._workers[slot] = _Process(self._hash_seed)
        process.job = job
        job.sent = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # shows as an end of file right after
            process.send(header, job)
        selector.register(process.answers, selectors.EVENT_READ, slot)

    def _answers(
        self, header: _Header, selector: selectors.BaseSelector
    ) -> Iterator[tuple[int, _Job, bytes | None]]:
        """(slot, job, answer) of each worker that answered; answer None if it failed."""
        longest = max(
            header.longest_seconds(process.job)
            for process in self._workers
            if process is not None and process.job is not None
        )
        ready = [key.data for key, _ in selector.select(longest)]
        slots = ready or [key.data for key in selector.get_map().values()]  # all are stuck
        for slot in slots:
            process = self._workers[slot]
            assert process is not None
            assert process.job is not None
            job = process.job
            answer = process.receive() if ready else None
            selector.unregister(process.answers)
            process.job = None
            if answer is None:
                self._replace(slot)
            yield slot, job, answer

    def _replace(self, slot: int) -> None:
        process, self._workers[slot] = self._workers[slot], None
        if process is not None:
            process.end()


@dataclass(slots=True)
class _Job:
    """sent: when it was, by the clock."""

    number: int
    items: list[CheckItem]
    failures: int = 0
    sent: float = 0.0


class _Header:
    """What all jobs of a stream have in common. message: as a worker gets it."""

    def __init__(self, factory: str, spec: EnvironmentSpec, assets: Path | None) -> None:
        self.spec = spec
        folder = None if assets is None else os.path.abspath(assets)
        job = {
            "factory": factory,
            "spec": spec_bytes(spec).decode("utf-8"),
            "assets": folder if spec.to_fetch() else None,
            "preload": [
                *spec.source.PRELOAD,
                *([_MATH_VERIFY] if spec.scoring.kind == "math_verify" else []),
            ],
            "seconds": spec.limits.seconds,
            "memory_mb": spec.limits.memory_mb,
        }
        self.message = json.dumps(job, separators=(",", ":")).encode("ascii")

    def longest_seconds(self, job: _Job) -> float:
        """More than a working worker can take: each item in two runners, each one built."""
        once = (self.spec.limits.seconds + BUILD_SECONDS) * WALL_FACTOR
        return 60.0 + 2 * once * len(job.items)


class _Process:
    """A worker process, seen from the pool. job: what it is busy with, or None."""

    __slots__ = ("_popen", "_told", "answers", "job")

    def __init__(self, hash_seed: int) -> None:
        path = [os.path.abspath(entry) for entry in sys.path]
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            # No secrets in reach, one thread each, and one hash order in every worker.
            env={
                **kept,
                "LANG": "C.UTF-8",
                "PYTHONHASHSEED": str(hash_seed),
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "MKL_NUM_THREADS": "1",
            },
            start_new_session=True,  # so that ending the group ends the runner too
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self.answers = self._popen.stdout
        self.job: _Job | None = None
        self._told = b""  # the header that it has

    def send(self, header: _Header, job: _Job) -> None:
        assert self._popen.stdin is not None
        to = self._popen.stdin.fileno()
        if self._told != header.message:
            self._told = header.message
            frames.send_bytes(to, HEADER, header.message)
        frames.send_bytes(to, ITEMS, *(records.pack_item(*item) for item in job.items))

    def receive(self) -> bytes | None:
        """The answer, or None if the worker ended instead."""
        return frames.receive_bytes(self.answers.fileno())

    def end(self) -> None:
        """Kills the worker with its runner and reaps it. Its results are lost."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()
        self._popen.wait()


def _end_all(workers: list[_Process | None]) -> None:
    for slot, process in enumerate(workers):
        workers[slot] = None
        if process is not None:
            process.end()


class _Chunks:
    """Items in chunks that take a worker about CHUNK_SECONDS. taken: chunks so far."""

    def __init__(self, items: Iterable[tuple[Any, ...]], most_items: int, most_chars: int) -> None:
        self._items = iter(items)
        self._next: CheckItem | None = None
        self._most_items, self._most_chars = most_items, most_chars
        self._size = min(FIRST_CHUNK, most_items)
        self.taken = 0

    def take(self) -> list[CheckItem]:
        """The next chunk; empty at the end. A task's items are kept together where they can be:
        whoever checks them has to derive the task."""
        chunk: list[CheckItem] = []
        chars = 0
        most = min(max(2 * self._size, FIRST_CHUNK), self._most_items)
        while len(chunk) < most and chars < self._most_chars:
            item, self._next = self._next, None
            if item is None:
                plain = next(self._items, None)
                if plain is None:
                    break
                item = CheckItem(*plain)
            if len(chunk) >= self._size and item.seed != chunk[-1].seed:
                self._next = item
                break
            chars += len(item.completion or "") + len(item.prompt or "")
            chunk.append(item)
        self.taken += bool(chunk)
        return chunk

    def learn(self, items: int, seconds: float) -> None:
        """How long a chunk took: the next ones are up to twice as large, or smaller."""
        fitting = int(items * CHUNK_SECONDS / max(seconds, 1e-6))
        self._size = max(1, min(fitting, 2 * self._size, self._most_items))


_FAILED: Final = {
    State.PROMPT: (Status.PROMPT, Reason.TAMPERED_PROMPT),
    State.ERROR: (Status.ERROR, Reason.CHECKER_ERROR),
    State.MEMORY: (Status.ERROR, Reason.CHECKER_ERROR),
    State.TIMEOUT: (Status.TIMEOUT, Reason.CHECKER_TIMEOUT),
}


def results_of(spec: EnvironmentSpec, count: int, answer: bytes) -> list[CheckResult]:
    """The results in a worker's answer to `count` items. Raises as CheckPool.stream."""
    if answer[:1] == REFUSAL:
        refusal = json.loads(answer[1:])
        raise _REFUSALS.get(refusal["kind"], SpecError)(
            refusal["message"]
            if refusal["kind"]
            else f"environment {spec.name!r} can't be built: {refusal['message']}",
            fix=refusal["fix"],
        )
    results = [result_of(one) for one in records.unpack_answers(answer[1:])]
    if len(results) != count:
        raise CheckerFailed(f"a check worker gave {len(results)} results for {count} items")
    return results


def result_of(answer: Answer) -> CheckResult:
    """A runner's answer as the pool gives it."""
    if answer.state == State.SCORED:
        return CheckResult(Status.OK, answer.score, _REASONS[answer.reason], answer.detail)
    if answer.state == State.UNSCORED:
        return CheckResult(Status.OK, None, None, answer.detail)
    status, reason = _FAILED[State(answer.state)]
    return CheckResult(status, None, reason, answer.detail)


_REASONS: Final = {int(reason): reason for reason in Reason}
