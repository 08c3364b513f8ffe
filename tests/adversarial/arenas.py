"""The nodes that trials are played on."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from arena import Arena

from marketplace.chain.anvil import AnvilNode
from marketplace.gym.pool import CheckPool


class Arenas:
    """Markets for trials: one that most of them share, each from its first state, and young ones.

    A trial that takes blocks back needs a young one, see AnvilNode.reorg.
    """

    def __init__(self, pool: CheckPool) -> None:
        self._pool = pool
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Arenas:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def __call__(self, alone: bool) -> Iterator[Arena]:
        if not alone:
            yield self.shared
            return
        with AnvilNode() as node, contextlib.closing(Arena(node, pool=self._pool)) as arena:
            yield arena

    @functools.cached_property
    def shared(self) -> Arena:
        node = self._stack.enter_context(AnvilNode())
        return self._stack.enter_context(contextlib.closing(Arena(node, pool=self._pool)))
