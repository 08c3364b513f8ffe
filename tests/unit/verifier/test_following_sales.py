"""Taking in what was sold must not keep a node from its duties, whatever anybody withdraws."""

from __future__ import annotations

from types import SimpleNamespace

from marketplace.protocol.errors import ContentUnavailable
from marketplace.protocol.verdict import Attestation
from verifier_node.checking import BatchChecker
from verifier_node.sold import Commit, SoldIndex, Turn

SAID = Attestation(b"\x0a" * 32, 1, 0)
GONE = 5
"""Environments whose spec nobody has any more."""


class Nothing:
    """A store in which every look takes its time and finds nothing."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looked: list[bytes] = []

    def get(self, cid, *, timeout: float, max_bytes: int) -> bytes:
        self.now += timeout
        self.looked.append(cid.digest)
        raise ContentUnavailable("gone")

    def clock(self) -> float:
        return self.now


def sold_by(said: Attestation | None) -> SoldIndex:
    index = SoldIndex(None)
    numbers = range(1, GONE + 1)
    commits = [
        Commit(n, bytes([n]) * 32, n, "0x", bytes([n]) * 32, b"\x05" * 32, 85) for n in numbers
    ]
    index.advance(9, b"\x00" * 32, commits, [Turn(n, 9, n, said) for n in numbers])
    return index


def following(store: Nothing, index: SoldIndex) -> BatchChecker:
    block = SimpleNamespace(number=9, hash=b"\x00" * 32)
    reader = SimpleNamespace(
        head=lambda: block, block=lambda number: block, deployment=SimpleNamespace(block=1)
    )
    return BatchChecker(
        reader, store, None, fetch_seconds=20.0, scorer_for=None, sold=index, clock=store.clock
    )  # type: ignore[arg-type]


def test_a_pass_waits_for_one_withdrawn_environment_at_most() -> None:
    store = Nothing()
    checker = following(store, sold_by(SAID))
    for done in range(GONE):
        checker.follow()
        assert len(set(store.looked)) == len(store.looked) == done + 1  # each in its turn
    for _ in range(1000):
        store.now += 2.0
        checker.follow()
    # Less and less often: at most one look an hour for each in the end.
    assert len(store.looked) < 10 * GONE


def test_an_environment_in_which_nothing_was_sold_is_not_looked_for() -> None:
    store = Nothing()
    following(store, sold_by(None)).follow()
    assert store.looked == []


def test_an_index_that_can_not_be_read_does_not_end_the_pass(caplog) -> None:
    store = Nothing()
    index = sold_by(SAID)
    checker = following(store, index)
    index._db.close()
    checker.follow()
    assert "the index of earlier texts can't be used" in caplog.text
