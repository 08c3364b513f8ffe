"""From a batch on chain to an attestation: fetch, open, judge.

A finding is what an honest member says. What a member can't fetch or can't run is UNAVAILABLE,
what is not a batch file with the committed root and count is MALFORMED (docs/decisions/002).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from marketplace.chain.batch_terms import batch_terms
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, Bounty
from marketplace.gym.checking import (
    BatchCheck,
    ProvenanceScorer,
    check_batch,
    for_jury,
    open_batch,
)
from marketplace.gym.environment import check_packages
from marketplace.gym.jobs import CheckExecutor
from marketplace.gym.spec import MAX_SPEC_BYTES, EnvironmentSpec, RubricScoring, parse_spec
from marketplace.protocol.batch_file import max_packed_bytes
from marketplace.protocol.errors import (
    ChainError,
    CheckerFailed,
    CheckpointError,
    ContentTooLarge,
    EnvironmentMismatch,
    InvalidValue,
    MalformedBatch,
    SpecError,
    StorageError,
)
from marketplace.protocol.sheets import NO_VERDICT
from marketplace.protocol.trace import Tier, decode_line
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation
from marketplace.storage.assets import fetch_assets
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.store import ContentStore
from verifier_node.earlier import EarlierSales, Lookback
from verifier_node.fetching import OF_CONTENT, InVain, OnItsWay
from verifier_node.judges import Item
from verifier_node.panels import PanelResult, panel_of
from verifier_node.sold import SoldIndex

log = logging.getLogger("tracemarket.verifier")

REMEMBERED = 4
"""Findings kept: a batch may come before a committee, a watcher and juries of one node."""

AWAITED = 1024
"""Batches of which is known which checkpoint they wait for."""

PAUSE_SECONDS = 60.0
"""Before earlier content that could not be had is looked for again; twice as long each time."""

LONGEST_PAUSE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ToGrade:
    """What a judge has to grade of a batch. items: by the place of their trace; others get 0."""

    rubric: str
    count: int
    items: dict[int, Item]


class TooFewSheets(Exception):
    """A batch of a rubric environment can have no verdicts."""


_Key = tuple[int, bytes, bytes | None]
"""A batch, its root, and the randomness of its first draw."""

ScorerFor = Callable[[EnvironmentSpec], ProvenanceScorer]


@dataclass(frozen=True, slots=True)
class Finding:
    """check: the verdicts, None for an outcome of the whole batch. note: why, for the log.
    complete: False where some earlier batch could not be had to compare texts with. age: seconds
    since what is unavailable was last looked for."""

    attestation: Attestation
    check: BatchCheck | None
    note: str
    complete: bool = True
    age: float = 0.0


class BatchChecker:
    """Judges batches.

    fetch_seconds: how long one look for content may take. scorer_for: makes the scorer of tiers
    A and B; None where this node has no model runtime (then it can't judge these at all). Data
    sets go to the pool's assets folder; without one, environments that have some can't be judged.
    sold: the index of earlier texts; without it one is kept in memory.
    """

    def __init__(
        self,
        reader: MarketReader,
        store: ContentStore,
        pool: CheckExecutor,
        *,
        fetch_seconds: float,
        scorer_for: ScorerFor | None,
        sold: SoldIndex | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._store = store
        self._pool = pool
        self._fetch_seconds = fetch_seconds
        self._scorer_for = scorer_for
        self._earlier = EarlierSales(
            reader, store, sold or SoldIndex(None), fetch_seconds=fetch_seconds
        )
        self._clock = clock
        self._looking_back: dict[bytes, EnvironmentSpec | None] = {}
        self._not_before: dict[bytes, float] = {}
        self._pauses: dict[bytes, float] = {}
        self._rubrics: dict[bytes, RubricScoring | None] = {}
        self._known: dict[_Key, Finding] = {}
        self._awaited: dict[_Key, Callable[[], None]] = {}

    def find(self, batch: Batch) -> Finding:
        """Judges a batch whose committee is drawn. What was found is remembered for a while;
        UNAVAILABLE is not, for content may come.

        Raises CheckerFailed or StorageError where this node or its own store fails, ChainError
        where the chain does, OnItsWay where a checkpoint may still come: then there is nothing to
        say yet.
        """
        key = self._key(batch)
        if (known := self._known.get(key)) is not None:
            return known
        try:
            with self._awaiting(key):
                finding = self._find(batch)
        except InVain as error:
            return Finding(UNAVAILABLE, None, str(error), age=error.age)
        if finding.attestation != UNAVAILABLE and finding.complete:
            self._known[key] = finding
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return finding

    def _key(self, batch: Batch) -> _Key:
        # The first draw decides which rows are re-scored, and a reorg can change it.
        return batch.id, batch.root, self._reader.first_drawn_with(batch.id)

    @contextlib.contextmanager
    def _awaiting(self, key: _Key) -> Iterator[None]:
        """Around a check: while a checkpoint that stopped it has not come, no time goes into
        checking all of the batch up to that point again. Raises OnItsWay, InVain."""
        again = self._awaited.pop(key, None)
        try:
            if again is not None:
                with contextlib.suppress(CheckpointError):  # for the check to find
                    again()
            yield
        except (OnItsWay, InVain) as error:
            self._awaited[key] = error.again
            while len(self._awaited) > AWAITED:
                del self._awaited[next(iter(self._awaited))]
            raise

    def _find(self, batch: Batch) -> Finding:
        bounty = self._reader.bounty(batch.bounty)
        try:
            spec = fetch_spec(self._store, bounty.terms.environment, self._fetch_seconds)
            data = fetch_batch(self._reader, self._store, batch, self._fetch_seconds)
        except ContentTooLarge as error:
            return Finding(MALFORMED, None, str(error))
        except (StorageError, SpecError) as error:
            return self._unavailable(bounty, error)
        try:
            self._fetch_assets(spec)
        except (EnvironmentMismatch, InvalidValue, StorageError) as error:
            return self._unavailable(bounty, error)
        try:
            earlier = self._before(batch, bounty, spec)
            check, _ = self._check(batch, bounty, spec, data, earlier)
        except MalformedBatch as error:
            return Finding(MALFORMED, None, str(error))
        except TooFewSheets as error:
            return Finding(NO_VERDICT, None, str(error))
        except InVain:
            raise
        except (CheckpointError, EnvironmentMismatch, SpecError, StorageError) as error:
            _raise_own(error)
            return Finding(UNAVAILABLE, None, str(error))
        # Whoever signs keeps the content until settlement: a jury must be able to have it.
        self._store.put(data)
        note = f"{len(check.verdicts)} traces judged"
        if earlier is not None and earlier.missing:
            note += f", without {earlier.missing} earlier batches that can't be had"
            return Finding(check.attestation, check, note, complete=False)
        return Finding(check.attestation, check, note)

    def rubric(self, batch: Batch) -> RubricScoring | None:
        """How the batch's environment is graded, where it has no right answers. Raises StorageError
        and SpecError where its spec can't be had or read."""
        ident = self._reader.bounty(batch.bounty).terms.environment
        if ident not in self._rubrics:
            self._rubrics[ident] = fetch_spec(self._store, ident, self._fetch_seconds).rubric
        return self._rubrics[ident]

    def to_grade(self, batch: Batch) -> ToGrade:
        """What a judge has to grade of a rubric environment's batch. Raises MalformedBatch,
        StorageError and what `find` calls unavailable: then there is nothing to grade; OnItsWay."""
        bounty = self._reader.bounty(batch.bounty)
        spec = fetch_spec(self._store, bounty.terms.environment, self._fetch_seconds)
        if (rubric := spec.rubric) is None:
            raise InvalidValue(f"batch {batch.id} is of a checked environment")
        self._fetch_assets(spec)
        data = fetch_batch(self._reader, self._store, batch, self._fetch_seconds)
        earlier = self._before(batch, bounty, spec)
        with self._awaiting(self._key(batch)):
            check, lines = self._check(batch, bounty, spec, data, earlier, judged=False)
        traces = ((place, decode_line(lines[place])) for place in for_jury(check))
        items = {place: Item(trace.prompt, trace.completion) for place, trace in traces}
        return ToGrade(rubric.rubric, batch.count, items)

    def panel(self, batch: Batch) -> PanelResult | None:
        """What the jury of a batch said; None in a checked environment. SheetsOpen where that is
        still to come."""
        rubric = self.rubric(batch)
        return None if rubric is None else panel_of(self._reader, batch, rubric)

    def follow(self) -> None:
        """Takes in what was bought lately where a spec looks back, while it can be had. What fails
        is logged and met again after a while; it ends this call, for a node has votes to reveal
        and anybody may withdraw content."""
        try:
            with _own_index():
                environments = self._earlier.environments()
        except (ChainError, CheckerFailed) as error:
            log.warning("originality_behind why=%s", error)
            return
        for environment in sorted(environments, key=lambda one: self._pauses.get(one, 0.0)):
            if self._clock() < self._not_before.get(environment, 0.0):
                continue
            try:
                complete = self._follow(environment)
            except (
                ChainError,
                CheckerFailed,
                EnvironmentMismatch,
                StorageError,
                SpecError,
            ) as error:
                log.warning("originality_behind error=%s why=%s", type(error).__name__, error)
                complete = False
            if complete:
                self._pauses.pop(environment, None)
                continue
            pause = min(2 * self._pauses.get(environment, PAUSE_SECONDS / 2), LONGEST_PAUSE_SECONDS)
            self._pauses[environment] = pause
            self._not_before[environment] = self._clock() + pause
            return

    def _follow(self, environment: bytes) -> bool:
        if environment not in self._looking_back:
            spec = fetch_spec(self._store, environment, self._fetch_seconds)
            if spec.originality.earlier:
                check_packages(spec)
            self._looking_back[environment] = spec if spec.originality.earlier else None
        if (known := self._looking_back[environment]) is None:
            return True
        head = self._reader.head().number
        with _own_index():
            return self._earlier.before(head + 1, environment, known).missing == 0

    def _before(self, batch: Batch, bounty: Bounty, spec: EnvironmentSpec) -> Lookback | None:
        if spec.originality.earlier == 0:
            return None
        check_packages(spec)  # fingerprints may need them
        committed = self._reader.batch_committed(batch.id).block
        with _own_index():
            return self._earlier.before(committed, bounty.terms.environment, spec)

    def _unavailable(self, bounty: Bounty, error: Exception) -> Finding:
        _raise_own(error)
        # A store that is down itself raises here: that is this node's trouble, no finding.
        self._store.has(Cid(bounty.terms.environment, RAW))
        return Finding(UNAVAILABLE, None, str(error))

    def _fetch_assets(self, spec: EnvironmentSpec) -> None:
        if not (wanted := spec.to_fetch()):
            return
        if self._pool.assets is None:
            raise EnvironmentMismatch(
                f"environment {spec.name!r} needs data sets, and this node has no folder for them"
            )
        fetch_assets(self._store, wanted, self._pool.assets, timeout=self._fetch_seconds)

    def _check(
        self,
        batch: Batch,
        bounty: Bounty,
        spec: EnvironmentSpec,
        data: bytes,
        earlier: Lookback | None,
        *,
        judged: bool = True,
    ) -> tuple[BatchCheck, list[bytes]]:
        """judged: with the jury's grades, where the environment has a jury."""
        terms = batch_terms(self._reader, batch, bounty)
        lines = open_batch(data, count=batch.count, root=batch.root, terms=terms)
        grades = None
        if spec.rubric is not None and judged:
            found = panel_of(self._reader, batch, spec.rubric)
            if (grades := found.grades) is None:
                raise TooFewSheets(f"{found.counted} score sheets count, {found.needed} are needed")
        scorer = randomness = None
        if terms.tier is not Tier.C:
            if self._scorer_for is None:
                raise EnvironmentMismatch(
                    f"bounty {bounty.id} asks for tier {terms.tier.name}, and this node has no "
                    "model runtime",
                    fix="install tracemarket[verify]",
                )
            scorer = self._scorer_for(spec)
            randomness = self._first_randomness(batch)
        with _own_index():  # earlier texts are read as they are compared
            check = check_batch(
                lines,
                spec=spec,
                terms=terms,
                pool=self._pool,
                randomness=randomness,
                scorer=scorer,
                checkpoint_ok=lambda checkpoint: self._is_policy(checkpoint, batch, bounty),
                earlier=earlier,
                panel=grades,
            )
        return check, lines

    def _first_randomness(self, batch: Batch) -> bytes:
        # Of the first draw that took place: members of all rounds are judged against one final
        # verdict, so all must re-score the same groups.
        if (randomness := self._reader.first_drawn_with(batch.id)) is None:
            raise ChainError(f"batch {batch.id} has no drawn round any more", fix="read it again")
        return randomness

    def _is_policy(self, checkpoint: int, batch: Batch, bounty: Bounty) -> bool:
        """Registered by the bounty's trainer before the batch was committed."""
        if not 0 < checkpoint <= self._reader.checkpoint_count():
            return False
        if self._reader.checkpoint(checkpoint).trainer != bounty.terms.trainer:
            return False
        # By events on both sides: a contract's block.number need not be the number of its block.
        registered = self._reader.registration(checkpoint)
        committed = self._reader.batch_committed(batch.id)
        return (registered.block, registered.log_index) < (committed.block, committed.log_index)


@contextlib.contextmanager
def _own_index() -> Iterator[None]:
    """CheckerFailed where the index of earlier texts can't be used: that is no finding."""
    try:
        yield
    except sqlite3.Error as error:
        raise CheckerFailed(
            f"the index of earlier texts can't be used: {error}",
            fix="free its disk, or delete originality/*.sqlite: it is rebuilt from the chain",
        ) from error


def _raise_own(error: Exception) -> None:
    """Raises a StorageError that is this node's own (its disk is full, its daemon broken) and not
    about content that others had to provide: it is no finding."""
    if isinstance(error, StorageError) and not isinstance(error, OF_CONTENT):
        raise error


def fetch_spec(store: ContentStore, environment: bytes, timeout: float) -> EnvironmentSpec:
    """The spec of an environment id. Raises StorageError, SpecError."""
    data = store.get(Cid(environment, RAW), timeout=timeout, max_bytes=MAX_SPEC_BYTES)
    return parse_spec(data)


def fetch_batch(reader: MarketReader, store: ContentStore, batch: Batch, timeout: float) -> bytes:
    """The file of a batch. Raises StorageError."""
    content = reader.batch_content(batch.id)
    return store.get(
        Cid.from_chain(content.digest, content.codec),
        timeout=timeout,
        max_bytes=max_packed_bytes(batch.count),
    )


def fetch_lines(
    reader: MarketReader, store: ContentStore, batch: Batch, timeout: float
) -> list[bytes]:
    """The traces of a batch. Raises StorageError, MalformedBatch."""
    data = fetch_batch(reader, store, batch, timeout)
    terms = batch_terms(reader, batch)
    return open_batch(data, count=batch.count, root=batch.root, terms=terms)
