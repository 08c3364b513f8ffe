"""The index and its API against a real chain: every answer equals the contracts' own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from api_kit import BAD, GOOD, TUSD, Get, check_everything, indexed, settle

from marketplace.chain.records import ContentId
from marketplace.protocol.verdict import (
    UNAVAILABLE,
)


@pytest.fixture
def get(market: Any, tmp_path: Path) -> Iterator[Get]:
    """JSON of a path, once the index has caught up; at the chain's own time."""
    with indexed(market, tmp_path) as get:
        yield get


def test_every_answer_through_the_lives_of_batches_equals_the_contracts(
    market: Any, accounts: Any, get: Get
) -> None:
    reader = market.reader

    def check() -> None:
        check_everything(get, reader)

    bounty = market.open_bounty()
    market.stake_verifiers(5)
    check()
    market.client(accounts.miner).deposit(7 * TUSD)
    market.open_assignment(bounty)
    first = market.commit_batch(bounty)
    check()  # awaiting randomness
    market.wait_for_randomness(reader.round(reader.batch(first).round).draw_point)
    check()  # drawable
    drawn = market.draw(first)
    check()  # committing
    market.vote(drawn, [GOOD, GOOD, BAD])
    check()  # closed
    reader.tally(first, GOOD)
    check()  # challengeable
    market.pass_challenge_window()
    check()  # settleable
    reader.settle(first)
    check()
    seats = get(f"/rounds/{drawn}")["seats"]
    assert [seat["coherent"] for seat in seats] == [True, True, False]
    assert [int(seat["fee"]) for seat in seats[:2]] == [
        reader.balance(seat["verifier"]) for seat in seats[:2]
    ]
    assert seats[2]["penalty"] == str(100 * TUSD * 2000 // 10_000)

    # Nobody could read it; one member is absent.
    second = market.commit_batch(bounty, root=b"\x12" * 32)
    market.vote(market.draw(second), [UNAVAILABLE, None, UNAVAILABLE])
    check()
    settle(market, second, UNAVAILABLE)
    check()
    assert get(f"/batches/{second}")["attestation"]["outcome"] == "unavailable"

    # No quorum in three rounds: void.
    third = market.commit_batch(bounty, root=b"\x13" * 32)
    market.vote(market.draw(third), [GOOD, BAD, None])
    rules = market.deployment.parameters
    # Nobody narrows the conflict.
    market.pass_time(rules.commit_window + rules.reveal_window + rules.opening_window)
    reader.tally(third)
    check()
    for _ in range(2):
        drawn = market.draw(third)
        market.vote(drawn, [None] * reader.round(drawn).seats)
        reader.tally(third)
        check()
    assert get(f"/batches/{third}")["phase"] == "void"

    # Never drawn: stalled, then void.
    fourth = market.commit_batch(bounty, root=b"\x14" * 32)
    market.pass_time(market.deployment.parameters.draw_timeout + 1)
    check()
    assert get(f"/batches/{fourth}")["rounds"][0]["phase"] == "stalled"
    reader.void_stalled(fourth)
    check()

    # The others leave or go on.
    verifier = market.client(accounts.verifiers[0])
    verifier.request_unstake(100 * TUSD)
    check()
    market.pass_time(market.deployment.parameters.unbonding_delay + 1)
    verifier.claim_stake()
    verifier.withdraw()
    trainer = market.client(accounts.trainer)
    for parent in (0, 1):
        trainer.register_checkpoint(
            parent=reader.checkpoint(parent) if parent else None,
            content=ContentId(sha256(b"weights").digest(), 0x70),
            dataset_root=bytes([parent]) * 32,
        )  # fmt: skip
    check()
    market.pass_time(86_400)
    reader.refund_bounty(bounty)
    check()
    assert get(f"/bounties/{bounty}")["open"] is False


def test_a_real_reorg_is_followed(fresh_anvil: Any, accounts: Any, tmp_path: Path) -> None:
    market = fresh_anvil(deployed=True)
    with indexed(market, tmp_path) as get:
        follow_a_reorg(market, accounts, get)


def follow_a_reorg(market: Any, accounts: Any, get: Get) -> None:
    bounty = market.open_bounty()
    market.stake_verifiers(5)
    market.open_assignment(bounty)
    kept = market.commit_batch(bounty)
    before = get(f"/batches/{kept}")
    market.vote(market.draw(kept), [GOOD, GOOD, GOOD])
    market.client(accounts.stranger)
    fork = market.reader.head().number
    market.reader.tally(kept, GOOD)
    market.client(accounts.miner).deposit(3 * TUSD)
    market.open_bounty(5 * TUSD)
    lost = market.reader.head()
    assert get(f"/batches/{kept}")["phase"] == "challengeable"
    assert get("/health")["indexed_block"] == lost.number

    market.anvil.reorg(lost.number - fork)
    now = market.reader.head()
    assert now.number == lost.number
    assert now.hash != lost.hash
    check_everything(get, market.reader)
    after = get(f"/batches/{kept}")
    assert (after["phase"], after["attestation"]) == ("in_round", None)
    assert after["tx_hash"] == before["tx_hash"]
    assert get("/market")["bounties"] == 1
    market.open_bounty(6 * TUSD)
    check_everything(get, market.reader)
