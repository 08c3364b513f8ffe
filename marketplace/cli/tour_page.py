"""docs/tour.md: what the tour of all built-in environments found, as Markdown."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = (
    "reasoning-gym",
    "math-verify",
    "jsonschema",
    "gymnasium",
    "verifiers",
    "openenv",
    "pint",
    "wasmtime",
)
"""Whose versions the page names: scores depend on them."""

_SHOWN: Final = 90
"""Characters of a trace in the table."""


def page(stops: Sequence[Mapping[str, Any]], *, anvil: str) -> str:
    """The page of the tour's stops (as the JSON has them). anvil: what the chain calls itself."""
    settled = sum(not stop["error"] for stop in stops)
    return "\n".join(
        [
            "# The tour: every built-in environment through a market",
            "",
            "Written by `make gym-tour`; do not edit. For each environment a bounty is funded, a "
            "miner commits a batch with a right and a",
            "wrong trace of each task, a committee of three attests it, and the batch settles. "
            "Completions are made up (reference",
            "answers, and `marketplace/gym/examples/`); the miner, the nodes, the checkers and the "
            "chain are the real ones.",
            "",
            f"{date.today().isoformat()}, {_machine()}, beside other work;",
            f"{_versions(anvil)}.",
            "Checks per second are of one worker, right and wrong answers in turn. Long traces are "
            "cut in the middle (...).",
            "",
            f"{settled} of {len(stops)} environments settled, with every right trace paid and no "
            "wrong one.",
            "",
            "| environment | tasks from | scored by | tasks | checks/s | paid | refused | why |",
            "| :-- | :-- | :-- | --: | --: | :-- | :-- | :-- |",
            *map(_row, stops),
            "",
        ]
    )


def _row(stop: Mapping[str, Any]) -> str:
    rate = stop["checks_per_second"]
    told = stop["error"] or f"{stop['reason'].lower().replace('_', ' ')}: {stop['why']}"
    cells = (
        stop["environment"],
        stop["source"],
        stop["scoring"],
        str(stop["tasks"]),
        "" if rate is None else f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}",
        _code(stop["paid"]),
        _code(stop["refused"]),
        _cell(told),
    )
    return f"| {' | '.join(cells)} |"


def shown(text: str, most: int = _SHOWN) -> str:
    """A trace on one line, as a JSON string without its quotes, of at most so many characters:
    of a longer one the beginning and the end."""
    flat = json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"')
    tail = most // 3
    return flat if len(flat) <= most else f"{flat[: most - tail - 5]} ... {flat[-tail:]}"


def _code(text: str) -> str:
    """Inline code that no backtick ends and whose bars don't divide the row."""
    if not text:
        return ""
    flat = shown(text).replace("|", "\\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", flat)), default=0))
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_`\[\]\\])", r"\\\1", shown(text, 160))


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return f"{os.cpu_count()} cores of {model}"


def _versions(anvil: str) -> str:
    found = [f"Python {platform.python_version()}", anvil]
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)
