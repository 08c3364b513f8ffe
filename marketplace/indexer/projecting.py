"""Events -> rows, and back.

A rule is a function of one event and the rows so far. Rows are loaded when first needed, kept
for one page, written at its end. For recent blocks the first change of a row in a block keeps
what the row was before it; that is what a rollback restores.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from marketplace.chain.parameters import Parameters
from marketplace.indexer.events import LogEvent
from marketplace.indexer.rows import TABLES
from marketplace.indexer.tables import Key, Table
from marketplace.protocol.errors import ChainError

R = TypeVar("R")
_Slot = tuple[Table[Any], Key]


class Rows:
    """The projected rows inside one writer transaction."""

    def __init__(
        self, connection: sqlite3.Connection, parameters: Parameters, *, undo_from: int
    ) -> None:
        """parameters: of the market. undo_from: the first block whose changes must be undoable."""
        self._connection = connection
        self.parameters: Final = parameters
        self._undo_from = undo_from
        self._rows: dict[_Slot, Any] = {}
        self._changed: dict[_Slot, None] = {}
        self._before: dict[tuple[int, _Slot], Any] = {}
        self._event: LogEvent | None = None
        self.closed_seats: list[tuple[str, int]] = []
        """(verifier, penalty) of the seats closed so far in the current transaction and not yet
        given to a round: the logs that close seats come before the one that says of which."""

    def begin(self, event: LogEvent) -> None:
        """The event that the next calls are about."""
        if self._event is None or self._event.tx_hash != event.tx_hash:
            self.closed_seats = []
        self._event = event

    def get(self, table: Table[R], *key: Any) -> R | None:
        """The row with that key."""
        slot = (table, key)
        if slot not in self._rows:
            found = self._connection.execute(
                f"{table.select} WHERE {table.where_key}", key
            ).fetchone()
            self._rows[slot] = None if found is None else table.decode(found)
        row: R | None = self._rows[slot]
        return row

    def need(self, table: Table[R], *key: Any) -> R:
        """The row with that key; ChainError where no event has made it."""
        row = self.get(table, *key)
        if row is None:
            shown = " ".join(map(str, key))
            raise self.gap(f"no earlier event made {table.name} {shown}")
        return row

    def put(self, table: Table[R], row: R) -> None:
        """Insert or replace a row."""
        slot = (table, table.key(row))
        before = self.get(table, *slot[1])
        event = self._event
        if event is not None and event.block >= self._undo_from:
            self._before.setdefault((event.block, slot), before)
        self._rows[slot] = row
        self._changed[slot] = None

    def gap(self, why: str) -> ChainError:
        """The current event does not fit what came before it."""
        event = self._event
        where = "the events" if event is None else f"{event.name} in block {event.block}"
        return ChainError(
            f"{where} does not fit the index: {why}",
            fix="check that the node serves all logs since the deployment's block; it is tried "
            "again",
        )

    def flush(self) -> None:
        """Write what changed."""
        by_table: dict[Table[Any], list[tuple[Any, ...]]] = {}
        for table, key in self._changed:
            by_table.setdefault(table, []).append(table.encode(self._rows[table, key]))
        for table, values in by_table.items():
            self._connection.executemany(table.upsert, values)
        self._connection.executemany(
            "INSERT OR IGNORE INTO undo (block, tbl, key, before) VALUES (?, ?, ?, ?)",
            (
                (
                    block,
                    table.name,
                    json.dumps(key),
                    None if before is None else json.dumps(table.encode(before)),
                )
                for (block, (table, key)), before in self._before.items()
            ),
        )
        self._changed.clear()
        self._before.clear()


Rule = Callable[[Rows, LogEvent], None]


class Rulebook(dict[tuple[str, str], Rule]):
    """(contract, event name) -> rule. Events without a rule are stored and change no row."""

    def on(self, contract: str, name: str) -> Callable[[Rule], Rule]:
        """Decorator: the rule for an event."""

        def enter(rule: Rule) -> Rule:
            self[contract, name] = rule
            return rule

        return enter


def project(rows: Rows, events: Iterable[LogEvent], rules: Mapping[tuple[str, str], Rule]) -> None:
    """Apply events in the order of the chain."""
    for event in events:
        rows.begin(event)
        rule = rules.get((event.contract, event.name))
        if rule is not None:
            rule(rows, event)


def restore(connection: sqlite3.Connection, above: int) -> None:
    """Make every projected row what it was after block `above`; needs the undo rows of all
    blocks above it."""
    tables = {table.name: table for table in TABLES}
    # MIN() makes SQLite take `before` from the row with the least block.
    changes = connection.execute(
        "SELECT tbl, key, before, MIN(block) FROM undo WHERE block > ? GROUP BY tbl, key", (above,)
    ).fetchall()
    for name, key, before, _ in changes:
        table = tables[name]
        if before is None:
            connection.execute(f"DELETE FROM {name} WHERE {table.where_key}", json.loads(key))
        else:
            connection.execute(table.upsert, json.loads(before))
    connection.execute("DELETE FROM undo WHERE block > ?", (above,))


def clear(connection: sqlite3.Connection) -> None:
    """Delete every projected row."""
    for table in TABLES:
        connection.execute(f"DELETE FROM {table.name}")
    connection.execute("DELETE FROM undo")
