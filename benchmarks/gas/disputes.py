"""Cost of a dispute by batch size.

A row is one batch size: {"traces", "proof_hashes", "steps": {action: {"transactions", "gas"}}},
made with market.steps() from the transactions of a real dispute over one leaf, with inclusion
proofs from marketplace.protocol.
"""

from __future__ import annotations

from typing import Any

from market import Bench

SIZES = (16, 256, 1024, 4096, 65536)


def measure(kit: Bench) -> list[dict[str, Any]] | None:
    """One row for each of SIZES; None while the market has nothing to dispute before."""
    return None
