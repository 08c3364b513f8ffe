"""A simulated chain with an open market, and stores that index it."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import simulated

from marketplace.indexer.follow import Indexer
from marketplace.indexer.rows import TABLES
from marketplace.indexer.store import IndexStore


@pytest.fixture(scope="session")
def sim() -> ModuleType:
    """simulated.py, which stands next to this file."""
    return simulated


@pytest.fixture
def chain(sim: ModuleType) -> Any:
    """A SimulatedChain with environment 1, bounty 1 and five staked verifiers."""
    chain = sim.SimulatedChain(sim.SimulatedMarket(sim.deployment()))
    sim.open_market(chain)
    return chain


@pytest.fixture
def open_store(tmp_path: Path, sim: ModuleType) -> Iterator[Callable[..., IndexStore]]:
    """Opens stores in the test's folder and closes them after it."""
    opened: list[IndexStore] = []

    def open_store(name: str = "index.sqlite", **options: Any) -> IndexStore:
        deployment = options.pop("deployment", None) or sim.deployment()
        opened.append(IndexStore(tmp_path / name, deployment, **options))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def index(chain: Any, open_store: Callable[..., IndexStore]) -> Callable[..., IndexStore]:
    """Index the chain as it is, in a new file or a further pass over one."""

    def index(name: str = "index.sqlite", **options: Any) -> IndexStore:
        follow = {key: options.pop(key) for key in ("page_blocks",) if key in options}
        store = open_store(name, **options)
        Indexer(chain, store, clock=lambda: 0, **follow).run_once()
        return store

    return index


@pytest.fixture
def dump() -> Callable[[IndexStore], dict[str, list[Any]]]:
    """Everything in an index that is a function of the chain."""

    def dump(store: IndexStore) -> dict[str, list[Any]]:
        connection = sqlite3.connect(store.path)
        try:
            tables = {table.name: table.columns for table in TABLES}
            tables["events"] = ("block", "log_index", "contract", "name", "args", "tx_hash")
            return {
                name: sorted(connection.execute(f"SELECT {', '.join(columns)} FROM {name}"))
                for name, columns in tables.items()
            }
        finally:
            connection.close()

    return dump
