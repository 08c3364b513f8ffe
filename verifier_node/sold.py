"""What was bought in earlier batches, as one file on this node's disk.

Two kinds of rows. Facts are the chain's: which batches were committed and attested, and where in
the chain; they are dropped and read again when a reorg takes their blocks. Texts are the
content's: fingerprints of the paid traces of one batch under one verdict root; these roots bind
all of it, so no reorg touches them. A batch's texts go in with one transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

from marketplace.gym.originality import Fingerprint
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Attestation
from verifier_node.transaction import transaction

SCHEMA_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE commits (
    batch       INTEGER PRIMARY KEY,
    environment BLOB    NOT NULL,
    bounty      INTEGER NOT NULL,
    miner       TEXT    NOT NULL,
    root        BLOB    NOT NULL,
    digest      BLOB    NOT NULL,
    codec       INTEGER NOT NULL
) STRICT;
CREATE INDEX commits_of ON commits (environment, batch);
CREATE TABLE turns (
    batch    INTEGER NOT NULL,
    block    INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    verdicts BLOB,
    units    INTEGER NOT NULL,
    faults   INTEGER NOT NULL,
    PRIMARY KEY (batch, block, place)
) STRICT;
CREATE TABLE cursor (one INTEGER PRIMARY KEY CHECK (one = 1), block INTEGER, hash BLOB) STRICT;
CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE) STRICT;
CREATE TABLE texts (
    question  BLOB    NOT NULL,
    entry     INTEGER NOT NULL,
    digest    BLOB    NOT NULL,
    signature BLOB
) STRICT;
CREATE INDEX texts_of ON texts (question, entry);
"""


@dataclass(frozen=True, slots=True)
class Commit:
    """A batch as its commit has it. digest, codec: of its content's CID."""

    batch: int
    environment: bytes
    bounty: int
    miner: str
    root: bytes
    digest: bytes
    codec: int


@dataclass(frozen=True, slots=True)
class Turn:
    """A batch got an attestation with verdicts, or lost it (None). place: log index."""

    batch: int
    block: int
    place: int
    attestation: Attestation | None


@dataclass(frozen=True, slots=True)
class Attested:
    """A batch with the attestation that it had at some block."""

    commit: Commit
    attestation: Attestation

    @property
    def key(self) -> bytes:
        """Names its paid texts; binds the spec, the lines and the verdicts."""
        commit = self.commit
        return keccak(commit.environment + commit.root + self.attestation.root)


class SoldIndex:
    """One SQLite file for each market; None for path: in memory. Use it in one thread."""

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=30)
            # A lost transaction is only read and fetched again.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            with transaction(self._db):
                version = self._db.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in _SCHEMA.strip().split(";\n"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"{path} is no index of sold texts ({error})",
                fix="move it away: it is built again from chain and store",
            ) from error
        if version not in (0, SCHEMA_VERSION):
            raise ConfigError(
                f"{path} has index version {version}, this program knows {SCHEMA_VERSION}",
                fix="move it away: it is built again from chain and store",
            )

    def close(self) -> None:
        self._db.close()

    # --- facts -----------------------------------------------------------------------

    def cursor(self) -> tuple[int, bytes] | None:
        """Number and hash of the last block that was read, or None."""
        return self._db.execute("SELECT block, hash FROM cursor").fetchone()

    def advance(
        self, block: int, hash: bytes, commits: Iterable[Commit], turns: Iterable[Turn]
    ) -> None:
        """Adds what blocks up to this one hold, and moves the cursor, in one transaction."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?, ?, ?, ?)",
                map(astuple, commits),
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO turns VALUES (?, ?, ?, ?, ?, ?)",
                map(_turn_row, turns),
            )
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)", (block, hash))

    def drop_facts(self) -> None:
        """Forgets what the chain said, after a reorg; the texts stay."""
        with transaction(self._db):
            for table in ("commits", "turns", "cursor"):
                self._db.execute(f"DELETE FROM {table}")

    def environment_of(self, bounty: int) -> bytes | None:
        """The environment of a bounty that a batch was committed for; None where none is known."""
        row = self._db.execute(
            "SELECT environment FROM commits WHERE bounty = ? LIMIT 1", (bounty,)
        ).fetchone()
        return None if row is None else row[0]

    def environments(self) -> list[bytes]:
        """The environments in which batches had verdicts at some time."""
        rows = self._db.execute(
            "SELECT DISTINCT environment FROM turns JOIN commits USING (batch)"
            " WHERE verdicts IS NOT NULL"
        )
        return [row[0] for row in rows]

    def attested_before(self, environment: bytes, block: int, most: int) -> list[Attested]:
        """The batches of an environment that had verdicts at the end of the block before `block`:
        the last `most` in the order of their commits, oldest first."""
        # One aggregate max(): SQLite takes the other columns from the row that has it.
        rows = self._db.execute(
            "SELECT batch, environment, bounty, miner, root, digest, codec, verdicts, units, faults"
            " FROM (SELECT batch, verdicts, units, faults, max((block << 24) + place)"
            "       FROM turns WHERE block < ? GROUP BY batch)"
            " JOIN commits USING (batch) WHERE environment = ? AND verdicts IS NOT NULL"
            " ORDER BY batch DESC LIMIT ?",
            (block, environment, most),
        ).fetchall()
        return [Attested(Commit(*row[:7]), Attestation(*row[7:])) for row in reversed(rows)]

    # --- texts -----------------------------------------------------------------------

    def entry(self, attested: Attested) -> int | None:
        """Where the texts of a batch are; None where they are still to be had."""
        row = self._db.execute("SELECT id FROM entries WHERE key = ?", (attested.key,)).fetchone()
        return None if row is None else int(row[0])

    def add(self, attested: Attested, texts: Iterable[tuple[bytes, Fingerprint]]) -> int:
        """The paid texts of a batch, each with its question, in one transaction."""
        with transaction(self._db):
            if (known := self.entry(attested)) is not None:  # another process was faster
                return known
            found = self._db.execute("INSERT INTO entries (key) VALUES (?)", (attested.key,))
            entry = found.lastrowid
            assert entry is not None
            self._db.executemany(
                "INSERT INTO texts VALUES (?, ?, ?, ?)",
                ((question, entry, one.digest, one.signature) for question, one in texts),
            )
        return entry

    def sold(self, question: bytes, entries: Sequence[int]) -> Iterator[Fingerprint]:
        """The paid texts for a question in these batches."""
        rows = self._db.execute(
            "SELECT digest, signature FROM texts WHERE question = ?"
            " AND entry IN (SELECT value FROM json_each(?))",
            (question, json.dumps(list(entries))),
        )
        return (Fingerprint(digest, signature) for digest, signature in rows)


def _turn_row(turn: Turn) -> tuple[int, int, int, bytes | None, int, int]:
    said = turn.attestation
    verdicts = (None, 0, 0) if said is None else (said.root, said.units, said.faults)
    return turn.batch, turn.block, turn.place, *verdicts
