"""The verdict file: one canonical form, read strictly."""

import pytest

from marketplace.protocol.errors import MalformedVerdicts
from marketplace.protocol.verdict import Reason, Verdict, decode_verdicts, encode_verdicts

VERDICTS = [Verdict(1_000_000, Reason.CORRECT, 1, 0), Verdict(0, Reason.UNASSIGNED, 0, 1)]
FILE = (
    b'{"i":0,"score":1000000,"reason":1,"units":1,"faults":0}\n'
    b'{"i":1,"score":0,"reason":17,"units":0,"faults":1}\n'
)


def test_both_ways():
    assert encode_verdicts(VERDICTS) == FILE
    assert decode_verdicts(FILE, 2) == VERDICTS
    assert type(decode_verdicts(FILE, 2)[0].reason) is Reason


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"i":1', b'"i":0', "verdict 1 says it is number 0"),
        (b'"i":1', b'"i":true', "verdict 1 says it is number True"),
        (b'"i":1', b'"i":1.0', "verdict 1 says"),
        (b"1000000", b"1000000.0", "verdict 0 is not valid"),
        (b"1000000", b"1e6", "verdict 0 is not valid"),
        (b"1000000", b"NaN", "verdict 0 is not valid"),
        (b"1000000", b"1000001", "score_ppm is 1000001"),
        (b"1000000", b"9" * 5000, "verdict 0 is not valid"),
        (b'"reason":17', b'"reason":9', "unknown reason 9"),
        (b'"reason":17', b'"reason":"17"', "unknown reason"),
        (b'"reason":17', b'"reason":2', "faults is 1 with reason WRONG"),
        (b'"reason":1,', b'"reason":true,', "unknown reason True"),
        (b'"units":1', b'"units":2', "units is 2"),
        (b'"units":1', b'"units":1,"x":0', "verdict 0 does not have exactly the keys"),
        (b'"units":1,', b"", "verdict 0 does not have exactly the keys"),
        (b'"units":1', b'"units":1,"units":1', "key 'units' appears twice"),
        (b'"units":1', b'"units": 1', "not in canonical form"),
        (b'"score":0', b'"score":-0', "not in canonical form"),
        (b'{"i":1', b'\xff{"i":1', "verdict 1 is not valid"),
        (b'{"i":1', b"[", "verdict 1 is not valid"),
        (b'{"i":1', b"[" * 100_000, "verdict 1 is not valid"),
    ],
)
def test_refused(old, new, message):
    assert old in FILE
    with pytest.raises(MalformedVerdicts, match=message) as caught:
        decode_verdicts(FILE.replace(old, new, 1), 2)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("data", "count", "message"),
    [
        (FILE, 1, "has 2 lines, the batch 1"),
        (FILE, 3, "has 2 lines, the batch 3"),
        (FILE[:-1], 2, "does not end with a newline"),
        (b"", 1, "does not end|has 0 lines"),
        (FILE + b"\n", 2, "has 3 lines"),
        (FILE.replace(b"\n", b"\r\n"), 2, "not in canonical form"),
    ],
)
def test_refused_as_a_whole(data, count, message):
    with pytest.raises(MalformedVerdicts, match=message):
        decode_verdicts(data, count)
