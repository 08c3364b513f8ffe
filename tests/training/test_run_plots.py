"""Plots are images, the same for the same data, and refuse data that is none."""

from __future__ import annotations

import math

import pytest

from marketplace.protocol.errors import InvalidValue
from trainer.plots import accuracy_plot, length_plot, money_plot, reward_plot, steps_plot

PLOTS = [
    lambda kind: accuracy_plot([0.2, 0.3], [0.02, 0.03], tasks=256, kind=kind),
    lambda kind: accuracy_plot(
        [0.2, 0.3], [0.02, 0.03], turns=[0, 2], lost=[(1, 0.1, 0.02)], tasks=256, kind=kind
    ),
    lambda kind: steps_plot(
        {"a": [1.0] * 9, "b": [2.0] * 9}, title="t", ylabel="y", lost=[(2, 2), (4, 8)], kind=kind
    ),
    lambda kind: reward_plot([0.2, 0.3, 0.4], [0.5, 0.4, 0.4], kind=kind),
    lambda kind: length_plot([4.0], kind=kind),
    lambda kind: money_plot({"paid": 1.5, "refunded": 0}, unit="tUSD", kind=kind),
]


@pytest.mark.parametrize("plot", PLOTS)
def test_same_data_same_image(plot):
    svg = plot("svg")
    assert b"<svg" in svg[:600]
    assert svg == plot("svg")


def test_png():
    assert PLOTS[0]("png").startswith(b"\x89PNG\r\n")


def test_rolled_back_turns_are_drawn():
    def drawn(**options):
        return steps_plot({"a": [1.0] * 9}, title="t", ylabel="y", **options).count(b"rolled back")

    # In words where there is room; else the shade alone.
    assert (drawn(), drawn(lost=[(1, 1)]), drawn(lost=[(1, 1), (4, 8)])) == (0, 0, 1)
    assert steps_plot({"a": [1.0] * 9}, title="t", ylabel="y") != steps_plot(
        {"a": [1.0] * 9}, title="t", ylabel="y", lost=[(1, 1)]
    )


def test_other_data_another_image():
    assert length_plot([4.0, 5.0]) != length_plot([4.0, 6.0])


@pytest.mark.parametrize(
    "plot",
    [
        lambda: accuracy_plot([], [], tasks=1),
        lambda: accuracy_plot([0.1], [0.1, 0.2], tasks=1),
        lambda: reward_plot([0.1], []),
        lambda: length_plot([]),
        lambda: money_plot({}, unit="tUSD"),
        lambda: money_plot({"paid": -1.0}, unit="tUSD"),
        lambda: money_plot({"paid": math.nan}, unit="tUSD"),
    ],
)
def test_data_that_is_no_plot(plot):
    with pytest.raises(InvalidValue):
        plot()
