"""Check items in chunks, their results in order, whoever does the work: what executors share."""

from __future__ import annotations

import json
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from operator import length_hint
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self

from marketplace.gym import records
from marketplace.gym.machine import FIX, MACHINE
from marketplace.gym.records import Answer, State
from marketplace.gym.spec import EnvironmentSpec, spec_bytes
from marketplace.gym.worker import BUILD_SECONDS, REFUSAL, WALL_FACTOR
from marketplace.protocol.errors import CheckerFailed, EnvironmentMismatch, InvalidValue, SpecError
from marketplace.protocol.verdict import Reason

ENVIRONMENT: Final = "marketplace.gym.environment:Environment"

FIRST_CHUNK: Final = 16
"""Items of a stream's first chunks, before it is known how long a check takes."""

CHUNK_SECONDS: Final = 0.1
"""What a chunk should take: far more than sending it, far less than a batch."""

SMALLEST_PART: Final = 16
"""A stream's last chunks are this much smaller than others, at most."""

_MATH_VERIFY: Final = "marketplace.gym.sources.math_warm"
_REFUSALS = {
    SpecError.__name__: SpecError,
    EnvironmentMismatch.__name__: EnvironmentMismatch,
    MACHINE: CheckerFailed,
}


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


class CheckExecutor(Protocol):
    """What checks items: a CheckPool, or what has its interface.

    assets: folder of what specs name by CID, filled by whoever uses it."""

    assets: Path | None

    def check(self, spec: EnvironmentSpec, items: Iterable[CheckItem]) -> list[CheckResult]:
        """The results of all items, in order. Errors as `stream`."""
        ...

    def stream(
        self, spec: EnvironmentSpec, items: Iterable[CheckItem], count: int | None = None
    ) -> Iterator[CheckResult]:
        """The results in order, as they come; items are only taken as workers get free.

        count: how many items there are at most, where they don't say so themselves as a list does:
        the last ones are then shared out so that all workers end together.

        Raises SpecError or EnvironmentMismatch if the environment can't be built, and CheckerFailed
        if the executor itself or its machine (disk, file handles) fails.
        """
        ...

    def close(self) -> None:
        """Ends what it started. May be called twice."""
        ...


class StreamingPool(ABC):
    """What the pools share: a context manager whose end is `close`, and one stream at a time."""

    def __init__(self) -> None:
        self._streaming = threading.Lock()
        self._closed = False

    @abstractmethod
    def stream(
        self, spec: EnvironmentSpec, items: Iterable[CheckItem], count: int | None = None
    ) -> Iterator[CheckResult]:
        """As CheckExecutor.stream."""

    @abstractmethod
    def close(self) -> None:
        """As CheckExecutor.close."""

    def check(self, spec: EnvironmentSpec, items: Iterable[CheckItem]) -> list[CheckResult]:
        """The results of all items, in order. Errors as `stream`."""
        return list(self.stream(spec, items))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _one_stream(self) -> Iterator[None]:
        if self._closed:
            raise InvalidValue("the check pool is closed")
        if not self._streaming.acquire(blocking=False):
            raise InvalidValue(
                "the check pool is in use by another stream", fix="use one pool per stream"
            )
        try:
            yield
        finally:
            self._streaming.release()


@dataclass(slots=True)
class Job:
    """sent: when it was, by the clock."""

    number: int
    items: list[CheckItem]
    failures: int = 0
    sent: float = 0.0


def packed(items: Iterable[CheckItem]) -> bytes:
    """The records of items."""
    return b"".join(records.pack_item(*item) for item in items)


class Header:
    """What all jobs of a stream have in common. message: as a worker gets it."""

    def __init__(self, factory: str, spec: EnvironmentSpec, assets: str | None) -> None:
        """assets: the folder of what the spec names by CID, on the machine of the worker."""
        self.spec = spec
        job = {
            "factory": factory,
            "spec": spec_bytes(spec).decode("utf-8"),
            "assets": assets if spec.to_fetch() else None,
            "preload": [
                *spec.source.PRELOAD,
                *([_MATH_VERIFY] if spec.scoring.kind == "math_verify" else []),
            ],
            "packages": sorted(spec.packages),
            "seconds": spec.limits.seconds,
            "memory_mb": spec.limits.memory_mb,
        }
        self.message = json.dumps(job, separators=(",", ":")).encode("ascii")

    def longest_seconds(self, job: Job) -> float:
        """More than a working worker can take: each item in two runners, each one built."""
        once = (self.spec.limits.seconds + BUILD_SECONDS) * WALL_FACTOR
        return 60.0 + 2 * once * len(job.items)


class Crew(Protocol):
    """Who does jobs: some slots, one job each at a time. most_failures: of one job, before it is
    given up."""

    size: int
    most_failures: int

    def is_free(self, slot: int) -> bool:
        """Whether a slot can take a job."""
        ...

    def submit(self, slot: int, job: Job) -> None:
        """Gives a free slot a job."""
        ...

    def answers(self) -> Iterable[tuple[int, Job, bytes | None]]:
        """Waits for one or more: (slot, job, answer), the answer None where the slot failed.
        Nothing if there is no job under way and nothing to wait for."""
        ...


def in_order(crew: Crew, spec: EnvironmentSpec, chunks: Chunks) -> Iterator[CheckResult]:
    """The results of all chunks. Chunks are only taken as slots get free. Raises as
    CheckPool.stream."""
    retry: deque[Job] = deque()
    done: dict[int, list[CheckResult]] = {}
    next_out = under_way = 0
    exhausted = False
    while True:
        for slot in range(crew.size):
            if not crew.is_free(slot):
                continue
            if retry:
                job = retry.popleft()
            elif exhausted or len(done) >= 2 * crew.size:
                break  # one slow chunk must not let the others pile up behind it
            elif not (chunk := chunks.take()):
                exhausted = True
                break
            else:
                job = Job(chunks.taken - 1, chunk)
            job.sent = time.monotonic()
            crew.submit(slot, job)
            under_way += 1
        while next_out in done:  # after submitting: workers go on while these are used
            yield from done.pop(next_out)
            next_out += 1
        if not under_way and exhausted and not retry:
            return
        for slot, job, answer in crew.answers():
            under_way -= 1
            if answer is not None:
                done[job.number] = results_of(spec, len(job.items), answer)
                chunks.learn(len(job.items), time.monotonic() - job.sent)
            elif job.failures < crew.most_failures:
                retry.append(Job(job.number, job.items, job.failures + 1))
            else:
                raise CheckerFailed(
                    f"check worker {slot} failed twice on the same items"
                    if crew.most_failures == 1
                    else f"check workers failed {job.failures + 1} times on the same items",
                    fix="look for the system's out-of-memory killer",
                )


class Chunks:
    """Items in chunks that take a worker about so many seconds. taken: chunks so far.

    workers: how many there are. count: of the items, at most; None where only they know. Towards
    the end chunks shrink to half of each worker's share of the rest, so that none waits for long.
    """

    def __init__(
        self,
        items: Iterable[tuple[Any, ...]],
        most_items: int,
        most_chars: int,
        seconds: float = CHUNK_SECONDS,
        *,
        workers: int = 1,
        count: int | None = None,
    ) -> None:
        self._items = iter(items)
        self._left = length_hint(items) if count is None else count
        self._workers = workers
        self._next: CheckItem | None = None
        self._most_items, self._most_chars = most_items, most_chars
        self._seconds = seconds
        self._size = min(FIRST_CHUNK, most_items)
        self.taken = 0

    def take(self) -> list[CheckItem]:
        """The next chunk; empty at the end. A task's items are kept together where they can be:
        whoever checks them has to derive the task."""
        chunk: list[CheckItem] = []
        chars = 0
        size = self._size
        if self._left > 0:
            share = self._left // (2 * self._workers)
            size = min(size, max(share, size // SMALLEST_PART, 1))
        most = min(max(2 * size, FIRST_CHUNK), self._most_items)
        while len(chunk) < most and chars < self._most_chars:
            item, self._next = self._next, None
            if item is None:
                plain = next(self._items, None)
                if plain is None:
                    break
                item = CheckItem(*plain)
            if len(chunk) >= size and item.seed != chunk[-1].seed:
                self._next = item
                break
            chars += len(item.completion or "") + len(item.prompt or "")
            chunk.append(item)
        self.taken += bool(chunk)
        self._left -= len(chunk)
        return chunk

    def learn(self, items: int, seconds: float) -> None:
        """How long a chunk took: the next ones are up to twice as large, or smaller."""
        fitting = int(items * self._seconds / max(seconds, 1e-6))
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
    """A runner's answer as the pool gives it. CheckerFailed where its machine had none."""
    if answer.state == State.SCORED:
        return CheckResult(Status.OK, answer.score, _REASONS[answer.reason], answer.detail)
    if answer.state == State.UNSCORED:
        return CheckResult(Status.OK, None, None, answer.detail)
    if answer.state == State.MACHINE:
        raise CheckerFailed(f"this machine can't check: {answer.detail}", fix=FIX)
    status, reason = _FAILED[State(answer.state)]
    return CheckResult(status, None, reason, answer.detail)


_REASONS: Final = {int(reason): reason for reason in Reason}
