"""A reference model of the market: the same state machine in plain Python, without a chain.

Written from the NatSpec of contracts/src/interfaces, as a second opinion on the contracts. Time,
block numbers and block hashes come from outside; everything else is computed here, the drawn
members of every committee included.

    model = Reference(rules, ...)
    names = model.act(Block(number, time), lambda: model.stake.stake(who, amount))

names: None where it happened, else the custom errors that a refusal may carry.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import NamedTuple

from reference_batches import Market
from reference_court import Court
from reference_lot import Rounds, Stake
from reference_money import Assignments, Escrow, Ledger, Part, Refused, abi_hash

from marketplace.chain.parameters import Parameters

REACH = 256
"""Blocks after its own during which a block's hash can be read."""


_PARTS = ("environments", "ledger", "escrow", "assignments", "stake", "rounds", "market", "court")


class Block(NamedTuple):
    number: int
    time: int


class Reference:
    """blockhash: of a block number at most REACH blocks ago. addresses: by short name."""

    def __init__(
        self,
        rules: Parameters,
        delay: int,
        chain_id: int,
        addresses: dict[str, str],
        blockhash: Callable[[int], bytes],
    ) -> None:
        self.rules = rules
        self.delay = delay
        self.chain_id = chain_id
        self.addresses = addresses
        self.blockhash = blockhash
        self.now = Block(0, 0)
        self.environments: set[bytes] = set()
        self.ledger = Ledger()
        self.escrow = Escrow(self)
        self.assignments = Assignments(self)
        self.stake = Stake(self)
        self.rounds = Rounds(self)
        self.market = Market(self)
        self.court = Court(self)

    def act(self, block: Block, action: Callable[[], None]) -> frozenset[str] | None:
        """One transaction in `block`: as a whole or, refused, not at all."""
        before = self.saved()
        self.now = block
        try:
            action()
        except Refused as refused:
            self.restore(before)
            return refused.names
        return None

    def saved(self) -> bytes:
        """All that actions change; the clock is not among it."""
        return pickle.dumps([getattr(self, name) for name in _PARTS])

    def restore(self, saved: bytes) -> None:
        for name, part in zip(_PARTS, pickle.loads(saved), strict=True):
            if isinstance(part, Part):
                part.world = self
            setattr(self, name, part)

    # --- randomness: the hash of a later block ---------------------------------------

    def next_point(self) -> int:
        return self.now.number + self.delay

    def randomness(self, point: int) -> str:
        if self.now.number <= point:
            return "pending"
        return "missed" if self.now.number > point + REACH else "ready"

    def random_value(self, point: int) -> bytes:
        return abi_hash(("bytes32",), self.blockhash(point))
