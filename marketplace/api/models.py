"""What the routes answer with. Descriptions here are the API's documentation."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Tokens = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+$",
        description="Token base units as a decimal string (exact; up to 2^256 - 1).",
        examples=["1500000"],
    ),
]


def _amount(meaning: str) -> Any:
    return Field(description=f"{meaning} In token base units, decimal.")


Address = Annotated[
    str,
    Field(
        pattern=r"^0x[0-9a-fA-F]{40}$",
        description="Checksummed address (EIP-55).",
        examples=["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"],
    ),
]
Hash = Annotated[
    str, Field(pattern=r"^0x[0-9a-f]{64}$", description="32 bytes, 0x hex in lower case.")
]
ContentAddress = Annotated[str, Field(description="CIDv1 in base32: where the content is.")]
Time = Annotated[int, Field(description="Seconds since the epoch, by block timestamps.")]
BlockNumber = Annotated[int, Field(ge=0, description="Block number.")]

Tier = Literal["A", "B", "C"]
PayRule = Literal["correct", "informative"]
BatchPhase = Literal["in_round", "challengeable", "disputed", "settleable", "settled", "void"]
DisputePhase = Literal["opening", "in_jury", "appealable", "decided", "closed"]
DisputeKind = Literal["leaf", "opening", "malformed", "unavailable", "conflict"]
Standing = Literal["none", "stands", "falls", "unavailable", "rival"]
OpeningStatus = Literal["asked", "answered", "opened", "refused", "abandoned"]
Fault = Literal["none", "sum", "shape", "index", "cap"]
RoundPhase = Literal[
    "awaiting_randomness", "drawable", "stalled", "committing", "revealing", "closed"
]
PointStatus = Literal["pending", "awaited", "ready", "missed"]
SeatState = Literal["drawn", "committed", "revealed"]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Item = TypeVar("Item")


class Page(Model, Generic[Item]):
    """One page of a list, in ascending order of its key."""

    items: list[Item]
    next_cursor: str | None = Field(
        description="Pass it as `cursor` for the next page; null on the last page."
    )


class Problem(Model):
    """What is wrong with a request, naming the value."""

    detail: str = Field(examples=["there is no bounty 7"])


class Health(Model):
    """How far the index has followed the chain."""

    chain_id: int
    market: Address = Field(description="Address of the market contract.")
    indexed_block: BlockNumber = Field(description="Last block whose events are in the index.")
    indexed_hash: Hash
    indexed_time: Time
    head_block: BlockNumber = Field(description="The chain's newest block when last asked.")
    lag_blocks: int = Field(ge=0, description="head_block - indexed_block.")
    checked_at: Time = Field(description="When the indexer last asked the chain; 0 for never.")
    seconds_since_check: int = Field(
        ge=0, description="By this server's clock. Large where the indexer or its node is down."
    )


class Token(Model):
    """The stablecoin of the market."""

    address: Address
    name: str
    symbol: str
    decimals: int = Field(description="A token is 10^decimals base units.")


class Parameters(Model):
    """Fixed rules of the market. Windows in seconds, shares in 1/10,000."""

    committee_size: int
    max_rounds: int
    max_juries: int
    min_verifiers: int
    draw_timeout: int
    commit_window: int
    reveal_window: int
    challenge_window: int
    appeal_window: int
    opening_window: int
    unbonding_delay: int
    seat_stake: Tokens
    absence_bps: int
    late_bps: int
    incoherence_bps: int
    fraud_bps: int
    bond_per_trace: Tokens
    fault_multiple: int
    wrong_bps: int
    min_fee_per_trace: Tokens
    juror_fee: Tokens
    max_traces: int


class Randomness(Model):
    """What decides draws and miners' tasks. The last five are null for block hashes."""

    kind: Literal["blockhash", "drand"]
    delay: int = Field(
        description="From asking to the point that counts: blocks, with drand seconds (at least)."
    )
    patience: int | None = Field(description="Seconds in which a beacon round must be delivered.")
    network: str | None = Field(description="The drand network.")
    chain_hash: Hash | None = Field(description="What drand relays call the network by.")
    genesis: Time | None = Field(description="When round 1 came.")
    period: int | None = Field(description="Seconds between rounds.")


class Money(Model):
    """Where all tokens are: tokens_in - tokens_out = balances + escrow + stake + market + court +
    royalties, and court = dispute_bonds + pool."""

    tokens_in: Tokens = _amount("All that ever came into the ledger.")
    tokens_out: Tokens = _amount("All that was withdrawn.")
    balances: Tokens = _amount("Sum of withdrawable balances.")
    escrow: Tokens = _amount("Held for bounties.")
    stake: Tokens = _amount("Held for verifiers, unbonding stake included.")
    market: Tokens = _amount("Held as bonds of batches.")
    court: Tokens = _amount("Held by the court.")
    royalties: Tokens = _amount("Paid for checkpoints and not yet collected.")
    dispute_bonds: Tokens = _amount("Bonds of open disputes and of their appeals.")
    pool: Tokens = _amount("The insurance pool: penalties that nobody was owed.")


class Market(Model):
    """The market that this index is of."""

    chain_id: int
    contracts: dict[str, Address]
    token: Token
    parameters: Parameters
    randomness: Randomness
    money: Money
    environments: int
    bounties: int
    batches: int
    rounds: int = Field(description="Juries included.")
    disputes: int
    verifiers: int
    checkpoints: int
    plantings: int = Field(description="How often somebody committed to planted batches.")
    audits: int = Field(description="Planted batches that were opened.")
    audits_missed: int = Field(description="Of these, whose committees missed the trap.")


class Environment(Model):
    id: Hash = Field(description="sha2-256 digest of the spec file.")
    cid: ContentAddress = Field(description="Where the spec is; the same digest.")
    author: Address
    block: BlockNumber
    registered_at: Time


class Bounty(Model):
    """funded + replenished = available + reserved + paid + refunded."""

    id: int
    poster: Address
    environment: Hash
    environment_cid: ContentAddress
    tier: Tier = Field(description="Provenance asked for: A replayable, B scorable, C opaque.")
    trainer: Address | None = Field(description="Whose checkpoints count; null under tier C.")
    pay_rule: PayRule
    group_size: int = Field(description="Traces of one task.")
    price_per_unit: Tokens
    fee_per_trace: Tokens = _amount("For checking, shared by the committee.")
    deadline: Time = Field(description="Last second at which a batch may be committed.")
    open: bool = Field(description="Whether the deadline lies ahead.")
    available: Tokens = _amount("Free for new batches.")
    reserved: Tokens = _amount("Worst-case cost of pending batches.")
    paid: Tokens = _amount("Went to miners and verifiers.")
    paid_miners: Tokens = _amount("The miners' part of `paid`.")
    refunded: Tokens = _amount("Went back to the poster.")
    funded: Tokens = _amount("Paid in by anybody.")
    replenished: Tokens = _amount(
        "Came in from miners' bonds, and from the court where it was wronged."
    )
    batches: int = Field(description="How many were committed.")
    block: BlockNumber
    created_at: Time


class Attestation(Model):
    """What is said of a whole batch, or by a juror of one disputed trace."""

    verdict_root: Hash = Field(
        description="Root of the Merkle-sum tree of verdicts; a juror's is its verdict's leaf."
    )
    units: int = Field(description="Payable units.")
    faults: int = Field(description="Proven lies.")
    outcome: Literal["verdicts", "unavailable", "malformed", "sound"] = Field(
        description="`unavailable` and `malformed` speak of the whole batch; with `sound` a juror "
        "says that it is neither."
    )


class Settlement(Model):
    """How a batch ended. Amounts are null where it is void, but for `slashed`."""

    closed_at: Time
    miner_paid: Tokens | None = _amount("units x price.")
    fees_paid: Tokens | None = _amount("To coherent verifiers, all of them.")
    bond_forfeited: Tokens | None = _amount("The rest went back to the miner.")
    slashed: Tokens = _amount("Penalties of verifiers.")


class Assignment(Model):
    """A miner's enrolment in a bounty."""

    bounty: int
    miner: Address
    point: int = Field(
        description="What decides its tasks: the hash of that block, or that drand round."
    )
    status: PointStatus | None = Field(
        description="Whether that is known; `awaited`: a drand round that is out and that nobody "
        "delivered yet; `missed`: opening asks for another point. Null once open."
    )
    seed: Hash | None = Field(description="Its tasks follow from it; null until it is opened.")
    requested_at: Time = Field(description="When that point was asked for.")
    opened_at: Time | None


class Batch(Model):
    id: int
    bounty: int
    miner: Address
    phase: BatchPhase
    root: Hash = Field(description="Merkle root of the trace leaves.")
    cid: ContentAddress = Field(description="Where the batch file is.")
    count: int = Field(description="Traces.")
    first_task: int = Field(description="Index of the miner's task that the first group answers.")
    bond: Tokens
    round: int = Field(description="The current or last round.")
    round_count: int
    attested_at: Time | None
    attestation: Attestation | None = Field(
        description="Null until a round agrees, and again once the court overturned it."
    )
    open_disputes: int = Field(description="Disputes that have not ended.")
    overturned: int = Field(description="Attestations that the court took back.")
    settlement: Settlement | None = Field(description="Null until the batch is settled or void.")
    block: BlockNumber
    tx_hash: Hash = Field(description="The transaction that committed it.")
    committed_at: Time


class Seat(Model):
    """One member of a committee."""

    seat: int = Field(description="Position in the round, from 0.")
    verifier: Address
    state: SeatState
    commitment: Hash | None
    committed_at: Time | None
    revealed_at: Time | None
    attestation: Attestation | None = Field(description="Null until revealed.")
    verdicts_cid: ContentAddress | None = Field(
        description="Where the member says its verdict file is; null where that is no CID."
    )
    coherent: bool | None = Field(
        description="Whether it voted as the batch or dispute ended; null before, and where that "
        "had no result."
    )
    convicted: bool = Field(description="Whether it signed an attestation that fell.")
    penalty: Tokens | None = _amount("Null until the batch or dispute ends, or a conviction.")
    fee: Tokens | None = _amount("Null until the batch or dispute ends.")


class Round(Model):
    """A committee's round on a batch, or a jury's on a dispute."""

    id: int
    batch: int
    dispute: int | None = Field(description="Null for a committee's round.")
    number: int = Field(description="1 for the first round of the batch, or jury of the dispute.")
    previous: int | None = Field(description="The round before it in the same case.")
    fresh: bool = Field(description="Whether nobody sits who sat in `previous` or before it.")
    phase: RoundPhase
    subject: Hash = Field(description="What commitments are bound to.")
    max_units: int = Field(
        description="Traces that are judged (1 for a jury): units + faults can't exceed it."
    )
    size: int = Field(description="Seats wanted.")
    draw_point: int = Field(
        description="What decides the draw: the hash of that block, or that drand round."
    )
    draw_status: PointStatus | None = Field(
        description="Whether that is known; `awaited`: a drand round that is out and that nobody "
        "delivered yet; `missed`: out of reach, a draw schedules it again. Null once drawn."
    )
    randomness: Hash | None
    opened_at: Time
    drawn_at: Time | None
    all_committed_at: Time | None
    committed: int
    revealed: int
    judged: bool = Field(description="Whether penalties and fees are final.")
    seats: list[Seat] = Field(description="Empty before the draw.")


class PastAttestation(Model):
    """One of the attestations that a batch had."""

    number: int = Field(description="1 for the batch's first.")
    round: int = Field(description="Whose members signed it.")
    attestation: Attestation
    attested_at: Time
    overturned_at: Time | None = Field(description="Null where it stands.")
    dispute: int | None = Field(description="The dispute that overturned it.")
    prover: Address | None = Field(description="Who proved that its tree is no honest one.")
    fault: Fault | None = Field(description="What the proof shows.")
    slashed: Tokens | None = _amount("What its signers lost; null where it stands.")
    prover_paid: Tokens | None = _amount("To whoever proved the fault.")
    wronged_paid: Tokens | None = _amount("To the bounty, with a proof; else see the dispute.")


class Dispute(Model):
    """A question about one verdict or outcome, put to juries."""

    id: int
    batch: int
    phase: DisputePhase
    kind: DisputeKind
    challenger: Address
    trace: int = Field(description="Index of the trace; 0 where an outcome is disputed.")
    attestation: int = Field(
        description="Number of the disputed attestation; in a conflict, of the next one."
    )
    standing: Standing = Field(description="What the last decision makes of the attestation.")
    final: bool = Field(description="Whether no appeal is possible any more.")
    decided_at: Time | None = Field(description="Null while a jury is at work.")
    jury: int | None = Field(description="Round of the newest jury.")
    jury_count: int
    appeal_count: int
    next_appeal_bond: Tokens = _amount("What an appeal would cost.")
    at_stake: Tokens = _amount("All bonds posted so far.")
    vote: Hash | None = Field(description="The disputed verdict or outcome, as jurors vote it.")
    rival_vote: Hash | None = Field(description="In a conflict: the other one.")
    standing_vote: Hash | None = Field(description="What the last deciding jury voted.")
    opened_at: Time
    closed_at: Time | None
    slashed: Tokens | None = _amount("What signers lost. Null until it is closed, as the rest.")
    jurors_paid: Tokens | None = _amount("To coherent jurors, all of them.")
    challenger_paid: Tokens | None = _amount("Its bond where it came back, and its reward.")
    wronged_paid: Tokens | None = _amount("To the wronged side: the bounty or the miner.")
    block: BlockNumber
    tx_hash: Hash = Field(description="The transaction that opened it.")


class Appeal(Model):
    number: int = Field(description="1 for the dispute's first.")
    appellant: Address
    against: Standing = Field(description="The decision that should change.")
    bond: Tokens
    appealed_at: Time


class Opening(Model):
    """A withheld tree on its way to one verdict, move by move."""

    status: OpeningStatus = Field(
        description="`refused`: nobody answered in time, or a fault showed; `abandoned`: the "
        "challenger did not go on."
    )
    first: int = Field(description="First trace under the node.")
    size: int = Field(description="Traces under the node.")
    hash: Hash = Field(description="Of the node that is asked for, or whose children lie open.")
    deadline: Time = Field(description="Last second of the present move.")
    moves: int
    fault: Fault = Field(description="What the last move showed.")


class DisputeDetail(Dispute):
    """A dispute with its juries and appeals, oldest first."""

    juries: list[Round]
    appeals: list[Appeal]
    opening: Opening | None = Field(description="Null where no opening was demanded.")


class Audit(Model):
    """A batch that was planted to test its committee."""

    batch: int
    planter: Address
    trace: int = Field(description="Index of the trap.")
    score_ppm: int = Field(description="Of the planted verdict, as the next three.")
    reason: int
    units: int
    faults: int
    missed: bool = Field(description="Whether the committee's verdict of the trap is another.")
    block: BlockNumber
    opened_at: Time


class BatchDetail(Batch):
    """A batch with all its rounds and attestations, oldest first, and its disputes."""

    rounds: list[Round]
    attestations: list[PastAttestation] = Field(description="All it ever had.")
    disputes: list[Dispute] = Field(
        description="The first 200; `/disputes?batch=` pages through all of them."
    )
    audit: Audit | None = Field(description="Null unless it was shown to be planted.")


class Verifier(Model):
    address: Address
    stake: Tokens = _amount("Without what is unbonding.")
    unbonding: Tokens
    claimable_at: Time | None = Field(description="Null where nothing is unbonding.")
    open_seats: int
    free_seats: int = Field(description="Its weight in the draw.")
    seats_drawn: int = Field(description="Ever.")
    penalties: Tokens = _amount("Ever lost.")
    fees_earned: Tokens = _amount("Ever earned.")
    withdrawn: Tokens = _amount("Stake that went to its balance.")
    block: BlockNumber = Field(description="Where it first staked.")


class Checkpoint(Model):
    id: int
    trainer: Address
    parent: int | None = Field(description="Null for a base model.")
    cid: ContentAddress
    dataset_root: Hash = Field(description="All zeros where it was trained on nothing.")
    identity: Hash = Field(
        description="Of all that is registered of it and its lineage, whatever its number. "
        "Who pays for it names this."
    )
    block: BlockNumber
    registered_at: Time


class Balance(Model):
    """An account in the ledger: balance = deposited + credited - spent - withdrawn."""

    address: Address
    balance: Tokens = _amount("Withdrawable.")
    deposited: Tokens
    credited: Tokens = _amount("Earned, or given back.")
    spent: Tokens = _amount("Taken for bounties, stake and bonds.")
    withdrawn: Tokens
