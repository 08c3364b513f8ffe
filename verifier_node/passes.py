"""One pass over what is open: find it on chain, do what is due for each, survive each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from marketplace.chain.client import MarketClient
from marketplace.protocol.errors import Reverted, StorageError, TracemarketError
from verifier_node.duties import Done
from verifier_node.fetching import OnItsWay
from verifier_node.journal import Journal

log = logging.getLogger("tracemarket.verifier")

REORG_DEPTH = 64
"""Blocks read again on every pass: what a reorg renumbered is found."""


def watch(
    client: MarketClient,
    journal: Journal,
    key: str,
    *,
    begins: str,
    ends: Iterable[str],
    field: str,
) -> list[int]:
    """The ids (argument `field`) whose event `begins` was seen and that are not forgotten yet.

    key: names this list in the journal. ends: events after which an id is not even taken in.
    """
    head = client.head().number
    seen = journal.cursor(key)
    first = client.deployment.block
    start = first if seen is None else max(first, seen - REORG_DEPTH)
    opened: set[int] = set()
    for event in client.events(start, head, names=[begins, *ends]):
        if event.name == begins:
            opened.add(event.args[field])
        else:
            opened.discard(event.args[field])
    try:
        journal.advance(key, head, sorted(opened))
    except StorageError as error:
        # The disk is full: the same blocks are read again next time, and reveals need no disk.
        log.error("journal_failed why=%s", error)
    return sorted({*journal.watched(key), *opened})


def attend(kind: str, ids: Iterable[int], one: Callable[[int], Done | None]) -> list[Done]:
    """Does what is due for each. One that fails is logged and met again on the next pass.
    kind: "batch" or "dispute", for the log."""
    done: list[Done] = []
    for ident in ids:
        try:
            found = one(ident)
        except Reverted as error:
            # Somebody else made the call first, or the phase moved on: look again next time.
            log.info("call_refused %s=%d why=%s", kind, ident, error)
            continue
        except OnItsWay as error:
            log.info("checkpoint_awaited %s=%d why=%s", kind, ident, error)
            continue
        except TracemarketError as error:
            log.error(
                "%s_failed %s=%d error=%s why=%s", kind, kind, ident, type(error).__name__, error
            )
            continue
        if found is not None:
            log.info(
                "duty_done %s=%d duty=%s detail=%s", kind, ident, found.duty.name, found.detail
            )
            done.append(found)
    return done
