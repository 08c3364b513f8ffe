"""IndexStore: the one who writes the index.

A page of blocks (raw events, rows, undo rows and the new position) is one transaction, so a
crash anywhere loses nothing and repeats nothing. A rollback is one transaction too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import Parameters
from marketplace.chain.records import Token
from marketplace.indexer import court_rules, market_rules, money_rules, sheet_rules
from marketplace.indexer.events import LogEvent, decode_args, encode_args
from marketplace.indexer.projecting import Rows, clear, project, restore
from marketplace.indexer.schema import open_writer, transaction
from marketplace.protocol.beacons import BeaconNetwork
from marketplace.protocol.errors import ChainError, ConfigError, WrongChain

UNDO_BLOCKS: Final = 512
"""How far below the newest block a rollback restores rows; a deeper one replays all events."""

RULES: Final = market_rules.RULES | court_rules.RULES | money_rules.RULES | sheet_rules.RULES


@dataclass(frozen=True, slots=True)
class BlockRef:
    """hash: 0x hex. timestamp: seconds."""

    number: int
    hash: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Page:
    """The events after block `after` up to and including block `last`.

    blocks: every block that has events, and `last`, ascending. head: the chain's newest block
    number when this was read.
    """

    after: BlockRef
    last: BlockRef
    blocks: Sequence[BlockRef]
    events: Sequence[LogEvent]
    head: int


class IndexStore:
    """The index of one market, open for writing. Use it in one thread."""

    def __init__(
        self, path: Path, deployment: Deployment, *, undo_blocks: int = UNDO_BLOCKS
    ) -> None:
        """Open or make the file.

        Raises WrongChain or ConfigError where it holds another market, ConfigError where it is
        no index.
        """
        self.path: Final = path
        self.deployment: Final = deployment
        self._undo_blocks: Final = undo_blocks
        self._db: Final = open_writer(path)
        try:
            with transaction(self._db):
                self._claim()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- position -------------------------------------------------------------------

    def position(self) -> BlockRef | None:
        """The last indexed block, None before start()."""
        found = self._db.execute(
            "SELECT number, hash, timestamp FROM sync JOIN blocks ON number = indexed"
        ).fetchone()
        return None if found is None else BlockRef(*found)

    def block_numbers(self) -> list[int]:
        """All blocks whose hash is stored, ascending; the first is where the index starts."""
        return [n for (n,) in self._db.execute("SELECT number FROM blocks ORDER BY number")]

    def block(self, number: int) -> BlockRef | None:
        """A stored block."""
        found = self._db.execute(
            "SELECT number, hash, timestamp FROM blocks WHERE number = ?", (number,)
        ).fetchone()
        return None if found is None else BlockRef(*found)

    def start(self, block: BlockRef) -> None:
        """Forget everything and start after `block`, which has none of the market's events."""
        with transaction(self._db):
            clear(self._db)
            self._db.execute("DELETE FROM sync")
            self._db.execute("DELETE FROM blocks")
            self._put_blocks([block], {})
            self._db.execute(
                "INSERT INTO sync (id, indexed, undo_from, head, checked_at) "
                "VALUES (1, ?, ?, ?, 0)",
                (block.number, block.number + 1, block.number),
            )

    def saw_head(self, head: int, at: int) -> None:
        """Note the chain's newest block and when it was asked for (seconds)."""
        with transaction(self._db):
            self._db.execute("UPDATE sync SET head = ?, checked_at = ?", (head, at))

    # --- forward --------------------------------------------------------------------

    def append(self, page: Page) -> None:
        """Add a page: all of it or, where this raises, nothing.

        Raises ChainError where another process moved the index in the meantime, or the events do
        not fit those before them.
        """
        with transaction(self._db):
            position = self.position()
            if position is None or position != page.after:
                raise ChainError(
                    f"the index {self.path} is at block {position and position.number}, not at "
                    f"{page.after.number}: something else writes to it",
                    fix="run one indexer for a file",
                )
            undo_from = max(self._undo_from(), page.head - self._undo_blocks + 1)
            counts: dict[int, int] = {}
            for event in page.events:
                counts[event.block] = counts.get(event.block, 0) + 1
            self._put_blocks(page.blocks, counts)
            self._db.executemany(
                "INSERT INTO events (block, log_index, contract, name, args, tx_hash) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (e.block, e.log_index, e.contract, e.name, encode_args(e.args), e.tx_hash)
                    for e in page.events
                ),
            )
            self._project(page.events, undo_from)
            self._db.execute(
                "UPDATE sync SET indexed = ?, undo_from = ?", (page.last.number, undo_from)
            )
            self._prune(undo_from)

    # --- backward -------------------------------------------------------------------

    def rollback(self, to: int) -> None:
        """Forget all blocks above `to`, which must be a stored block (ValueError)."""
        if self.block(to) is None:
            raise ValueError(f"block {to} is not stored")
        with transaction(self._db):
            shallow = to >= self._undo_from() - 1
            if shallow:
                restore(self._db, to)
            self._db.execute("UPDATE sync SET indexed = ?", (to,))
            self._db.execute("DELETE FROM blocks WHERE number > ?", (to,))
            if not shallow:
                self._replay()

    def rebuild(self) -> None:
        """Make all rows anew from the raw events."""
        with transaction(self._db):
            self._replay()

    # --- inside a transaction -------------------------------------------------------

    def _claim(self) -> None:
        """Write whose index this is, or check it."""
        found = read_deployment(self._db)
        if found is None:
            values = {"deployment": json.dumps(asdict(self.deployment))}
            self._db.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", values.items())
            return
        fix = "delete it (it is built anew from the chain) or name another file"
        wanted = self.deployment
        if found.chain_id != wanted.chain_id:
            raise WrongChain(
                f"the index {self.path} is of chain {found.chain_id}, not {wanted.chain_id}",
                fix=fix,
            )
        for name, address in wanted.addresses.items():
            if found.addresses[name] != address:
                raise ConfigError(
                    f"the index {self.path} is of another market: its {name} is "
                    f"{found.addresses[name]}, not {address}",
                    fix=fix,
                )
        if found != wanted:
            raise ConfigError(
                f"the index {self.path} was made with another deployment file of this market: "
                f"block {found.block}, {found.parameters}",
                fix=fix,
            )

    def _undo_from(self) -> int:
        (undo_from,) = self._db.execute("SELECT undo_from FROM sync").fetchone()
        return int(undo_from)

    def _put_blocks(self, blocks: Iterable[BlockRef], counts: dict[int, int]) -> None:
        self._db.executemany(
            "INSERT INTO blocks (number, hash, timestamp, events) VALUES (?, ?, ?, ?)",
            ((b.number, b.hash, b.timestamp, counts.get(b.number, 0)) for b in blocks),
        )

    def _project(self, events: Iterable[LogEvent], undo_from: int) -> None:
        rows = Rows(self._db, self.deployment.parameters, undo_from=undo_from)
        project(rows, events, RULES)
        rows.flush()

    def _replay(self) -> None:
        clear(self._db)
        self._project(_events(self._db), self._undo_from())

    def _prune(self, undo_from: int) -> None:
        """Drop undo rows that nobody needs, and old blocks that only ended a page."""
        self._db.execute("DELETE FROM undo WHERE block < ?", (undo_from,))
        self._db.execute(
            "DELETE FROM blocks WHERE events = 0 AND number > ? AND number < ? "
            "AND number < (SELECT indexed FROM sync)",
            (self.deployment.block, undo_from - 1),
        )


def read_deployment(connection: sqlite3.Connection) -> Deployment | None:
    """Whose index this is; None before it was said."""
    found = connection.execute("SELECT value FROM meta WHERE name = 'deployment'").fetchone()
    if found is None:
        return None
    content: dict[str, Any] = json.loads(found[0])
    content["token"] = Token(**content["token"])
    content["parameters"] = Parameters(**content["parameters"])
    if content["beacon"] is not None:
        content["beacon"] = BeaconNetwork(**content["beacon"])
    return Deployment(**content)


def _events(connection: sqlite3.Connection) -> list[LogEvent]:
    return [
        LogEvent(block, log_index, at, contract, name, decode_args(args), tx_hash)
        for block, log_index, at, contract, name, args, tx_hash in connection.execute(
            "SELECT block, log_index, timestamp, contract, name, args, tx_hash "
            "FROM events JOIN blocks ON number = block ORDER BY block, log_index"
        )
    ]
