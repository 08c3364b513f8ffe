"""Checkpoint folders in a content store: one manifest names the files by CID.

    {"v":1,"files":{"config.json":{"cid":"b...","size":817},...}}

The CID that a checkpoint is registered with is the manifest's. Whoever fetches it gets the
files of the manifest, each checked against its CID and size, or nothing at all.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.protocol.errors import CheckpointError, ContentTooLarge, InvalidValue
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore, StrPath, reading, writing

MANIFEST_NAME: Final = "manifest.json"
"""Where a fetched folder keeps its manifest: the mark of a complete one."""

MAX_MANIFEST_BYTES: Final = 262_144
MAX_CHECKPOINT_BYTES: Final = 64 << 30

_SUFFIXES: Final = (".json", ".safetensors", ".jinja", ".txt", ".md", ".model")
"""Data only. Neither code nor pickles: nothing that is fetched may run when it is loaded."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    cid: str
    size: Annotated[int, Field(ge=0)]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    v: Literal[1]
    files: Annotated[dict[str, _File], Field(min_length=1, max_length=256)]


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """One file of a checkpoint. size: bytes."""

    name: str
    cid: Cid
    size: int


def put_checkpoint(store: ContentStore, folder: StrPath) -> Cid:
    """Store the files of a checkpoint folder and their manifest; the manifest's CID.

    The same files give the same CID. Raises CheckpointError for a file that a checkpoint may not
    hold, StorageError if the folder can't be read or the store fails.
    """
    path = Path(folder)
    with reading(path):
        files = sorted(one for one in path.iterdir() if one.name != MANIFEST_NAME)
    if not files:
        raise CheckpointError(f"{str(path)!r} is empty", fix="save a checkpoint there first")
    entries = {}
    for file in files:
        if not file.is_file() or file.is_symlink():
            raise CheckpointError(f"{str(file)!r} is not a plain file", fix="remove it")
        _check_name(file.name)
        entries[file.name] = {"cid": str(store.put_file(file)), "size": file.stat().st_size}
    record = {"v": 1, "files": entries}
    return store.put(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())


def read_manifest(data: bytes) -> tuple[CheckpointFile, ...]:
    """The files that a manifest names, by name. Raises CheckpointError if it is not a manifest."""
    try:
        manifest = _Manifest.model_validate_json(data)
        files = tuple(
            CheckpointFile(name, Cid.parse(entry.cid), entry.size)
            for name, entry in sorted(manifest.files.items())
        )
    except (ValidationError, InvalidValue) as error:
        raise CheckpointError(
            f"the content is not a checkpoint manifest: {str(error).splitlines()[0]:.200}",
            fix="check the CID that the checkpoint was registered with",
        ) from None
    for file in files:
        _check_name(file.name)
    return files


def fetch_checkpoint(
    store: ContentStore,
    cid: Cid,
    folder: StrPath,
    *,
    timeout: float,
    max_bytes: int = MAX_CHECKPOINT_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """The checkpoint of a manifest CID as a local folder, which appears in one step, complete.

    A folder that already holds this checkpoint is left as it is. timeout: seconds for all of
    it. max_bytes: of all files together. Raises StorageError (and its kinds) if content is
    missing, corrupt or too large, CheckpointError if the manifest can't be used.
    """
    deadline = clock() + timeout
    data = store.get(cid, timeout=timeout, max_bytes=MAX_MANIFEST_BYTES)
    files = read_manifest(data)
    path = Path(folder).absolute()
    if _holds(path, data):
        return path
    total = sum(file.size for file in files)
    if total > max_bytes:
        raise ContentTooLarge(
            f"checkpoint {cid} has {total:,} bytes, and {max_bytes:,} are allowed here",
            fix="allow more, or leave this checkpoint alone",
        )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as work:
        made = Path(work) / "checkpoint"
        made.mkdir()
        for file in files:
            left = max(0.0, deadline - clock())
            store.get_file(file.cid, made / file.name, timeout=left, max_bytes=file.size)
            found = (made / file.name).stat().st_size
            if found != file.size:
                raise CheckpointError(
                    f"{file.name} of checkpoint {cid} has {found} bytes, not {file.size}"
                )
        (made / MANIFEST_NAME).write_bytes(data)
        with writing(path):
            try:
                made.rename(path)
            except OSError:
                # Another process was faster, or something else has the name.
                if not _holds(path, data):
                    raise
                shutil.rmtree(made)
    return path


def fetch_checkpoint_file(
    store: ContentStore, cid: Cid, name: str, *, timeout: float, max_bytes: int
) -> bytes | None:
    """One file of the checkpoint of a manifest CID, without the others; None where it has none
    of that name. timeout: seconds for each of the two reads. Raises as fetch_checkpoint does."""
    data = store.get(cid, timeout=timeout, max_bytes=MAX_MANIFEST_BYTES)
    for file in read_manifest(data):
        if file.name == name:
            return store.get(file.cid, timeout=timeout, max_bytes=max_bytes)
    return None


def _holds(path: Path, manifest: bytes) -> bool:
    try:
        return (path / MANIFEST_NAME).read_bytes() == manifest
    except OSError:
        return False


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or not name.endswith(_SUFFIXES) or name == MANIFEST_NAME:
        raise CheckpointError(
            f"{name!r:.140} is no name of a checkpoint file",
            fix=f"use plain names that end in {', '.join(_SUFFIXES)}",
        )
