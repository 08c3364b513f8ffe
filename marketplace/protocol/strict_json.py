"""JSON from people who may be hostile: bounded depth, no duplicate keys, no NaN or Infinity.

Depth is bounded before the parser sees the text. How deep the standard library's C scanner can
go depends on the interpreter's recursion limit, which other packages raise process-wide (py_ecc
to 100,000), and then a line of brackets ends the whole process instead of raising.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

# One pass: nothing is given back, and a string that never ends is taken to the end of the text.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def loads(text: str, *, depth: int) -> Any:
    """The value. depth: how many arrays and objects may stand inside each other.

    Raises ValueError (json.JSONDecodeError is one), with a message that names the place or the
    key.
    """
    check_depth(text, depth)
    return _DECODER.decode(text)


def check_depth(text: str, depth: int) -> None:
    """ValueError where more arrays and objects stand inside each other: for what some other
    parser, which may not survive that, reads next."""
    open_now = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        open_now += 1 if bracket[0] in "[{" else -1
        if open_now > depth:
            raise ValueError(f"nests too deeply, over {depth} levels")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not JSON")


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key!a:.80} appears twice")
            seen.add(key)
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_pairs, parse_constant=_refuse_constant)
