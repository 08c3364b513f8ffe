"""One trace line: what is written, what is read, and everything that is refused."""

import json
import math
from dataclasses import replace

import pytest

from marketplace.protocol.errors import MalformedTrace
from marketplace.protocol.trace import MAX_LINE_BYTES, Trace, decode_line, encode_line

TRACE = Trace(
    task=3,
    sample=1,
    prompt="What is 1 + 1?\n",
    completion=" zwei \u00e9 \U0001f642\u2028\x00",
    tokens=(17, 0, 2**32 - 1),
    logprobs=(-0.1, 0.0, -1e-300),
    finish="stop",
    checkpoint=2,
    model="org/model",
    temperature=0.7,
    max_tokens=16,
    claimed_score=1.0,
)
RECORD = json.loads(encode_line(TRACE))


def line(**changes) -> bytes:
    return json.dumps(RECORD | changes).encode()


def test_the_written_form():
    assert encode_line(replace(TRACE, completion="é", tokens=(1,), logprobs=(-0.5,))) == (
        '{"v":1,"task":3,"sample":1,"prompt":"What is 1 + 1?\\n","completion":"é","tokens":[1],'
        '"logprobs":[-0.5],"finish":"stop","checkpoint":2,"model":"org/model","temperature":0.7,'
        '"max_tokens":16,"claimed_score":1.0}'.encode()
    )


def test_round_trip():
    opaque = replace(TRACE, tokens=None, logprobs=None, checkpoint=None, claimed_score=None)
    for trace in (TRACE, opaque, replace(opaque, finish="length", temperature=0.0)):
        assert decode_line(encode_line(trace)) == trace
        assert b"\n" not in encode_line(trace)


def test_key_order_and_spaces_do_not_matter():
    reordered = json.dumps(dict(reversed(RECORD.items())), indent=1).replace("\n", " ")
    assert decode_line(reordered.encode()) == TRACE


def test_whole_numbers_serve_as_floats():
    trace = decode_line(line(temperature=1, claimed_score=0, logprobs=[-1, 0, -2]))
    assert (trace.temperature, trace.claimed_score) == (1.0, 0.0)
    assert trace.logprobs == (-1.0, 0.0, -2.0)
    assert all(type(one) is float for one in (trace.temperature, *trace.logprobs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"v": 2}, "version is 2"),
        ({"v": True}, "version is True"),
        ({"v": 1.0}, "version is 1.0"),
        ({"task": -1}, "task is -1"),
        ({"task": 2**64}, "task is 18446744073709551616"),
        ({"task": 3.0}, "task is 3.0, not an integer"),
        ({"task": "3"}, "task is '3'"),
        ({"task": True}, "task is True"),
        ({"task": None}, "task is None"),
        ({"sample": 2**32}, "sample is 4294967296"),
        ({"prompt": 5}, "prompt is 5, not a string"),
        ({"prompt": None}, "prompt is None"),
        ({"completion": ["a"]}, "completion is "),
        ({"completion": "a\ud800"}, "completion holds a lone surrogate at character 1"),
        ({"model": "\udfff"}, "model holds a lone surrogate"),
        ({"tokens": "abc"}, "tokens is 'abc', not a list"),
        ({"tokens": {"0": 1}}, "tokens is "),
        ({"tokens": [1, -2, 3]}, r"tokens\[1\] is -2"),
        ({"tokens": [1, 2, 2**32]}, r"tokens\[2\] is 4294967296"),
        ({"tokens": [1, 2.0, 3]}, r"tokens\[1\] is 2.0"),
        ({"tokens": [True, 2, 3]}, r"tokens\[0\] is True"),
        ({"tokens": [1, [2], 3]}, r"tokens\[1\] is \[2\]"),
        ({"tokens": [1, 2]}, "3 logprobs for 2 tokens"),
        ({"tokens": None}, "logprobs are given but tokens is null"),
        ({"logprobs": [-1.0, 0.5, -1.0]}, r"logprobs\[1\] is 0.5"),
        ({"logprobs": [-1.0, "x", -1.0]}, r"logprobs\[1\] is 'x'"),
        ({"logprobs": [-1.0, None, -1.0]}, r"logprobs\[1\] is None"),
        ({"logprobs": [-1.0, False, -1.0]}, r"logprobs\[1\] is False"),
        ({"logprobs": [-1.0, -(10**400), -1.0]}, r"logprobs\[1\] is an integer of .* too large"),
        ({"finish": "eos"}, "finish is 'eos'"),
        ({"finish": None}, "finish is None"),
        ({"finish": []}, "finish is"),
        ({"checkpoint": 0}, "checkpoint is 0"),
        ({"checkpoint": "1"}, "checkpoint is '1'"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": "0.7"}, "temperature is '0.7'"),
        ({"temperature": 0}, "temperature is 0, which has none"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"claimed_score": 1.5}, "claimed_score is 1.5"),
        ({"claimed_score": True}, "claimed_score is True"),
        ({"extra": 1}, r"unknown keys \['extra'\]"),
    ],
)
def test_refused_values(changes, message):
    with pytest.raises(MalformedTrace, match=message):
        decode_line(line(**changes))


@pytest.mark.parametrize("key", sorted(RECORD))
def test_no_key_may_miss(key):
    record = {name: value for name, value in RECORD.items() if name != key}
    with pytest.raises(MalformedTrace, match=rf"missing keys \['{key}'\]"):
        decode_line(json.dumps(record).encode())


@pytest.mark.parametrize("key", sorted(RECORD))
def test_no_key_may_come_twice(key):
    twice = encode_line(TRACE)[:-1] + f',"{key}":{json.dumps(RECORD[key])}}}'.encode()
    with pytest.raises(MalformedTrace, match=f"key '{key}' appears twice"):
        decode_line(twice)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"{", "not JSON"),
        (b"{}x", "not JSON"),
        (b"null", "a JSON NoneType"),
        (b"[]", "a JSON list"),
        (b"{}", "missing keys"),
        (b"\xff{}", "not UTF-8 at byte 0"),
        (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b"[" * 200_000, "nests too deeply"),
        (b'{"a":' * 100_000, "nests too deeply"),
        (b"9" * 10_000, "can't be read as JSON: Exceeds"),
        (b" " * (MAX_LINE_BYTES + 1), "has 1048577 bytes, over 1048576"),
    ],
)
def test_not_a_trace_at_all(content, message):
    with pytest.raises(MalformedTrace, match=message):
        decode_line(content)


def test_brackets_inside_text_are_text():
    text = "[[[[{{{{" * 1000 + '\\" ['
    assert decode_line(encode_line(replace(TRACE, completion=text))).completion == text


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("key", ["temperature", "claimed_score", "logprobs", "task"])
def test_not_finite(key, constant):
    value = f"[{constant},0,0]" if key == "logprobs" else constant
    text = json.dumps(RECORD | {key: "HERE"}).replace('"HERE"', value)
    with pytest.raises(MalformedTrace):
        decode_line(text.encode())


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_are_not_json_are_named(constant):
    text = json.dumps(RECORD | {"model": "HERE"}).replace('"HERE"', constant)
    with pytest.raises(MalformedTrace, match=f"holds {constant}, which is not JSON"):
        decode_line(text.encode())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_when_made_here(bad):
    with pytest.raises(MalformedTrace, match="temperature"):
        replace(TRACE, temperature=bad)
    with pytest.raises(MalformedTrace, match=r"logprobs\[2\]"):
        replace(TRACE, logprobs=(-0.1, -0.2, bad))


def test_huge_finite_logprobs_are_numbers_too():
    assert replace(TRACE, logprobs=(-1.5e308, -1.5e308, 0.0)).logprobs[0] == -1.5e308


def test_messages_stay_short():
    with pytest.raises(MalformedTrace) as caught:
        decode_line(line(task="x" * 500_000))
    assert len(str(caught.value)) < 200


def test_line_limit_on_both_sides():
    room = MAX_LINE_BYTES - len(encode_line(replace(TRACE, prompt="")))
    full = encode_line(replace(TRACE, prompt="a" * room))
    assert len(full) == MAX_LINE_BYTES
    assert len(decode_line(full).prompt) == room
    with pytest.raises(MalformedTrace, match="task 3, sample 1 has 1048577 bytes"):
        encode_line(replace(TRACE, prompt="a" * (room + 1)))
