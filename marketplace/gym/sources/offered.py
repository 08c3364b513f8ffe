"""What installed distributions offer under an entry point group."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType
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


def class_of(distribution: str, path: str, base: type) -> type[Any]:
    """The class "module:Class", of a module that the distribution brings, if it derives from base.

    "tracemarket" brings the examples in marketplace.gym.worlds. Errors as `entry_point`.
    """
    module, _, name = path.partition(":")
    found = getattr(module_of(distribution, module), name, None)
    if not isinstance(found, type) or not issubclass(found, base) or found is base:
        raise SpecError(f"{path} is no class that derives from {base.__name__}")
    return found


def module_of(distribution: str, module: str) -> ModuleType:
    """A module that the distribution brings. Errors as `entry_point`."""
    if distribution == "tracemarket":
        brings = module.startswith("marketplace.gym.worlds.")
    else:
        try:
            installed = metadata.distribution(distribution)
        except metadata.PackageNotFoundError:
            raise EnvironmentMismatch(
                f"distribution {distribution} is not installed", fix=f"pip install {distribution}"
            ) from None
        brings = module.partition(".")[0] in _top_level(installed)
    if not brings:
        raise SpecError(f"module {module} is not one that distribution {distribution} brings")
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise SpecError(
            f"module {module} can't be imported: {type(error).__name__}: {error}"
        ) from None


def _top_level(installed: metadata.Distribution) -> set[str]:
    """Names of its top-level modules and packages."""
    declared = (installed.read_text("top_level.txt") or "").split()
    files = (file.parts[0].partition(".")[0] for file in installed.files or [])
    return {*declared, *(name for name in files if name.isidentifier())}
