"""Sources in the check pool's workers: nasty answers cost only themselves, data sets are there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckItem, CheckPool
from marketplace.gym.spec import EnvironmentSpec, builtin_spec, parse_spec
from marketplace.protocol.errors import SpecError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Reason
from marketplace.storage.unixfs import cid_of_bytes

SEED = keccak(b"task")
HOSTILE = [
    *("", "x", "no", "[]", "true", "1.0", '"0"', "null", "{}", "NaN", "[null]", "[true]", "[1.0]"),
    *('["1"]', "[-1]", "[2]", "[[0]]", "[[1]]", "[true, 1]", "[0, 1, 2]", "[[0, 1], null]"),
    *("[NaN]", "9" * 5000, "[1" + "0" * 5000 + "]", "[" * 50_000, "[" * 100_000),
    *("[" + "[0,1]," * 9000 + "[0,1]]", "[0" + ",0" * 100_000 + "]"),
]
PAIR = [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}]
NO_TRANSCRIPTS: list[Any] = [
    [],
    {},
    None,
    PAIR[:1],
    PAIR[::-1],
    PAIR * 9,
    [{"role": "assistant", "content": 1}, PAIR[1]],
    [{"role": "assistant"}, PAIR[1]],
    [{**PAIR[0], "name": "x"}, PAIR[1]],
    [{"role": "system", "content": "a"}, PAIR[1]],
    [{"role": "assistant", "content": "\ud800"}, PAIR[1]],
    [{"role": "assistant", "content": "x" * 9000}, PAIR[1]],
    [[PAIR[0]], PAIR[1]],
]
# Scores by the first byte of the answer: "u" traps, "l" runs on. alloc gives room to each text.
MODULE = """(module (memory (export "memory") 1) (global $f (mut i32) (i32.const 8))
(func (export "alloc") (param i32) (result i32) (global.get $f)
  (global.set $f (i32.add (global.get $f) (local.get 0))))
(func (export "score") (param i32) (param i32) (param i32) (param i32) (param i32) (param i32)
  (result i32) (local i32)
  (local.set 6 (i32.load8_u (local.get 0)))
  (if (i32.eq (local.get 6) (i32.const 117)) (then unreachable))
  (loop $on (br_if $on (i32.eq (local.get 6) (i32.const 108)))) (i32.const 1000000)))"""
ROWS = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(50)]


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("assets")


@pytest.fixture(scope="module")
def pool(assets: Path) -> Iterator[CheckPool]:
    with CheckPool(1, assets=assets) as pool:
        yield pool


@pytest.mark.parametrize("name", ["nim_self_play", "frozen_lake"])
def test_hostile_answers_cost_only_themselves(pool: CheckPool, name: str) -> None:
    spec = builtin_spec(name)
    environment = Environment(spec)
    right = environment.reference_completion(environment.task(SEED))
    texts = [f"<answer>{text}</answer>" for text in HOSTILE]
    results = pool.check(spec, [CheckItem(SEED, text) for text in [*texts, right]])
    assert [result.score for result in results] == [0.0] * len(texts) + [1.0]
    assert {result.reason for result in results[:-1]} == {Reason.PARSE_FAILURE, Reason.WRONG}
    assert results[-1].reason is Reason.CORRECT


def test_what_is_no_transcript_costs_only_itself(pool: CheckPool) -> None:
    spec = builtin_spec("store_tools")
    right = Environment(spec).task(SEED).answer
    texts = [*map(json.dumps, NO_TRANSCRIPTS), "[" * 9000, right]
    results = pool.check(spec, [CheckItem(SEED, text) for text in texts])
    assert [result.score for result in results] == [0.0] * (len(texts) - 1) + [1.0]


def test_a_pool_goes_on_after_a_module_that_fails(pool: CheckPool) -> None:
    record = builtin_spec("wasm_integer").model_dump(mode="json")
    record["source"] |= {"module": MODULE}
    spec = parse_spec(json.dumps(record).encode())
    answers = ["u", "fine", "l", "fine"]
    results = pool.check(spec, [CheckItem(SEED, text) for text in answers])
    failed, fine = Reason.CHECKER_ERROR, Reason.CORRECT
    assert [one.reason for one in results] == [failed, fine, failed, fine]


# --- data sets ---------------------------------------------------------------------


def stored(folder: Path, data: bytes, **source: Any) -> EnvironmentSpec:
    """A spec of the data, which is put into folder."""
    cid = str(cid_of_bytes(data))
    (folder / cid).write_bytes(data)
    record = {
        "v": 1,
        "name": "rows",
        "source": {"kind": "dataset", "cid": cid, **source},
        "scoring": {"kind": "exact"},
    }
    return parse_spec(json.dumps(record).encode())


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_workers_get_the_folder(pool: CheckPool, assets: Path) -> None:
    spec = stored(assets, zstandard.compress(lines(ROWS)), zstd=True, rows=40)
    assert [(asset.cid, asset.max_bytes) for asset in spec.to_fetch()] == [
        (spec.source.cid, 16 << 20)
    ]
    environment = Environment(spec, assets)
    items = []
    for number in range(20):
        task = environment.task(keccak(bytes([number])))
        assert int(task.answer) <= 40  # the first 40 rows
        items += [
            CheckItem(task.seed, task.answer, task.prompt),
            CheckItem(task.seed, "no", task.prompt),
        ]
    assert [result.score for result in pool.check(spec, items)] == [1.0, 0.0] * 20
    with CheckPool(1) as bare, pytest.raises(SpecError, match=f"{spec.source.cid} is not here"):
        bare.check(spec, items)


def test_too_large_for_the_environments_memory(pool: CheckPool, assets: Path) -> None:
    long = [{"question": f"{n} " + "x" * 5000, "answer": "1"} for n in range(20_000)]
    spec = stored(assets, lines(long), rows=20_000, max_bytes=256 << 20)
    tight = spec.model_copy(update={"limits": spec.limits.model_copy(update={"memory_mb": 64})})
    with pytest.raises(SpecError, match=r"does not fit .*limits\.memory_mb"):
        pool.check(tight, [CheckItem(bytes(32), "1")])
