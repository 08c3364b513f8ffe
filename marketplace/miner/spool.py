"""Batches on their way: written to disk before the commit, published only after it.

A crash loses nothing: an entry says what was sampled for which assignment, and its state can
always be found again on chain. Nothing is ever deleted before its content is published; what
can't be committed any more is moved aside, not thrown away.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from marketplace.protocol.errors import ConfigError
from marketplace.storage.cid import Cid
from marketplace.storage.pending import pending_file
from marketplace.storage.unixfs import cid_of_bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch file and what it answers.

    batch: its id once the commit is included. cid: of the packed file, as text. root, seed: 0x
    hex of 32 bytes.
    """

    chain_id: int
    market: str
    miner: str
    bounty: int
    root: str
    seed: str
    first_task: int
    traces: int
    cid: str
    batch: int | None = None


class Spool:
    """A directory of batch files and their entries; one for a miner."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._aside = directory / "set-aside"
        try:
            self._aside.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the spool {directory} can't be made: {error.strerror}",
                fix="give a directory that can be written",
            ) from None

    def add(self, entry: Entry, data: bytes) -> None:
        """Writes the file, then the entry, both durable when this returns."""
        assert str(cid_of_bytes(data)) == entry.cid
        _write(self._file(entry), data)
        self._save(entry)

    def committed(self, entry: Entry, batch: int) -> Entry:
        """Notes the batch id that the market gave."""
        known = replace(entry, batch=batch)
        self._save(known)
        return known

    def published(self, entry: Entry) -> None:
        """The content is in a store: the entry has done its work."""
        self._note(entry).unlink(missing_ok=True)
        self._file(entry).unlink(missing_ok=True)

    def set_aside(self, entry: Entry) -> Path:
        """Keeps a batch that can't be committed any more out of the way. Returns where."""
        kept = self._aside / self._file(entry).name
        # The note first: without its file it would be found again and committed for nothing.
        self._note(entry).replace(self._aside / self._note(entry).name)
        with suppress(FileNotFoundError):
            self._file(entry).replace(kept)
        return kept

    def data(self, entry: Entry) -> bytes:
        """The batch file. ConfigError where it is not what was sampled."""
        path = self._file(entry)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        if str(cid_of_bytes(data)) != entry.cid:
            what = f"{entry.traces} traces for bounty {entry.bounty}"
            if entry.batch is not None:
                what = f"batch {entry.batch} is committed and not published: its {what}"
            raise ConfigError(
                f"{what} should be in {path}, which is damaged or gone",
                fix=f"put the whole file back there, or give it up: move {self._note(entry)} away",
            )
        return data

    def entries(self, chain_id: int, market: str, miner: str) -> list[Entry]:
        """What is on its way for one miner on one market, oldest task first."""
        found = []
        for note in sorted(self._directory.glob("*.json")):
            try:
                entry = Entry(**json.loads(note.read_text("utf-8")))
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"the spool entry {note} is not readable: {error}",
                    fix="move it away; the batch file beside it holds the traces",
                ) from None
            if (entry.chain_id, entry.market, entry.miner) == (chain_id, market, miner):
                found.append(entry)
        return sorted(found, key=lambda entry: (entry.bounty, entry.first_task))

    def _save(self, entry: Entry) -> None:
        _write(self._note(entry), json.dumps(asdict(entry), indent=2).encode())

    def _file(self, entry: Entry) -> Path:
        return self._directory / f"{Cid.parse(entry.cid)}.jsonl.zst"

    def _note(self, entry: Entry) -> Path:
        return self._directory / f"{Cid.parse(entry.cid)}.json"


def _write(path: Path, data: bytes) -> None:
    with pending_file(path.parent) as pending:
        pending.file.write(data)
        pending.publish(path)
