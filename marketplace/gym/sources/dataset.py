"""A data set as a task source: JSON Lines content, named by CID, one problem a row.

A task's 64-bit number is taken modulo `rows`. That favours the first rows by at most rows / 2**64,
less than one draw in 10**13 for a million rows. All rows are read and checked when the source is
opened, so that a broken one refuses the environment before money depends on it, instead of
failing whoever is assigned that row.

Content comes from a folder that the caller has filled (marketplace.storage.assets verifies it).
The data sets that ship with the package need no fetching: they lie in `data/`, named by CID too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

import zstandard
from pydantic import Field

from marketplace.gym.machine import is_of_machine
from marketplace.gym.source import Asset, Entry, Source
from marketplace.protocol import strict_json
from marketplace.protocol.errors import SpecError

MAX_ROWS: Final = 1_000_000
MAX_BYTES: Final = 256 << 20

CidText = Annotated[str, Field(pattern=r"^baf(krei|ybei)[a-z2-7]{52}$")]
"""A CIDv1 of sha2-256, raw or dag-pb, in base32: the one text form, so that a spec has one id."""

_BUILTIN = Path(__file__).parents[1] / "data"
_MAX_DEPTH = 16
_WINDOW = 1 << 27  # bytes that a zstd frame may ask a reader to keep
_FieldName = Annotated[str, Field(min_length=1, max_length=64)]


class DatasetSource(Source):
    """Rows of a data set. rows: how many of it count, from the first. question, answer: the keys
    of a row's texts. zstd: the content is compressed. max_bytes: of the content, and of its lines.
    """

    SCORES: ClassVar[bool] = False

    kind: Literal["dataset"]
    cid: CidText
    rows: Annotated[int, Field(ge=1, le=MAX_ROWS)]
    question: _FieldName = "question"
    answer: _FieldName = "answer"
    zstd: bool = False
    max_bytes: Annotated[int, Field(ge=1, le=MAX_BYTES)] = 16 << 20

    def open(self) -> DatasetTasks:
        return self.open_with(None)

    def open_with(self, assets: Path | None) -> DatasetTasks:
        return DatasetTasks(self, assets)

    def assets(self) -> tuple[Asset, ...]:
        return (Asset(self.cid, self.max_bytes),)


def builtin_asset(cid: str) -> Path | None:
    """The data set that ships with the package under this CID, or None."""
    path = _BUILTIN / cid
    return path if path.is_file() else None


class DatasetTasks:
    """A TaskSource over the rows. SpecError for content that is missing, short or broken, OSError
    where this machine has no file handles or its disk fails."""

    def __init__(self, source: DatasetSource, assets: Path | None) -> None:
        self._source = source
        try:
            self._rows = list(self._read(_path_of(source.cid, assets)))
        except MemoryError:
            raise SpecError(
                f"data set {source.cid} does not fit into the environment's memory",
                fix="raise limits.memory_mb, to about four times the data set",
            ) from None
        if len(self._rows) < source.rows:
            raise SpecError(
                f"row {len(self._rows)} of data set {source.cid} is out of range: the spec "
                f"declares {source.rows} rows, the content has {len(self._rows)}",
                fix=f"set source.rows to {len(self._rows)}, or name other content",
            )

    def draw(self, number: int) -> Entry:
        """The row of a 64-bit number."""
        return self.row(number % len(self._rows))

    def row(self, index: int) -> Entry:
        """The index-th row, from 0. SpecError off the end."""
        if not 0 <= index < len(self._rows):
            raise SpecError(
                f"row {index} is out of range: data set {self._source.cid} has "
                f"{len(self._rows)} rows"
            )
        return Entry(*self._rows[index])

    def score(self, answer: str, entry: Entry) -> object:
        """There is no scorer of its own: the spec chooses exact or math_verify."""
        raise TypeError("a data set has no scorer of its own")

    def _read(self, path: Path) -> Iterator[tuple[str, str]]:
        known: dict[str, str] = {}
        for index, line in enumerate(io.BytesIO(self._content(path))):
            if index == self._source.rows:
                return
            question, answer = self._texts(index, line)
            if known.setdefault(question, answer) != answer:
                raise self._broken(index, "asks what an earlier row asks, with another answer")
            yield question, answer

    def _content(self, path: Path) -> bytes:
        source = self._source
        try:
            with path.open("rb") as file:
                data = file.read(source.max_bytes + 1)
            if source.zstd and len(data) <= source.max_bytes:
                unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
                with unpacker.stream_reader(data, read_across_frames=True) as reader:
                    data = reader.read(source.max_bytes + 1)
        except OSError as error:
            if is_of_machine(error):  # it says nothing about the data set
                raise
            raise SpecError(f"data set {source.cid} can't be read: {error.strerror}") from None
        except zstandard.ZstdError as error:
            raise SpecError(
                f"data set {source.cid} is not zstd: {error}", fix="set source.zstd to false"
            ) from None
        if len(data) > source.max_bytes:
            raise SpecError(
                f"data set {source.cid} has over {source.max_bytes:,} bytes",
                fix=f"raise source.max_bytes (to {MAX_BYTES:,} at most)",
            )
        return data

    def _texts(self, index: int, line: bytes) -> tuple[str, str]:
        try:
            row = strict_json.loads(line.decode("utf-8"), depth=_MAX_DEPTH)
        except ValueError as error:  # of UTF-8 and of JSON
            raise self._broken(index, f"is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise self._broken(index, f"holds a JSON {type(row).__name__}, not an object")
        texts = []
        for key in (self._source.question, self._source.answer):
            text = row.get(key)
            if not isinstance(text, str):
                found = "no" if key not in row else f"a {type(text).__name__} as"
                raise self._broken(index, f"has {found} {key!r}, which must be text")
            if not text.strip():
                raise self._broken(index, f"has an empty {key!r}")
            if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
                raise self._broken(index, f"has a lone surrogate in {key!r}")
            texts.append(text)
        return texts[0], texts[1]

    def _broken(self, index: int, what: str) -> SpecError:
        return SpecError(f"row {index} of data set {self._source.cid} {what}")


def _path_of(cid: str, assets: Path | None) -> Path:
    fetched = None if assets is None else assets / cid
    if fetched is not None and fetched.is_file():
        return fetched
    if (shipped := builtin_asset(cid)) is not None:
        return shipped
    raise SpecError(
        f"data set {cid} is not here",
        fix="put it into the content store: `tracemarket env data FILE`",
    )
