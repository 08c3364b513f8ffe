"""Rows of the index -> models of the API. Phases and deadlines are as of the snapshot's moment."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from marketplace.api import models
from marketplace.chain.records import BatchPhase, RoundPhase, SeatState
from marketplace.indexer.phases import batch_phase, round_phase
from marketplace.indexer.queries import Snapshot
from marketplace.indexer.rows import (
    BATCHES,
    BOUNTIES,
    CHECKPOINTS,
    ENVIRONMENTS,
    ROUNDS,
    VERIFIERS,
    BalanceRow,
    BatchRow,
    BountyRow,
    CheckpointRow,
    EnvironmentRow,
    RoundRow,
    SeatRow,
    VerifierRow,
)
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE
from marketplace.storage.cid import RAW, Cid

BATCH_PHASES: Final[dict[BatchPhase, models.BatchPhase]] = {
    BatchPhase.IN_ROUND: "in_round",
    BatchPhase.CHALLENGEABLE: "challengeable",
    BatchPhase.SETTLEABLE: "settleable",
    BatchPhase.SETTLED: "settled",
    BatchPhase.VOID: "void",
}
ROUND_PHASES: Final[dict[RoundPhase, models.RoundPhase]] = {
    RoundPhase.AWAITING_RANDOMNESS: "awaiting_randomness",
    RoundPhase.DRAWABLE: "drawable",
    RoundPhase.STALLED: "stalled",
    RoundPhase.COMMITTING: "committing",
    RoundPhase.REVEALING: "revealing",
    RoundPhase.CLOSED: "closed",
}
_SEAT_STATES: Final[dict[int, models.SeatState]] = {
    SeatState.DRAWN: "drawn",
    SeatState.COMMITTED: "committed",
    SeatState.REVEALED: "revealed",
}
_TIERS: Final[tuple[models.Tier, ...]] = ("A", "B", "C")
_PAY_RULES: Final[tuple[models.PayRule, ...]] = ("correct", "informative")
_OUTCOMES: Final[dict[str, Any]] = {
    "0x" + UNAVAILABLE.root.hex(): "unavailable",
    "0x" + MALFORMED.root.hex(): "malformed",
}


def health(seen: Snapshot, clock_time: float) -> models.Health:
    sync = seen.sync
    return models.Health(
        chain_id=seen.deployment.chain_id,
        market=seen.deployment.addresses["market"],
        indexed_block=sync.indexed.number,
        indexed_hash=sync.indexed.hash,
        indexed_time=sync.indexed.timestamp,
        head_block=sync.head,
        lag_blocks=max(0, sync.head - sync.indexed.number),
        checked_at=sync.checked_at,
        seconds_since_check=max(0, int(clock_time) - sync.checked_at),
    )


def market(seen: Snapshot) -> models.Market:
    deployment, money = seen.deployment, seen.money()
    token, parameters = deployment.token, asdict(deployment.parameters)
    for amount in ("seat_stake", "bond_per_trace"):
        parameters[amount] = str(parameters[amount])
    return models.Market(
        chain_id=deployment.chain_id,
        contracts=dict(deployment.addresses),
        token=models.Token(
            address=token.address, name=token.name, symbol=token.symbol, decimals=token.decimals
        ),
        parameters=models.Parameters(**parameters),
        money=models.Money(
            tokens_in=str(money.tokens_in),
            tokens_out=str(money.tokens_out),
            balances=str(money.balances),
            **{module: str(held) for module, held in money.held.items()},
        ),
        environments=seen.count(ENVIRONMENTS),
        bounties=seen.count(BOUNTIES),
        batches=seen.count(BATCHES),
        rounds=seen.count(ROUNDS),
        verifiers=seen.count(VERIFIERS),
        checkpoints=seen.count(CHECKPOINTS),
    )


def environment(row: EnvironmentRow) -> models.Environment:
    return models.Environment(
        id=row.id,
        cid=_cid(row.id, RAW),
        author=row.author,
        block=row.block,
        registered_at=row.registered_at,
    )


def bounty(seen: Snapshot, row: BountyRow) -> models.Bounty:
    return models.Bounty(
        id=row.id,
        poster=row.poster,
        environment=row.environment,
        environment_cid=_cid(row.environment, RAW),
        tier=_TIERS[row.tier],
        trainer=row.trainer,
        pay_rule=_PAY_RULES[row.pay_rule],
        group_size=row.group_size,
        price_per_unit=str(row.price_per_unit),
        fee_per_trace=str(row.fee_per_trace),
        deadline=row.deadline,
        open=seen.now.time <= row.deadline,
        available=str(row.available),
        reserved=str(row.reserved),
        paid=str(row.paid),
        paid_miners=str(row.paid_miners),
        refunded=str(row.refunded),
        funded=str(row.funded),
        replenished=str(row.replenished),
        batches=row.batches,
        block=row.block,
        created_at=row.created_at,
    )


def batch(seen: Snapshot, row: BatchRow) -> models.Batch:
    return models.Batch(**_batch(seen, row))


def batch_detail(seen: Snapshot, row: BatchRow) -> models.BatchDetail:
    rounds = [_round(seen, found, row) for found in seen.rounds_of(row.id)]
    return models.BatchDetail(**_batch(seen, row), rounds=rounds)


def round(seen: Snapshot, row: RoundRow) -> models.Round:
    found = None if row.batch is None else seen.batch(row.batch)
    if found is None:  # foreign keys and the order of logs exclude it
        raise LookupError(f"round {row.id} has no batch")
    return _round(seen, row, found)


def verifier(seen: Snapshot, row: VerifierRow) -> models.Verifier:
    return models.Verifier(
        address=row.address,
        stake=str(row.stake),
        unbonding=str(row.unbonding),
        claimable_at=row.claimable_at,
        open_seats=row.open_seats,
        free_seats=row.stake // seen.deployment.parameters.seat_stake - row.open_seats,
        seats_drawn=row.seats,
        penalties=str(row.penalties),
        fees_earned=str(row.fees_earned),
        withdrawn=str(row.withdrawn),
        block=row.block,
    )


def checkpoint(row: CheckpointRow) -> models.Checkpoint:
    return models.Checkpoint(
        id=row.id,
        trainer=row.trainer,
        parent=row.parent,
        cid=_cid(row.content_digest, row.content_codec),
        dataset_root=row.dataset_root,
        block=row.block,
        registered_at=row.registered_at,
    )


def balance(row: BalanceRow) -> models.Balance:
    return models.Balance(
        address=row.address,
        balance=str(row.balance),
        deposited=str(row.deposited),
        credited=str(row.credited),
        spent=str(row.spent),
        withdrawn=str(row.withdrawn),
    )


# --- parts ----------------------------------------------------------------------------


def _batch(seen: Snapshot, row: BatchRow) -> dict[str, Any]:
    settlement = None
    if row.closed_at is not None:
        settlement = models.Settlement(
            closed_at=row.closed_at,
            miner_paid=_tokens(row.miner_paid),
            fees_paid=_tokens(row.fees_paid),
            bond_forfeited=_tokens(row.bond_forfeited),
            slashed=str(row.slashed),
        )
    return {
        "id": row.id,
        "bounty": row.bounty,
        "miner": row.miner,
        "phase": BATCH_PHASES[batch_phase(row, seen.deployment.parameters, seen.now)],
        "root": row.root,
        "cid": _cid(row.content_digest, row.content_codec),
        "count": row.count,
        "first_task": row.first_task,
        "bond": str(row.bond),
        "round": row.round,
        "round_count": row.rounds,
        "attested_at": row.attested_at,
        "attestation": _attestation(row),
        "settlement": settlement,
        "block": row.block,
        "tx_hash": row.tx_hash,
        "committed_at": row.committed_at,
    }


def _round(seen: Snapshot, row: RoundRow, batch: BatchRow) -> models.Round:
    return models.Round(
        id=row.id,
        batch=batch.id,
        number=row.number or 1,
        phase=ROUND_PHASES[round_phase(row, seen.deployment.parameters, seen.now)],
        subject=row.subject,
        max_units=batch.count,
        size=row.size,
        draw_point=row.draw_point,
        randomness=row.randomness,
        opened_at=row.opened_at,
        drawn_at=row.drawn_at,
        all_committed_at=row.all_committed_at,
        committed=row.committed,
        revealed=row.revealed,
        judged=row.judged,
        seats=[_seat(seat) for seat in seen.seats(row.id)],
    )


def _seat(row: SeatRow) -> models.Seat:
    verdicts = None
    if row.verdicts_digest is not None and row.verdicts_codec is not None:
        try:  # the contract takes any codec here
            verdicts = _cid(row.verdicts_digest, row.verdicts_codec)
        except InvalidValue:
            verdicts = None
    return models.Seat(
        seat=row.seat,
        verifier=row.verifier,
        state=_SEAT_STATES[row.state],
        commitment=row.commitment,
        committed_at=row.committed_at,
        revealed_at=row.revealed_at,
        attestation=_attestation(row),
        verdicts_cid=verdicts,
        coherent=row.coherent,
        penalty=_tokens(row.penalty),
        fee=_tokens(row.fee),
    )


def _attestation(row: BatchRow | SeatRow) -> models.Attestation | None:
    if row.verdict_root is None or row.units is None or row.faults is None:
        return None
    return models.Attestation(
        verdict_root=row.verdict_root,
        units=row.units,
        faults=row.faults,
        outcome=_OUTCOMES.get(row.verdict_root, "verdicts"),
    )


def _tokens(amount: int | None) -> str | None:
    return None if amount is None else str(amount)


def _cid(digest: str, codec: int) -> str:
    return str(Cid(bytes.fromhex(digest.removeprefix("0x")), codec))
