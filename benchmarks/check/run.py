"""How close isolated checks come to what the checkers alone would take.

    python benchmarks/check/run.py [--items N] [--repeats N] [--out FOLDER]

Writes results.json, results.md and results.png. The limit is cores / (mean time of a check in one
plain process): the same code on the same items without any isolation. Both sides take turns in
each repeat, each in a process of its own, so that load falls on both. A third side is a plain
process on every core at once: what the machine gives to checks when no core rests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final

import items as work
import psutil
import report

from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckItem, CheckPool, CheckResult, result_of
from marketplace.gym.runner import Checks
from marketplace.gym.spec import EnvironmentSpec

PACKAGES: Final = ("reasoning-gym", "math-verify", "sympy")
WARM_ITEMS: Final = 4
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}

Told = list[tuple[str, float | None, int | None]]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def told(results: list[CheckResult]) -> Told:
    """What verdicts depend on."""
    return [(one.status.value, one.score, one.reason) for one in results]


def _cpu() -> float:
    """CPU seconds so far of this process and all below it, the ended ones too."""
    own = psutil.Process()
    used = [own.cpu_times()]
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            used.append(child.cpu_times())
    return sum(one.user + one.system + one.children_user + one.children_system for one in used)


def plain(batches: list[work.Batch]) -> dict[str, Any]:
    """All checks in this process, one after the other. seconds: of the checks alone."""
    checks = {}
    for batch in batches:
        if batch.spec.name not in checks:
            environment = Environment(batch.spec)
            environment.self_test()
            checks[batch.spec.name] = Checks(environment)
    answers, seconds, used = [], 0.0, 0.0
    by_environment: dict[str, list[float]] = {}
    for batch in batches:
        check = checks[batch.spec.name].check
        started, before = time.perf_counter(), time.process_time()
        answers += [check(*item) for item in batch.items]
        took = time.perf_counter() - started
        used += time.process_time() - before
        seconds += took
        known = by_environment.setdefault(batch.spec.name, [0, 0.0])
        known[0] += len(batch.items)
        known[1] += took
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "told": told([result_of(answer) for answer in answers]),
        "by_environment": by_environment,
    }


def pooled(batches: list[work.Batch], workers: int) -> dict[str, Any]:
    """All checks through a pool, batch after batch, as a verifier has them."""
    with CheckPool(workers) as pool:
        started = time.perf_counter()
        first: dict[str, work.Batch] = {}
        for batch in batches:  # starts workers, which import what the two kinds of source need
            first.setdefault(batch.spec.scoring.kind, batch)
        for kind, batch in first.items():  # of another name: its runners are none of those below
            spec = batch.spec.model_copy(update={"name": f"warm-{kind.replace('_', '-')}"})
            pool.check(spec, batch.items[: WARM_ITEMS * workers] * 8)
        start_up = time.perf_counter() - started
        started, before = time.perf_counter(), _cpu()
        results = [one for batch in batches for one in pool.stream(batch.spec, batch.items)]
        seconds, used = time.perf_counter() - started, _cpu() - before
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "start_up": start_up,
        "told": told(results),
    }


def spawned(batches: list[work.Batch], checks: int, workers: int) -> dict[str, Any]:
    """A fresh Python for every check, `workers` at a time: of items spread over all batches."""
    chosen = [
        (batch.spec, batch.items[number // len(batches) * work.GROUP])
        for number in range(checks)
        for batch in [batches[number * 7 % len(batches)]]
    ]
    started, before = time.perf_counter(), _cpu()
    running: list[subprocess.Popen[bytes]] = []
    for spec, item in chosen:
        if len(running) == workers:
            _ended(running.pop(0))
        running.append(_spawn(spec, item))
    for process in running:
        _ended(process)
    return {
        "checks": checks,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": _cpu() - before,
    }


_ONE: Final = """
import json, sys
from marketplace.gym.environment import Environment
from marketplace.gym.runner import Checks
from marketplace.gym.spec import parse_spec
spec, seed, completion, prompt = json.load(sys.stdin)
checks = Checks(Environment(parse_spec(spec.encode())))
print(checks.check(bytes.fromhex(seed), completion, prompt))
"""


def _spawn(spec: EnvironmentSpec, item: CheckItem) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _ONE], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stdin is not None
    job = (spec.model_dump_json(), item.seed.hex(), item.completion, item.prompt)
    process.stdin.write(json.dumps(job).encode())
    process.stdin.close()
    return process


def _ended(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise SystemExit(f"a spawned check ended with {process.returncode}")


def side(name: str, items: int, size: int, workers: int, spawns: int) -> dict[str, Any]:
    """One side, in this process."""
    batches = work.batches(items, size)
    if name == "plain":
        found = plain(batches)
    elif name == "pool":
        found = pooled(batches, workers)
    else:
        found = spawned(batches, spawns, workers)
    return {**found, "load": os.getloadavg()[0]}


def run(items: int, size: int, repeats: int, workers: int, spawns: int) -> dict[str, Any]:
    """Everything: results as report.py takes them."""
    started = time.perf_counter()
    sides: dict[str, list[dict[str, Any]]] = {"plain": [], "pool": [], "at_once": [], "spawn": []}
    differences = 0
    for repeat in range(repeats):
        for name in ("plain", "pool"):
            sides[name].append(_in_process(name, items, size, workers, spawns))
            say(f"{name} {repeat + 1}/{repeats}: {sides[name][-1]['seconds']:.2f} s")
        sides["at_once"] += _in_processes("plain", items, size, workers, spawns, workers)
        say(f"plain on every core {repeat + 1}/{repeats}: {sides['at_once'][-1]['seconds']:.2f} s")
        one, other = (sides[name][-1].pop("told") for name in ("plain", "pool"))
        differences += sum(a != b for a, b in zip(one, other, strict=True))
    sides["spawn"].append(_in_process("spawn", items, size, workers, spawns))
    say(f"spawn: {sides['spawn'][0]['seconds']:.2f} s for {spawns}")
    pairs = list(zip(sides["plain"], sides["pool"], strict=True))
    return {
        "written_by": "make bench-check",
        **report.machine(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "items": items,
        "batch": size,
        "workers": workers,
        "repeats": repeats,
        "shares": [a["seconds"] / workers / b["seconds"] for a, b in pairs],
        "cpu_shares": [a["cpu_seconds"] / b["cpu_seconds"] for a, b in pairs],
        "plain": _brief(sides["plain"]),
        "pool": _brief(sides["pool"]),
        "at_once": _brief(sides["at_once"]),
        "spawn": _brief(sides["spawn"]),
        "spawned": spawns,
        "differences": differences,
        "reasons": _counts(one),
        "by_environment": {
            name: {"items": count, "mean_us": 1e6 * seconds / count}
            for name, (count, seconds) in sorted(sides["plain"][-1]["by_environment"].items())
        },
        "seconds": round(time.perf_counter() - started),
    }


def _in_process(name: str, items: int, size: int, workers: int, spawns: int) -> dict[str, Any]:
    return _in_processes(name, items, size, workers, spawns, 1)[0]


def _in_processes(
    name: str, items: int, size: int, workers: int, spawns: int, count: int
) -> list[dict[str, Any]]:
    """One side, in `count` processes that start together."""
    given = (name, items, size, workers, spawns)
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--side", *map(str, given)],
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD},
        )
        for _ in range(count)
    ]
    told = [one.communicate()[0] for one in running]
    if any(one.returncode for one in running):
        raise SystemExit(f"the side {name!r} failed")
    return [json.loads(one) for one in told]


def _brief(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "seconds": [round(one["seconds"], 3) for one in runs],
        "cpu_seconds": [round(one["cpu_seconds"], 3) for one in runs],
        "load": [round(one["load"], 2) for one in runs],
        "start_up": [round(one["start_up"], 3) for one in runs if "start_up" in one],
        "median_seconds": median(one["seconds"] for one in runs),
    }


def _counts(one: list[Any]) -> dict[str, int]:
    from marketplace.protocol.verdict import Reason

    found: dict[str, int] = {}
    for _, _, reason in one:
        name = Reason(reason).name
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--items", type=int, default=10_000)
    options.add_argument("--size", type=int, default=500, help="items of a batch")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument("--spawns", type=int, default=40, help="checks in a process each")
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    options.add_argument("--side", nargs=5, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.side:
        name, *numbers = given.side
        json.dump(side(name, *map(int, numbers)), sys.stdout)
        return 0
    results = run(given.items, given.size, given.repeats, given.workers, given.spawns)
    given.out.mkdir(parents=True, exist_ok=True)
    report.plot(results, given.out / "results.png")
    (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (given.out / "results.md").write_text(report.markdown(results), "utf-8")
    print(report.markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
