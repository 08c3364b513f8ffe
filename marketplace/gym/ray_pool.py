"""The check pool of an operator with several machines: CheckPool's interface, over a Ray cluster.

    RayPool ──job──> actor (one per slot, on some machine) ──> worker ──fork──> runner

An actor keeps one of the pool's worker processes, so a checker is isolated as on one machine. The
jobs of a machine that is lost are done again elsewhere: a verdict depends on nothing but the item.
Data sets travel with the first job that needs them. Every machine needs tracemarket in the same
version, with what the specs pin; Ray's own port must be open to the operator alone, for whoever
reaches it runs code there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import marketplace
from marketplace.gym.jobs import (
    ENVIRONMENT,
    CheckItem,
    CheckResult,
    Chunks,
    Header,
    Job,
    StreamingPool,
    in_order,
    packed,
)
from marketplace.gym.pool import WorkerProcess
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import CheckerFailed, EnvironmentMismatch, InvalidValue

START_SECONDS: Final = 180.0
"""For the first actor to start, and for another one where all are lost."""

RAY_CHUNK_SECONDS: Final = 0.2
"""More than CheckPool's: a job crosses a network."""

MOST_FAILURES: Final = 4
"""Machines that may be lost under one job, or fail at it, before it is given up."""

_ASSETS: Final = "its own"
"""Stands for the folder that each actor has for itself."""


class RayPool(StreamingPool):
    """Actors on a Ray cluster. A context manager: leaving it ends them, and the cluster if it was
    started here.

    address: of the cluster ("host:port", "auto"); None starts one on this machine. workers: actors,
    each with a CPU of its own; None: as many as the cluster has CPUs. Others as CheckPool's; assets
    is a folder of this machine.

    Raises EnvironmentMismatch where Ray is not installed, or a machine has another tracemarket, and
    CheckerFailed where the cluster can't be reached or gives no CPU.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        *,
        factory: str = ENVIRONMENT,
        chunk_items: int = 1024,
        chunk_chars: int = 1 << 20,
        assets: Path | None = None,
        hash_seed: int = 0,
    ) -> None:
        if (workers is not None and workers < 1) or chunk_items < 1:
            raise InvalidValue(f"workers is {workers}, chunk_items {chunk_items}: both from 1")
        self.assets = assets
        self._factory, self._hash_seed = factory, hash_seed
        self._chunk_items, self._chunk_chars = chunk_items, chunk_chars
        super().__init__()
        self._ray, self._started = _connected(address, workers)
        count = workers or int(self._ray.cluster_resources().get("CPU", 1))
        self._actor_class = self._ray.remote(num_cpus=1, max_restarts=0)(RemoteWorker)
        self._slots = [_Slot() for _ in range(count)]
        try:
            for slot in self._slots:
                self._start(slot)
            self._wait_for_one()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends every actor with its processes. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for slot in self._slots:
            self._end(slot)
        if self._started:
            self._ray.shutdown()

    def stream(
        self, spec: EnvironmentSpec, items: Iterable[CheckItem], count: int | None = None
    ) -> Iterator[CheckResult]:
        """As CheckPool.stream."""
        with self._one_stream():
            try:
                chunks = Chunks(
                    items,
                    self._chunk_items,
                    self._chunk_chars,
                    RAY_CHUNK_SECONDS,
                    workers=len(self._slots),
                    count=count,
                )
                yield from in_order(_Crew(self, spec), spec, chunks)
            finally:
                for slot in self._slots:
                    if slot.job is not None:
                        self._restart(slot)  # its answer belongs to a stream that nobody reads

    # --- actors --------------------------------------------------------------------

    def _start(self, slot: _Slot) -> None:
        slot.actor = self._actor_class.remote(self._hash_seed)
        slot.told = None
        slot.waiting = slot.actor.version.remote()

    def _end(self, slot: _Slot) -> None:
        actor, slot.actor, slot.job, slot.waiting = slot.actor, None, None, None
        if actor is not None:
            with contextlib.suppress(Exception):  # it may be gone, or the cluster
                self._ray.kill(actor, no_restart=True)

    def _restart(self, slot: _Slot) -> None:
        self._end(slot)
        self._start(slot)

    def _wait_for_one(self) -> None:
        refs = [slot.waiting for slot in self._slots]
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=START_SECONDS)
        if not ready:
            raise CheckerFailed(
                f"no machine of the Ray cluster took a check worker in {START_SECONDS:g} s",
                fix="look at `ray status`: every worker needs one free CPU",
            )
        for slot in self._slots:
            if slot.waiting in ready:
                self._take_version(slot)

    def _take_version(self, slot: _Slot) -> None:
        """Marks a slot as ready. The other end must judge alike."""
        found = self._ray.get(slot.waiting)
        slot.waiting = None
        if found != marketplace.__version__:
            raise EnvironmentMismatch(
                f"a machine of the Ray cluster has tracemarket {found}, and this one "
                f"{marketplace.__version__}",
                fix="install the same version on every machine",
            )

    def _sent_assets(self, spec: EnvironmentSpec) -> dict[str, Any]:
        """References to the bytes of what the spec names, by CID."""
        if self.assets is None:
            return {}
        found = {}
        for asset in spec.to_fetch():
            path = self.assets / asset.cid
            if path.is_file():  # else the worker says that it is not there
                found[asset.cid] = self._ray.put(path.read_bytes())
        return found


class _Slot:
    """actor: None after the end. waiting: for its version, until it is ready. told: what its items
    are of, and which data sets it got for them. job, answer: under way."""

    __slots__ = ("actor", "answer", "job", "told", "waiting")

    def __init__(self) -> None:
        self.actor: Any = None
        self.waiting: Any = None
        self.told: tuple[bytes, frozenset[str]] | None = None
        self.job: Job | None = None
        self.answer: Any = None


class _Crew:
    """The actors, in one stream."""

    most_failures = MOST_FAILURES

    def __init__(self, pool: RayPool, spec: EnvironmentSpec) -> None:
        self._pool, self._ray, self._slots = pool, pool._ray, pool._slots
        self._assets = pool._sent_assets(spec)
        folder = None if pool.assets is None else _ASSETS
        self._header = Header(pool._factory, spec, folder)
        # A data set that was not here before may be now.
        self._told = (self._header.message, frozenset(self._assets))
        self.size = len(self._slots)

    def is_free(self, slot: int) -> bool:
        one = self._slots[slot]
        return one.waiting is None and one.job is None

    def submit(self, slot: int, job: Job) -> None:
        one = self._slots[slot]
        if one.told != self._told:
            one.told = self._told
            # Calls of one actor run in order, so there is nothing to wait for.
            one.actor.begin.remote(self._header.message, self._assets)
        one.job = job
        one.answer = one.actor.answer.remote(packed(job.items))

    def answers(self) -> Iterator[tuple[int, Job, bytes | None]]:
        at_work = [one for one in self._slots if one.job is not None]
        starting = [one for one in self._slots if one.waiting is not None]
        if not at_work and not starting:
            return
        longest = START_SECONDS
        if at_work:
            longest = max(self._header.longest_seconds(one.job) for one in at_work if one.job)
        refs = [one.answer for one in at_work] + [one.waiting for one in starting]
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=longest)
        if not ready and not at_work:
            raise CheckerFailed(
                f"no machine of the Ray cluster took a check worker in {longest:g} s",
                fix="look at `ray status`: every worker needs one free CPU",
            )
        for slot, one in enumerate(self._slots):
            if one.waiting is not None and one.waiting in ready:
                try:
                    self._pool._take_version(one)
                except self._ray.exceptions.RayError:
                    self._pool._restart(one)
            elif one.job is not None and (one.answer in ready or not ready):
                job, one.job = one.job, None
                answer = self._answer(one.answer) if ready else None
                if answer is None:
                    self._pool._restart(one)
                yield slot, job, answer

    def _answer(self, ref: Any) -> bytes | None:
        try:
            found = self._ray.get(ref)
        except self._ray.exceptions.RayError:  # the actor, its machine or the network
            return None
        return None if found is None else bytes(found)


class RemoteWorker:
    """What runs on a machine of the cluster: keeps one of the pool's worker processes, which ends
    with it: then its pipes are closed."""

    def __init__(self, hash_seed: int) -> None:
        self._hash_seed = hash_seed
        self._process: WorkerProcess | None = None
        self._header = b""
        self._folder = tempfile.TemporaryDirectory(prefix="tracemarket-assets-")

    def version(self) -> str:
        """Of tracemarket, on this machine."""
        return marketplace.__version__

    def begin(self, header: bytes, assets: dict[str, Any]) -> None:
        """What the items of the next calls are of. assets: references by CID."""
        import ray

        for cid, ref in assets.items():
            path = Path(self._folder.name, os.path.basename(cid))
            if not path.exists():
                path.write_bytes(ray.get(ref))
        job = json.loads(header)
        if job["assets"] is not None:
            job["assets"] = self._folder.name
        self._header = json.dumps(job, separators=(",", ":")).encode("ascii")

    def answer(self, items: bytes) -> bytes | None:
        """A worker's answer to packed items; None if it ended instead."""
        if self._process is None:
            self._process = WorkerProcess(self._hash_seed)
        with contextlib.suppress(BrokenPipeError):  # shows as an end of file right after
            self._process.send(self._header, items)
        answer = self._process.receive()
        if answer is None:
            self._process.end()
            self._process = None
        return answer


def _connected(address: str | None, workers: int | None) -> tuple[Any, bool]:
    """Ray, and whether it was started (or joined) here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise EnvironmentMismatch(
            "checks over several machines need Ray, and it is not installed",
            fix="pip install 'tracemarket[ray]'",
        ) from None
    if ray.is_initialized():
        return ray, False
    local = {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
    try:
        ray.init(
            **({"address": address} if address else local),
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="tracemarket-checks",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise CheckerFailed(
            f"the Ray cluster at {address or 'this machine'} can't be used: {error}",
            fix="start one with `ray start --head`, and give its host:port",
        ) from None
    return ray, True
