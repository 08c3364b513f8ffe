"""Call the invariants' handlers a million times, by several processes with seeds of their own, and
add up what their actions did: seven calls of eight go to the market's, one to the score sheets'.
Exit code 1 where a run fails, an action never succeeded or calls lack.

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
TESTS: Final = Path(__file__).parent
# The contracts write their counts there, and hardhat.config.js lets them.
OUT: Final = ROOT / "build" / "deep"


@dataclass(frozen=True)
class Handler:
    """One that is called; `eighths` of all calls are its."""

    name: str
    test: str
    contract: str
    actions: str
    enum: str
    eighths: int

    @property
    def files(self) -> tuple[str, str]:
        # Hardhat calls the handler only if its file is one that it was asked for.
        return f"tests/solidity/{self.test}", f"tests/solidity/support/{self.contract}"

    def names(self) -> list[str]:
        return actions((TESTS / "support" / self.actions).read_text(), self.enum)


# The market has many more states than the sheets, whose calls also cost more.
HANDLERS: Final = (
    Handler("market", "Invariants.t.sol", "MarketHandler.sol", "Actions.sol", "Action", 7),
    Handler(
        "sheets", "SheetInvariants.t.sol", "SheetHandler.sol", "SheetActions.sol", "SheetAction", 1
    ),
)


@dataclass(frozen=True)
class Shard:
    """The part of one process."""

    handler: Handler
    seed: int
    runs: int


def actions(source: str, enum: str) -> list[str]:
    body = re.search(rf"enum {enum} \{{([^}}]*)\}}", source)
    if body is None:
        raise ValueError(f"there is no enum {enum}")
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
    """As many as each handler's calls need, each of `runs` runs of `depth` calls."""
    handlers = [
        handler
        for handler in HANDLERS
        for _ in range(-(-calls * handler.eighths // (8 * depth * runs)))
    ]
    return [Shard(handler, first_seed + i, runs) for i, handler in enumerate(handlers)]


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
    command = ["npx", "--no-install", "hardhat", "test", "solidity", *shard.handler.files]
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
    parser.add_argument(
        "--resume",
        action="store_true",
        help="count the seeds that passed before an interruption; nothing may have changed since",
    )
    asked = parser.parse_args(arguments)
    if min(asked.calls, asked.depth, asked.runs, asked.jobs, asked.first_seed) < 1:
        parser.error("numbers must be at least 1")

    parts = shards(asked.calls, asked.depth, asked.runs, asked.first_seed)
    OUT.mkdir(parents=True, exist_ok=True)
    passed = {int(mark.stem) for mark in OUT.glob("*.passed")} if asked.resume else set()
    for old in [*OUT.glob("*.txt"), *OUT.glob("*.passed")]:
        if not (old.stem.isdigit() and int(old.stem) in passed):
            old.unlink()
    files = [file for handler in HANDLERS for file in handler.files]
    for what in (["--no-tests"], files):
        build = ["npx", "--no-install", "hardhat", "build", *what]
        subprocess.run(build, cwd=ROOT, env=_environment(parts[0], asked.depth), check=True)

    began = time.monotonic()
    found: dict[str, list[list[int]]] = {handler.name: [] for handler in HANDLERS}
    failed = False

    def count(shard: Shard) -> None:
        text = (OUT / f"{shard.seed}.txt").read_text()
        found[shard.handler.name] += rows(text, shard.runs, len(shard.handler.names()))

    for shard in parts:
        if shard.seed in passed:
            count(shard)
    with ThreadPoolExecutor(asked.jobs) as pool:
        waiting: dict[Future[subprocess.CompletedProcess[str]], Shard] = {
            pool.submit(_run, shard, asked.depth): shard
            for shard in parts
            if shard.seed not in passed
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
                count(shard)
                (OUT / f"{shard.seed}.passed").touch()
                made = sum(map(len, found.values())) * asked.depth
                print(f"seed {shard.seed} passed: {made:,} calls", flush=True)

    tables = []
    well = not failed
    for handler in HANDLERS:
        wanted = asked.calls * handler.eighths // 8
        table, fine = report(found[handler.name], handler.names(), asked.depth, wanted)
        tables.append(f"{handler.name}:\n{table}")
        well = well and fine
    total = sum(map(len, found.values())) * asked.depth
    tables.append(f"{total:>11,}  handler calls in all")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (time.monotonic() - began) / 60
    spent = f"{minutes:.0f} minutes, {(usage.ru_utime + usage.ru_stime) / 60:.0f} of CPU"
    if passed:
        spent += f" for the {sum(shard.seed not in passed for shard in parts)} seeds of the last go"
    text = f"{_header(parts)}; {spent}\n" + "\n".join(tables) + "\n"
    (OUT / "report.txt").write_text(text)
    print(text, end="")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
