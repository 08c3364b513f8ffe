"""Indexer: brings the index up to the chain and keeps it there.

Blocks become final late or never, so each pass first asks whether the chain still has the last
indexed block. If not, it finds the newest stored block that the chain has and rolls back to it.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from marketplace.chain.blocks import Block, Event
from marketplace.indexer.events import log_event
from marketplace.indexer.source import ChainSource
from marketplace.indexer.store import BlockRef, IndexStore, Page
from marketplace.protocol.errors import ChainError, TracemarketError

_log = logging.getLogger(__name__)

PAGE_BLOCKS: Final = 2_000
"""Blocks of one transaction at most."""

RETRY_SECONDS: Final = (1.0, 30.0)
"""First and longest pause after a failed pass; it doubles in between."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One pass. rolled_back_to: the block before the reorg, None where there was none. behind:
    blocks that remain below the target (a pass that was stopped)."""

    indexed: int
    head: int
    events: int
    rolled_back_to: int | None
    behind: int


class Indexer:
    """Fills one store from one chain. Use it in the store's thread."""

    def __init__(
        self,
        source: ChainSource,
        store: IndexStore,
        *,
        clock: Callable[[], float],
        confirmations: int = 0,
        page_blocks: int = PAGE_BLOCKS,
    ) -> None:
        """confirmations: newest blocks to leave out. clock: seconds since the epoch."""
        self._source = source
        self._store = store
        self._clock = clock
        self._confirmations = confirmations
        self._page_blocks = page_blocks

    def run_once(self, stop: threading.Event | None = None) -> Progress:
        """Index all confirmed blocks, page by page; `stop` ends it between two pages.

        ChainError where the node does not answer or changed its mind in the middle of a page:
        what was indexed stays, and the next pass goes on from there.
        """
        head = self._source.head()
        rolled_back_to = self._reconcile()
        self._store.saw_head(head.number, int(self._clock()))
        target = head.number - self._confirmations
        position = self._position()
        count = 0
        while position.number < target and not (stop is not None and stop.is_set()):
            last = min(position.number + self._page_blocks, target)
            page = self._read(position, last, head.number)
            self._store.append(page)
            count += len(page.events)
            position = page.last
        if count:
            _log.info("indexed block=%d events=%d head=%d", position.number, count, head.number)
        return Progress(
            indexed=position.number,
            head=head.number,
            events=count,
            rolled_back_to=rolled_back_to,
            behind=max(0, target - position.number),
        )

    def follow(self, stop: threading.Event, poll_interval: float) -> None:
        """Pass after pass until `stop`; poll_interval: seconds between them. Failures that pass
        by themselves (the node is away) are logged and tried again."""
        pause = RETRY_SECONDS[0]
        while not stop.is_set():
            try:
                self.run_once(stop)
            except ChainError as error:
                _log.warning("index_pass_failed retry_in=%.0fs error=%s", pause, error)
                stop.wait(pause)
                pause = min(2 * pause, RETRY_SECONDS[1])
            else:
                pause = RETRY_SECONDS[0]
                stop.wait(poll_interval)

    # --- reorgs ---------------------------------------------------------------------

    def _reconcile(self) -> int | None:
        """Roll back to the newest stored block that the chain still has."""
        position = self._store.position()
        if position is None:
            self._start()
            return None
        if self._on_chain(position):
            return None
        numbers = self._store.block_numbers()
        # Stored blocks are on the chain up to the fork and off it from there.
        gone = bisect_left(numbers, True, key=lambda number: not self._on_chain_number(number))
        if gone == 0:
            _log.warning("reorg from=%d to=start", position.number)
            self._start()
            return self._position().number
        fork = numbers[gone - 1]
        _log.warning("reorg from=%d to=%d", position.number, fork)
        self._store.rollback(fork)
        return fork

    def _start(self) -> None:
        number = self._store.deployment.block
        block = self._source.block(number)
        if block is None:
            raise ChainError(
                f"the node has no block {number}, where the market was deployed",
                fix="wait until it has caught up, or use the deployment file of this chain",
            )
        self._store.start(_ref(block))

    def _on_chain_number(self, number: int) -> bool:
        stored = self._store.block(number)
        return stored is not None and self._on_chain(stored)

    def _on_chain(self, stored: BlockRef) -> bool:
        block = self._source.block(stored.number)
        return block is not None and _ref(block) == stored

    # --- pages ----------------------------------------------------------------------

    def _read(self, after: BlockRef, last: int, head: int) -> Page:
        """The blocks after `after` up to `last`, as one consistent view of the chain."""
        end = self._block(last)
        events = list(self._source.events(after.number + 1, last))
        blocks = {number: self._block(number) for number in sorted({e.block for e in events})}
        blocks[last] = self._block(last)
        self._check(after, end, blocks, events)
        return Page(
            after=after,
            last=_ref(end),
            blocks=[_ref(block) for block in blocks.values()],
            events=[log_event(event, blocks[event.block].timestamp) for event in events],
            head=head,
        )

    def _check(
        self, after: BlockRef, end: Block, blocks: dict[int, Block], events: Iterable[Event]
    ) -> None:
        """ChainError unless the chain was the same before, during and after the reads."""
        mixed = [e.block for e in events if e.block_hash != blocks[e.block].hash]
        if mixed or blocks[end.number] != end or not self._on_chain(after):
            raise ChainError(
                f"the chain changed while blocks {after.number + 1} to {end.number} were read",
                fix="nothing is lost; the next pass reads them again",
            )

    def _block(self, number: int) -> Block:
        block = self._source.block(number)
        if block is None:
            raise ChainError(
                f"the node no longer has block {number}",
                fix="nothing is lost; the next pass looks where the chains part",
            )
        return block

    def _position(self) -> BlockRef:
        position = self._store.position()
        if position is None:
            raise TracemarketError(f"the index {self._store.path} has no position")
        return position


def _ref(block: Block) -> BlockRef:
    return BlockRef(block.number, "0x" + block.hash.hex(), block.timestamp)
