"""Trace lines and batch files under arbitrary content."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.protocol.batch_file import pack, unpack
from marketplace.protocol.errors import MalformedBatch, MalformedTrace
from marketplace.protocol.trace import Trace, decode_line, encode_line

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
RATIO = st.floats(0, 1)


@st.composite
def traces(draw) -> Trace:
    tokens = draw(st.none() | st.lists(st.integers(0, 2**32 - 1), max_size=20))
    temperature = draw(st.floats(0, 1e6))
    logprobs = None
    if tokens is not None and temperature > 0 and draw(st.booleans()):
        size = len(tokens)
        logprobs = draw(st.lists(st.floats(-1e300, 0), min_size=size, max_size=size))
    return Trace(
        task=draw(st.integers(0, 2**64 - 1)),
        sample=draw(st.integers(0, 2**32 - 1)),
        prompt=draw(TEXT),
        completion=draw(TEXT),
        tokens=tokens,
        logprobs=logprobs,
        finish=draw(st.sampled_from(["stop", "length"])),
        checkpoint=draw(st.none() | st.integers(1, 2**64 - 1)),
        model=draw(TEXT),
        temperature=temperature,
        max_tokens=draw(st.integers(1, 2**32 - 1)),
        claimed_score=draw(st.none() | RATIO),
    )


# st.characters() holds lone surrogates, which JSON can escape and UTF-8 can't carry.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(traces())
def test_round_trip(trace):
    line = encode_line(trace)
    assert b"\n" not in line
    assert decode_line(line) == trace
    assert encode_line(decode_line(line)) == line


@given(st.binary(max_size=200))
def test_any_bytes_are_a_trace_or_malformed(line):
    with pytest.raises(MalformedTrace):
        decode_line(line)


@given(traces(), st.data())
def test_any_value_in_any_field_is_a_trace_or_malformed(trace, data):
    record = json.loads(encode_line(trace))
    record[data.draw(st.sampled_from(sorted(record)))] = data.draw(JSON)
    try:
        changed = decode_line(json.dumps(record).encode())
    except MalformedTrace:
        return
    assert decode_line(encode_line(changed)) == changed


@given(traces(), st.data())
def test_any_damaged_byte_is_a_trace_or_malformed(trace, data):
    line = bytearray(encode_line(trace))
    line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode_line(bytes(line))
    except MalformedTrace:
        return
    assert decode_line(encode_line(changed)) == changed


LINES = st.lists(
    st.binary(min_size=1, max_size=200).filter(lambda line: b"\n" not in line),
    min_size=1,
    max_size=20,
)


@given(LINES)
def test_batch_round_trip(lines):
    assert unpack(pack(lines), len(lines)) == lines


@given(LINES, st.integers(1, 25))
def test_batch_with_another_count(lines, count):
    if count == len(lines):
        return
    with pytest.raises(MalformedBatch, match=f"{count}"):
        unpack(pack(lines), count)


@given(LINES, st.data())
def test_no_damaged_batch_passes_as_another(lines, data):
    packed = bytearray(pack(lines))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(MalformedBatch):  # or it was a bit that carries nothing
        assert unpack(bytes(packed), len(lines)) == lines


@given(st.binary(max_size=300), st.integers(1, 5))
def test_any_bytes_behind_the_magic_are_malformed_or_lines(junk, count):
    try:
        lines = unpack(b"\x28\xb5\x2f\xfd" + junk, count)
    except MalformedBatch:
        return
    assert len(lines) == count
