"""Stake, the lot and the rounds of the reference model (IVerifierStake, IRounds)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from eth_abi.abi import encode
from eth_utils.crypto import keccak
from reference_money import (
    BPS,
    OUTCOMES,
    SOUND,
    UNAVAILABLE,
    Attestation,
    Needs,
    Part,
    Refused,
    abi_hash,
    need,
)

if TYPE_CHECKING:
    from reference import Reference

MOST_DRAWS = 16
"""Due draws that whoever changes stake or seats makes for others at most."""
_COMMITTED = ("uint256", "address", "uint64", "bytes32", "address")
_COMMITTED += ("bytes32", "uint32", "uint32", "bytes32")

NONE, AWAITING, DRAWABLE, STALLED, COMMITTING, REVEALING, CLOSED = range(7)
"""Round phases."""
DRAWN, COMMITTED, REVEALED = 1, 2, 3
"""Seat states."""


@dataclass
class Verifier:
    leaf: int
    stake: int = 0
    unbonding: int = 0
    claimable_at: int = 0
    open_seats: int = 0


@dataclass
class Stake(Part):
    """verifiers: in the order of their leaves, that of their first stake."""

    world: Reference
    verifiers: dict[str, Verifier] = field(default_factory=dict)

    def seats(self, who: str) -> int:
        """All seats, open or free: the weight in the lot of juries."""
        one = self.verifiers.get(who)
        return 0 if one is None else one.stake // self.world.rules.seat_stake

    def weight(self, who: str) -> int:
        """Free seats: the weight in the lot of committees. A juror's fine may uncover open ones."""
        one = self.verifiers.get(who)
        return 0 if one is None else max(0, self.seats(who) - one.open_seats)

    @property
    def total(self) -> int:
        return sum(self.weight(who) for who in self.verifiers)

    @property
    def eligible(self) -> int:
        return sum(self.weight(who) > 0 for who in self.verifiers)

    @property
    def stakers(self) -> int:
        return sum(self.seats(who) > 0 for who in self.verifiers)

    def stake(self, who: str, amount: int) -> None:
        check, rules = Needs(), self.world.rules
        before = self.verifiers[who].stake if who in self.verifiers else 0
        check(amount > 0, "VerifierStake_ZeroAmount")
        check(before + amount >= rules.seat_stake, "VerifierStake_BelowSeatStake")
        self.world.rounds.settle_draws(check)
        check.settle()
        self.world.ledger.collect("stake", who, amount)
        self.verifiers.setdefault(who, Verifier(len(self.verifiers) + 1)).stake += amount

    def request_unstake(self, who: str, amount: int) -> None:
        check = Needs()
        check(amount > 0, "VerifierStake_ZeroAmount")
        self.world.rounds.settle_draws(check)
        one = self.verifiers.get(who)
        free = self._behind_no_seat(one) if one else 0
        check(amount <= free, "VerifierStake_InsufficientFreeStake")
        check.settle()
        assert one is not None
        one.stake -= amount
        one.unbonding += amount
        one.claimable_at = self.world.now.time + self.world.rules.unbonding_delay

    def claim(self, who: str) -> None:
        one = self.verifiers.get(who)
        need(one and one.unbonding, "VerifierStake_NothingUnbonding")
        assert one is not None
        need(self.world.now.time >= one.claimable_at, "VerifierStake_StillUnbonding")
        self.world.ledger.credit("stake", who, one.unbonding)
        one.unbonding = 0

    def draw(
        self, value: bytes, size: int, least: int, excluded: set[str], jury: bool
    ) -> list[str]:
        """Members by weight without replacement; none where there are fewer than `least`. Jurors
        lock no seat."""
        weight = self.seats if jury else self.weight
        lot = {who: weight(who) for who in self.verifiers if who not in excluded}
        lot = {who: weight for who, weight in lot.items() if weight}
        members: list[str] = []
        if len(lot) < least:
            return members
        for number in range(min(size, len(lot))):
            fraction = int.from_bytes(keccak(encode(("bytes32", "uint256"), (value, number)))[:28])
            ticket = fraction * sum(lot.values()) >> 224
            ends = zip(accumulate(lot.values()), lot, strict=True)
            members.append(next(who for end, who in ends if ticket < end))
            del lot[members[-1]]
        for who in members:
            self.verifiers[who].open_seats += not jury
        return members

    def close_seat(self, who: str, penalty: int, jury: bool) -> int:
        """What was taken: from stake that covers no other seat, then from what is unbonding, then
        a juror's from the rest of its stake."""
        one = self.verifiers[who]
        one.open_seats -= not jury
        free = min(penalty, self._behind_no_seat(one))
        unbonding = min(penalty - free, one.unbonding)
        covering = min(penalty - free - unbonding, one.stake - free) if jury else 0
        one.stake -= free + covering
        one.unbonding -= unbonding
        self.world.ledger.shift("stake", "court", free + unbonding + covering)
        return free + unbonding + covering

    def _behind_no_seat(self, one: Verifier) -> int:
        return max(0, one.stake - one.open_seats * self.world.rules.seat_stake)


@dataclass
class Seat:
    member: str
    commitment: bytes | None = None
    vote: Attestation | None = None

    @property
    def state(self) -> int:
        return REVEALED if self.vote else COMMITTED if self.commitment else DRAWN


@dataclass
class Round:
    subject: bytes
    size: int
    max_units: int
    opened_at: int
    point: int
    jury: bool
    fresh: bool
    previous: int
    drawn_at: int = 0
    all_committed_at: int = 0
    judged: bool = False
    convicted: Attestation | None = None
    seats: list[Seat] = field(default_factory=list)

    @property
    def committed(self) -> int:
        return sum(seat.commitment is not None for seat in self.seats)

    @property
    def votes(self) -> Counter[Attestation]:
        return Counter(seat.vote for seat in self.seats if seat.vote)

    @property
    def revealed(self) -> int:
        return self.votes.total()

    @property
    def leader(self) -> tuple[Attestation | None, int]:
        """The vote with most seats (the first of equals) and how many."""
        return next(iter(self.votes.most_common(1)), (None, 0))

    @property
    def quorum(self) -> int:
        return len(self.seats) // 2 + 1

    @property
    def payable(self) -> int:
        return sum(seat.vote is None or seat.vote != self.convicted for seat in self.seats)


@dataclass
class Rounds(Part):
    """queue: rounds whose draw is still to come, as they were scheduled."""

    world: Reference
    rounds: list[Round] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)

    def __getitem__(self, number: int) -> Round:
        return self.rounds[number - 1]

    def open(
        self, subject: bytes, size: int, max_units: int, previous: int, fresh: bool, jury: bool
    ) -> int:
        world = self.world
        self.rounds.append(
            Round(
                subject, size, max_units, world.now.time, world.next_point(), jury, fresh, previous
            )
        )
        self.queue.append(len(self.rounds))
        return len(self.rounds)

    def chain(self, newest: int) -> list[int]:
        """A round and those before it, the newest first."""
        found = []
        while newest:
            found.append(newest)
            newest = self[newest].previous
        return found

    def phase(self, number: int) -> int:
        if not 1 <= number <= len(self.rounds):
            return NONE
        one, now, rules = self[number], self.world.now.time, self.world.rules
        if not one.drawn_at:
            if one.judged:
                return CLOSED
            if self._stalled(one):
                return STALLED
            return AWAITING if self.world.randomness(one.point) == "pending" else DRAWABLE
        start = one.all_committed_at
        if not start:
            start = one.drawn_at + rules.commit_window
            if now <= start:
                return COMMITTING
        if one.revealed == one.committed or now > start + rules.reveal_window:
            return CLOSED
        return REVEALING

    def ends_at(self, number: int) -> int:
        rules = self.world.rules
        return self[number].drawn_at + rules.commit_window + rules.reveal_window

    # --- draws -----------------------------------------------------------------------

    @property
    def next_draw(self) -> int:
        """Of two with one point, the one that was scheduled first."""
        return min(self.queue, key=lambda number: self[number].point, default=0)

    def _handle_next(self) -> int:
        """Makes, schedules again or leaves out the next draw; zero where it is not due."""
        number = self.next_draw
        if not number:
            return 0
        one = self[number]
        if one.judged or self._stalled(one):
            self.queue.remove(number)
            return number
        status = self.world.randomness(one.point)
        if status == "pending":
            return 0
        self.queue.remove(number)
        if status == "missed" or not self._draw(number, one):
            one.point = self.world.next_point()
            self.queue.append(number)
        return number

    def _draw(self, number: int, one: Round) -> bool:
        value = abi_hash(
            ("bytes32", "uint64", "bytes32"),
            self.world.random_value(one.point),
            number,
            one.subject,
        )
        sat = {seat.member for other in self.chain(one.previous) for seat in self[other].seats}
        least = one.size // 2 + 1 if one.jury else self.world.rules.committee_size
        sat = sat if one.fresh else set()
        members = self.world.stake.draw(value, one.size, least, sat, one.jury)
        if members:
            one.drawn_at = self.world.now.time
            one.seats = [Seat(member) for member in members]
        return bool(members)

    def draw(self, number: int) -> None:
        need(self.phase(number) == DRAWABLE, "Rounds_WrongPhase")
        while self._handle_next() != number:
            pass

    def draw_due(self, most: int) -> None:
        for _ in range(most):
            if not self._handle_next():
                break

    def settle_draws(self, check: Needs | None = None) -> None:
        for _ in range(MOST_DRAWS):
            if not self._handle_next():
                break
        head = self.next_draw
        waits = head and not self._stalled(self[head])
        clear = not head or (waits and self.world.randomness(self[head].point) == "pending")
        if check is not None:
            check(clear, "Rounds_DrawDue")
        else:
            need(clear, "Rounds_DrawDue")

    # --- votes -----------------------------------------------------------------------

    def _seat(self, number: int, phase: int, seat: int, who: str, state: int) -> Seat:
        check = Needs()
        check(self.phase(number) == phase, "Rounds_WrongPhase")
        seats = self[number].seats if 1 <= number <= len(self.rounds) else []
        own = seat < len(seats) and seats[seat].member == who
        check(own, "Rounds_NotYourSeat")
        if own:
            check(seats[seat].state == state, "Rounds_WrongSeatState")
        check.settle()
        return seats[seat]

    def commit(self, who: str, number: int, seat: int, commitment: bytes) -> None:
        place = self._seat(number, COMMITTING, seat, who, DRAWN)
        cleared = commitment[:-1] + bytes([commitment[-1] & 0xFE])
        need(any(cleared), "Rounds_ZeroCommitment")
        place.commitment = cleared
        one = self[number]
        if one.committed == len(one.seats):
            one.all_committed_at = self.world.now.time

    def commitment(self, number: int, who: str, vote: Attestation, salt: bytes) -> bytes:
        return abi_hash(
            _COMMITTED,
            self.world.chain_id,
            self.world.addresses["rounds"],
            number,
            self[number].subject,
            who,
            *vote,
            salt,
        )

    def reveal(self, who: str, number: int, seat: int, vote: Attestation, salt: bytes) -> None:
        place = self._seat(number, REVEALING, seat, who, COMMITTED)
        one, check = self[number], Needs()
        opened = self.commitment(number, who, vote, salt)
        same = place.commitment == opened[:-1] + bytes([opened[-1] & 0xFE])
        check(same, "Rounds_CommitmentMismatch")
        most = 0 if vote.root in OUTCOMES else one.max_units
        check(vote.units + vote.faults <= most, "Rounds_SumsTooLarge")
        check(one.jury or vote.root != SOUND.root, "Rounds_NotAVerdict")
        check.settle()
        place.vote = vote

    # --- judgement -------------------------------------------------------------------

    def convict(self, number: int, vote: Attestation, guilty: bool) -> int:
        """Takes the fraud penalty, or where not `guilty` the absence penalty, of all that revealed
        `vote`; what was taken."""
        one = self[number]
        if one.judged or one.convicted:
            raise Refused({"Rounds_AlreadyJudged"})
        self.settle_draws()
        one.convicted = vote
        share = self.world.rules.fraud_bps if guilty else self.world.rules.absence_bps
        penalty = self.world.rules.seat_stake * share // BPS
        signers = [seat.member for seat in one.seats if seat.vote == vote]
        return sum(self.world.stake.close_seat(member, penalty, False) for member in signers)

    def judge(self, number: int, final: Attestation | None) -> list[str]:
        """Closes the other seats against the final vote; the coherent members, by seat."""
        one = self[number]
        if one.judged:
            raise Refused({"Rounds_AlreadyJudged"})
        self.settle_draws()
        one.judged = True
        coherent = []
        for seat in one.seats:
            if seat.vote and seat.vote == one.convicted:
                continue
            self.world.stake.close_seat(seat.member, self._penalty(seat, final), one.jury)
            if seat.vote and seat.vote == final:
                coherent.append(seat.member)
        return coherent

    def _penalty(self, seat: Seat, final: Attestation | None) -> int:
        rules = self.world.rules
        if seat.commitment is None:
            bps = rules.absence_bps
        elif seat.vote is None:
            bps = rules.late_bps
        elif seat.vote == final or final is None or final == UNAVAILABLE:
            bps = 0
        elif seat.vote == UNAVAILABLE:
            bps = rules.absence_bps
        else:
            bps = rules.incoherence_bps
        return rules.seat_stake * bps // BPS

    def _stalled(self, one: Round) -> bool:
        return self.world.now.time > one.opened_at + self.world.rules.draw_timeout
