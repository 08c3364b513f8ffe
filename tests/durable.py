"""What a power cut would have left: which files were on disk before they got their names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Notes what is synced and named from now on. A power cut itself can't be tested."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._synced: list[int] = []
        self._lost: dict[Path, list[str]] = {}
        self._parents: dict[Path, int] = {}
        fsync = os.fsync

        def sync(handle: Any) -> None:
            fsync(handle)
            self._synced.append(os.fstat(handle).st_ino)

        monkeypatch.setattr(os, "fsync", sync)
        for name in ("rename", "replace", "link"):
            monkeypatch.setattr(os, name, self._naming(getattr(os, name)))

    def survives(self, path: Path) -> bool:
        """Whether all that is at the path was on disk before it was there, and its name then."""
        assert path in self._lost, f"{path} got no name"
        parent = path.parent.stat().st_ino
        return not self._lost[path] and parent in self._synced[self._parents[path] :]

    def _naming(self, real: Any) -> Any:
        def move(source: Any, target: Any, *rest: Any, **named: Any) -> None:
            every = [Path(source), *Path(source).rglob("*")]
            lost = [str(one) for one in every if one.stat().st_ino not in self._synced]
            real(source, target, *rest, **named)
            self._lost[Path(target)] = lost
            self._parents[Path(target)] = len(self._synced)

        return move
