"""Brings content that something names by CID into a folder: one file each, named by its CID."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from marketplace.protocol.errors import StorageError
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore, too_large, writing


def fetch_assets(
    store: ContentStore,
    wanted: Iterable[tuple[str, int]],
    folder: Path,
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Fills folder with what is wanted, pairs of CID and most bytes, and is not there yet.

    timeout: seconds for all of it. Files are verified before they appear, and never again: the
    folder belongs to this process's user. Raises InvalidValue for text that is no CID, and the
    errors of ContentStore. A file that an owner with higher limits has fetched is still too large.
    """
    deadline = clock() + timeout
    for text, max_bytes in wanted:
        cid = Cid.parse(text)
        path = folder / text
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            left = max(0.0, deadline - clock())
            store.get_file(cid, path, timeout=left, max_bytes=max_bytes)
        except OSError as error:
            raise StorageError(f"can't read {str(path)!r}: {error.strerror}") from error
        else:
            if size > max_bytes:
                raise too_large(cid, f"{size:,}", max_bytes)
