"""Families: sources of our own are made of named generators, and a spec names those it uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeVar

from pydantic import Field

from marketplace.protocol.errors import SpecError

Made = TypeVar("Made")

FamilyNames = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=64)], ...],
    Field(min_length=1, max_length=32),
]
"""A spec's families, in the order in which its tasks choose among them."""


def chosen_families(kind: str, known: Mapping[str, Made], names: Iterable[str]) -> list[Made]:
    """The generators of these names. SpecError for one that does not exist or comes twice."""
    found: dict[str, Made] = {}
    for name in names:
        if name not in known:
            raise SpecError(f"there is no {kind} family {name!r}", fix=f"use some of {list(known)}")
        if name in found:
            raise SpecError(f"{kind} family {name!r} is named twice")
        found[name] = known[name]
    return list(found.values())
