"""How large a demo run is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """groups: honest groups of one turn. liar_groups: groups of each of the liar's batches.
    heldout_tasks, heldout_samples: tasks never sold, and samples of each, in one evaluation.
    Money in tokens. seed: of sampling and training; the chain's randomness is its own."""

    environment: str = "two_digit_sums"
    turns: int = 3
    groups: int = 128
    group_size: int = 8
    liar_groups: int = 4
    verifiers: int = 5
    heldout_tasks: int = 256
    heldout_samples: int = 4
    price_per_unit: str = "0.01"
    fee_per_trace: str = "0.002"
    bounty: str = "80"
    stake: str = "500"
    seed: int = 1


FULL: Final = DemoSettings()
QUICK: Final = DemoSettings(groups=24, liar_groups=2, heldout_tasks=60, heldout_samples=2)
"""Shows every part at work; too small to show a gain."""
