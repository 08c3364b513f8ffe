"""How a row dataclass becomes a row of SQLite, and back.

Money does not fit SQLite's 64-bit integers, so it is stored as decimal text; sums are made in
Python.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Annotated, Any, Final, Generic, TypeVar

Amount = Annotated[int, "amount"]
"""Up to uint256, as decimal text."""

Moment = Annotated[int, "moment"]
"""Up to uint64, as 20 decimal digits: text that sorts as the number does."""

Value = str | int | None
Key = tuple[Value, ...]

R = TypeVar("R")


class Table(Generic[R]):
    """A table whose columns are the fields of a row dataclass, in their order."""

    def __init__(self, name: str, row: type[R], key: Sequence[str]) -> None:
        self.name: Final = name
        self.columns: Final = tuple(field.name for field in fields(row))  # type: ignore[arg-type]
        kinds = typing.get_type_hints(row, include_extras=True)
        codecs = [_codec(kinds[column]) for column in self.columns]
        self._row = row
        self._encoders = [codec[0] for codec in codecs]
        self._decoders = [codec[1] for codec in codecs]
        self._values = attrgetter(*self.columns)
        keys = [attrgetter(column) for column in key]
        self.key: Final[Callable[[R], Key]] = lambda row: tuple(get(row) for get in keys)
        self.select: Final = f"SELECT {', '.join(self.columns)} FROM {name}"
        self.where_key: Final = " AND ".join(f"{column} = ?" for column in key)
        changes = ", ".join(f"{c} = excluded.{c}" for c in self.columns if c not in key)
        self.upsert: Final = (
            f"INSERT INTO {name} ({', '.join(self.columns)}) "
            f"VALUES ({', '.join('?' * len(self.columns))}) "
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
        )

    def encode(self, row: R) -> tuple[Value, ...]:
        """The row's values for SQLite, in the order of `columns`."""
        return tuple(
            value if value is None or encode is None else encode(value)
            for encode, value in zip(self._encoders, self._values(row), strict=True)
        )

    def decode(self, values: Sequence[Any]) -> R:
        """The row of a `select`."""
        return self._row(
            *(
                value if value is None or decode is None else decode(value)
                for decode, value in zip(self._decoders, values, strict=True)
            )
        )


_Codec = tuple[Callable[[Any], Value] | None, Callable[[Any], Any] | None]


def moment(value: int) -> str:
    """A Moment as it is stored."""
    return f"{value:020d}"


def _codec(kind: Any) -> _Codec:
    options = (kind, *typing.get_args(kind))  # "Amount | None" holds Amount
    if any(getattr(option, "__metadata__", ()) == ("amount",) for option in options):
        return str, int
    if any(getattr(option, "__metadata__", ()) == ("moment",) for option in options):
        return moment, int
    if bool in options:
        return int, bool
    return None, None
