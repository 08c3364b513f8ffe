"""Fixtures for tests that need a chain. Without one of them a test touches no node.

anvil        AnvilNode with the market deployed (preset "minimal"); every test starts from the
             same state, because the chain is reverted to a snapshot afterwards. One process
             per session. Reorgs need fresh_anvil: they break the snapshot where they reach below
             it, and Anvil loses states after some hundred blocks (see AnvilNode.reorg).
deployment   that market's Deployment; its token is a TestStablecoin with 6 decimals
accounts     keys by role, see Accounts; all but `stranger` hold 100,000 tUSD and 10,000 ETH
market       MarketKit: clients by key, chain time, and the steps that many tests share
kit_on       a MarketKit of a node and a deployment that a test made by itself
deploy_once  a factory of further markets on anvil's chain, one for each preset and session
fresh_anvil  a factory of further nodes, market included or not; stopped after the test

def test_example(market, accounts):
    bounty = market.open_bounty()
    market.stake_verifiers(5)
    client = market.client(accounts.miner)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from marketplace.chain.anvil import AnvilNode, published_account
from marketplace.chain.client import MarketClient
from marketplace.chain.deploying import deploy
from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import MINIMAL, Preset
from marketplace.chain.records import (
    Assignment,
    BountyTerms,
    ContentId,
    PayRule,
    RandomnessStatus,
    RoundPhase,
    Tier,
)
from marketplace.protocol.commitments import commitment
from marketplace.protocol.verdict import Attestation

TUSD = 10**6
"""Base units of one test dollar."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """Anvil's published accounts by role."""

    deployer: LocalAccount
    poster: LocalAccount
    miner: LocalAccount
    other_miner: LocalAccount
    trainer: LocalAccount
    stranger: LocalAccount
    verifiers: tuple[LocalAccount, ...]

    def key_of(self, address: str) -> LocalAccount:
        everybody = (self.poster, self.miner, self.other_miner, self.trainer, self.stranger)
        return next(key for key in (*everybody, *self.verifiers) if key.address == address)


@dataclass(slots=True)
class MarketKit:
    """A deployed market on a local chain and the steps of a batch's life.

    Steps wait for nothing: they mine blocks or move the chain's clock. gas: what each action
    used, in order, from all clients made here.
    """

    anvil: AnvilNode
    deployment: Deployment
    accounts: Accounts
    gas: list[tuple[str, int]] = field(default_factory=list)
    _clients: dict[str, MarketClient] = field(default_factory=dict)

    def client(self, account: LocalAccount) -> MarketClient:
        """The (one) client of a key, checked once."""
        if account.address not in self._clients:
            self._clients[account.address] = MarketClient(
                self.anvil.url,
                self.deployment,
                account,
                timeout=20.0,
                on_gas=lambda action, used: self.gas.append((action, used)),
                check=not self._clients,
            )
        return self._clients[account.address]

    @property
    def reader(self) -> MarketClient:
        return self.client(self.accounts.deployer)

    def register_environment(self, spec: bytes = b"{}") -> bytes:
        environment = sha256(spec).digest()
        if self.reader.environment_author(environment) is None:
            self.client(self.accounts.poster).register_environment(environment)
        return environment

    def terms(self, **changes: Any) -> BountyTerms:
        """Terms of an opaque bounty: groups of 4, 0.10 a unit, 0.02 checking fee a trace."""
        fields: dict[str, Any] = {
            "environment": sha256(b"{}").digest(),
            "trainer": None,
            "deadline": self.reader.head().timestamp + 86_400,
            "group_size": 4,
            "tier": Tier.C,
            "pay_rule": PayRule.CORRECT,
            "price_per_unit": TUSD // 10,
            "fee_per_trace": TUSD // 50,
        }
        return BountyTerms(**(fields | changes))

    def open_bounty(self, amount: int = 100 * TUSD, **terms: Any) -> int:
        """Register the environment where needed and open a bounty; its id."""
        self.register_environment()
        bounty, _ = self.client(self.accounts.poster).create_bounty(self.terms(**terms), amount)
        return bounty

    def stake_verifiers(self, count: int = 5, amount: int = 500 * TUSD) -> Sequence[LocalAccount]:
        keys = self.accounts.verifiers[:count]
        for key in keys:
            self.client(key).stake(amount)
        return keys

    def open_assignment(self, bounty: int, miner: LocalAccount | None = None) -> Assignment:
        """Enrol and open; the assignment with its seed."""
        client = self.client(miner or self.accounts.miner)
        client.request_assignment(bounty)
        self.wait_for_randomness(client.assignment(bounty, client.address).point)  # type: ignore[union-attr]
        client.open_assignment(bounty)
        found = client.assignment(bounty, client.address)
        assert found is not None
        return found

    def commit_batch(
        self,
        bounty: int,
        *,
        traces: int = 8,
        root: bytes = b"\x11" * 32,
        miner: LocalAccount | None = None,
    ) -> int:
        """Commit a batch with a made-up root for the miner's next tasks; its id."""
        client = self.client(miner or self.accounts.miner)
        assignment = client.assignment(bounty, client.address)
        assert assignment is not None
        assert assignment.seed is not None
        batch, _ = client.commit_batch(
            bounty,
            root=root,
            traces=traces,
            first_task=assignment.next_task,
            seed=assignment.seed,
            content=ContentId(sha256(root).digest(), 0x55),
        )
        return batch

    def draw(self, batch: int) -> int:
        """Draw the batch's current round; its id."""
        round_id = self.reader.batch(batch).round
        self.wait_for_randomness(self.reader.round(round_id).draw_point)
        assert self.reader.draw(round_id).drew(round_id)
        return round_id

    def vote(self, round_id: int, votes: Sequence[Attestation | None]) -> None:
        """Commit and reveal seat by seat; None for a member that does neither."""
        reader, deployment = self.reader, self.deployment
        drawn = reader.round(round_id)
        seats = reader.seats(round_id)
        assert len(votes) == len(seats)
        salt = b"\x5a" * 32
        for seat, vote in zip(seats, votes, strict=True):
            if vote is None:
                continue
            hidden = commitment(
                deployment.chain_id,
                deployment.address("rounds"),
                round_id,
                drawn.subject,
                seat.verifier,
                vote,
                salt,
            )
            key = self.accounts.key_of(seat.verifier)
            self.client(key).commit_verdict(round_id, seat.index, hidden)
        if None in votes:
            self.pass_time(deployment.parameters.commit_window + 1)
        for seat, vote in zip(seats, votes, strict=True):
            if vote is not None:
                key = self.accounts.key_of(seat.verifier)
                place = ContentId(sha256(vote.root).digest(), 0x55)
                self.client(key).reveal_verdict(round_id, seat.index, vote, salt, place)
        if reader.round(round_id).phase is RoundPhase.REVEALING:
            self.pass_time(deployment.parameters.reveal_window + 1)

    def wait_for_randomness(self, point: int) -> None:
        while self.reader.randomness(point) is RandomnessStatus.PENDING:
            self.anvil.mine()

    def pass_challenge_window(self) -> None:
        self.pass_time(self.deployment.parameters.challenge_window + 1)

    def pass_time(self, seconds: int) -> None:
        self.anvil.increase_time(seconds)


@pytest.fixture(scope="session")
def accounts() -> Accounts:
    keys = [published_account(index) for index in range(14)]
    return Accounts(*keys[:6], verifiers=tuple(keys[6:]))


@pytest.fixture(scope="session")
def _session_market(accounts: Accounts) -> Iterator[tuple[AnvilNode, Deployment]]:
    with AnvilNode() as node:
        yield node, _deploy_funded(node, accounts)


@pytest.fixture(scope="session")
def deploy_once(
    _session_market: tuple[AnvilNode, Deployment], accounts: Accounts
) -> Callable[..., Deployment]:
    """deploy_once(preset, same_token=False) -> Deployment. Only for fixtures of module scope: what
    a test deploys itself goes with its snapshot."""
    node, first = _session_market

    @cache
    def once(preset: Preset, *, same_token: bool = False) -> Deployment:
        token = first.token.address if same_token else None
        return deploy(node.url, accounts.deployer, preset, token=token, timeout=30.0)

    return once


@pytest.fixture
def anvil(_session_market: tuple[AnvilNode, Deployment]) -> Iterator[AnvilNode]:
    node, _ = _session_market
    snapshot = node.snapshot()
    # A revert takes the chain's clock back too; what reads both clocks wants them side by side.
    head = node.rpc("eth_getBlockByNumber", "latest", False)
    behind = int(time.time()) - int(head["timestamp"], 16)
    if behind > 0:
        node.increase_time(behind)
    yield node
    node.revert(snapshot)


@pytest.fixture
def deployment(_session_market: tuple[AnvilNode, Deployment]) -> Deployment:
    return _session_market[1]


@pytest.fixture
def market(anvil: AnvilNode, deployment: Deployment, accounts: Accounts) -> MarketKit:
    return MarketKit(anvil, deployment, accounts)


@pytest.fixture
def fresh_anvil(accounts: Accounts) -> Iterator[Callable[..., MarketKit | AnvilNode]]:
    """fresh_anvil(**AnvilNode arguments) -> AnvilNode; with deployed=True a MarketKit."""
    with ExitStack() as stack:

        def start(*, deployed: bool = False, **options: Any) -> MarketKit | AnvilNode:
            node = stack.enter_context(AnvilNode(**options))
            if not deployed:
                return node
            return MarketKit(node, _deploy_funded(node, accounts), accounts)

        yield start


@pytest.fixture
def kit_on(accounts: Accounts) -> Callable[[AnvilNode, Deployment], MarketKit]:
    """A MarketKit of a deployment that a test made by itself."""
    return lambda node, deployment: MarketKit(node, deployment, accounts)


def _deploy_funded(node: AnvilNode, accounts: Accounts) -> Deployment:
    deployment = deploy(node.url, accounts.deployer, MINIMAL, timeout=30.0)
    client = MarketClient(node.url, deployment, accounts.deployer, timeout=20.0)
    everybody = (accounts.deployer, accounts.poster, accounts.miner, accounts.other_miner)
    for account in (*everybody, accounts.trainer, *accounts.verifiers):
        client.mint_test_tokens(account.address, 100_000 * TUSD)
    return deployment
