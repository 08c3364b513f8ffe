"""On a real Anvil: checkpoints whose weights trickle keep no node from its other votes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import COURTLY, Arithmetic, Loop, courtly_market

from marketplace.chain.records import BatchPhase, RoundPhase, SeatState
from marketplace.gym.pool import CheckPool
from marketplace.protocol.errors import ContentUnavailable
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.trace import Tier
from marketplace.protocol.verdict import UNAVAILABLE
from marketplace.storage.cid import Cid
from marketplace.storage.embedded import EmbeddedStore
from trainer.turn import publish
from verifier_node import checkpoints
from verifier_node.checking import BatchChecker
from verifier_node.checkpoints import CheckpointCache
from verifier_node.daemon import VerifierNode
from verifier_node.fetching import FETCH_SECONDS, Fetches
from verifier_node.journal import Journal

TUSD = 10**6
AT_ONCE, OF_ONE = 6, 4
UNSERVED = AT_ONCE + 2
PATIENCE = COURTLY.commit_window // 2


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def courtly(deploy_once):
    return deploy_once(COURTLY)


class Trickling(EmbeddedStore):
    """Sends ten bytes of some files, and holds on to who reads them until it is `over`."""

    def __init__(self, directory, slow: set[Cid]) -> None:
        super().__init__(directory)
        self.slow, self.over = slow, threading.Event()
        self.changed, self.held = threading.Condition(), set[threading.Thread]()

    def get_file(self, cid, path, *, on_bytes=None, **options):
        if cid in self.slow:
            if on_bytes is not None:
                on_bytes(10)
            self._hold(self.held.add)
            assert self.over.wait(300)
            self._hold(self.held.discard)
            raise ContentUnavailable("no more came")
        super().get_file(cid, path, on_bytes=on_bytes, **options)

    def _hold(self, change) -> None:
        with self.changed:
            change(threading.current_thread())
            self.changed.notify_all()


class Numbers(Arithmetic):
    """With what tiers A and B want of a trace."""

    def sample(self, prompts, rules, *, seed):
        for group in super().sample(prompts, rules, seed=seed):
            yield tuple(replace(one, tokens=(1,), logprobs=(-0.5,)) for one in group)


class Waiting(Loop):
    """Nodes that fetch beside their passes. Their scorers load what a batch names, and agree."""

    def prepare(self) -> None:
        self.time = SimpleNamespace(now=1000.0)
        self.slow: set[Cid] = set()
        self.served = Trickling(self.folder / "store", self.slow)
        self.threads: dict[threading.Thread, bool] = {}

    def checkpoint(self, key, name: str, *, served: bool) -> int:
        model = self.folder / name
        model.mkdir()
        (model / "model.safetensors").write_bytes(name.encode())
        if not served:
            self.slow.add(self.store.put(name.encode()))
        return publish(self.market.client(key), self.store, model, parent=None, root=ZERO32)[0]

    def batch(self, key, trainer, name: str, *, served: bool, bounty: int) -> int:
        checkpoint = self.checkpoint(trainer, name, served=served)
        return self.miner(key).mine(bounty, 1, Numbers(), checkpoint=checkpoint).batch

    def node(self, key, **options) -> VerifierNode:
        client = self.market.client(key)
        cache = CheckpointCache(
            client,
            self.served,
            self.folder / f"checkpoints-{key.address}",
            fetches=Fetches(
                20.0,
                at_once=AT_ONCE,
                of_one=OF_ONE,
                clock=lambda: self.time.now,
                start=self.start,
            ),
            clock=lambda: self.time.now,
        )

        def off_policy(checkpoint, groups):
            cache.policy(checkpoint)
            return [False for group in groups for _ in group.traces]

        checker = BatchChecker(
            client,
            self.store,
            self.pool,
            fetch_seconds=0,
            scorer_for=lambda spec: SimpleNamespace(off_policy=off_policy),
        )
        journal = Journal(self.folder / f"journal-{key.address}.sqlite")
        return VerifierNode(client, self.store, journal, checker, fetch_seconds=0, **options)

    def start(self, run) -> None:
        def whole():
            run()
            with self.served.changed:
                self.threads[threading.current_thread()] = False
                self.served.changed.notify_all()

        thread = threading.Thread(target=whole, daemon=True)
        self.threads[thread] = True
        thread.start()

    def settle_down(self) -> None:
        """Until every download has ended or is held by the store."""
        with self.served.changed:
            assert self.served.changed.wait_for(
                lambda: all(
                    thread in self.served.held
                    for thread, runs in list(self.threads.items())
                    if runs
                ),
                timeout=60,
            )

    def work(self, nodes, over, passes: int = 12) -> None:
        for _ in range(passes):
            for node in nodes:
                node.run_once()
            self.settle_down()
            if over():
                return
            self.market.anvil.mine(2)
            self.market.pass_time(3)
        raise AssertionError("it takes too long")


@pytest.fixture
def loop(market, courtly, accounts, pool, tmp_path, monkeypatch) -> Iterator[Waiting]:
    monkeypatch.setattr(checkpoints, "_load", lambda folder, base: folder.name)
    everybody = [accounts.poster, accounts.miner, accounts.other_miner, *accounts.verifiers]
    loop = Waiting(courtly_market(market, courtly, 10_000 * TUSD, everybody), pool, tmp_path)
    loop.prepare()
    yield loop
    loop.served.over.set()


def test_a_node_with_many_unserved_checkpoints_votes_on_another_batch_in_time(loop, accounts):
    market, liar = loop.market, accounts.verifiers[7]
    keys = market.stake_verifiers(3, 5_000 * TUSD)
    nodes = loop.nodes(keys)

    def bounty(trainer):
        return loop.open_bounty(tier=Tier.B, trainer=trainer.address)

    lies = bounty(liar)
    unserved = [
        loop.batch(accounts.other_miner, liar, f"lie-{n}", served=False, bounty=lies)
        for n in range(UNSERVED)
    ]
    # The last in line, and its checkpoint has to be fetched too.
    honest = loop.batch(
        accounts.miner, accounts.trainer, "weights", served=True, bounty=bounty(accounts.trainer)
    )
    reader = market.reader

    def phase(batch):
        return reader.batch(batch).phase

    loop.work(nodes, lambda: phase(honest) is BatchPhase.CHALLENGEABLE)
    assert reader.batch(honest).attestation.units > 0
    # Meanwhile nobody said a word about the others, whose content may still come.
    assert len(loop.served.held) == OF_ONE * len(nodes)
    for batch in unserved:
        round_ = reader.round(reader.batch(batch).round)
        assert round_.phase is RoundPhase.COMMITTING
        seats = [reader.seat_of(round_.id, key.address) for key in keys]
        assert {seat.state for seat in seats if seat is not None} == {SeatState.DRAWN}

    # What was waited for in vain is called so, of those too whose turn came later.
    market.pass_time(PATIENCE)
    loop.time.now += FETCH_SECONDS
    loop.served.over.set()
    loop.settle_down()
    loop.work(nodes, lambda: all(phase(one) is BatchPhase.CHALLENGEABLE for one in unserved))
    assert {reader.batch(one).attestation for one in unserved} == {UNAVAILABLE}
