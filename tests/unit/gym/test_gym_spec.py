"""The spec: canonical bytes, ids, and an error that names the value for everything malformed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from marketplace.gym.spec import (
    EnvironmentSpec,
    builtin_names,
    builtin_spec,
    environment_id,
    parse_spec,
    spec_bytes,
)
from marketplace.protocol.errors import SpecError

GOOD: dict[str, Any] = {
    "v": 1,
    "name": "sums",
    "source": {"kind": "reasoning_gym", "task": "chain_sum", "config": {"max_terms": 2}},
    "scoring": {"kind": "exact"},
    "packages": {"reasoning-gym": "0.1.25"},
}


def parse(**changes: Any) -> EnvironmentSpec:
    return parse_spec(json.dumps({**GOOD, **changes}).encode())


def test_canonical_bytes_round_trip_and_do_not_depend_on_the_layout() -> None:
    spec = parse()
    data = spec_bytes(spec)
    assert parse_spec(data) == spec
    assert spec_bytes(parse_spec(data)) == data
    reordered = dict(reversed(GOOD.items()))
    assert spec_bytes(parse_spec(json.dumps(reordered, indent=4).encode())) == data
    keys = {"min_terms": 2, "max_terms": 3}
    one, two = (
        parse(source={"kind": "reasoning_gym", "task": "chain_sum", "config": dict(order)})
        for order in (keys.items(), reversed(keys.items()))
    )
    assert spec_bytes(one) == spec_bytes(two)
    assert b" " not in data
    assert b'"holdout_ppm":100000' in data  # defaults are written out


def test_the_id_is_the_sha256_of_the_bytes() -> None:
    data = spec_bytes(parse())
    assert environment_id(data) == hashlib.sha256(data).digest()
    assert environment_id(spec_bytes(parse(name="other"))) != environment_id(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"v": 2}, "v: .*got 2"),
        ({"name": "Two Words"}, "name: .*got 'Two Words'"),
        ({"colour": 1}, "colour: unknown key, got 1"),
        ({"source": {"kind": "kaggle"}}, "source: .*'kaggle'.*'math_answer'.*'reasoning_gym'"),
        ({"source": {"kind": "reasoning_gym"}}, "source.reasoning_gym.task: Field required"),
        ({"source": {"kind": "math_answer", "families": []}}, "families: .*at least 1"),
        ({"source": {"kind": "math_answer", "families": ["a"], "largest": 3}}, "largest: .*got 3"),
        ({"scoring": {"kind": "vibes"}}, "scoring: Input tag 'vibes'"),
        ({"packages": {}}, r'"reasoning_gym" needs packages\["reasoning-gym"\]'),
        ({"scoring": {"kind": "math_verify"}}, r'"math_verify" needs packages\["math-verify"\]'),
        ({"packages": {"reasoning-gym": 1}}, "packages.reasoning-gym: .*got 1"),
        ({"prompt": {"template": "no question"}}, r"prompt.template: must hold \{question\} exact"),
        ({"prompt": {"template": "{question}{question}"}}, "holds it 2 times"),
        ({"prompt": {"shot_template": "{question}"}}, r"shot_template: must hold \{answer\}"),
        ({"prompt": {"shots": 33}}, "prompt.shots: .*got 33"),
        ({"prompt": {"shots": "4"}}, "prompt.shots: .*got '4'"),
        ({"answer": {"kind": "regex", "pattern": "(a+)+"}}, "answer: .*'regex'"),
        ({"answer": {"kind": "between", "start": "", "end": "x"}}, "start: .*got ''"),
        ({"sampling": {"temperature": 0}}, "sampling.temperature: .*got 0"),
        ({"sampling": {"temperature": 9.5}}, "sampling.temperature: .*got 9.5"),
        ({"sampling": {"max_tokens": 0}}, "sampling.max_tokens: .*got 0"),
        ({"sampling": {"stop": [""]}}, "sampling.stop.0: .*got ''"),
        ({"sampling": {"top_p": 0.9}}, "sampling.top_p: unknown key, got 0.9"),
        ({"limits": {"seconds": 0}}, "limits.seconds: .*got 0"),
        ({"limits": {"memory_mb": 1}}, "limits.memory_mb: .*got 1"),
        ({"limits": {"max_chars": 10**7}}, "limits.max_chars: .*got 10000000"),
        ({"holdout_ppm": 1_000_000}, "holdout_ppm: .*got 1000000"),
        ({"holdout_ppm": -1}, "holdout_ppm: .*got -1"),
        ({"holdout_ppm": True}, "holdout_ppm: .*got True"),
    ],
)
def test_a_malformed_spec_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse(**changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"{", "not JSON"),
        (b"[]", "holds a JSON list"),
        (b'{"v":1,"v":1}', "key 'v' appears twice"),
        (b'{"v":NaN}', "holds NaN"),
        (b"[" * 200_000, "nests too deeply, over 16"),
        (b'{"description":"' + b"[" * 17 + b'"}', "name: Field required"),
        (b" " * 262_145, "262145 bytes, over 262144"),
        (b'{"v":' + b"9" * 5000 + b"}", "can't be read"),
    ],
)
def test_what_is_no_spec_at_all(data: bytes, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec(data)


def test_missing_keys_are_all_named() -> None:
    with pytest.raises(SpecError, match=r"name: Field required.*source: Field required"):
        parse_spec(b'{"v":1,"scoring":{"kind":"exact"}}')


def test_builtin_specs_load_and_carry_their_names() -> None:
    assert {"chain_sum", "math_answer", "products"} <= set(builtin_names())
    for name in builtin_names():
        assert builtin_spec(name).name == name
    with pytest.raises(SpecError, match=r"no built-in spec 'chain_some'.*chain_sum"):
        builtin_spec("chain_some")


def test_numbers_beyond_floats_are_refused() -> None:
    data = spec_bytes(builtin_spec("driving")).replace(b'"config":{', b'"config":{"far":1e999,')
    with pytest.raises(SpecError, match="beyond the range of floats"):
        parse_spec(data)
