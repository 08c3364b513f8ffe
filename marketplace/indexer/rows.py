"""One frozen dataclass per projected table.

Hashes are 0x hex, addresses checksummed 0x hex, times seconds since the epoch, money token base
units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from marketplace.indexer.tables import Amount, Moment, Table


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    id: str
    author: str
    position: int
    """Order of registration: block * 2**24 + log index."""
    block: int
    registered_at: int


@dataclass(frozen=True, slots=True)
class BountyRow:
    """funded + replenished == available + reserved + paid + refunded.

    paid: to miners and verifiers; paid_miners: the miners' part of it. replenished: what came in
    from miners' bonds, and from the court where the bounty was wronged.
    """

    id: int
    poster: str
    environment: str
    trainer: str | None
    deadline: Moment
    group_size: int
    tier: int
    pay_rule: int
    price_per_unit: Amount
    fee_per_trace: Amount
    block: int
    created_at: int
    available: Amount = 0
    reserved: Amount = 0
    funded: Amount = 0
    replenished: Amount = 0
    paid: Amount = 0
    paid_miners: Amount = 0
    refunded: Amount = 0
    batches: int = 0


@dataclass(frozen=True, slots=True)
class BatchRow:
    """attestation (verdict_root, units, faults): None until a round agrees, and again once it was
    overturned. disputes: open ones. overturned: attestations that the court took back. The last
    four: None until the batch is settled; slashed also once it is void."""

    id: int
    bounty: int
    miner: str
    root: str
    count: int
    first_task: int
    bond: Amount
    content_digest: str
    content_codec: int
    round: int
    rounds: int
    block: int
    tx_hash: str
    committed_at: int
    attested_at: int | None = None
    verdict_root: str | None = None
    units: int | None = None
    faults: int | None = None
    disputes: int = 0
    overturned: int = 0
    closed: bool = False
    closed_at: int | None = None
    miner_paid: Amount | None = None
    fees_paid: Amount | None = None
    bond_forfeited: Amount | None = None
    slashed: Amount | None = None


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A committee's round on a batch, or a jury's on a dispute: batch or dispute is None.

    Both, and number (1 for the first of its batch or dispute): None only between two logs of a
    transaction. previous: the round before this one; before a first jury, the batch's. fresh:
    nobody sits who sat in `previous` or before it. size: seats wanted; seats: seats drawn.
    """

    id: int
    subject: str
    size: int
    draw_point: int
    opened_at: int
    batch: int | None = None
    dispute: int | None = None
    number: int | None = None
    previous: int | None = None
    fresh: bool = False
    drawn_at: int | None = None
    randomness: str | None = None
    all_committed_at: int | None = None
    seats: int = 0
    committed: int = 0
    revealed: int = 0
    judged: bool = False


@dataclass(frozen=True, slots=True)
class AssignmentRow:
    """A miner's enrolment in a bounty. point: of the randomness that decides its tasks.
    requested_at: when that point was asked for. seed: None until it is opened."""

    bounty: int
    miner: str
    point: int
    requested_at: int
    seed: str | None = None
    opened_at: int | None = None


@dataclass(frozen=True, slots=True)
class BeaconRow:
    """A drand round that was delivered. value: what the contract keeps of it."""

    round: int
    value: str
    deliverer: str
    block: int
    delivered_at: int


@dataclass(frozen=True, slots=True)
class SeatRow:
    """state: as records.SeatState. commitment: as the chain keeps it. vote: of the revealed
    attestation (commitments.vote). coherent, penalty, fee: None until the round is judged;
    coherent also where there was no result. convicted: it signed an attestation that fell, which
    closes a seat before its round is judged."""

    round: int
    seat: int
    verifier: str
    state: int
    commitment: str | None = None
    committed_at: int | None = None
    revealed_at: int | None = None
    vote: str | None = None
    verdict_root: str | None = None
    units: int | None = None
    faults: int | None = None
    verdicts_digest: str | None = None
    verdicts_codec: int | None = None
    coherent: bool | None = None
    convicted: bool = False
    penalty: Amount | None = None
    fee: Amount | None = None


@dataclass(frozen=True, slots=True)
class AttestationRow:
    """What a batch was attested as. number: 1 for its first attestation.

    overturned_at: when it fell or was replaced. dispute, prover: by which dispute, or by whose
    proof; one of them then. fault: what the proof shows (disputes.Fault). slashed: what its
    signers lost. prover_paid, wronged_paid: of that, with a proof; else the dispute says it.
    """

    batch: int
    number: int
    round: int
    verdict_root: str
    units: int
    faults: int
    attested_at: int
    overturned_at: int | None = None
    slashed: Amount | None = None
    dispute: int | None = None
    prover: str | None = None
    fault: int | None = None
    prover_paid: Amount | None = None
    wronged_paid: Amount | None = None


@dataclass(frozen=True, slots=True)
class DisputeRow:
    """kind, standing: as records.Kind and records.Standing.

    attestation: number of the disputed one; in a conflict, of the one that its end leads to.
    trace: index of the one whose verdict is disputed.
    bond: what the next appeals double. at_stake: all bonds posted so far (none by whoever narrows
    a conflict). jury: the newest one's round. vote, rival_vote: what is disputed, as jurors vote
    it. standing_vote: what the last deciding jury voted. decided_at: None also while an appeal is
    heard. last: the decision is final. The last four: None until the dispute is closed.
    """

    id: int
    batch: int
    attestation: int
    kind: int
    challenger: str
    trace: int
    bond: Amount
    at_stake: Amount
    block: int
    tx_hash: str
    opened_at: int
    jury: int | None = None
    juries: int = 0
    appeals: int = 0
    standing: int = 0
    decided_at: int | None = None
    last: bool = False
    vote: str | None = None
    rival_vote: str | None = None
    standing_vote: str | None = None
    closed: bool = False
    closed_at: int | None = None
    slashed: Amount | None = None
    jurors_paid: Amount | None = None
    challenger_paid: Amount | None = None
    wronged_paid: Amount | None = None


@dataclass(frozen=True, slots=True)
class AppealRow:
    """number: 1 for a dispute's first. against: the decision that should change."""

    dispute: int
    number: int
    appellant: str
    against: int
    bond: Amount
    appealed_at: int


@dataclass(frozen=True, slots=True)
class OpeningRow:
    """A withheld tree on its way to one verdict. status: as records.OpeningStatus, without what
    time makes of it. first, size, hash: the node that is asked for, or whose children lie open.
    moved_at: when the present move's time began. moves: how many were made."""

    dispute: int
    status: int
    first: int
    size: int
    hash: str
    moved_at: int
    moves: int = 1
    fault: int = 0


@dataclass(frozen=True, slots=True)
class PlantingRow:
    root: str
    planter: str
    block: int
    planted_at: int


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A planted batch that was opened. trace: index of the trap. score to faults: its planted
    verdict."""

    batch: int
    planter: str
    trace: int
    score: int
    reason: int
    units: int
    faults: int
    missed: bool
    block: int
    opened_at: int


@dataclass(frozen=True, slots=True)
class VerifierRow:
    """seats: ever drawn for. withdrawn: unbonded stake that went to its balance."""

    address: str
    block: int
    stake: Amount = 0
    unbonding: Amount = 0
    claimable_at: int | None = None
    open_seats: int = 0
    seats: int = 0
    penalties: Amount = 0
    fees_earned: Amount = 0
    withdrawn: Amount = 0


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """parent: None for a base model."""

    id: int
    trainer: str
    parent: int | None
    content_digest: str
    content_codec: int
    dataset_root: str
    identity: str
    block: int
    registered_at: int


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """balance == deposited + credited - spent - withdrawn. spent: taken by the modules."""

    address: str
    balance: Amount = 0
    deposited: Amount = 0
    credited: Amount = 0
    spent: Amount = 0
    withdrawn: Amount = 0


@dataclass(frozen=True, slots=True)
class HoldingRow:
    """What the ledger holds for a module; module: its address."""

    module: str
    held: Amount = 0


@dataclass(frozen=True, slots=True)
class MoneyRow:
    """One row (id 1). tokens_in - tokens_out == balances + the sum of holdings. dispute_bonds:
    the part of the court's holding that is not its pool."""

    id: int = 1
    tokens_in: Amount = 0
    tokens_out: Amount = 0
    balances: Amount = 0
    dispute_bonds: Amount = 0


@dataclass(frozen=True, slots=True)
class PotRow:
    """What a bounty pays its judges. funded == available + what is set aside for open panels + paid
    + refunded. open: panels that are begun and not closed."""

    bounty: int
    per_trace: Amount
    opened_at: int
    available: Amount = 0
    funded: Amount = 0
    paid: Amount = 0
    refunded: Amount = 0
    open: int = 0


@dataclass(frozen=True, slots=True)
class PanelRow:
    """The score sheets of a batch. per_sheet: set aside for each seat when the first one committed.
    closed_at: when they were paid or released; paid_sheets: None until then, 0 for a release."""

    batch: int
    per_sheet: Amount
    seats: int
    begun_at: int
    committed: int = 0
    revealed: int = 0
    closed_at: int | None = None
    paid_sheets: int | None = None


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A seat's sheet. sheet: 0x hex, None until it is shown. paid: None until the panel is
    closed."""

    batch: int
    seat: int
    verifier: str
    commitment: str
    committed_at: int
    sheet: str | None = None
    revealed_at: int | None = None
    paid: Amount | None = None


@dataclass(frozen=True, slots=True)
class JudgeRow:
    """An account in ScoreSheets: balance == earned + refunded - withdrawn. refunded: from its own
    bounties' pots."""

    address: str
    balance: Amount = 0
    earned: Amount = 0
    refunded: Amount = 0
    withdrawn: Amount = 0


@dataclass(frozen=True, slots=True)
class GoldPlantingRow:
    commitment: str
    planter: str
    block: int
    planted_at: int


@dataclass(frozen=True, slots=True)
class GoldRow:
    """A gold sheet that was opened. position: block * 2**24 + log index."""

    position: int
    batch: int
    planter: str
    sheet: str
    block: int
    opened_at: int


ENVIRONMENTS: Final = Table("environments", EnvironmentRow, ["id"])
BOUNTIES: Final = Table("bounties", BountyRow, ["id"])
BATCHES: Final = Table("batches", BatchRow, ["id"])
ROUNDS: Final = Table("rounds", RoundRow, ["id"])
ASSIGNMENTS: Final = Table("assignments", AssignmentRow, ["bounty", "miner"])
BEACONS: Final = Table("beacons", BeaconRow, ["round"])
SEATS: Final = Table("seats", SeatRow, ["round", "seat"])
ATTESTATIONS: Final = Table("attestations", AttestationRow, ["batch", "number"])
DISPUTES: Final = Table("disputes", DisputeRow, ["id"])
APPEALS: Final = Table("appeals", AppealRow, ["dispute", "number"])
OPENINGS: Final = Table("openings", OpeningRow, ["dispute"])
PLANTINGS: Final = Table("plantings", PlantingRow, ["root"])
AUDITS: Final = Table("audits", AuditRow, ["batch"])
VERIFIERS: Final = Table("verifiers", VerifierRow, ["address"])
CHECKPOINTS: Final = Table("checkpoints", CheckpointRow, ["id"])
BALANCES: Final = Table("balances", BalanceRow, ["address"])
HOLDINGS: Final = Table("holdings", HoldingRow, ["module"])
MONEY: Final = Table("money", MoneyRow, ["id"])
POTS: Final = Table("pots", PotRow, ["bounty"])
PANELS: Final = Table("panels", PanelRow, ["batch"])
SHEETS: Final = Table("sheets", SheetRow, ["batch", "seat"])
JUDGES: Final = Table("judges", JudgeRow, ["address"])
GOLD_PLANTINGS: Final = Table("gold_plantings", GoldPlantingRow, ["commitment"])
GOLD: Final = Table("gold", GoldRow, ["position"])

TABLES: Final[tuple[Table[Any], ...]] = (
    ENVIRONMENTS,
    BOUNTIES,
    BATCHES,
    ROUNDS,
    ASSIGNMENTS,
    BEACONS,
    SEATS,
    ATTESTATIONS,
    DISPUTES,
    APPEALS,
    OPENINGS,
    PLANTINGS,
    AUDITS,
    VERIFIERS,
    CHECKPOINTS,
    BALANCES,
    HOLDINGS,
    MONEY,
    POTS,
    PANELS,
    SHEETS,
    JUDGES,
    GOLD_PLANTINGS,
    GOLD,
)
"""Every projected table."""
