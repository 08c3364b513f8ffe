"""The terms of a batch, as the chain has them."""

from __future__ import annotations

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, Bounty
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.errors import ChainError


def batch_terms(reader: MarketReader, batch: Batch, bounty: Bounty | None = None) -> BatchTerms:
    """What chain and bounty fix for a batch. bounty: the batch's own, where it is known already.

    Raises ChainError for a batch without an open assignment, which only a reorg between two
    reads can show.
    """
    found = bounty or reader.bounty(batch.bounty)
    assignment = reader.assignment(batch.bounty, batch.miner)
    if assignment is None or assignment.seed is None:
        raise ChainError(f"the chain changed while batch {batch.id} was read", fix="read it again")
    return BatchTerms(
        chain_id=reader.deployment.chain_id,
        market=reader.deployment.address("market"),
        batch=batch.id,
        bounty=batch.bounty,
        miner=batch.miner,
        environment=found.terms.environment,
        assignment_seed=assignment.seed,
        first_task=batch.first_task,
        group_size=found.terms.group_size,
        tier=found.terms.tier,
        pay_rule=found.terms.pay_rule,
    )
