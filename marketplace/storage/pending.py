"""Files and folders that appear under their name only when they are complete and on disk."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

SUFFIX: Final = ".part"
"""Ending of a pending file's temporary name."""


@dataclass(frozen=True, slots=True)
class PendingFile:
    """A file under construction, in the directory tree of its final name.

    file: open for writing. path: its temporary name.
    """

    file: BinaryIO
    path: Path

    def publish(self, destination: Path) -> None:
        """Give the file its name, in one step, once its bytes are on disk.

        Replaces what was there: a reader sees the old content or the new, never a mixture,
        and after a power cut one of the two is there. `destination` must be on the same
        file system.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        self.path.replace(destination)
        sync(destination.parent)


def publish_folder(made: Path, destination: Path) -> None:
    """Give a whole folder its name, in one step, once all that is in it is on disk.

    `destination` must not be there, or an empty folder, and on the same file system. OSError.
    """
    for one in made.rglob("*"):
        sync(one)
    sync(made)
    made.rename(destination)
    sync(destination.parent)


def sync(path: Path) -> None:
    """Bring a file's bytes or a folder's names onto the disk: what was renamed into a folder is
    an entry of it, and is there after a power cut once the folder was synced."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def pending_file(directory: Path, *, mode: int = 0o666) -> Iterator[PendingFile]:
    """A new file in `directory`, removed at the end unless it was published.

    mode: permission bits, less the process's umask. Raises OSError.
    """
    path = directory / f".{os.getpid()}-{uuid.uuid4().hex}{SUFFIX}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        try:
            yield PendingFile(file, path)
        finally:
            path.unlink(missing_ok=True)
