"""The CIDv1 of a file, computed the way `ipfs add --cid-version=1` does, in one pass.

The content is cut into chunks of 262,144 bytes. Each chunk is a raw leaf. One leaf alone
is the file. Otherwise 174 neighbours at a time get a dag-pb parent, level by level, until
one node is left:

    level 2                root
                 ┌──────────┴─────────┐
    level 1   174 leaves          the rest        (all leaves are equally deep)

Memory is constant: per level at most 174 pending links of about 60 bytes each, and one
chunk.

Source: UnixFS, https://specs.ipfs.tech/unixfs/ (File, balanced layout);
dag-pb, https://ipld.io/specs/codecs/dag-pb/spec/ (links before data, names always written).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Final

from marketplace.storage.cid import DAG_PB, RAW, Cid

CHUNK_BYTES: Final = 262_144
"""Bytes in each leaf but the last."""

WIDTH: Final = 174
"""Links in each inner node but the last of its level."""

READ_BYTES: Final = 4 * CHUNK_BYTES
"""Bytes read from a file at a time."""

# Protobuf keys: field number << 3 | wire type (0 varint, 2 length-delimited).
_NODE_DATA: Final = b"\x0a"  # PBNode.Data = 1
_NODE_LINK: Final = b"\x12"  # PBNode.Links = 2
_LINK_HASH: Final = b"\x0a"  # PBLink.Hash = 1
_LINK_NAME: Final = b"\x12"  # PBLink.Name = 2
_LINK_TSIZE: Final = b"\x18"  # PBLink.Tsize = 3
_DATA_TYPE_FILE: Final = b"\x08\x02"  # Data.Type = 1, File = 2
_DATA_FILESIZE: Final = b"\x18"  # Data.filesize = 3
_DATA_BLOCKSIZES: Final = b"\x20"  # Data.blocksizes = 4, not packed


@dataclass(frozen=True, slots=True)
class Link:
    """One finished subtree.

    cid:   of its root block.
    size:  bytes of content below it.
    tsize: bytes of all blocks in it, its own root block included.
    """

    cid: Cid
    size: int
    tsize: int


class UnixfsHasher:
    """Feed it content in pieces of any size; `finish` gives the CID.

    >>> hasher = UnixfsHasher()
    >>> hasher.update(b"hello ")
    >>> hasher.update(b"world")
    >>> str(hasher.finish())
    'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e'
    """

    def __init__(self) -> None:
        self.total = 0
        """Bytes fed so far."""
        self._leaf = hashlib.sha256()
        self._leaf_bytes = 0
        # _levels[0] holds finished leaves that have no parent yet, _levels[1] their
        # finished parents, and so on; each list is shorter than WIDTH.
        self._levels: list[list[Link]] = [[]]

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data` to the content."""
        view = memoryview(data).cast("B")
        while view:
            piece = view[: CHUNK_BYTES - self._leaf_bytes]
            self._leaf.update(piece)
            self._leaf_bytes += len(piece)
            self.total += len(piece)
            view = view[len(piece) :]
            if self._leaf_bytes == CHUNK_BYTES:
                self._close_leaf()

    def finish(self) -> Cid:
        """The CID of everything fed. Call it once, last."""
        if self._leaf_bytes or self.total == 0:
            self._close_leaf()
        level = 0
        while True:
            pending = self._levels[level]
            is_top = level == len(self._levels) - 1
            if is_top and len(pending) == 1:
                return pending[0].cid
            if pending:
                self._levels[level] = []
                self._append(level + 1, parent_of(pending))
            level += 1

    def _close_leaf(self) -> None:
        cid = Cid(self._leaf.digest(), RAW)
        self._append(0, Link(cid, self._leaf_bytes, self._leaf_bytes))
        self._leaf = hashlib.sha256()
        self._leaf_bytes = 0

    def _append(self, level: int, link: Link) -> None:
        if level == len(self._levels):
            self._levels.append([])
        pending = self._levels[level]
        pending.append(link)
        if len(pending) == WIDTH:
            self._levels[level] = []
            self._append(level + 1, parent_of(pending))


def parent_of(children: list[Link]) -> Link:
    """The dag-pb file node over `children` (1 to WIDTH of them), as a link to it."""
    size = sum(child.size for child in children)
    unixfs = _DATA_TYPE_FILE + _DATA_FILESIZE + _varint(size)
    unixfs += b"".join(_DATA_BLOCKSIZES + _varint(child.size) for child in children)
    links = b"".join(_field(_NODE_LINK, _encode_link(child)) for child in children)
    block = links + _field(_NODE_DATA, unixfs)
    cid = Cid(hashlib.sha256(block).digest(), DAG_PB)
    return Link(cid, size, len(block) + sum(child.tsize for child in children))


def cid_of_bytes(data: bytes | bytearray | memoryview) -> Cid:
    """The CID of `data` as a file."""
    hasher = UnixfsHasher()
    hasher.update(data)
    return hasher.finish()


def cid_of_file(path: str | PathLike[str]) -> Cid:
    """The CID of the file at `path`, read once, in constant memory.

    Raises OSError if the file can't be read.
    """
    hasher = UnixfsHasher()
    with Path(path).open("rb") as source:
        while piece := source.read(READ_BYTES):
            hasher.update(piece)
    return hasher.finish()


def _encode_link(link: Link) -> bytes:
    # The empty name is written out: Kubo does, and the block's hash depends on it.
    return (
        _field(_LINK_HASH, bytes(link.cid))
        + _field(_LINK_NAME, b"")
        + _LINK_TSIZE
        + _varint(link.tsize)
    )


def _field(key: bytes, payload: bytes) -> bytes:
    return key + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    """Unsigned LEB128, least significant group first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
