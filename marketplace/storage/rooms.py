"""Room on disk for fetched checkpoints: which folders are in use, and which go when it is full.

    <directory>/<CID>/           a complete checkpoint; when its manifest was touched: its last use
    <directory>/.<CID>-<any>/    one being fetched, or being removed: nobody reads it

Any number of processes may use one directory. Who reads a folder holds a shared lock on its
manifest (who writes one under way, on the folder), who removes it must get the exclusive one; a
killed process holds none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final

from marketplace.protocol.errors import ContentUnavailable, NoRoom, StorageError
from marketplace.storage.cid import Cid
from marketplace.storage.store import StrPath

MANIFEST_NAME: Final = "manifest.json"
"""Where a fetched folder keeps its manifest: the mark of a complete one."""

STEP_BYTES: Final = 16 << 20
"""Room is made for so much at a time, as it comes: what is only announced drives nothing out."""

FAIR_PART: Final = 128
"""A download that gets a smaller part of the line than one in so many is slow by itself."""

LEFT_SECONDS: Final = 60.0
"""A folder under way that is older and has no lock was left by a process that was killed."""


class Hold:
    """A folder in use: nobody removes it until `release`, or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._open = True

    def release(self) -> None:
        """Harmless the second time."""
        if self._open:
            self._open = False
            os.close(self.descriptor)

    def __del__(self) -> None:
        self.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(folder: StrPath) -> Hold | None:
    """Marks a fetched folder as in use, and as used now; None where there is none (any more)."""
    manifest = Path(folder) / MANIFEST_NAME
    try:
        descriptor = os.open(manifest, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    held = Hold(descriptor)
    try:
        # Where a file system knows no locks, nothing is ever removed.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(descriptor), manifest.stat()):
            raise FileNotFoundError
    except OSError:  # it has been removed
        held.release()
        return None
    with contextlib.suppress(OSError):  # it is somebody else's: then its age is too
        os.utime(descriptor)
    return held


def under_way(folder: StrPath) -> Hold:
    """Marks a folder that is being fetched as somebody's. Raises OSError."""
    held = Hold(os.open(folder, os.O_RDONLY | os.O_CLOEXEC))
    with contextlib.suppress(OSError):  # as above
        fcntl.flock(held.descriptor, fcntl.LOCK_SH)
    return held


class Room:
    """At most so many bytes of checkpoints in a directory: complete ones and parts together.

    What killed processes left goes first, then what was not used for longest; what is held, and
    what is being fetched, stays. Kept to within STEP_BYTES for each download under way. now:
    seconds since the epoch.
    """

    def __init__(
        self, directory: StrPath, most_bytes: int, *, now: Callable[[], float] = time.time
    ) -> None:
        self._directory = Path(directory)
        self._most = most_bytes
        self._now = now
        self._lock = threading.Lock()
        self._carried = 0

    def meter(self, cid: Cid, total: int) -> Meter:
        """For one download of `total` bytes. Raises NoRoom where that is over the limit."""
        if total > self._most:
            raise NoRoom(
                f"checkpoint {cid} has {total:,} bytes, and all checkpoints together may take "
                f"{self._most:,} on this disk",
                fix="allow more with --checkpoint-gb",
            )
        return Meter(self, cid, total)

    def carry(self, size: int) -> int:
        """Counts bytes that came, of whatever checkpoint. Returns how many that makes."""
        with self._lock:
            self._carried += size
            return self._carried

    def make(self, cid: Cid, size: int) -> None:
        """Room for some more bytes of a checkpoint. Raises NoRoom."""
        with self._lock:  # of two threads each makes its own room
            used = _bytes_in(self._directory)
            found = chain(self._left_behind(), self._oldest_first())
            while used + size > self._most or shutil.disk_usage(self._directory).free < size:
                folder = next(found, None)
                if folder is None:
                    raise NoRoom(
                        f"checkpoint {cid} needs {size:,} more bytes: {used:,} are taken by "
                        f"checkpoints that are in use or on their way, {self._most:,} are allowed",
                        fix="allow more with --checkpoint-gb, or free the disk; it is tried again",
                    )
                freed = _bytes_in(folder)
                if _removed(folder):
                    used -= freed

    def _left_behind(self) -> Iterator[Path]:
        for folder in self._directory.glob(".*-*"):
            with contextlib.suppress(OSError):  # its process removed it
                if folder.is_dir() and folder.stat().st_mtime < self._now() - LEFT_SECONDS:
                    yield folder

    def _oldest_first(self) -> Iterator[Path]:
        ages = []
        for manifest in self._directory.glob(f"[!.]*/{MANIFEST_NAME}"):
            with contextlib.suppress(OSError):  # another process removed it
                ages.append((manifest.stat().st_mtime, manifest.parent))
        return (folder for _, folder in sorted(ages))


class Meter:
    """One download: called with the size of each piece that has come, before it is written, makes
    room for it. Raises NoRoom."""

    def __init__(self, room: Room, cid: Cid, total: int) -> None:
        self._room, self._cid, self._total = room, cid, total
        self._came = self._ready = 0
        self._before = room.carry(0)

    def __call__(self, size: int) -> None:
        if size > self._ready:
            self._ready = max(size, min(STEP_BYTES, self._total - self._came))
            self._room.make(self._cid, self._ready)
        self._ready -= size
        self._came += size
        self._room.carry(size)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Around a download: that other ones took the line from it is no lack of content. A
        ContentUnavailable becomes a StorageError where in the same time so much came of others
        as this one lacked, and it got a fair part of the line."""
        try:
            yield
        except ContentUnavailable as error:
            others = self._room.carry(0) - self._before - self._came
            # Who trickles gets far less than a part, however many there are.
            if 0 < self._total - self._came <= others <= FAIR_PART * self._came:
                raise StorageError(
                    f"checkpoint {self._cid} shared the line: {self._came:,} bytes of it came, and "
                    f"{others:,} of others",
                    fix="let it try again",
                ) from error
            raise


def _removed(folder: Path) -> bool:
    """Whether a folder that nobody uses is gone now."""
    hidden = folder.name.startswith(".")
    try:
        lock = folder if hidden else folder / MANIFEST_NAME
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    gone = folder
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not hidden:
            # In one step: killed while it removes files, it leaves no checkpoint that lacks some.
            gone = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
            folder.rename(gone)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    shutil.rmtree(gone, ignore_errors=True)
    return True


def _bytes_in(folder: Path) -> int:
    total = 0
    for one in folder.rglob("*"):
        with contextlib.suppress(OSError):  # what is removed meanwhile takes nothing
            total += one.lstat().st_size if not one.is_dir() else 0
    return total
