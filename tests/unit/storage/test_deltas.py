"""Deltas between safetensors files: exact, small where little changed, harmless if hostile."""

from __future__ import annotations

import io
import json
import random
import struct

import numpy as np
import pytest
import zstandard

from marketplace.protocol.errors import CheckpointError, StorageError
from marketplace.storage.deltas import BLOCK_WORDS, MAGIC, make_delta, rebuilt


def _safetensors(path, arrays, kinds=None, **extra):
    entries, body = dict(extra), b""
    for name, array in arrays.items():
        data = array.tobytes()
        kind = (kinds or {}).get(name, {4: "F32", 2: "BF16", 1: "U8"}[array.itemsize])
        entries[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + body)
    return path


def _made(parent, child, folder):
    delta = folder / "delta"
    size = make_delta(parent, child, delta)
    assert size == delta.stat().st_size
    return delta


def _apply(parent, delta, size):
    return b"".join(rebuilt(parent, delta, size))


def _weights(seed, count):
    return np.random.default_rng(seed).normal(size=count).astype("<f4")


@pytest.mark.parametrize("count", [1, 7, 5_000, BLOCK_WORDS + 3])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 1.0])
def test_the_child_comes_out_exactly(tmp_path, count, share):
    before = _weights(0, count)
    after = before.copy()
    moved = np.random.default_rng(1).random(count) < share
    after[moved] += np.float32(1e-4) * _weights(2, count)[moved]
    parent = _safetensors(tmp_path / "a", {"w": before})
    child = _safetensors(tmp_path / "b", {"w": after})
    delta = _made(parent, child, tmp_path)
    assert _apply(parent, delta, child.stat().st_size) == child.read_bytes()


def test_any_bits_of_any_width_survive(tmp_path):
    # Infinities, NaN payloads, signs, wrap-around; two kinds of words; another header.
    bits = np.array([0, 1, 2**31, 2**32 - 1, 0x7FC00001, 0xFF800000] * 50, dtype="<u4")
    arrays = {"a": bits.view("<f4"), "b": np.arange(30, dtype="<u2"), "c": np.zeros(2, "u1")}
    other = {"a": bits[::-1].copy().view("<f4"), "b": arrays["b"][::-1].copy(), "c": arrays["c"]}
    parent = _safetensors(tmp_path / "a", arrays)
    child = _safetensors(tmp_path / "b", other, __metadata__={"format": "pt"})
    for old, new in ((parent, child), (child, parent)):
        delta = _made(old, new, tmp_path)
        assert _apply(old, delta, new.stat().st_size) == new.read_bytes()


def test_files_that_are_no_safetensors_are_bytes(tmp_path):
    old, new = tmp_path / "a", tmp_path / "b"
    for size in (0, 5, 8, 9):
        old.write_bytes(bytes(range(size)))
        new.write_bytes(bytes(range(size))[::-1])
        assert _apply(old, _made(old, new, tmp_path), size) == new.read_bytes()


def test_small_moves_make_small_deltas(tmp_path):
    count = 200_000
    before = _weights(0, count)
    sparse = before.copy()
    sparse[::100] *= np.float32(1 + 1e-6)
    dense = before + np.float32(1e-6) * np.sign(_weights(1, count))
    parent = _safetensors(tmp_path / "a", {"w": before})
    sizes = {}
    for name, weights in (("sparse", sparse), ("dense", dense), ("other", _weights(2, count))):
        child = _safetensors(tmp_path / name, {"w": weights})
        sizes[name] = make_delta(parent, child, tmp_path / "delta") / child.stat().st_size
    assert sizes["sparse"] < 0.01
    assert sizes["dense"] < 0.35
    assert 0.8 < sizes["other"] < 1.1


def test_other_shapes_have_no_delta(tmp_path):
    parent = _safetensors(tmp_path / "a", {"w": _weights(0, 8)})
    child = _safetensors(tmp_path / "b", {"w": _weights(0, 9)})
    assert make_delta(parent, child, tmp_path / "delta") is None
    assert not (tmp_path / "delta").exists()
    with pytest.raises(StorageError, match="missing"):
        make_delta(tmp_path / "missing", child, tmp_path / "delta")


def test_damaged_deltas_end_in_an_error_or_in_other_bytes(tmp_path):
    before = _weights(0, 3_000)
    after = before.copy()
    after[::7] += np.float32(1e-3)
    parent = _safetensors(tmp_path / "a", {"w": before})
    child = _safetensors(tmp_path / "b", {"w": after})
    good = _made(parent, child, tmp_path).read_bytes()
    size = child.stat().st_size
    bad = tmp_path / "bad"
    draw = random.Random(0)
    refused = 0
    for cut in (0, 4, len(MAGIC) + 3, len(good) // 2, len(good) - 1):
        bad.write_bytes(good[:cut])
        with pytest.raises(CheckpointError, match="no delta that can be applied"):
            _apply(parent, bad, size)
    for _ in range(300):
        data = bytearray(good)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        bad.write_bytes(data)
        try:
            assert len(_apply(parent, bad, size)) == size
        except CheckpointError:
            refused += 1
    assert refused > 100


def _bomb(plain):
    out = io.BytesIO()
    with zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False) as writer:
        for _ in range(plain >> 20):
            writer.write(bytes(1 << 20))
    return out.getvalue()


def test_frames_are_not_unpacked_beyond_their_bound(tmp_path, monkeypatch):
    parent = _safetensors(tmp_path / "a", {"w": _weights(0, 64)})
    size = parent.stat().st_size
    header = size - 256
    head = struct.Struct("<BQII")
    bad = tmp_path / "bad"
    taken = []
    original = zstandard.ZstdDecompressor

    class Counting:
        def __init__(self, **options):
            self._inner = original(**options)

        def stream_reader(self, source):
            reader = self._inner.stream_reader(source)
            taken.append(reader)
            return reader

    monkeypatch.setattr(zstandard, "ZstdDecompressor", Counting)
    bomb = _bomb(256 << 20)
    bad.write_bytes(MAGIC + head.pack(4, size, header, len(bomb)) + bomb)
    with pytest.raises(CheckpointError, match=f"does not hold {header} bytes"):
        _apply(parent, bad, size)
    assert taken[-1].tell() <= header + 1
    frame = zstandard.ZstdCompressor().compress(bytes(header))
    start = MAGIC + head.pack(4, size, header, len(frame)) + frame
    bad.write_bytes(start + struct.pack("<III", 64, 0, len(bomb)) + bomb)
    with pytest.raises(CheckpointError, match="does not hold 256 bytes"):
        _apply(parent, bad, size)
    assert taken[-1].tell() <= 257


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ((65, 0, 0), "65 words change in a block of 64"),
        ((63, 0, 0), "does not say which 63 words"),
        ((1, 2**32 - 1, 0), "a piece of 4294967295 bytes"),
        ((1, 4, 0), "can't be unpacked|ends"),
    ],
)
def test_blocks_that_can_not_be(tmp_path, block, reason):
    parent = _safetensors(tmp_path / "a", {"w": _weights(0, 64)})
    size = parent.stat().st_size
    delta = _made(parent, parent, tmp_path)
    data = delta.read_bytes()[:-12] + struct.pack("<III", *block) + b"junk"
    delta.write_bytes(data)
    with pytest.raises(CheckpointError, match=reason):
        _apply(parent, delta, size)


def test_a_change_beyond_the_block_is_refused(tmp_path):
    parent = _safetensors(tmp_path / "a", {"w": _weights(0, 64)})
    delta = _made(parent, parent, tmp_path)
    pack = zstandard.ZstdCompressor().compress
    gaps, words = pack(struct.pack("<I", 2**32 - 1)), pack(bytes(4))
    block = struct.pack("<III", 1, len(gaps), len(words)) + gaps + words
    delta.write_bytes(delta.read_bytes()[:-12] + block)
    with pytest.raises(CheckpointError, match="word 4294967295 of a block of 64"):
        _apply(parent, delta, parent.stat().st_size)


def test_a_delta_for_another_size_or_kind(tmp_path):
    parent = _safetensors(tmp_path / "a", {"w": _weights(0, 64)})
    delta = _made(parent, parent, tmp_path)
    with pytest.raises(CheckpointError, match="not 5"):
        _apply(parent, delta, 5)
    data = delta.read_bytes()
    delta.write_bytes(data[:8] + b"\x03" + data[9:])
    with pytest.raises(CheckpointError, match="words of 3 bytes"):
        _apply(parent, delta, parent.stat().st_size)
    delta.write_bytes(b"junk" + data)
    with pytest.raises(CheckpointError, match="does not begin"):
        _apply(parent, delta, parent.stat().st_size)
