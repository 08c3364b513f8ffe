"""What a content store is, and the reading that every store has in common.

A store holds content by CID. Whoever reads gets exactly the bytes that the CID names, or
one of these errors (marketplace.protocol.errors), never anything else:

    ContentUnavailable   nobody served the content within the timeout
    ContentCorrupt       something was served, but its CID is another
    ContentTooLarge      the content is larger than the caller allows
    StorageError         the store itself failed (disk full, no permission, ...)
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Final, Protocol

from marketplace.protocol.errors import (
    ConfigError,
    ContentCorrupt,
    ContentTooLarge,
    StorageError,
)
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.pending import pending_file
from marketplace.storage.unixfs import CHUNK_BYTES, UnixfsHasher

StrPath = str | PathLike[str]

OnBytes = Callable[[int], None]
"""Called with the size of each piece before it is written; what it raises ends the reading."""

POLL_SECONDS: Final = 0.2
"""Pause between two looks for content that is not there yet."""

_URL_FIX: Final = (
    'give a directory ("dir:/path") or the API address of an IPFS daemon '
    '("ipfs:/ip4/127.0.0.1/tcp/5001/http")'
)
_MULTIADDR: Final = re.compile(r"/(ip4|ip6|dns|dns4|dns6|unix)/")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_HTTP_URL: Final = re.compile(r"//([^/:@]+):([0-9]+)(?:/.*)?")


class ContentStore(Protocol):
    """Content by CID. Every read is checked against its CID.

    timeout:   seconds in all, from the call on, to find and read the content. 0 means one
               look, without waiting for anybody to publish it.
    max_bytes: more content than this is ContentTooLarge; None means no limit.
    """

    def put(self, data: bytes) -> Cid:
        """Store `data`. Storing the same again is harmless. Raises StorageError."""
        ...

    def put_file(self, path: StrPath) -> Cid:
        """Store a copy of the file at `path`, in constant memory. Raises StorageError."""
        ...

    def get(self, cid: Cid, *, timeout: float, max_bytes: int | None = None) -> bytes:
        """The content. Raises the errors above."""
        ...

    def get_file(
        self,
        cid: Cid,
        path: StrPath,
        *,
        timeout: float,
        max_bytes: int | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """Write the content to `path`, in constant memory.

        `path` appears (or is replaced) only once all of it is verified. Raises the errors above.
        """
        ...

    def has(self, cid: Cid) -> bool:
        """Does this store itself hold the content, for good? A quick look, nothing is read."""
        ...


def open_store(url: str) -> ContentStore:
    """The store that `url` names.

    "dir:/path" or a plain path: an EmbeddedStore in that directory, made if missing.
    "ipfs:<multiaddr>" or a multiaddr: an IpfsStore on the daemon with that API address.

    Raises ConfigError, naming the value and the fix. Does not talk to the daemon.
    """
    # Imported here: both modules build on this one, and the IPFS client is slow to load.
    if _MULTIADDR.match(url):
        scheme, rest = "ipfs", url
    elif match := _SCHEME.fullmatch(url):
        scheme, rest = match[1].lower(), match[2]
    else:
        scheme, rest = "dir", url
    if scheme not in ("dir", "ipfs") or not rest.strip():
        raise ConfigError(f"content store {url!r} is of no known kind", fix=_fix_for(scheme, rest))
    if scheme == "ipfs":
        from marketplace.storage.ipfs import IpfsStore

        return IpfsStore(rest)
    from marketplace.storage.embedded import EmbeddedStore

    return EmbeddedStore(rest)


def verified(
    cid: Cid, pieces: Iterable[bytes], *, source: str, max_bytes: int | None = None
) -> Iterator[bytes]:
    """Pass `pieces` on, and raise at the end unless together they are the content of `cid`.

    Until the iterator has ended the bytes are unproven: collect them where nobody reads.
    source: who sent them, for the message. Raises ContentCorrupt, ContentTooLarge.
    """
    hasher = UnixfsHasher()
    for piece in pieces:
        hasher.update(piece)
        if max_bytes is not None and hasher.total > max_bytes:
            raise too_large(cid, f"over {max_bytes:,}", max_bytes)
        if cid.codec == RAW and hasher.total > CHUNK_BYTES:
            raise _corrupt(cid, source, f"over {CHUNK_BYTES:,} bytes, too many for raw content")
        yield piece
    found = hasher.finish()
    if found != cid:
        raise _corrupt(cid, source, f"{hasher.total:,} bytes whose address is {found}")


def counted(pieces: Iterable[bytes], on_bytes: OnBytes | None) -> Iterable[bytes]:
    """The pieces, each told before it is passed on."""
    if on_bytes is None:
        return pieces

    def told() -> Iterator[bytes]:
        for piece in pieces:
            on_bytes(len(piece))
            yield piece

    return told()


def read_verified(
    cid: Cid, pieces: Iterable[bytes], *, source: str, max_bytes: int | None = None
) -> bytes:
    """All `pieces`, joined and verified. Raises as `verified` does."""
    return b"".join(verified(cid, pieces, source=source, max_bytes=max_bytes))


def write_verified(
    cid: Cid, pieces: Iterable[bytes], path: StrPath, *, source: str, max_bytes: int | None = None
) -> None:
    """Write all `pieces` to `path`, which changes only if they verify.

    Raises as `verified` does, and StorageError if `path` can't be written.
    """
    destination = Path(path)
    with writing(destination), pending_file(destination.parent) as pending:
        for piece in verified(cid, pieces, source=source, max_bytes=max_bytes):
            pending.file.write(piece)
        pending.publish(destination)


def too_large(cid: Cid, size: str, max_bytes: int) -> ContentTooLarge:
    """The error for content of `size` (in words) bytes where `max_bytes` are allowed."""
    return ContentTooLarge(
        f"{cid} has {size} bytes, and {max_bytes:,} are allowed here",
        fix="allow more, or refuse this content",
    )


@contextlib.contextmanager
def reading(path: StrPath) -> Iterator[None]:
    """Within it an OSError becomes a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"can't read {str(path)!r}: {error.strerror or error}",
            fix="name a file that exists and is readable for this user",
        ) from error


@contextlib.contextmanager
def writing(path: StrPath) -> Iterator[None]:
    """Within it an OSError becomes a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"can't write {str(path)!r}: {error.strerror or error}",
            fix="check that the directory exists, is writable and has space left",
        ) from error


def _corrupt(cid: Cid, source: str, found: str) -> ContentCorrupt:
    return ContentCorrupt(
        f"{source} answered {cid} with {found}",
        fix="publish the content again, with the settings of `ipfs add --cid-version=1`, "
        "or read from another store",
    )


def _fix_for(scheme: str, rest: str) -> str:
    if scheme in ("http", "https") and (match := _HTTP_URL.fullmatch(rest)):
        host, port = match[1], match[2]
        kind = "ip4" if re.fullmatch(r"[0-9.]+", host) else "dns"
        return f'write an IPFS API address as "ipfs:/{kind}/{host}/tcp/{port}/{scheme}"'
    if scheme == "file" and rest.strip("/"):
        return f'write a directory as "dir:/{rest.lstrip("/")}"'
    return _URL_FIX
