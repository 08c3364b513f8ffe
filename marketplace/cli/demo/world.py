"""The demo's small world: a chain, a market on it, and people with keys and money."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from eth_account.signers.local import LocalAccount

from marketplace.chain.anvil import AnvilNode, published_account
from marketplace.chain.client import MarketClient
from marketplace.chain.deploying import deploy
from marketplace.chain.deployment import Deployment, save_deployment
from marketplace.chain.parameters import MINIMAL
from marketplace.chain.records import BatchPhase
from marketplace.cli.demo.settings import DemoSettings
from marketplace.gym.pool import CheckPool
from marketplace.miner.mine import Miner
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import TransactionTimeout
from marketplace.storage.embedded import EmbeddedStore
from verifier_node.checking import BatchChecker
from verifier_node.checkpoints import CheckpointCache, scorer_maker
from verifier_node.daemon import VerifierNode
from verifier_node.journal import Journal

# Generous windows: a phase ends early once everybody has acted, so they cost no time.
PRESET = replace(
    MINIMAL, name="demo", draw_timeout=900, commit_window=900, reveal_window=900, challenge_window=2
)
_PATIENCE_SECONDS = 600.0


@dataclass(slots=True)
class Meter:
    """Gas of each action and seconds of each stage."""

    gas: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def spend(self, action: str, used: int) -> None:
        self.gas[action].append(used)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started


class World:
    """A context manager: leaving it ends the chain and the checkers."""

    def __init__(self, settings: DemoSettings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.meter = Meter()
        self.store = EmbeddedStore(folder / "store")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self.node = self._stack.enter_context(AnvilNode(block_time=1))
        self.pool = self._stack.enter_context(CheckPool(workers=2))
        keys = [published_account(index) for index in range(4 + self.settings.verifiers)]
        deployer, poster, miner, liar, *verifiers = keys
        with self.meter.stage("deploy"):
            self.deployment: Deployment = deploy(
                self.node.url, deployer, PRESET, poll=0.1, on_gas=self.meter.spend
            )
        save_deployment(self.deployment, self.folder / "deployment.json")
        self.poster = self._client(poster)
        self.miner = self._client(miner)
        self.liar = self._client(liar)
        self.verifiers = [self._client(key) for key in verifiers]
        bank = MarketClient(self.node.url, self.deployment, deployer, poll=0.1)
        # What people start with: exactly what they will put at risk, so that the report adds up.
        for client in (self.poster, self.miner, self.liar, *self.verifiers):
            bank.mint_test_tokens(client.address, self.deployment.token.parse("1000"))
        checkpoints = CheckpointCache(self.poster, self.store, self.folder / "checkpoints")
        self.checkpoints = checkpoints
        self.nodes = [
            VerifierNode(
                client,
                self.store,
                Journal(self.folder / "journals" / f"{client.address}.sqlite"),
                BatchChecker(
                    client,
                    self.store,
                    self.pool,
                    fetch_seconds=5.0,
                    scorer_for=scorer_maker(checkpoints),
                ),
                keeper=place == 0,
            )
            for place, client in enumerate(self.verifiers)
        ]

    def miner_of(self, client: MarketClient) -> Miner:
        return Miner(client, self.store, Spool(self.folder / "spool" / client.address), poll=0.2)

    def settle(self, batches: list[int]) -> None:
        """Lets all verifiers work until these batches have come to their end."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while any(self._is_open(batch) for batch in batches):
            busy = False
            for node in self.nodes:
                busy |= bool(node.run_once())
            if not busy:
                time.sleep(0.2)
            if time.monotonic() > deadline:
                raise TransactionTimeout(
                    f"batches {batches} did not settle within {_PATIENCE_SECONDS:g} s",
                    fix="run with --verbose to see what the verifiers met",
                )

    def pass_time(self, seconds: int) -> None:
        """Moves the chain's clock: the one thing here that no public chain does."""
        self.node.increase_time(seconds)
        self.node.mine(1)

    def _is_open(self, batch: int) -> bool:
        phase = self.poster.batch(batch).phase
        return phase not in (BatchPhase.SETTLED, BatchPhase.VOID)

    def _client(self, key: LocalAccount) -> MarketClient:
        return MarketClient(self.node.url, self.deployment, key, poll=0.1, on_gas=self.meter.spend)
