"""The verifier's dilemma: what a member earns by signing the miner's claims unchecked.

Exact expected values, over every lot, of one batch among lazy and honest verifiers, one seat each.
A lazy member saves the cost of checking. Where the claims are true nobody can tell; in an audit
(a planted batch with a false claim, see IAudits) its vote differs from an honest one:

- a minority of lazy members is out of line: each loses the smaller of the late and the
  incoherence penalty (who sees the others' reveals first may rather not reveal), and its fee;
- a lazy majority attests the lie; the planter disputes it, the jury looks, the signers lose the
  fraud penalty (only what surely lies behind the seat), and a fresh committee is drawn;
- after the last round the batch is void: honest members have worked for nothing;
- where too few verifiers are left for a jury, the lie stands and the honest are out of line.

benchmarks/audits draws the same by lot and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.lots import chance, quorum


@dataclass(frozen=True, slots=True)
class Dilemma:
    """Money in any one unit. check_cost: of the whole batch. fees: of the whole batch.
    juror_gain: a juror's fee less what looking at one trace costs it."""

    committee: int
    rounds: int
    fees: float
    check_cost: float
    juror_gain: float
    late: float
    incoherence: float
    fraud: float

    @property
    def out_of_line(self) -> float:
        """What a lazy member in a minority loses besides its fee."""
        return min(self.late, self.incoherence)


@dataclass(frozen=True, slots=True)
class Profit:
    """Expected profit for each seat of a first committee: batch totals of a kind of verifier,
    by its share of all first seats."""

    lazy: float
    honest: float

    @property
    def advantage(self) -> float:
        """Of being lazy."""
        return self.lazy - self.honest


def ordinary(dilemma: Dilemma) -> Profit:
    """A batch whose claims are true."""
    share = dilemma.fees / dilemma.committee
    return Profit(lazy=share, honest=share - dilemma.check_cost)


def audited(dilemma: Dilemma, seats: int, lazy: int) -> Profit:
    """A planted batch, with `lazy` of `seats` verifiers."""
    if not 0 < lazy < seats or dilemma.committee > seats:
        raise InvalidValue(f"{lazy} lazy of {seats} verifiers", fix="there must be both kinds")
    totals = _audit(dilemma, lazy, seats - lazy, ())
    first = dilemma.committee / seats
    return Profit(lazy=totals[0] / (lazy * first), honest=totals[1] / ((seats - lazy) * first))


def mixed(dilemma: Dilemma, seats: int, lazy: int, audit_rate: float) -> Profit:
    """Where a share `audit_rate` of the batches is planted."""
    plain, planted = ordinary(dilemma), audited(dilemma, seats, lazy)
    return Profit(
        lazy=plain.lazy + audit_rate * (planted.lazy - plain.lazy),
        honest=plain.honest + audit_rate * (planted.honest - plain.honest),
    )


def break_even_rate(dilemma: Dilemma, seats: int, lazy: int) -> float | None:
    """The audit rate from which on laziness loses money; None where not even auditing every
    batch does it."""
    saved = ordinary(dilemma).advantage
    lost = audited(dilemma, seats, lazy).advantage
    rate = saved / (saved - lost) if saved != lost else 2.0
    return rate if 0 <= rate <= 1 else None


def break_even_scale(dilemma: Dilemma, seats: int, lazy: int, audit_rate: float) -> float | None:
    """By what all penalties (the stake behind a seat) must be multiplied for laziness to lose
    nothing and gain nothing; None where no stake does it. 0.0 where it loses without any."""
    free = _scaled(dilemma, 0.0)
    without = mixed(free, seats, lazy, audit_rate).advantage
    slope = mixed(dilemma, seats, lazy, audit_rate).advantage - without
    if without <= 0:
        return 0.0
    return without / -slope if slope < 0 else None


def _scaled(dilemma: Dilemma, factor: float) -> Dilemma:
    return Dilemma(
        committee=dilemma.committee,
        rounds=dilemma.rounds,
        fees=dilemma.fees,
        check_cost=dilemma.check_cost,
        juror_gain=dilemma.juror_gain,
        late=dilemma.late * factor,
        incoherence=dilemma.incoherence * factor,
        fraud=dilemma.fraud * factor,
    )


@lru_cache(maxsize=4096)
def _audit(
    dilemma: Dilemma, lazy: int, honest: int, earlier: tuple[int, ...]
) -> tuple[float, float]:
    """Expected totals of all lazy and all honest verifiers from here on.

    lazy, honest: those who have not sat. earlier: honest members of each fallen round; they are
    paid at the end.
    """
    size = dilemma.committee
    unpaid = sum(earlier)
    if len(earlier) == dilemma.rounds or lazy + honest < size:
        return 0.0, 0.0  # void: nobody is paid, nobody else is punished
    lazies = honests = 0.0
    for liars in range(max(0, size - honest), min(size, lazy) + 1):
        likely = chance(lazy, lazy + honest, size, liars)
        true = size - liars
        checked = -true * dilemma.check_cost
        share = dilemma.fees / (unpaid + size)
        free = lazy + honest - size
        jurors = min(2 * size + 1, free)
        if liars < quorum(size):
            lazies += likely * -liars * dilemma.out_of_line
            honests += likely * (checked + (unpaid + true) * share)
        elif jurors < quorum(2 * size + 1):
            lazies += likely * liars * share
            honests += likely * (checked - (unpaid + true) * dilemma.incoherence)
        else:
            later = _audit(dilemma, lazy - liars, honest - true, (*earlier, true))
            paid = jurors * dilemma.juror_gain / free
            lazies += likely * (-liars * dilemma.fraud + (lazy - liars) * paid + later[0])
            honests += likely * (checked + (honest - true) * paid + later[1])
    return lazies, honests
