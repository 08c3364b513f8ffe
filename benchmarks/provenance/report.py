"""results.json as text and as a picture."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Final

from measure import freedom, refused, spread_of, tokens_until_caught, upper

from marketplace.gym.provenance import ReplayTolerance

Results = dict[str, Any]

BOUNDS: Final = (0.0001, 0.001, 0.01, 0.1, 0.75)
"""Margins to say the freedom of."""

AIM: Final = 1 / 20
"""Of the cost of making a batch: the most that checking it should cost."""

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
                    "moved": _moved(row, honest),
                    "refused": {
                        name: sum(refused(row["margins"], one)) for name, one in profiles.items()
                    },
                }
                for row in honest
            ],
            "bounds": BOUNDS,
            "freedom": freedom(_plain(stages), BOUNDS),
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


def _plain(stages: dict[str, Any]) -> list[list[float]]:
    """The margins of all fp32 samplers, as the plain verifier finds them."""
    rows = stages["honest"]["found"]
    return [trace for row in rows if row["verifier"] == "fp32" for trace in row["margins"]]


def _moved(row: dict[str, Any], rows: list[dict[str, Any]]) -> float | None:
    """Largest difference of a token's margin from what the plain fp32 verifier finds for it."""
    plain = next(
        one for one in rows if (one["sampler"], one["verifier"]) == (row["sampler"], "fp32")
    )
    if plain is row or len(plain["margins"]) != len(row["margins"]):
        return None
    return max(
        abs(one - other)
        for mine, others in zip(row["margins"], plain["margins"], strict=True)
        for one, other in zip(mine, others, strict=True)
    )


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
        f"{results['cpu_seconds']} CPU seconds in {results['seconds']} s"
        f"{_crowd(results)}. Each run: "
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
        "the other reads a tree. Moved: the largest difference of any token's margin between this "
        "verifier and the plain one, on the same tokens: the rounding that a flip needs.",
        "",
        "| sampler | verifier | tokens | flips | largest margin | moved | "
        + " | ".join(f"refused, {one}" for one in profiles)
        + " |",
        "| :-- | :-- | --: | --: | --: | --: |" + " --: |" * len(profiles),
    ]
    for row in results["honest"]["rows"]:
        cells = [
            row["sampler"],
            row["verifier"],
            f"{row['tokens']:,}",
            str(row["flips"]),
            f"{row['largest']:.2g}" if row["flips"] else "none",
            "" if row["moved"] is None else f"{row['moved']:.1e}",
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
        "of those that fp32 samplers gave:",
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
        "CPU time of all threads, in ms per trace of the batch (waiting does not count), median of "
        "the repeats. A round draws the same number of groups from a batch of any size, so that "
        "the larger the batch, the smaller the part that is re-scored. Made: sampled all together, "
        "as `tracemarket mine` does. Checked: all that a verifier's scorer does with the drawn "
        f"groups. The aim is {_ratio(AIM)}.",
        "",
    ]
    for name, work in results["costs"].items():
        drawn, tokens = work["drawn"], work["tokens_per_trace"]
        lines += [
            f"### {name}: {tokens:.1f} tokens a trace, {drawn} groups of 8 drawn, "
            f"{drawn * 8 * tokens:.0f} tokens",
            "",
            "| groups | traces | drawn | made | checked | checked / made | "
            "checked / made one by one |",
            "| --: | --: | --: | --: | --: | --: | --: |",
        ]
        for row in work["sizes"]:
            cells = [
                f"{row['groups']}",
                f"{8 * row['groups']}",
                f"{min(1.0, drawn / row['groups']):.1%}",
                f"{1000 * row['made']:.1f}",
                f"{1000 * row['checked']:.2f}",
                _ratio(row["checked"] / row["made"]),
                _ratio(row["checked"] / work["made_alone"]),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        first = work["sizes"][0]
        whole = first["checked, all groups"] / first["made"]
        met = [one["groups"] for one in work["sizes"] if one["checked"] <= AIM * one["made"]]
        lines += [
            "",
            f"Beside batched making {_ratio(AIM)} is "
            + (f"met from {met[0]} groups on." if met else "met at none of these sizes.")
            + f" All {first['groups']} groups of the smallest batch together cost "
            f"{_ratio(whole)} of making them. "
            f"One trace made by itself takes {1000 * work['made_alone']:,.0f} ms. Sampling "
            f"without replay (tier B) takes {1000 * first['made, tier B']:.1f} ms a trace at "
            f"{first['groups']} groups. Noise takes {1000 * work['noise_per_token']:.2f} ms a "
            "token.",
            "",
        ]
    return [*lines, *_chances(results)]


def _chances(results: Results) -> list[str]:
    sizes = sorted({row["groups"] for work in results["costs"].values() for row in work["sizes"]})
    drawn = next(iter(results["costs"].values()))["drawn"]
    shares = {"1/16": 1 / 16, "1/8": 1 / 8, "1/4": 1 / 4, "half": 1 / 2, "all": 1.0}
    lines = [
        "## What a draw catches",
        "",
        f"The chance that one of {drawn} drawn groups is among the forged, by their share of the "
        "batch (exact; no measurement). Whether such a group is then refused is a matter of its "
        "tokens: see the budgets above. Each batch is drawn from anew.",
        "",
        "| groups | " + " | ".join(f"{name} forged" for name in shares) + " |",
        "| --: |" + " --: |" * len(shares),
    ]
    for size in sizes:
        cells = [f"{_caught_chance(size, round(one * size), drawn):.0%}" for one in shares.values()]
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _caught_chance(groups: int, forged: int, drawn: int) -> float:
    return 1 - math.comb(groups - forged, drawn) / math.comb(groups, drawn)


def _crowd(results: Results) -> str:
    """Who has fewer CPU seconds than seconds on several threads did not have the machine alone."""
    shared = results["cpu_seconds"] < results["seconds"]
    return ", on a machine that other work shared" if shared else ""


def _ratio(value: float) -> str:
    return f"1/{1 / value:.3g}"


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
    gaps = sorted(-one for trace in _plain(stages) for one in trace if one < 0)
    tokens = len(gaps)
    shares = [(place + 1) / tokens for place in range(tokens)]
    left.plot(gaps, shares, color="#999999", linewidth=1, label="fp32: runner-up within")
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
    right.set_xlabel("share of changed traces refused")
    right.set_title("lies under the default (blue: sums, orange: texts)", fontsize=9, pad=14)
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", metadata={"Software": None})
