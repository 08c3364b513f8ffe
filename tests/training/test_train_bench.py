"""The step bench gives its peer the choices that it says it gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "train"))

from peer import micro_batches


@pytest.mark.parametrize(
    ("group", "sizes"), [(32, [1, 2, 4, 32]), (8, [1, 2, 4, 8]), (2, [1, 2]), (1, [1])]
)
def test_a_trace_at_a_time_and_the_whole_group_are_tried(group: int, sizes: list[int]) -> None:
    assert micro_batches(group) == sizes
