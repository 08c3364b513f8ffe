"""Items and answers as bytes: what goes through the pipes between pool, worker and runner.

Fixed layouts rather than JSON, for a check may take microseconds; nothing in them is code. All
integers are big-endian, texts UTF-8 (lone surrogates let through: a checker may be asked about
them).

    item    u32 length of the record | u8 seed bytes | i32 completion bytes | i32 prompt bytes
            | seed | completion | prompt          (-1: there is no completion, or no prompt)
    answer  u16 detail bytes | u32 number | u8 state | u8 reason | f64 score | f64 cpu | detail
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, Final, NamedTuple

from marketplace.protocol.verdict import Reason

MAX_DETAIL_CHARS: Final = 500

_ITEM: Final = struct.Struct(">IBii")
_ANSWER: Final = struct.Struct(">HIBBdd")
_MAX_DETAIL_BYTES: Final = 4 * MAX_DETAIL_CHARS
_REASONS: Final = frozenset(int(reason) for reason in Reason)


class State(IntEnum):
    """What became of an item."""

    SCORED = 0
    UNSCORED = 1  # only its prompt was asked about
    PROMPT = 2
    ERROR = 3
    TIMEOUT = 4
    MEMORY = 5  # an error that a process with less behind it might not have had
    MACHINE = 6  # no disk or no file handles: nothing can be said of the item here


_STATES: Final = frozenset(int(state) for state in State)


class Answer(NamedTuple):
    """state: of State. reason, score: if SCORED, else 0. detail: one line for people."""

    state: int
    reason: int
    score: float
    detail: str


def pack_item(seed: bytes, completion: str | None, prompt: str | None) -> bytes:
    """The record of an item. seed: at most 255 bytes."""
    told = b"" if completion is None else completion.encode("utf-8", "surrogatepass")
    asked = b"" if prompt is None else prompt.encode("utf-8", "surrogatepass")
    head = _ITEM.pack(
        _ITEM.size + len(seed) + len(told) + len(asked),
        len(seed),
        -1 if completion is None else len(told),
        -1 if prompt is None else len(asked),
    )
    return b"".join((head, seed, told, asked))


def starts(items: bytes) -> list[int]:
    """Where each record begins."""
    found, place = [], 0
    while place < len(items):
        found.append(place)
        place += int.from_bytes(items[place : place + 4], "big")
    return found


def unpack_items(items: bytes) -> Iterator[tuple[bytes, str | None, str | None]]:
    """(seed, completion, prompt) of each record."""
    place = 0
    while place < len(items):
        length, of_seed, told, asked = _ITEM.unpack_from(items, place)
        one = place + _ITEM.size + of_seed
        two = one + max(told, 0)
        end = place + length
        yield (
            items[one - of_seed : one],
            None if told < 0 else items[one:two].decode("utf-8", "surrogatepass"),
            None if asked < 0 else items[two:end].decode("utf-8", "surrogatepass"),
        )
        place = end


def pack_answer(number: int, answer: Answer, cpu: float) -> bytes:
    """The record of an answer. number: which item of its runner it is, from 0. cpu: seconds that
    the runner has used so far."""
    detail = answer.detail[:MAX_DETAIL_CHARS].encode("utf-8", "replace")
    return _ANSWER.pack(len(detail), number, *answer[:3], cpu) + detail


def take_answers(
    buffer: bytearray, number: int, cpu: float, most: int
) -> tuple[list[bytes], list[int], float]:
    """Removes whole records, `most` at most, from buffer: the records, their states, and the CPU
    time of the last one. number, cpu: of the next answer, and what the last one said.

    Raises ValueError for what is no answer, or not the next one: who sends it may be hostile. What
    came before it is given first.
    """
    records: list[bytes] = []
    states: list[int] = []
    place = 0
    while len(records) < most and len(buffer) - place >= _ANSWER.size:
        try:
            length, state, then = _checked(_ANSWER.unpack_from(buffer, place), number, cpu)
            end = place + _ANSWER.size + length
            if end > len(buffer):
                break
            buffer[end - length : end].decode("utf-8")
        except ValueError:
            if records:
                break
            raise
        records.append(bytes(buffer[place:end]))
        states.append(state)
        place, number, cpu = end, number + 1, then
    del buffer[:place]
    return records, states, cpu


def _checked(fields: tuple[Any, ...], number: int, cpu: float) -> tuple[int, int, float]:
    """(length, state, cpu) of an answer's fixed part. ValueError as take_answers."""
    length, found, state, reason, score, then = fields
    if found != number or length > _MAX_DETAIL_BYTES:
        raise ValueError("not the next answer")
    # Comparisons with NaN are false.
    if state == State.SCORED and not (0.0 <= score <= 1.0 and reason in _REASONS):
        raise ValueError("no such score or reason")
    if state != State.SCORED and (state not in _STATES or reason or score != 0.0):
        raise ValueError("no such state, or one that has no score")
    if not cpu <= then < math.inf:
        raise ValueError("no such time")
    return length, state, then


def unpack_answers(records: Any) -> Iterable[Answer]:
    """The answers in bytes that take_answers has seen, or that pack_answer made."""
    place = 0
    while place < len(records):
        length, _, state, reason, score, _ = _ANSWER.unpack_from(records, place)
        place += _ANSWER.size + length
        yield Answer(state, reason, score, records[place - length : place].decode("utf-8"))
