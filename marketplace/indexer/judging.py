"""Seats closed: by the end of a batch or dispute, or early by a conviction.

The logs that close seats come before the one that says of which rounds, and one transaction may
hold several such groups: whoever closes seats last is named first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from marketplace.indexer.projecting import Rows
from marketplace.indexer.rows import ROUNDS, SEATS, VERIFIERS, RoundRow, SeatRow
from marketplace.protocol.commitments import vote
from marketplace.protocol.verdict import Attestation


def judge(
    rows: Rows, what: str, rounds: Sequence[RoundRow], final_vote: str | None, fees: int
) -> None:
    """Give each open seat of `rounds` its penalty, and the coherent ones equal shares of `fees`.

    rounds: in the order in which they were judged. final_vote: None where there was no result.
    what: the case, for messages.
    """
    seats = [
        seat
        for round in rounds
        for seat in seats_of(rows, round)
        if not seat.convicted  # closed when it was
    ]
    closed = take_closed(rows, what, seats)
    coherent = [final_vote is not None and seat.vote == final_vote for seat in seats]
    share = fees // max(1, sum(coherent))
    for round in rounds:
        rows.put(ROUNDS, replace(round, judged=True))
    for seat, agrees, penalty in zip(seats, coherent, closed, strict=True):
        fee = share if agrees else 0
        rows.put(
            SEATS,
            replace(
                seat,
                coherent=None if final_vote is None else agrees,
                penalty=penalty,
                fee=fee,
            ),
        )
        if fee:
            verifier = rows.need(VERIFIERS, seat.verifier)
            rows.put(VERIFIERS, replace(verifier, fees_earned=verifier.fees_earned + fee))


def convict(rows: Rows, round: RoundRow, fallen_vote: str) -> None:
    """Close the seats of a round that revealed what fell."""
    signers = [seat for seat in seats_of(rows, round) if seat.vote == fallen_vote]
    closed = take_closed(rows, f"the conviction in round {round.id}", signers)
    for seat, penalty in zip(signers, closed, strict=True):
        rows.put(SEATS, replace(seat, convicted=True, coherent=False, penalty=penalty, fee=0))


def take_closed(rows: Rows, what: str, seats: Sequence[SeatRow]) -> list[int]:
    """The penalties of `seats`, which the logs before this one closed in this order; ChainError
    where they closed others."""
    start = max(0, len(rows.closed_seats) - len(seats))
    closed, rows.closed_seats = rows.closed_seats[start:], rows.closed_seats[:start]
    if [seat.verifier for seat in seats] != [verifier for verifier, _ in closed]:
        raise rows.gap(f"{what} has {len(seats)} open seats, but others were closed")
    for seat, (_, penalty) in zip(seats, closed, strict=True):
        _close_seat(rows, seat, penalty)
    return [penalty for _, penalty in closed]


def _close_seat(rows: Rows, seat: SeatRow, penalty: int) -> None:
    """Take a penalty: from stake behind no open seat, then from what unbonds, and a juror's last
    from stake behind seats."""
    row = rows.need(VERIFIERS, seat.verifier)
    jury = rows.need(ROUNDS, seat.round).dispute is not None
    seats = row.open_seats - (not jury)
    stake = min(penalty, max(0, row.stake - seats * rows.parameters.seat_stake))
    unbonding = min(penalty - stake, row.unbonding)
    left = row.unbonding - unbonding
    rows.put(
        VERIFIERS,
        replace(
            row,
            stake=row.stake - (penalty - unbonding),
            unbonding=left,
            claimable_at=row.claimable_at if left else None,
            open_seats=seats,
            penalties=row.penalties + penalty,
        ),
    )


def seats_of(rows: Rows, round: RoundRow) -> list[SeatRow]:
    return [rows.need(SEATS, round.id, seat) for seat in range(round.seats)]


def vote_of(attestation: dict[str, Any]) -> str:
    """The vote for an attestation as events hold it, 0x hex."""
    root = bytes.fromhex(attestation["verdictRoot"].removeprefix("0x"))
    return "0x" + vote(Attestation(root, attestation["units"], attestation["faults"])).hex()
