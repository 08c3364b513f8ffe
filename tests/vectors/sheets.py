"""Golden vectors of score sheets, written by Python and checked by both sides.

python tests/vectors/sheets.py            writes sheets.json
python tests/vectors/sheets.py --check    exit code 1 where it is stale
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any, Final

from marketplace.protocol.hashing import keccak
from marketplace.protocol.sheets import (
    TOP,
    Graded,
    agreement,
    gold_commitment,
    medians,
    pack,
    paid_for,
    sheet_commitment,
)

PATH: Final = Path(__file__).with_name("sheets.json")
CHAIN_ID: Final = 31337
SHAPES: Final = (
    *((1, 1), (2, 1), (1, 5), (5, 3), (4, 2)),
    *((7, 4), (66, 5), (65, 3), (130, 7), (97, 23)),
)
"""Traces and sheets."""


def _address(name: str) -> str:
    return "0x" + keccak(name.encode())[-20:].hex()


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _panels() -> list[dict[str, Any]]:
    rows = []
    for count, number in SHAPES:
        random = Random(f"{count} {number}")
        graded = [
            Graded("", seat, tuple(random.randint(0, TOP) for _ in range(count)))
            for seat in range(number)
        ]
        middle = medians(graded)
        rows.append(
            {
                "agreeing": [agreement(one.grades, middle) for one in graded],
                "count": count,
                "medians": _hex(pack(middle)),
                "paid": [int(paid) for paid in paid_for(graded)],
                "sheets": [_hex(pack(one.grades)) for one in graded],
            }
        )
    return rows


def _commitments() -> list[dict[str, Any]]:
    sheets, verifier = _address("sheets"), _address("verifier")
    root, salt, sheet = keccak(b"batch root"), keccak(b"salt"), pack([4, 0, 3])
    return [
        {
            "batchRoot": _hex(root),
            "chainId": CHAIN_ID,
            "batch": 7,
            "commitment": _hex(sheet_commitment(CHAIN_ID, sheets, 7, root, verifier, sheet, salt)),
            "gold": _hex(gold_commitment(CHAIN_ID, sheets, root, verifier, sheet, salt)),
            "salt": _hex(salt),
            "sheet": _hex(sheet),
            "sheets": sheets,
            "verifier": verifier,
        }
    ]


def render() -> str:
    sections = {"commitments": _commitments(), "panels": _panels()}
    parts = []
    for name, rows in sections.items():
        lines = ",\n".join(json.dumps(row, sort_keys=True) for row in rows)
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PATH.is_file() and PATH.read_text("utf-8") == render() else 1)
    PATH.write_text(render(), "utf-8")
