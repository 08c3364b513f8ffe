"""gpu.json as text."""

from __future__ import annotations

from statistics import median
from typing import Any, Final

Results = dict[str, Any]

_MIB: Final = 1 << 20


def markdown(results: Results) -> str:
    lines = [
        "# Our training step against TRL's on a GPU",
        "",
        f"Written by `python benchmarks/train/gpu.py`. {results['gpu']}; {results['machine']}. "
        + ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        + f". {results['seconds']} s.",
        "",
        "Same traces, advantages and old log-probabilities, both in bf16 (autocast over fp32 "
        "weights); forward, backward, gradient clipping and AdamW of many groups. TRL: "
        "`GRPOTrainer` with its own loss (dapo) and fused head, SDPA, no reference model, the "
        "faster of the micro-batches tried. Ours: flex attention over token trees, the head's "
        "products in TF32. Random weights of the shapes of SmolLM2. "
        f"Medians of {results['repeats']} interleaved repeats.",
        "",
        "## Speed",
        "",
        "| model | prompt | G | groups | tokens | computed, TRL | ours | TRL, tokens/s | ours "
        "| times | ours, same bits each time |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in results["points"]:
        seconds, tokens = row["seconds"], row["tokens"]
        cells = [
            row["model"],
            f"{row['prompt']:,}",
            str(row["group"]),
            str(row["groups"]),
            f"{tokens:,}",
            f"{row['padded']:,}",
            f"{row['nodes']:,}",
            f"{tokens / seconds['trl']:,.0f}",
            f"{tokens / seconds['ours']:,.0f}",
            f"{median(row['speedups']):.2f}",
            f"{tokens / seconds['deterministic']:,.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "Same bits each time: the step within `trainer.devices.repeatable`, as the trainer runs "
        "it. In fp32, from equal weights, ours and TRL's: "
        + "; ".join(
            f"{name} {one:.6f} and {other:.6f}"
            for row in results["points"]
            for name, (one, other) in row["exact"].items()
        )
        + ".",
        "",
        "## Attention, and TRL's micro-batches",
        "",
        "Seconds of one warm step; ours by three kinds of attention where they were tried.",
        "",
        "| model | prompt | flex | blocks | dense mask | TRL |",
        "| :-- | --: | --: | --: | --: | :-- |",
    ]
    for row in results["points"]:
        tried = row["attentions"]
        cells = [
            row["model"],
            f"{row['prompt']:,}",
            *(f"{tried[how]:.3f}" if how in tried else "" for how in ("flex", "blocks", "dense")),
            ", ".join(f"{size}: {took:.3f}" for size, took in row["micro_batches_tried"].items()),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    rate = results["product_rate"]
    lines += [
        "",
        "## Memory and rate",
        "",
        "Peak of what torch allocated during a step, above weights and moments, gradients "
        "(4 bytes for each weight) included. Rate: 6 FLOP for each weight and position of the "
        "layers, and of the head and its rows, attention left out, beside a bf16 product of "
        "8,192 x 8,192: "
        f"{rate / 1e12:.0f} TFLOP/s.",
        "",
        "| model | prompt | G | nodes of a pack | ours, MiB | TRL's micro-batch | TRL, MiB "
        "| ours, TFLOP/s | share |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for row in results["points"]:
        own = row["flops"] / row["seconds"]["ours"]
        cells = [
            row["model"],
            f"{row['prompt']:,}",
            str(row["group"]),
            f"{row['budget']:,}",
            f"{row['peaks']['ours'] / _MIB:,.0f}",
            str(row["micro_batch"]),
            f"{row['peaks']['trl'] / _MIB:,.0f}",
            f"{own / 1e12:.1f}",
            f"{own / rate:.0%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
