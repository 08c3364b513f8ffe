"""play: the market on its own Anvil beside its model, put back before each test."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driven_chain import DrivenChain
from play import ACCOUNTS, USUAL, Play, setting

from marketplace.chain.anvil import AnvilNode


@pytest.fixture(scope="session")
def _play() -> Iterator[Play]:
    with AnvilNode(accounts=ACCOUNTS) as node:
        chain = DrivenChain(node, USUAL)
        yield setting(chain)
        chain.close()


@pytest.fixture
def play(_play: Play) -> Play:
    _play.go_back()
    return _play
