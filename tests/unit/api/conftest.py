"""An API over an index of a simulated market."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parents[1] / "indexer"))

import simulated

from marketplace.api.app import create_app
from marketplace.indexer.follow import Indexer
from marketplace.indexer.store import IndexStore


@pytest.fixture(scope="session")
def sim() -> ModuleType:
    """The simulation that the indexer's tests use."""
    return simulated


@pytest.fixture
def chain(sim: ModuleType) -> Any:
    """A SimulatedChain with one environment, bounty 1 and five staked verifiers."""
    chain = sim.SimulatedChain(sim.SimulatedMarket(sim.deployment()))
    sim.open_market(chain)
    return chain


@pytest.fixture
def clock() -> list[float]:
    """The server's time: change its only element."""
    return [0.0]


@pytest.fixture
def get(
    chain: Any, sim: ModuleType, tmp_path: Path, clock: list[float]
) -> Iterator[Callable[..., Any]]:
    """get(path, status=200) -> JSON, after indexing the chain as it is."""
    store = IndexStore(tmp_path / "index.sqlite", sim.deployment())
    indexer = Indexer(chain, store, clock=lambda: clock[0])
    with TestClient(create_app(store.path, lambda: clock[0])) as client:

        def get(path: str, status: int = 200, **params: Any) -> Any:
            indexer.run_once()
            answer = client.get(path, params=params or None)
            assert answer.status_code == status, answer.text
            return answer.json()

        yield get
    store.close()
