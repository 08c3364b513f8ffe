"""A miner, verifier nodes and a store around a market on Anvil, for tests of the whole loop."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eth_account.signers.local import LocalAccount

from marketplace.chain.records import BatchPhase, PayRule
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import builtin_spec, environment_id, spec_bytes
from marketplace.miner.mine import Miner
from marketplace.miner.sampler import Completion, SamplingRules
from marketplace.miner.spool import Spool
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.store import ContentStore
from verifier_node.checking import BatchChecker
from verifier_node.daemon import VerifierNode
from verifier_node.journal import Journal


class Arithmetic:
    """Answers sums: every other sample of a group is wrong. No language model: where tests are
    about the market, what samples is not the question."""

    model = "arithmetic"

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        for prompt in prompts:
            left, sign, right = re.findall(r"(-?\d+) ([+-]) (\d+) =", prompt)[-1]
            answer = int(left) + int(right) * (1 if sign == "+" else -1)
            yield tuple(
                Completion(
                    str(answer if place % 2 == 0 else answer + 1 + place), None, None, "stop"
                )
                for place in range(rules.group_size)
            )


@dataclass(slots=True)
class Loop:
    """Steps of the loop. `market` is the conftest's MarketKit."""

    market: object
    pool: CheckPool
    folder: Path
    store: ContentStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = EmbeddedStore(self.folder / "store")

    def open_bounty(self, **terms: object) -> int:
        data = spec_bytes(builtin_spec("chain_sum"))
        self.store.put(data)
        poster = self.market.client(self.market.accounts.poster)
        ident = environment_id(data)
        if poster.environment_author(ident) is None:
            poster.register_environment(ident)
        chosen = {"environment": ident, "pay_rule": PayRule.INFORMATIVE} | terms
        return self.market.open_bounty(**chosen)

    def miner(self, key: LocalAccount | None = None, store: ContentStore | None = None) -> Miner:
        account = key or self.market.accounts.miner
        return Miner(
            self.market.client(account),
            store or self.store,
            Spool(self.folder / f"spool-{account.address}"),
            fetch_seconds=0,
            sleep=lambda _: self.market.anvil.mine(),
        )

    def node(
        self, key: LocalAccount, *, store: ContentStore | None = None, **options: object
    ) -> VerifierNode:
        client = self.market.client(key)
        chosen = store or self.store
        checker = BatchChecker(client, chosen, self.pool, fetch_seconds=0, scorer_for=None)
        journal = Journal(self.folder / f"journal-{key.address}.sqlite")
        return VerifierNode(client, chosen, journal, checker, **options)

    def nodes(self, keys: Sequence[LocalAccount]) -> list[VerifierNode]:
        """Nodes of these verifiers; the first one keeps."""
        return [self.node(key, keeper=place == 0) for place, key in enumerate(keys)]

    def drive(self, nodes: Sequence[VerifierNode], batch: int, passes: int = 20) -> BatchPhase:
        """Passes of all nodes, with a block and three seconds between, until the batch ends."""
        for _ in range(passes):
            for node in nodes:
                node.run_once()
            phase = self.market.reader.batch(batch).phase
            if phase in (BatchPhase.SETTLED, BatchPhase.VOID):
                return phase
            self.market.anvil.mine(2)
            self.market.pass_time(3)
        return self.market.reader.batch(batch).phase
