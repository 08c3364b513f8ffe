"""Plantings are kept secret and whole; a trap is a lie about one wrong trace."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from marketplace.miner.plantings import Planted, Plantings, set_trap
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.trace import Trace, decode_line, encode_line
from marketplace.protocol.verdict import Reason, Verdict

AUDITS = "0x" + "aa" * 20
PLANTED = Planted(
    chain_id=31337,
    audits=AUDITS,
    planter="0x" + "bb" * 20,
    miner="0x" + "cc" * 20,
    bounty=1,
    batch_root="0x" + "11" * 32,
    salt="0x" + "22" * 32,
    verdict=(5, 0, 19, 0, 1),
)
RIGHT, WRONG = Verdict(10**6, Reason.CORRECT, 1, 0), Verdict(0, Reason.WRONG, 0, 0)


def line(sample: int) -> bytes:
    return encode_line(
        Trace(
            task=0,
            sample=sample,
            prompt="1 + 1 =",
            completion=str(sample),
            tokens=None,
            logprobs=None,
            finish="stop",
            checkpoint=None,
            model="m",
            temperature=1.0,
            max_tokens=8,
            claimed_score=None,
        )
    )


def test_a_planting_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = Plantings(tmp_path / "plantings").add(PLANTED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = Plantings(tmp_path / "plantings")
    assert again.all(31337, AUDITS) == [PLANTED]
    assert again.all(1, AUDITS) == []
    assert again.all(31337, "0x" + "dd" * 20) == []
    assert again.all(31337, AUDITS)[0].root == PLANTED.root


def test_a_planting_that_is_not_readable_is_named(tmp_path: Path) -> None:
    path = Plantings(tmp_path).add(PLANTED)
    path.write_text('{"chain_id": 1}')
    with pytest.raises(ConfigError, match=path.name):
        Plantings(tmp_path).all(31337, AUDITS)


def test_the_trap_is_the_first_wrong_trace(tmp_path: Path) -> None:
    lines = [line(sample) for sample in range(4)]
    changed, place = set_trap(lines, [RIGHT, WRONG, WRONG, RIGHT])
    assert place == 1
    assert decode_line(changed[1]).claimed_score == 1.0
    assert [a == b for a, b in zip(lines, changed, strict=True)] == [True, False, True, True]
    with pytest.raises(ConfigError, match="no trace of this batch is a wrong answer"):
        set_trap(lines, [RIGHT] * 4)
