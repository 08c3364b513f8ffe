"""A content store in a directory, for one machine: no daemon, the same CIDs.

    <directory>/content/<two hex digits>/<CID>   one file per content, read-only
    <directory>/incoming/                        files being written

Any number of processes may use one directory at the same time: content appears in one
step, complete and on disk, and is never changed afterwards. Nothing is trusted because it
is local: every read is verified, so a failing disk or a curious hand is ContentCorrupt.
Putting the same content again repairs it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from marketplace.protocol.errors import ConfigError, ContentUnavailable
from marketplace.storage.cid import Cid
from marketplace.storage.pending import SUFFIX, pending_file
from marketplace.storage.store import (
    POLL_SECONDS,
    OnBytes,
    StrPath,
    counted,
    read_verified,
    reading,
    too_large,
    write_verified,
    writing,
)
from marketplace.storage.unixfs import READ_BYTES, UnixfsHasher

ABANDONED_SECONDS: Final = 24 * 3600
"""A file in incoming/ untouched for so long belongs to a process that died."""


class EmbeddedStore:
    """ContentStore (see there) in `directory`, which is made if missing.

    A get waits, until its timeout, for another process to put the content.

    clock, wait: monotonic seconds, and sleeping for some. now: seconds since the epoch.
    Raises ConfigError if the directory can't be used.
    """

    def __init__(
        self,
        directory: StrPath,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._directory = Path(directory).expanduser().absolute()
        self._content = self._directory / "content"
        self._incoming = self._directory / "incoming"
        self._clock = clock
        self._wait = wait
        try:
            self._content.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
            self._sweep(now() - ABANDONED_SECONDS)
        except OSError as error:
            raise ConfigError(
                f"content store {str(self._directory)!r} can't be used: {error.strerror or error}",
                fix="name a directory that you may write to",
            ) from error

    def __repr__(self) -> str:
        return f"EmbeddedStore({str(self._directory)!r})"

    def put(self, data: bytes) -> Cid:
        """See ContentStore."""
        return self._put(iter([data]))

    def put_file(self, path: StrPath) -> Cid:
        """See ContentStore. The store gets a copy of its own, never a link to `path`."""
        with reading(path), Path(path).open("rb") as source:
            return self._put(_pieces(source))

    def get(self, cid: Cid, *, timeout: float, max_bytes: int | None = None) -> bytes:
        """See ContentStore."""
        with self._open(cid, timeout, max_bytes) as source:
            return read_verified(cid, _pieces(source), source=source.name, max_bytes=max_bytes)

    def get_file(
        self,
        cid: Cid,
        path: StrPath,
        *,
        timeout: float,
        max_bytes: int | None = None,
        on_bytes: OnBytes | None = None,
    ) -> None:
        """See ContentStore. `path` gets a copy of its own, never a link into the store."""
        with self._open(cid, timeout, max_bytes) as source:
            pieces = counted(_pieces(source), on_bytes)
            write_verified(cid, pieces, path, source=source.name, max_bytes=max_bytes)

    def has(self, cid: Cid) -> bool:
        """See ContentStore."""
        return self._path_of(cid).is_file()

    def _put(self, pieces: Iterator[bytes]) -> Cid:
        hasher = UnixfsHasher()
        with writing(self._directory), pending_file(self._incoming, mode=0o444) as pending:
            for piece in pieces:
                # Hashed is what is written, so a source that changes meanwhile does no harm.
                hasher.update(piece)
                pending.file.write(piece)
            cid = hasher.finish()
            destination = self._path_of(cid)
            destination.parent.mkdir(exist_ok=True)
            pending.publish(destination)
        return cid

    def _path_of(self, cid: Cid) -> Path:
        return self._content / cid.digest.hex()[:2] / str(cid)

    def _open(self, cid: Cid, timeout: float, max_bytes: int | None) -> BinaryIO:
        """The stored file, as soon as it is there. Its size is within `max_bytes`."""
        path = self._path_of(cid)
        deadline = self._clock() + timeout
        while True:
            with reading(path), contextlib.suppress(FileNotFoundError):
                source = path.open("rb")
                break
            remaining = deadline - self._clock()
            if remaining <= 0:
                raise ContentUnavailable(
                    f"{cid} is not in the content store {str(self._directory)!r} "
                    f"(looked for {timeout:g} s)",
                    fix="check that its publisher uses the same store, or wait longer",
                )
            self._wait(min(POLL_SECONDS, remaining))
        size = os.fstat(source.fileno()).st_size
        if max_bytes is not None and size > max_bytes:
            source.close()
            raise too_large(cid, f"{size:,}", max_bytes)
        return source

    def _sweep(self, before: float) -> None:
        """Remove what died on its way in, last touched before that time."""
        for path in self._incoming.glob(f".*{SUFFIX}"):
            try:
                if path.stat().st_mtime < before:
                    path.unlink()
            except FileNotFoundError:
                continue  # another process swept it, or it was published just now


def _pieces(source: BinaryIO) -> Iterator[bytes]:
    with reading(source.name):
        while piece := source.read(READ_BYTES):
            yield piece
