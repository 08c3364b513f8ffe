"""Score sheets of rubric environments: grades on a fixed grid, their median, weights from gold.

A grade is 0 to 4 and stands for so many quarters of a full score. A sheet is a grade for each trace
of a batch, packed two in a byte, the first in the high half; a half byte left over is zero. The
contract ScoreSheets reads the same bytes (libraries/Grades.sol, tests/vectors/sheets.json).
All of it is integer arithmetic: the same sheets give every verifier the same medians.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import Address, abi_hash, address20, bytes32, keccak, uint
from marketplace.protocol.seeds import PPM
from marketplace.protocol.verdict import Attestation

TOP: Final = 4
"""The highest grade."""

GRID: Final = tuple(grade * PPM // TOP for grade in range(TOP + 1))
"""Score in ppm of each grade."""

TOLERANCE: Final = 1
"""Grades that a sheet may be away from the median of a trace and still agree with it."""

COHERENT: Final = (2, 3)
"""Least share of a batch's traces, as a fraction, on which a sheet must agree to be paid for.
Grades at random agree on three traces of five at best."""

FEE_MULTIPLE: Final = 20
"""How many times a market's least fee for checking a trace a rubric environment's bounty pays for
the vote, and once more for the sheets: a judge is a model's pass over each trace, and every member
writes two more transactions (docs/juries.md)."""

UNKNOWN: Final = 15
"""In a gold sheet: its planter knows no right grade of this trace."""

MOST_WEIGHT: Final = 3
LEAST_GOLD: Final = 8
"""Gold grades that a record needs before it moves a weight."""

NO_VERDICT: Final = Attestation(keccak(b"tracemarket.outcome.nosheets"), 0, 0)
"""What a juror votes where a batch has too few sheets for any verdict. Members of committees never
vote it: see abstention()."""


def pack(grades: Sequence[int], *, gold: bool = False) -> bytes:
    """The bytes of a sheet. gold: UNKNOWN is a grade too. InvalidValue off the grid."""
    for place, grade in enumerate(grades):
        known = type(grade) is int and (0 <= grade <= TOP or (gold and grade == UNKNOWN))
        if not known:
            raise InvalidValue(
                f"the grade of trace {place} is {grade!r}, off the grid",
                fix=f"give a whole number from 0 to {TOP}",
            )
    halves = [*grades, 0] if len(grades) % 2 else grades
    return bytes(high << 4 | low for high, low in zip(halves[::2], halves[1::2], strict=True))


def unpack(sheet: bytes, count: int, *, gold: bool = False) -> tuple[int, ...]:
    """The grades of a sheet for count traces. InvalidValue for anything that is not one. gold:
    whatever is off the grid is UNKNOWN."""
    if len(sheet) != (uint(count, 32, "count") + 1) // 2:
        raise InvalidValue(
            f"a sheet for {count} traces has {(count + 1) // 2} bytes, not these {len(sheet)}"
        )
    halves = [half for byte in sheet for half in (byte >> 4, byte & 15)]
    if halves[count:] not in ([], [0]) and not gold:
        raise InvalidValue(f"the half byte after trace {count - 1} is {halves[-1]}, not 0")
    if gold:
        return tuple(half if half <= TOP else UNKNOWN for half in halves[:count])
    for place, half in enumerate(halves[:count]):
        if half > TOP:
            raise InvalidValue(f"the grade of trace {place} is {half}, over {TOP}")
    return tuple(halves[:count])


def sheet_commitment(
    chain_id: int,
    sheets: Address,
    batch: int,
    batch_root: bytes,
    verifier: Address,
    sheet: bytes,
    salt: bytes,
) -> bytes:
    """H(abi.encode(uint256 chainId, address sheets, uint64 batch, bytes32 batchRoot,
    address verifier, bytes32 H(sheet), bytes32 salt)): nobody can copy another's."""
    return abi_hash(
        ("uint256", "address", "uint64", "bytes32", "address", "bytes32", "bytes32"),
        (
            uint(chain_id, 256, "chain id"),
            address20(sheets, "sheets"),
            uint(batch, 64, "batch"),
            bytes32(batch_root, "batch root"),
            address20(verifier, "verifier"),
            keccak(sheet),
            bytes32(salt, "salt"),
        ),
    )


def gold_commitment(
    chain_id: int, sheets: Address, batch_root: bytes, planter: Address, sheet: bytes, salt: bytes
) -> bytes:
    """H(abi.encode(uint256 chainId, address sheets, bytes32 batchRoot, address planter,
    bytes32 H(sheet), bytes32 salt)). The batch's number is not known when it is planted."""
    return abi_hash(
        ("uint256", "address", "bytes32", "address", "bytes32", "bytes32"),
        (
            uint(chain_id, 256, "chain id"),
            address20(sheets, "sheets"),
            bytes32(batch_root, "batch root"),
            address20(planter, "planter"),
            keccak(sheet),
            bytes32(salt, "salt"),
        ),
    )


def least_fee(min_fee_per_trace: int) -> int:
    """The least fee for a trace of a rubric environment, in token base units."""
    return FEE_MULTIPLE * min_fee_per_trace


def least_judge_pay(min_fee_per_trace: int, committee_size: int) -> int:
    """The least pay for a trace on one sheet: the fee once more, shared by the committee."""
    return -(-least_fee(min_fee_per_trace) // committee_size)


def abstention(verifier: Address) -> Attestation:
    """What a member votes where there are too few sheets: a root of its own, so that no quorum can
    come of it, and the batch ends void with nobody charged (docs/decisions/017)."""
    return Attestation(keccak(NO_VERDICT.root + address20(verifier, "verifier")), 0, 0)


# --- medians ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Graded:
    """A revealed sheet. weight: 0 to MOST_WEIGHT."""

    verifier: str
    seat: int
    grades: tuple[int, ...]
    weight: int = 1


def median_grade(grades: Iterable[tuple[int, int]]) -> int:
    """The lower weighted median of (grade, weight): the lowest grade at or below which at least
    half of the weight lies. InvalidValue where nothing has weight."""
    weighing = [0] * (TOP + 1)
    for grade, weight in grades:
        weighing[grade] += weight
    total = sum(weighing)
    if total == 0:
        raise InvalidValue("no sheet has any weight")
    below = 0
    for grade, weight in enumerate(weighing):
        below += weight
        if 2 * below >= total:
            return grade
    raise AssertionError("half of the weight lies somewhere")


def medians(sheets: Sequence[Graded]) -> tuple[int, ...]:
    """The median grade of every trace."""
    columns = zip(*(sheet.grades for sheet in sheets), strict=True)
    weights = [sheet.weight for sheet in sheets]
    return tuple(median_grade(zip(column, weights, strict=True)) for column in columns)


def agreement(grades: Sequence[int], middle: Sequence[int]) -> int:
    """On how many traces a sheet is within the tolerance of the medians."""
    return sum(abs(a - b) <= TOLERANCE for a, b in zip(grades, middle, strict=True))


def paid_for(sheets: Sequence[Graded]) -> tuple[bool, ...]:
    """Which sheets ScoreSheets.pay pays: those that agree, on enough traces, with the plain median
    (the contract knows no weights)."""
    if not sheets:
        return ()
    plain = medians([Graded(one.verifier, one.seat, one.grades) for one in sheets])
    part, whole = COHERENT
    return tuple(agreement(one.grades, plain) * whole >= len(plain) * part for one in sheets)


# --- weights ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """A verifier on gold: how many gold grades it met, and how far off it was in sum."""

    items: int = 0
    off: int = 0

    def with_sheet(self, grades: Sequence[int], gold: Sequence[int]) -> Record:
        """The record after a sheet. gold: of the same batch; UNKNOWN counts for nothing."""
        known = [(a, b) for a, b in zip(grades, gold, strict=True) if b != UNKNOWN]
        return Record(self.items + len(known), self.off + sum(abs(a - b) for a, b in known))

    @property
    def weight(self) -> int:
        """1 without enough of a record; else by the mean distance from gold: up to half a grade 3,
        up to one 2, up to one and a half 1, beyond that none. Grades at random on gold spread
        over the grid are off by 1.6."""
        if self.items < LEAST_GOLD:
            return 1
        for most, weight in ((1, 3), (2, 2), (3, 1)):  # halves of a grade
            if 2 * self.off <= most * self.items:
                return weight
        return 0
