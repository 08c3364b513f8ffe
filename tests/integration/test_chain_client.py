"""The chain client against a real Anvil with the market deployed."""

from __future__ import annotations

from marketplace.chain.records import BatchPhase, RoundPhase
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

    # 5 units at 0.10; the bond less one fault at 5 x 0.01
    earned = 5 * TUSD // 10
    forfeited = 5 * TUSD // 100
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
    assert reader.tracked() == reader.token_balance(ledger) == 0
    fees = sum(after[key.address] - before[key.address] for key in accounts.verifiers[:5])
    assert fees == 3 * (8 * TUSD // 50 // 3)
    assert before[accounts.poster.address] - after[accounts.poster.address] == (
        earned + fees - forfeited
    )
    actions = {action for action, _ in market.gas}
    assert {"create_bounty", "stake", "commit_batch", "draw", "tally", "settle"} <= actions
    assert all(used > 21_000 for _, used in market.gas)
