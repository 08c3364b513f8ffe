"""Puts every reasoning-gym task through `env check` and writes docs/reasoning-gym.md.

python benchmarks/reasoning_gym/sweep.py [--only TASK ...] [--tasks N] [--out FILE] [--json FILE]

Each task has its default configuration. It is tried with the data set's own scorer first, and
where that one fails, with exact comparison. It takes a while: the JSON file holds what is done, and
another run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from marketplace.gym.sources.reasoning_gym import REFUSED
from marketplace.gym.spec import EnvironmentSpec, parse_spec
from marketplace.gym.trial import Trial, TrialBench, examine

ROOT = Path(__file__).parents[2]
PACKAGE = "reasoning-gym"


def task_spec(task: str, scoring: str) -> EnvironmentSpec:
    """A plain environment of a task."""
    record = {
        "v": 1,
        "name": task,
        "source": {"kind": "reasoning_gym", "task": task, "config": {}},
        "scoring": {"kind": scoring},
        "limits": {"seconds": 2.0, "memory_mb": 1024, "max_chars": 8192},
        "packages": {PACKAGE: metadata.version(PACKAGE)},
    }
    return parse_spec(json.dumps(record).encode())


def sweep(names: Sequence[str], bench: TrialBench, tasks: int) -> Iterator[dict[str, Any]]:
    """One record for each task: {"task", "scoring" (None: no use), "checks_per_second", "why"}."""
    for name in names:
        if name in REFUSED:
            yield _record(name, None, None, REFUSED[name])
            continue
        own = examine(task_spec(name, "source"), bench, tasks=tasks, rate_seconds=0.5)
        if own.passed:
            yield _record(name, "source", own, "")
            continue
        exact = examine(task_spec(name, "exact"), bench, tasks=tasks, rate_seconds=0.5)
        if exact.passed:
            yield _record(name, "exact", exact, "its own scorer: " + _why(own))
        else:
            yield _record(name, None, None, _why(own) + "; exact: " + _why(exact))


def document(records: Sequence[dict[str, Any]], tasks: int, when: str) -> str:
    """The page, in Markdown."""
    own = [one for one in records if one["scoring"] == "source"]
    exact = [one for one in records if one["scoring"] == "exact"]
    no_use = [one for one in records if one["scoring"] is None]
    return "\n".join(
        [
            f"# reasoning-gym {metadata.version(PACKAGE)}, task by task",
            "",
            "Written by `make gym-sweep`: every task in its default configuration through "
            f"`tracemarket env check` ({tasks} tasks",
            "drawn, the checks of [environments.md](environments.md)). Checks per second are of "
            "one worker process; measured",
            f"{when} on {_machine()}, Python {platform.python_version()}, beside other work.",
            "",
            f"Of {len(records)} tasks {len(own)} pass with their own scorer, {len(exact)} more "
            f"with `exact` scoring only, and {len(no_use)} can't be used.",
            "",
            "## Tasks that pass with their own scorer",
            "",
            "| Task | Checks/s |",
            "| --- | ---: |",
            *(f"| {one['task']} | {_rate(one)} |" for one in own),
            "",
            '## Tasks that pass with `"scoring": {"kind": "exact"}` only',
            "",
            "| Task | Checks/s | Why not with its own scorer |",
            "| --- | ---: | --- |",
            *(f"| {one['task']} | {_rate(one)} | {_cell(one['why'])} |" for one in exact),
            "",
            "## Tasks that can't be used",
            "",
            "| Task | Why |",
            "| --- | --- |",
            *(f"| {one['task']} | {_cell(one['why'])} |" for one in no_use),
            "",
        ]
    )


def _record(name: str, scoring: str | None, trial: Trial | None, why: str) -> dict[str, Any]:
    rate = None if trial is None else trial.checks_per_second
    return {"task": name, "scoring": scoring, "checks_per_second": rate, "why": why}


def _rate(record: dict[str, Any]) -> str:
    rate = record["checks_per_second"]
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def _why(trial: Trial) -> str:
    return "; ".join(f"{check.name}: {check.detail}" for check in trial.failures)


def _cell(text: str) -> str:
    shown = text.replace("|", "\\|").replace("\n", " ").replace("its own scorer: ", "")
    return shown if len(shown) <= 200 else shown[:197] + "..."


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return f"{os.cpu_count()} cores of {model}"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", nargs="*", help="names of tasks")
    options.add_argument("--tasks", type=int, default=24)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "reasoning-gym.md")
    options.add_argument("--json", type=Path, default=ROOT / "build" / "gym-sweep.json")
    chosen = options.parse_args()
    from reasoning_gym.factory import DATASETS

    records = json.loads(chosen.json.read_text()) if chosen.json.exists() else []
    done = {record["task"] for record in records}
    names = [name for name in sorted(chosen.only or DATASETS) if name not in done]
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    with TrialBench() as bench:
        for record in sweep(names, bench, chosen.tasks):
            records.append(record)
            chosen.json.write_text(json.dumps(records, indent=1) + "\n")
            rate = "" if record["checks_per_second"] is None else f"{_rate(record):>8}/s"
            shown = f"{record['task']:32} {record['scoring'] or 'FAILS':8} {rate}"
            print(f"{shown} {record['why'][:150]}", flush=True)
    records.sort(key=lambda record: record["task"])
    chosen.out.write_text(document(records, chosen.tasks, date.today().isoformat()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
