"""Each expert, what was composed of them, and their base: the same held-out tasks for all.

Rows are models, columns environments; a cell is pass@1 with its standard error, clustered by
task, and the gain over the base, paired by task (trainer/evaluate.py).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib
from matplotlib.figure import Figure

from marketplace.gym.environment import Task
from marketplace.protocol.errors import InvalidValue
from trainer.evaluate import Estimate, Evaluation, evaluate, paired_gain

Complete = Callable[[Sequence[str]], Iterable[Sequence[str]]]

_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True, slots=True)
class Exam:
    """One environment's held-out tasks and how to score them."""

    name: str
    tasks: Sequence[Task]
    score: Callable[[Task, str], float]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """evaluations[model][environment], in the order they were asked for; the base is first."""

    evaluations: Mapping[str, Mapping[str, Evaluation]]

    @property
    def base(self) -> str:
        return next(iter(self.evaluations))

    def gain(self, model: str, environment: str) -> Estimate:
        """Over the base, paired by task."""
        return paired_gain(
            self.evaluations[self.base][environment], self.evaluations[model][environment]
        )

    def record(self) -> list[dict[str, Any]]:
        """Plain data: one row for each model and environment."""
        rows = []
        for model, found in self.evaluations.items():
            for environment, evaluation in found.items():
                once, gain = evaluation.pass_at_1(), self.gain(model, environment)
                rows.append(
                    {
                        "model": model,
                        "environment": environment,
                        "pass_at_1": once.value,
                        "error": once.error,
                        "gain": gain.value,
                        "gain_error": gain.error,
                        "tasks": len(evaluation.scores),
                        "samples": evaluation.samples,
                    }
                )
        return rows

    def markdown(self) -> str:
        """A table: pass@1 ± its standard error, and in brackets the paired gain ± its own."""
        environments = list(next(iter(self.evaluations.values())))
        lines = [
            "| model | " + " | ".join(environments) + " | mean |",
            "|---|" + "---|" * (len(environments) + 1),
        ]
        for model, found in self.evaluations.items():
            cells = []
            for environment, evaluation in found.items():
                once, gain = evaluation.pass_at_1(), self.gain(model, environment)
                cell = f"{once.value:.3f} ± {once.error:.3f}"
                if model != self.base:
                    cell += f" ({gain.value:+.3f} ± {gain.error:.3f})"
                cells.append(cell)
            mean = sum(one.pass_at_1().value for one in found.values()) / len(found)
            lines.append(f"| {model} | " + " | ".join(cells) + f" | {mean:.3f} |")
        return "\n".join(lines) + "\n"

    def plot(self, kind: str = "png") -> bytes:
        """Bars by environment, one for each model; whiskers are two standard errors."""
        environments = list(next(iter(self.evaluations.values())))
        figure = Figure(figsize=(1.5 + 2.2 * len(environments), 3.6), layout="constrained")
        axes = figure.add_subplot()
        width = 0.8 / len(self.evaluations)
        for index, (model, found) in enumerate(self.evaluations.items()):
            once = [one.pass_at_1() for one in found.values()]
            axes.bar(
                [place + index * width - 0.4 + width / 2 for place in range(len(environments))],
                [one.value for one in once],
                width * 0.92,
                yerr=[2 * one.error for one in once],
                capsize=2,
                color="#999999" if index == 0 else _COLOURS[(index - 1) % len(_COLOURS)],
                # A colour that stands for two models is striped for the second.
                hatch="//" * ((index - 1) // len(_COLOURS)) if index else None,
                edgecolor="white",
                linewidth=0,
                label=model,
            )
        axes.set_xticks(range(len(environments)), environments)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("held-out pass@1")
        axes.set_title("bars: two standard errors", fontsize=8, loc="right", color="#666666")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.12)
        )
        out = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "tracemarket"}):
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(out, format=kind, dpi=120, metadata=metadata)
        return out.getvalue()


def side_by_side(
    models: Iterable[tuple[str, Callable[[Exam], Complete]]],
    exams: Sequence[Exam],
    *,
    on_exam: Callable[[str, str], None] | None = None,
) -> SideBySide:
    """Evaluates the models one after the other, the base first.

    models: names, and how each completes an exam's prompts; made lazily, so that one model at a
    time need be in memory. Raises InvalidValue for a name that comes twice.
    """
    found: dict[str, dict[str, Evaluation]] = {}
    for name, model in models:
        if name in found:
            raise InvalidValue(f"two models are called {name!r}")
        found[name] = {}
        for exam in exams:
            found[name][exam.name] = evaluate(exam.tasks, model(exam), exam.score)
            if on_exam is not None:
                on_exam(name, exam.name)
    if not found or not exams:
        raise InvalidValue("nothing to set side by side")
    return SideBySide(found)
