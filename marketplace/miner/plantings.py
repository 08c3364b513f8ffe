"""Planted batches: what the planter must remember until it opens one.

Written to disk before anything is sent: a planting whose salt is lost can never be opened. The
files are readable by their owner alone, for they tell the trap.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from marketplace.protocol.disputes import LeafVerdict, audit_leaf
from marketplace.protocol.errors import ConfigError, InvalidValue
from marketplace.protocol.trace import decode_line, encode_line
from marketplace.protocol.verdict import Reason, Verdict
from marketplace.storage.pending import pending_file


@dataclass(frozen=True, slots=True)
class Planted:
    """One planting. batch_root, salt: 0x hex of 32 bytes. verdict: (index, score in ppm, reason,
    units, faults) of the trap. miner: the key that mines the batch."""

    chain_id: int
    audits: str
    planter: str
    miner: str
    bounty: int
    batch_root: str
    salt: str
    verdict: tuple[int, int, int, int, int]

    @property
    def trap(self) -> LeafVerdict:
        return LeafVerdict(*self.verdict)

    @property
    def root(self) -> bytes:
        """What goes on chain: of a tree of this planting alone, that is its leaf."""
        return audit_leaf(
            self.chain_id,
            self.audits,
            bytes.fromhex(self.batch_root[2:]),
            self.trap,
            bytes.fromhex(self.salt[2:]),
        )


class Plantings:
    """A directory of plantings; one for a planter."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, planted: Planted) -> Path:
        """Writes it durably. Returns where."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the folder {self._directory} can't be made: {error.strerror}",
                fix="give a --home that can be written",
            ) from None
        path = self._directory / f"{planted.batch_root[2:]}.json"
        with pending_file(self._directory, mode=0o600) as pending:
            pending.file.write(json.dumps(asdict(planted), indent=2).encode())
            pending.publish(path)
        return path

    def all(self, chain_id: int, audits: str) -> list[Planted]:
        """The plantings on one market."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            try:
                fields = json.loads(path.read_text("utf-8"))
                planted = replace(Planted(**fields), verdict=tuple(fields["verdict"]))
                planted.trap  # noqa: B018 - an unreadable one is named here
            except (ValueError, TypeError, KeyError, InvalidValue) as error:
                raise ConfigError(
                    f"the planting {path} is not readable: {error}", fix="restore it from a backup"
                ) from None
            if (planted.chain_id, planted.audits) == (chain_id, audits):
                found.append(planted)
        return found


def set_trap(lines: Sequence[bytes], verdicts: Sequence[Verdict]) -> tuple[list[bytes], int]:
    """Makes a lie of one wrong trace: it claims a full score, which only a check refutes.

    Returns the lines and the place of the trap. ConfigError where no trace is wrong.
    """
    for place, verdict in enumerate(verdicts):
        if verdict.reason is Reason.WRONG:
            changed = list(lines)
            honest = decode_line(lines[place])
            changed[place] = encode_line(replace(honest, claimed_score=1.0))
            return changed, place
    raise ConfigError(
        "no trace of this batch is a wrong answer: there is nothing to make a trap of",
        fix="sample more groups, or with a weaker model",
    )
