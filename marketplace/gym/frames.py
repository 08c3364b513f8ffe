"""Messages between the pool, its workers and their runners: a length and a body, over pipes.

A body is JSON, or records (records.py) where there are many. Never pickle: what a runner sends is
data for its worker, never code.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

from marketplace.protocol import strict_json

HEADER_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 1 << 30
_MAX_DEPTH: Final = 8


def encode_frame(message: Any) -> bytes:
    """4 bytes big-endian length, then ASCII JSON."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def send(fd: int, message: Any) -> None:
    """Writes a whole frame. Raises OSError (BrokenPipeError if nobody reads any more)."""
    write(fd, encode_frame(message))


def send_bytes(fd: int, *pieces: bytes) -> None:
    """Writes a frame of bytes, given in pieces. Errors as `send`."""
    length = sum(map(len, pieces))
    write(fd, b"".join((length.to_bytes(HEADER_BYTES, "big"), *pieces)))


def write(fd: int, data: bytes) -> None:
    """Writes all of data, waiting for room. Errors as `send`."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def receive(fd: int) -> Any:
    """Reads a whole frame, waiting for it; None at the end of the stream or in mid-frame."""
    body = receive_bytes(fd)
    return None if body is None else json.loads(body)


def receive_bytes(fd: int) -> bytes | None:
    """The body of a whole frame, as `receive`."""
    header = _read(fd, HEADER_BYTES)
    return None if header is None else _read(fd, int.from_bytes(header, "big"))


def take_frame(buffer: bytearray, limit: int = MAX_FRAME_BYTES) -> Any:
    """Removes the first whole frame from buffer and returns it; None if there is none yet.

    Raises ValueError for a frame over limit bytes or one that is not JSON: who sends it may be
    hostile.
    """
    if len(buffer) < HEADER_BYTES:
        return None
    end = HEADER_BYTES + int.from_bytes(buffer[:HEADER_BYTES], "big")
    if end > limit:
        raise ValueError(f"a frame of {end} bytes, over {limit}")
    if len(buffer) < end:
        return None
    body = bytes(buffer[HEADER_BYTES:end])
    del buffer[:end]
    return strict_json.loads(body.decode("ascii"), depth=_MAX_DEPTH)


def _read(fd: int, count: int) -> bytes | None:
    pieces = []
    while count:
        piece = os.read(fd, min(count, 1 << 20))
        if not piece:
            return None
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
