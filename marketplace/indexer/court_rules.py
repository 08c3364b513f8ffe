"""Rules for disputes, juries, convictions, openings and planted batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from marketplace.chain.records import Kind, OpeningStatus, SeatState, Standing
from marketplace.indexer.events import LogEvent
from marketplace.indexer.judging import convict, judge, seats_of
from marketplace.indexer.projecting import Rows, Rulebook
from marketplace.indexer.rows import (
    APPEALS,
    ATTESTATIONS,
    AUDITS,
    BATCHES,
    DISPUTES,
    MONEY,
    OPENINGS,
    PLANTINGS,
    ROUNDS,
    AppealRow,
    AuditRow,
    DisputeRow,
    MoneyRow,
    OpeningRow,
    PlantingRow,
    RoundRow,
)

RULES: Final = Rulebook()

_NO_VOTE: Final = "0x" + "0" * 64


# --- disputes -----------------------------------------------------------------------


@RULES.on("court", "DisputeOpened")
def _dispute_opened(rows: Rows, event: LogEvent) -> None:
    args = event.args
    batch = rows.need(BATCHES, args["batch"])
    bond = args["bond"]
    if args["kind"] == Kind.CONFLICT:  # nobody's accusation: no bond, but its appeals have one
        size = rows.need(ROUNDS, batch.round).size
        bond = 2 * (2 * size + 1) * rows.parameters.juror_fee
    rows.put(
        DISPUTES,
        DisputeRow(
            id=args["dispute"],
            batch=batch.id,
            attestation=batch.overturned + 1,
            kind=args["kind"],
            challenger=args["challenger"],
            trace=args["index"],
            bond=bond,
            at_stake=args["bond"],
            block=event.block,
            tx_hash=event.tx_hash,
            opened_at=event.at,
        ),
    )
    rows.put(BATCHES, replace(batch, disputes=batch.disputes + 1))
    _bonds(rows, args["bond"])


@RULES.on("court", "VerdictDisputed")
def _verdict_disputed(rows: Rows, event: LogEvent) -> None:
    row, rival = rows.need(DISPUTES, event.args["dispute"]), event.args["rivalVote"]
    rows.put(
        DISPUTES,
        replace(
            row,
            trace=event.args["index"],
            vote=event.args["vote"],
            rival_vote=None if rival == _NO_VOTE else rival,
        ),
    )


@RULES.on("court", "JuryOpened")
def _jury_opened(rows: Rows, event: LogEvent) -> None:
    row = rows.need(DISPUTES, event.args["dispute"])
    round = rows.need(ROUNDS, event.args["round"])
    number = row.juries + 1
    previous = row.jury or rows.need(BATCHES, row.batch).round
    rows.put(
        ROUNDS,
        replace(round, dispute=row.id, number=number, previous=previous, fresh=True),
    )
    rows.put(DISPUTES, replace(row, jury=round.id, juries=number))


@RULES.on("court", "JuryDecided")
def _jury_decided(rows: Rows, event: LogEvent) -> None:
    row, vote = rows.need(DISPUTES, event.args["dispute"]), event.args["vote"]
    if row.appeals and row.jury is not None and rows.need(ROUNDS, row.jury).drawn_at is None:
        # No jury could be drawn for the appeal: it was not lost.
        appeal = rows.need(APPEALS, row.id, row.appeals)
        rows.put(APPEALS, replace(appeal, against=Standing.NONE.value))
    rows.put(
        DISPUTES,
        replace(
            row,
            standing=event.args["standing"],
            standing_vote=None if vote == _NO_VOTE else vote,
            decided_at=event.at,
            last=not _has_quorum(rows, row) or row.juries == rows.parameters.max_juries,
        ),
    )


@RULES.on("court", "Appealed")
def _appealed(rows: Rows, event: LogEvent) -> None:
    args = event.args
    row = rows.need(DISPUTES, args["dispute"])
    number = row.appeals + 1
    rows.put(
        APPEALS,
        AppealRow(
            dispute=row.id,
            number=number,
            appellant=args["appellant"],
            against=args["against"],
            bond=args["bond"],
            appealed_at=event.at,
        ),
    )
    rows.put(
        DISPUTES,
        replace(row, appeals=number, decided_at=None, at_stake=row.at_stake + args["bond"]),
    )
    _bonds(rows, args["bond"])


@RULES.on("court", "DisputeClosed")
def _dispute_closed(rows: Rows, event: LogEvent) -> None:
    args = event.args
    row = rows.need(DISPUTES, args["dispute"])
    rows.put(
        DISPUTES,
        replace(
            row,
            closed=True,
            closed_at=event.at,
            slashed=args["slashed"],
            jurors_paid=args["jurorsPaid"],
            challenger_paid=args["challengerPaid"],
            wronged_paid=args["wrongedPaid"],
        ),
    )
    batch = rows.need(BATCHES, row.batch)
    rows.put(BATCHES, replace(batch, disputes=batch.disputes - 1))
    _bonds(rows, -row.at_stake)
    juries = _juries(rows, row)
    judge(rows, f"dispute {row.id}", juries, row.standing_vote, args["jurorsPaid"])
    disputed = rows.get(ATTESTATIONS, row.batch, row.attestation)
    # Where another dispute or a proof was quicker, that one stands there already.
    if (
        row.standing in (Standing.FALLS, Standing.UNAVAILABLE)
        and row.kind != Kind.CONFLICT
        and disputed is not None
        and disputed.dispute is None
        and disputed.prover is None
    ):
        rows.put(ATTESTATIONS, replace(disputed, dispute=row.id))


@RULES.on("court", "FaultProven")
def _fault_proven(rows: Rows, event: LogEvent) -> None:
    args = event.args
    batch = rows.need(BATCHES, args["batch"])
    fallen = rows.need(ATTESTATIONS, batch.id, batch.overturned)
    rows.put(
        ATTESTATIONS,
        replace(
            fallen,
            prover=args["prover"],
            fault=args["fault"],
            prover_paid=args["proverPaid"],
            wronged_paid=args["wrongedPaid"],
        ),
    )


@RULES.on("rounds", "SignersConvicted")
def _signers_convicted(rows: Rows, event: LogEvent) -> None:
    convict(rows, rows.need(ROUNDS, event.args["round"]), event.args["vote"])


def _juries(rows: Rows, dispute: DisputeRow) -> list[RoundRow]:
    """The juries of a dispute, newest first."""
    found: list[RoundRow] = []
    id = dispute.jury
    while len(found) < dispute.juries:
        found.append(rows.need(ROUNDS, id))
        id = found[-1].previous
    return found


def _has_quorum(rows: Rows, dispute: DisputeRow) -> bool:
    """Whether the newest jury decided; without one the decision before it is the last."""
    if dispute.jury is None:
        return False
    jury = rows.need(ROUNDS, dispute.jury)
    votes = Counter(seat.vote for seat in seats_of(rows, jury) if seat.state == SeatState.REVEALED)
    return max(votes.values(), default=0) > jury.seats // 2


def _bonds(rows: Rows, change: int) -> None:
    money = rows.get(MONEY, 1) or MoneyRow()
    rows.put(MONEY, replace(money, dispute_bonds=money.dispute_bonds + change))


# --- openings -----------------------------------------------------------------------


@RULES.on("openings", "NodeAsked")
def _node_asked(rows: Rows, event: LogEvent) -> None:
    args = event.args
    before = rows.get(OPENINGS, args["dispute"])
    rows.put(
        OPENINGS,
        OpeningRow(
            dispute=args["dispute"],
            status=OpeningStatus.ASKED.value,
            first=args["first"],
            size=args["size"],
            hash=args["hash"],
            moved_at=event.at,
            moves=1 if before is None else before.moves + 1,
        ),
    )


@RULES.on("openings", "NodeAnswered")
def _node_answered(rows: Rows, event: LogEvent) -> None:
    _moved(rows, event, OpeningStatus.ANSWERED)


@RULES.on("openings", "VerdictOpened")
def _verdict_opened(rows: Rows, event: LogEvent) -> None:
    _moved(rows, event, OpeningStatus.OPENED)


def _moved(rows: Rows, event: LogEvent, status: OpeningStatus) -> None:
    row, fault = rows.need(OPENINGS, event.args["dispute"]), event.args["fault"]
    rows.put(
        OPENINGS,
        replace(
            row,
            status=(OpeningStatus.REFUSED if fault else status).value,
            fault=fault,
            # Only an answer gives the other side a time of its own.
            moved_at=row.moved_at if fault or status is OpeningStatus.OPENED else event.at,
            moves=row.moves + 1,
        ),
    )


# --- planted batches ----------------------------------------------------------------


@RULES.on("audits", "Planted")
def _planted(rows: Rows, event: LogEvent) -> None:
    args = event.args
    rows.put(
        PLANTINGS,
        PlantingRow(args["root"], args["planter"], block=event.block, planted_at=event.at),
    )


@RULES.on("audits", "AuditOpened")
def _audit_opened(rows: Rows, event: LogEvent) -> None:
    args, planted = event.args, event.args["planted"]
    rows.put(
        AUDITS,
        AuditRow(
            batch=args["batch"],
            planter=args["planter"],
            trace=args["index"],
            score=planted["score"],
            reason=planted["reason"],
            units=planted["units"],
            faults=planted["faults"],
            missed=args["missed"],
            block=event.block,
            opened_at=event.at,
        ),
    )
