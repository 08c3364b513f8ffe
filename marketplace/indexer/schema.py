"""Tables and connections of the index.

Raw: blocks and events. Projected: the tables of rows.TABLES. `undo` holds what projected rows
were before recent blocks. Foreign keys are checked at commit, since a transaction's logs may name
a row before the log that makes it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from marketplace.protocol.errors import ConfigError

VERSION: Final = 5
"""Of tables and rules together. An index is a cache: another version is built anew."""

BUSY_SECONDS: Final = 30.0

_SCHEMA: Final = """
-- Who the index is about: JSON values.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- One row. indexed: the last block whose events are in. undo_from: blocks from here on can be
-- undone row by row. head: the chain's newest block when last asked, at checked_at.
CREATE TABLE sync (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    indexed INTEGER NOT NULL REFERENCES blocks (number),
    undo_from INTEGER NOT NULL,
    head INTEGER NOT NULL,
    checked_at INTEGER NOT NULL
);

-- Every block that has events, and recent ones where a page ended.
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY,
    hash TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    events INTEGER NOT NULL
);
CREATE INDEX blocks_empty ON blocks (number) WHERE events = 0;

CREATE TABLE events (
    block INTEGER NOT NULL REFERENCES blocks (number) ON DELETE CASCADE,
    log_index INTEGER NOT NULL,
    contract TEXT NOT NULL,
    name TEXT NOT NULL,
    args TEXT NOT NULL,
    tx_hash TEXT NOT NULL,
    PRIMARY KEY (block, log_index)
) WITHOUT ROWID;

-- before: the row's values as JSON, NULL where there was no row.
CREATE TABLE undo (
    block INTEGER NOT NULL,
    tbl TEXT NOT NULL,
    key TEXT NOT NULL,
    before TEXT,
    PRIMARY KEY (block, tbl, key)
) WITHOUT ROWID;

CREATE TABLE environments (
    id TEXT PRIMARY KEY,
    author TEXT NOT NULL,
    position INTEGER NOT NULL UNIQUE,
    block INTEGER NOT NULL,
    registered_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE bounties (
    id INTEGER PRIMARY KEY,
    poster TEXT NOT NULL,
    environment TEXT NOT NULL REFERENCES environments (id),
    trainer TEXT,
    deadline TEXT NOT NULL,
    group_size INTEGER NOT NULL,
    tier INTEGER NOT NULL,
    pay_rule INTEGER NOT NULL,
    price_per_unit TEXT NOT NULL,
    fee_per_trace TEXT NOT NULL,
    block INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    available TEXT NOT NULL,
    reserved TEXT NOT NULL,
    funded TEXT NOT NULL,
    replenished TEXT NOT NULL,
    paid TEXT NOT NULL,
    paid_miners TEXT NOT NULL,
    refunded TEXT NOT NULL,
    batches INTEGER NOT NULL
);
CREATE INDEX bounties_poster ON bounties (poster);
CREATE INDEX bounties_environment ON bounties (environment);

CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    bounty INTEGER NOT NULL REFERENCES bounties (id),
    miner TEXT NOT NULL,
    root TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_task INTEGER NOT NULL,
    bond TEXT NOT NULL,
    content_digest TEXT NOT NULL,
    content_codec INTEGER NOT NULL,
    round INTEGER NOT NULL,
    rounds INTEGER NOT NULL,
    block INTEGER NOT NULL,
    tx_hash TEXT NOT NULL,
    committed_at INTEGER NOT NULL,
    attested_at INTEGER,
    verdict_root TEXT,
    units INTEGER,
    faults INTEGER,
    disputes INTEGER NOT NULL,
    overturned INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    closed_at INTEGER,
    miner_paid TEXT,
    fees_paid TEXT,
    bond_forfeited TEXT,
    slashed TEXT
);
CREATE INDEX batches_bounty ON batches (bounty);
CREATE INDEX batches_miner ON batches (miner);
CREATE INDEX batches_phase ON batches (closed, attested_at);
CREATE INDEX batches_disputed ON batches (id) WHERE closed = 0 AND disputes > 0;

CREATE TABLE rounds (
    id INTEGER PRIMARY KEY,
    subject TEXT NOT NULL,
    size INTEGER NOT NULL,
    draw_point INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    batch INTEGER REFERENCES batches (id),
    dispute INTEGER REFERENCES disputes (id),
    number INTEGER,
    previous INTEGER,
    fresh INTEGER NOT NULL,
    drawn_at INTEGER,
    randomness TEXT,
    all_committed_at INTEGER,
    seats INTEGER NOT NULL,
    committed INTEGER NOT NULL,
    revealed INTEGER NOT NULL,
    judged INTEGER NOT NULL
);
CREATE INDEX rounds_batch ON rounds (batch);
CREATE INDEX rounds_dispute ON rounds (dispute);

CREATE TABLE assignments (
    bounty INTEGER NOT NULL REFERENCES bounties (id),
    miner TEXT NOT NULL,
    point INTEGER NOT NULL,
    requested_at INTEGER NOT NULL,
    seed TEXT,
    opened_at INTEGER,
    PRIMARY KEY (bounty, miner)
) WITHOUT ROWID;

CREATE TABLE beacons (
    round INTEGER PRIMARY KEY,
    value TEXT NOT NULL,
    deliverer TEXT NOT NULL,
    block INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL
);

CREATE TABLE seats (
    round INTEGER NOT NULL REFERENCES rounds (id),
    seat INTEGER NOT NULL,
    verifier TEXT NOT NULL REFERENCES verifiers (address),
    state INTEGER NOT NULL,
    commitment TEXT,
    committed_at INTEGER,
    revealed_at INTEGER,
    vote TEXT,
    verdict_root TEXT,
    units INTEGER,
    faults INTEGER,
    verdicts_digest TEXT,
    verdicts_codec INTEGER,
    coherent INTEGER,
    convicted INTEGER NOT NULL,
    penalty TEXT,
    fee TEXT,
    PRIMARY KEY (round, seat)
) WITHOUT ROWID;
CREATE INDEX seats_verifier ON seats (verifier);

CREATE TABLE attestations (
    batch INTEGER NOT NULL REFERENCES batches (id),
    number INTEGER NOT NULL,
    round INTEGER NOT NULL REFERENCES rounds (id),
    verdict_root TEXT NOT NULL,
    units INTEGER NOT NULL,
    faults INTEGER NOT NULL,
    attested_at INTEGER NOT NULL,
    overturned_at INTEGER,
    slashed TEXT,
    dispute INTEGER REFERENCES disputes (id),
    prover TEXT,
    fault INTEGER,
    prover_paid TEXT,
    wronged_paid TEXT,
    PRIMARY KEY (batch, number)
) WITHOUT ROWID;

CREATE TABLE disputes (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL REFERENCES batches (id),
    attestation INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    challenger TEXT NOT NULL,
    trace INTEGER NOT NULL,
    bond TEXT NOT NULL,
    at_stake TEXT NOT NULL,
    block INTEGER NOT NULL,
    tx_hash TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    jury INTEGER REFERENCES rounds (id),
    juries INTEGER NOT NULL,
    appeals INTEGER NOT NULL,
    standing INTEGER NOT NULL,
    decided_at INTEGER,
    last INTEGER NOT NULL,
    vote TEXT,
    rival_vote TEXT,
    standing_vote TEXT,
    closed INTEGER NOT NULL,
    closed_at INTEGER,
    slashed TEXT,
    jurors_paid TEXT,
    challenger_paid TEXT,
    wronged_paid TEXT
);
CREATE INDEX disputes_batch ON disputes (batch);
CREATE INDEX disputes_challenger ON disputes (challenger);
CREATE INDEX disputes_open ON disputes (id) WHERE closed = 0;

CREATE TABLE appeals (
    dispute INTEGER NOT NULL REFERENCES disputes (id),
    number INTEGER NOT NULL,
    appellant TEXT NOT NULL,
    against INTEGER NOT NULL,
    bond TEXT NOT NULL,
    appealed_at INTEGER NOT NULL,
    PRIMARY KEY (dispute, number)
) WITHOUT ROWID;

CREATE TABLE openings (
    dispute INTEGER PRIMARY KEY REFERENCES disputes (id),
    status INTEGER NOT NULL,
    first INTEGER NOT NULL,
    size INTEGER NOT NULL,
    hash TEXT NOT NULL,
    moved_at INTEGER NOT NULL,
    moves INTEGER NOT NULL,
    fault INTEGER NOT NULL
);

CREATE TABLE plantings (
    root TEXT PRIMARY KEY,
    planter TEXT NOT NULL,
    block INTEGER NOT NULL,
    planted_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE audits (
    batch INTEGER PRIMARY KEY REFERENCES batches (id),
    planter TEXT NOT NULL,
    trace INTEGER NOT NULL,
    score INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    units INTEGER NOT NULL,
    faults INTEGER NOT NULL,
    missed INTEGER NOT NULL,
    block INTEGER NOT NULL,
    opened_at INTEGER NOT NULL
);
CREATE INDEX audits_planter ON audits (planter);
CREATE INDEX audits_missed ON audits (batch) WHERE missed = 1;

CREATE TABLE verifiers (
    address TEXT PRIMARY KEY,
    block INTEGER NOT NULL,
    stake TEXT NOT NULL,
    unbonding TEXT NOT NULL,
    claimable_at INTEGER,
    open_seats INTEGER NOT NULL,
    seats INTEGER NOT NULL,
    penalties TEXT NOT NULL,
    fees_earned TEXT NOT NULL,
    withdrawn TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE checkpoints (
    id INTEGER PRIMARY KEY,
    trainer TEXT NOT NULL,
    parent INTEGER REFERENCES checkpoints (id),
    content_digest TEXT NOT NULL,
    content_codec INTEGER NOT NULL,
    dataset_root TEXT NOT NULL,
    identity TEXT NOT NULL,
    block INTEGER NOT NULL,
    registered_at INTEGER NOT NULL
);
CREATE INDEX checkpoints_parent ON checkpoints (parent);
CREATE INDEX checkpoints_trainer ON checkpoints (trainer);

CREATE TABLE balances (
    address TEXT PRIMARY KEY,
    balance TEXT NOT NULL,
    deposited TEXT NOT NULL,
    credited TEXT NOT NULL,
    spent TEXT NOT NULL,
    withdrawn TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE holdings (module TEXT PRIMARY KEY, held TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE money (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    tokens_in TEXT NOT NULL,
    tokens_out TEXT NOT NULL,
    balances TEXT NOT NULL,
    dispute_bonds TEXT NOT NULL
);

CREATE TABLE pots (
    bounty INTEGER PRIMARY KEY REFERENCES bounties (id),
    per_trace TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    available TEXT NOT NULL,
    funded TEXT NOT NULL,
    paid TEXT NOT NULL,
    refunded TEXT NOT NULL,
    open INTEGER NOT NULL
);

CREATE TABLE panels (
    batch INTEGER PRIMARY KEY REFERENCES batches (id),
    per_sheet TEXT NOT NULL,
    seats INTEGER NOT NULL,
    begun_at INTEGER NOT NULL,
    committed INTEGER NOT NULL,
    revealed INTEGER NOT NULL,
    closed_at INTEGER,
    paid_sheets INTEGER
);

CREATE TABLE sheets (
    batch INTEGER NOT NULL REFERENCES panels (batch),
    seat INTEGER NOT NULL,
    verifier TEXT NOT NULL REFERENCES verifiers (address),
    commitment TEXT NOT NULL,
    committed_at INTEGER NOT NULL,
    sheet TEXT,
    revealed_at INTEGER,
    paid TEXT,
    PRIMARY KEY (batch, seat)
) WITHOUT ROWID;

CREATE TABLE judges (
    address TEXT PRIMARY KEY,
    balance TEXT NOT NULL,
    earned TEXT NOT NULL,
    refunded TEXT NOT NULL,
    withdrawn TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE gold_plantings (
    commitment TEXT PRIMARY KEY,
    planter TEXT NOT NULL,
    block INTEGER NOT NULL,
    planted_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE gold (
    position INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL REFERENCES batches (id),
    planter TEXT NOT NULL,
    sheet TEXT NOT NULL,
    block INTEGER NOT NULL,
    opened_at INTEGER NOT NULL
);
CREATE INDEX gold_batch ON gold (batch);
CREATE INDEX gold_planter ON gold (planter);
"""


def open_writer(path: Path) -> sqlite3.Connection:
    """The file for writing, with its tables. ConfigError where it is not an index of this
    version."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, str(error)) from None
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may lose the last pages, which are then read from the chain again; it can't
        # tear one.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        with transaction(connection):
            if not _check_version(connection, path):
                _create(connection)
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, str(error)) from None
    except ConfigError:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """The file for reading only; may be handed from thread to thread. ConfigError where there is
    no index of this version."""
    if not path.is_file():
        raise _missing(path)
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=rw",  # a reader of a WAL may have to make its -shm
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise _unusable(path, str(error)) from None
    try:
        connection.execute("PRAGMA query_only = ON")
        if not _check_version(connection, path):
            raise _missing(path)
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, str(error)) from None
    except ConfigError:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing of it; one writer at a time, foreign keys checked at the end."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("PRAGMA defer_foreign_keys = ON")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _create(connection: sqlite3.Connection) -> None:
    # Not executescript: it would commit first.
    statement = ""
    for line in _SCHEMA.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _check_version(connection: sqlite3.Connection, path: Path) -> bool:
    """True for an index, False for an empty file; ConfigError for anything else."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version == 0 and tables == 0:
        return False
    if version != VERSION:
        what = f"an index of version {version}" if version else "another program's database"
        raise ConfigError(
            f"{path} is {what}; this program needs version {VERSION}",
            fix="delete it (it is built anew from the chain) or name another file",
        )
    return True


def _missing(path: Path) -> ConfigError:
    return ConfigError(
        f"there is no index {path}", fix="start the indexer, or name the file it writes"
    )


def _unusable(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"the index {path} can't be used: {why}",
        fix="delete it if it is an index (it is built anew from the chain), or name another file",
    )
