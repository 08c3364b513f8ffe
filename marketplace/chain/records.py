"""What reads return: frozen dataclasses in the words of the contracts.

Money is in token base units, times are seconds since the epoch, addresses are checksummed 0x
hex, hashes are 32 bytes. Enum members follow the Solidity enums by position.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol

from marketplace.chain.amounts import format_amount, parse_amount
from marketplace.protocol.disputes import Children, LeafVerdict, Subtree
from marketplace.protocol.hashing import ZERO32, abi_hash, bytes32, uint
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier
from marketplace.protocol.verdict import Attestation, SumNode

ZERO_ADDRESS: Final = "0x" + "00" * 20

_BOUNTY_TYPES: Final = (
    "address",
    *("bytes32", "address", "uint64", "uint16", "uint8", "uint8", "uint96", "uint96"),
)
"""The poster, then BountyTerms."""

_DECISION_TYPES: Final = (
    *("bytes32", "uint32", "uint8", "uint32", "bytes32", "bytes32"),
    *("uint8", "uint8", "bytes32"),
)
"""The batch's root and count, then what is told of the Dispute."""


class BatchPhase(IntEnum):
    NONE = 0
    IN_ROUND = 1
    CHALLENGEABLE = 2
    SETTLEABLE = 3
    SETTLED = 4
    VOID = 5
    DISPUTED = 6


class RoundPhase(IntEnum):
    NONE = 0
    AWAITING_RANDOMNESS = 1
    DRAWABLE = 2
    STALLED = 3
    COMMITTING = 4
    REVEALING = 5
    CLOSED = 6


class SheetPhase(IntEnum):
    """Of a batch's score sheets."""

    NONE = 0
    COMMITTING = 1
    REVEALING = 2
    CLOSED = 3


class SeatState(IntEnum):
    NONE = 0
    DRAWN = 1
    COMMITTED = 2
    REVEALED = 3


class RandomnessStatus(IntEnum):
    PENDING = 0
    READY = 1
    MISSED = 2
    AWAITED = 3
    """may be public, but is not on chain yet: somebody must deliver it"""


class DisputePhase(IntEnum):
    NONE = 0
    OPENING = 1
    IN_JURY = 2
    APPEALABLE = 3
    DECIDED = 4
    CLOSED = 5


class Kind(IntEnum):
    """What a dispute is about."""

    LEAF = 0
    """one verdict, named with its proof"""
    OPENING = 1
    """one verdict, opened move by move because its tree was withheld"""
    MALFORMED = 2
    """the outcome "malformed" """
    UNAVAILABLE = 3
    """the outcome "unavailable" """
    CONFLICT = 4
    """two votes of a round without a quorum"""


class Standing(IntEnum):
    """What the last deciding jury of a dispute made of the attestation."""

    NONE = 0
    STANDS = 1
    FALLS = 2
    UNAVAILABLE = 3
    """the content can't be had: nobody is proven wrong"""
    RIVAL = 4
    """in a conflict: the second vote stands"""


class OpeningStatus(IntEnum):
    NONE = 0
    ASKED = 1
    ANSWERED = 2
    OPENED = 3
    REFUSED = 4
    """nobody answered in time, or a fault showed"""
    ABANDONED = 5
    """the challenger did not go on in time"""


class ContentAddress(Protocol):
    """A CIDv1 as the contracts hold it; storage.Cid is one."""

    @property
    def digest(self) -> bytes: ...

    @property
    def codec(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ContentId:
    """sha2-256 digest (32 bytes) and codec (0x55 raw, 0x70 dag-pb) of a CIDv1."""

    digest: bytes
    codec: int

    def __post_init__(self) -> None:
        bytes32(self.digest, "content digest")
        uint(self.codec, 8, "content codec")


@dataclass(frozen=True, slots=True)
class Token:
    """The stablecoin.

    name: also that of its EIP-712 domain. permit_version: the version of that domain where the
    token knows EIP-2612, else None.
    """

    address: str
    name: str
    symbol: str
    decimals: int
    permit_version: str | None

    def parse(self, text: str) -> int:
        """Base units of a human amount; see amounts.parse_amount."""
        return parse_amount(text, self.decimals)

    def format(self, units: int) -> str:
        """ "1.50 USDC" of 1_500_000."""
        return format_amount(units, self.decimals, self.symbol)


@dataclass(frozen=True, slots=True)
class BountyTerms:
    """What a poster buys and for how much; fixed for the life of a bounty.

    environment: sha2-256 digest of the spec (32 bytes). trainer: whose checkpoints count as the
    policy; None under Tier.C. deadline: last second for commits. price_per_unit and
    fee_per_trace: base units.
    """

    environment: bytes
    trainer: str | None
    deadline: int
    group_size: int
    tier: Tier
    pay_rule: PayRule
    price_per_unit: int
    fee_per_trace: int

    def __post_init__(self) -> None:
        bytes32(self.environment, "environment")
        uint(self.deadline, 64, "deadline")
        uint(self.group_size, 16, "group size")
        uint(self.price_per_unit, 96, "price per unit")
        uint(self.fee_per_trace, 96, "fee per trace")

    @property
    def fields(self) -> tuple[Any, ...]:
        """As the contract's struct has them."""
        return (
            self.environment,
            self.trainer or ZERO_ADDRESS,
            self.deadline,
            self.group_size,
            int(self.tier),
            int(self.pay_rule),
            self.price_per_unit,
            self.fee_per_trace,
        )


@dataclass(frozen=True, slots=True)
class Bounty:
    """available: free for new batches; reserved: the worst case of pending ones."""

    id: int
    poster: str
    available: int
    reserved: int
    terms: BountyTerms

    @property
    def identity(self) -> bytes:
        """What BountyEscrow.identityOf answers: who funds it names the poster and the terms, as a
        number may be another bounty's after a reorg."""
        return abi_hash(_BOUNTY_TYPES, (self.poster, *self.terms.fields))


@dataclass(frozen=True, slots=True)
class Assignment:
    """A miner's enrolment in a bounty. seed: None until it is opened; point: the moment of the
    randomness it waits for; next_task: the first task index of its next batch."""

    bounty: int
    miner: str
    seed: bytes | None
    point: int
    next_task: int


@dataclass(frozen=True, slots=True)
class Batch:
    """attestation and attested_at: None until a round agrees, and again once it was overturned.
    round: its current round; rounds: how many it has had. root: Merkle root of its trace leaves.
    disputes: open ones. overturned: attestations that the court took back."""

    id: int
    phase: BatchPhase
    miner: str
    bounty: int
    count: int
    root: bytes
    bond: int
    round: int
    rounds: int
    first_task: int
    attested_at: int | None
    attestation: Attestation | None
    disputes: int = 0
    overturned: int = 0

    @property
    def identity(self) -> bytes:
        """The batch and what it is attested to be, which a bond against that names (ICourt): its
        number may be another batch's after a reorg. The root holds bounty, miner and content."""
        said = self.attestation or Attestation(ZERO32, 0, 0)
        fields = (self.root, self.count, said.root, said.units, said.faults)
        return abi_hash(("bytes32", "uint32", "bytes32", "uint32", "uint32"), fields)


@dataclass(frozen=True, slots=True)
class Round:
    """size: seats wanted; seats: seats drawn (0 before the draw). drawn_at, all_committed_at:
    None until then. jury: the court opened it. fresh: nobody may sit who sat in `previous` or
    before it. previous: the round before it in the same case; None for the first."""

    id: int
    phase: RoundPhase
    subject: bytes
    draw_point: int
    opened_at: int
    drawn_at: int | None
    all_committed_at: int | None
    max_units: int
    size: int
    seats: int
    committed: int
    revealed: int
    judged: bool
    jury: bool = False
    fresh: bool = False
    previous: int | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """vote: the commitment as stored (commitments.stored), and once revealed the vote for the
    attestation (commitments.vote); None before both."""

    round: int
    index: int
    verifier: str
    state: SeatState
    vote: bytes | None


@dataclass(frozen=True, slots=True)
class Verifier:
    """stake excludes what is unbonding. free_seats: its weight in the draw. claimable_at: None
    where nothing is unbonding."""

    address: str
    stake: int
    unbonding: int
    claimable_at: int | None
    open_seats: int
    free_seats: int


@dataclass(frozen=True, slots=True)
class Announced:
    """A member's reveal: what it attested, and where it says its verdict file is."""

    round: int
    seat: int
    verifier: str
    attestation: Attestation
    content: ContentId


@dataclass(frozen=True, slots=True)
class Dispute:
    """jury: the newest jury's round; None before the first. bond: of the challenger; each appeal
    doubles the one before. last: the decision is final. attestation: how many attestations of
    the batch had been overturned before the disputed one. paid: the disputed verdict has a unit.
    miner_wronged: the jury gives the miner more than the disputed verdict. vote, rival_vote: the
    disputed verdict or outcome as jurors vote it, and in a conflict the other one.
    standing_vote: what the last deciding jury voted."""

    id: int
    phase: DisputePhase
    kind: Kind
    standing: Standing
    challenger: str
    batch: int
    index: int
    bond: int
    jury: int | None
    juries: int
    decided_at: int | None
    last: bool
    attestation: int
    paid: bool
    miner_wronged: bool
    vote: bytes | None
    rival_vote: bytes | None
    standing_vote: bytes | None

    def decision(self, batch: Batch) -> bytes:
        """What was disputed and what the last jury said of it, which an appeal names (ICourt).
        batch: the disputed one, as it was read."""
        fields = (
            *(batch.root, batch.count, int(self.kind), self.index),
            *(self.vote or ZERO32, self.rival_vote or ZERO32),
            *(self.juries, int(self.standing), self.standing_vote or ZERO32),
        )
        return abi_hash(_DECISION_TYPES, fields)


@dataclass(frozen=True, slots=True)
class Appeal:
    """against: the decision that the appellant wants changed."""

    appellant: str
    against: Standing
    bond: int


@dataclass(frozen=True, slots=True)
class Opening:
    """The opening of a withheld tree. node: what is asked for, or whose children lie open.
    deadline: last second of the present move. children: those that lie open (ANSWERED).
    verdict: the one that was opened (OPENED)."""

    dispute: int
    status: OpeningStatus
    node: Subtree
    deadline: int
    children: Children | None
    verdict: LeafVerdict | None


@dataclass(frozen=True, slots=True)
class Audit:
    """A planted batch that was opened. missed: the committee's verdict of trace `index` is not
    the planted one."""

    batch: int
    planter: str
    index: int
    missed: bool


@dataclass(frozen=True, slots=True)
class Planting:
    root: bytes
    planter: str
    planted_at: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """parent: 0 for a base model. dataset_root: 32 zero bytes where it was trained on nothing.

    shares_root, holders: of its list of shares. pass_on_ppm: of its royalties, to the parent.
    identity: of all that and of its lineage, whatever the number (CheckpointRegistry.identityOf).
    """

    id: int
    trainer: str
    parent: int
    registered_block: int
    content: ContentId
    dataset_root: bytes
    holders: int
    pass_on_ppm: int
    shares_root: bytes
    identity: bytes


@dataclass(frozen=True, slots=True)
class CheckpointShares:
    """Who gets what is paid for a checkpoint, as it is registered. list: CID of the list's file."""

    root: bytes
    holders: int
    pass_on_ppm: int
    list: ContentAddress


@dataclass(frozen=True, slots=True)
class RoyaltySums:
    """Over the life of a checkpoint, in base units. received: paid in, or passed on by children."""

    received: int
    passed_on: int
    collected: int


@dataclass(frozen=True, slots=True)
class Collection:
    """What collects one share. index: its place in the list. proof: from the leaf up."""

    checkpoint: int
    index: int
    account: str
    share: int
    proof: tuple[SumNode, ...]
