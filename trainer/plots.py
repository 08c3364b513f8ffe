"""Plots of a run, as image bytes from plain data. matplotlib only, no display, no global state.

Every function takes sequences of numbers and returns the bytes of an image in `kind`, for a light
page or a dark one. The same data gives the same bytes. Colours are told apart by colour-blind
readers too (Okabe and Ito).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from marketplace.protocol.errors import InvalidValue

Kind = Literal["svg", "png"]

_BLUE: Final = "#0072b2"
_ORANGE: Final = "#d55e00"
_COLOURS: Final = (_BLUE, _ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
_SIZE: Final = (6.0, 3.4)
_GREY: Final = "#8a8a8a"
_NAMED_SHARE: Final = 0.15
"""Of a plot's width, that a marked turn needs for its label."""
_DARK: Final[Any] = {
    "text.color": "#e0e0e0",
    "axes.labelcolor": "#e0e0e0",
    "axes.edgecolor": "#9a9a9a",
    "xtick.color": "#c8c8c8",
    "ytick.color": "#c8c8c8",
}
"""What differs on a dark page; the colours of the data are of middle brightness and stay."""

Points = Sequence[tuple[float, float]]
"""Values with their standard errors."""

Lost = Sequence[tuple[float, float, float]]
"""Of turns that were rolled back: place, value, standard error."""


def accuracy_plot(
    accuracy: Sequence[float],
    errors: Sequence[float],
    *,
    tasks: int,
    turns: Sequence[int] | None = None,
    lost: Lost = (),
    kind: Kind = "svg",
    dark: bool = False,
) -> bytes:
    """Held-out pass@1 per turn, the base model first. errors: standard errors; drawn twofold.

    turns: of the values, if not 0, 1, 2, ... lost: turns that were rolled back.
    """
    turns = list(range(len(accuracy))) if turns is None else turns
    _same_length(accuracy=accuracy, errors=errors, turns=turns)
    figure, axes = _figure("Held-out accuracy", "turn", f"pass@1 on {tasks} tasks", dark=dark)
    axes.errorbar(
        turns, accuracy, [2 * error for error in errors], color=_BLUE, marker="o", capsize=4
    )
    axes.axhline(accuracy[0], color=_GREY, linestyle="--", linewidth=1)
    last = max([*turns, *(place for place, _, _ in lost)])
    axes.annotate("base model", (last, accuracy[0]), (0, 4), textcoords="offset points",
                  ha="right", fontsize=8, color=_GREY)  # fmt: skip
    _draw_lost(axes, lost)
    axes.set_ylim(bottom=0)
    axes.set_title("bars: two standard errors", fontsize=8, loc="right", color=_GREY)
    return _bytes(figure, axes, kind, dark=dark)


def reward_plot(
    rewards: Sequence[float],
    informative: Sequence[float],
    *,
    kind: Kind = "svg",
    dark: bool = False,
) -> bytes:
    """Mean score of the bought traces per turn, and the share of groups that say anything."""
    _same_length(rewards=rewards, informative=informative)
    figure, axes = _figure("Bought traces", "turn", "share", dark=dark)
    turns = list(range(1, len(rewards) + 1))
    axes.plot(turns, rewards, color=_BLUE, marker="o", label="mean score")
    axes.plot(turns, informative, color=_ORANGE, marker="s", label="groups trained on")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8)
    return _bytes(figure, axes, kind, dark=dark)


def length_plot(
    tokens: Sequence[float], *, over: str = "turn", kind: Kind = "svg", dark: bool = False
) -> bytes:
    """Mean tokens of a completion per turn (or per anything else that `over` names)."""
    _same_length(tokens=tokens)
    figure, axes = _figure("Response length", over, "tokens", dark=dark)
    axes.plot(list(range(1, len(tokens) + 1)), tokens, color=_BLUE, marker="o")
    axes.set_ylim(0, 1.2 * max(tokens) or 1)
    return _bytes(figure, axes, kind, dark=dark)


def money_plot(
    flows: Mapping[str, float], *, unit: str, kind: Kind = "svg", dark: bool = False
) -> bytes:
    """Where the funds of a bounty went: one bar, cut into named parts (amounts >= 0 in `unit`)."""
    _same_length(flows=list(flows))
    for name, amount in flows.items():
        if not amount >= 0:
            raise InvalidValue(f"the flow {name!r} is {amount}, not an amount")
    figure, axes = _figure("Where the money went", unit, "", size=(6.0, 2.2), dark=dark)
    left = 0.0
    for index, (name, amount) in enumerate(flows.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        axes.barh([0], [amount], left=left, color=colour, label=f"{name}: {amount:,.2f}")
        left += amount
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.3))
    return _bytes(figure, axes, kind, dark=dark, whole_turns=False)


def curves_plot(
    curves: Mapping[str, tuple[Sequence[int], Points]],
    *,
    title: str,
    ylabel: str,
    gain: bool = False,
    kind: Kind = "svg",
    dark: bool = False,
) -> bytes:
    """Values over k on a log scale: one curve each, with a band of two standard errors.

    gain: the values are differences; 0 is drawn. Dashed: curves whose name begins with "maj".
    """
    for name, (ks, points) in curves.items():
        _same_length(**{f"k of {name}": ks, name: points})
    figure, axes = _figure(title, "k, samples of a task", ylabel, dark=dark)
    marks = sorted({k for ks, _ in curves.values() for k in ks})
    for index, (name, (ks, points)) in enumerate(curves.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        values = [value for value, _ in points]
        style = "--" if name.startswith("maj") else "-"
        axes.plot(ks, values, color=colour, marker="o", markersize=4, label=name, linestyle=style)
        axes.fill_between(
            ks,
            [value - 2 * error for value, error in points],
            [value + 2 * error for value, error in points],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(map(float, marks))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    if gain:
        axes.axhline(0, color=_GREY, linestyle="--", linewidth=1)
    else:
        axes.set_ylim(bottom=0)
    axes.set_title("bands: two standard errors", fontsize=8, loc="right", color=_GREY)
    axes.legend(frameon=False, fontsize=8)
    return _bytes(figure, axes, kind, dark=dark, whole_turns=False)


def steps_plot(
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    ylabel: str,
    turns: Sequence[int] = (),
    log: bool = False,
    top: float | None = None,
    named: bool = False,
    lost: Sequence[tuple[int, int]] = (),
    kind: Kind = "svg",
    dark: bool = False,
) -> bytes:
    """Measures of each optimizer step. turns: steps done before each new turn, marked by lines.

    log: a log scale, where zeros are left out. top: of the axis, which then begins at 0. named: a
    legend also for a single series. lost: first and last step of turns that were rolled back.
    """
    _same_length(**{name: list(values) for name, values in series.items()})
    figure, axes = _figure(title, "optimizer step", ylabel, dark=dark)
    for index, (name, values) in enumerate(series.items()):
        shown = [value if value > 0 or not log else float("nan") for value in values]
        axes.plot(
            range(1, len(values) + 1),
            shown,
            color=_COLOURS[index % len(_COLOURS)],
            marker="o",
            markersize=3,
            label=name,
        )
    length = max(map(len, series.values()))
    for first, last in lost:
        axes.axvspan(first - 0.5, last + 0.5, color=_ORANGE, alpha=0.13, linewidth=0)
        if last + 1 - first < _NAMED_SHARE * length:
            continue  # no room for words
        axes.annotate(
            "rolled back", ((first + last) / 2, 1), (0, -2), textcoords="offset points",
            xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=8, color=_ORANGE,
        )  # fmt: skip
    for place in turns:
        axes.axvline(place + 0.5, color=_GREY, linewidth=0.8, linestyle=":")
    if log and any(value > 0 for values in series.values() for value in values):
        axes.set_yscale("log")
    if top is not None:
        axes.set_ylim(0, top)
    axes.set_xlim(0.5, length + 0.5)
    if len(series) > 1 or named:
        # Below: lines of many steps leave no free corner.
        axes.legend(
            frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18)
        )
    return _bytes(figure, axes, kind, dark=dark)


def spending_plot(
    spent: Sequence[float],
    accuracy: Points,
    *,
    unit: str,
    lost: Lost = (),
    kind: Kind = "svg",
    dark: bool = False,
) -> bytes:
    """Held-out accuracy over the money spent so far; the first point is the base model's. lost:
    turns that were rolled back, which cost money too."""
    _same_length(spent=spent, accuracy=accuracy)
    figure, axes = _figure("Accuracy for money", f"spent in all, {unit}", "pass@1", dark=dark)
    axes.errorbar(
        spent,
        [value for value, _ in accuracy],
        [2 * error for _, error in accuracy],
        color=_BLUE,
        marker="o",
        capsize=4,
    )
    _draw_lost(axes, lost)
    axes.set_ylim(bottom=0)
    axes.set_title("bars: two standard errors", fontsize=8, loc="right", color=_GREY)
    return _bytes(figure, axes, kind, dark=dark, whole_turns=False)


def _draw_lost(axes: Axes, lost: Lost) -> None:
    """Crosses beside the curve: what was measured there was not built on."""
    if not lost:
        return
    places, values, errors = zip(*lost, strict=True)
    axes.errorbar(
        places,
        values,
        [2 * error for error in errors],
        color=_ORANGE,
        marker="x",
        markersize=8,
        linestyle="none",
        capsize=4,
        label="rolled back",
    )
    axes.legend(frameon=False, fontsize=8)


def _figure(
    title: str,
    xlabel: str,
    ylabel: str,
    *,
    size: tuple[float, float] = _SIZE,
    dark: bool = False,
) -> tuple[Figure, Axes]:
    # Colours of text are taken from the settings when it is made, those of legends when drawn.
    with matplotlib.rc_context(_DARK if dark else {}):
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.spines[["top", "right"]].set_visible(False)
        return figure, axes


def _bytes(
    figure: Figure, axes: Axes, kind: Kind, *, dark: bool, whole_turns: bool = True
) -> bytes:
    if whole_turns:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend = axes.get_legend()
    for text in legend.get_texts() if legend and dark else ():
        text.set_color(_DARK["text.color"])
    out = io.BytesIO()
    # Without these two an SVG holds the date and random ids.
    with matplotlib.rc_context({"svg.hashsalt": "tracemarket", **(_DARK if dark else {})}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        # A page shows through an SVG; a PNG is looked at on its own.
        behind = "none" if kind == "svg" else "#1b1b1b" if dark else "white"
        figure.savefig(out, format=kind, dpi=120, metadata=metadata, facecolor=behind)
    return out.getvalue()


def _same_length(**series: Sequence[object]) -> None:
    lengths = {name: len(values) for name, values in series.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise InvalidValue(f"a plot needs series of one length, at least 1, got {lengths}")
