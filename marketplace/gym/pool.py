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
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

from marketplace.gym import frames
from marketplace.gym.jobs import (
    ENVIRONMENT,
    CheckItem,
    CheckResult,
    Chunks,
    Header,
    Job,
    Status,
    StreamingPool,
    in_order,
    packed,
    result_of,
)
from marketplace.gym.spec import EnvironmentSpec
from marketplace.gym.worker import HEADER, ITEMS
from marketplace.protocol.errors import InvalidValue

__all__ = ["CheckItem", "CheckPool", "CheckResult", "Status", "WorkerProcess", "result_of"]

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from marketplace.gym.worker import main; main()"
)
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV")


class CheckPool(StreamingPool):
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
        self.hash_seed = hash_seed
        self.assets = assets
        self._chunk_items, self._chunk_chars = chunk_items, chunk_chars
        self._workers: list[WorkerProcess | None] = [None] * workers
        super().__init__()
        self._finalizer = weakref.finalize(self, _end_all, self._workers)

    def close(self) -> None:
        """Ends every worker and its runner and waits for them. May be called twice."""
        self._closed = True
        _end_all(self._workers)

    def stream(
        self, spec: EnvironmentSpec, items: Iterable[CheckItem], count: int | None = None
    ) -> Iterator[CheckResult]:
        """The results in order, as they come; items are only taken as workers get free.

        count: how many items there are at most, where they don't say so themselves as a list does.

        Raises SpecError or EnvironmentMismatch if the environment can't be built here, and
        CheckerFailed if a worker itself fails repeatedly. Plain (seed, completion) pairs do too.
        """
        with self._one_stream():
            try:
                folder = None if self.assets is None else os.path.abspath(self.assets)
                chunks = Chunks(
                    items,
                    self._chunk_items,
                    self._chunk_chars,
                    workers=len(self._workers),
                    count=count,
                )
                with selectors.DefaultSelector() as selector:
                    crew = _Crew(self, Header(self._factory, spec, folder), selector)
                    yield from in_order(crew, spec, chunks)
            finally:
                for slot, process in enumerate(self._workers):
                    if process is not None and process.job is not None:
                        self._replace(slot)  # its answer belongs to a stream that nobody reads

    def _replace(self, slot: int) -> None:
        process, self._workers[slot] = self._workers[slot], None
        if process is not None:
            process.end()


class _Crew:
    """The pool's workers, in one stream."""

    most_failures = 1

    def __init__(self, pool: CheckPool, header: Header, selector: selectors.BaseSelector) -> None:
        self._pool, self._header, self._selector = pool, header, selector
        self._workers = pool._workers
        self.size = len(self._workers)

    def is_free(self, slot: int) -> bool:
        process = self._workers[slot]
        return process is None or process.job is None

    def submit(self, slot: int, job: Job) -> None:
        process = self._workers[slot]
        if process is None:
            process = self._workers[slot] = WorkerProcess(self._pool.hash_seed)
        process.job = job
        with contextlib.suppress(BrokenPipeError):  # shows as an end of file right after
            process.send(self._header.message, packed(job.items))
        self._selector.register(process.answers, selectors.EVENT_READ, slot)

    def answers(self) -> Iterator[tuple[int, Job, bytes | None]]:
        under_way = [one.job for one in self._workers if one is not None and one.job is not None]
        if not under_way:
            return
        longest = max(map(self._header.longest_seconds, under_way))
        ready = [key.data for key, _ in self._selector.select(longest)]
        slots = ready or [key.data for key in self._selector.get_map().values()]  # all are stuck
        for slot in slots:
            process = self._workers[slot]
            assert process is not None
            assert process.job is not None
            job = process.job
            answer = process.receive() if ready else None
            self._selector.unregister(process.answers)
            process.job = None
            if answer is None:
                self._pool._replace(slot)
            yield slot, job, answer


class WorkerProcess:
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
        self.job: Job | None = None
        self._told = b""  # the header that it has

    def send(self, header: bytes, items: bytes) -> None:
        """header: of Header; sent only where it is another one. items: packed."""
        assert self._popen.stdin is not None
        to = self._popen.stdin.fileno()
        if self._told != header:
            self._told = header
            frames.send_bytes(to, HEADER, header)
        frames.send_bytes(to, ITEMS, items)

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


def _end_all(workers: list[WorkerProcess | None]) -> None:
    for slot, process in enumerate(workers):
        workers[slot] = None
        if process is not None:
            process.end()
