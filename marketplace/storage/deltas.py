"""What changed between two safetensors files, small enough to send instead of the second one.

    magic, width of a word, size of the child, its header (8 bytes of length and the JSON)
    then for each block of 2**20 words of the body:
        count     words that changed
        gaps      before each of them, unchanged words since the last (nothing if all changed)
        words     child - parent, modulo 2**bits, in zigzag order

Words are as wide as most weights. Weights that a step moves a little differ by a small whole
number of units in the last place, so the difference of their bits, read as integers, has zeros
on top; zigzag keeps the negative ones small too. Gaps and words are cut into planes (all lowest
bytes, then all second bytes, ...), which zstd packs far better than the mixture.

Nothing here is trusted: whoever applies a delta checks the result against the file's own CID
(checkpoints.py). What is read is bounded before it is unpacked, whatever a frame claims. Needs
numpy; without it checkpoints travel whole.
"""

from __future__ import annotations

import importlib.util
import io
import json
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import zstandard

from marketplace.protocol.errors import CheckpointError
from marketplace.storage.pending import pending_file
from marketplace.storage.store import StrPath, reading, writing

if TYPE_CHECKING:
    import numpy as np

MAGIC: Final = b"TMDELTA1"
BLOCK_WORDS: Final = 1 << 20
MAX_HEADER_BYTES: Final = 32 << 20
"""Of a safetensors file: a few hundred bytes for each tensor."""

_MAX_FRAME_BYTES: Final = MAX_HEADER_BYTES + (1 << 20)
"""Of one packed piece: the largest there is is a header that zstd can't shorten."""

_HEAD: Final = struct.Struct("<BQII")  # width, size of the child, header bytes: plain, packed
_BLOCK: Final = struct.Struct("<III")  # changed words, bytes of packed gaps, of packed words
_LEVEL: Final = 3
_WINDOW: Final = 1 << 24
_WIDTHS: Final = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2}


def available() -> bool:
    """Whether deltas can be made and applied here."""
    return importlib.util.find_spec("numpy") is not None


def make_delta(parent: StrPath, child: StrPath, out: StrPath) -> int | None:
    """Write to `out` what turns the parent into the child. Its bytes; None if bodies differ in
    length, as between models of another shape. Raises StorageError."""
    old, new, path = Path(parent), Path(child), Path(out)
    with reading(old), old.open("rb") as before, reading(new), new.open("rb") as after:
        _read_header(before)
        header = _read_header(after)
        body = new.stat().st_size - len(header)
        if body != old.stat().st_size - before.tell():
            return None
        width = _width(header, body)
        with writing(path), pending_file(path.parent) as pending:
            packed = _packer().compress(header)
            pending.file.write(MAGIC)
            pending.file.write(_HEAD.pack(width, len(header) + body, len(header), len(packed)))
            pending.file.write(packed)
            for size in _blocks(body, width):
                pending.file.write(_packed(before.read(size), after.read(size), width))
            pending.publish(path)
    return path.stat().st_size


def rebuilt(parent: StrPath, delta: StrPath, size: int) -> Iterator[bytes]:
    """The child's bytes, piece by piece: unproven until their CID is checked.

    size: of the child. Raises CheckpointError if the delta does not fit the parent or is
    malformed, StorageError.
    """
    old, path = Path(parent), Path(delta)
    with reading(path), path.open("rb") as source, reading(old), old.open("rb") as before:
        if source.read(len(MAGIC)) != MAGIC:
            raise _bad(path, "it does not begin as a delta does")
        width, whole, plain, packed = _HEAD.unpack(_exactly(source, _HEAD.size, path))
        body = old.stat().st_size - len(_read_header(before))
        if width not in (1, 2, 4, 8) or body % width:
            raise _bad(path, f"words of {width} bytes do not fill {body}")
        if whole != size or plain > MAX_HEADER_BYTES or plain + body != size:
            raise _bad(path, f"it makes {whole} bytes of a body of {body}, not {size}")
        yield _unpacked(_exactly(source, packed, path), plain, path)
        for length in _blocks(body, width):
            yield _applied(_exactly(before, length, old), source, width, path)


def _packed(old: bytes, new: bytes, width: int) -> bytes:
    import numpy as np

    if old == new:
        return _BLOCK.pack(0, 0, 0)
    kind = np.dtype(f"<u{width}")
    before, after = np.frombuffer(old, kind), np.frombuffer(new, kind)
    places = np.flatnonzero(before != after)
    gaps = b""
    if len(places) < len(before):
        gaps = _pack_planes((np.diff(places, prepend=-1) - 1).astype("<u4"))
    words = _pack_planes(_zigzag(after[places] - before[places], width))
    return _BLOCK.pack(len(places), len(gaps), len(words)) + gaps + words


def _applied(old: bytes, source: BinaryIO, width: int, path: Path) -> bytes:
    import numpy as np

    count, gap_bytes, word_bytes = _BLOCK.unpack(_exactly(source, _BLOCK.size, path))
    words = np.frombuffer(old, f"<u{width}").copy()
    if not count:
        return old
    if count > len(words):
        raise _bad(path, f"{count} words change in a block of {len(words)}")
    places: Any = slice(None)
    if gap_bytes:
        gaps = _unpack_planes(_exactly(source, gap_bytes, path), count, 4, path)
        places = np.cumsum(gaps.astype(np.int64) + 1) - 1
        if places[-1] >= len(words):
            raise _bad(path, f"it changes word {places[-1]} of a block of {len(words)}")
    elif count != len(words):
        raise _bad(path, f"it does not say which {count} words of a block change")
    changes = _unpack_planes(_exactly(source, word_bytes, path), count, width, path)
    words[places] += _unzigzag(changes, width)
    return words.tobytes()


def _zigzag(words: np.ndarray, width: int) -> np.ndarray:
    """0, -1, 1, -2, ... become 0, 1, 2, 3, ...: small numbers of either sign have zeros on top."""
    signed = words.view(f"<i{width}")
    return ((signed << 1) ^ (signed >> (8 * width - 1))).view(f"<u{width}")


def _unzigzag(words: np.ndarray, width: int) -> np.ndarray:
    one = words.dtype.type(1)
    return (words >> one) ^ (~(words & one) + one)


def _pack_planes(words: np.ndarray) -> bytes:
    import numpy as np

    planes = words.view(np.uint8).reshape(-1, words.itemsize).T
    return _packer().compress(np.ascontiguousarray(planes).tobytes())


def _unpack_planes(frame: bytes, count: int, width: int, path: Path) -> np.ndarray:
    import numpy as np

    data = _unpacked(frame, count * width, path)
    planes = np.frombuffer(data, np.uint8).reshape(width, count).T
    return np.ascontiguousarray(planes).view(f"<u{width}").reshape(count)


def _packer() -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(level=_LEVEL)


def _unpacked(frame: bytes, size: int, path: Path) -> bytes:
    """Exactly `size` bytes. Read as a stream: a frame may claim any size of its content."""
    try:
        unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        with unpacker.stream_reader(io.BytesIO(frame)) as reader:
            data = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise _bad(path, f"a frame can't be unpacked ({error})") from None
    if len(data) != size:
        raise _bad(path, f"a frame does not hold {size} bytes")
    return data


def _read_header(file: BinaryIO) -> bytes:
    """The bytes before the weights; none where the file is not safetensors."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) == 8 and length <= MAX_HEADER_BYTES - 8:
        text = file.read(length)
        if len(text) == length and text[:1] == b"{":
            return start + text
    file.seek(0)
    return b""


def _width(header: bytes, body: int) -> int:
    """Bytes of the kind of word that most of the body consists of."""
    shares: Counter[int] = Counter()
    try:
        for name, entry in json.loads(header[8:] or b"{}").items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                shares[_WIDTHS.get(entry["dtype"], 1)] += last - first
    except (ValueError, LookupError, TypeError, AttributeError):
        return 1
    width = shares.most_common(1)[0][0] if shares else 1
    return 1 if body % width else width


def _blocks(body: int, width: int) -> Iterator[int]:
    """Sizes in bytes of the pieces of a body."""
    whole = BLOCK_WORDS * width
    for start in range(0, body, whole):
        yield min(whole, body - start)


def _exactly(file: BinaryIO, size: int, path: Path) -> bytes:
    if size > _MAX_FRAME_BYTES:
        raise _bad(path, f"it has a piece of {size} bytes")
    data = file.read(size)
    if len(data) != size:
        raise _bad(path, f"it ends {size - len(data)} bytes early")
    return data


def _bad(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path.name} is no delta that can be applied: {why}")
