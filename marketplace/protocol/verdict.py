"""Verdicts, their Merkle-sum tree and the verdict file.

A verdict judges one trace. The tree commits to every verdict and to the sums of payable
units and faults below each node, so a wrong sum shows in one node and its two children. An
attestation is (verdict root, units, faults). Same shape as merkle.py (RFC 9162).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from marketplace.protocol import merkle, strict_json
from marketplace.protocol.errors import InvalidValue, MalformedVerdicts
from marketplace.protocol.hashing import (
    TAG_SUM_NODE,
    TAG_VERDICT_LEAF,
    abi_hash,
    bytes32,
    keccak,
    uint,
)
from marketplace.protocol.seeds import PPM

_UINT32_MAX = 2**32 - 1


class Reason(IntEnum):
    """Why a trace got its verdict (uint8 on chain). From 16 on: a lie, which costs bond."""

    CORRECT = 1
    WRONG = 2
    PARTIAL = 3
    PARSE_FAILURE = 4
    CHECKER_ERROR = 5
    CHECKER_TIMEOUT = 6
    TOO_LONG = 7
    DUPLICATE = 8
    MALFORMED_LINE = 16
    UNASSIGNED = 17
    TAMPERED_PROMPT = 18
    FALSE_CLAIM = 19
    OFF_POLICY = 20


FAULTS: Final = frozenset(reason for reason in Reason if reason >= 16)
CHECKER_STATES: Final = frozenset({Reason.CHECKER_ERROR, Reason.CHECKER_TIMEOUT})
"""The checker said nothing: no score was given, though the score field holds 0."""

# What score, in ppm, goes with a reason. Everything not named here has score 0.
_SCORES: Final = {
    Reason.CORRECT: (PPM, PPM),
    Reason.PARTIAL: (1, PPM - 1),
    Reason.DUPLICATE: (0, PPM),
}
_NEVER_PAID: Final = FAULTS | CHECKER_STATES | {Reason.DUPLICATE}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Score in ppm (0 to 1_000_000), reason, payable units (0 or 1), faults (0 or 1).

    The four must agree (InvalidValue): a fault has faults 1 and no unit, a checker error or a
    duplicate has no unit, CORRECT means a full score, and so on.
    """

    score_ppm: int
    reason: Reason
    units: int
    faults: int

    def __post_init__(self) -> None:
        check_score(self.score_ppm, self.reason)
        if type(self.units) is not int or self.units not in (0, 1):
            raise InvalidValue(f"units is {self.units!r}, not 0 or 1")
        if type(self.faults) is not int or self.faults != (self.reason in FAULTS):
            raise InvalidValue(f"faults is {self.faults!r} with reason {self.reason.name}")
        if self.units and self.reason in _NEVER_PAID:
            raise InvalidValue(f"units is 1 with reason {self.reason.name}, which is never paid")


def check_score(score_ppm: int, reason: Reason) -> None:
    """InvalidValue unless the score can go with the reason."""
    if type(reason) is not Reason:
        raise InvalidValue(f"reason is {reason!r}, not a Reason")
    low, high = _SCORES.get(reason, (0, 0))
    if not low <= uint(score_ppm, 32, "score_ppm") <= high:
        raise InvalidValue(
            f"score_ppm is {score_ppm} with reason {reason.name}, outside {low} to {high}"
        )


def to_ppm(score: float) -> int:
    """A checker's score in [0, 1] as ppm. InvalidValue for NaN, infinity or out of range.

    Rounded to the nearest, except that only exactly 1.0 is a full score and only exactly 0.0
    is none: rounding must not decide what is paid.
    """
    if type(score) not in (int, float) or not math.isfinite(score) or not 0 <= score <= 1:
        raise InvalidValue(f"score is {score!r}, not a number in [0, 1]")
    if score in (0, 1):
        return int(score) * PPM
    return min(max(round(score * PPM), 1), PPM - 1)


def score_reason(score_ppm: int) -> Reason:
    """CORRECT, PARTIAL or WRONG: the reason of a score that a checker gave."""
    if uint(score_ppm, 32, "score_ppm") > PPM:
        raise InvalidValue(f"score_ppm is {score_ppm}, over {PPM}")
    if score_ppm == PPM:
        return Reason.CORRECT
    return Reason.PARTIAL if score_ppm else Reason.WRONG


# --- the Merkle-sum tree -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SumNode:
    """A node or leaf: its hash (32 bytes) and the units and faults (uint32) below it."""

    hash: bytes
    units: int
    faults: int

    def __post_init__(self) -> None:
        bytes32(self.hash, "node hash")
        uint(self.units, 32, "units")
        uint(self.faults, 32, "faults")


@dataclass(frozen=True, slots=True)
class Attestation:
    """What verifiers agree on for a whole batch: verdict root (32 bytes), units, faults."""

    root: bytes
    units: int
    faults: int

    def __post_init__(self) -> None:
        bytes32(self.root, "verdict root")
        uint(self.units, 32, "units")
        uint(self.faults, 32, "faults")


UNAVAILABLE: Final = Attestation(keccak(b"tracemarket.outcome.unavailable"), 0, 0)
"""Nobody could fetch the batch."""
MALFORMED: Final = Attestation(keccak(b"tracemarket.outcome.malformed"), 0, 0)
"""The batch file can't be read, or does not lead to the committed batch root."""
SOUND: Final = Attestation(keccak(b"tracemarket.outcome.sound"), 0, 0)
"""A juror's answer where an outcome is disputed: the content can be had and is a batch file."""
OUTCOMES: Final = frozenset({UNAVAILABLE, MALFORMED, SOUND})
"""Attestations that speak of a whole batch, not of verdicts."""


def join(left: SumNode, right: SumNode) -> SumNode:
    """The parent: H(0x03 || left hash, units, faults || right hash, units, faults), packed.

    Sums are uint32, 4 bytes big-endian (81 bytes in all); InvalidValue if they overflow.
    """
    hash_ = hash_of(left, right)
    return SumNode(hash_, left.units + right.units, left.faults + right.faults)


def hash_of(left: SumNode, right: SumNode) -> bytes:
    """The hash of their parent, whatever its sums."""
    return keccak(
        TAG_SUM_NODE
        + b"".join(
            node.hash + node.units.to_bytes(4, "big") + node.faults.to_bytes(4, "big")
            for node in (left, right)
        )
    )


def verdict_leaf(batch: int, index: int, verdict: Verdict) -> SumNode:
    """The leaf of trace `index` of a batch.

    H(0x02 || abi.encode(uint64 batch, uint256 index, uint32 score, uint8 reason, uint32 units,
    uint32 faults)).
    """
    return leaf_of(
        batch, index, verdict.score_ppm, int(verdict.reason), verdict.units, verdict.faults
    )


def leaf_of(batch: int, index: int, score: int, reason: int, units: int, faults: int) -> SumNode:
    """The leaf of any numbers, also of those that no honest verdict has."""
    digest = abi_hash(
        ("uint64", "uint256", "uint32", "uint8", "uint32", "uint32"),
        (
            uint(batch, 64, "batch"),
            uint(index, 256, "index"),
            uint(score, 32, "score"),
            uint(reason, 8, "reason"),
            uint(units, 32, "units"),
            uint(faults, 32, "faults"),
        ),
        tag=TAG_VERDICT_LEAF,
    )
    return SumNode(digest, units, faults)


class VerdictTree:
    """A Merkle-sum tree kept in memory: O(n) to build, O(log n) per proof."""

    __slots__ = ("_levels",)

    def __init__(self, leaves: Iterable[SumNode]) -> None:
        self._levels = merkle.build_levels(list(leaves), join)

    def __len__(self) -> int:
        return len(self._levels[0])

    @property
    def attestation(self) -> Attestation:
        """The root with its sums."""
        top = self._levels[-1][0]
        return Attestation(top.hash, top.units, top.faults)

    def proof(self, index: int) -> list[SumNode]:
        """The inclusion proof of leaf index: siblings with their sums, from the leaf up."""
        return merkle.siblings(self._levels, index)

    def node(self, first: int, size: int) -> SumNode:
        """The node over the verdicts [first, first + size), which must be a subtree's."""
        level = (uint(size, 32, "subtree size") - 1).bit_length()
        position, rest = divmod(uint(first, 32, "subtree start"), 1 << level)
        fits = size > 0 and not rest and first + size == min(first + (1 << level), len(self))
        if not fits:
            raise InvalidValue(f"the {size} verdicts from {first} on are no subtree")
        return self._levels[level][position]


def batch_verdicts(batch: int, verdicts: Iterable[Verdict]) -> VerdictTree:
    """The tree over all verdicts of a batch, in file order."""
    return VerdictTree(verdict_leaf(batch, i, verdict) for i, verdict in enumerate(verdicts))


def verdict_root(leaves: Iterable[SumNode]) -> Attestation:
    """The attestation over verdict leaves (at least one)."""
    return VerdictTree(leaves).attestation


def verdict_proof(leaves: Iterable[SumNode], index: int) -> list[SumNode]:
    """The proof of one leaf. For many proofs of one batch keep a VerdictTree."""
    return VerdictTree(leaves).proof(index)


def verify_verdict(
    leaf: SumNode, index: int, size: int, proof: Sequence[SumNode], attestation: Attestation
) -> bool:
    """True if proof shows leaf at index among size verdicts under this attestation.

    Sums that overflow uint32 on the way give False. The caller recomputes `leaf` with
    verdict_leaf, which binds units and faults to its hash.
    """
    try:
        top = merkle.climb(leaf, index, size, proof, join)
    except InvalidValue:
        return False
    return top is not None and Attestation(top.hash, top.units, top.faults) == attestation


# --- the verdict file --------------------------------------------------------------

_KEYS = ("i", "score", "reason", "units", "faults")


def encode_verdicts(verdicts: Sequence[Verdict]) -> bytes:
    """The verdict file: one line per trace, {"i":0,"score":...,"reason":...,...}. Deterministic."""
    return b"".join(
        b'{"i":%d,"score":%d,"reason":%d,"units":%d,"faults":%d}\n'
        % (i, verdict.score_ppm, verdict.reason, verdict.units, verdict.faults)
        for i, verdict in enumerate(verdicts)
    )


def decode_verdicts(data: bytes, count: int) -> list[Verdict]:
    """The verdicts in a file of exactly count lines; MalformedVerdicts otherwise.

    Only the bytes that encode_verdicts writes are accepted: there is one file per verdict list.
    """
    lines = data.split(b"\n")
    if lines.pop() != b"":
        raise MalformedVerdicts("the verdict file does not end with a newline")
    if len(lines) != count:
        raise MalformedVerdicts(f"the verdict file has {len(lines)} lines, the batch {count}")
    verdicts = [_decode_verdict(index, line) for index, line in enumerate(lines)]
    if encode_verdicts(verdicts) != data:
        raise MalformedVerdicts("the verdict file is not in canonical form")
    return verdicts


def _decode_verdict(index: int, line: bytes) -> Verdict:
    try:
        record = strict_json.loads(line.decode("utf-8"), depth=1)
        if type(record) is not dict or tuple(record) != _KEYS:
            raise MalformedVerdicts(f"verdict {index} does not have exactly the keys {_KEYS}")
        if type(record["i"]) is not int or record["i"] != index:
            raise MalformedVerdicts(f"verdict {index} says it is number {record['i']!r:.40}")
        code = record["reason"]
        if type(code) is not int or code not in Reason.__members__.values():
            raise MalformedVerdicts(f"verdict {index} has the unknown reason {code!r:.40}")
        return Verdict(record["score"], Reason(code), record["units"], record["faults"])
    except (InvalidValue, ValueError) as error:
        raise MalformedVerdicts(f"verdict {index} is not valid: {str(error)[:200]}") from None
