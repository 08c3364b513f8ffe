"""Rounds on a real Anvil, through the chain client: late reveals, due draws, many calls in one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from court_kit import PRESET, STAKE, TRUTH, TUSD, Case, open_case

from marketplace.chain.client import Commit, Payment, Reveal
from marketplace.chain.records import ContentId, RoundPhase
from marketplace.protocol import commitments


@pytest.fixture(scope="module")
def windows(deploy_once):
    """The market with PRESET's windows."""
    return deploy_once(PRESET, same_token=True)


@pytest.fixture
def case(market, windows, accounts) -> Case:
    return open_case(market, accounts, windows)


def test_a_member_that_commits_and_does_not_reveal_pays_more_than_an_absent_one(case) -> None:
    kit, reader = case.kit, case.reader
    said, salt = case.tree(TRUTH).attestation, b"\x5a" * 32
    round_id = kit.draw(case.batch)
    rounds, subject = kit.deployment.address("rounds"), reader.round(round_id).subject
    seats = reader.seats(round_id)
    clients = [kit.client(kit.accounts.key_of(seat.verifier)) for seat in seats]
    for seat, client in zip(seats, clients, strict=True):
        hidden = commitments.commitment(
            31337, rounds, round_id, subject, client.address, said, salt
        )
        client.commit_verdict(round_id, seat.index, hidden)
    for seat, client in zip(seats[:2], clients[:2], strict=True):
        content = ContentId(b"\x01" * 32, 0x55)
        client.reveal_verdict(round_id, seat.index, said, salt, content)
    kit.pass_time(PRESET.reveal_window + 1)
    reader.tally(case.batch)
    case.settle()
    assert PRESET.late_bps > PRESET.absence_bps
    assert reader.verifier(clients[2].address).stake == STAKE - 20 * TUSD
    assert reader.pool() == 20 * TUSD
    assert case.everything() == case.money


def test_a_call_makes_the_draws_that_are_due_with_its_own_block(case, accounts) -> None:
    key = accounts.verifiers[0]
    point = case.reader.round(1).draw_point
    while case.reader.head().number < point:
        case.kit.anvil.mine()
    assert case.reader.round(1).phase is RoundPhase.AWAITING_RANDOMNESS
    sent = case.kit.client(key).stake(100 * TUSD, payment=Payment.PERMIT)
    assert sent.drew(1)


def test_more_due_draws_than_a_call_makes_itself_are_made_first(case, accounts) -> None:
    kit, key = case.kit, accounts.verifiers[0]
    bounty = kit.open_bounty()
    kit.open_assignment(bounty)
    client = kit.client(key)
    client.deposit(100 * TUSD)
    kit.client(accounts.miner).approve(100 * TUSD)
    for _ in range(20):
        kit.commit_batch(bounty, traces=4)
    kit.anvil.mine(3)
    assert case.reader.next_draw() == 1
    kit.gas.clear()
    client.stake(100 * TUSD)
    assert [action for action, _ in kit.gas] == ["draw_due", "stake"]
    assert case.reader.round(10).drawn_at is not None


def test_several_commitments_and_reveals_go_together(case, accounts) -> None:
    kit, reader = case.kit, case.reader
    bounty = kit.open_bounty()
    kit.open_assignment(bounty)
    batches = [case.batch, *(kit.commit_batch(bounty, traces=4) for _ in range(3))]
    rounds = [kit.draw(batch) for batch in batches]
    said, salt = case.tree(TRUTH[:4]).attestation, b"\x5a" * 32
    content = ContentId(b"\x01" * 32, 0x55)
    for key in accounts.verifiers:
        seats = [seat for one in rounds if (seat := reader.seat_of(one, key.address))]
        if not seats:
            continue
        commits = [
            Commit(
                seat.round,
                seat.index,
                commitments.commitment(
                    31337,
                    kit.deployment.address("rounds"),
                    seat.round,
                    reader.round(seat.round).subject,
                    key.address,
                    said,
                    salt,
                ),
            )
            for seat in seats
        ]
        kit.client(key).commit_verdicts(commits)
        for commit in commits:
            kept = reader.seat(commit.round, commit.seat).vote
            assert kept == commitments.stored(commit.commitment)
    for key in accounts.verifiers:
        seats = [seat for one in rounds if (seat := reader.seat_of(one, key.address))]
        if seats:
            kit.client(key).reveal_verdicts(
                [Reveal(seat.round, seat.index, said, salt, content) for seat in seats]
            )
    assert all(reader.leader(one) == (commitments.vote(said), 3) for one in rounds)
