"""A flat folder of files behind one CID: a manifest {name: {cid, size}} in the store.

This is how checkpoints travel: the trainer puts the folder, the manifest's CID is what it
registers on chain, miners and verifiers get the folder back, every file checked against its CID.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Final

from marketplace.protocol import strict_json
from marketplace.protocol.errors import CheckpointError, ContentTooLarge
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore

StrPath = str | PathLike[str]

MANIFEST_VERSION: Final = 1
MAX_MANIFEST_BYTES: Final = 64 << 10
MAX_FILES: Final = 256
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def put_folder(store: ContentStore, folder: StrPath) -> Cid:
    """Stores every file of a flat folder, then the manifest. Returns the manifest's CID.

    Raises CheckpointError for a folder that holds anything but plain files with plain names,
    StorageError.
    """
    files: dict[str, dict[str, object]] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_symlink() or not path.is_file() or not _NAME.fullmatch(path.name):
            raise CheckpointError(
                f"{path} is not a plain file with a plain name",
                fix="keep only files named with letters, digits, '_', '.', '-' in the folder",
            )
        files[path.name] = {"cid": str(store.put_file(path)), "size": path.stat().st_size}
    if not files or len(files) > MAX_FILES:
        raise CheckpointError(f"{folder} holds {len(files)} files, not 1 to {MAX_FILES}")
    manifest = {"v": MANIFEST_VERSION, "files": files}
    return store.put(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())


def get_folder(
    store: ContentStore,
    cid: Cid,
    folder: StrPath,
    *,
    timeout: float,
    max_bytes: int,
    accept: Callable[[str], bool] = lambda name: True,
) -> Path:
    """The folder behind a manifest, as a new directory that appears only once it is whole.

    timeout: seconds for each file. max_bytes: of all files together, decided from the manifest
    before anything is fetched. accept: whether a file of that name may be in the folder.
    A folder that exists already is returned as it is.

    Raises CheckpointError for a manifest that is not one, ContentTooLarge, StorageError.
    """
    target = Path(folder)
    if target.is_dir():
        return target
    data = store.get(cid, timeout=timeout, max_bytes=MAX_MANIFEST_BYTES)
    files = _parse_manifest(cid, data)
    total = sum(size for _, size in files.values())
    if total > max_bytes:
        raise ContentTooLarge(f"the files of {cid} have {total:,} bytes, over {max_bytes:,}")
    for name in files:
        if not accept(name):
            raise CheckpointError(f"{cid} holds {name!r}, which does not belong there")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    partial.mkdir()
    try:
        for name, (content, size) in files.items():
            store.get_file(content, partial / name, timeout=timeout, max_bytes=size)
        try:
            partial.rename(target)
        except OSError:
            # Another process was faster; what it fetched was checked as well.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _parse_manifest(cid: Cid, data: bytes) -> dict[str, tuple[Cid, int]]:
    try:
        manifest: Any = strict_json.loads(data.decode("utf-8"), depth=4)
        if manifest["v"] != MANIFEST_VERSION or not 0 < len(manifest["files"]) <= MAX_FILES:
            raise ValueError(f"version {manifest['v']!r}, {len(manifest['files'])} files")
        found = {}
        for name, entry in manifest["files"].items():
            size = entry["size"]
            if not _NAME.fullmatch(name) or type(size) is not int or size < 0:
                raise ValueError(f"file {name!r:.80} of size {size!r:.40}")
            found[name] = (Cid.parse(entry["cid"]), size)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{cid} is no folder manifest: {error!s:.200}") from None
    return found
