"""Files that appear under their name only when they are complete and on disk."""

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
        # The rename itself is an entry of the directory, and is synced with it.
        directory = os.open(destination.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


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
