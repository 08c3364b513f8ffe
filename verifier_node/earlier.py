"""Which texts count as bought before a batch was committed, so that all verifiers agree.

They are the paid traces of the batches of the same environment that had verdicts, not "unavailable"
or "malformed", at the end of the block before the commit: the last originality.earlier of them, in
the order of their commits. Chain history alone decides, so what comes later (a dispute, a
settlement) changes nothing. What of it nobody can have any more counts as never bought
(docs/decisions/015).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from marketplace.chain.blocks import Event
from marketplace.chain.reads import MarketReader, revealed_attestation
from marketplace.gym.originality import Fingerprint, fingerprint, question_key
from marketplace.gym.spec import EnvironmentSpec, NearSpec
from marketplace.protocol import batch_file, merkle
from marketplace.protocol.errors import (
    ChainError,
    ContentTooLarge,
    MalformedBatch,
    MalformedTrace,
    StorageError,
)
from marketplace.protocol.trace import decode_line
from marketplace.protocol.verdict import OUTCOMES
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore
from verifier_node.published import published
from verifier_node.sold import Attested, Commit, SoldIndex, Turn

log = logging.getLogger("tracemarket.verifier")

PAGE_BLOCKS = 2_000
"""Blocks of one transaction."""

PATIENCE = 4
"""How many times fetch_seconds one catch-up may wait for content in all."""

_NAMES = ("BatchCommitted", "BatchAttested", "BatchOverturned", "BatchVoided")


@dataclass(frozen=True, slots=True)
class Lookback:
    """gym.originality.Earlier. missing: batches whose texts could not be had."""

    index: SoldIndex
    entries: tuple[int, ...]
    missing: int

    def sold(self, question: bytes) -> Iterator[Fingerprint]:
        """The fingerprints of the paid texts for a question."""
        return self.index.sold(question, self.entries)


class EarlierSales:
    """Keeps an index of what was bought up to chain and store."""

    def __init__(
        self,
        reader: MarketReader,
        store: ContentStore,
        index: SoldIndex,
        *,
        fetch_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._store = store
        self._index = index
        self._fetch_seconds = fetch_seconds
        self._clock = clock

    def before(self, block: int, environment: bytes, spec: EnvironmentSpec) -> Lookback:
        """What was bought before a block. Raises ChainError; StorageError where this node's own
        store fails."""
        self._read_chain(block - 1)
        found = self._index.attested_before(environment, block, spec.originality.earlier)
        entries, missing = [], 0
        until = self._clock() + PATIENCE * self._fetch_seconds
        for one in found:
            entry = self._index.entry(one)
            if entry is None:
                patience = min(self._fetch_seconds, max(0.0, until - self._clock()))
                entry = self._fetch(one, spec.originality.near, patience)
            if entry is None:
                missing += 1
            else:
                entries.append(entry)
        if missing:
            log.warning("originality_incomplete block=%d missing=%d", block, missing)
        return Lookback(self._index, tuple(entries), missing)

    def environments(self) -> list[bytes]:
        """Those in which batches had verdicts, up to now."""
        self._read_chain(self._reader.head().number)
        return self._index.environments()

    # --- the chain -------------------------------------------------------------------

    def _read_chain(self, last: int) -> None:
        cursor = self._index.cursor()
        if cursor is not None and self._hash(cursor[0]) != cursor[1]:
            self._index.drop_facts()
            cursor = None
        start = self._reader.deployment.block if cursor is None else cursor[0] + 1
        while start <= last:
            end = min(start + PAGE_BLOCKS - 1, last)
            before = self._hash(end)
            events = list(self._reader.events(start, end, names=_NAMES))
            if before is None or self._hash(end) != before:
                raise ChainError("the chain changed while it was read", fix="read it again")
            commits = [self._commit(one) for one in events if one.name == "BatchCommitted"]
            turns = [_turn(one) for one in events if one.name != "BatchCommitted"]
            self._index.advance(end, before, commits, turns)
            start = end + 1

    def _hash(self, number: int) -> bytes | None:
        block = self._reader.block(number)
        return None if block is None else block.hash

    def _commit(self, event: Event) -> Commit:
        args = event.args
        environment = self._index.environment_of(args["bounty"])
        if environment is None:
            environment = self._reader.bounty(args["bounty"]).terms.environment
        return Commit(
            args["batch"],
            environment,
            args["bounty"],
            args["miner"],
            bytes(args["root"]),
            bytes(args["content"]["digest"]),
            args["content"]["codec"],
        )

    # --- content ---------------------------------------------------------------------

    def _fetch(self, one: Attested, near: NearSpec | None, patience: float) -> int | None:
        """The entry of a batch, made from its lines and its verdicts; None where either can't be
        had."""
        commit = one.commit
        batch = self._reader.batch(commit.batch)
        cid = Cid.from_chain(commit.digest, commit.codec)
        try:
            data = self._store.get(
                cid, timeout=patience, max_bytes=batch_file.max_packed_bytes(batch.count)
            )
        except ContentTooLarge:
            return self._index.add(one, ())
        except StorageError:
            self._store.has(cid)  # raises where the store itself is down
            return None
        verdicts = published(self._reader, self._store, batch, one.attestation, timeout=patience)
        if verdicts is None:
            return None
        try:
            lines = self._lines(commit, data, batch.count)
        except MalformedBatch:  # then its signers lied: everybody sees that alike
            lines = []
        paid = (line for line, leaf in zip(lines, verdicts.leaves, strict=False) if leaf.units)
        return self._index.add(one, _texts(paid, near))

    def _lines(self, commit: Commit, data: bytes, count: int) -> list[bytes]:
        lines = batch_file.unpack(data, count)
        deployment = self._reader.deployment
        tree = merkle.batch_tree(
            deployment.chain_id,
            deployment.address("market"),
            commit.bounty,
            commit.miner,
            lines,
        )
        if tree.root != commit.root:
            raise MalformedBatch(f"the lines of batch {commit.batch} lead to another root")
        return lines


def _turn(event: Event) -> Turn:
    attestation = None
    if event.name == "BatchAttested":
        attestation = revealed_attestation(event)
        if attestation in OUTCOMES:  # nothing of it was bought
            attestation = None
    return Turn(event.args["batch"], event.block, event.log_index, attestation)


def _texts(lines: Iterable[bytes], near: NearSpec | None) -> Iterator[tuple[bytes, Fingerprint]]:
    for line in lines:
        try:
            trace = decode_line(line)
        except MalformedTrace:  # paid by liars
            continue
        yield question_key(trace.prompt), fingerprint(trace.prompt, trace.completion, near)
