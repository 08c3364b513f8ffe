"""Call the invariants' handler a million times, by several processes with seeds of their own, and
add up what its actions did. Exit code 1 where a run fails, an action never succeeded or calls lack.

python tests/solidity/deep.py --calls 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
ACTIONS: Final = Path(__file__).parent / "support" / "Actions.sol"
# Hardhat calls the handler only if its file is one that it was asked for.
FILES: Final = ("tests/solidity/Invariants.t.sol", "tests/solidity/support/MarketHandler.sol")
# The contracts write their counts there, and hardhat.config.js lets them.
OUT: Final = ROOT / "build" / "deep"


@dataclass(frozen=True)
class Shard:
    """The part of one process."""

    seed: int
    runs: int


def actions(source: str) -> list[str]:
    body = re.search(r"enum Action \{([^}]*)\}", source)
    if body is None:
        raise ValueError("Actions.sol has no enum Action")
    return re.findall(r"\w+", body[1])


def rows(text: str, runs: int, width: int) -> list[list[int]]:
    """A row for each run, of how often each action did something.

    text: a line a run, counts in the enum's order.
    """
    # Hardhat plays the last run once more in the end.
    found = [[int(count) for count in line.split()] for line in text.splitlines()[:runs]]
    if any(len(row) != width for row in found):
        raise ValueError(f"a line doesn't have {width} counts")
    return found


def shards(calls: int, depth: int, runs: int, first_seed: int) -> list[Shard]:
    """As many as the calls need, each of `runs` runs of `depth` calls."""
    number = -(-calls // (depth * runs))
    return [Shard(first_seed + i, runs) for i in range(number)]


def report(
    found: Sequence[Sequence[int]], names: Sequence[str], depth: int, calls: int
) -> tuple[str, bool]:
    """The table, and whether all is well."""
    counts = {name: sum(row[i] for row in found) for i, name in enumerate(names)}
    lines = [f"{count:>11,}  {name}" for name, count in counts.items()]
    made = len(found) * depth
    lines.append(f"{made:>11,}  handler calls in {len(found):,} runs of {depth}")
    never = [name for name, count in counts.items() if count == 0]
    if never:
        lines.append(f"never succeeded: {', '.join(never)}")
    if made < calls:
        lines.append(f"only {made:,} of {calls:,} calls were made")
    return "\n".join(lines), not never and made >= calls


def _environment(shard: Shard, depth: int) -> dict[str, str]:
    return os.environ | {
        "TRACEMARKET_DEEP_RUNS": str(shard.runs),
        "TRACEMARKET_DEEP_SEED": str(shard.seed),
        "TRACEMARKET_DEEP_DEPTH": str(depth),
    }


def _run(shard: Shard, depth: int) -> subprocess.CompletedProcess[str]:
    command = ["npx", "--no-install", "hardhat", "test", "solidity", *FILES]
    return subprocess.run(
        [*command, "--no-compile", "--grep", "invariant_"],
        cwd=ROOT,
        env=_environment(shard, depth),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _header(parts: Sequence[Shard]) -> str:
    packages = {name: ROOT / "node_modules" / name / "package.json" for name in ("hardhat", "solc")}
    versions = {name: json.loads(path.read_text())["version"] for name, path in packages.items()}
    said = " ".join(f"{name} {version}" for name, version in versions.items())
    seeds = f"seeds {parts[0].seed} to {parts[-1].seed}, {parts[0].runs} runs each"
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {said}; {seeds}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--depth", type=int, default=256, help="calls of a run")
    parser.add_argument("--runs", type=int, default=125, help="runs of a process, most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--first-seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    if min(asked.calls, asked.depth, asked.runs, asked.jobs, asked.first_seed) < 1:
        parser.error("numbers must be at least 1")

    names = actions(ACTIONS.read_text())
    parts = shards(asked.calls, asked.depth, asked.runs, asked.first_seed)
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("*.txt"):
        old.unlink()
    for what in (["--no-tests"], FILES):
        build = ["npx", "--no-install", "hardhat", "build", *what]
        subprocess.run(build, cwd=ROOT, env=_environment(parts[0], asked.depth), check=True)

    began = time.monotonic()
    found: list[list[int]] = []
    failed = False
    with ThreadPoolExecutor(asked.jobs) as pool:
        waiting: dict[Future[subprocess.CompletedProcess[str]], Shard] = {
            pool.submit(_run, shard, asked.depth): shard for shard in parts
        }
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                shard = waiting.pop(future)
                if future.cancelled():
                    continue
                ended = future.result()
                if ended.returncode != 0:
                    failed = True
                    print(f"seed {shard.seed} failed\n{ended.stdout}", flush=True)
                    for other in waiting:
                        other.cancel()
                    continue
                text = (OUT / f"{shard.seed}.txt").read_text()
                found += rows(text, shard.runs, len(names))
                print(f"seed {shard.seed} passed: {len(found) * asked.depth:,} calls", flush=True)

    table, well = report(found, names, asked.depth, asked.calls)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (time.monotonic() - began) / 60
    spent = f"{minutes:.0f} minutes, {(usage.ru_utime + usage.ru_stime) / 60:.0f} of CPU"
    text = f"{_header(parts)}; {spent}\n{table}\n"
    (OUT / "report.txt").write_text(text)
    print(text, end="")
    return 0 if well and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
