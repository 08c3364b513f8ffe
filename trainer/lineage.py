"""The earlier checkpoints whose traces a turn may still use."""

from __future__ import annotations

from marketplace.chain.reads import MarketReader


def lineage_ages(reader: MarketReader, checkpoint: int, most: int) -> dict[int, int]:
    """How many checkpoints before `checkpoint` each of its nearest `most` ancestors is, by id.

    From the chain, so that a miner's word for it is not needed. Base models have no parent.
    """
    ages: dict[int, int] = {}
    for age in range(1, most + 1):
        checkpoint = reader.checkpoint(checkpoint).parent
        if not checkpoint:
            break
        ages[checkpoint] = age
    return ages
