"""Events become rows: one batch's life, odd endings, exact money, and the identities that always
hold."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from marketplace.chain.records import SeatState
from marketplace.indexer.events import decode_args, encode_args, plain
from marketplace.indexer.queries import Snapshot, open_snapshot
from marketplace.indexer.rows import TABLES
from marketplace.indexer.store import IndexStore
from marketplace.protocol import commitments
from marketplace.protocol.errors import ChainError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation

USD = 10**6
SAID = Attestation(keccak(b"said"), 3, 1)
OTHER = Attestation(keccak(b"other"), 4, 0)

Index = Callable[..., IndexStore]


@pytest.fixture
def look(index: Index) -> Any:
    """A Snapshot of the chain as it is now."""
    contexts = []

    def look(time: float = 0) -> Snapshot:
        store = index()
        contexts.append(open_snapshot(store.path, lambda: time))
        return contexts[-1].__enter__()

    yield look
    for context in contexts:
        context.__exit__(None, None, None)


def vote(chain: Any, round: int, said: list[Attestation | None]) -> None:
    """Every member commits and those with an attestation reveal it, one block each; the others
    are late."""
    market = chain.market
    for seat in range(len(said)):
        chain.mine(market.commit_verdict(round, seat))
    for seat, attestation in enumerate(said):
        if attestation is not None:
            chain.mine(market.reveal(round, seat, attestation))


@pytest.mark.parametrize("places", [("one",), ("first", "second", "third")])
def test_votes_that_a_relay_brings_are_each_members(
    chain: Any, sim: ModuleType, look: Any, places: tuple[str, ...]
) -> None:
    market, members = chain.market, [sim.account(n) for n in (1, 2, 3)]
    chain.mine(market.commit(1, sim.account(20), 4))
    chain.mine(market.draw(1, members))
    chain.mine(market.commit_together(1))
    seats, round_ = look().seats(1), look().round(1)
    assert [seat.state for seat in seats] == [SeatState.COMMITTED] * 3
    assert len({seat.commitment for seat in seats}) == 3
    assert (round_.committed, round_.all_committed_at) == (3, chain.head().timestamp)
    chain.mine(market.reveal_together(1, SAID, places))
    seats = look().seats(1)
    assert [seat.state for seat in seats] == [SeatState.REVEALED] * 3
    assert {seat.verdict_root for seat in seats} == {"0x" + SAID.root.hex()}
    assert len({seat.verdicts_digest for seat in seats}) == len(places)
    assert look().round(1).revealed == 3
    chain.mine(market.attest(1, SAID))
    assert look().batch(1).units == SAID.units


def test_a_batch_from_commit_to_settlement(chain: Any, sim: ModuleType, look: Any) -> None:
    market, miner = chain.market, sim.account(20)
    members = [sim.account(n) for n in (1, 2, 3)]
    chain.mine(market.commit(1, miner, 4))
    batch, bounty = look().batch(1), look().bounty(1)
    assert (batch.bounty, batch.miner, batch.count, batch.rounds) == (1, miner, 4, 1)
    assert batch.bond == 4 * USD
    assert batch.committed_at == chain.head().timestamp
    assert (bounty.available, bounty.reserved) == (9_984 * USD, 16 * USD)
    assert bounty.batches == 1

    chain.mine(market.draw(1, members))
    vote(chain, 1, [SAID, SAID, OTHER])
    chain.mine(market.attest(1, SAID))
    seen = look()
    assert (seen.batch(1).verdict_root, seen.batch(1).units) == ("0x" + SAID.root.hex(), 3)
    assert seen.batch(1).attested_at == chain.head().timestamp
    assert [seat.state for seat in seen.seats(1)] == [SeatState.REVEALED] * 3
    assert [seen.verifier(who).open_seats for who in members] == [1, 1, 1]
    round = seen.round(1)
    assert (round.batch, round.number, round.seats) == (1, 1, 3)
    assert (round.committed, round.revealed, round.judged) == (3, 3, False)
    assert round.all_committed_at == chain.blocks[-5].timestamp

    chain.mine(market.settle(1))
    seen = look()
    share = 4 * USD // 3
    batch, bounty = seen.batch(1), seen.bounty(1)
    assert (batch.miner_paid, batch.fees_paid) == (9 * USD, 2 * share)
    assert (batch.bond_forfeited, batch.slashed) == (550_000, 20 * USD)
    assert bounty.paid == 9 * USD + 2 * share
    assert bounty.paid_miners == 9 * USD
    assert bounty.replenished == 550_000  # one lie, and half the fee of what earned nothing
    assert seen.money().pool == seen.money().held["court"] == 20 * USD
    assert seen.balance(miner).balance == 9 * USD + 4 * USD - 550_000
    assert [seat.coherent for seat in seen.seats(1)] == [True, True, False]
    assert [seat.penalty for seat in seen.seats(1)] == [0, 0, 20 * USD]
    assert [seat.fee for seat in seen.seats(1)] == [share, share, 0]
    verifiers = [seen.verifier(who) for who in members]
    assert [v.fees_earned for v in verifiers] == [share, share, 0]
    assert [v.penalties for v in verifiers] == [0, 0, 20 * USD]
    assert [v.stake for v in verifiers] == [250 * USD, 250 * USD, 230 * USD]
    assert [v.open_seats for v in verifiers] == [0, 0, 0]
    assert seen.round(1).judged


@pytest.mark.parametrize("outcome", [UNAVAILABLE, MALFORMED])
def test_a_batch_that_nobody_could_check_costs_the_poster_nothing(
    chain: Any, sim: ModuleType, look: Any, outcome: Attestation
) -> None:
    market = chain.market
    chain.mine(market.commit(1, sim.account(20), 4))
    chain.mine(market.draw(1, [sim.account(n) for n in (1, 2, 3)]))
    vote(chain, 1, [outcome, outcome, None])
    chain.mine(market.attest(1, outcome))
    chain.mine(market.settle(1))
    bounty, batch = look().bounty(1), look().batch(1)
    assert bounty.paid == 0
    assert bounty.reserved == 0
    assert batch.fees_paid == 2 * (4 * USD // 3)
    assert batch.bond_forfeited == (batch.fees_paid if outcome == UNAVAILABLE else batch.bond)
    assert look().verifier(sim.account(1)).fees_earned == 4 * USD // 3
    assert [seat.penalty for seat in look().seats(1)] == [0, 0, 10 * USD]


def test_a_second_round_then_void(chain: Any, sim: ModuleType, look: Any) -> None:
    market, members = chain.market, [sim.account(n) for n in (1, 2, 3)]
    chain.mine(market.commit(1, sim.account(20), 2))
    chain.mine(market.draw(1, members))
    vote(chain, 1, [SAID, OTHER, None])
    chain.mine(market.next_round(1, 3))
    chain.mine(market.draw(2, [sim.account(n) for n in (3, 4, 5)]))
    chain.mine(market.void(1))
    seen = look()
    assert [(r.id, r.number, r.previous) for r in seen.rounds_of(1)] == [(1, 1, None), (2, 2, 1)]
    assert (seen.batch(1).round, seen.batch(1).rounds) == (2, 2)
    assert all(round.judged for round in seen.rounds_of(1))
    assert seen.batch(1).closed
    assert seen.batch(1).attested_at is None
    assert [(r.id, r.fresh) for r in seen.rounds_of(1)] == [(1, False), (2, False)]
    assert seen.batch(1).slashed == 10 * USD + 3 * 5 * USD
    assert seen.batch(1).miner_paid is None
    assert [seat.coherent for seat in seen.seats(1)] == [None] * 3
    assert [seat.penalty for seat in seen.seats(1)] == [0, 0, 10 * USD]
    assert [seat.penalty for seat in seen.seats(2)] == [5 * USD] * 3
    assert seen.verifier(sim.account(3)).penalties == 15 * USD
    assert seen.balance(sim.account(20)).balance == 2 * USD


def test_two_batches_settled_in_one_transaction_keep_their_seats_apart(
    chain: Any, sim: ModuleType, look: Any
) -> None:
    market = chain.market
    for batch in (1, 2):
        chain.mine(market.commit(1, sim.account(20), 2))
        chain.mine(market.draw(batch, [sim.account(n) for n in (1, 2, 3)][:: 3 - 2 * batch]))
        vote(chain, batch, [SAID, SAID, None])
        chain.mine(market.attest(batch, SAID))
    chain.mine([*market.settle(1), *market.settle(2)])
    late = {round: look().seats(round)[2] for round in (1, 2)}
    assert late[1].verifier == sim.account(3)
    assert late[2].verifier == sim.account(1)
    assert (late[1].penalty, late[2].penalty) == (10 * USD, 10 * USD)


def test_stake_leaves_in_two_steps(chain: Any, sim: ModuleType, look: Any) -> None:
    market, who = chain.market, sim.account(1)
    chain.mine(market.request_unstake(who, 100 * USD, 2_000_000))
    row = look().verifier(who)
    assert (row.stake, row.unbonding, row.claimable_at) == (150 * USD, 100 * USD, 2_000_000)
    chain.mine(market.claim(who))
    row = look().verifier(who)
    assert (row.unbonding, row.claimable_at, row.withdrawn) == (0, None, 100 * USD)
    assert look().balance(who).credited == 100 * USD


def test_the_largest_amounts_are_exact(chain: Any, sim: ModuleType, look: Any) -> None:
    market, rich, most = chain.market, sim.account(50), 2**256 - 1
    chain.mine(market.deposit(rich, most))
    chain.mine(market.withdraw(rich, most - 1))
    row = look().balance(rich)
    assert (row.deposited, row.withdrawn, row.balance) == (most, most - 1, 1)
    chain.mine(market.create_bounty(sim.account(100), 2**128 - 1, deadline=2**64 - 1))
    assert look().bounty(2).available == 2**128 - 1
    assert look().bounty(2).deadline == 2**64 - 1
    assert [row.id for row in look(2 * 10**18).bounties(0, 10, open=True)] == [2]


def test_what_a_bounty_pays_itself_comes_from_the_balance_first(
    chain: Any, sim: ModuleType, look: Any
) -> None:
    poster = sim.account(100)  # deposited 500, then funded 10,000
    assert look().balance(poster).spent == 500 * USD
    assert look().balance(poster).balance == 0
    money = look().money()
    assert money.tokens_in == 10_000 * USD + 5 * 250 * USD
    held = {"escrow": 10_000 * USD, "stake": 1_250 * USD}
    assert money.held == {**dict.fromkeys(("market", "court", "royalties"), 0), **held}
    chain.mine(chain.market.refund(1))
    assert look().bounty(1).refunded == 10_000 * USD
    assert look().balance(poster).balance == 10_000 * USD


def test_checkpoints_name_their_parents(chain: Any, sim: ModuleType, look: Any) -> None:
    chain.mine(chain.market.register_checkpoint(sim.account(7)))
    chain.mine(chain.market.register_checkpoint(sim.account(7), parent=1))
    assert [row.parent for row in look().checkpoints(0, 10)] == [None, 1]
    assert look().checkpoint(2).block == chain.head().number
    assert look().checkpoint(2).identity == "0x" + keccak(b"identity 2").hex()


@pytest.mark.parametrize("seed", range(8))
def test_money_is_conserved_whatever_happens(
    chain: Any, sim: ModuleType, look: Any, seed: int
) -> None:
    sim.play(chain, random.Random(seed), 120)
    seen, market = look(), chain.market
    for row in seen.bounties(0, 100):
        assert (
            row.funded + row.replenished == row.available + row.reserved + row.paid + row.refunded
        )
        assert row.available == market.bounties[row.id]["available"]
        pending = [b["worst"] for b in market.batches.values() if not b["closed"]]
        assert row.reserved == sum(pending)
    money = seen.money()
    assert money.tokens_in - money.tokens_out == money.tracked
    assert money.balances == sum(market.balances.values())
    for who, balance in market.balances.items():
        row = seen.balance(who)
        assert row.balance == balance == row.deposited + row.credited - row.spent - row.withdrawn
    assert money.held["escrow"] == sum(r.available + r.reserved for r in seen.bounties(0, 100))
    verifiers = seen.verifiers("", 100)
    assert money.held["stake"] == sum(v.stake + v.unbonding for v in verifiers)
    assert {v.address: [v.stake, v.open_seats, v.unbonding] for v in verifiers} == market.stakes
    assert money.held["market"] == sum(
        batch["bond"] for batch in market.batches.values() if not batch["closed"]
    )
    assert any(batch["closed"] for batch in market.batches.values())
    assert money.held == market.held
    assert money.pool == market.pool
    for row in seen.disputes(0, 100):
        entry = market.disputes[row.id]
        assert (row.standing, row.last, row.closed) == (
            entry["standing"],
            entry["last"],
            entry["closed"],
        )
        assert row.standing_vote == (entry["vote"] and "0x" + commitments.vote(entry["vote"]).hex())
        assert (row.juries, row.appeals) == (len(entry["juries"]), len(entry["appeals"]))
    for id, entry in market.batches.items():
        row = seen.batch(id)
        assert (row.disputes, row.overturned) == (entry["disputes"], entry["overturned"])
        had = seen.attestations(id)
        assert len(had) == row.overturned + (row.attested_at is not None)
        fallen = [past for past in had if past.overturned_at is not None]
        assert len(fallen) == row.overturned
        assert all((past.dispute is None) != (past.prover is None) for past in fallen)
    fees = sum(seat.fee or 0 for r in market.rounds for seat in seen.seats(r))
    assert fees == sum(v.fees_earned for v in verifiers)
    lost = sum(seat.penalty or 0 for r in market.rounds for seat in seen.seats(r))
    assert lost == sum(v.penalties for v in verifiers)


def test_an_event_without_its_cause_is_refused_and_nothing_is_kept(
    chain: Any, sim: ModuleType, index: Index, dump: Any
) -> None:
    before = dump(index())
    chain.mine([("escrow", "BountyReserved", {"bounty": 7, "amount": 1})])
    with pytest.raises(ChainError, match=r"BountyReserved in block 15 .* bounties 7"):
        index()
    chain.reorg(1)
    chain.mine()
    assert dump(index()) == before


def test_unknown_events_are_stored_and_change_no_row(chain: Any, index: Index, dump: Any) -> None:
    before = dump(index())
    chain.mine([("assignments", "SomethingNew", {"bounty": 1, "point": 3})])
    after = dump(index())
    assert len(after.pop("events")) == len(before.pop("events")) + 1
    assert after == before


def test_rows_and_tables_have_the_same_columns(index: Index) -> None:
    connection = sqlite3.connect(index().path)
    for table in TABLES:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")]
        assert tuple(columns) == table.columns
    connection.close()


def test_seats_closed_for_another_batch_are_noticed(
    chain: Any, sim: ModuleType, index: Index
) -> None:
    market = chain.market
    chain.mine(market.commit(1, sim.account(20), 2))
    chain.mine(market.draw(1, [sim.account(n) for n in (1, 2, 3)]))
    logs = market.void(1)
    chain.mine(logs[1:])
    with pytest.raises(ChainError, match="batch 1 has 3 open seats, but others were closed"):
        index()


def test_seats_closed_in_an_earlier_transaction_belong_to_no_batch_of_a_later_one(
    chain: Any, sim: ModuleType, look: Any
) -> None:
    market = chain.market
    chain.mine(market.commit(1, sim.account(20), 2))
    chain.mine(market.draw(1, [sim.account(n) for n in (1, 2, 3)]))
    alone = [("stake", "SeatClosed", {"verifier": sim.account(4), "penalty": USD})]
    chain.mine(alone, market.void(1))
    assert [seat.penalty for seat in look().seats(1)] == [5 * USD] * 3
    assert look().verifier(sim.account(4)).penalties == 0


def test_arguments_survive_the_file() -> None:
    args = {"terms": {"id": b"\x01\xff", "most": 2**256 - 1}, "members": ("a", b"")}
    kept = decode_args(encode_args(plain(args)))
    assert kept == {"terms": {"id": "0x01ff", "most": 2**256 - 1}, "members": ["a", "0x"]}
