"""A miner, verifier nodes and a store around a market on Anvil, for tests of the whole loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Protocol

from eth_account.signers.local import LocalAccount

from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import MINIMAL
from marketplace.chain.records import Batch, BatchPhase, PayRule
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import LastLineAnswer, builtin_spec, environment_id, spec_bytes
from marketplace.miner.mine import Miner
from marketplace.miner.sampler import Completion, SamplingRules
from marketplace.miner.spool import Spool
from marketplace.protocol.verdict import Verdict, batch_verdicts
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.store import ContentStore
from verifier_node.checking import BatchChecker, Finding
from verifier_node.daemon import VerifierNode
from verifier_node.duties import Done
from verifier_node.journal import Journal
from verifier_node.watchtower import Watchtower

COURTLY = replace(
    MINIMAL,
    name="courtly",
    draw_timeout=3600,
    commit_window=1200,
    reveal_window=1200,
    challenge_window=600,
    appeal_window=300,
    opening_window=300,
)
"""Windows that even a slow machine keeps to: Anvil's clock runs on beside the steps of a test."""
APPEALS = COURTLY.appeal_window + 1
"""A step of time that ends appeals and unanswered openings, and no commits."""


def courtly_market(
    market: object, courtly: Deployment, wealth: int, holders: Sequence[LocalAccount]
) -> object:
    """A MarketKit like `market`, of the market with COURTLY's windows, in which each holder has so
    much."""
    kit = type(market)(market.anvil, courtly, market.accounts)
    for account in holders:
        kit.reader.mint_test_tokens(account.address, wealth)
    return kit


_ONE_LINE = builtin_spec("chain_sum")
SUMS = _ONE_LINE.model_copy(
    update={
        "answer": LastLineAnswer(kind="last_line"),
        "sampling": _ONE_LINE.sampling.model_copy(update={"stop": ()}),
    }
)
"""With more than one right text for a question: copies in a group are worth nothing."""


_groups = count()


class Arithmetic:
    """Answers sums: every other sample of a group is wrong. No language model: where tests are
    about the market, what samples is not the question. No text comes twice: of two tasks one in
    700 asks the same, and a copy is worth nothing."""

    model = "arithmetic"

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        for prompt in prompts:
            left, sign, right = re.findall(r"(-?\d+) ([+-]) (\d+) =", prompt)[-1]
            answer = int(left) + int(right) * (1 if sign == "+" else -1)
            answers = (answer + (place % 2) * (1 + place) for place in range(rules.group_size))
            group = next(_groups)
            yield tuple(
                Completion(f"Sample {place} of group {group}:\n{said}", None, None, "stop")
                for place, said in enumerate(answers)
            )


Lie = Callable[[Finding], Finding]


class LyingChecker(BatchChecker):
    """Checks like an honest member, then says what the lie makes of it."""

    lie: Lie

    def find(self, batch: Batch) -> Finding:
        return self.lie(super().find(batch))


def false_verdicts(change: Callable[[int, Verdict], Verdict]) -> Lie:
    """The lie that some verdicts are others, with a tree that fits them."""

    def lie(finding: Finding) -> Finding:
        assert finding.check is not None
        told = tuple(change(place, one) for place, one in enumerate(finding.check.verdicts))
        said = batch_verdicts(finding.check.batch, told).attestation
        return Finding(said, replace(finding.check, verdicts=told, attestation=said), "a lie")

    return lie


class Walker(Protocol):
    """A node or a watchtower."""

    def run_once(self) -> list[Done]: ...


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
        data = spec_bytes(SUMS)
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
        return VerifierNode(client, chosen, journal, checker, fetch_seconds=0, **options)

    def liar(
        self, key: LocalAccount, lie: Lie, *, store: ContentStore | None = None, **options: object
    ) -> VerifierNode:
        """A node that lies. store: where it puts its verdict files; that of all without it."""
        client = self.market.client(key)
        checker = LyingChecker(client, self.store, self.pool, fetch_seconds=0, scorer_for=None)
        checker.lie = lie
        journal = Journal(self.folder / f"journal-{key.address}.sqlite")
        chosen = store or self.store
        return VerifierNode(client, chosen, journal, checker, fetch_seconds=0, **options)

    def tower(self, key: LocalAccount, *, max_bonds: int = 10**9, **options: object) -> Watchtower:
        client = self.market.client(key)
        checker = BatchChecker(client, self.store, self.pool, fetch_seconds=0, scorer_for=None)
        journal = Journal(self.folder / f"watch-{key.address}.sqlite")
        return Watchtower(
            client,
            self.store,
            journal,
            checker,
            max_bonds=max_bonds,
            fetch_seconds=0,
            **options,
        )

    def nodes(self, keys: Sequence[LocalAccount]) -> list[VerifierNode]:
        """Nodes of these verifiers; the first one keeps."""
        return [self.node(key, keeper=place == 0) for place, key in enumerate(keys)]

    def drive(
        self,
        nodes: Sequence[Walker],
        batch: int,
        passes: int = 20,
        *,
        until: Sequence[BatchPhase] = (BatchPhase.SETTLED, BatchPhase.VOID),
        seconds: int = 3,
    ) -> BatchPhase:
        """Passes of all nodes, with a block and some seconds between, until the batch ends or
        comes to one of the phases `until`."""
        for _ in range(passes):
            for node in nodes:
                node.run_once()
            phase = self.market.reader.batch(batch).phase
            if phase in until:
                return phase
            self.market.anvil.mine(2)
            self.market.pass_time(seconds)
        return self.market.reader.batch(batch).phase
