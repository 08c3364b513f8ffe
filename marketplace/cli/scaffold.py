"""Writes the beginnings of an environment: `tracemarket env new`."""

from __future__ import annotations

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from marketplace.protocol.errors import ConfigError

KINDS: Final = ("spec", "package")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN: Final = frozenset({"marketplace", "verifier_node", "trainer", "tests", "test", "spec"})


def scaffold(name: str, kind: str, folder: Path) -> None:
    """Writes the files of a new environment into folder, which must be new or empty.

    Raises ConfigError for a name, kind or folder that can't be used.
    """
    if kind not in KINDS:
        raise ConfigError(f"--kind is {kind!r}", fix=f"use one of: {', '.join(KINDS)}")
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise ConfigError(
            f"{name!r} can't be an environment's name (and a Python module's)",
            fix="use a-z, 0-9 and _, beginning with a letter, at most 40",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty", fix="name a new folder with --out")
        root = resources.files("marketplace.cli") / "templates" / f"environment_{kind}"
        _write(root, folder, name)
    except OSError as error:
        raise ConfigError(f"{folder} can't be written: {error.strerror}") from None


def _write(source: Traversable, folder: Path, name: str) -> None:
    for entry in source.iterdir():
        # Templates are stored as NAME.txt: no tool takes them for code or tests of this project.
        path = folder / entry.name.replace("NAME", name).removesuffix(".txt")
        if entry.is_dir():
            path.mkdir()
            _write(entry, path, name)
        else:
            path.write_text(entry.read_text("utf-8").replace("{{name}}", name), "utf-8")
