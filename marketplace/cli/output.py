"""What commands print: tables for people, JSON for scripts.

JSON goes to standard output alone; progress and messages go to standard error. Token amounts
in JSON are base units as decimal strings (they may exceed 2^53), hashes and addresses 0x hex.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
messages = Console(stderr=True, highlight=False)

_LONGEST_WHOLE = 66
"""Characters of a hash with its 0x; longer words are broken where a terminal is too narrow."""


def plain(value: Any) -> Any:
    """A value as JSON knows it. Integers that a JavaScript reader would round become strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def emit_json(value: Any) -> None:
    """Prints one JSON document to standard output."""
    print(json.dumps(plain(value), indent=2, sort_keys=False))


def printable(text: str) -> str:
    """text, with what a terminal obeys instead of showing it escaped as in JSON.

    Specs, tasks and completions come from strangers. Lines stay lines.
    """
    return "".join(
        char
        if char.isprintable() or char in "\n\t"
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else json.dumps(char)[1:-1]
        for char in text
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; columns whose name ends in '>' are aligned to the right, those whose name
    ends in '=' keep each cell on one line. Cells are plain text, no markup."""
    grid = Table(title=title, title_justify="left", header_style="bold")
    for name in columns:
        right, whole = name.endswith(">"), name.endswith("=")
        grid.add_column(
            name.rstrip(">="), justify="right" if right else "left", no_wrap=right or whole
        )
    for row in rows:
        grid.add_row(*(Text(printable(str(cell))) for cell in row))
    out.print(grid)


def facts(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    """Prints one record as name and value. Addresses and hashes stay in one piece, to be copied
    from a terminal of any width."""
    shown = [(name, printable(str(value))) for name, value in pairs]
    words = [cell_len(word) for _, value in shown for word in value.split()]
    names, values = (
        max((cell_len(name) for name, _ in shown), default=0),
        max((width for width in words if width <= _LONGEST_WHOLE), default=0),
    )
    grid = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=names)
    grid.add_column(min_width=values, overflow="fold")
    for name, value in shown:
        grid.add_row(name, Text(value))
    least = names + values + 8  # two columns of padding on either side of both
    if least > out.width:
        grid.width = least
    out.print(grid, crop=False)


def say(message: str) -> None:
    """A message for people, on standard error."""
    messages.print(message)


def bars(**options: Any) -> Progress:
    """Progress bars on standard error, with the time that is left; options: of rich's Progress."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=messages, transient=not messages.is_terminal, **options)


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Any]:
    """A progress bar on standard error; yields `advance(n)`."""
    with bars() as bar:
        task = bar.add_task(title, total=total)
        yield lambda n=1: bar.advance(task, n)
