"""Snapshot: typed reads of the index as of one moment.

Lists are keyset pages: at most `limit` rows after the key `after`, in ascending order of the key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from marketplace.chain.deployment import Deployment
from marketplace.chain.records import BatchPhase, DisputePhase, RandomnessStatus
from marketplace.indexer.phases import Moment, batches_in, disputes_in, randomness_status
from marketplace.indexer.rows import (
    APPEALS,
    ASSIGNMENTS,
    ATTESTATIONS,
    AUDITS,
    BALANCES,
    BATCHES,
    BEACONS,
    BOUNTIES,
    CHECKPOINTS,
    DISPUTES,
    ENVIRONMENTS,
    GOLD,
    HOLDINGS,
    JUDGES,
    MONEY,
    OPENINGS,
    PANELS,
    POTS,
    ROUNDS,
    SEATS,
    SHEETS,
    VERIFIERS,
    AppealRow,
    AssignmentRow,
    AttestationRow,
    AuditRow,
    BalanceRow,
    BatchRow,
    BeaconRow,
    BountyRow,
    CheckpointRow,
    DisputeRow,
    EnvironmentRow,
    GoldRow,
    JudgeRow,
    MoneyRow,
    OpeningRow,
    PanelRow,
    PotRow,
    RoundRow,
    SeatRow,
    SheetRow,
    VerifierRow,
)
from marketplace.indexer.schema import open_reader
from marketplace.indexer.store import BlockRef, read_deployment
from marketplace.indexer.tables import Table, Value, moment
from marketplace.protocol.errors import ConfigError

R = TypeVar("R")

MODULES: Final = ("escrow", "stake", "market", "court", "royalties")
"""The contracts that the ledger holds tokens for."""


@dataclass(frozen=True, slots=True)
class Sync:
    """indexed: the last indexed block. head: the chain's newest block number when it was last
    asked for, at checked_at (seconds; 0 for never)."""

    indexed: BlockRef
    head: int
    checked_at: int


@dataclass(frozen=True, slots=True)
class MoneyTotals:
    """Where all tokens are, in base units: tokens_in - tokens_out == balances + sum of held.

    held: by module name. dispute_bonds: of open disputes, the part of the court's holding that is
    not its pool.
    """

    tokens_in: int
    tokens_out: int
    balances: int
    dispute_bonds: int
    held: dict[str, int]

    @property
    def tracked(self) -> int:
        """What the ledger must own."""
        return self.balances + sum(self.held.values())

    @property
    def pool(self) -> int:
        """What the court holds beside the bonds of open disputes."""
        return self.held["court"] - self.dispute_bonds


class Snapshot:
    """Reads inside one transaction, so that all of them see the same block."""

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        deployment = read_deployment(connection)
        found = connection.execute(
            "SELECT number, hash, timestamp, head, checked_at "
            "FROM sync JOIN blocks ON number = indexed"
        ).fetchone()
        if deployment is None or found is None:
            raise ConfigError(
                "the index is empty: no block was read yet", fix="wait for the indexer's first pass"
            )
        self._connection = connection
        self.deployment: Final[Deployment] = deployment
        self.sync: Final = Sync(BlockRef(*found[:3]), found[3], found[4])
        # The next block's time: chains of tests run ahead of the clock.
        time = max(int(clock()), self.sync.indexed.timestamp)
        self.now: Final = Moment(self.sync.indexed.number, time)

    # --- one ------------------------------------------------------------------------

    def environment(self, id: str) -> EnvironmentRow | None:
        return self._one(ENVIRONMENTS, id)

    def bounty(self, id: int) -> BountyRow | None:
        return self._one(BOUNTIES, id)

    def batch(self, id: int) -> BatchRow | None:
        return self._one(BATCHES, id)

    def round(self, id: int) -> RoundRow | None:
        return self._one(ROUNDS, id)

    def dispute(self, id: int) -> DisputeRow | None:
        return self._one(DISPUTES, id)

    def opening(self, dispute: int) -> OpeningRow | None:
        """None where the dispute named its verdict with a proof."""
        return self._one(OPENINGS, dispute)

    def audit(self, batch: int) -> AuditRow | None:
        """None where nobody showed that the batch was planted."""
        return self._one(AUDITS, batch)

    def verifier(self, address: str) -> VerifierRow | None:
        return self._one(VERIFIERS, address)

    def checkpoint(self, id: int) -> CheckpointRow | None:
        return self._one(CHECKPOINTS, id)

    def balance(self, address: str) -> BalanceRow:
        """Zeros for an account that the ledger never saw."""
        return self._one(BALANCES, address) or BalanceRow(address)

    def beacon(self, round: int) -> BeaconRow | None:
        """None where nobody delivered it."""
        return self._one(BEACONS, round)

    def randomness(self, point: int) -> RandomnessStatus:
        """Whether the randomness of a point can be read now."""
        return randomness_status(
            point, self.deployment, self.now, lambda round: self.beacon(round) is not None
        )

    def seats(self, round: int) -> list[SeatRow]:
        """The drawn seats of a round, in their order."""
        return self._rows(SEATS, "round = ? ORDER BY seat", round)

    def rounds_of(self, batch: int) -> list[RoundRow]:
        """The rounds of a batch, oldest first."""
        return self._rows(ROUNDS, "batch = ? ORDER BY id", batch)

    def attestations(self, batch: int) -> list[AttestationRow]:
        """All that a batch was attested as, oldest first; the last one may stand."""
        return self._rows(ATTESTATIONS, "batch = ? ORDER BY number", batch)

    def juries(self, dispute: int) -> list[RoundRow]:
        """The juries of a dispute, oldest first."""
        return self._rows(ROUNDS, "dispute = ? ORDER BY id", dispute)

    def appeals(self, dispute: int) -> list[AppealRow]:
        """The appeals of a dispute, oldest first."""
        return self._rows(APPEALS, "dispute = ? ORDER BY number", dispute)

    def pot(self, bounty: int) -> PotRow | None:
        """None where the bounty pays no judges and none of its batches has sheets."""
        return self._one(POTS, bounty)

    def panel(self, batch: int) -> PanelRow | None:
        """None where nobody committed to a sheet of the batch."""
        return self._one(PANELS, batch)

    def sheets(self, batch: int) -> list[SheetRow]:
        """The sheets of a batch by seat, those that were not shown too."""
        return self._rows(SHEETS, "batch = ? ORDER BY seat", batch)

    def judge(self, address: str) -> JudgeRow:
        """Zeros for an account that never earned by judging."""
        return self._one(JUDGES, address) or JudgeRow(address)

    def gold_of(self, batch: int) -> list[GoldRow]:
        """The gold sheets that were opened about a batch, oldest first."""
        return self._rows(GOLD, "batch = ? ORDER BY position", batch)

    def gold_before(self, batch: BatchRow, planters: Sequence[str], most: int) -> list[GoldRow]:
        """The latest `most` gold sheets of these planters from before the block of the batch's
        commit, newest first; those about other environments are left out of them afterwards."""
        if not planters:
            return []
        marks = ", ".join("?" * len(planters))
        found = self._rows(
            GOLD,
            f"block < ? AND planter IN ({marks}) ORDER BY position DESC LIMIT ?",
            batch.block,
            *planters,
            most,
        )
        wanted = self._environment_of(batch.id)
        return [row for row in found if self._environment_of(row.batch) == wanted]

    def _environment_of(self, batch: int) -> str:
        (found,) = self._connection.execute(
            "SELECT environment FROM bounties JOIN batches ON batches.bounty = bounties.id "
            "WHERE batches.id = ?",
            (batch,),
        ).fetchone()
        return str(found)

    def missed_audits(self) -> int:
        """Planted batches whose committees missed the trap."""
        (count,) = self._connection.execute(
            "SELECT count(*) FROM audits WHERE missed = 1"
        ).fetchone()
        return int(count)

    def money(self) -> MoneyTotals:
        row = self._one(MONEY, 1) or MoneyRow()
        held = {row.module: row.held for row in self._rows(HOLDINGS, "1")}
        return MoneyTotals(
            tokens_in=row.tokens_in,
            tokens_out=row.tokens_out,
            balances=row.balances,
            dispute_bonds=row.dispute_bonds,
            held={name: held.get(self.deployment.addresses[name], 0) for name in MODULES},
        )

    def count(self, table: Table[Any]) -> int:
        (count,) = self._connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()
        return int(count)

    # --- pages ----------------------------------------------------------------------

    def environments(self, after: int, limit: int) -> list[EnvironmentRow]:
        """In the order of registration; after: a position, 0 for the start."""
        return self._rows(ENVIRONMENTS, "position > ? ORDER BY position LIMIT ?", after, limit)

    def bounties(
        self,
        after: int,
        limit: int,
        *,
        open: bool | None = None,
        environment: str | None = None,
        poster: str | None = None,
    ) -> list[BountyRow]:
        """open: whether batches can still be committed (by deadline)."""
        wanted = _Filter("id > ?", after)
        if open is not None:
            wanted.add(f"deadline {'>=' if open else '<'} ?", moment(self.now.time))
        if environment is not None:
            wanted.add("environment = ?", environment)
        if poster is not None:
            wanted.add("poster = ?", poster)
        return self._rows(BOUNTIES, f"{wanted} ORDER BY id LIMIT ?", *wanted.values, limit)

    def assignments(self, bounty: int, after: str, limit: int) -> list[AssignmentRow]:
        """Of one bounty, by miner; after: an address, "" for the start."""
        where = "bounty = ? AND miner > ? ORDER BY miner LIMIT ?"
        return self._rows(ASSIGNMENTS, where, bounty, after, limit)

    def batches(
        self,
        after: int,
        limit: int,
        *,
        bounty: int | None = None,
        miner: str | None = None,
        phase: BatchPhase | None = None,
    ) -> list[BatchRow]:
        wanted = _Filter("id > ?", after)
        if bounty is not None:
            wanted.add("bounty = ?", bounty)
        if miner is not None:
            wanted.add("miner = ?", miner)
        if phase is not None:
            condition, values = batches_in(phase, self.deployment.parameters, self.now)
            wanted.add(condition, *values)
        return self._rows(BATCHES, f"{wanted} ORDER BY id LIMIT ?", *wanted.values, limit)

    def disputes(
        self,
        after: int,
        limit: int,
        *,
        batch: int | None = None,
        challenger: str | None = None,
        phase: DisputePhase | None = None,
    ) -> list[DisputeRow]:
        wanted = _Filter("id > ?", after)
        if batch is not None:
            wanted.add("batch = ?", batch)
        if challenger is not None:
            wanted.add("challenger = ?", challenger)
        if phase is not None:
            condition, values = disputes_in(phase, self.deployment.parameters, self.now)
            wanted.add(condition, *values)
        return self._rows(DISPUTES, f"{wanted} ORDER BY id LIMIT ?", *wanted.values, limit)

    def audits(
        self,
        after: int,
        limit: int,
        *,
        planter: str | None = None,
        missed: bool | None = None,
    ) -> list[AuditRow]:
        """By batch; after: a batch, 0 for the start."""
        wanted = _Filter("batch > ?", after)
        if planter is not None:
            wanted.add("planter = ?", planter)
        if missed is not None:
            wanted.add(f"missed = {int(missed)}")
        return self._rows(AUDITS, f"{wanted} ORDER BY batch LIMIT ?", *wanted.values, limit)

    def verifiers(self, after: str, limit: int) -> list[VerifierRow]:
        """By address; after: an address, "" for the start."""
        return self._rows(VERIFIERS, "address > ? ORDER BY address LIMIT ?", after, limit)

    def checkpoints(
        self, after: int, limit: int, trainer: str | None = None
    ) -> list[CheckpointRow]:
        wanted = _Filter("id > ?", after)
        if trainer is not None:
            wanted.add("trainer = ?", trainer)
        return self._rows(CHECKPOINTS, f"{wanted} ORDER BY id LIMIT ?", *wanted.values, limit)

    # --- parts ----------------------------------------------------------------------

    def _one(self, table: Table[R], key: Value) -> R | None:
        found = self._rows(table, table.where_key, key)
        return found[0] if found else None

    def _rows(self, table: Table[R], where: str, *values: Value) -> list[R]:
        cursor = self._connection.execute(f"{table.select} WHERE {where}", values)
        return [table.decode(found) for found in cursor]


class _Filter:
    """Conditions that must all hold."""

    def __init__(self, condition: str, *values: Value) -> None:
        self._conditions = [condition]
        self.values = list(values)

    def add(self, condition: str, *values: Value) -> None:
        self._conditions.append(condition)
        self.values.extend(values)

    def __str__(self) -> str:
        return " AND ".join(self._conditions)


@contextmanager
def open_snapshot(path: Path, clock: Callable[[], float]) -> Iterator[Snapshot]:
    """A snapshot of the index at `path`. clock: seconds since the epoch.

    ConfigError where there is no index or it is empty.
    """
    connection = open_reader(path)
    try:
        connection.execute("BEGIN")
        yield Snapshot(connection, clock)
    finally:
        connection.close()
