"""results.json as text and as a picture."""

from __future__ import annotations

import math
import os
import statistics
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from methods import METHODS, SCENARIOS
from scipy import stats

Results = dict[str, Any]

_COLOURS: Final = {"ours": "#0072b2", "trl": "#d55e00", "sft": "#009e73"}
_PACKAGES: Final = ("tracemarket", "torch", "transformers", "trl", "numpy")


def machine() -> Results:
    name = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    return {
        "processor": f"{name}, {os.cpu_count()} cores, CPU only",
        "packages": {one: metadata.version(one) for one in _PACKAGES},
    }


def write_report(record: Results, folder: Path) -> None:
    """results.md and results.png from what results.json holds."""
    parts = [_head(record)]
    if "tiny" in record:
        parts += [_tiny(record["tiny"]), _verdict(record["tiny"])]
    if "real" in record:
        parts.append(_real(record["real"]))
    (folder / "results.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    if "tiny" in record:
        _plot(record["tiny"], folder / "results.png")


def mean_error(values: list[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return statistics.fmean(values), spread / math.sqrt(len(values))


def _runs(tiny: Results, scenario: str, method: str) -> list[Results]:
    return [one for one in tiny["runs"] if (one["scenario"], one["method"]) == (scenario, method)]


def _head(record: Results) -> str:
    about = record["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    return (
        "# Learning from contributed traces\n\n"
        "Made by `make bench-learning`. Held-out accuracy at equal contributed tokens: the "
        "Refinery's loss (`ours`), TRL's own loss on the same tokens, which takes them for its "
        "policy's own (ratio 1), and supervised training on the traces with a full score. All are "
        "given as many groups of the same questions, groups of one score too: ours and SFT imitate "
        "those that are all right, TRL's loss has no use for them. TRL's corrections that read "
        "the sampler's log-probabilities (`vllm_importance_sampling_correction`, which is on by "
        "default beside vLLM, and `off_policy_mask_threshold`) are off: they were not compared."
        "\n\n"
        f"Machine: {about['processor']}; {packages}."
    )


def _tiny(tiny: Results) -> str:
    size = tiny["size"]
    lines = [
        "## Tiny model, sums of two numbers below 50",
        "",
        f"{len(size['seeds'])} seeds; {size['turns']} turns of {size['groups']} groups of 8 and "
        f"{size['updates']} updates; {size['held_out']} held-out questions, twice each. A cell is "
        "the accuracy after the last turn, ± its standard error over seeds (each seed has a base "
        "model of its own). Right answers that end in junk don't count as right. Learning rates: "
        + ", ".join(f"{METHODS[name]} {_rate(tiny['learning_rates'][name])}" for name in METHODS)
        + f" (chosen among {', '.join(map(_rate, tiny['tuned_over']))} on seeds of their "
        "own, fresh and from the base model, as was `positive_ce` "
        f"{tiny['positive_ce']:g} of ours; docs/training.md has what was tried for which side), "
        f"{tiny['warmup_steps']} steps of warm-up a turn for "
        f"all. {tiny['seconds'] / 60:.0f} minutes, a core for each seed, beside other work. "
        + _samplers(tiny),
        "",
        "| traces | base | " + " | ".join(METHODS.values()) + " | ours - TRL | ours - SFT |",
        "|---|---|" + "---|" * len(METHODS) + "---|---|",
    ]
    turns = size["turns"]
    for scenario in SCENARIOS:
        row = [_runs(tiny, scenario.name, method) for method in METHODS]
        base, _ = mean_error([one["accuracy"][0] for one in row[0]])
        cells = [_shown(mean_error([one["accuracy"][-1] for one in runs])) for runs in row]
        gaps = [_shown(_gap(tiny, scenario.name, other), sign=True) for other in ("trl", "sft")]
        lines.append(
            f"| {scenario.told(turns)} | {base:.3f} | " + " | ".join([*cells, *gaps]) + " |"
        )
    lines += ["", "Share of held-out answers that end in junk, after the last turn, where a tenth "
              "of the traces did: " + ", ".join(
                  f"{shown} {_shown(mean_error([r['junk'][-1] for r in runs]))}"
                  for method, shown in METHODS.items()
                  if (runs := _runs(tiny, "10 % poisoned", method))) + "."]  # fmt: skip
    lines += ["", "What ours left out, traces in all runs of a scenario:", ""]
    for scenario in SCENARIOS:
        total: dict[str, int] = {}
        for run in _runs(tiny, scenario.name, "ours"):
            for reason, count in run["left_out"].items():
                total[reason] = total.get(reason, 0) + count
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(total.items()))
        lines.append(f"- {scenario.told(turns)}: {told or 'nothing'}")
    return "\n".join(lines)


def _samplers(tiny: Results) -> str:
    """Whose traces are how old, and how far tokens are from equal."""
    turns, updates = tiny["size"]["turns"], tiny["size"]["updates"]
    oldest = max(scenario.behind(turns - 1) for scenario in SCENARIOS)
    counts: dict[tuple[str, int], list[int]] = {}
    for one in tiny["runs"]:
        counts.setdefault((one["scenario"], one["seed"]), []).append(one["tokens"])
    gaps: dict[str, float] = {}
    for (name, _), found in counts.items():
        gaps[name] = max(gaps.get(name, 0.0), max(found) / min(found) - 1)
    far = {name: gap for name, gap in gaps.items() if gap > 0.01}
    near = max(gap for name, gap in gaps.items() if name not in far)
    return (
        "Traces come from the method's own lineage, except another checkpoint's; no sampler is "
        f"older than the base model, so what is up to {oldest * updates} updates stale is the "
        f"base's in every turn: 0, {updates}, ... {oldest * updates} updates old. The default "
        f"`max_staleness` of 2 checkpoints would refuse all over {2 * updates}; they are trained "
        "on here to see what the loss makes of them. Contributed tokens differ between methods by "
        f"{near:.1%} at most"
        + "".join(f"; {name}: by up to {gap:.0%}" for name, gap in far.items())
        + " (a poisoned learner writes longer traces)." * bool(far)
    )


def _gap(tiny: Results, scenario: str, other: str) -> tuple[float, float]:
    """Ours less the other's, paired by seed (same base model, questions and first traces)."""
    pairs = zip(_runs(tiny, scenario, "ours"), _runs(tiny, scenario, other), strict=True)
    return mean_error([a["accuracy"][-1] - b["accuracy"][-1] for a, b in pairs])


def _verdict(tiny: Results) -> str:
    """Who wins where, by the means and by a paired t-test over seeds."""
    needed, turns = _needed(tiny), tiny["size"]["turns"]
    lines = ["## Where a peer wins", ""]
    for other in ("trl", "sft"):
        higher, clear, ahead = [], [], []
        for scenario in SCENARIOS:
            gap, error = _gap(tiny, scenario.name, other)
            if gap < 0:
                told = f"{scenario.told(turns)} ({-gap:.3f} ± {error:.3f})"
                (clear if -gap > needed * error else higher).append(told)
            elif gap > needed * error:
                ahead.append(scenario.told(turns))
        lines.append(
            f"- {METHODS[other]} is ahead of ours, clearly: {', '.join(clear) or 'nowhere'}; "
            f"less clearly: {', '.join(higher) or 'nowhere'}. "
            f"Ours is ahead clearly: {', '.join(ahead) or 'nowhere'}."
        )
    lines += ["", f"Clearly: by more than {needed:.2f} standard errors, what a paired two-sided "
              f"t-test at 5 % asks of {len(tiny['size']['seeds'])} seeds. Each row is a test of "
              "its own."]  # fmt: skip
    return "\n".join(lines)


def _needed(tiny: Results) -> float:
    """Standard errors of a mean over the seeds beyond which it is not 0, at 5 %."""
    return float(stats.t.ppf(0.975, len(tiny["size"]["seeds"]) - 1))


def _real(found: Results) -> str:
    size = found["size"]
    lines = [
        "## SmolLM2-135M, two_digit_sums",
        "",
        f"One seed; {size['turns']} turns of {size['groups']} groups of 8, traces one turn stale "
        f"from the second turn on; {size['held_out']} held-out tasks, {size['samples']} samples; "
        "the demo's learning rate and gates for all three, 8 steps a turn. Standard "
        "errors are clustered by task, that of the gain is paired; one seed says nothing of the "
        "spread between runs.",
        "",
        "| method | before | " + " | ".join(f"turn {n + 1}" for n in range(size["turns"]))
        + " | gain | seconds |",
        "|---|---|" + "---|" * size["turns"] + "---|---|",
    ]  # fmt: skip
    for method, shown in METHODS.items():
        if one := found["methods"].get(method):
            cells = map(_shown, zip(one["accuracy"], one["errors"], strict=True))
            gain = _shown((one["gain"], one["gain_error"]), sign=True)
            lines.append(f"| {shown} | " + " | ".join(cells) + f" | {gain} | {one['seconds']} |")
    if own := found["methods"].get("ours"):
        left_out = ", ".join(
            f"{count} {reason} ({count / own['traces']:.1%})"
            for reason, count in own["dropped"].items()
        )
        masked = ", ".join(f"{share:.1%} {reason}" for reason, share in own["masked"].items())
        lines += [
            "",
            f"All of these traces are honest. Of {own['traces']} in groups with a right answer "
            f"ours left out: {left_out or 'none'}. Of the tokens of its steps these shares had no "
            f"weight (for the caps: of |advantage| x tokens): {masked or 'none'}.",
        ]
    return "\n".join(lines)


def _rate(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


def _shown(found: tuple[float, float], *, sign: bool = False) -> str:
    value, error = found
    return f"{value:+.3f} ± {error:.3f}" if sign else f"{value:.3f} ± {error:.3f}"


def _plot(tiny: Results, file: Path) -> None:
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplots(2, 3, sharey=True, sharex=True).flatten()
    for axes, scenario in zip(panels, SCENARIOS, strict=True):
        for method, shown in METHODS.items():
            curves = list(zip(*(r["accuracy"] for r in _runs(tiny, scenario.name, method)),
                              strict=True))  # fmt: skip
            points = [mean_error(list(values)) for values in curves]
            middle = [value for value, _ in points]
            low = [value - 2 * error for value, error in points]
            high = [value + 2 * error for value, error in points]
            axes.plot(middle, color=_COLOURS[method], label=shown)
            axes.fill_between(range(len(middle)), low, high, color=_COLOURS[method], alpha=0.15)
        axes.set_title(scenario.told(tiny["size"]["turns"]), fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0.05, 0.7)
    for axes in panels[3:]:
        axes.set_xlabel("turn")
    panels[0].set_ylabel("held-out accuracy")
    panels[3].set_ylabel("held-out accuracy")
    panels[0].legend(frameon=False, fontsize=8, loc="lower right")
    figure.suptitle(
        "Held-out accuracy (axis from 0.05); bands: two standard errors over seeds", fontsize=10
    )
    figure.savefig(file, dpi=110, metadata={"Software": None})
