"""What an attack costs and earns, from a deployment's parameters and from stated assumptions.

The parameters say what the contracts take and give; everything else (who holds how much stake,
how likely somebody looks, what checking costs) is an assumption, and where an attack hinges on
one, its break-even value is computed. The attacks are in marketplace.protocol.attacks.
Money in token base units; expected values are floats.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.laziness import Dilemma
from marketplace.protocol.lots import jury_sizes, quorum

BPS: Final = 10_000

GAS: Final = {"commit": 280_000, "vote": 110_000, "dispute": 1_000_000}
"""Gas of a batch's commit, of a member's commit and reveal, and of a dispute's opening, draw, tally
and close together. The first two as benchmarks/gas measured them; a dispute is rounded up from the
sizes of its calls."""


class Rules(Protocol):
    """The parameters that money depends on, as in libraries/Types.sol."""

    @property
    def committee_size(self) -> int: ...
    @property
    def max_rounds(self) -> int: ...
    @property
    def max_juries(self) -> int: ...
    @property
    def min_verifiers(self) -> int: ...
    @property
    def seat_stake(self) -> int: ...
    @property
    def absence_bps(self) -> int: ...
    @property
    def late_bps(self) -> int: ...
    @property
    def incoherence_bps(self) -> int: ...
    @property
    def fraud_bps(self) -> int: ...
    @property
    def bond_per_trace(self) -> int: ...
    @property
    def fault_multiple(self) -> int: ...
    @property
    def wrong_bps(self) -> int: ...
    @property
    def min_fee_per_trace(self) -> int: ...
    @property
    def juror_fee(self) -> int: ...
    @property
    def max_traces(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the contracts don't decide. Money in token base units, shares from 0 to 1.

    traces: of one batch. check_cost: honestly checking one trace. gas_cost: of a million gas.
    seats: verifiers with a free seat before the committee is drawn, one seat each.
    busy: of those, seats locked by other work when a jury is to be drawn.
    attacker: share of the seats that attackers hold or have bought.
    lazy: share of the seats whose holders sign claims unchecked. audits: share of planted batches.
    watch: chance that somebody re-checks an attested batch and disputes a lie in it.
    miner_watch: the same, of a miner about its own batch. serves: chance that a member that has a
    batch gives it to one that can't fetch it. believed: chance that enough jurors of the last jury
    take a promised bribe. pool: what lies in the insurance pool.
    """

    price: int
    fee: int
    traces: int
    check_cost: int
    gas_cost: int
    seats: int
    busy: int = 0
    attacker: float = 0.2
    lazy: float = 0.2
    audits: float = 0.05
    watch: float = 0.25
    miner_watch: float = 0.9
    serves: float = 0.9
    believed: float = 0.1
    pool: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in SHARES and not 0 <= value <= 1:
                raise InvalidValue(f"{field.name} is {value}, not a share from 0 to 1")
            if value < 0:
                raise InvalidValue(f"{field.name} is {value}, below zero")
        if not self.traces or not self.seats:
            raise InvalidValue("traces and seats must not be 0")


SHARES: Final = frozenset(
    {"attacker", "lazy", "audits", "watch", "miner_watch", "serves", "believed"}
)


def assumed(rules: Rules, unit: int, **given: Any) -> Assumptions:
    """Assumptions where nothing else was said; `unit`: base units of one token.

    Seats: enough for a committee and a full first jury, or what the parameters ask for if that is
    more. The batch: 1,024 traces at the README's price and fee, or as many as may be sold.
    """
    committee = rules.committee_size
    chosen: dict[str, Any] = {
        "price": unit // 100,
        "fee": max(unit // 500, rules.min_fee_per_trace),
        "check_cost": unit // 5000,
        "gas_cost": unit * 3 // 100,
        "seats": max(rules.min_verifiers, 3 * committee + 1),
        "pool": 100 * unit,
    } | given
    sellable = least_loss(rules) // max(1, chosen["price"] + chosen["fee"])
    chosen.setdefault("traces", max(1, min(1024, rules.max_traces, sellable)))
    return Assumptions(**chosen)


def least_loss(rules: Rules) -> int:
    """What a lying majority of a first committee surely loses, and the most a batch may be worth:
    ParameterRules.leastLoss."""
    each = rules.seat_stake * min(rules.fraud_bps, BPS) // BPS
    return quorum(rules.committee_size) * each


@dataclass(frozen=True, slots=True)
class Case:
    """A batch under rules and assumptions, with the sums that attacks are made of.

    InvalidValue where the market would not sell that batch.
    """

    rules: Rules
    assumptions: Assumptions

    def __post_init__(self) -> None:
        rules, given = self.rules, self.assumptions
        if given.traces > rules.max_traces:
            raise InvalidValue(f"{given.traces} traces in a batch, at most {rules.max_traces}")
        if given.fee < rules.min_fee_per_trace:
            raise InvalidValue(f"fee per trace is {given.fee}, at least {rules.min_fee_per_trace}")
        if self.value > least_loss(rules):
            raise InvalidValue(
                f"the batch is worth {self.value}, more than a lying majority loses "
                f"({least_loss(rules)})",
                fix="take fewer traces, or a lower price and fee",
            )
        if given.seats - given.busy < rules.committee_size:
            raise InvalidValue(
                f"{given.seats} seats, {given.busy} of them busy, seat no committee of "
                f"{rules.committee_size}"
            )

    @property
    def committee(self) -> int:
        return self.rules.committee_size

    @property
    def quorum(self) -> int:
        return quorum(self.committee)

    @property
    def held(self) -> int:
        """Seats of attackers."""
        return int(self.assumptions.attacker * self.assumptions.seats + 1e-9)

    @property
    def lazy(self) -> int:
        return int(self.assumptions.lazy * self.assumptions.seats + 1e-9)

    @property
    def free(self) -> int:
        """Seats that a jury can be drawn from, once the committee sits."""
        return self.assumptions.seats - self.committee - self.assumptions.busy

    @property
    def pay(self) -> int:
        """Of all units."""
        return self.assumptions.traces * self.assumptions.price

    @property
    def fees(self) -> int:
        return self.assumptions.traces * self.assumptions.fee

    @property
    def value(self) -> int:
        return self.pay + self.fees

    @property
    def share(self) -> float:
        """One seat's fee."""
        return self.fees / self.committee

    @property
    def bond(self) -> int:
        """The miner's."""
        return self.assumptions.traces * max(self.rules.bond_per_trace, self.assumptions.fee)

    @property
    def checking(self) -> int:
        """What honestly checking the batch costs a member."""
        return self.assumptions.traces * self.assumptions.check_cost

    @property
    def absence(self) -> float:
        return self.rules.seat_stake * self.rules.absence_bps / BPS

    @property
    def late(self) -> float:
        return self.rules.seat_stake * self.rules.late_bps / BPS

    @property
    def incoherence(self) -> float:
        return self.rules.seat_stake * self.rules.incoherence_bps / BPS

    @property
    def fraud(self) -> float:
        """What surely lies behind a signer's seat: free stake above it is the liar's choice."""
        return self.rules.seat_stake * min(self.rules.fraud_bps, BPS) / BPS

    @property
    def wrong(self) -> float:
        """What a miner bears of the fees of a batch without a unit."""
        return self.fees * self.rules.wrong_bps / BPS

    @property
    def faulty(self) -> float:
        """What a miner loses for a batch of nothing but faults."""
        multiple = self.rules.fault_multiple * self.rules.bond_per_trace
        return min(self.bond, self.assumptions.traces * multiple + self.wrong)

    @property
    def juries(self) -> list[int]:
        return jury_sizes(self.committee, self.rules.max_juries, self.free)

    @property
    def first_jury(self) -> int:
        """Jurors wanted for a first jury."""
        return 2 * self.committee + 1

    @property
    def jury_fees(self) -> int:
        """Of a full first jury."""
        return self.first_jury * self.rules.juror_fee

    @property
    def dispute_bond(self) -> int:
        return 2 * self.jury_fees

    def gas(self, action: str) -> float:
        return GAS[action] / 1_000_000 * self.assumptions.gas_cost

    @property
    def dilemma(self) -> Dilemma:
        return Dilemma(
            committee=self.committee,
            rounds=self.rules.max_rounds,
            fees=self.fees,
            check_cost=self.checking,
            juror_gain=self.rules.juror_fee - self.assumptions.check_cost,
            late=self.late,
            incoherence=self.incoherence,
            fraud=self.fraud,
        )
