"""Reports of a run as one HTML file: plain data in, a page without any outside resource out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from jinja2 import DictLoader, select_autoescape
from jinja2 import Environment as Templates

from trainer import plots
from trainer.state import write_atomically

Images = dict[str, dict[str, str]]
"""By name: data URIs for a light page and for a dark one."""

_POINTS: Final = 100
"""Points of pass@1 from 0 to 1."""


def render(template: str, **values: Any) -> str:
    """A page from the text of a template, which may import "parts.html"."""
    parts = (resources.files("trainer") / "templates" / "parts.html").read_text("utf-8")
    templates = Templates(
        autoescape=select_autoescape(default=True), loader=DictLoader({"parts.html": parts})
    )
    return templates.from_string(template).render(**values)


def pictured(draw: Callable[..., bytes], *values: Any, **options: Any) -> dict[str, str]:
    """A plot for a light page and for a dark one, as data URIs. draw: of trainer.plots."""
    return {
        name: "data:image/svg+xml;base64,"
        + base64.b64encode(draw(*values, **options, dark=dark)).decode()
        for name, dark in (("light", False), ("dark", True))
    }


def evaluation_curves(
    one: Mapping[str, Any],
) -> dict[str, tuple[list[int], list[tuple[float, float]]]]:
    """pass@k and maj@k, before and after, as trainer.plots.curves_plot takes them."""
    after, before = one["after"], one.get("before")
    curves = {}
    for name, record in (("before", before), ("after", after)) if before else (("", after),):
        for kind, label in (("pass", "pass@k"), ("majority", "maj@k")):
            if record[kind]:
                curves[f"{label} {name}".strip()] = _curve(record[kind])
    return curves


def evaluation_images(one: Mapping[str, Any]) -> Images:
    """The curves of one evaluation: before, after, and the paired gains."""
    ylabel = f"of {one['after']['tasks']} held-out tasks"
    curves = evaluation_curves(one)
    images = {
        "curves": pictured(plots.curves_plot, curves, title="Right over samples", ylabel=ylabel)
    }
    if comparison := one.get("comparison"):
        gains = {"pass@k": _curve(comparison["pass_gains"])}
        if comparison["majority_gains"]:
            gains["maj@k"] = _curve(comparison["majority_gains"])
        images["gains"] = pictured(
            plots.curves_plot, gains, title="Gain, paired by task", ylabel="after - before",
            gain=True,
        )  # fmt: skip
    return images


def evaluation_page(title: str, evaluations: Sequence[Mapping[str, Any]]) -> str:
    """A page of evaluations alone. Each: environment, after, and where compared before and
    comparison, as trainer.curves writes them."""
    report = {"title": title, "evaluations": evaluations}
    return render(_template("evaluation.html"), report=report, images=_numbered(evaluations))


def run_page(report: Mapping[str, Any]) -> str:
    """The page of a run (the data of run_report)."""
    turns, evaluations = report["turns"], report["evaluations"]
    images = _numbered(evaluations) | learning_images(turns)
    for number, one in enumerate(evaluations):
        points = one["over_turns"]
        kept = [point for point in points if not point.get("rolled_back")]
        lost = [point for point in points if point.get("rolled_back")]
        if len(points) > 2:
            images[f"e{number}_accuracy"] = pictured(
                plots.accuracy_plot,
                [point["value"] for point in kept],
                [point["standard_error"] for point in kept],
                turns=[point["turn"] for point in kept],
                lost=[(point["turn"], *_measured(point)) for point in lost],
                tasks=one["after"]["tasks"],
            )
        if money := report["money"]:
            totals = {0: 0.0} | {
                row["turn"]: row["total"]
                for row in money["rows"]
                if row.get("environment") == one.get("name")
            }
            known = [point for point in kept if point["turn"] in totals]
            images[f"e{number}_spending"] = pictured(
                plots.spending_plot,
                [totals[point["turn"]] for point in known],
                [_measured(point) for point in known],
                lost=[
                    (totals[point["turn"]], *_measured(point))
                    for point in lost
                    if point["turn"] in totals
                ],
                unit=money["unit"],
            )
    return render(_template("run.html"), report=report, images=images)


def learning_images(turns: Sequence[Mapping[str, Any]]) -> Images:
    """What the steps of the turns measured (their "steps", StepMetrics as plain data)."""
    steps = [step for turn in turns for step in turn["steps"]]
    before = [sum(len(turn["steps"]) for turn in turns[:number]) for number in range(len(turns))]
    starts = before[1:]
    lost = [
        (start + 1, start + len(turn["steps"]))
        for start, turn in zip(before, turns, strict=True)
        if turn.get("rolled_back") and turn["steps"]
    ]
    if not steps:
        return {}

    def column(name: str) -> list[float]:
        return [float(step[name]) for step in steps]

    reasons = sorted({reason for step in steps for reason in step["masked"]})
    masked = {
        reason: [float(step["masked"].get(reason, 0.0)) for step in steps] for reason in reasons
    } or {"none": [0.0] * len(steps)}
    levels = ("median", "90 %", "99 %")
    kl = {
        level: [float(step["kl_quantiles"][place]) for step in steps]
        for place, level in enumerate(levels)
    }

    def drawn(
        series: Mapping[str, Sequence[float]], title: str, ylabel: str, **options: Any
    ) -> dict[str, str]:
        return pictured(
            plots.steps_plot, series, title=title, ylabel=ylabel, turns=starts, lost=lost, **options
        )

    return {
        "step_reward": drawn({"score": column("mean_score")}, "Reward", "mean score"),
        "step_length": drawn({"tokens": column("mean_length")}, "Response length", "mean tokens"),
        "step_ess": drawn(
            {"share": column("effective_share")}, "Effective sample size", "of tokens", top=1.05
        ),
        "step_kl": drawn(kl, "Divergence of tokens", "nats", log=True),
        "step_masked": drawn(masked, "Without weight", "share of tokens", named=True),
        "step_gradient": drawn({"norm": column("grad_norm")}, "Gradient norm", "before clipping"),
    }


def spending_rows(
    spent: Mapping[int, float], accuracy: Mapping[int, float]
) -> list[dict[str, Any]]:
    """Money per point of pass@1, by turn. spent: in each turn. accuracy: after each turn that was
    evaluated, 0 for the parent's. A turn without evaluation has no points, one without gain no
    price of a point. A turn that was rolled back costs like any other and gains nothing."""
    rows, total = [], 0.0
    for turn, amount in sorted(spent.items()):
        total += amount
        points = None
        if turn in accuracy and 0 in accuracy:
            points = _POINTS * (accuracy[turn] - accuracy[0])
        rows.append(
            {
                "turn": turn,
                "spent": amount,
                "total": total,
                "points": points,
                "per_point": total / points if points is not None and points > 0 else None,
            }
        )
    return rows


def write_report(report: Mapping[str, Any], folder: Path) -> Path:
    """report.json and report.html in the folder; the path of the page."""
    page = folder / "report.html"
    text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False)
    write_atomically(folder / "report.json", text.encode() + b"\n")
    write_atomically(page, run_page(report).encode())
    return page


def _numbered(evaluations: Sequence[Mapping[str, Any]]) -> Images:
    return {
        f"e{number}_{name}": image
        for number, one in enumerate(evaluations)
        for name, image in evaluation_images(one).items()
    }


def _measured(point: Mapping[str, float]) -> tuple[float, float]:
    return point["value"], point["standard_error"]


def _curve(points: Sequence[Mapping[str, float]]) -> tuple[list[int], list[tuple[float, float]]]:
    return (
        [int(point["k"]) for point in points],
        [(point["value"], point["standard_error"]) for point in points],
    )


def _template(name: str) -> str:
    return (resources.files("trainer") / "templates" / name).read_text("utf-8")
