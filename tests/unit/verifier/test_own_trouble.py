"""What is wrong with this node is no finding: a vote on it would be a wrong one."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace

import pytest

from marketplace.gym.spec import builtin_spec
from marketplace.protocol.errors import (
    CheckerFailed,
    CheckpointError,
    ContentCorrupt,
    ContentTooLarge,
    ContentUnavailable,
    StorageError,
    TracemarketError,
)
from marketplace.protocol.trace import Tier
from marketplace.protocol.verdict import UNAVAILABLE
from verifier_node import checking
from verifier_node.checking import BatchChecker
from verifier_node.earlier import Lookback
from verifier_node.sold import SoldIndex

FULL = StorageError("can't write 'assets': No space left on device")
BATCH = SimpleNamespace(id=1, bounty=1, root=bytes(32), count=1)


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> BatchChecker:
    """Everything is there and can be judged, but for what a test breaks."""
    terms = SimpleNamespace(environment=bytes(32), tier=Tier.C)
    reader = SimpleNamespace(
        bounty=lambda ident: SimpleNamespace(id=ident, terms=terms),
        rounds_of=lambda batch: [1],
        first_drawn_with=lambda batch: bytes(32),
    )
    store = SimpleNamespace(has=lambda cid: True, put=lambda data: None)
    pool = SimpleNamespace(assets=None)
    monkeypatch.setattr(checking, "fetch_spec", lambda *_: builtin_spec("chain_sum"))
    monkeypatch.setattr(checking, "fetch_batch", lambda *_: b"")
    monkeypatch.setattr(checking, "batch_terms", lambda *_: terms)
    monkeypatch.setattr(checking, "open_batch", lambda *_, **__: [])
    return BatchChecker(reader, store, pool, fetch_seconds=0, scorer_for=None)  # type: ignore[arg-type]


def raising(error: Exception):
    def step(*_: object, **__: object) -> None:
        raise error

    return step


@pytest.mark.parametrize("step", ["fetch_spec", "fetch_batch", "check_batch"])
def test_a_full_disk_is_no_unavailable_batch(checker, monkeypatch, step: str) -> None:
    monkeypatch.setattr(checking, step, raising(FULL))
    with pytest.raises(StorageError, match="No space left"):
        checker.find(BATCH)


def test_a_full_disk_is_no_unavailable_data_set(checker, monkeypatch) -> None:
    monkeypatch.setattr(checker, "_fetch_assets", raising(FULL))
    with pytest.raises(StorageError, match="No space left"):
        checker.find(BATCH)


@pytest.mark.parametrize(
    "error", [ContentUnavailable("gone"), ContentCorrupt("other bytes"), CheckpointError("broken")]
)
def test_what_others_had_to_provide_is_a_finding(checker, monkeypatch, error) -> None:
    monkeypatch.setattr(checking, "check_batch", raising(error))
    found = checker.find(BATCH)
    assert (found.attestation, found.check) == (UNAVAILABLE, None)


def test_a_data_set_over_its_limit_is_a_finding(checker, monkeypatch) -> None:
    monkeypatch.setattr(checker, "_fetch_assets", raising(ContentTooLarge("too large")))
    assert checker.find(BATCH).attestation == UNAVAILABLE


def test_an_index_that_breaks_while_texts_are_compared_is_no_finding(checker, monkeypatch) -> None:
    index = SoldIndex(None)
    lookback = Lookback(index, (1,), 0)
    index._db.close()
    monkeypatch.setattr(checking, "check_batch", lambda *_, **__: list(lookback.sold(bytes(32))))
    with pytest.raises(CheckerFailed, match="the index of earlier texts can't be used") as caught:
        checker.find(BATCH)
    assert isinstance(caught.value.__cause__, sqlite3.Error)
    assert isinstance(caught.value, TracemarketError)  # a pass logs these and goes on
