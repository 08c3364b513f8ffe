"""What installed distributions offer under an entry point group."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from marketplace.protocol.errors import EnvironmentMismatch, SpecError


def entry_point(distribution: str, name: str, group: str) -> Any:
    """The object. EnvironmentMismatch where it is not installed, SpecError where it has none."""
    try:
        points = metadata.distribution(distribution).entry_points.select(group=group)
    except metadata.PackageNotFoundError:
        raise EnvironmentMismatch(
            f"distribution {distribution} is not installed", fix=f"pip install {distribution}"
        ) from None
    offered = {point.name: point for point in points}
    if name not in offered:
        raise SpecError(
            f"{distribution} has no entry point {name!r} in group {group!r}",
            fix=f"use one of {sorted(offered)}" if offered else "declare it in its pyproject.toml",
        )
    try:
        return offered[name].load()
    except Exception as error:
        raise SpecError(
            f"entry point {name!r} of {distribution} can't be imported: "
            f"{type(error).__name__}: {error}"
        ) from None
