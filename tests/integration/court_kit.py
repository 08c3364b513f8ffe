"""A disputed batch on Anvil: its committee, its juries, and all money around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from marketplace.chain.client import MarketClient
from marketplace.chain.deploying import deploy
from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import MINIMAL
from marketplace.protocol import disputes
from marketplace.protocol.disputes import LeafVerdict
from marketplace.protocol.hashing import keccak
from marketplace.protocol.merkle import Tree, batch_tree
from marketplace.protocol.verdict import (
    Attestation,
    Reason,
    Verdict,
    VerdictTree,
    batch_verdicts,
)

TUSD = 10**6
LINES = [f"trace {index}".encode() for index in range(8)]
FEES = 8 * TUSD // 50
STAKE = 500 * TUSD
RIGHT = Verdict(1_000_000, Reason.CORRECT, 1, 0)
WRONG = Verdict(0, Reason.WRONG, 0, 0)
TRUTH = [RIGHT] * 5 + [WRONG] + [RIGHT] * 2
LIE = [RIGHT] * 8
# Windows that a slow machine does not sit out; tests travel through them.
PRESET = replace(MINIMAL, challenge_window=300, appeal_window=300, opening_window=300)


@dataclass
class Case:
    """A market with eight verifiers and one committed batch."""

    kit: Any
    batch: int
    traces: Tree
    money: int = field(init=False)

    def __post_init__(self) -> None:
        self.money = self.everything()

    @property
    def reader(self) -> MarketClient:
        return self.kit.reader

    @property
    def challenger(self) -> MarketClient:
        return self.kit.client(self.kit.accounts.other_miner)

    def tree(self, verdicts: Sequence[Verdict]) -> VerdictTree:
        return batch_verdicts(self.batch, verdicts)

    def attest(self, votes: Sequence[Attestation | None]) -> int:
        """Draw the current round, vote, tally; its id."""
        round_id = self.kit.draw(self.batch)
        self.kit.vote(round_id, votes)
        self.reader.tally(self.batch)
        return round_id

    def dispute_leaf(self, verdicts: Sequence[Verdict], index: int) -> int:
        dispute, _ = self.challenger.dispute_leaf(
            self.batch,
            LeafVerdict.of(index, verdicts[index]),
            self.tree(verdicts).proof(index),
            keccak(LINES[index]),
            self.traces.proof(index),
        )
        return dispute

    def juror(self, index: int, verdict: Verdict) -> Attestation:
        return disputes.juror_attestation(self.batch, LeafVerdict.of(index, verdict))

    def judge(self, dispute: int, *votes: Attestation) -> int:
        """Seat the newest jury and let it vote: the first vote for all, the others for the last
        seats. Then count it; its round."""
        jury = self.reader.dispute(dispute).jury
        assert jury is not None
        self.kit.wait_for_randomness(self.reader.round(jury).draw_point)
        assert self.reader.draw(jury).drew(jury)
        seats = self.reader.round(jury).seats
        first, *others = votes
        self.kit.vote(jury, [first] * (seats - len(others)) + others)
        self.reader.tally_jury(dispute)
        return jury

    def close(self, dispute: int) -> dict[str, Any]:
        self.kit.pass_time(PRESET.appeal_window + 1)
        return dict(self.reader.close_dispute(dispute).event("DisputeClosed").args)

    def settle(self) -> None:
        self.kit.pass_time(PRESET.challenge_window + 1)
        self.reader.settle(self.batch)

    def everything(self) -> int:
        """Every token of the market and of everybody in it."""
        accounts = self.kit.accounts
        keys = (accounts.poster, accounts.miner, accounts.other_miner, *accounts.verifiers)
        ledger = self.kit.deployment.address("ledger")
        held = self.reader.token_balance(ledger)
        stake = sum(self.reader.verifier(key.address).stake for key in accounts.verifiers)
        assert self.reader.held_for("stake") == stake
        balances = sum(self.reader.balance(key.address) for key in keys)
        modules = ("escrow", "stake", "market", "court", "royalties")
        assert held == balances + sum(self.reader.held_for(module) for module in modules)
        return held + sum(self.reader.token_balance(key.address) for key in keys)


def open_case(market: Any, accounts: Any, deployment: Deployment | None = None) -> Case:
    """A case in a market with PRESET's windows on the chain of the MarketKit `market`, paid in the
    same token; None deploys one."""
    if deployment is None:
        token = market.deployment.token.address
        deployment = deploy(market.anvil.url, accounts.deployer, PRESET, token=token, timeout=30.0)
    kit = type(market)(market.anvil, deployment, accounts)
    bounty = kit.open_bounty()
    kit.stake_verifiers(8)
    kit.open_assignment(bounty)
    market_address = deployment.address("market")
    traces = batch_tree(31337, market_address, bounty, accounts.miner.address, LINES)
    return Case(kit, kit.commit_batch(bounty, traces=8, root=traces.root), traces)
