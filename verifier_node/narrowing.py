"""A round that ended without a quorum: find the one trace on which its votes differ."""

from __future__ import annotations

import logging

from marketplace.chain.client import MarketClient
from marketplace.chain.records import Batch
from marketplace.protocol.disputes import claim, find_fault, first_difference
from marketplace.protocol.verdict import OUTCOMES, Attestation
from marketplace.storage.store import ContentStore
from verifier_node.published import Published, published

log = logging.getLogger("tracemarket.verifier")


def narrow(
    client: MarketClient, store: ContentStore, batch: Batch, *, timeout: float
) -> int | None:
    """Sends the claims of the leading vote and of the strongest other one about the first verdict
    on which they differ. Returns the dispute; None where a verdict file can't be had, or is of
    no honest tree: then the conflict waits for a larger round.

    timeout: seconds for each look for a file.
    """
    leader = client.leading_attestation(batch.round)
    if leader is None:
        return None
    first = _sound(client, store, batch, leader, timeout)
    if first is None:
        log.info("conflict_open batch=%d why=the leading vote has no verdict file", batch.id)
        return None
    cast = {one.attestation for one in client.announced(batch.round)} - {leader}
    ranked = sorted(cast, key=lambda said: (-client.votes_for(batch.round, said), said.root))
    for rival in ranked:
        second = _sound(client, store, batch, rival, timeout)
        if second is None:
            continue
        place = first_difference(first.leaves, second.leaves)
        if place is None:
            continue
        dispute, _ = client.narrow(
            batch.id,
            claim(first.tree, first.leaves[place]),
            claim(second.tree, second.leaves[place]),
        )
        return dispute
    log.info("conflict_open batch=%d why=no other vote has a verdict file", batch.id)
    return None


def _sound(
    client: MarketClient,
    store: ContentStore,
    batch: Batch,
    said: Attestation,
    timeout: float,
) -> Published | None:
    """The verdicts behind a vote, where they prove what it says."""
    if said in OUTCOMES:
        return None
    found = published(client, store, batch, said, timeout=timeout)
    if found is None or find_fault(batch.id, said, found.leaves) is not None:
        return None
    return found
