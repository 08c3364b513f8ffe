"""One transaction on an SQLite connection in autocommit mode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing; writers wait for each other at its start."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        _give_up(db)
        raise
    try:
        db.execute("COMMIT")
    except BaseException:
        _give_up(db)  # else no later transaction could begin
        raise


def _give_up(db: sqlite3.Connection) -> None:
    # Where the disk is full SQLite has done it by itself, and would say only that.
    if db.in_transaction:
        db.execute("ROLLBACK")
