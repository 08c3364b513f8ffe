"""Registered checkpoints on this machine: fetched once, checked against their CID, loaded once."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Checkpoint
from marketplace.gym.checking import ProvenanceScorer
from marketplace.gym.modules import base_of, is_adapter, is_router
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import (
    CheckpointError,
    ContentUnavailable,
    NoRoom,
    StorageError,
)
from marketplace.storage.checkpoints import fetch_checkpoint, is_fetched
from marketplace.storage.cid import Cid
from marketplace.storage.rooms import Hold, Room, hold
from marketplace.storage.store import ContentStore
from verifier_node.checking import ScorerFor
from verifier_node.fetching import FETCH_SECONDS, Attempt, Fetches, InVain, OnItsWay

if TYPE_CHECKING:
    from marketplace.gym.policy import Policy


TRIES = 3
"""Another process may remove what has just been fetched, to make room: seldom twice."""


class CheckpointCache:
    """Checkpoints by id. loaded: how many policies stay in memory.

    fetches: has what is missing fetched beside a loop with votes to give (see Fetches): what is
    not there yet raises OnItsWay or InVain. None waits for it, FETCH_SECONDS each time.
    room: how much of the disk all may take; None for no limit. What is loaded stays on disk, and
    so does what `folder` and `base_folder` gave.
    """

    def __init__(
        self,
        reader: MarketReader,
        store: ContentStore,
        directory: Path,
        *,
        loaded: int = 1,
        fetches: Fetches | None = None,
        room: Room | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._store = store
        self._directory = directory
        self._loaded = loaded
        self._fetches = fetches
        self._room = room
        self._clock = clock
        self._policies: OrderedDict[Path, Policy] = OrderedDict()
        self._holds: dict[Path, contextlib.ExitStack] = {}
        self._given: dict[Path, Hold] = {}

    def folder(self, checkpoint: int) -> Path:
        """The checkpoint's files. Raises StorageError, CheckpointError, Reverted."""
        return self._give(*self._held(self._known(checkpoint)))

    def files(self, one: Checkpoint) -> Path:
        """The files of a checkpoint as it was read, whatever has its number now.

        Raises StorageError, CheckpointError."""
        return self._give(*self._held(_Known.of(one)))

    def base_folder(self, checkpoint: int) -> Path:
        """The files of the base that an adapter was made for.

        Raises as `folder`, and CheckpointError if that is none of the checkpoint's ancestors.
        """
        return self._give(*self._held_base(checkpoint, self.folder(checkpoint)))

    def policy(self, checkpoint: int) -> Policy:
        """The checkpoint as a policy; an adapter merged into its base. Needs the extra [verify]."""
        folder, own = self._held(self._known(checkpoint))
        with contextlib.ExitStack() as holds:
            holds.enter_context(own)
            if is_router(folder):
                raise CheckpointError(
                    f"checkpoint {checkpoint} is a router, which writes nothing itself",
                    fix="name the expert that wrote a trace",
                )
            # Looked at every time: the same adapter may be registered under other ancestors too,
            # and whether it is loaded must not depend on what this node has seen before.
            base = None
            if is_adapter(folder):
                base, of_base = self._held_base(checkpoint, folder)
                holds.enter_context(of_base)
            if folder not in self._policies:
                self._unload(self._loaded - 1)
                self._policies[folder] = _load(folder, base)
                self._holds[folder] = holds.pop_all()
        self._policies.move_to_end(folder)
        return self._policies[folder]

    def _give(self, folder: Path, held: Hold) -> Path:
        """For whoever reads it as long as this cache lives."""
        if (before := self._given.pop(folder, None)) is not None:
            before.release()
        self._given[folder] = held
        return folder

    def _unload(self, most: int) -> None:
        while len(self._policies) > most:
            folder, _ = self._policies.popitem(last=False)
            self._holds.pop(folder).close()

    def _known(self, checkpoint: int) -> _Known:
        return _Known.of(self._reader.checkpoint(checkpoint))

    def _held_base(self, checkpoint: int, folder: Path) -> tuple[Path, Hold]:
        base = Cid.parse(base_of(folder))
        ancestor = self._reader.checkpoint(checkpoint).parent
        while ancestor:
            known = self._known(ancestor)
            if known.cid == base:
                return self._held(known, beside=folder)
            ancestor = self._reader.checkpoint(ancestor).parent
        raise CheckpointError(
            f"checkpoint {checkpoint} is an adapter for {base}, which none of its ancestors is",
            fix="register it as a child of the checkpoint that it was trained on",
        )

    def _held(self, known: _Known, *, beside: Path | None = None) -> tuple[Path, Hold]:
        """A checkpoint's folder, fetched, and what keeps it on disk. beside: a folder that is of
        no use without it, and stays while it is fetched."""
        # By content, not by id: a reorg can give an id to another checkpoint.
        folder = self._directory / str(known.cid)
        attempt = partial(self._attempt, known.cid, folder, beside)
        for _ in range(TRIES):
            found = hold(folder)
            if found is not None:
                if is_fetched(folder, known.cid):
                    return folder, found
                found.release()  # the folder holds something else
            if self._fetches is None:
                attempt(FETCH_SECONDS)
            else:
                self._ask(self._fetches, known, folder, attempt)
        raise StorageError(
            f"{str(folder)!r} is removed as soon as it is fetched",
            fix="give the home folder a local disk, or what is in use there more room",
        )

    def _ask(self, fetches: Fetches, known: _Known, folder: Path, attempt: Attempt) -> None:
        if is_fetched(folder, known.cid):
            return
        try:
            fetches.ask(known.cid, known.owner, attempt)
        except (OnItsWay, InVain) as error:
            error.again = partial(self._ask, fetches, known, folder, attempt)
            raise
        except NoRoom:
            self._unload(0)  # for the next try
            raise

    def _attempt(self, cid: Cid, folder: Path, beside: Path | None, timeout: float) -> None:
        """One download, in any thread: it must not touch the reader or the policies."""
        stays = hold(beside) if beside is not None else None
        try:
            fetch_checkpoint(
                self._store,
                cid,
                folder,
                timeout=timeout,
                look=None if self._fetches is None else self._fetches.look,
                bases=self._directory,
                room=self._room,
                clock=self._clock,
            )
        except ContentUnavailable:
            if self._fetches is not None:
                _check_store(self._store, cid)
            raise
        finally:
            if stays is not None:
                stays.release()


@dataclass(frozen=True, slots=True)
class _Known:
    """A registered checkpoint's content, and who registered it."""

    cid: Cid
    owner: str

    @classmethod
    def of(cls, one: Checkpoint) -> _Known:
        return cls(Cid.from_chain(one.content.digest, one.content.codec), one.trainer)


def _check_store(store: ContentStore, cid: Cid) -> None:
    """Raises StorageError where the store itself is down: then nobody failed to serve it."""
    try:
        store.has(cid)
    except ContentUnavailable as error:
        raise StorageError(error.message, fix=error.fix) from error


def _load(folder: Path, base: Path | None) -> Policy:
    from marketplace.gym.adapters import load_adapter
    from marketplace.gym.policy import Policy

    return Policy.load(folder) if base is None else load_adapter(folder, base)


def scorer_maker(checkpoints: CheckpointCache) -> ScorerFor | None:
    """What makes scorers of tiers A and B; None where no model runtime is installed."""
    if importlib.util.find_spec("torch") is None:
        return None

    def make(spec: EnvironmentSpec) -> ProvenanceScorer:
        from marketplace.gym.provenance import OffPolicyScorer, ReplayTolerance, Tolerance

        rules = spec.provenance
        return OffPolicyScorer(
            checkpoints.policy,
            spec.sampling,
            tolerance=Tolerance(rules.mean, rules.maximum),
            replay_tolerance=ReplayTolerance(rules.margin, rules.flips),
        )

    return make
