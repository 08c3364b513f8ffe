"""results.json as text and as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import Any, Final

Results = dict[str, Any]

_OURS: Final = "#0072b2"
_PEER: Final = "#d55e00"
_AIMS: Final = {"speed": 2.5, "memory": 0.5, "rate": 0.5}


def machine() -> str:
    """Processor and cores, as far as the system says."""
    name = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{name or 'unknown processor'}, {os.cpu_count()} cores, CPU only"


def product_rate(row: Results, clock: str = "wall") -> float:
    """FLOP/s of plain matrix products of the step's shapes."""
    return row["product_flops"] / row["seconds"]["products"][clock]


def step_rate(row: Results, clock: str = "wall") -> float:
    return row["useful_flops"] / row["seconds"]["ours"][clock]


def markdown(results: Results) -> str:
    load = results["load"]
    lines = [
        "# Our training step against TRL's",
        "",
        f"Written by `{results['written_by']}`. {results['machine']}, "
        f"{results['threads']} threads, "
        f"load {load['before']} before and {load['after']} after (this run's own is "
        f"{results['threads']}). "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + f". {results['seconds']} s.",
        "",
        "Same traces, advantages and old log-probabilities; forward, backward, gradient clipping "
        "and AdamW of one group. TRL: `GRPOTrainer` with its own loss (dapo) and fused head, no "
        "reference model, no gradient checkpointing, the fastest of these micro-batch sizes: "
        f"{results.get('micro_batches', '2 and all')}; its entropies, a metric that it always "
        f"computes, are in its time. Ours: packs of at most {results['budget']:,} nodes. "
        "Losses and gradient norms of every step agreed within "
        f"{results['tolerance']:g} (largest difference found: "
        f"{max(max(row['differences'].values()) for row in results['points']):.1e}). Medians of "
        f"{results['repeats']} interleaved repeats.",
        "",
        *_speed(results),
        *_rates(results),
        *_memory(results),
    ]
    return "\n".join(lines) + "\n"


def _speed(results: Results) -> list[str]:
    lines = [
        "## Speed",
        "",
        "Tokens are completion tokens. CPU: ratio of the processor time of all threads, which "
        "other load on the machine disturbs less. Computed: positions that the model runs on.",
        "",
        "| model | prompt | G | tokens | computed, TRL | ours | TRL, tokens/s | ours | times "
        "| times, CPU |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in results["points"]:
        cells = [
            row["model"],
            f"{row['prompt']:,}",
            str(row["group"]),
            f"{row['tokens']:,}",
            f"{row['padded']:,}",
            f"{row['sizes']['nodes']:,}",
            f"{row['tokens'] / row['seconds']['trl']['wall']:.1f}",
            f"{row['tokens'] / row['seconds']['ours']['wall']:.1f}",
            f"{median(row['speedups']['wall']):.2f}",
            f"{median(row['speedups']['cpu']):.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    main = [row for row in results["points"] if (row["prompt"], row["group"]) == (256, 8)]
    verdict = ", ".join(
        f"{name} {value:.2f}"
        for name, value in dict(
            (row["model"], median(row["speedups"]["wall"])) for row in main
        ).items()
    )
    return [
        *lines,
        "",
        f"Aim at prompt 256 and G = 8: {_AIMS['speed']} times. Found: {verdict}.",
        "",
    ]


def _rates(results: Results) -> list[str]:
    lines = [
        "## Against the processor's matrix products",
        "",
        "Useful work of our step: 6 FLOP for each weight of the layers and node, the same for the "
        "head and its rows, 12 * width for each layer and pair of attention that is computed. The "
        "head's logits are computed twice; the second time does not count. Beside it fp32 products "
        "of the layers' shapes alone, forward and backward, measured between the steps"
        + (
            ", warm."
            if results.get("products_warm")
            else ", once each, with operands made anew: warm ones are faster (docs/training.md)."
        ),
        "",
        "| model | prompt | G | GFLOP | ours, GFLOP/s | products, GFLOP/s | share |",
        "| :-- | --: | --: | --: | --: | --: | --: |",
    ]
    for row in results["points"]:
        lines.append(
            f"| {row['model']} | {row['prompt']:,} | {row['group']} | "
            f"{row['useful_flops'] / 1e9:,.0f} | {step_rate(row) / 1e9:.1f} | "
            f"{product_rate(row) / 1e9:.1f} | {step_rate(row) / product_rate(row):.0%} |"
        )
    return [*lines, "", f"Aim: {_AIMS['rate']:.0%}.", ""]


def _memory(results: Results) -> list[str]:
    part = results["memory"]
    lines = [
        "## Memory",
        "",
        f"Model {part['model']}. Peak of resident memory over two steps in a fresh process, above "
        "the same process with its weights loaded (benchmarks/train/memory.py). Beside it without "
        "gradients and AdamW's moments, which both sides hold alike. (a) prompt 256, 8 completions "
        "of 96: 1,024 tokens of which TRL computes the prompt eight times. (b) prompt 8, 8 "
        "completions of 127: nothing to share.",
        "",
        "| traces | side | setting | peak, MiB | without gradients and moments |",
        "| :-- | :-- | :-- | --: | --: |",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['traces']} | {row['side']} | {_setting(row)} | {row['peak'] / 2**20:,.0f} | "
            f"{row['above_states'] / 2**20:,.0f} |"
        )
    lines.append("")
    for label in sorted({row["traces"] for row in part["rows"]}):
        ours, peer = (_default(part["rows"], label, side) for side in ("ours", "trl"))
        lines.append(
            f"Ratio at ({label}), all tokens at once: {ours['peak'] / peer['peak']:.2f} of TRL's "
            f"peak, {ours['above_states'] / peer['above_states']:.2f} without gradients and "
            f"moments (aim: {_AIMS['memory']})."
        )
        lines.append("")
    best = {
        side: min(
            row["peak"] for row in part["rows"] if (row["traces"], row["side"]) == ("a", side)
        )
        for side in ("ours", "trl")
    }
    frugal = best["ours"] / best["trl"]
    lines.append(f"Ratio at (a), each side at its most frugal: {frugal:.2f} of TRL's peak.")
    lines.append("")
    return lines


def _default(rows: list[Results], label: str, side: str) -> Results:
    """The side's row for these traces in which all tokens are computed at once."""
    return next(row for row in rows if (row["traces"], row["side"]) == (label, side))


def _setting(row: Results) -> str:
    size = (
        f"packs of {row['budget']:,}" if row["side"] == "ours" else f"{row['micro_batch']} at once"
    )
    return size + (", activations computed again" if row["recompute"] else "")


def plot(results: Results, path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(12, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, (series, field, title) in zip(
        axes,
        (
            ("prompt", "prompt", "prompt tokens (G = 8, small)"),
            ("group", "group", "G (prompt 256, small)"),
            ("model", "model", "model (prompt 256, G = 8)"),
        ),
        strict=False,
    ):
        rows = [row for row in results["points"] if row["series"] == series]
        if series == "model":
            same = [r for r in results["points"] if (r["prompt"], r["group"]) == (256, 8)]
            rows = list({row["model"]: row for row in sorted(same, key=_size)}.values())
        names = [str(row[field]) for row in rows]
        for values, colour, label in (
            ([row["seconds"]["trl"]["wall"] for row in rows], _PEER, "TRL 1.16"),
            ([row["seconds"]["ours"]["wall"] for row in rows], _OURS, "ours"),
        ):
            axis.plot(names, values, marker="o", color=colour, label=label)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel(title, fontsize=8)
        axis.set_ylabel("seconds a step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7)
    rows = results["memory"]["rows"]
    names = [f"({row['traces']}) {row['side']}, {_setting(row)}" for row in rows]
    axes[3].barh(
        names,
        [row["peak"] / 2**30 for row in rows],
        color=[_OURS if row["side"] == "ours" else _PEER for row in rows],
    )
    axes[3].invert_yaxis()
    axes[3].tick_params(labelsize=6)
    axes[3].set_xlabel("peak above weights, GiB", fontsize=8)
    axes[3].spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", metadata={"Software": None})


def _size(row: Results) -> float:
    return float(row["useful_flops"])
