"""Following a chain: pages, restarts, crashes in the middle, reorgs, and files of other markets."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from marketplace.chain.blocks import Event
from marketplace.indexer import follow
from marketplace.indexer.follow import Indexer
from marketplace.indexer.queries import open_snapshot
from marketplace.indexer.store import RULES, IndexStore
from marketplace.protocol.errors import ChainError, ConfigError, WrongChain

Store = Callable[..., IndexStore]


class PowerCut(BaseException):
    """Not an Exception: nothing may catch it on its way."""


@pytest.mark.parametrize("page_blocks", [1, 3, 1000])
def test_page_size_makes_no_difference(
    chain: Any, sim: ModuleType, index: Store, dump: Any, page_blocks: int
) -> None:
    sim.play(chain, random.Random(1), 60)
    assert dump(index("paged", page_blocks=page_blocks)) == dump(index("whole"))


def test_following_step_by_step_equals_one_pass_and_a_replay(
    chain: Any, sim: ModuleType, index: Store, dump: Any
) -> None:
    dice = random.Random(2)
    for _ in range(12):
        sim.play(chain, dice, 10)
        store = index("followed", undo_blocks=15)
    followed = dump(store)
    assert len(followed["batches"]) > 5
    assert followed == dump(index("at once"))
    store.rebuild()
    assert dump(store) == followed


@pytest.mark.parametrize("seed", range(8))
def test_after_reorgs_the_index_is_that_of_the_new_chain(
    chain: Any, sim: ModuleType, index: Store, dump: Any, seed: int
) -> None:
    dice = random.Random(seed)
    for _ in range(10):
        sim.play(chain, dice, dice.randint(1, 12))
        # 6 undoable blocks: some of these reorgs are deeper.
        store = index("followed", undo_blocks=6, page_blocks=4)
        assert dump(store) == dump(index(f"fresh {chain.head().hash.hex()}"))
        chain.reorg(dice.randint(1, min(10, len(chain.blocks) - sim.START - 5)))
        sim.play(chain, dice, dice.randint(1, 3))
    store = index("followed", undo_blocks=6)
    followed = dump(store)
    assert followed == dump(index("fresh"))
    store.rebuild()
    assert dump(store) == followed


def test_a_reorg_is_reported_with_its_fork(chain: Any, sim: ModuleType, open_store: Store) -> None:
    store = open_store()
    indexer = Indexer(chain, store, clock=lambda: 7.5)
    assert indexer.run_once().rolled_back_to is None
    fork = chain.head()
    chain.mine(chain.market.deposit(sim.account(1), 5))
    assert indexer.run_once().events == 1
    chain.reorg(1)
    chain.mine(chain.market.deposit(sim.account(2), 6))
    progress = indexer.run_once()
    assert progress.rolled_back_to == fork.number
    assert (progress.indexed, progress.events) == (fork.number + 1, 1)
    with open_snapshot(store.path, lambda: 0) as seen:
        assert seen.balance(sim.account(1)).balance == 0
        assert seen.balance(sim.account(2)).balance == 6
        assert seen.sync.checked_at == 7


def test_a_chain_that_got_shorter_is_followed_back(
    chain: Any, sim: ModuleType, index: Store, dump: Any
) -> None:
    before = dump(index())
    chain.mine(chain.market.deposit(sim.account(1), 5))
    assert dump(index()) != before
    chain.reorg(1)
    assert dump(index()) == before


def test_a_reset_chain_is_indexed_anew(chain: Any, sim: ModuleType, index: Store) -> None:
    index()
    other = sim.SimulatedChain(sim.SimulatedMarket(sim.deployment()))
    other.blocks[sim.START] = replace(other.blocks[sim.START], hash=b"\xaa" * 32)
    chain.blocks, chain.logs = other.blocks, other.logs
    store = index()
    assert store.position().hash == "0x" + "aa" * 32
    with open_snapshot(store.path, lambda: 0) as seen:
        assert seen.bounties(0, 10) == []


def test_confirmations_leave_the_newest_blocks_out(
    chain: Any, sim: ModuleType, open_store: Store
) -> None:
    store = open_store()
    chain.mine(chain.market.deposit(sim.account(1), 5))
    progress = Indexer(chain, store, clock=lambda: 0, confirmations=2).run_once()
    assert progress.indexed == chain.head().number - 2
    assert progress.head == chain.head().number
    # A reorg of unconfirmed blocks is none for the index.
    chain.reorg(2)
    chain.mine()
    chain.mine()
    again = Indexer(chain, store, clock=lambda: 0, confirmations=2).run_once()
    assert again.rolled_back_to is None


@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_a_crash_in_the_middle_of_a_page_loses_and_repeats_nothing(
    chain: Any, sim: ModuleType, index: Store, dump: Any, monkeypatch: Any, at: int
) -> None:
    store = index("crashed")
    before = dump(store)
    sim.play(chain, random.Random(at), 30)
    calls = iter(range(1000))
    names = [event.name for block in chain.logs for event in block]
    assert len(names) > 30

    for key, rule in list(RULES.items()):

        def crashing(rows: Any, event: Any, rule: Any = rule) -> None:
            rule(rows, event)
            if next(calls) == at:
                rows.flush()  # the worst moment: rows are written, the position is not
                raise PowerCut

        monkeypatch.setitem(RULES, key, crashing)
    with pytest.raises(PowerCut):
        index("crashed")
    assert dump(store) == before
    monkeypatch.undo()
    assert dump(index("crashed")) == dump(index("whole"))


def test_a_crash_in_the_middle_of_a_rollback_changes_nothing(
    chain: Any, sim: ModuleType, index: Store, dump: Any, monkeypatch: Any
) -> None:
    sim.play(chain, random.Random(3), 30)
    store = index("crashed", undo_blocks=1)
    before = dump(store)
    chain.reorg(8)
    chain.mine()

    def crash(*_: Any) -> None:
        raise PowerCut

    monkeypatch.setattr(store, "_project", crash)
    with pytest.raises(PowerCut):
        Indexer(chain, store, clock=lambda: 0).run_once()
    assert dump(store) == before
    monkeypatch.undo()
    assert dump(index("crashed")) == dump(index("whole"))


def test_a_chain_that_changes_between_two_reads_is_noticed(
    chain: Any, sim: ModuleType, index: Store, dump: Any
) -> None:
    before = dump(index("moved"))
    chain.mine(chain.market.deposit(sim.account(1), 5))
    chain.mine()

    def reorg() -> None:
        chain.on_events = lambda: None
        chain.reorg(2)
        chain.mine(chain.market.deposit(sim.account(2), 6))
        chain.mine()

    chain.on_events = reorg
    with pytest.raises(ChainError, match="the chain changed while blocks 15 to 16 were read"):
        index("moved")
    assert dump(index("moved")) == dump(index("whole")) != before


@pytest.mark.parametrize("read", range(1, 8))
@pytest.mark.parametrize("deposited", ["before", "after", "both"])
@pytest.mark.parametrize("depth", [2, 3])
def test_a_reorg_before_any_read_of_a_page_loses_nothing(
    chain: Any, sim: ModuleType, index: Store, dump: Any, read: int, deposited: str, depth: int
) -> None:
    """depth 2 replaces the blocks of the page, 3 also the one before it."""

    def mine(logs: bool, who: int) -> None:
        chain.mine(*[chain.market.deposit(sim.account(who), who)] * logs)

    mine(depth == 3, 4)
    index("moved")
    mine(deposited != "after", 5)
    mine(False, 0)
    left = iter(range(read, -1, -1))

    def reorg_in_time() -> None:
        if next(left) == 1:
            chain.on_block = lambda: None
            chain.reorg(depth)
            if depth == 3:
                mine(True, 7)
            mine(deposited != "before", 6)
            mine(False, 0)

    chain.on_block = reorg_in_time
    with contextlib.suppress(ChainError):
        index("moved")
    chain.on_block = lambda: None
    assert dump(index("moved")) == dump(index("whole"))


def test_a_shallow_rollback_replays_nothing(
    chain: Any, sim: ModuleType, index: Store, dump: Any, monkeypatch: Any
) -> None:
    sim.play(chain, random.Random(4), 40)
    index()
    chain.reorg(30)
    sim.play(chain, random.Random(5), 10)
    monkeypatch.setattr(IndexStore, "_replay", None)
    assert dump(index()) == dump(index("whole"))


def test_events_of_another_branch_are_refused(chain: Any, sim: ModuleType, index: Store) -> None:
    index()
    chain.mine(chain.market.deposit(sim.account(1), 5))
    number = chain.head().number
    chain.logs[number] = [replace(chain.logs[number][0], block_hash=b"\x01" * 32)]
    with pytest.raises(ChainError, match="the chain changed"):
        index()


def test_two_writers_do_not_repeat_a_page(
    chain: Any, sim: ModuleType, open_store: Store, dump: Any, index: Store
) -> None:
    first, second = open_store("shared"), open_store("shared")
    Indexer(chain, first, clock=lambda: 0).run_once()
    chain.mine(chain.market.deposit(sim.account(1), 5))

    def overtake() -> None:
        chain.on_events = lambda: None
        Indexer(chain, second, clock=lambda: 0).run_once()

    chain.on_events = overtake
    with pytest.raises(ChainError, match="something else writes to it"):
        Indexer(chain, first, clock=lambda: 0).run_once()
    assert dump(first) == dump(index("alone"))


def test_old_undo_rows_and_empty_blocks_are_dropped(
    chain: Any, sim: ModuleType, index: Store
) -> None:
    for _ in range(30):
        chain.mine()
        store = index(undo_blocks=5)
    kept = store.block_numbers()
    assert kept[0] == sim.START
    assert kept[-1] == chain.head().number
    assert len([n for n in kept if n > sim.START + 5]) <= 6
    with sqlite3.connect(store.path) as file:
        assert file.execute("SELECT count(*) FROM undo").fetchone() == (0,)
    file.close()
    chain.reorg(20)  # below all that was kept, above the last event
    assert index(undo_blocks=5).position().number <= chain.head().number


def test_following_goes_on_after_failures_and_ends_when_told(
    chain: Any, sim: ModuleType, index: Store, monkeypatch: Any
) -> None:
    monkeypatch.setattr(follow, "RETRY_SECONDS", (0.001, 0.002))
    store, stop, heads = index(), threading.Event(), 0

    class Flaky:
        block = staticmethod(chain.block)

        def head(self) -> Any:
            nonlocal heads
            heads += 1
            if heads in (1, 2):
                raise ChainError("the node is away")
            if heads == 4:
                stop.set()
            return chain.head()

        def events(self, from_block: int, to_block: int) -> Iterator[Event]:
            return iter(chain.events(from_block, to_block))

    chain.mine(chain.market.deposit(sim.account(1), 5))
    Indexer(Flaky(), store, clock=lambda: 0).follow(stop, poll_interval=0.001)
    assert heads == 4
    assert store.position().number == chain.head().number


def test_stopping_ends_a_long_pass_after_a_page(chain: Any, open_store: Store) -> None:
    store, stop = open_store(), threading.Event()
    chain.on_events = stop.set
    progress = Indexer(chain, store, clock=lambda: 0, page_blocks=1).run_once(stop)
    assert progress.indexed == 11
    assert progress.behind == chain.head().number - 11


def test_a_node_below_the_deployment_is_no_chain_of_it(chain: Any, open_store: Store) -> None:
    del chain.blocks[5:]
    with pytest.raises(ChainError, match="has no block 10, where the market was deployed"):
        Indexer(chain, open_store(), clock=lambda: 0).run_once()


def test_a_file_of_another_market_is_refused(
    chain: Any, sim: ModuleType, index: Store, open_store: Store
) -> None:
    index().close()
    with pytest.raises(WrongChain, match=r"index\.sqlite is of chain 31337, not 1 *\. Fix: delete"):
        open_store(deployment=sim.deployment(chain_id=1))
    with pytest.raises(ConfigError, match=r"another market: its market is 0x\w{40}, not 0x\w{40}"):
        open_store(deployment=sim.deployment(market=77))
    moved = replace(sim.deployment(), block=3)
    with pytest.raises(ConfigError, match="another deployment file of this market: block 10"):
        open_store(deployment=moved)
    assert open_store().position() is not None


def test_a_file_that_is_no_index_is_refused(tmp_path: Any, open_store: Store) -> None:
    (tmp_path / "text").write_text("not a database " * 100)
    with pytest.raises(ConfigError, match="text can't be used: file is not a database"):
        open_store("text")
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(ConfigError, match="other is another program's database"):
        open_store("other")
    with sqlite3.connect(tmp_path / "old") as old:
        old.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="old is an index of version 99"):
        open_store("old")
    with (
        pytest.raises(ConfigError, match="there is no index"),
        open_snapshot(tmp_path / "none", lambda: 0),
    ):
        pass
    open_store("empty")
    with (
        pytest.raises(ConfigError, match="no block was read yet"),
        open_snapshot(tmp_path / "empty", lambda: 0),
    ):
        pass


def test_readers_can_not_write(index: Store) -> None:
    with (
        open_snapshot(index().path, lambda: 0) as seen,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        seen._connection.execute("DELETE FROM money")
