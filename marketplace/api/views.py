"""Rows of the index -> models of the API. Phases and deadlines are as of the snapshot's moment."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from marketplace.api import models
from marketplace.chain.deployment import Deployment
from marketplace.chain.records import (
    BatchPhase,
    DisputePhase,
    OpeningStatus,
    RandomnessStatus,
    RoundPhase,
    SeatState,
)
from marketplace.indexer.phases import batch_phase, dispute_phase, opening_status, round_phase
from marketplace.indexer.queries import Snapshot
from marketplace.indexer.rows import (
    AUDITS,
    BATCHES,
    BOUNTIES,
    CHECKPOINTS,
    DISPUTES,
    ENVIRONMENTS,
    PLANTINGS,
    ROUNDS,
    VERIFIERS,
    AppealRow,
    AssignmentRow,
    AttestationRow,
    AuditRow,
    BalanceRow,
    BatchRow,
    BountyRow,
    CheckpointRow,
    DisputeRow,
    EnvironmentRow,
    OpeningRow,
    RoundRow,
    SeatRow,
    VerifierRow,
)
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.verdict import MALFORMED, SOUND, UNAVAILABLE
from marketplace.storage.cid import RAW, Cid

BATCH_PHASES: Final[dict[BatchPhase, models.BatchPhase]] = {
    BatchPhase.IN_ROUND: "in_round",
    BatchPhase.CHALLENGEABLE: "challengeable",
    BatchPhase.SETTLEABLE: "settleable",
    BatchPhase.SETTLED: "settled",
    BatchPhase.VOID: "void",
    BatchPhase.DISPUTED: "disputed",
}
ROUND_PHASES: Final[dict[RoundPhase, models.RoundPhase]] = {
    RoundPhase.AWAITING_RANDOMNESS: "awaiting_randomness",
    RoundPhase.DRAWABLE: "drawable",
    RoundPhase.STALLED: "stalled",
    RoundPhase.COMMITTING: "committing",
    RoundPhase.REVEALING: "revealing",
    RoundPhase.CLOSED: "closed",
}
POINT_STATUSES: Final[dict[RandomnessStatus, models.PointStatus]] = {
    RandomnessStatus.PENDING: "pending",
    RandomnessStatus.AWAITED: "awaited",
    RandomnessStatus.READY: "ready",
    RandomnessStatus.MISSED: "missed",
}
DISPUTE_PHASES: Final[dict[DisputePhase, models.DisputePhase]] = {
    DisputePhase.OPENING: "opening",
    DisputePhase.IN_JURY: "in_jury",
    DisputePhase.APPEALABLE: "appealable",
    DisputePhase.DECIDED: "decided",
    DisputePhase.CLOSED: "closed",
}
KINDS: Final[tuple[models.DisputeKind, ...]] = (
    "leaf",
    "opening",
    "malformed",
    "unavailable",
    "conflict",
)
STANDINGS: Final[tuple[models.Standing, ...]] = (
    "none",
    "stands",
    "falls",
    "unavailable",
    "rival",
)
OPENING_STATUSES: Final[dict[OpeningStatus, models.OpeningStatus]] = {
    OpeningStatus.ASKED: "asked",
    OpeningStatus.ANSWERED: "answered",
    OpeningStatus.OPENED: "opened",
    OpeningStatus.REFUSED: "refused",
    OpeningStatus.ABANDONED: "abandoned",
}
_FAULTS: Final[tuple[models.Fault, ...]] = ("none", "sum", "shape", "index", "cap")
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
    "0x" + SOUND.root.hex(): "sound",
}
MOST_DISPUTES: Final = 200
"""Disputes in the view of one batch: anybody with bonds can open one for each of its traces."""


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
    for amount in ("seat_stake", "bond_per_trace", "min_fee_per_trace", "juror_fee"):
        parameters[amount] = str(parameters[amount])
    return models.Market(
        chain_id=deployment.chain_id,
        contracts=dict(deployment.addresses),
        token=models.Token(
            address=token.address, name=token.name, symbol=token.symbol, decimals=token.decimals
        ),
        parameters=models.Parameters(**parameters),
        randomness=_randomness(deployment),
        money=models.Money(
            tokens_in=str(money.tokens_in),
            tokens_out=str(money.tokens_out),
            balances=str(money.balances),
            dispute_bonds=str(money.dispute_bonds),
            pool=str(money.pool),
            **{module: str(held) for module, held in money.held.items()},
        ),
        environments=seen.count(ENVIRONMENTS),
        bounties=seen.count(BOUNTIES),
        batches=seen.count(BATCHES),
        rounds=seen.count(ROUNDS),
        disputes=seen.count(DISPUTES),
        verifiers=seen.count(VERIFIERS),
        checkpoints=seen.count(CHECKPOINTS),
        plantings=seen.count(PLANTINGS),
        audits=seen.count(AUDITS),
        audits_missed=seen.missed_audits(),
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


def assignment(seen: Snapshot, row: AssignmentRow) -> models.Assignment:
    return models.Assignment(
        bounty=row.bounty,
        miner=row.miner,
        point=row.point,
        status=POINT_STATUSES[seen.randomness(row.point)] if row.seed is None else None,
        seed=row.seed,
        requested_at=row.requested_at,
        opened_at=row.opened_at,
    )


def batch(seen: Snapshot, row: BatchRow) -> models.Batch:
    return models.Batch(**_batch(seen, row))


def batch_detail(seen: Snapshot, row: BatchRow) -> models.BatchDetail:
    planted = seen.audit(row.id)
    return models.BatchDetail(
        **_batch(seen, row),
        rounds=[_round(seen, found, row) for found in seen.rounds_of(row.id)],
        attestations=[_past(found) for found in seen.attestations(row.id)],
        disputes=[dispute(seen, found) for found in seen.disputes(0, MOST_DISPUTES, batch=row.id)],
        audit=None if planted is None else audit(planted),
    )


def round(seen: Snapshot, row: RoundRow) -> models.Round:
    id = row.batch
    if row.dispute is not None:
        disputed = seen.dispute(row.dispute)
        id = None if disputed is None else disputed.batch
    found = None if id is None else seen.batch(id)
    if found is None:  # foreign keys and the order of logs exclude it
        raise LookupError(f"round {row.id} has no batch")
    return _round(seen, row, found)


def dispute(seen: Snapshot, row: DisputeRow) -> models.Dispute:
    return models.Dispute(**_dispute(seen, row))


def dispute_detail(seen: Snapshot, row: DisputeRow) -> models.DisputeDetail:
    batch = seen.batch(row.batch)
    if batch is None:  # foreign keys exclude it
        raise LookupError(f"dispute {row.id} has no batch")
    opening = seen.opening(row.id)
    return models.DisputeDetail(
        **_dispute(seen, row),
        juries=[_round(seen, jury, batch) for jury in seen.juries(row.id)],
        appeals=[_appeal(found) for found in seen.appeals(row.id)],
        opening=None if opening is None else _opening(seen, opening),
    )


def audit(row: AuditRow) -> models.Audit:
    return models.Audit(
        batch=row.batch,
        planter=row.planter,
        trace=row.trace,
        score_ppm=row.score,
        reason=row.reason,
        units=row.units,
        faults=row.faults,
        missed=row.missed,
        block=row.block,
        opened_at=row.opened_at,
    )


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
        identity=row.identity,
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


def _randomness(deployment: Deployment) -> models.Randomness:
    beacon = deployment.beacon
    return models.Randomness(
        kind="blockhash" if beacon is None else "drand",
        delay=deployment.randomness_delay,
        patience=deployment.randomness_patience,
        network=None if beacon is None else beacon.name,
        chain_hash=None if beacon is None else beacon.chain_hash,
        genesis=None if beacon is None else beacon.genesis,
        period=None if beacon is None else beacon.period,
    )


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
        "open_disputes": row.disputes,
        "overturned": row.overturned,
        "settlement": settlement,
        "block": row.block,
        "tx_hash": row.tx_hash,
        "committed_at": row.committed_at,
    }


def _round(seen: Snapshot, row: RoundRow, batch: BatchRow) -> models.Round:
    return models.Round(
        id=row.id,
        batch=batch.id,
        dispute=row.dispute,
        number=row.number or 1,
        previous=row.previous,
        fresh=row.fresh,
        phase=ROUND_PHASES[round_phase(row, seen.deployment.parameters, seen.now, seen.randomness)],
        subject=row.subject,
        max_units=batch.count if row.dispute is None else 1,
        size=row.size,
        draw_point=row.draw_point,
        draw_status=(
            POINT_STATUSES[seen.randomness(row.draw_point)] if row.drawn_at is None else None
        ),
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
        convicted=row.convicted,
        penalty=_tokens(row.penalty),
        fee=_tokens(row.fee),
    )


def _dispute(seen: Snapshot, row: DisputeRow) -> dict[str, Any]:
    parameters = seen.deployment.parameters
    return {
        "id": row.id,
        "batch": row.batch,
        "phase": DISPUTE_PHASES[dispute_phase(row, parameters, seen.now)],
        "kind": KINDS[row.kind],
        "challenger": row.challenger,
        "trace": row.trace,
        "attestation": row.attestation,
        "standing": STANDINGS[row.standing],
        "final": row.last,
        "decided_at": row.decided_at,
        "jury": row.jury,
        "jury_count": row.juries,
        "appeal_count": row.appeals,
        "next_appeal_bond": str(row.bond << row.juries),
        "at_stake": str(row.at_stake),
        "vote": row.vote,
        "rival_vote": row.rival_vote,
        "standing_vote": row.standing_vote,
        "opened_at": row.opened_at,
        "closed_at": row.closed_at,
        "slashed": _tokens(row.slashed),
        "jurors_paid": _tokens(row.jurors_paid),
        "challenger_paid": _tokens(row.challenger_paid),
        "wronged_paid": _tokens(row.wronged_paid),
        "block": row.block,
        "tx_hash": row.tx_hash,
    }


def _appeal(row: AppealRow) -> models.Appeal:
    return models.Appeal(
        number=row.number,
        appellant=row.appellant,
        against=STANDINGS[row.against],
        bond=str(row.bond),
        appealed_at=row.appealed_at,
    )


def _opening(seen: Snapshot, row: OpeningRow) -> models.Opening:
    parameters = seen.deployment.parameters
    return models.Opening(
        status=OPENING_STATUSES[opening_status(row, parameters, seen.now)],
        first=row.first,
        size=row.size,
        hash=row.hash,
        deadline=row.moved_at + parameters.opening_window,
        moves=row.moves,
        fault=_FAULTS[row.fault],
    )


def _past(row: AttestationRow) -> models.PastAttestation:
    said = _attestation(row)
    assert said is not None
    return models.PastAttestation(
        number=row.number,
        round=row.round,
        attestation=said,
        attested_at=row.attested_at,
        overturned_at=row.overturned_at,
        dispute=row.dispute,
        prover=row.prover,
        fault=None if row.fault is None else _FAULTS[row.fault],
        slashed=_tokens(row.slashed),
        prover_paid=_tokens(row.prover_paid),
        wronged_paid=_tokens(row.wronged_paid),
    )


def _attestation(row: BatchRow | SeatRow | AttestationRow) -> models.Attestation | None:
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
