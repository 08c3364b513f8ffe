"""The step bench gives its peer the choices that it says it gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "train"))

from gpu import GpuOurs, GpuPeer, Point, drawn, load
from peer import micro_batches

from trainer.devices import CPU


@pytest.mark.parametrize(
    ("group", "sizes"), [(32, [1, 2, 4, 32]), (8, [1, 2, 4, 8]), (2, [1, 2]), (1, [1])]
)
def test_a_trace_at_a_time_and_the_whole_group_are_tried(group: int, sizes: list[int]) -> None:
    assert micro_batches(group) == sizes


def test_over_many_groups_both_sides_compute_the_same() -> None:
    """The GPU bench's steps, on the processor in fp32: packs and micro-batches cross groups."""
    ours, theirs = load("toy", CPU), load("toy", CPU)
    point = Point("toy", 24, 4, 3, 4, 9, (6,), budget=120)
    every = drawn(ours, point)
    side = GpuOurs(ours, budget=point.budget)
    side.precision = "fp32"
    mine = side.many(every)
    other = GpuPeer(theirs, group=4, micro_batch=6).many(every)
    assert mine.loss == pytest.approx(other.loss, rel=1e-4)
    assert mine.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)
