"""What the learning bench says of its traces is what its loop does."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "learning"))

from methods import SCENARIOS, UPDATES


def test_no_trace_is_said_to_be_older_than_it_can_be() -> None:
    """Eight turns of eight updates have no parent that is 64 updates away from the base."""
    for turns in (1, 8, 9, 12):
        for scenario in SCENARIOS:
            ages = [UPDATES * scenario.behind(turn) for turn in range(turns)]
            assert ages == [min(UPDATES * turn, scenario.stale) for turn in range(turns)]
            told = scenario.told(turns)
            if max(ages) < scenario.stale:
                assert told == f"up to {max(ages)} updates stale"
            else:
                assert told == scenario.name
    assert [one.told(8) for one in SCENARIOS if one.stale] == [
        "8 updates stale",
        "up to 56 updates stale",
    ]
