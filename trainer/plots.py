"""Plots of a run, as image bytes from plain data. matplotlib only, no display, no global state.

Every function takes sequences of numbers and returns the bytes of an image in `kind`. The same
data gives the same bytes. Colours are told apart by colour-blind readers too (Okabe and Ito).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from marketplace.protocol.errors import InvalidValue

Kind = Literal["svg", "png"]

_BLUE: Final = "#0072b2"
_ORANGE: Final = "#d55e00"
_COLOURS: Final = (_BLUE, _ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
_SIZE: Final = (6.0, 3.4)


def accuracy_plot(
    accuracy: Sequence[float], errors: Sequence[float], *, tasks: int, kind: Kind = "svg"
) -> bytes:
    """Held-out pass@1 per turn, the base model first. errors: standard errors; drawn twofold."""
    _same_length(accuracy=accuracy, errors=errors)
    figure, axes = _figure("Held-out accuracy", "turn", f"pass@1 on {tasks} tasks")
    turns = list(range(len(accuracy)))
    axes.errorbar(
        turns, accuracy, [2 * error for error in errors], color=_BLUE, marker="o", capsize=4
    )
    axes.axhline(accuracy[0], color="#999999", linestyle="--", linewidth=1)
    axes.annotate("base model", (turns[-1], accuracy[0]), (0, 4), textcoords="offset points",
                  ha="right", fontsize=8, color="#666666")  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_title("bars: two standard errors", fontsize=8, loc="right", color="#666666")
    return _bytes(figure, axes, kind)


def reward_plot(
    rewards: Sequence[float], informative: Sequence[float], *, kind: Kind = "svg"
) -> bytes:
    """Mean score of the bought traces per turn, and the share of groups that say anything."""
    _same_length(rewards=rewards, informative=informative)
    figure, axes = _figure("Bought traces", "turn", "share")
    turns = list(range(1, len(rewards) + 1))
    axes.plot(turns, rewards, color=_BLUE, marker="o", label="mean score")
    axes.plot(turns, informative, color=_ORANGE, marker="s", label="groups trained on")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8)
    return _bytes(figure, axes, kind)


def length_plot(tokens: Sequence[float], *, kind: Kind = "svg") -> bytes:
    """Mean tokens of a completion per turn."""
    _same_length(tokens=tokens)
    figure, axes = _figure("Response length", "turn", "tokens")
    axes.plot(list(range(1, len(tokens) + 1)), tokens, color=_BLUE, marker="o")
    axes.set_ylim(0, 1.2 * max(tokens) or 1)
    return _bytes(figure, axes, kind)


def money_plot(flows: Mapping[str, float], *, unit: str, kind: Kind = "svg") -> bytes:
    """Where the funds of a bounty went: one bar, cut into named parts (amounts >= 0 in `unit`)."""
    _same_length(flows=list(flows))
    for name, amount in flows.items():
        if not amount >= 0:
            raise InvalidValue(f"the flow {name!r} is {amount}, not an amount")
    figure, axes = _figure("Where the money went", unit, "", size=(6.0, 2.2))
    left = 0.0
    for index, (name, amount) in enumerate(flows.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        axes.barh([0], [amount], left=left, color=colour, label=f"{name}: {amount:,.2f}")
        left += amount
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.3))
    return _bytes(figure, axes, kind, whole_turns=False)


def _figure(
    title: str, xlabel: str, ylabel: str, *, size: tuple[float, float] = _SIZE
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _bytes(figure: Figure, axes: Axes, kind: Kind, *, whole_turns: bool = True) -> bytes:
    if whole_turns:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    out = io.BytesIO()
    # Without these two an SVG holds the date and random ids.
    with matplotlib.rc_context({"svg.hashsalt": "tracemarket"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=120, metadata=metadata)
    return out.getvalue()


def _same_length(**series: Sequence[object]) -> None:
    lengths = {name: len(values) for name, values in series.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise InvalidValue(f"a plot needs series of one length, at least 1, got {lengths}")
