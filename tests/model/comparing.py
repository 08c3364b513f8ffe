"""What the chain must show for a state of the reference model, read by read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from driven_chain import Call, DrivenChain
from reference import Reference
from reference_court import CLOSED, Dispute
from reference_lot import Round
from reference_money import Attestation

ZERO = bytes(32)
NOTHING = Attestation(ZERO, 0, 0)


def _vote(attestation: Attestation | None) -> bytes:
    return attestation.vote if attestation else ZERO


def expectations(model: Reference, accounts: Sequence[str]) -> Iterator[tuple[Call, Any]]:
    """A view and what it must return, for everything that the two have in common."""
    yield from _money(model, accounts)
    yield from _stake(model, accounts)
    for number, one in enumerate(model.rounds.rounds, 1):
        yield from _round(model, number, one)
    for number in range(1, len(model.market.batches) + 2):
        yield ("market", "phaseOf", [number]), model.market.phase(number)
    for number, batch in enumerate(model.market.batches, 1):
        yield (
            ("market", "get", [number]),
            (
                batch.miner,
                batch.bounty,
                batch.count,
                batch.root,
                model.market.bond(model.escrow.get(batch.bounty).terms, batch.count),
                batch.round,
                batch.attested_at,
                batch.rounds,
                batch.closed,
                batch.first_task,
                tuple(batch.attestation or NOTHING),
                batch.disputes,
                batch.overturned,
            ),
        )
        rounds = tuple(reversed(model.rounds.chain(batch.round)))
        yield ("market", "roundsOf", [number]), rounds
    for number, dispute in enumerate(model.court.disputes, 1):
        yield from _dispute(model, number, dispute)


def _money(model: Reference, accounts: Sequence[str]) -> Iterator[tuple[Call, Any]]:
    ledger = model.ledger
    for who in accounts:
        yield ("ledger", "balanceOf", [who]), ledger.balances.get(who, 0)
    for module, held in ledger.held.items():
        yield ("ledger", "heldFor", [model.addresses[module]]), held
    yield ("token", "balanceOf", [model.addresses["ledger"]]), ledger.tracked
    yield ("court", "pool", []), model.court.pool
    for number, bounty in enumerate(model.escrow.bounties, 1):
        terms = bounty.terms._replace(trainer=bounty.terms.trainer or "0x" + "00" * 20)
        yield (
            ("escrow", "get", [number]),
            (bounty.poster, bounty.available, bounty.reserved, tuple(terms)),
        )
    for (bounty_id, miner), entry in model.assignments.of.items():
        yield (
            ("assignments", "get", [bounty_id, miner]),
            (entry.seed, entry.point, entry.next_task),
        )


def _stake(model: Reference, accounts: Sequence[str]) -> Iterator[tuple[Call, Any]]:
    stake = model.stake
    for who in accounts:
        one = stake.verifiers.get(who)
        fields = (
            (one.stake, one.unbonding, one.claimable_at, one.open_seats, one.leaf) if one else ()
        )
        yield ("stake", "get", [who]), fields or (0, 0, 0, 0, 0)
        if one:
            yield ("stake", "weightOf", [who]), stake.weight(who)
    yield ("stake", "totalWeight", []), stake.total
    yield ("stake", "eligible", []), stake.eligible
    yield ("stake", "stakers", []), stake.stakers
    yield ("rounds", "nextDraw", []), model.rounds.next_draw
    yield ("rounds", "count", []), len(model.rounds.rounds)
    yield ("market", "count", []), len(model.market.batches)
    yield ("court", "count", []), len(model.court.disputes)
    yield ("escrow", "count", []), len(model.escrow.bounties)


def _round(model: Reference, number: int, one: Round) -> Iterator[tuple[Call, Any]]:
    yield ("rounds", "phaseOf", [number]), model.rounds.phase(number)
    yield (
        ("rounds", "get", [number]),
        (
            one.subject,
            one.point,
            one.opened_at,
            one.drawn_at,
            one.all_committed_at,
            one.max_units,
            one.size,
            len(one.seats),
            one.committed,
            one.revealed,
            one.judged,
            one.jury,
            one.fresh,
            one.previous,
        ),
    )
    if one.judged:
        return
    leader, votes = one.leader
    yield ("rounds", "leaderOf", [number]), (_vote(leader), votes)
    yield ("rounds", "payableSeats", [number]), one.payable
    for place, seat in enumerate(one.seats):
        shown = seat.vote.vote if seat.vote else seat.commitment or ZERO
        yield ("rounds", "seatOf", [number, place]), (seat.member, seat.state, shown)


def _dispute(model: Reference, number: int, one: Dispute) -> Iterator[tuple[Call, Any]]:
    court = model.court
    yield ("court", "phaseOf", [number]), court.phase(number)
    yield (
        ("court", "get", [number]),
        (
            one.challenger,
            one.batch,
            one.index,
            one.jury,
            one.bond,
            one.decided_at,
            one.juries,
            one.kind,
            one.standing,
            one.last,
            one.closed,
            one.attestation,
            court.paid(one),
            one.miner_wronged,
            _vote(one.vote),
            _vote(one.rival),
            _vote(one.standing_vote),
        ),
    )
    appeals = tuple((appeal.appellant, appeal.against, appeal.bond) for appeal in one.appeals)
    yield ("court", "appealsOf", [number]), appeals
    if one.game and court.phase(number) != CLOSED:
        game = one.game
        yield ("openings", "statusOf", [number]), court.status(number)
        node = (game.node.sums, game.first, game.size)
        yield ("openings", "nodeOf", [number]), (node, game.deadline)


def differences(chain: DrivenChain, model: Reference, accounts: Sequence[str]) -> list[str]:
    """One line for every view that shows something else."""
    wanted = list(expectations(model, accounts))
    shown = chain.read([call for call, _ in wanted])
    return [
        f"{call[0]}.{call[1]}{tuple(call[2])}: {_difference(found, expected)}"
        for (call, expected), found in zip(wanted, shown, strict=True)
        if found != expected
    ]


def _difference(found: Any, expected: Any) -> str:
    """Field by field where there are fields."""
    if isinstance(found, tuple) and isinstance(expected, tuple) and len(found) == len(expected):
        fields = enumerate(zip(found, expected, strict=True))
        return ", ".join(f"[{i}] {_difference(a, b)}" for i, (a, b) in fields if a != b)
    shown = [one.hex() if isinstance(one, bytes) else one for one in (found, expected)]
    return f"the chain shows {shown[0]}, the model {shown[1]}"
