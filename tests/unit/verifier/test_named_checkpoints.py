"""Which checkpoints a batch of tiers A and B may name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from verifier_node.checking import BatchChecker

BATCH = SimpleNamespace(id=7)
BOUNTY = SimpleNamespace(terms=SimpleNamespace(trainer="trainer"))


class Chain:
    """Checkpoint 1, and a batch committed in block 100 at log 5. counted: what the registry, a
    contract, took for the number of its block."""

    def __init__(self, registered, counted, trainer="trainer"):
        self._registered = registered
        self._known = SimpleNamespace(id=1, trainer=trainer, registered_block=counted)

    def checkpoint_count(self):
        return 1

    def checkpoint(self, ident):
        return self._known

    def registration(self, ident):
        return _event(*self._registered)

    def batch_committed(self, ident):
        return _event(100, 5)


def _event(block, log_index):
    return SimpleNamespace(block=block, log_index=log_index)


def _is_policy(chain, checkpoint=1):
    checker = BatchChecker(chain, None, None, fetch_seconds=0, scorer_for=None)
    return checker._is_policy(checkpoint, BATCH, BOUNTY)


@pytest.mark.parametrize("counted", [5, 100, 10**6])  # on Arbitrum: a number of Ethereum's
@pytest.mark.parametrize(
    ("registered", "counts"),
    [((99, 9), True), ((100, 4), True), ((100, 6), False), ((101, 0), False)],
)
def test_what_was_registered_before_the_commit_counts_by_events(registered, counts, counted):
    assert _is_policy(Chain(registered, counted)) is counts


def test_of_the_bountys_trainer_and_registered_at_all():
    assert not _is_policy(Chain((1, 0), 1, trainer="somebody"))
    assert not _is_policy(Chain((1, 0), 1), checkpoint=2)
    assert not _is_policy(Chain((1, 0), 1), checkpoint=0)
