"""What the indexer asks of a chain, and the market's reader as the answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from marketplace.chain.blocks import Block, Event


class ChainSource(Protocol):
    """Reads of one market on one chain; a chain.reads.MarketReader is one.

    Every method raises ChainError where the node gives no answer.
    """

    def head(self) -> Block:
        """The newest block."""
        ...

    def block(self, number: int) -> Block | None:
        """A block of the canonical chain; None where the chain does not reach it."""
        ...

    def events(self, from_block: int, to_block: int) -> Iterable[Event]:
        """All events of the market in [from_block, to_block], in the order of the chain."""
        ...
