"""Items and answers keep what they hold; what is no answer is refused."""

from __future__ import annotations

import math
import struct

import pytest

from marketplace.gym import records
from marketplace.gym.records import MAX_DETAIL_CHARS, Answer, State
from marketplace.protocol.verdict import Reason

ITEMS = [
    (b"\x01" * 32, "text", "prompt"),
    (b"", None, None),
    (b"\x02" * 32, "", ""),
    (b"\x03" * 32, "\u20ac \ud800 \x00", None),
    (b"\x04" * 32, None, "\U0001f9ee"),
]
ANSWERS = [
    Answer(State.SCORED, Reason.CORRECT, 1.0, "fine"),
    Answer(State.SCORED, Reason.WRONG, 0.0, ""),
    Answer(State.PROMPT, 0, 0.0, "\u20ac"),
    Answer(State.UNSCORED, 0, 0.0, ""),
    Answer(State.TIMEOUT, 0, 0.0, "over 2 seconds"),
]
RECORDS = [records.pack_answer(number, answer, number / 8) for number, answer in enumerate(ANSWERS)]


def test_items_come_out_as_they_went_in() -> None:
    packed = [records.pack_item(*item) for item in ITEMS]
    joined = b"".join(packed)
    assert list(records.unpack_items(joined)) == ITEMS
    assert [joined[place:] for place in records.starts(joined)] == [
        b"".join(packed[place:]) for place in range(len(ITEMS))
    ]


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_answers_come_out_in_any_pieces(piece: int) -> None:
    sent, buffer = b"".join(RECORDS), bytearray()
    taken: list[bytes] = []
    cpu = 0.0
    for place in range(0, len(sent), piece):
        buffer += sent[place : place + piece]
        found, states, cpu = records.take_answers(buffer, len(taken), cpu, 100)
        assert [ANSWERS[len(taken) + more].state for more in range(len(found))] == states
        taken += found
    assert (taken, cpu, buffer) == (RECORDS, 0.5, b"")
    assert list(records.unpack_answers(sent)) == ANSWERS


def test_no_more_is_taken_than_was_asked_for() -> None:
    buffer = bytearray(b"".join(RECORDS))
    found, _, _ = records.take_answers(buffer, 0, 0.0, 2)
    assert found == RECORDS[:2]
    assert buffer == b"".join(RECORDS[2:])


def test_a_detail_is_cut_and_made_valid() -> None:
    (answer,) = records.unpack_answers(
        records.pack_answer(0, Answer(State.ERROR, 0, 0.0, "\ud800" + "\U0001f9ee" * 1000), 0.0)
    )
    assert answer.detail == "?" + "\U0001f9ee" * (MAX_DETAIL_CHARS - 1)


@pytest.mark.parametrize(
    "fields",
    [
        (0, 1, 0, 1, 1.0, 1.0),  # not the next one
        (0, 0, 9, 0, 0.0, 1.0),  # no such state
        (0, 0, 0, 99, 1.0, 1.0),  # no such reason
        (0, 0, 0, 0, 1.0, 1.0),
        (0, 0, 3, 1, 0.0, 1.0),  # an error has no reason
        (0, 0, 3, 99, 0.0, 1.0),
        (0, 0, 3, 0, 0.5, 1.0),  # nor a score
        (0, 0, 0, 1, 1.5, 1.0),
        (0, 0, 0, 1, math.nan, 1.0),
        (0, 0, 0, 1, 1.0, math.nan),
        (0, 0, 0, 1, 1.0, math.inf),
        (0, 0, 0, 1, 1.0, 0.25),  # time that runs back
        (60_000, 0, 0, 1, 1.0, 1.0),
    ],
)
def test_what_is_no_answer_is_refused(fields: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"no such|not the next"):
        records.take_answers(bytearray(struct.pack(">HIBBdd", *fields)), 0, 0.5, 1)
