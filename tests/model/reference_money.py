"""The ledger, the bounties and the assignments of the reference model.

Written from the interfaces' NatSpec, not from the contracts. An action either happens as a whole
or raises Refused with the names of all requirements that it violates: which of them a contract
checks first is its own affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from eth_abi.abi import encode
from eth_utils.crypto import keccak

if TYPE_CHECKING:
    from reference import Reference


BPS = 10_000
YEAR = 366 * 86_400
OPAQUE, INFORMATIVE = 2, 1


class Refused(Exception):
    """names: the custom errors that would be right."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(", ".join(sorted(names)))
        self.names = frozenset(names)


class Needs:
    """Collects violated requirements: need(holds, error); then need.settle()."""

    def __init__(self) -> None:
        self._missing: set[str] = set()

    def __call__(self, holds: object, error: str) -> None:
        if not holds:
            self._missing.add(error)

    def settle(self) -> None:
        if self._missing:
            raise Refused(self._missing)


def need(holds: object, error: str) -> None:
    """One requirement without which the others can't be asked."""
    if not holds:
        raise Refused({error})


class Part:
    """A part of the model that knows the whole, but is kept and put back without it."""

    world: Reference

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "world"}


def abi_hash(types: tuple[str, ...], *values: Any) -> bytes:
    return keccak(encode(types, values))


class Attestation(NamedTuple):
    root: bytes
    units: int
    faults: int

    @property
    def vote(self) -> bytes:
        """The hash under which it is counted; its last bit is set."""
        digest = abi_hash(("bytes32", "uint32", "uint32"), *self)
        return digest[:-1] + bytes([digest[-1] | 1])


def outcome(name: str) -> Attestation:
    return Attestation(keccak(f"tracemarket.outcome.{name}".encode()), 0, 0)


UNAVAILABLE, MALFORMED, SOUND = (outcome(name) for name in ("unavailable", "malformed", "sound"))
OUTCOMES = frozenset(one.root for one in (UNAVAILABLE, MALFORMED, SOUND))


@dataclass
class Ledger:
    """Every token is an account's balance or held for a module; wallets are outside."""

    wallets: dict[str, int] = field(default_factory=dict)
    balances: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("escrow", "stake", "market", "court"), 0)
    )

    @property
    def tracked(self) -> int:
        return sum(self.balances.values()) + sum(self.held.values())

    def deposit(self, who: str, amount: int) -> None:
        self._pay_in(who, amount)
        self.balances[who] = self.balances.get(who, 0) + amount

    def withdraw(self, who: str, to: str | None, amount: int) -> None:
        """to: None stands for zero and for the ledger itself."""
        check = Needs()
        check(to is not None, "Ledger_InvalidRecipient")
        check(self.balances.get(who, 0) >= amount, "Ledger_InsufficientBalance")
        check.settle()
        self.balances[who] = self.balances.get(who, 0) - amount
        assert to is not None
        self.wallets[to] = self.wallets.get(to, 0) + amount

    def collect(self, module: str, who: str, amount: int) -> None:
        """Balance first, tokens for the rest."""
        own = min(self.balances.get(who, 0), amount)
        self._pay_in(who, amount - own)
        self.balances[who] = self.balances.get(who, 0) - own
        self.held[module] += amount

    def credit(self, module: str, who: str, amount: int) -> None:
        assert 0 <= amount <= self.held[module], (module, amount, self.held)
        self.held[module] -= amount
        self.balances[who] = self.balances.get(who, 0) + amount

    def shift(self, module: str, to: str, amount: int) -> None:
        assert 0 <= amount <= self.held[module], (module, amount, self.held)
        self.held[module] -= amount
        self.held[to] += amount

    def _pay_in(self, who: str, amount: int) -> None:
        need(self.wallets.get(who, 0) >= amount, "ERC20InsufficientBalance")
        self.wallets[who] = self.wallets.get(who, 0) - amount


class Terms(NamedTuple):
    """As in Types.sol; trainer None is no trainer."""

    environment: bytes
    trainer: str | None
    deadline: int
    group_size: int
    tier: int
    pay_rule: int
    price: int
    fee: int


def bounty_identity(named: tuple[str, Terms] | None) -> bytes:
    """As IBountyEscrow.identityOf says; zeros for None."""
    if named is None:
        return bytes(32)
    poster, terms = named
    terms = terms._replace(trainer=terms.trainer or "0x" + "00" * 20)
    struct = "(bytes32,address,uint64,uint16,uint8,uint8,uint96,uint96)"
    return keccak(encode(["address", struct], [poster, terms]))


@dataclass
class Bounty:
    poster: str
    terms: Terms
    available: int = 0
    reserved: int = 0


@dataclass
class Escrow(Part):
    world: Reference
    bounties: list[Bounty] = field(default_factory=list)

    def get(self, bounty: int) -> Bounty:
        need(1 <= bounty <= len(self.bounties), "BountyEscrow_UnknownBounty")
        return self.bounties[bounty - 1]

    def create(self, who: str, terms: Terms, amount: int) -> None:
        check, now = Needs(), self.world.now.time
        check(terms.environment in self.world.environments, "BountyEscrow_UnknownEnvironment")
        check(terms.deadline > now, "BountyEscrow_DeadlinePassed")
        check(terms.deadline <= now + YEAR, "BountyEscrow_DeadlineTooFar")
        check(terms.price > 0, "BountyEscrow_ZeroPrice")
        least = 2 if terms.pay_rule == INFORMATIVE else 1
        check(terms.group_size >= least, "BountyEscrow_InvalidGroupSize")
        check(terms.tier == OPAQUE or terms.trainer, "BountyEscrow_TrainerMissing")
        check(amount > 0, "BountyEscrow_ZeroAmount")
        check.settle()
        self.bounties.append(Bounty(who, terms))
        number = len(self.bounties)
        self.fund(who, number, self.named(number), amount)

    def named(self, bounty: int) -> tuple[str, Terms] | None:
        """What says which bounty is meant; None of one that does not exist."""
        if not 1 <= bounty <= len(self.bounties):
            return None
        found = self.bounties[bounty - 1]
        return found.poster, found.terms

    def fund(self, who: str, bounty: int, named: tuple[str, Terms] | None, amount: int) -> None:
        entry, check = self.get(bounty), Needs()
        check(self.named(bounty) == named, "BountyEscrow_AnotherBounty")
        check(self.world.now.time <= entry.terms.deadline, "BountyEscrow_DeadlinePassed")
        check(amount > 0, "BountyEscrow_ZeroAmount")
        check.settle()
        self.world.ledger.collect("escrow", who, amount)
        entry.available += amount

    def refund(self, bounty: int) -> None:
        entry, check = self.get(bounty), Needs()
        check(self.world.now.time > entry.terms.deadline, "BountyEscrow_DeadlineNotPassed")
        check(entry.available > 0, "BountyEscrow_NothingToRefund")
        check.settle()
        self.world.ledger.credit("escrow", entry.poster, entry.available)
        entry.available = 0

    def release(self, bounty: int, reserved: int, spent: int) -> None:
        """Ends a reserve: `spent` goes to the market, the rest is available again."""
        entry = self.get(bounty)
        assert 0 <= spent <= reserved <= entry.reserved
        entry.reserved -= reserved
        entry.available += reserved - spent
        self.world.ledger.shift("escrow", "market", spent)

    def replenish(self, module: str, bounty: int, amount: int) -> None:
        self.world.ledger.shift(module, "escrow", amount)
        self.get(bounty).available += amount


@dataclass
class Assignment:
    point: int
    seed: bytes = bytes(32)
    next_task: int = 0


@dataclass
class Assignments(Part):
    world: Reference
    of: dict[tuple[int, str], Assignment] = field(default_factory=dict)

    def request(self, who: str, bounty: int) -> None:
        self.world.escrow.get(bounty)
        need((bounty, who) not in self.of, "Assignments_AlreadyRequested")
        self.of[bounty, who] = Assignment(self.world.next_point())

    def open(self, bounty: int, miner: str) -> None:
        need((bounty, miner) in self.of, "Assignments_NotRequested")
        entry, check = self.of[bounty, miner], Needs()
        status = self.world.randomness(entry.point)
        check(entry.seed == bytes(32), "Assignments_AlreadyOpen")
        check(status != "pending", "Assignments_NotReady")
        # An open seed's point may be long forgotten: only one of the two can be violated.
        check.settle()
        if status == "missed":
            entry.point = self.world.next_point()
        else:
            value = self.world.random_value(entry.point)
            entry.seed = abi_hash(("bytes32", "uint64", "address"), value, bounty, miner)

    def check(self, check: Needs, bounty: int, miner: str, first: int, seed: bytes) -> None:
        entry = self.of.get((bounty, miner))
        is_open = entry is not None and entry.seed != bytes(32)
        check(is_open, "Assignments_NotOpen")
        if entry is not None and is_open:
            check(entry.seed == seed, "Assignments_OtherSeed")
            check(entry.next_task == first, "Assignments_OtherTask")
