"""What installed distributions offer under an entry point group."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def class_of(distribution: str, path: str, base: type, made_for: str) -> type[Any]:
    """The class "module:Class", of a module that the distribution brings, if it derives from base.

    Arguments and errors as `module_of`.
    """
    module, _, name = path.partition(":")
    found = getattr(module_of(distribution, module, made_for), name, None)
    if not isinstance(found, type) or not issubclass(found, base) or found is base:
        raise SpecError(f"{path} is no class that derives from {base.__name__}")
    return found


def module_of(distribution: str, module: str, made_for: str) -> ModuleType:
    """A module that the distribution brings. Errors as `entry_point`.

    made_for: a package that the distribution must require. A spec is a stranger's: it may name what
    the operator installed as environments, not any library that happens to be there.
    "tracemarket" brings the examples in marketplace.gym.worlds.
    """
    if distribution == "tracemarket":
        brings = module.startswith("marketplace.gym.worlds.")
    else:
        try:
            installed = metadata.distribution(distribution)
        except metadata.PackageNotFoundError:
            raise EnvironmentMismatch(
                f"distribution {distribution} is not installed", fix=f"pip install {distribution}"
            ) from None
        if made_for not in _requirements(installed):
            raise SpecError(
                f"distribution {distribution} does not require {made_for}, so it has no "
                "environments for it",
                fix=f"name one that lists {made_for} among its dependencies",
            )
        brings = module.partition(".")[0] in _top_level(installed)
    if not brings:
        raise SpecError(f"module {module} is not one that distribution {distribution} brings")
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise SpecError(
            f"module {module} can't be imported: {type(error).__name__}: {error}"
        ) from None


def _requirements(installed: metadata.Distribution) -> set[str]:
    """Names of what it requires, normalised, optional extras left out."""
    found = map(Requirement, installed.requires or [])
    return {canonicalize_name(one.name) for one in found if "extra" not in str(one.marker or "")}


def _top_level(installed: metadata.Distribution) -> set[str]:
    """Names of its top-level modules and packages."""
    declared = (installed.read_text("top_level.txt") or "").split()
    files = (file.parts[0].partition(".")[0] for file in installed.files or [])
    return {*declared, *(name for name in files if name.isidentifier())}
