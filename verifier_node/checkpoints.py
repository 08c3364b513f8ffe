"""Registered checkpoints on this machine: fetched once, checked against their CID, loaded once."""

from __future__ import annotations

import importlib.util
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Checkpoint
from marketplace.gym.checking import ProvenanceScorer
from marketplace.gym.modules import base_of, is_adapter, is_router
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import CheckpointError, ContentUnavailable
from marketplace.storage.checkpoints import fetch_checkpoint
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore
from verifier_node.checking import ScorerFor

if TYPE_CHECKING:
    from marketplace.gym.policy import Policy

FETCH_SECONDS = 600.0
"""For all of a checkpoint."""

PAUSE_SECONDS = 600.0
"""For how long a node with other work does not wait for what it has waited for in vain."""


class CheckpointCache:
    """Checkpoints by id. loaded: how many policies stay in memory.

    look: for a node that has votes to give meanwhile: how many seconds it may wait for a manifest
    that nobody serves; files are waited for once in PAUSE_SECONDS. None waits FETCH_SECONDS
    each time.
    """

    def __init__(
        self,
        reader: MarketReader,
        store: ContentStore,
        directory: Path,
        *,
        loaded: int = 1,
        look: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._store = store
        self._directory = directory
        self._loaded = loaded
        self._look = look
        self._clock = clock
        self._in_vain: dict[Cid, float] = {}
        self._policies: OrderedDict[Path, Policy] = OrderedDict()

    def folder(self, checkpoint: int) -> Path:
        """The checkpoint's files. Raises StorageError, CheckpointError, Reverted."""
        return self._fetched(self._content(checkpoint))

    def files(self, one: Checkpoint) -> Path:
        """The files of a checkpoint as it was read, whatever has its number now.

        Raises StorageError, CheckpointError."""
        return self._fetched(_cid(one))

    def base_folder(self, checkpoint: int) -> Path:
        """The files of the base that an adapter was made for.

        Raises as `folder`, and CheckpointError if that is none of the checkpoint's ancestors.
        """
        base = Cid.parse(base_of(self.folder(checkpoint)))
        ancestor = self._reader.checkpoint(checkpoint).parent
        while ancestor:
            if self._content(ancestor) == base:
                return self._fetched(base)
            ancestor = self._reader.checkpoint(ancestor).parent
        raise CheckpointError(
            f"checkpoint {checkpoint} is an adapter for {base}, which none of its ancestors is",
            fix="register it as a child of the checkpoint that it was trained on",
        )

    def policy(self, checkpoint: int) -> Policy:
        """The checkpoint as a policy; an adapter merged into its base. Needs the extra [verify]."""
        folder = self.folder(checkpoint)
        if is_router(folder):
            raise CheckpointError(
                f"checkpoint {checkpoint} is a router, which writes nothing itself",
                fix="name the expert that wrote a trace",
            )
        # Looked at every time: the same adapter may be registered under other ancestors too, and
        # whether it is loaded must not depend on what this node has seen before.
        base = self.base_folder(checkpoint) if is_adapter(folder) else None
        if folder not in self._policies:
            while len(self._policies) >= self._loaded:
                self._policies.popitem(last=False)
            self._policies[folder] = _load(folder, base)
        self._policies.move_to_end(folder)
        return self._policies[folder]

    def _content(self, checkpoint: int) -> Cid:
        return _cid(self._reader.checkpoint(checkpoint))

    def _fetched(self, cid: Cid) -> Path:
        # By content, not by id: a reorg can give an id to another checkpoint.
        folder = self._directory / str(cid)
        start = self._clock()
        waited = start < self._in_vain.get(cid, 0.0)
        try:
            return fetch_checkpoint(
                self._store,
                cid,
                folder,
                timeout=0.0 if waited else FETCH_SECONDS,
                look=self._look,
                bases=self._directory,
                clock=self._clock,
            )
        except ContentUnavailable:
            now = self._clock()
            if self._look is not None and now - start > self._look:
                self._in_vain[cid] = now + PAUSE_SECONDS
            raise


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


def _cid(one: Checkpoint) -> Cid:
    return Cid.from_chain(one.content.digest, one.content.codec)
