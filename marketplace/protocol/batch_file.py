"""The batch file: JSON Lines, every line ended by a newline, as exactly one zstd frame (RFC 8878).

Whoever wrote the file may be hostile. Its end is found by walking the block headers
(nothing decompressed), then it is decompressed in pieces and stopped at the limit. What
counts as well formed depends on the bytes and the count alone, so that every verifier sees
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import zstandard

from marketplace.protocol.errors import BatchTooLarge, MalformedBatch
from marketplace.protocol.trace import MAX_LINE_BYTES

BYTES_PER_LINE: Final = 64 << 10
SPARE_BYTES: Final = 1 << 20
MAX_BATCH_BYTES: Final = 1 << 30
MAX_WINDOW_BYTES: Final = 8 << 20
"""The decompressor's own memory. zstd up to level 19 stays within it."""

_LEVEL = 9
_PIECE = 256 << 10
_MAGIC = b"\x28\xb5\x2f\xfd"
_RAW, _RLE, _COMPRESSED = 0, 1, 2
_MAX_BLOCK = 128 << 10
_SPLITS_PER_BLOCK = 200
"""zstd cuts a full block into at most 196 smaller ones."""

Buffer = bytes | memoryview
"""Packed bytes; memoryview(mmap) for a file that should not be read into memory."""


def max_unpacked_bytes(count: int) -> int:
    """The decompressed limit of a batch of count lines: count * 64 KiB + 1 MiB, at most 1 GiB."""
    return min(count * BYTES_PER_LINE + SPARE_BYTES, MAX_BATCH_BYTES)


def max_packed_bytes(count: int) -> int:
    """The compressed limit: what bytes that don't compress need at most. For bounded downloads."""
    return max_unpacked_bytes(count) + (max_unpacked_bytes(count) >> 8) + 1024


def pack(lines: Iterable[bytes]) -> bytes:
    """The batch file of these lines (given without newlines).

    Raises MalformedBatch for no lines, an empty line or a newline inside one; BatchTooLarge
    over the limits of `unpack`.
    """
    checked = []
    total = 0
    for index, line in enumerate(lines):
        if not line or b"\n" in line:
            what = "holds a newline" if line else "is empty"
            raise MalformedBatch(f"line {index} {what}")
        if len(line) > MAX_LINE_BYTES:
            raise BatchTooLarge(f"line {index} has {len(line)} bytes, over {MAX_LINE_BYTES}")
        checked.append(line)
        total += len(line) + 1
    if not checked:
        raise MalformedBatch("a batch needs at least one line, got 0")
    limit = max_unpacked_bytes(len(checked))
    if total > limit:
        raise BatchTooLarge(
            f"{len(checked)} lines have {total} bytes, over {limit}",
            fix="shorten the traces or commit fewer in a batch",
        )
    checked.append(b"")  # so that the last line ends in a newline too
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    return compressor.compress(b"\n".join(checked))


def unpack(data: Buffer, count: int) -> list[bytes]:
    """The count lines of a batch file, without newlines. Errors as iter_lines."""
    return list(iter_lines(data, count))


def iter_lines(data: Buffer, count: int) -> Iterator[bytes]:
    """The lines one by one, holding a line and a few hundred KiB at most.

    Raises MalformedBatch (not one whole zstd frame, an empty line, no last newline, another
    number of lines) or BatchTooLarge. A batch is only known to be well formed once the
    iterator is exhausted: an error can come after good lines.
    """
    if count < 1:
        raise MalformedBatch(f"a batch has at least one line, not {count}")
    limit = max_unpacked_bytes(count)
    _check_frame(data, count, limit)
    found = 0
    open_line = b""
    for piece in _pieces(data, limit):
        *complete, open_line = (open_line + piece).split(b"\n")
        for line in complete:
            if not line:
                raise MalformedBatch(f"line {found} is empty")
            _check_length(line, found)
            if found == count:  # one too many is enough: the rest is not even counted
                raise MalformedBatch(f"the file has more than {count} lines, the batch {count}")
            yield line
            found += 1
        _check_length(open_line, found)
    if open_line:
        raise MalformedBatch(f"line {found}, the last, does not end in a newline")
    if found != count:
        raise MalformedBatch(f"the file has {found} lines, the batch {count}")


def _check_length(line: bytes, index: int) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise BatchTooLarge(f"line {index} is over {MAX_LINE_BYTES} bytes")


def _pieces(data: Buffer, limit: int) -> Iterator[bytes]:
    total = 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            while piece := reader.read(_PIECE):
                total += len(piece)
                if total > limit:
                    raise BatchTooLarge(f"the batch unpacks to more than {limit} bytes")
                yield piece
    except zstandard.ZstdError as error:
        raise MalformedBatch(f"the zstd data is damaged: {error}") from None


def _check_frame(data: Buffer, count: int, limit: int) -> None:
    """Refuses anything but one frame that ends where the data ends. RFC 8878 3.1.1."""
    if len(data) > max_packed_bytes(count):
        raise BatchTooLarge(
            f"the file has {len(data)} bytes, over {max_packed_bytes(count)} for {count} lines"
        )
    if bytes(data[:4]) != _MAGIC:
        raise MalformedBatch(f"the file starts with 0x{bytes(data[:4]).hex()}, not zstd's magic")
    head = bytes(data[:18])  # the longest header
    try:
        frame = zstandard.get_frame_parameters(head)
        position = zstandard.frame_header_size(head)
    except zstandard.ZstdError as error:
        raise MalformedBatch(f"the zstd header is damaged: {error}") from None
    if frame.dict_id:
        raise MalformedBatch(f"the zstd frame needs dictionary {frame.dict_id}")
    if frame.window_size > MAX_WINDOW_BYTES:
        raise BatchTooLarge(
            f"the zstd window is {frame.window_size} bytes, over {MAX_WINDOW_BYTES}",
            fix="compress at level 19 or lower, without --long",
        )
    if frame.content_size != zstandard.CONTENTSIZE_UNKNOWN and frame.content_size > limit:
        raise BatchTooLarge(f"the batch unpacks to {frame.content_size} bytes, over {limit}")
    # Room for a compressor flushed at every line; without a bound, millions of empty blocks.
    most_blocks = 2 * count + _SPLITS_PER_BLOCK * (limit // _MAX_BLOCK + 1)
    end = _end_of_blocks(data, position, most_blocks) + (4 if frame.has_checksum else 0)
    if end > len(data):
        raise MalformedBatch(f"the zstd frame is cut off at byte {len(data)}")
    if end < len(data):
        raise MalformedBatch(f"{len(data) - end} bytes follow the zstd frame")


def _end_of_blocks(data: Buffer, position: int, most: int) -> int:
    """Where the last block ends (possibly past the data). Block headers are 3 bytes, RFC 8878
    3.1.1.2: last block 1 bit, type 2 bits, size 21 bits, little-endian."""
    for _ in range(most):
        if position + 3 > len(data):
            raise MalformedBatch(f"the zstd frame is cut off at byte {len(data)}")
        header = int.from_bytes(data[position : position + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind not in (_RAW, _RLE, _COMPRESSED):
            raise MalformedBatch(f"the zstd block at byte {position} has the reserved type")
        if size > _MAX_BLOCK:
            raise MalformedBatch(f"the zstd block at byte {position} claims {size} bytes")
        position += 3 + (1 if kind == _RLE else size)
        if last:
            return position
    raise BatchTooLarge(f"the zstd frame has more than {most} blocks")
