"""What a miner leaves out before it commits: copies of what was bought earlier, for which it would
pay the check.

A batch answers consecutive tasks with whole groups, so only groups at its end can be left out. A
group there goes if it holds copies and nothing that is paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.chain.client import MarketClient
from marketplace.chain.records import Assignment, Bounty
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.verdict import Reason, Verdict


@dataclass(frozen=True, slots=True)
class Screened:
    """lines: to commit. copies: traces that count as copies, among all. left_out: traces that are
    not committed."""

    lines: tuple[bytes, ...]
    copies: int
    left_out: int


def without_copies(
    lines: Sequence[bytes], verdicts: Sequence[Verdict], group_size: int
) -> Screened:
    """The lines without the groups at the end that earn nothing because of copies. verdicts: as a
    verifier would find them now."""
    copies = sum(one.reason is Reason.DUPLICATE for one in verdicts)
    kept = len(lines)
    while kept:
        group = verdicts[kept - group_size : kept]
        if any(one.units for one in group):
            break
        if not any(one.reason is Reason.DUPLICATE for one in group):
            break
        kept -= group_size
    return Screened(tuple(lines[:kept]), copies, len(lines) - kept)


def terms_before_commit(client: MarketClient, bounty: Bounty, assignment: Assignment) -> BatchTerms:
    """The terms of the batch that the miner is about to commit. Its number is not known yet, and no
    verdict depends on it."""
    deployment, terms = client.deployment, bounty.terms
    assert assignment.seed is not None
    return BatchTerms(
        chain_id=deployment.chain_id,
        market=deployment.address("market"),
        batch=1,
        bounty=bounty.id,
        miner=client.address,
        environment=terms.environment,
        assignment_seed=assignment.seed,
        first_task=assignment.next_task,
        group_size=terms.group_size,
        tier=terms.tier,
        pay_rule=terms.pay_rule,
    )
