"""Batch after batch is checked in the memory that the first ones took."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "check"))

import flat_memory


@pytest.mark.deep
def test_memory_stays_flat() -> None:
    first, last = flat_memory.measure(100_000, 1000, (10_000, 100_000))
    growth = last["verifier_bytes"] - first["verifier_bytes"]
    assert growth < 8 << 20, f"{growth / (1 << 20):.1f} MiB more after {last['traces']} traces"
    growth = last["workers_bytes"] - first["workers_bytes"]
    assert growth < 16 << 20, f"{growth / (1 << 20):.1f} MiB more in workers and runners"


def test_what_is_measured_is_a_whole_batchs_life() -> None:
    (only,) = flat_memory.measure(16, 16, (16,))
    assert only["traces"] == 16
    assert only["workers_bytes"] > 1 << 20
