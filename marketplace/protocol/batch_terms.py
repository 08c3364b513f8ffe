"""What chain and bounty fix for a batch: all that judging it needs besides its content."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.protocol.hashing import Address
from marketplace.protocol.payout import PayRule
from marketplace.protocol.seeds import task_seed
from marketplace.protocol.trace import Tier


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTerms:
    """What chain and bounty fix for a batch. market, miner: addresses. environment: bytes32 id.

    assignment_seed: bytes32 of the miner's assignment. first_task: task index of line 0.
    """

    chain_id: int
    market: Address
    batch: int
    bounty: int
    miner: Address
    environment: bytes
    assignment_seed: bytes
    first_task: int
    group_size: int
    tier: Tier
    pay_rule: PayRule

    def seed(self, task: int) -> bytes:
        """The 32-byte seed of an absolute task index."""
        return task_seed(self.environment, self.bounty, self.miner, self.assignment_seed, task)
