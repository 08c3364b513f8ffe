"""The chain client against a real Anvil with the market deployed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marketplace.chain.client import Payment
from marketplace.chain.errors import ContractError
from marketplace.chain.records import (
    BatchPhase,
    Bounty,
    ContentId,
    PayRule,
    RandomnessStatus,
    RoundPhase,
    SeatState,
    Tier,
)
from marketplace.protocol import commitments
from marketplace.protocol.commitments import vote
from marketplace.protocol.errors import (
    ConfigError,
    InsufficientFunds,
    InvalidValue,
)
from marketplace.protocol.verdict import Attestation

TUSD = 10**6


def test_a_batch_from_bounty_to_withdrawal(market, accounts) -> None:
    reader = market.reader
    everybody = (accounts.poster, accounts.miner, *accounts.verifiers[:5])
    before = {key.address: reader.token_balance(key.address) for key in everybody}
    ledger = market.deployment.address("ledger")

    bounty = market.open_bounty(20 * TUSD)
    market.stake_verifiers(5)
    assignment = market.open_assignment(bounty)
    assert assignment.next_task == 0
    batch = market.commit_batch(bounty, traces=8)
    committed = reader.batch(batch)
    assert committed.phase is BatchPhase.IN_ROUND
    assert committed.attestation is None
    # 8 traces: 0.10 price + 0.02 fee each reserved; the fee is the higher bond, 0.02 each
    assert reader.bounty(bounty).reserved == 8 * (TUSD // 10 + TUSD // 50)
    assert committed.bond == 8 * TUSD // 50 == reader.bond_for(bounty, 8)

    round_id = market.draw(batch)
    assert reader.round(round_id).phase is RoundPhase.COMMITTING
    agreed = Attestation(b"\x22" * 32, 5, 1)
    market.vote(round_id, [agreed] * 3)
    reader.tally(batch)
    attested = reader.batch(batch)
    assert attested.attestation == agreed
    assert attested.phase is BatchPhase.CHALLENGEABLE
    market.pass_challenge_window()
    settled = reader.settle(batch)
    assert reader.batch(batch).phase is BatchPhase.SETTLED

    # 5 units at 0.10; the bond less one fault at 5 x 0.01 and the fees of 3 traces without a unit
    earned = 5 * TUSD // 10
    forfeited = 5 * TUSD // 100 + 3 * TUSD // 50
    assert settled.event("BatchSettled").args == {
        "batch": batch,
        "minerPaid": earned,
        "feesPaid": 3 * (8 * TUSD // 50 // 3),
        "bondForfeited": forfeited,
        "slashed": 0,
    }
    miner = accounts.miner.address
    assert reader.balance(miner) == earned + committed.bond - forfeited
    market.client(accounts.miner).withdraw()
    assert reader.balance(miner) == 0
    assert reader.token_balance(miner) == before[miner] + earned - forfeited

    # every verifier can leave with all of its stake
    for key in accounts.verifiers[:5]:
        market.client(key).request_unstake(500 * TUSD)
    market.pass_time(market.deployment.parameters.unbonding_delay + 1)
    for key in accounts.verifiers[:5]:
        market.client(key).claim_stake()
        market.client(key).withdraw()

    # the poster gets the rest back after the deadline
    market.pass_time(86_400)
    market.client(accounts.poster).refund_bounty(bounty)
    market.client(accounts.poster).withdraw()

    after = {key.address: reader.token_balance(key.address) for key in everybody}
    assert sum(after.values()) == sum(before.values())
    assert reader.ledger_tokens() == reader.token_balance(ledger) == 0
    fees = sum(after[key.address] - before[key.address] for key in accounts.verifiers[:5])
    assert fees == 3 * (8 * TUSD // 50 // 3)
    assert before[accounts.poster.address] - after[accounts.poster.address] == (
        earned + fees - forfeited
    )
    actions = {action for action, _ in market.gas}
    assert {"create_bounty", "stake", "commit_batch", "draw", "tally", "settle"} <= actions
    assert all(used > 21_000 for _, used in market.gas)


# --- what each role reads and writes ---------------------------------------------------


def test_a_bounty_is_what_its_terms_said(market, accounts) -> None:
    environment = market.register_environment(b'{"v":1}')
    terms = market.terms(
        environment=environment,
        trainer=accounts.trainer.address,
        tier=Tier.B,
        pay_rule=PayRule.INFORMATIVE,
        group_size=8,
    )
    poster = market.client(accounts.poster)
    bounty, sent = poster.create_bounty(terms, 12 * TUSD)
    assert poster.bounty(bounty) == Bounty(bounty, poster.address, 12 * TUSD, 0, terms)
    assert sent.event("BountyFunded").args["amount"] == 12 * TUSD
    assert poster.bounty_count() == bounty
    assert poster.environment_author(environment) == poster.address
    assert poster.environment_author(b"\x01" * 32) is None
    market.client(accounts.miner).fund_bounty(poster.bounty(bounty), TUSD)
    assert poster.bounty(bounty).available == 13 * TUSD


@pytest.mark.parametrize("payment", [None, Payment.PERMIT])
def test_a_permit_pays_within_one_transaction(market, accounts, payment) -> None:
    market.register_environment()
    poster = market.client(accounts.poster)
    blocks = market.anvil.block_number()
    poster.create_bounty(market.terms(), 5 * TUSD, payment=payment)
    assert market.anvil.block_number() == blocks + 1
    assert poster.allowance(poster.address) == 0


def test_an_approval_pays_within_two_and_is_used_up(market, accounts) -> None:
    market.register_environment()
    poster = market.client(accounts.poster)
    poster.create_bounty(market.terms(), 5 * TUSD, payment=Payment.APPROVE)
    assert [action for action, _ in market.gas][-2:] == ["approve", "create_bounty"]
    assert poster.allowance(poster.address) == 0


def test_an_allowance_is_used_as_it_is(market, accounts) -> None:
    market.register_environment()
    poster = market.client(accounts.poster)
    poster.approve(8 * TUSD)
    bounty, _ = poster.create_bounty(market.terms(), 5 * TUSD, payment=Payment.ALLOWANCE)
    assert poster.allowance(poster.address) == 3 * TUSD
    with pytest.raises(InsufficientFunds, match=r"may take 3\.00 tUSD, it needs 5\.00 tUSD"):
        poster.fund_bounty(poster.bounty(bounty), 5 * TUSD, payment=Payment.ALLOWANCE)


def test_the_ledger_balance_is_spent_first(market, accounts) -> None:
    poster = market.client(accounts.poster)
    market.register_environment()
    poster.deposit(4 * TUSD)
    assert poster.balance(poster.address) == 4 * TUSD
    tokens = poster.token_balance(poster.address)
    bounty, _ = poster.create_bounty(market.terms(), 3 * TUSD)
    assert poster.token_balance(poster.address) == tokens
    poster.fund_bounty(poster.bounty(bounty), 3 * TUSD, payment=Payment.APPROVE)
    assert poster.token_balance(poster.address) == tokens - 2 * TUSD
    assert poster.allowance(poster.address) == 0
    assert poster.balance(poster.address) == 0
    assert poster.held_for("escrow") == 6 * TUSD == poster.ledger_tokens()


def test_a_withdrawal_can_go_elsewhere_and_not_be_too_large(market, accounts) -> None:
    poster = market.client(accounts.poster)
    poster.deposit(4 * TUSD)
    there = accounts.stranger.address
    poster.withdraw(3 * TUSD, to=there.lower())
    assert poster.token_balance(there) == 3 * TUSD
    with pytest.raises(ContractError, match=r"has 1\.00 tUSD to withdraw, not 2\.00 tUSD"):
        poster.withdraw(2 * TUSD)
    with pytest.raises(ContractError, match="zero address"):
        poster.withdraw(to="0x" + "00" * 20)


def test_stake_goes_in_and_comes_out(market, accounts) -> None:
    verifier = market.client(accounts.verifiers[0])
    empty = verifier.verifier(verifier.address)
    assert (empty.stake, empty.free_seats, empty.claimable_at) == (0, 0, None)
    with pytest.raises(ContractError, match=r"would be 99\.00 tUSD; one seat needs 100\.00 tUSD"):
        verifier.stake(99 * TUSD)
    verifier.stake(250 * TUSD)
    assert verifier.verifier(verifier.address).free_seats == 2 == verifier.free_seats()
    assert verifier.eligible_verifiers() == 1
    verifier.request_unstake(100 * TUSD)
    leaving = verifier.verifier(verifier.address)
    assert (leaving.stake, leaving.unbonding, leaving.free_seats) == (150 * TUSD, 100 * TUSD, 1)
    delay = market.deployment.parameters.unbonding_delay
    assert leaving.claimable_at == verifier.head().timestamp + delay
    with pytest.raises(ContractError, match=r"can be claimed from \d{4}-\d\d-\d\d"):
        verifier.claim_stake()
    market.pass_time(delay)
    market.client(accounts.stranger).claim_stake(verifier.address)
    assert verifier.balance(verifier.address) == 100 * TUSD


def test_an_assignment_from_request_to_tasks(market, accounts) -> None:
    bounty = market.open_bounty()
    market.stake_verifiers(3)
    miner = market.client(accounts.miner)
    assert miner.assignment(bounty, miner.address) is None
    miner.request_assignment(bounty)
    waiting = miner.assignment(bounty, miner.address.lower())
    assert waiting is not None
    assert (waiting.seed, waiting.miner) == (None, miner.address)
    assert miner.randomness(waiting.point) is RandomnessStatus.PENDING
    with pytest.raises(ContractError, match=f"waits for the randomness of point {waiting.point}"):
        miner.open_assignment(bounty)
    market.wait_for_randomness(waiting.point)
    market.client(accounts.stranger).open_assignment(bounty, miner.address)
    opened = miner.assignment(bounty, miner.address)
    assert opened is not None
    assert opened.seed is not None
    market.commit_batch(bounty, traces=8)  # two groups of four
    after = miner.assignment(bounty, miner.address)
    assert after is not None
    assert (after.seed, after.next_task) == (opened.seed, 2)


def test_a_batch_for_other_tasks_than_the_next_is_refused(market, accounts) -> None:
    bounty = market.open_bounty()
    market.stake_verifiers(3)
    assignment = market.open_assignment(bounty)
    miner = market.client(accounts.miner)
    good = {
        "root": b"\x11" * 32,
        "traces": 4,
        "first_task": 0,
        "seed": assignment.seed,
        "content": ContentId(b"\x33" * 32, 0x55),
    }
    for change, said in [
        ({"first_task": 1}, "begin at task 1, the next task is 0"),
        ({"seed": b"\x44" * 32}, "0x" + "44" * 32),
        ({"traces": 5}, "5 traces is not whole groups of 4"),
        ({"content": ContentId(b"\x33" * 32, 0x12)}, "codec 18"),
        ({"root": bytes(32)}, "root is zero"),
    ]:
        with pytest.raises(ContractError, match=said):
            miner.commit_batch(bounty, **(good | change))
    for change, said in [
        ({"root": b"\x11"}, "root"),
        ({"traces": 2**32}, "4294967296"),
        ({"first_task": -1}, "-1"),
    ]:
        with pytest.raises(InvalidValue, match=said):
            miner.commit_batch(bounty, **(good | change))
    with pytest.raises(ConfigError, match="permit"):
        miner.commit_batch(bounty, **good, payment=Payment.PERMIT)
    assert miner.commit_batch(bounty, **good)[0] == 1


def test_a_batch_that_the_bounty_cannot_pay_names_both_amounts(market) -> None:
    bounty = market.open_bounty(TUSD)
    market.stake_verifiers(3)
    market.open_assignment(bounty)
    with pytest.raises(ContractError) as caught:
        market.commit_batch(bounty, traces=12)
    assert caught.value.name == "BountyEscrow_InsufficientFunds"
    assert str(caught.value) == (
        f"bounty {bounty} has 1.00 tUSD free, this batch needs 1.44 tUSD. "
        "Fix: fund it or commit fewer traces"
    )


def test_rounds_and_seats_as_they_fill(market, accounts) -> None:
    bounty = market.open_bounty()
    market.stake_verifiers(4)
    market.open_assignment(bounty)
    batch = market.commit_batch(bounty)
    reader = market.reader
    round_id = reader.batch(batch).round
    fresh = reader.round(round_id)
    assert (fresh.size, fresh.seats, fresh.drawn_at) == (3, 0, None)
    assert fresh.phase is RoundPhase.AWAITING_RANDOMNESS
    assert fresh.subject == reader.subject(batch)
    assert fresh.subject == commitments.subject(
        31337, market.deployment.address("market"), batch, b"\x11" * 32
    )
    assert reader.seats(round_id) == ()
    with pytest.raises(ContractError, match="is awaiting randomness"):
        reader.draw(round_id)
    assert market.reader.next_draw() == round_id
    market.draw(batch)
    assert market.reader.next_draw() is None
    seats = reader.seats(round_id)
    assert [seat.state for seat in seats] == [SeatState.DRAWN] * 3
    drawn = [seat.verifier for seat in seats]
    left_out = next(key for key in accounts.verifiers[:4] if key.address not in drawn)
    assert reader.seat_of(round_id, drawn[1]) == seats[1]
    assert reader.seat_of(round_id, left_out.address) is None
    with pytest.raises(ContractError, match=f"is not that of {left_out.address}"):
        market.client(left_out).commit_verdict(round_id, 0, b"\x01" * 32)

    first = Attestation(b"\x22" * 32, 1, 0)
    second = Attestation(b"\x23" * 32, 2, 0)
    market.vote(round_id, [first, second, second])
    assert reader.leader(round_id) == (vote(second), 2)
    assert reader.leading_attestation(round_id) == second
    assert [seat.vote for seat in reader.seats(round_id)] == [
        vote(first),
        vote(second),
        vote(second),
    ]
    with pytest.raises(ContractError, match="most seats revealed"):
        reader.tally(batch, first)
    reader.tally(batch)
    assert reader.rounds_of(batch) == (round_id,)
    with pytest.raises(ContractError, match=f"batch {batch} is challengeable"):
        reader.settle(batch)


def test_rounds_without_a_reveal_end_in_a_void_batch(market, accounts) -> None:
    bounty = market.open_bounty()
    market.stake_verifiers(5)
    market.open_assignment(bounty)
    batch = market.commit_batch(bounty)
    reader = market.reader
    for _ in range(market.deployment.parameters.max_rounds):
        round_id = market.draw(batch)
        market.vote(round_id, [None] * 3)
        assert reader.leading_attestation(round_id) is None
        last = reader.tally(batch)
    assert last.event("BatchVoided").args["slashed"] == 9 * 5 * TUSD
    void = reader.batch(batch)
    assert (void.phase, void.rounds, void.attestation) == (BatchPhase.VOID, 3, None)
    assert len(reader.rounds_of(batch)) == 3
    assert reader.balance(accounts.miner.address) == void.bond


def test_what_the_market_does_not_sell_is_named(market) -> None:
    bounty = market.open_bounty(fee_per_trace=100)
    cheap = market.open_bounty(fee_per_trace=99)
    dear = market.open_bounty(100_000 * TUSD // 2, price_per_unit=60 * TUSD)
    for one in (bounty, cheap, dear):
        market.open_assignment(one)
    with pytest.raises(ContractError, match="0 verifiers have a free seat, the market asks for 3"):
        market.commit_batch(bounty)
    market.stake_verifiers(3)
    with pytest.raises(ContractError, match=r"pays 0\.000099 tUSD .* asks 0\.0001 tUSD"):
        market.commit_batch(cheap)
    with pytest.raises(ContractError, match=r"is worth 240\.08 tUSD, more than the 200\.00 tUSD"):
        market.commit_batch(dear, traces=4)
    market.commit_batch(bounty)


def test_a_draw_without_verifiers_is_scheduled_again_then_stalls_and_is_made_void(
    market, accounts
) -> None:
    bounty = market.open_bounty()
    keys = market.stake_verifiers(3)
    market.open_assignment(bounty)
    batch = market.commit_batch(bounty)
    for key in keys:
        market.client(key).request_unstake(500 * TUSD)
    assert market.reader.next_draw() == 1
    point = market.reader.round(1).draw_point
    market.wait_for_randomness(point)
    sent = market.reader.draw(1)
    assert not sent.drew(1)
    later = sent.event("DrawRescheduled").args["drawPoint"]
    assert later == market.reader.round(1).draw_point > point
    with pytest.raises(ContractError, match="is not stalled"):
        market.reader.void_stalled(batch)
    market.pass_time(market.deployment.parameters.draw_timeout + 1)
    assert market.reader.round(1).phase is RoundPhase.STALLED
    market.reader.void_stalled(batch)
    assert market.reader.batch(batch).phase is BatchPhase.VOID


def test_checkpoints_and_their_parents(market, accounts) -> None:
    trainer = market.client(accounts.trainer)
    assert trainer.latest_checkpoint(trainer.address) is None
    content = ContentId(b"\x33" * 32, 0x70)
    base, _ = trainer.register_checkpoint(None, content, bytes(32))
    child, sent = trainer.register_checkpoint(trainer.checkpoint(base), content, b"\x44" * 32)
    assert trainer.checkpoint_count() == child == base + 1
    assert trainer.latest_checkpoint(trainer.address) == child
    read = trainer.checkpoint(child)
    assert (read.parent, read.content, read.dataset_root) == (base, content, b"\x44" * 32)
    assert (read.trainer, read.registered_block) == (trainer.address, sent.block)
    with pytest.raises(ContractError, match="no checkpoint 9"):
        trainer.register_checkpoint(replace(read, id=9), content, bytes(32))
