"""Small files that must not be lost: whole or not there, and on disk when the call returns."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_file(path: Path, content: str, *, mode: int = 0o666, replaces: bool = True) -> None:
    """Write the file, and the folders above it. Readers see the old one or the new one.

    mode: permission bits, less the process's umask. replaces: False raises FileExistsError where
    the name is taken. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # fails where the name exists
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # the name is an entry of its folder
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
