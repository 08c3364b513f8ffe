"""The loop on a real Anvil: miners and verifier nodes as they run in production, tier C."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import Arithmetic, Loop

from marketplace.chain.errors import ContractError
from marketplace.chain.records import BatchPhase, PayRule, RoundPhase
from marketplace.gym.pool import CheckPool
from marketplace.miner.spool import Spool
from marketplace.protocol import batch_file
from marketplace.protocol.errors import (
    ConfigError,
    ContentUnavailable,
    InsufficientFunds,
    ProofFailed,
    Reverted,
)
from marketplace.protocol.trace import decode_line, encode_line
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation, Reason
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.embedded import EmbeddedStore
from trainer.pull import pull_attested, settled_batches

TUSD = 10**6
GROUPS, SIZE = 3, 4
TRACES = GROUPS * SIZE
PRICE, FEE = TUSD // 10, TUSD // 50


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as pool:
        yield pool


@pytest.fixture
def loop(market, pool, tmp_path) -> Loop:
    return Loop(market, pool, tmp_path)


def test_honest_work_is_paid_to_the_unit(loop, market, accounts):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(5)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    assert (mined.groups, mined.traces, mined.first_task) == (GROUPS, TRACES, 0)

    assert loop.drive(loop.nodes(keys), mined.batch) is BatchPhase.SETTLED

    reader = market.reader
    batch = reader.batch(mined.batch)
    assert (batch.attestation.units, batch.attestation.faults) == (TRACES, 0)
    # The bond was collected from the wallet and came back to the ledger, with the pay.
    assert reader.balance(accounts.miner.address) == TRACES * PRICE + batch.bond
    share = FEE * TRACES // 3
    fees = sorted(reader.balance(key.address) for key in keys)
    assert fees == [0, 0, share, share, share]
    assert reader.bounty(bounty).available == 100 * TUSD - TRACES * PRICE - 3 * share
    assert reader.bounty(bounty).reserved == 0
    assert all(reader.verifier(key.address).open_seats == 0 for key in keys)

    # The receipt: content and verdicts lead to the roots on chain.
    (settled,) = settled_batches(reader, {bounty})
    opened = pull_attested(reader, loop.store, settled, timeout=0)
    verdicts = opened.verdicts
    assert [decode_line(line).sample for line in opened.lines] == [0, 1, 2, 3] * GROUPS
    assert [verdict.reason for verdict in verdicts] == [Reason.CORRECT, Reason.WRONG] * (
        TRACES // 2
    )


def test_attested_content_that_nobody_has_any_more_is_named(loop, market, tmp_path):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, 1, Arithmetic())
    loop.drive(loop.nodes(keys), mined.batch)
    batch = market.reader.batch(mined.batch)
    partial = EmbeddedStore(tmp_path / "partial")
    with pytest.raises(ContentUnavailable, match=mined.cid):
        pull_attested(market.reader, partial, batch, timeout=0)
    partial.put(loop.store.get(Cid.parse(mined.cid), timeout=0))
    with pytest.raises(ContentUnavailable, match="no verdict file of batch 1"):
        pull_attested(market.reader, partial, batch, timeout=0)
    other = replace(batch, root=b"\x01" * 32)
    with pytest.raises(ProofFailed, match="0x" + "01" * 32):
        pull_attested(market.reader, loop.store, other, timeout=0)


def test_the_next_batch_answers_the_next_tasks(loop, market):
    bounty = loop.open_bounty()
    market.stake_verifiers(3)
    first = loop.miner().mine(bounty, 2, Arithmetic())
    second = loop.miner().mine(bounty, 1, Arithmetic())
    assert (first.first_task, second.first_task) == (0, 2)
    prompts = {
        decode_line(line).prompt
        for mined in (first, second)
        for line in batch_file.unpack(loop.store.get(Cid.parse(mined.cid), timeout=0), mined.traces)
    }
    assert len(prompts) == 3


def test_lies_forfeit_the_bond_and_other_traces_are_judged_as_they_are(loop, market, accounts):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(5)
    miner = loop.miner()
    terms = market.reader.bounty(bounty)
    assignment = miner.enrol(bounty)
    environment = miner.environment(terms)
    lines = miner.sample(
        terms, environment, assignment, GROUPS, Arithmetic(), checkpoint=None, seed=0
    )
    tampered = decode_line(lines[1])
    lines[1] = encode_line(replace(tampered, prompt=tampered.prompt + " 4 "))
    claim = decode_line(lines[5])
    lines[5] = encode_line(replace(claim, claimed_score=1.0))
    mined = miner.commit_and_publish(miner.spool(terms, assignment, lines))

    assert loop.drive(loop.nodes(keys), mined.batch) is BatchPhase.SETTLED
    batch = market.reader.batch(mined.batch)
    verdicts = pull_attested(market.reader, loop.store, batch, timeout=0).verdicts
    assert verdicts[1].reason is Reason.TAMPERED_PROMPT
    assert verdicts[5].reason is Reason.FALSE_CLAIM
    # The two groups with a lie are not whole; the third is paid.
    assert (batch.attestation.units, batch.attestation.faults) == (SIZE, 2)
    parameters = market.deployment.parameters
    # Two lies, and the checking of the eight traces without a unit: more than the bond.
    fine = 2 * parameters.fault_multiple * parameters.bond_per_trace + (TRACES - SIZE) * FEE
    assert fine > batch.bond
    paid = market.reader.balance(accounts.miner.address)
    assert paid == SIZE * PRICE
    fine = batch.bond
    spent = SIZE * PRICE + 3 * (FEE * TRACES // 3)
    assert market.reader.bounty(bounty).available == 100 * TUSD - spent + fine


def test_content_that_nobody_can_fetch_costs_the_miner_the_fees(loop, market, accounts, tmp_path):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(5)
    elsewhere = EmbeddedStore(tmp_path / "elsewhere")
    elsewhere.put(loop.store.get(_spec_cid(market, bounty), timeout=0))
    mined = loop.miner(store=elsewhere).mine(bounty, GROUPS, Arithmetic())
    nodes = loop.nodes(keys)
    # Patience first: nobody votes while the miner may still be about to publish.
    loop.drive(nodes, mined.batch, passes=4)
    round_ = market.reader.round(market.reader.batch(mined.batch).round)
    assert (round_.phase, round_.committed) == (RoundPhase.COMMITTING, 0)
    market.pass_time(market.deployment.parameters.commit_window // 2)

    assert loop.drive(nodes, mined.batch) is BatchPhase.SETTLED
    batch = market.reader.batch(mined.batch)
    assert batch.attestation == UNAVAILABLE
    fees = 3 * (FEE * TRACES // 3)
    assert market.reader.balance(accounts.miner.address) == batch.bond - fees
    assert market.reader.bounty(bounty).available == 100 * TUSD


@pytest.mark.parametrize("content", ["garbage", "bomb", "other lines"])
def test_content_that_is_no_batch_file_forfeits_the_bond(loop, market, accounts, content):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(5)
    miner = loop.miner()
    terms = market.reader.bounty(bounty)
    assignment = miner.enrol(bounty)
    lines = miner.sample(
        terms, miner.environment(terms), assignment, GROUPS, Arithmetic(), checkpoint=None, seed=0
    )
    data = {
        "garbage": b"this is not zstd",
        "bomb": zstandard.compress(bytes(100_000_000)),  # about 10 KB
        "other lines": batch_file.pack([*lines[1:], lines[0]]),
    }[content]
    batch_id, _ = market.client(accounts.miner).commit_batch(
        bounty,
        root=b"\x77" * 32,
        traces=TRACES,
        first_task=0,
        seed=assignment.seed,
        content=loop.store.put(data),
    )
    assert loop.drive(loop.nodes(keys), batch_id) is BatchPhase.SETTLED
    batch = market.reader.batch(batch_id)
    assert batch.attestation == MALFORMED
    assert market.reader.balance(accounts.miner.address) == 0
    fees = 3 * (FEE * TRACES // 3)
    assert market.reader.bounty(bounty).available == 100 * TUSD + batch.bond - fees


def test_an_absent_member_pays_and_the_others_reach_the_quorum(loop, market):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(3)  # all three are drawn
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    nodes = loop.nodes(keys[:2])
    loop.drive(nodes, mined.batch, passes=4)
    market.pass_time(market.deployment.parameters.commit_window + 1)
    assert loop.drive(nodes, mined.batch) is BatchPhase.SETTLED
    parameters = market.deployment.parameters
    penalty = parameters.seat_stake * parameters.absence_bps // 10_000
    assert market.reader.verifier(keys[2].address).stake == 500 * TUSD - penalty
    assert market.reader.balance(keys[2].address) == 0
    # The absent member's part of the fee goes back to the bounty, its penalty to the pool.
    share = FEE * TRACES // 3
    expected = 100 * TUSD - TRACES * PRICE - 2 * share
    assert market.reader.bounty(bounty).available == expected
    assert market.reader.pool() == penalty == market.reader.held_for("court")


def test_no_quorum_ends_void_and_everybody_is_made_whole(loop, market, accounts):
    bounty = loop.open_bounty()
    market.stake_verifiers(8)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    reader = market.reader
    # Nobody can see other content under a CID: members disagree by lying.
    for number in range(market.deployment.parameters.max_rounds):
        round_id = market.draw(mined.batch)
        seats = reader.round(round_id).seats
        market.vote(round_id, [_made_up(number, place) for place in range(seats)])
        # First there is time to narrow the conflict.
        with pytest.raises(Reverted, match="conflict"):
            reader.tally(mined.batch)
        parameters = market.deployment.parameters
        windows = (parameters.commit_window, parameters.reveal_window, parameters.opening_window)
        market.pass_time(sum(windows) + 1)
        reader.tally(mined.batch)
    assert reader.batch(mined.batch).phase is BatchPhase.VOID
    # Sizes: 3, then 7, then as many as there are.
    assert [reader.round(r).seats for r in reader.rounds_of(mined.batch)] == [3, 7, 8]
    assert reader.balance(accounts.miner.address) == reader.batch(mined.batch).bond
    assert reader.bounty(bounty).available == 100 * TUSD
    assert all(reader.verifier(key.address).stake == 500 * TUSD for key in accounts.verifiers)


def test_a_batch_that_nobody_is_drawn_for_is_void_and_locks_no_stake(loop, market, accounts):
    bounty = loop.open_bounty()
    market.stake_verifiers(5)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    market.pass_time(market.deployment.parameters.draw_timeout + 1)
    market.anvil.mine(300)  # its randomness is out of reach
    reader = market.reader
    round_id = reader.batch(mined.batch).round
    reader.void_stalled(mined.batch)
    assert reader.batch(mined.batch).phase is BatchPhase.VOID
    assert reader.balance(accounts.miner.address) == reader.batch(mined.batch).bond
    # A draw now would open seats that nothing closes.
    assert reader.round(round_id).phase is RoundPhase.CLOSED
    with pytest.raises(Reverted, match="closed"):
        reader.draw(round_id)
    for key in accounts.verifiers[:5]:
        market.client(key).request_unstake(500 * TUSD)


def test_a_node_that_dies_between_commit_and_reveal_finds_its_salt(loop, market):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    for _ in range(3):
        for node in loop.nodes(keys):
            node.run_once()
        market.anvil.mine(2)
    round_id = market.reader.batch(mined.batch).round
    assert market.reader.round(round_id).phase is RoundPhase.REVEALING
    # New nodes, new journal connections, as after a crash.
    assert loop.drive(loop.nodes(keys), mined.batch) is BatchPhase.SETTLED
    assert market.reader.round(round_id).revealed == 3


def test_a_node_that_dies_between_record_and_commit_signs_what_it_recorded(
    loop, market, monkeypatch
):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    nodes = loop.nodes(keys)
    nodes[0].run_once()
    market.anvil.mine(2)
    nodes[0].run_once()  # the draw
    client = market.client(keys[0])
    with monkeypatch.context() as patch:
        patch.setattr(type(client), "commit_verdict", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            nodes[0].run_once()
    assert market.reader.round(1).committed == 0
    assert loop.drive(loop.nodes(keys), mined.batch) is BatchPhase.SETTLED
    assert market.reader.round(1).revealed == 3


@pytest.mark.parametrize(
    ("where", "step"), [(Spool, "committed"), (EmbeddedStore, "put")], ids=["noted", "published"]
)
def test_a_miner_that_dies_after_its_commit_publishes_later(loop, market, monkeypatch, where, step):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(3)
    miner = loop.miner()
    monkeypatch.setattr(where, step, _power_cut)
    with pytest.raises(KeyboardInterrupt):
        miner.mine(bounty, GROUPS, Arithmetic())
    monkeypatch.undo()
    assert market.reader.batch_count() == 1

    (mined,) = loop.miner().resume()
    assert mined.batch == 1
    assert loop.miner().resume() == []
    assert loop.drive(loop.nodes(keys), 1) is BatchPhase.SETTLED
    assert market.reader.batch(1).attestation.units == TRACES


def test_a_miner_that_dies_before_its_commit_commits_later(loop, market, monkeypatch):
    bounty = loop.open_bounty()
    market.stake_verifiers(3)
    miner = loop.miner()
    client = market.client(market.accounts.miner)
    monkeypatch.setattr(type(client), "commit_batch", _power_cut)
    with pytest.raises(KeyboardInterrupt):
        miner.mine(bounty, GROUPS, Arithmetic())
    monkeypatch.undo()
    assert market.reader.batch_count() == 0
    (mined,) = loop.miner().resume()
    assert (mined.batch, mined.traces) == (1, TRACES)


def test_a_commit_that_is_mined_while_it_is_sent_again_is_published(loop, market, monkeypatch):
    bounty = loop.open_bounty()
    market.stake_verifiers(3)
    miner = loop.miner()
    terms = market.reader.bounty(bounty)
    assignment = miner.enrol(bounty)
    lines = miner.sample(
        terms, miner.environment(terms), assignment, GROUPS, Arithmetic(), checkpoint=None, seed=0
    )
    entry = miner.spool(terms, assignment, lines)
    kind = type(market.client(market.accounts.miner))
    commit = kind.commit_batch

    def twice(*args, **kwargs):
        commit(*args, **kwargs)  # the first one, which waited in the node
        return commit(*args, **kwargs)

    monkeypatch.setattr(kind, "commit_batch", twice)
    (mined,) = miner.resume()
    assert (mined.batch, mined.cid) == (1, entry.cid)
    assert loop.store.has(Cid.parse(entry.cid))


def test_a_spooled_batch_whose_tasks_are_taken_is_set_aside(loop, market, tmp_path):
    bounty = loop.open_bounty()
    market.stake_verifiers(3)
    miner = loop.miner()
    terms = market.reader.bounty(bounty)
    assignment = miner.enrol(bounty)
    lines = miner.sample(
        terms, miner.environment(terms), assignment, GROUPS, Arithmetic(), checkpoint=None, seed=0
    )
    entry = miner.spool(terms, assignment, lines)
    # Another process of the same miner, with a spool of its own, was faster.
    other = Loop(market, loop.pool, tmp_path / "other")
    other.store = loop.store
    other.miner().mine(bounty, 1, Arithmetic())
    assert miner.resume() == []
    kept = list((loop.folder / f"spool-{market.accounts.miner.address}/set-aside").glob("*.zst"))
    assert [path.name for path in kept] == [f"{entry.cid}.jsonl.zst"]


def test_a_batch_that_waits_for_verifiers_stays_in_the_spool(loop, market):
    bounty = loop.open_bounty()
    with pytest.raises(ContractError, match="0 verifiers have a free seat, the market asks for 3"):
        loop.miner().mine(bounty, GROUPS, Arithmetic())
    assert loop.miner().resume() == []
    spool = loop.folder / f"spool-{market.accounts.miner.address}"
    assert len(list(spool.glob("*.json"))) == 1
    assert list((spool / "set-aside").iterdir()) == []
    market.stake_verifiers(3)
    (mined,) = loop.miner().resume()
    assert (mined.batch, mined.traces) == (1, TRACES)
    assert loop.miner().resume() == []


def test_a_batch_is_never_worth_more_than_a_lying_majority_loses(loop, market):
    market.stake_verifiers(3)
    assert market.reader.parameters.most_batch_value == 200 * TUSD
    dear = loop.open_bounty(amount=1_000 * TUSD, price_per_unit=20 * TUSD)
    mined = loop.miner().mine(dear, 5, Arithmetic())
    assert mined.groups == 2  # 4 x 20.02 each
    dearer = loop.open_bounty(amount=1_000 * TUSD, price_per_unit=50 * TUSD)
    with pytest.raises(ConfigError, match=r"can cost 200\.08 tUSD and needs"):
        loop.miner().mine(dearer, 1, Arithmetic())


def test_the_largest_batch_of_a_cheap_bounty_is_what_its_bond_allows(loop, market):
    """Where traces cost less than their bond the contracts bound the bond."""
    market.stake_verifiers(3)
    bounty = loop.open_bounty(price_per_unit=TUSD // 1000, fee_per_trace=TUSD // 1000)
    most = loop.miner().affordable_groups(market.reader.bounty(bounty)) * SIZE
    assert market.reader.bond_for(bounty, most) == market.reader.parameters.most_batch_value
    market.open_assignment(bounty)
    with pytest.raises(ContractError) as refused:
        market.commit_batch(bounty, traces=most + SIZE)
    assert refused.value.name == "BatchMarket_BatchTooDear"
    assert market.reader.batch(market.commit_batch(bounty, traces=most)).count == most


def test_refund_after_the_deadline_with_a_batch_pending(loop, market, accounts):
    bounty = loop.open_bounty(deadline=market.reader.head().timestamp + 600)
    keys = market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    reserved = TRACES * (PRICE + FEE)
    assert market.reader.bounty(bounty).reserved == reserved
    nodes = loop.nodes(keys)
    nodes[0].run_once()
    market.anvil.mine(2)
    nodes[0].run_once()  # drawn, so that the draw does not stall
    market.pass_time(30)
    assert loop.drive(nodes, mined.batch) is BatchPhase.SETTLED
    market.pass_time(700)
    poster = market.client(accounts.poster)
    poster.refund_bounty(bounty)
    refunded = poster.balance(accounts.poster.address)
    assert refunded == 100 * TUSD - TRACES * PRICE - 3 * (FEE * TRACES // 3)
    with pytest.raises(ConfigError, match="deadline"):
        loop.miner().mine(bounty, 1, Arithmetic())


def test_a_bounty_that_can_pay_fewer_groups_gets_fewer(loop, market):
    one_group = SIZE * (PRICE + FEE)
    bounty = loop.open_bounty(amount=2 * one_group + 1)
    market.stake_verifiers(3)
    assert loop.miner().mine(bounty, 10, Arithmetic()).groups == 2
    with pytest.raises(InsufficientFunds, match=r"has 0\.000001 tUSD free"):
        loop.miner().mine(bounty, 1, Arithmetic())


def test_fees_are_collected_above_a_threshold(loop, market):
    bounty = loop.open_bounty()
    keys = market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    nodes = [loop.node(key, collect_above=0) for key in keys]
    before = market.reader.token_balance(keys[0].address)
    loop.drive(nodes, mined.batch)
    for node in nodes:
        node.run_once()
    assert market.reader.balance(keys[0].address) == 0
    assert market.reader.token_balance(keys[0].address) == before + FEE * TRACES // 3


def test_correct_bounties_pay_each_different_answer_once(loop, market):
    bounty = loop.open_bounty(pay_rule=PayRule.CORRECT)
    keys = market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, GROUPS, Repeating())
    loop.drive(loop.nodes(keys), mined.batch)
    # Two of four samples are right, and they are the same text.
    assert market.reader.batch(mined.batch).attestation.units == GROUPS


class Repeating(Arithmetic):
    """Gives a right answer, told once, in two places of each group."""

    def sample(self, prompts: Any, rules: Any, *, seed: int) -> Any:
        for group in super().sample(prompts, rules, seed=seed):
            yield (group[0], group[1], group[0], group[3])


def test_tier_a_needs_a_checkpoint_and_a_sampler_that_takes_seeds(loop, market, accounts):
    bounty = loop.open_bounty(tier=0, trainer=accounts.trainer.address)
    with pytest.raises(ConfigError, match="tier A: traces of a registered checkpoint"):
        loop.miner().mine(bounty, 1, Arithmetic())
    with pytest.raises(ConfigError, match="'arithmetic' can't be told the seed"):
        loop.miner().mine(bounty, 1, Arithmetic(), checkpoint=1)
    assert market.reader.assignment(bounty, accounts.miner.address) is None


def _power_cut(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def _spec_cid(market, bounty):
    return Cid(market.reader.bounty(bounty).terms.environment, RAW)


def _made_up(number, place):
    return Attestation(bytes([number, place]) * 16, 0, 0)
