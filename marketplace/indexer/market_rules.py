"""Rules for environments, bounties, batches, rounds, seats, verifiers and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from marketplace.chain.records import SeatState
from marketplace.indexer.events import LogEvent
from marketplace.indexer.judging import judge, vote_of
from marketplace.indexer.projecting import Rows, Rulebook
from marketplace.indexer.rows import (
    ASSIGNMENTS,
    ATTESTATIONS,
    BATCHES,
    BEACONS,
    BOUNTIES,
    CHECKPOINTS,
    ENVIRONMENTS,
    ROUNDS,
    SEATS,
    VERIFIERS,
    AssignmentRow,
    AttestationRow,
    BatchRow,
    BeaconRow,
    BountyRow,
    CheckpointRow,
    EnvironmentRow,
    RoundRow,
    SeatRow,
    VerifierRow,
)

RULES: Final = Rulebook()

_NOBODY: Final = "0x" + "0" * 40


@RULES.on("environments", "EnvironmentRegistered")
def _environment_registered(rows: Rows, event: LogEvent) -> None:
    rows.put(
        ENVIRONMENTS,
        EnvironmentRow(
            id=event.args["environment"],
            author=event.args["author"],
            position=event.block * 2**24 + event.log_index,
            block=event.block,
            registered_at=event.at,
        ),
    )


@RULES.on("checkpoints", "CheckpointRegistered")
def _checkpoint_registered(rows: Rows, event: LogEvent) -> None:
    args = event.args
    rows.put(
        CHECKPOINTS,
        CheckpointRow(
            id=args["checkpoint"],
            trainer=args["trainer"],
            parent=args["parent"] or None,
            content_digest=args["content"]["digest"],
            content_codec=args["content"]["codec"],
            dataset_root=args["datasetRoot"],
            identity=args["identity"],
            block=event.block,
            registered_at=event.at,
        ),
    )


# --- bounties -----------------------------------------------------------------------


@RULES.on("escrow", "BountyCreated")
def _bounty_created(rows: Rows, event: LogEvent) -> None:
    args, terms = event.args, event.args["terms"]
    rows.put(
        BOUNTIES,
        BountyRow(
            id=args["bounty"],
            poster=args["poster"],
            environment=args["environment"],
            trainer=None if terms["trainer"] == _NOBODY else terms["trainer"],
            deadline=terms["deadline"],
            group_size=terms["groupSize"],
            tier=terms["tier"],
            pay_rule=terms["payRule"],
            price_per_unit=terms["pricePerUnit"],
            fee_per_trace=terms["feePerTrace"],
            block=event.block,
            created_at=event.at,
        ),
    )


@RULES.on("escrow", "BountyFunded")
def _bounty_funded(rows: Rows, event: LogEvent) -> None:
    row, amount = rows.need(BOUNTIES, event.args["bounty"]), event.args["amount"]
    rows.put(BOUNTIES, replace(row, available=row.available + amount, funded=row.funded + amount))


@RULES.on("escrow", "BountyReserved")
def _bounty_reserved(rows: Rows, event: LogEvent) -> None:
    row, amount = rows.need(BOUNTIES, event.args["bounty"]), event.args["amount"]
    rows.put(
        BOUNTIES, replace(row, available=row.available - amount, reserved=row.reserved + amount)
    )


@RULES.on("escrow", "BountyReleased")
def _bounty_released(rows: Rows, event: LogEvent) -> None:
    row = rows.need(BOUNTIES, event.args["bounty"])
    reserved, spent = event.args["reserved"], event.args["spent"]
    rows.put(
        BOUNTIES,
        replace(
            row,
            available=row.available + reserved - spent,
            reserved=row.reserved - reserved,
            paid=row.paid + spent,
        ),
    )


@RULES.on("escrow", "BountyReplenished")
def _bounty_replenished(rows: Rows, event: LogEvent) -> None:
    row, amount = rows.need(BOUNTIES, event.args["bounty"]), event.args["amount"]
    rows.put(
        BOUNTIES,
        replace(row, available=row.available + amount, replenished=row.replenished + amount),
    )


@RULES.on("escrow", "BountyRefunded")
def _bounty_refunded(rows: Rows, event: LogEvent) -> None:
    row, amount = rows.need(BOUNTIES, event.args["bounty"]), event.args["amount"]
    rows.put(
        BOUNTIES, replace(row, available=row.available - amount, refunded=row.refunded + amount)
    )


# --- randomness and tasks -----------------------------------------------------------


@RULES.on("randomness", "BeaconDelivered")
def _beacon_delivered(rows: Rows, event: LogEvent) -> None:
    args = event.args
    rows.put(
        BEACONS,
        BeaconRow(args["round"], args["value"], args["deliverer"], event.block, event.at),
    )


@RULES.on("assignments", "AssignmentRequested")
def _assignment_requested(rows: Rows, event: LogEvent) -> None:
    args = event.args
    rows.put(ASSIGNMENTS, AssignmentRow(args["bounty"], args["miner"], args["point"], event.at))


@RULES.on("assignments", "AssignmentOpened")
def _assignment_opened(rows: Rows, event: LogEvent) -> None:
    args = event.args
    row = rows.need(ASSIGNMENTS, args["bounty"], args["miner"])
    rows.put(ASSIGNMENTS, replace(row, seed=args["seed"], opened_at=event.at))


# --- verifiers ----------------------------------------------------------------------


@RULES.on("stake", "Staked")
def _staked(rows: Rows, event: LogEvent) -> None:
    address = event.args["verifier"]
    row = rows.get(VERIFIERS, address) or VerifierRow(address, block=event.block)
    rows.put(VERIFIERS, replace(row, stake=row.stake + event.args["amount"]))


@RULES.on("stake", "UnstakeRequested")
def _unstake_requested(rows: Rows, event: LogEvent) -> None:
    row, amount = rows.need(VERIFIERS, event.args["verifier"]), event.args["amount"]
    rows.put(
        VERIFIERS,
        replace(
            row,
            stake=row.stake - amount,
            unbonding=row.unbonding + amount,
            claimable_at=event.args["claimableAt"],
        ),
    )


@RULES.on("stake", "Unstaked")
def _unstaked(rows: Rows, event: LogEvent) -> None:
    row, amount = rows.need(VERIFIERS, event.args["verifier"]), event.args["amount"]
    rows.put(
        VERIFIERS,
        replace(
            row,
            unbonding=row.unbonding - amount,
            claimable_at=None,
            withdrawn=row.withdrawn + amount,
        ),
    )


@RULES.on("stake", "SeatClosed")
def _seat_closed(rows: Rows, event: LogEvent) -> None:
    # Whether a committee's or a juror's tells the log that follows in the same call.
    rows.closed_seats.append((event.args["verifier"], event.args["penalty"]))


# --- rounds -------------------------------------------------------------------------


@RULES.on("rounds", "RoundOpened")
def _round_opened(rows: Rows, event: LogEvent) -> None:
    args = event.args
    rows.put(
        ROUNDS,
        RoundRow(
            id=args["round"],
            subject=args["subject"],
            size=args["size"],
            draw_point=args["drawPoint"],
            opened_at=event.at,
        ),
    )


@RULES.on("rounds", "DrawRescheduled")
def _draw_rescheduled(rows: Rows, event: LogEvent) -> None:
    row = rows.need(ROUNDS, event.args["round"])
    rows.put(ROUNDS, replace(row, draw_point=event.args["drawPoint"]))


@RULES.on("rounds", "RoundDrawn")
def _round_drawn(rows: Rows, event: LogEvent) -> None:
    members = event.args["members"]
    row = rows.need(ROUNDS, event.args["round"])
    rows.put(
        ROUNDS,
        replace(row, drawn_at=event.at, randomness=event.args["randomness"], seats=len(members)),
    )
    for seat, member in enumerate(members):
        rows.put(SEATS, SeatRow(row.id, seat, member, SeatState.DRAWN.value))
        verifier = rows.need(VERIFIERS, member)
        opened = verifier.open_seats + (row.dispute is None)  # jurors lock none
        rows.put(VERIFIERS, replace(verifier, open_seats=opened, seats=verifier.seats + 1))


@RULES.on("rounds", "VerdictCommitted")
def _verdict_committed(rows: Rows, event: LogEvent) -> None:
    args = event.args
    _commit(rows, event, args["seat"], args["commitment"])


@RULES.on("rounds", "VerdictsCommitted")
def _verdicts_committed(rows: Rows, event: LogEvent) -> None:
    for seat, commitment in enumerate(event.args["commitments"]):
        _commit(rows, event, seat, commitment)


def _commit(rows: Rows, event: LogEvent, place: int, commitment: str) -> None:
    row = rows.need(ROUNDS, event.args["round"])
    seat = rows.need(SEATS, row.id, place)
    rows.put(
        SEATS,
        replace(
            seat,
            state=SeatState.COMMITTED.value,
            commitment=commitment,
            committed_at=event.at,
        ),
    )
    committed = row.committed + 1
    rows.put(
        ROUNDS,
        replace(
            row,
            committed=committed,
            all_committed_at=event.at if committed == row.seats else row.all_committed_at,
        ),
    )


@RULES.on("rounds", "VerdictRevealed")
def _verdict_revealed(rows: Rows, event: LogEvent) -> None:
    _reveal(rows, event, event.args["seat"], event.args["verdicts"])


@RULES.on("rounds", "VerdictsRevealed")
def _verdicts_revealed(rows: Rows, event: LogEvent) -> None:
    places = event.args["verdicts"]
    for seat in range(rows.need(ROUNDS, event.args["round"]).seats):
        _reveal(rows, event, seat, places[seat if len(places) > 1 else 0])


def _reveal(rows: Rows, event: LogEvent, place: int, verdicts: Mapping[str, Any]) -> None:
    row = rows.need(ROUNDS, event.args["round"])
    seat = rows.need(SEATS, row.id, place)
    attestation = event.args["attestation"]
    rows.put(
        SEATS,
        replace(
            seat,
            state=SeatState.REVEALED.value,
            revealed_at=event.at,
            vote=vote_of(attestation),
            verdict_root=attestation["verdictRoot"],
            units=attestation["units"],
            faults=attestation["faults"],
            verdicts_digest=verdicts["digest"],
            verdicts_codec=verdicts["codec"],
        ),
    )
    rows.put(ROUNDS, replace(row, revealed=row.revealed + 1))


# --- batches ------------------------------------------------------------------------


@RULES.on("market", "BatchRoundOpened")
def _batch_round_opened(rows: Rows, event: LogEvent) -> None:
    id, round = event.args["batch"], rows.need(ROUNDS, event.args["round"])
    batch = rows.get(BATCHES, id)
    if batch is None:  # the first round of a batch is opened before BatchCommitted is logged
        rows.put(ROUNDS, replace(round, batch=id, number=1))
        return
    number = batch.rounds + 1
    fallen = rows.get(ATTESTATIONS, id, batch.overturned)
    rows.put(
        ROUNDS,
        replace(
            round,
            batch=id,
            number=number,
            previous=batch.round,
            # After an attestation of the round before it fell, not after a round without a quorum.
            fresh=fallen is not None and fallen.round == batch.round,
        ),
    )
    rows.put(BATCHES, replace(batch, round=round.id, rounds=number))


@RULES.on("market", "BatchCommitted")
def _batch_committed(rows: Rows, event: LogEvent) -> None:
    args = event.args
    rows.put(
        BATCHES,
        BatchRow(
            id=args["batch"],
            bounty=args["bounty"],
            miner=args["miner"],
            root=args["root"],
            count=args["count"],
            first_task=args["firstTask"],
            bond=args["bond"],
            content_digest=args["content"]["digest"],
            content_codec=args["content"]["codec"],
            round=args["round"],
            rounds=1,
            block=event.block,
            tx_hash=event.tx_hash,
            committed_at=event.at,
        ),
    )
    bounty = rows.need(BOUNTIES, args["bounty"])
    rows.put(BOUNTIES, replace(bounty, batches=bounty.batches + 1))


@RULES.on("market", "BatchAttested")
def _batch_attested(rows: Rows, event: LogEvent) -> None:
    row, attestation = rows.need(BATCHES, event.args["batch"]), event.args["attestation"]
    overturned = row.overturned
    if row.attested_at is not None:  # the court put this one in its place
        overturned += 1
        before = rows.need(ATTESTATIONS, row.id, overturned)
        rows.put(ATTESTATIONS, replace(before, overturned_at=event.at, slashed=0))
    said = {
        "attested_at": event.at,
        "verdict_root": attestation["verdictRoot"],
        "units": attestation["units"],
        "faults": attestation["faults"],
    }
    rows.put(BATCHES, replace(row, overturned=overturned, **said))
    rows.put(
        ATTESTATIONS,
        AttestationRow(batch=row.id, number=overturned + 1, round=event.args["round"], **said),
    )


@RULES.on("market", "BatchOverturned")
def _batch_overturned(rows: Rows, event: LogEvent) -> None:
    row = rows.need(BATCHES, event.args["batch"])
    number = row.overturned + 1
    rows.put(
        BATCHES,
        replace(
            row,
            attested_at=None,
            verdict_root=None,
            units=None,
            faults=None,
            overturned=number,
        ),
    )
    fallen = rows.need(ATTESTATIONS, row.id, number)
    rows.put(
        ATTESTATIONS,
        replace(fallen, overturned_at=event.at, slashed=event.args["slashed"]),
    )


@RULES.on("market", "BatchSettled")
def _batch_settled(rows: Rows, event: LogEvent) -> None:
    args = event.args
    row = rows.need(BATCHES, args["batch"])
    rows.put(
        BATCHES,
        replace(
            row,
            closed=True,
            closed_at=event.at,
            miner_paid=args["minerPaid"],
            fees_paid=args["feesPaid"],
            bond_forfeited=args["bondForfeited"],
            slashed=args["slashed"],
        ),
    )
    bounty = rows.need(BOUNTIES, row.bounty)
    rows.put(BOUNTIES, replace(bounty, paid_miners=bounty.paid_miners + args["minerPaid"]))
    final = {"verdictRoot": row.verdict_root, "units": row.units, "faults": row.faults}
    judge(rows, f"batch {row.id}", _rounds(rows, row), vote_of(final), args["feesPaid"])


@RULES.on("market", "BatchVoided")
def _batch_voided(rows: Rows, event: LogEvent) -> None:
    row = rows.need(BATCHES, event.args["batch"])
    rows.put(
        BATCHES,
        replace(row, closed=True, closed_at=event.at, slashed=event.args["slashed"]),
    )
    judge(rows, f"batch {row.id}", _rounds(rows, row), None, 0)


def _rounds(rows: Rows, batch: BatchRow) -> list[RoundRow]:
    """The rounds of a batch, newest first."""
    found = [rows.need(ROUNDS, batch.round)]
    while found[-1].previous is not None:
        found.append(rows.need(ROUNDS, found[-1].previous))
    return found
