"""results.json as text and as a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from measure import freedom, refused, spread_of, tokens_until_caught, upper

from marketplace.gym.provenance import ReplayTolerance

Results = dict[str, Any]

BOUNDS: Final = (0.0001, 0.001, 0.01, 0.1, 0.5)
"""Margins to say the freedom of."""

_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


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


def judged(stages: dict[str, Any], profiles: dict[str, ReplayTolerance]) -> Results:
    """What the stages measured, by each profile, without the margins themselves."""
    head = {name: one for name, one in stages["honest"].items() if name != "found"}
    honest = [*stages["honest"]["found"], *stages["bf16"]["found"]]
    return {
        **head,
        "seconds": sum(one["seconds"] for one in stages.values()),
        "cpu_seconds": sum(one["cpu_seconds"] for one in stages.values()),
        "profiles": {
            name: {"margin": one.margin, "flips": one.flips} for name, one in profiles.items()
        },
        "honest": {
            "rows": [
                {
                    "sampler": row["sampler"],
                    "verifier": row["verifier"],
                    **spread_of(row["margins"]),
                    "refused": {
                        name: sum(refused(row["margins"], one)) for name, one in profiles.items()
                    },
                }
                for row in honest
            ],
            "bounds": BOUNDS,
            "freedom": freedom(honest[0]["margins"], BOUNDS),
        },
        "lies": [
            {
                "lie": row["lie"],
                "work": row["work"],
                **spread_of(row["margins"]),
                "changed": sum(row["changed"]),
                "profiles": {name: _caught(row, one) for name, one in profiles.items()},
            }
            for row in stages["lies"]["found"]
        ],
        "costs": stages["costs"]["found"],
    }


def _caught(row: dict[str, Any], tolerance: ReplayTolerance) -> dict[str, Any]:
    caught = refused(row["margins"], tolerance)
    accepted = [not one for one, other in zip(caught, row["changed"], strict=True) if other]
    return {
        "refused": sum(caught),
        "changed_accepted": sum(accepted),
        "tokens_until_caught": tokens_until_caught([len(one) for one in row["margins"]], caught),
    }


def markdown(results: Results) -> str:
    versions = ", ".join(f"{name} {one}" for name, one in results["versions"].items())
    works = results["works"]
    lines = [
        "# Replayable sampling, calibrated",
        "",
        "Written by `make bench-provenance`; do not edit. What it means: docs/provenance.md.",
        "",
        f"{results['model']}, {results['machine']}, {results['threads']} threads; {versions}; "
        f"{results['cpu_seconds']} CPU seconds in {results['seconds']} s, on a machine that other "
        "work shared. Each run: "
        f"{works['short']['traces']} sums of two digits (up to 6 tokens) and "
        f"{works['long']['traces']} free texts of {works['long']['max_tokens']} tokens, all at "
        "temperature 1. Bounds are 95 %: 3/n where "
        "nothing happened, else Wilson's.",
        "",
        "| profile | margin (nats) | flips (share of tokens, at least one) |",
        "| :-- | --: | --: |",
        *(
            f"| {name} | {one['margin']:g} | {one['flips']:g} |"
            for name, one in results["profiles"].items()
        ),
        "",
        "![margins and lies](results.png)",
        "",
        *_honest(results),
        *_freedom(results),
        *_lies(results),
        *_costs(results),
    ]
    return "\n".join(lines)


def _honest(results: Results) -> list[str]:
    profiles = list(results["profiles"])
    lines = [
        "## Honest re-runs",
        "",
        "A flip is a token that another one beats in the verifier's pass. Samplers that equal "
        "their verifier in shape are not the same computation either: one decodes with a cache, "
        "the other reads a tree.",
        "",
        "| sampler | verifier | tokens | flips | largest margin | "
        + " | ".join(f"refused, {one}" for one in profiles)
        + " |",
        "| :-- | :-- | --: | --: | --: |" + " --: |" * len(profiles),
    ]
    for row in results["honest"]["rows"]:
        cells = [
            row["sampler"],
            row["verifier"],
            f"{row['tokens']:,}",
            str(row["flips"]),
            f"{row['largest']:.2g}" if row["flips"] else "none",
            *(
                f"{row['refused'][one]} of {row['traces']} "
                f"(< {upper(row['refused'][one], row['traces']):.1%})"
                for one in profiles
            ),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    exact = [
        row
        for row in results["honest"]["rows"]
        if row["verifier"] == "fp32" and row["sampler"].startswith("fp32")
    ]
    traces, tokens = sum(one["traces"] for one in exact), sum(one["tokens"] for one in exact)
    hits = sum(one["refused"]["default"] for one in exact)
    lines += [
        "",
        f"All fp32 samplers together, judged in fp32 with the default: {hits} of {traces:,} traces "
        f"refused (rate below {upper(hits, traces):.2%}); "
        f"{sum(one['flips'] for one in exact)} of {tokens:,} tokens flipped.",
        "",
    ]
    return lines


def _freedom(results: Results) -> list[str]:
    honest = results["honest"]
    return [
        "## What the tolerance leaves to choose",
        "",
        "Where the runner-up is within the margin a liar may take it and sample on. Such tokens, "
        "of those of the first row:",
        "",
        "| margin (nats) | " + " | ".join(f"{one:g}" for one in honest["bounds"]) + " |",
        "| :-- |" + " --: |" * len(honest["bounds"]),
        "| tokens | " + " | ".join(f"{one:.2%}" for one in honest["freedom"]) + " |",
        "",
    ]


def _lies(results: Results) -> list[str]:
    lines = [
        "## Lies",
        "",
        "A careful liar states true log-probabilities of the named checkpoint, so only the margins "
        "speak. Changed: traces whose tokens are not what the seed gives (the others are honest "
        "traces, whoever made them). Accepted: of the changed ones. Budget: tokens of such traces, "
        "in random order, until one is refused, in 95 of 100 orders.",
        "",
    ]
    for profile in results["profiles"]:
        lines += [
            f"### Profile {profile}",
            "",
            "| lie | traces | flips | changed | accepted | rate below | budget (tokens) |",
            "| :-- | :-- | --: | --: | --: | --: | --: |",
        ]
        for row in results["lies"]:
            judged = row["profiles"][profile]
            accepted, changed = judged["changed_accepted"], row["changed"]
            budget = judged["tokens_until_caught"]
            cells = [
                row["lie"],
                f"{row['traces']} {row['work']}",
                f"{row['flips'] / row['tokens']:.1%}",
                str(changed),
                str(accepted),
                f"{upper(accepted, changed):.1%}" if changed else "-",
                f"over {row['tokens']:,}" if budget is None else f"{budget:,}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _costs(results: Results) -> list[str]:
    lines = [
        "## What checking costs",
        "",
        "CPU time of all threads per trace of the batch (other work shared the machine, so the "
        "clock on the wall says little), median of interleaved repeats.",
        "",
    ]
    for name, work in results["costs"].items():
        lines += [
            f"### {name}: {work['groups']} groups of 8, {work['tokens_per_trace']:.1f} tokens a "
            f"trace, {work['drawn']} groups drawn",
            "",
            "| step | ms |",
            "| :-- | --: |",
            *(f"| {step} | {1000 * one:.2f} |" for step, one in work["seconds"].items()),
            "",
            "| ratio | |",
            "| :-- | --: |",
            *(f"| {pair} | 1/{1 / one:.1f} |" for pair, one in work["ratios"].items()),
            "",
        ]
    return lines


def plot(results: Results, stages: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = 0
    for row in (*stages["honest"]["found"], *stages["bf16"]["found"]):
        lost = sorted(one for trace in row["margins"] for one in trace if one > 0)
        if row["verifier"] != "fp32" or not lost:
            continue
        tokens = sum(map(len, row["margins"]))
        shares = [(len(lost) - place) / tokens for place in range(len(lost))]
        colour = _COLOURS[shown % len(_COLOURS)]
        left.step(
            lost,
            shares,
            where="post",
            color=colour,
            marker=".",
            label=f"{row['sampler']}: loses by more",
        )
        shown += 1
    first = stages["honest"]["found"][0]["margins"]
    gaps = sorted(-one for trace in first for one in trace if one < 0)
    tokens = len(gaps)
    shares = [(place + 1) / tokens for place in range(tokens)]
    left.plot(gaps, shares, color="#999999", linewidth=1, label="runner-up within (all honest)")
    for name, one in results["profiles"].items():
        left.axvline(one["margin"], color="#000000", linestyle=":", linewidth=1)
        left.text(one["margin"], 1.1, name, fontsize=7, ha="center")
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlim(1e-6, 10)
    left.set_xlabel("margin (nats)")
    left.set_ylabel("share of tokens")
    left.legend(frameon=False, fontsize=7, loc="upper left")
    left.set_title("honest samplers, judged in fp32", fontsize=9, pad=14)

    names = list(dict.fromkeys(row["lie"] for row in results["lies"]))
    for offset, work in ((-0.18, "short"), (0.18, "long")):
        for place, name in enumerate(names):
            (row,) = [one for one in results["lies"] if (one["lie"], one["work"]) == (name, work)]
            if not row["changed"]:
                continue
            accepted = row["profiles"]["default"]["changed_accepted"]
            rate = 1 - accepted / row["changed"]
            right.barh(
                place + offset, rate, 0.34, color=_COLOURS[0] if work == "short" else _COLOURS[4]
            )
    right.set_yticks(range(len(names)), names, fontsize=7)
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("share of changed traces refused, default (blue: sums, orange: texts)")
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", metadata={"Software": None})
