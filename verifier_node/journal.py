"""What a verifier or watcher has decided, written durably before it signs anything.

A vote (attestation and salt) is recorded once for each (chain, rounds contract, round, subject,
verifier) and never changed: after a crash the node commits and reveals what it recorded, so no
salt is lost and no two different verdicts are ever signed for one question. The subject binds
the batch's content, so a reorg that gives the round's number to other content is another
question. Modelled on Lighthouse's slashing protection: check and record in one transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from enum import StrEnum
from pathlib import Path

from marketplace.protocol.errors import ConfigError, JournalConflict, StorageError
from marketplace.protocol.verdict import Attestation
from verifier_node.transaction import transaction

SCHEMA_VERSION = 3

_SCHEMA = """
CREATE TABLE votes (
    chain_id INTEGER NOT NULL,
    rounds   TEXT    NOT NULL,
    round    INTEGER NOT NULL,
    subject  BLOB    NOT NULL,
    verifier TEXT    NOT NULL,
    root     BLOB    NOT NULL,
    units    INTEGER NOT NULL,
    faults   INTEGER NOT NULL,
    salt     BLOB    NOT NULL,
    cid      TEXT,
    PRIMARY KEY (chain_id, rounds, round, subject, verifier)
) STRICT;
CREATE TABLE watched (
    market TEXT    NOT NULL,
    batch  INTEGER NOT NULL,
    PRIMARY KEY (market, batch)
) STRICT;
CREATE TABLE cursors (market TEXT PRIMARY KEY, block INTEGER NOT NULL) STRICT;
"""

_CASES = """
CREATE TABLE cases (
    court    TEXT    NOT NULL,
    watcher  TEXT    NOT NULL,
    batch    INTEGER NOT NULL,
    root     BLOB    NOT NULL,
    number   INTEGER NOT NULL,
    stance   TEXT    NOT NULL,
    place    INTEGER,
    dispute  INTEGER,
    verdicts BLOB,
    PRIMARY KEY (court, watcher, batch, root, number)
) STRICT
"""


_SHEETS = """
CREATE TABLE sheets (
    chain_id INTEGER NOT NULL,
    contract TEXT    NOT NULL,
    batch    INTEGER NOT NULL,
    root     BLOB    NOT NULL,
    verifier TEXT    NOT NULL,
    sheet    BLOB    NOT NULL,
    salt     BLOB    NOT NULL,
    PRIMARY KEY (chain_id, contract, batch, root, verifier)
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Question:
    """What a vote answers. rounds and verifier are checksum addresses; subject has 32 bytes."""

    chain_id: int
    rounds: str
    round: int
    subject: bytes
    verifier: str


@dataclass(frozen=True, slots=True)
class Vote:
    """An attestation, its 32-byte salt, and where the verdict file was published (CID text)."""

    attestation: Attestation
    salt: bytes
    cid: str | None


@dataclass(frozen=True, slots=True)
class SheetKey:
    """What a score sheet is about. contract, verifier: checksum addresses; root: of the batch, so
    that a reorg that gives its number to other content asks for another sheet."""

    chain_id: int
    contract: str
    batch: int
    root: bytes
    verifier: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A packed score sheet and its 32-byte salt."""

    sheet: bytes
    salt: bytes


class Stance(StrEnum):
    """What a watcher does about an attestation. PASSED: not looked at. AGREED: it is right. LEFT:
    wrong, but another is at it, or nothing can be proven. DONE: its dispute is closed, or its
    fault proven. The others are under way."""

    PASSED = "passed"
    AGREED = "agreed"
    LEFT = "left"
    DONE = "done"
    LEAF = "leaf"
    OPENING = "opening"
    OUTCOME = "outcome"
    FAULT = "fault"


FINISHED = frozenset({Stance.PASSED, Stance.AGREED, Stance.LEFT, Stance.DONE})
"""Nothing more is to be done."""


@dataclass(frozen=True, slots=True)
class Case:
    """A watcher's stance on one attestation.

    batch, root: the batch and the attested verdict root. number: how many attestations of the
    batch fell before it. place: the verdict in question, where one is. dispute: its id, once that
    is known. verdicts: the watcher's own verdict file, for an opening.
    """

    batch: int
    root: bytes
    number: int
    stance: Stance
    place: int | None = None
    dispute: int | None = None
    verdicts: bytes | None = None


class Journal:
    """One SQLite file for each key; safe against a crash at any point."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Salts are secret until the reveal.
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            # FULL: a recorded vote must survive a power cut, not only a crash of the process.
            self._db.execute("PRAGMA synchronous = FULL")
            with transaction(self._db):
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in _SCHEMA.strip().split(";\n"):
                        self._db.execute(statement)
                if version in (0, 1):
                    self._db.execute(_CASES)
                if version in (0, 1, 2):
                    self._db.execute(_SHEETS)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"{path} is not a verifier's journal ({error})",
                fix="point --journal at the node's own file, or at a new one for a new key",
            ) from error
        if version not in (0, 1, 2, SCHEMA_VERSION):
            raise ConfigError(
                f"{path} has journal version {version}, this program knows {SCHEMA_VERSION}",
                fix="run the program version that wrote it",
            )

    def close(self) -> None:
        self._db.close()

    def find(self, question: Question) -> Vote | None:
        """The recorded vote, or None."""
        row = self._db.execute(
            "SELECT root, units, faults, salt, cid FROM votes WHERE chain_id = ? AND rounds = ?"
            " AND round = ? AND subject = ? AND verifier = ?",
            _key(question),
        ).fetchone()
        if row is None:
            return None
        root, units, faults, salt, cid = row
        return Vote(Attestation(root, units, faults), salt, cid)

    def record(self, question: Question, vote: Vote) -> None:
        """Writes the vote to disk before it returns. The same vote again is fine; another one
        for the same question raises JournalConflict."""
        with self._writing():
            known = self.find(question)
            if known is not None and known != vote:
                raise JournalConflict(
                    f"round {question.round} is already answered with verdict root "
                    f"0x{known.attestation.root.hex()}, not 0x{vote.attestation.root.hex()}",
                    fix="the recorded vote stands; a key must have one journal only",
                )
            if known is None:
                self._db.execute(
                    "INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *_key(question),
                        vote.attestation.root,
                        vote.attestation.units,
                        vote.attestation.faults,
                        vote.salt,
                        vote.cid,
                    ),
                )

    def find_sheet(self, key: SheetKey) -> Sheet | None:
        """The recorded score sheet, or None."""
        row = self._db.execute(
            "SELECT sheet, salt FROM sheets WHERE chain_id = ? AND contract = ? AND batch = ?"
            " AND root = ? AND verifier = ?",
            astuple(key),
        ).fetchone()
        return None if row is None else Sheet(*row)

    def record_sheet(self, key: SheetKey, sheet: Sheet) -> None:
        """Writes a score sheet to disk before it returns; another one for the same batch raises
        JournalConflict: a judge may not grade twice and choose."""
        with self._writing():
            known = self.find_sheet(key)
            if known is not None and known != sheet:
                raise JournalConflict(
                    f"batch {key.batch} is already graded, with another sheet or salt",
                    fix="the recorded sheet stands; a key must have one journal only",
                )
            if known is None:
                self._db.execute(
                    "INSERT INTO sheets VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*astuple(key), sheet.sheet, sheet.salt),
                )

    def case(self, court: str, watcher: str, batch: int, root: bytes, number: int) -> Case | None:
        """The recorded stance on an attestation, or None."""
        found = self._cases(
            "court = ? AND watcher = ? AND batch = ? AND root = ? AND number = ?",
            (court, watcher, batch, root, number),
        )
        return found[0] if found else None

    def open_cases(self, court: str, watcher: str) -> list[Case]:
        """The cases that are under way, oldest batch first."""
        found = self._cases("court = ? AND watcher = ?", (court, watcher))
        return [case for case in found if case.stance not in FINISHED]

    def keep_case(self, court: str, watcher: str, case: Case) -> None:
        """Writes a case to disk before it returns, in place of what was known of it."""
        with self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO cases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    court,
                    watcher,
                    case.batch,
                    case.root,
                    case.number,
                    case.stance.value,
                    case.place,
                    case.dispute,
                    case.verdicts,
                ),
            )

    def _cases(self, where: str, values: tuple[object, ...]) -> list[Case]:
        rows = self._db.execute(
            "SELECT batch, root, number, stance, place, dispute, verdicts FROM cases"
            f" WHERE {where} ORDER BY batch, number",
            values,
        )
        return [
            Case(batch, root, number, Stance(stance), place, dispute, verdicts)
            for batch, root, number, stance, place, dispute, verdicts in rows
        ]

    def watched(self, market: str) -> list[int]:
        """Batches that have not come to their end, ascending. With a court's address for market:
        its disputes."""
        rows = self._db.execute(
            "SELECT batch FROM watched WHERE market = ? ORDER BY batch", (market,)
        )
        return [batch for (batch,) in rows]

    def cursor(self, market: str) -> int | None:
        """The last block whose events are in `watched`, or None."""
        row = self._db.execute("SELECT block FROM cursors WHERE market = ?", (market,)).fetchone()
        return None if row is None else row[0]

    def advance(self, market: str, block: int, opened: list[int]) -> None:
        """Adds opened batches and moves the cursor, in one transaction."""
        with self._writing():
            self._db.executemany(
                "INSERT OR IGNORE INTO watched VALUES (?, ?)", [(market, batch) for batch in opened]
            )
            self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (market, block))

    def forget(self, market: str, batch: int) -> None:
        """Stops watching a batch that is settled or void."""
        with self._writing():
            self._db.execute("DELETE FROM watched WHERE market = ? AND batch = ?", (market, batch))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction. StorageError, and nothing is changed, where the disk does not take it."""
        try:
            with transaction(self._db):
                yield
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{self._path} can't be written: {error}", fix="free disk space: votes wait for it"
            ) from error


def _key(question: Question) -> tuple[int, str, int, bytes, str]:
    return (
        question.chain_id,
        question.rounds,
        question.round,
        question.subject,
        question.verifier,
    )
