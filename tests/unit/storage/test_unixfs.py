"""The CID of a file is the one that `ipfs add --cid-version=1` gives.

The vectors were made by an IPFS daemon (js-ipfs 0.66.1, cid-version=1, raw-leaves=true);
tests/integration/test_ipfs_daemon.py makes them again, live.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.storage import unixfs
from marketplace.storage.cid import DAG_PB, RAW, Cid
from marketplace.storage.unixfs import (
    CHUNK_BYTES,
    WIDTH,
    Link,
    UnixfsHasher,
    cid_of_bytes,
    cid_of_file,
    parent_of,
)

VECTORS = {
    0: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    1: "bafkreihh63abc53orw342mylkqlu7v3ppubbnnqshb5f77h3qhtpbemwqm",
    262_143: "bafkreiau2z7sdc2mk6pwsjncwxusmdje5hru67nnf7nep3ljgu4iecr4yq",
    262_144: "bafkreibmozv2flej2ohah6fotdbtaguwbijvykqb5vh3xglg6424w3zk3y",
    262_145: "bafybeibwfhq3yb63mfnjfzfyibuzabb7uesbxd3uske6hw7tmqblx4mzky",
    524_288: "bafybeia62sm7xaqvakvidquouoifkcy7q4l4cqiowiowipdzef7s4yn6ci",
    5_000_000: "bafybeicykx6pe6jmv4wasro4sjelyupwaewrwyz7n52nsupevroqqe377i",
    174 * 262_144: "bafybeibo57szafae3bqasjffcrli6peqriuixkdtj75nkdufz5usph4yqi",
    174 * 262_144 + 1: "bafybeiggb5apqzwngj77ie5uordkqhhgbzx7jh2tx7jmpo2yqii4jetv2u",
}
# With chunker=size-64: 174 * 174 + 1 leaves, one more than two levels hold.
DEEP_VECTOR = "bafybeigpbzrldheqjdmqnyxpepqybp2k72l5j652uuodwziyxavi5e5kju"


def content(size: int) -> bytes:
    """`size` bytes in which no chunk is like another."""
    return hashlib.shake_256(b"tracemarket").digest(size)


@pytest.mark.parametrize(("size", "text"), VECTORS.items())
def test_cid_is_what_a_daemon_gives(size: int, text: str) -> None:
    cid = cid_of_bytes(content(size))
    assert str(cid) == text
    assert cid.codec == (RAW if size <= CHUNK_BYTES else DAG_PB)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5_000_000])
def test_a_file_has_the_cid_of_its_bytes(size: int, tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(content(size))
    assert cid_of_file(path) == cid_of_bytes(content(size))


@given(st.lists(st.integers(min_value=0, max_value=400_000), max_size=5))
def test_how_the_content_arrives_makes_no_difference(sizes: list[int]) -> None:
    data = bytes(sum(sizes))
    hasher = UnixfsHasher()
    start = 0
    for size in sizes:
        hasher.update(memoryview(data)[start : start + size])
        start += size
    assert hasher.finish() == cid_of_bytes(data)


@pytest.mark.parametrize("flipped", [0, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES])
def test_every_byte_counts(flipped: int) -> None:
    data = bytearray(2 * CHUNK_BYTES + 1)
    before = cid_of_bytes(data)
    data[flipped] ^= 1
    assert cid_of_bytes(data) != before


def test_three_levels_are_what_a_daemon_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    # With the real chunks they are 8 GB, so the chunks are made small instead.
    monkeypatch.setattr(unixfs, "CHUNK_BYTES", 64)
    assert str(cid_of_bytes(content(174 * 174 * 64 + 1))) == DEEP_VECTOR


def balanced(leaves: list[Link], width: int) -> Cid:
    """The layout as the specification words it: whole levels at a time."""
    level = leaves
    while len(level) > 1:
        level = [parent_of(level[i : i + width]) for i in range(0, len(level), width)]
    return level[0].cid


@pytest.mark.parametrize("leaf_count", [*range(1, 30), 80, 81, 82, 243, 244])
def test_deep_trees_have_the_balanced_layout(
    leaf_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unixfs, "CHUNK_BYTES", 4)
    monkeypatch.setattr(unixfs, "WIDTH", 3)
    data = content(4 * leaf_count - 1)
    chunks = [data[i : i + 4] for i in range(0, len(data), 4)]
    leaves = [Link(Cid(hashlib.sha256(c).digest(), RAW), len(c), len(c)) for c in chunks]
    assert cid_of_bytes(data) == balanced(leaves, 3)


def test_pending_links_are_bounded() -> None:
    hasher = UnixfsHasher()
    chunk = bytes(CHUNK_BYTES)
    for _ in range(2 * WIDTH + 1):
        hasher.update(chunk)
    assert [len(level) for level in hasher._levels] == [1, 2]
