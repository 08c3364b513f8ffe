"""Checkpoint folders in a content store: one manifest names the files by CID.

    {"v":1,"files":{"config.json":{"cid":"b...","size":817},...},
     "delta":{"base":"b...","files":{"model.safetensors":{"cid":"b...","size":...}}}}

The CID that a checkpoint is registered with is the manifest's. Whoever fetches it gets the
files of the manifest, each checked against its CID and size, or nothing at all.

delta (optional) says how to get there faster from another checkpoint, whose manifest is `base`:
files of the same CID are copied, and a file with a delta (deltas.py) is rebuilt. Either way the
result must have the CID that `files` names. So a delta that is wrong, cut off, hostile or gone
costs some time, and the whole file is fetched.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marketplace.protocol.errors import (
    CheckpointError,
    ContentTooLarge,
    InvalidValue,
    StorageError,
)
from marketplace.protocol.strict_json import check_depth
from marketplace.storage import deltas
from marketplace.storage.cid import Cid
from marketplace.storage.rooms import MANIFEST_NAME, Room, hold, under_way
from marketplace.storage.store import (
    ContentStore,
    OnBytes,
    StrPath,
    counted,
    reading,
    write_verified,
    writing,
)
from marketplace.storage.unixfs import READ_BYTES, cid_of_bytes

log = logging.getLogger(__name__)

MAX_MANIFEST_BYTES: Final = 262_144
MAX_CHECKPOINT_BYTES: Final = 64 << 30

MAX_TEXT_BYTES: Final = 64 << 20
"""Of a file that is no weights: readers take it into memory whole."""

MAX_JSON_DEPTH: Final = 64
"""Of a JSON file's arrays and objects inside each other: deeper ones end some parsers' process."""

ABANDONED_SECONDS: Final = 24 * 3600
"""A fetch whose folder nothing was written to for so long was killed."""

DELTA_WORTH: Final = 0.9
"""A delta that is larger than this share of its file is not published."""

DELTA_PATIENCE: Final = 0.25
"""The share of the time left that a delta may take: what it wastes the whole file lacks."""

_SUFFIXES: Final = (".json", ".safetensors", ".jinja", ".txt", ".md", ".model")
"""Data only. Neither code nor pickles: nothing that is fetched may run when it is loaded."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    cid: str
    size: Annotated[int, Field(ge=0)]


class _Delta(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    base: str
    files: Annotated[dict[str, _File], Field(max_length=256)]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    v: Literal[1]
    files: Annotated[dict[str, _File], Field(min_length=1, max_length=256)]
    delta: _Delta | None = None


@dataclass(frozen=True, slots=True)
class DeltaFile:
    """What makes a file of the base checkpoint's file of the same name. size: bytes."""

    base: Cid
    cid: Cid
    size: int


@dataclass(frozen=True, slots=True)
class CheckpointFile:
    """One file of a checkpoint. size: bytes. delta: a way to it that is shorter, or None."""

    name: str
    cid: Cid
    size: int
    delta: DeltaFile | None = None


def put_checkpoint(store: ContentStore, folder: StrPath, *, parent: StrPath | None = None) -> Cid:
    """Store the files of a checkpoint folder and their manifest; the manifest's CID.

    parent: a fetched folder of the parent checkpoint; deltas from it are stored too, where they
    are worth it. The same files and the same parent give the same CID; a fetched folder keeps
    its own. Raises CheckpointError for a file that a checkpoint may not hold, StorageError if a
    folder can't be read or the store fails.
    """
    path = Path(folder)
    with reading(path):
        files = sorted(one for one in path.iterdir() if one.name != MANIFEST_NAME)
    if not files:
        raise CheckpointError(f"{str(path)!r} is empty", fix="save a checkpoint there first")
    entries: dict[str, dict[str, object]] = {}
    for file in files:
        if not file.is_file() or file.is_symlink():
            raise CheckpointError(f"{str(file)!r} is not a plain file", fix="remove it")
        _check_file(file.name, file.stat().st_size)
        _check_json(file)
        entries[file.name] = {"cid": str(store.put_file(file)), "size": file.stat().st_size}
    if parent is None and (known := _own_manifest(path, entries)):
        return store.put(known)
    record: dict[str, object] = {"v": 1, "files": entries}
    if parent is not None and (delta := _put_deltas(store, path, Path(parent), entries)):
        record["delta"] = delta
    return store.put(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())


def _own_manifest(path: Path, entries: dict[str, dict[str, object]]) -> bytes | None:
    """The manifest that a folder was fetched with, if these are still its files."""
    try:
        data = (path / MANIFEST_NAME).read_bytes()
        found = {
            file.name: {"cid": str(file.cid), "size": file.size} for file in read_manifest(data)
        }
    except (OSError, CheckpointError):
        return None
    return data if found == entries else None


def _put_deltas(
    store: ContentStore, path: Path, parent: Path, entries: dict[str, dict[str, object]]
) -> dict[str, object] | None:
    with reading(parent / MANIFEST_NAME):
        data = (parent / MANIFEST_NAME).read_bytes()
    before = {file.name: file for file in read_manifest(data)}
    found = {}
    shared = False
    for name, entry in entries.items():
        if name not in before:
            continue
        if str(before[name].cid) == entry["cid"]:
            shared = True
        elif name.endswith(".safetensors") and deltas.available():
            with writing(path.parent), tempfile.TemporaryDirectory(dir=path.parent) as work:
                made = Path(work) / "delta"
                size = deltas.make_delta(parent / name, path / name, made)
                if size is not None and size < DELTA_WORTH * before[name].size:
                    found[name] = {"cid": str(store.put_file(made)), "size": size}
    return {"base": str(cid_of_bytes(data)), "files": found} if found or shared else None


def read_manifest(data: bytes) -> tuple[CheckpointFile, ...]:
    """The files that a manifest names, by name. Raises CheckpointError if it is not a manifest."""
    return _parsed(data)[0]


def _parsed(data: bytes) -> tuple[tuple[CheckpointFile, ...], Cid | None]:
    """The files, and the checkpoint that deltas start from."""
    try:
        manifest = _Manifest.model_validate_json(data)
        base = Cid.parse(manifest.delta.base) if manifest.delta else None
        short = {
            name: DeltaFile(base, Cid.parse(entry.cid), entry.size)
            for name, entry in (manifest.delta.files.items() if manifest.delta else ())
            if base is not None
        }
        files = tuple(
            CheckpointFile(name, Cid.parse(entry.cid), entry.size, short.get(name))
            for name, entry in sorted(manifest.files.items())
        )
    except (ValidationError, InvalidValue) as error:
        raise CheckpointError(
            f"the content is not a checkpoint manifest: {str(error).splitlines()[0]:.200}",
            fix="check the CID that the checkpoint was registered with",
        ) from None
    for file in files:
        _check_file(file.name, file.size)
    return files, base


def fetch_checkpoint(
    store: ContentStore,
    cid: Cid,
    folder: StrPath,
    *,
    timeout: float,
    look: float | None = None,
    bases: StrPath | None = None,
    max_bytes: int = MAX_CHECKPOINT_BYTES,
    room: Room | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """The checkpoint of a manifest CID as a local folder, which appears in one step, complete.

    A folder that already holds this checkpoint is left as it is, and no store is asked. timeout:
    seconds for all of it. look: of these, for the manifest. bases: a directory with fetched
    checkpoints, each under its CID: what they hold already is not fetched again. max_bytes: of all
    files together. room: where other checkpoints make room for it; None where nothing is limited.
    Raises StorageError (and its kinds) if content is missing, corrupt or too large, or there is no
    room or no line for it, CheckpointError if the manifest or a file can't be used.
    """
    path = Path(folder).absolute()
    if is_fetched(path, cid):
        return path
    deadline = clock() + timeout
    patience = timeout if look is None else min(look, timeout)
    data = store.get(cid, timeout=patience, max_bytes=MAX_MANIFEST_BYTES)
    files, base = _parsed(data)
    total = sum(file.size for file in files)
    if total > max_bytes:
        raise ContentTooLarge(
            f"checkpoint {cid} has {total:,} bytes, and {max_bytes:,} are allowed here",
            fix="allow more, or leave this checkpoint alone",
        )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path, time.time() - ABANDONED_SECONDS)
    on_bytes = None if room is None else room.meter(cid, total)
    with (
        writing(path),
        tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as work,
        under_way(work),
        contextlib.nullcontext() if on_bytes is None else on_bytes.shared(),
    ):
        made = Path(work) / "checkpoint"
        made.mkdir()
        near = None
        if bases is not None and base is not None:
            # Used now, so it goes last. Not held: where only its place makes room, the whole file
            # is fetched.
            if (used := hold(Path(bases) / str(base))) is not None:
                used.release()
            near = _Near(store, Path(bases) / str(base), on_bytes)
        for file in files:
            left = max(0.0, deadline - clock())
            if near is None or not near.has_made(file, made / file.name, left):
                left = max(0.0, deadline - clock())
                store.get_file(
                    file.cid,
                    made / file.name,
                    timeout=left,
                    max_bytes=file.size,
                    on_bytes=on_bytes,
                )
                found = (made / file.name).stat().st_size
                if found != file.size:
                    raise CheckpointError(
                        f"{file.name} of checkpoint {cid} has {found} bytes, not {file.size}"
                    )
            _check_json(made / file.name)
        # On disk before the folder has its name: after a power cut it is whole or not there.
        write_verified(cid, [data], made / MANIFEST_NAME, source="the manifest")
        try:
            made.rename(path)
        except OSError:
            # Another process was faster, or something else has the name.
            if not is_fetched(path, cid):
                raise
            shutil.rmtree(made)
    return path


def _sweep(path: Path, before: float) -> None:
    """Remove what fetches of this checkpoint left that were killed before that time."""
    for left in path.parent.glob(f".{path.name}-*"):
        files = [left, *left.rglob("*")]
        with contextlib.suppress(OSError):  # another process sweeps it too
            if all(one.lstat().st_mtime < before for one in files):
                shutil.rmtree(left)


class _Near:
    """Files of a checkpoint made from those of its base, which lies in a folder here."""

    def __init__(self, store: ContentStore, folder: Path, on_bytes: OnBytes | None) -> None:
        self._store = store
        self._folder = folder
        self._on_bytes = on_bytes
        self._waits = True
        try:
            manifest = read_manifest((folder / MANIFEST_NAME).read_bytes())
            self._files = {file.name: file.cid for file in manifest}
        except (OSError, CheckpointError):
            self._files = {}

    def has_made(self, file: CheckpointFile, path: Path, timeout: float) -> bool:
        """Whether `path` is now the file, its CID checked. False: fetch it whole."""
        if file.name not in self._files:
            return False
        source = self._folder / file.name
        try:
            if self._files[file.name] == file.cid:
                pieces = counted(_pieces(source), self._on_bytes)
                write_verified(file.cid, pieces, path, source=str(source))
                return True
            delta = file.delta
            if delta is None or not deltas.available() or not self._waits:
                return False
            if delta.size >= file.size:
                raise CheckpointError(f"the delta of {file.name} is no smaller than the file")
            self._rebuild(source, file, delta, path, timeout * DELTA_PATIENCE)
        except (StorageError, CheckpointError) as error:
            # It cost its share of the time, and the next would cost as much again.
            self._waits = False
            log.warning("delta_unusable file=%s reason=%s", file.name, error)
            return False
        log.info("delta_applied file=%s bytes=%d of=%d", file.name, delta.size, file.size)
        return True

    def _rebuild(
        self, source: Path, file: CheckpointFile, delta: DeltaFile, path: Path, timeout: float
    ) -> None:
        # Beside the made folder, not in it: a file may have any name.
        fetched = path.parent.parent / "delta"
        self._store.get_file(
            delta.cid, fetched, timeout=timeout, max_bytes=delta.size, on_bytes=self._on_bytes
        )
        pieces = counted(deltas.rebuilt(source, fetched, file.size), self._on_bytes)
        write_verified(file.cid, pieces, path, source=f"the delta {delta.cid}", max_bytes=file.size)


def _pieces(path: Path) -> Iterator[bytes]:
    with reading(path), path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece


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


def is_fetched(path: Path, cid: Cid) -> bool:
    """Whether a folder holds this checkpoint. It appeared complete, so its manifest tells."""
    try:
        return cid_of_bytes((path / MANIFEST_NAME).read_bytes()) == cid
    except OSError:
        return False


def _check_json(path: Path) -> None:
    if path.suffix != ".json":
        return
    try:
        with reading(path):
            check_depth(path.read_bytes().decode("utf-8"), depth=MAX_JSON_DEPTH)
    except ValueError as error:
        raise CheckpointError(f"{path.name} is no JSON that can be read: {error}") from None


def _check_file(name: str, size: int) -> None:
    if size > MAX_TEXT_BYTES and not name.endswith(".safetensors"):
        raise CheckpointError(
            f"{name!r:.140} has {size:,} bytes, and {MAX_TEXT_BYTES:,} are the most beside weights",
            fix="keep in a checkpoint what a model needs",
        )
    if not _NAME.fullmatch(name) or not name.endswith(_SUFFIXES) or name == MANIFEST_NAME:
        raise CheckpointError(
            f"{name!r:.140} is no name of a checkpoint file",
            fix=f"use plain names that end in {', '.join(_SUFFIXES)}",
        )
