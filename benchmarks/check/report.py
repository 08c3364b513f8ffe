"""results.json as text and as a picture."""

from __future__ import annotations

import os
import platform
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any, Final

Results = dict[str, Any]

AIM: Final = 0.7


def machine() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return {"date": date.today().isoformat(), "cpu": model, "cores": os.cpu_count()}


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def rates(results: Results) -> dict[str, float]:
    """Checks per second: the limit, through the pool, and with a process for each."""
    items, workers = results["items"], results["workers"]
    return {
        "the limit": workers * items / results["plain"]["median_seconds"],
        "plain on all cores": workers * items / results["at_once"]["median_seconds"],
        "pool": items / results["pool"]["median_seconds"],
        "spawned": results["spawned"] / results["spawn"]["median_seconds"],
    }


def markdown(results: Results) -> str:
    found = rates(results)
    together = found["plain on all cores"]
    share, worst = median(results["shares"]), min(results["shares"])
    items, workers = results["items"], results["workers"]
    packages = ", ".join(f"{name} {one}" for name, one in results["packages"].items())
    met = "met" if share >= AIM and not results["differences"] else "not met"
    lines = [
        "# Checks, isolated and not",
        "",
        "Written by `make bench-check`; do not edit. How checks are isolated: docs/sandbox.md.",
        "",
        f"{results['date']}, {results['cores']} cores of {results['cpu']}, Python "
        f"{results['python']}, {packages}; {results['seconds']} s in all. {items:,} items in "
        f"batches of {results['batch']}, of {len(results['by_environment'])} environments (two "
        f"fifths math), {workers} workers, {results['repeats']} repeats in turn; load while the "
        f"sides ran {_range(results['plain']['load'] + results['pool']['load'])}.",
        "",
        "![checks per second](results.png)",
        "",
        "| | checks/s, median | of the limit, median of each repeat's |",
        "| :-- | --: | --: |",
        f"| the limit: {workers} cores / mean time of a check in one plain process | "
        f"{found['the limit']:,.0f} | 100 % |",
        f"| a plain process on each of the {workers} cores at once | "
        f"{together:,.0f} | {together / found['the limit']:.0%} |",
        f"| isolated workers (`CheckPool`) | {found['pool']:,.0f} | {share:.0%} |",
        f"| a process for every check ({results['spawned']} checks) | {found['spawned']:.2f} | "
        f"{found['spawned'] / found['the limit']:.2%} |",
        "",
        f"Aim: at least {AIM:.0%} of the limit, and no verdict that differs from the plain "
        f"process's: {met}. Median of {results['repeats']} repeats, the worst {worst:.0%}; "
        f"{results['differences']} of {items * results['repeats']:,} verdicts differ.",
        "",
        "The plain process runs the same code on the same items, task by task in the same order, "
        "without limits or processes; its time is that of the checks alone. The pool's is the "
        "whole time from the first batch to the last result, with a runner started for every "
        "environment and worker; starting the workers themselves (Python and the libraries, "
        f"{_range(results['pool']['start_up'])} s once per verifier) is not in it. By CPU time, "
        "which other work on the machine distorts less, the checks alone take "
        f"{median(results['cpu_shares']):.0%} of what the pool's processes use (plain "
        f"{_range(results['plain']['cpu_seconds'])} s, pool "
        f"{_range(results['pool']['cpu_seconds'])} s).",
        "",
        "The limit lets the plain process have the machine for itself. With every core at work, as "
        "the pool has them, plain processes reach the second row, each on all items with caches of "
        f"its own; the pool reaches {found['pool'] / together:.0%} of that.",
        "",
        "Reasons: "
        + ", ".join(f"{name} {count:,}" for name, count in results["reasons"].items())
        + ".",
        "",
        "| environment | items | mean time of a check (us) |",
        "| :-- | --: | --: |",
        *(
            f"| {name} | {one['items']:,} | {one['mean_us']:,.0f} |"
            for name, one in results["by_environment"].items()
        ),
        "",
    ]
    return "\n".join(lines)


def _range(values: list[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def plot(results: Results, path: Path) -> None:
    from matplotlib.figure import Figure

    found = rates(results)
    figure = Figure(figsize=(7.2, 2.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    names = list(found)
    axes.barh(names, list(found.values()), color=["#999999", "#bbbbbb", "#0072b2", "#d55e00"])
    axes.axvline(AIM * found["the limit"], color="#000000", linestyle=":", linewidth=1)
    for place, name in enumerate(names):
        axes.text(found[name], place, f" {_short(found[name])}", va="center", fontsize=8)
    axes.set_xlim(0, 1.15 * max(found.values()))
    axes.invert_yaxis()
    axes.set_xlabel(f"checks per second (dotted: {AIM:.0%} of the limit)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", metadata={"Software": None})
