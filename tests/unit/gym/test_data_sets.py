"""Data sets by CID: every row is read before money depends on it, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from marketplace.gym.environment import Environment
from marketplace.gym.spec import EnvironmentSpec, builtin_spec, parse_spec
from marketplace.protocol.errors import SpecError
from marketplace.storage.unixfs import cid_of_bytes

ROOT = Path(__file__).parents[3]
ROWS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(50)]


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def stored(folder: Path, data: bytes, **source: Any) -> EnvironmentSpec:
    """A spec of the data, which is put into folder."""
    cid = str(cid_of_bytes(data))
    (folder / cid).write_bytes(data)
    return data_spec(cid=cid, **source)


def data_spec(**source: Any) -> EnvironmentSpec:
    record = {
        "v": 1,
        "name": "rows",
        "source": {"kind": "dataset", "rows": 50, **source},
        "scoring": {"kind": "exact"},
    }
    return parse_spec(json.dumps(record).encode())


def test_a_tasks_number_is_its_row(tmp_path: Path) -> None:
    spec = stored(tmp_path, lines(ROWS))
    source = spec.source.open_with(tmp_path)
    for number in (0, 7, 49, 50, 2**64 - 1):
        assert source.draw(number).question == ROWS[number % 50]["question"]
    with pytest.raises(SpecError, match=r"row 50 is out of range: .* has 50 rows"):
        source.row(50)


@pytest.mark.parametrize(
    ("data", "source", "message"),
    [
        (lines(ROWS[:49]), {}, "row 49 .* out of range: .* declares 50 rows, the content has 49"),
        (b"", {}, "declares 50 rows, the content has 0"),
        (lines(ROWS[:3]) + b"\n" + lines(ROWS[3:]), {}, "row 3 .* is not JSON"),
        (lines(ROWS[:3]) + b'{"question": "\xff"}\n' + lines(ROWS[3:]), {}, "row 3 .* is not JSON"),
        (b"[" * 100_000, {}, "row 0 .* nests too deeply"),
        (lines([1]), {}, "row 0 .* holds a JSON int, not an object"),
        (lines([{"question": "a"}]), {}, "row 0 .* has no 'answer', which must be text"),
        (lines([{"question": "a", "answer": 3}]), {}, "row 0 .* has a int as 'answer'"),
        (lines([{"question": " ", "answer": "3"}]), {}, "row 0 .* has an empty 'question'"),
        (lines([{"question": "\ud800", "answer": "3"}]), {}, "row 0 .* lone surrogate"),
        (lines(ROWS), {"answer": "reply"}, "row 0 .* has no 'reply'"),
        (lines([*ROWS[:9], {**ROWS[0], "answer": "9"}]), {}, "row 9 .* with another answer"),
        (lines(ROWS), {"max_bytes": 100}, "over 100 bytes.*raise source.max_bytes"),
        (lines(ROWS), {"zstd": True}, "is not zstd: .*set source.zstd to false"),
        # 16 MB of zeros in some hundred bytes.
        (zstandard.compress(bytes(1 << 24)), {"zstd": True, "max_bytes": 10_000}, "over 10,000"),
    ],
)
def test_content_that_can_not_be_used(
    tmp_path: Path, data: bytes, source: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        Environment(stored(tmp_path, data, **source), tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"cid": "bafy"}, "source.*cid.*got 'bafy'"),
        ({"cid": "../../etc/passwd"}, "source.*cid"),
        ({"cid": "bafkrei" + "a" * 52, "rows": 0}, "source.*rows.*got 0"),
        ({"cid": "bafkrei" + "a" * 52, "max_bytes": 1 << 40}, "source.*max_bytes"),
    ],
)
def test_sources_that_make_no_sense(source: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        data_spec(**source)


def test_the_built_in_data_set_is_what_its_script_writes() -> None:
    script = ROOT / "marketplace" / "gym" / "data" / "generate.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--check"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert (ran.returncode, ran.stdout) == (0, "up to date\n")
    spec = builtin_spec("word_problems")
    assert spec.assets()
    assert not spec.to_fetch()  # it ships with the package
