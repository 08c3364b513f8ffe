"""The batch file: packing, strict unpacking, and hostile input within bounded memory."""

import tracemalloc

import pytest
import zstandard

from marketplace.protocol.batch_file import (
    MAX_BATCH_BYTES,
    iter_lines,
    max_packed_bytes,
    max_unpacked_bytes,
    pack,
    unpack,
)
from marketplace.protocol.errors import BatchTooLarge, MalformedBatch
from marketplace.protocol.trace import MAX_LINE_BYTES

MIB = 1 << 20


def frame(content: bytes, **options) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(content)


def streamed(content: bytes, level: int = 3) -> bytes:
    """A frame that does not announce its content size."""
    compressor = zstandard.ZstdCompressor(level=level).compressobj()
    return compressor.compress(content) + compressor.flush()


def test_round_trip():
    lines = [b"{}", "é ∑\r\x00".encode(), b" "]
    packed = pack(lines)
    assert unpack(packed, 3) == list(iter_lines(packed, 3)) == lines
    assert unpack(memoryview(packed), 3) == lines
    assert zstandard.ZstdDecompressor().decompress(packed) == b"\n".join(lines) + b"\n"
    assert pack(lines) == packed


def test_other_encoders_are_welcome():
    content = b"".join(b"line %d\n" % index for index in range(5000))
    expected = content.split(b"\n")[:-1]
    for packed in (
        frame(content),
        frame(content, level=19),
        frame(content, write_checksum=False, write_content_size=False),
        streamed(content),
    ):
        assert unpack(packed, 5000) == expected


def test_a_compressor_flushed_at_every_line_is_welcome():
    compressor = zstandard.ZstdCompressor().compressobj()
    packed = b""
    for index in range(2000):
        packed += compressor.compress(b"line %d\n" % index)
        packed += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    packed += compressor.flush()
    assert len(unpack(packed, 2000)) == 2000


def test_lines_across_pieces():
    lines = [bytes([65 + index % 26]) * (index * 7919 % 90_000 + 1) for index in range(60)]
    assert unpack(pack(lines), 60) == lines


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "at least one line, got 0"),
        ([b"a", b""], "line 1 is empty"),
        ([b"a", b"b\nc"], "line 1 holds a newline"),
        ([b"a" * (MAX_LINE_BYTES + 1)], "line 0 has 1048577 bytes"),
        ([b"a" * MAX_LINE_BYTES] * 3, "3 lines have 3145731 bytes, over 1245184"),
    ],
)
def test_pack_refuses(lines, message):
    with pytest.raises(MalformedBatch, match=message):
        pack(lines)


@pytest.mark.parametrize(
    ("content", "count", "message"),
    [
        (b"a\nb\n", 1, "more than 1 lines, the batch 1"),
        (b"a\nb\n", 3, "has 2 lines, the batch 3"),
        (b"", 1, "has 0 lines, the batch 1"),
        (b"a\nb", 2, "line 1, the last, does not end in a newline"),
        (b"a", 1, "line 0, the last, does not end in a newline"),
        (b"\n", 1, "line 0 is empty"),
        (b"a\n\nb\n", 3, "line 1 is empty"),
        (b"a\n\n", 1, "line 1 is empty"),
        (b"a\n", 0, "at least one line, not 0"),
    ],
)
def test_wrong_lines(content, count, message):
    with pytest.raises(MalformedBatch, match=message):
        unpack(frame(content), count)


GOOD = pack([b"a", b"b"])
SKIPPABLE = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with 0x, not"),
        (b"a\nb\n", "starts with 0x610a620a, not"),
        (b"\x1f\x8b\x08\x00", "starts with 0x1f8b0800"),
        (b"\x28\xb5\x2f\xfd", "header is damaged"),
        (GOOD + b"\0", "1 bytes follow the zstd frame"),
        (GOOD + GOOD, "bytes follow the zstd frame"),
        (GOOD + SKIPPABLE, "11 bytes follow the zstd frame"),
        (SKIPPABLE + GOOD, "starts with 0x502a4d18"),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), "zstd data is damaged"),
    ],
)
def test_not_one_whole_frame(data, message):
    with pytest.raises(MalformedBatch, match=message):
        unpack(data, 2)


def test_every_truncation_is_refused():
    packed = pack([b"line %d" % index for index in range(50)])
    for length in range(len(packed)):
        with pytest.raises(MalformedBatch, match=f"magic|header is damaged|off at byte {length}$"):
            unpack(packed[:length], 50)


def test_a_frame_with_a_dictionary_is_refused():
    samples = [b'{"task":%d,"prompt":"What is %d + 2?"}' % (i, i * i) for i in range(2000)]
    dictionary = zstandard.train_dictionary(2048, samples)
    with pytest.raises(MalformedBatch, match=f"dictionary {dictionary.dict_id()}"):
        unpack(frame(b"a\n", dict_data=dictionary), 1)


def test_limits():
    assert max_unpacked_bytes(8) == 8 * 64 * 1024 + MIB
    assert max_unpacked_bytes(10**9) == MAX_BATCH_BYTES == 2**30
    assert max_packed_bytes(8) > max_unpacked_bytes(8)


def test_the_limit_is_exact():
    # One long line and seven that fill the rest of 8 * 64 KiB + 1 MiB, newlines counted.
    rest = (max_unpacked_bytes(8) - MAX_LINE_BYTES - 1) // 7
    lines = [b"a" * MAX_LINE_BYTES, *[b"b" * (rest - 1)] * 7]
    spare = max_unpacked_bytes(8) - sum(len(line) + 1 for line in lines)
    lines[1] += b"b" * spare
    content = b"\n".join(lines) + b"\n"
    assert len(content) == max_unpacked_bytes(8)
    assert unpack(streamed(content), 8) == lines
    over = b"\n".join([*lines[:-1], lines[-1] + b"b"]) + b"\n"
    for packed in (streamed(over), frame(over)):
        with pytest.raises(BatchTooLarge, match=r"unpacks to .*1572864"):
            unpack(packed, 8)


def window(log: int, content: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=log, write_content_size=False)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def bomb_of(piece: bytes, pieces: int) -> bytes:
    """A frame of unknown content size, made without holding its content."""
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    return b"".join([*(compressor.compress(piece) for _ in range(pieces)), compressor.flush()])


ZEROS = 100_000_000
BOMBS = {
    "zeros without announced size": lambda: bomb_of(bytes(MIB), 96),
    "zeros with announced size": lambda: frame(bytes(ZEROS)),
    "newlines": lambda: bomb_of(b"\n" * MIB, 96),
    "many lines": lambda: bomb_of(b"ab\n" * (MIB // 3), 96),
    "lines of the full length": lambda: bomb_of(b"a" * MIB + b"\n", 96),
    "wide window": lambda: window(27, bytes(ZEROS)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_zip_bombs_in_bounded_memory(name):
    bomb = BOMBS[name]()
    assert len(bomb) < 20_000, "100 MB must really be packed small"
    tracemalloc.start()
    try:
        with pytest.raises(MalformedBatch):
            unpack(bomb, 8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The limit for 8 lines is 1.5 MiB; a line in two pieces and the lines so far may be held.
    assert peak < 6 * MIB


def test_a_bomb_is_too_large_not_just_malformed():
    with pytest.raises(BatchTooLarge, match="line 0 is over 1048576 bytes"):
        unpack(streamed(bytes(ZEROS)), 8)
    with pytest.raises(BatchTooLarge, match="unpacks to 100000000 bytes, over 1572864"):
        unpack(frame(bytes(ZEROS)), 8)
    with pytest.raises(BatchTooLarge, match="zstd window is 134217728 bytes"):
        unpack(window(27, bytes(ZEROS)), 8)


def test_millions_of_empty_blocks_are_refused():
    header = window(20, b"a\n")[:6]
    assert zstandard.frame_header_size(header) == 6
    empty, last = b"\0\0\0", (1 | 2 << 3).to_bytes(3, "little") + b"a\n"
    assert unpack(header + 100 * empty + last, 1) == [b"a"]
    with pytest.raises(BatchTooLarge, match=r"more than .* blocks"):
        unpack(header + 300_000 * empty + last, 1)


def test_more_packed_bytes_than_any_batch_needs():
    with pytest.raises(BatchTooLarge, match="for 1 lines"):
        unpack(bytes(max_packed_bytes(1) + 1), 1)


def test_reserved_and_oversized_blocks():
    header = window(20, b"a\n")[:6]
    reserved = (1 | 3 << 1 | 2 << 3).to_bytes(3, "little") + b"a\n"
    oversized = (1 | 1 << 1 | (200 << 10) << 3).to_bytes(3, "little") + b"a"
    for block, message in ((reserved, "reserved type"), (oversized, "claims 204800 bytes")):
        with pytest.raises(MalformedBatch, match=message):
            unpack(header + block, 1)


def test_an_error_can_come_after_good_lines():
    lines = iter_lines(frame(b"a\nb"), 2)
    assert next(lines) == b"a"
    with pytest.raises(MalformedBatch):
        next(lines)
