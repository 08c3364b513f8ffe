"""A run that opens its own bounties: one each turn, within a budget, through kills, and closed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import SUMS, Arithmetic, Loop

from marketplace.chain.client import MarketClient
from marketplace.chain.records import BatchPhase
from marketplace.cli.market_traces import GONE, ROLLED_BACK, MarketTrader
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import environment_id, spec_bytes
from marketplace.protocol.errors import ConfigError, ContentUnavailable, TransactionTimeout
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.trace import Tier
from marketplace.storage.checkpoints import put_checkpoint
from trainer.pull import settled_batches
from trainer.recipe import BountyPolicy, Recipe, Stage, plans, recipe_identity
from trainer.run import RunFolder

GROUPS, SIZE = 2, 4
TUSD = 10**6
OFFER = BountyPolicy(
    price_per_unit="0.1", fee_per_trace="0.05", amount="2", budget="2.6", lasts_hours=1
)
WHOLE = 12 * TUSD // 10
"""What the traces of a turn can cost: less than the amount."""
RECIPE = Recipe(
    v=1,
    name="own",
    environments=("sums",),
    bounty=OFFER,
    stages=(Stage(name="bought", kind="sft", turns=3, groups=GROUPS, group_size=SIZE),),
)


class Killed(BaseException):
    """In place of a kill -9."""


@pytest.fixture
def world(market, accounts, tmp_path):
    """A loop with verifiers and a registered environment, the trainer's client and its parent."""
    with CheckPool(workers=1) as pool:
        loop = Loop(market, pool, tmp_path)
        loop.open_bounty()  # registers the environment
        keys = market.stake_verifiers(3)
        trainer = market.client(accounts.trainer)
        folder = tmp_path / "parent"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        cid = put_checkpoint(loop.store, folder)
        parent, _ = trainer.register_checkpoint(None, cid, ZERO32)
        yield SimpleNamespace(loop=loop, trainer=trainer, parent=parent, keys=keys)


def _trader(world, tmp_path, *, policy=OFFER, bounties=(), sleep=lambda _: None) -> MarketTrader:
    return MarketTrader(
        client=world.trainer,
        store=world.loop.store,
        folder=RunFolder(tmp_path / "run"),
        environments={"sums": (environment_id(spec_bytes(SUMS)), SUMS)},
        policy=policy,
        bounties=bounties,
        base=world.trainer.checkpoint(world.parent),
        cache=SimpleNamespace(policy=None),
        lost=tmp_path / "rolled-back.json",
        register=False,
        timeout=5,
        sleep=sleep,
    )


def _killed(_=None):
    """The run is killed while it waits."""
    raise Killed


def _sold(world):
    """What others do while a run waits: they mine the newest bounty, and verifiers judge."""

    def sleep(_):
        number = world.trainer.bounty_count()
        mined = world.loop.miner().mine(number, GROUPS, Arithmetic())
        nodes = world.loop.nodes(world.keys)
        assert world.loop.drive(nodes, mined.batch) is BatchPhase.SETTLED

    return sleep


def _wealth(world) -> int:
    """What the key has, in its account and on the market."""
    address = world.trainer.address
    return world.trainer.token_balance(address) + world.trainer.balance(address)


def test_a_bounty_for_each_turn_within_the_budget(world, market, tmp_path, monkeypatch, capsys):
    first, second, third = plans(RECIPE)
    start, known = _wealth(world), world.trainer.bounty_count()

    # Killed when the bounty is on chain and the run has not noted it.
    create = MarketClient.create_bounty

    def killed(*arguments, **named):
        create(*arguments, **named)
        raise Killed

    monkeypatch.setattr(MarketClient, "create_bounty", killed)
    with pytest.raises(Killed):
        _trader(world, tmp_path).buy(first, None, world.parent)
    monkeypatch.undo()
    assert world.trainer.bounty_count() == known + 1
    # Two tokens were offered, but the traces that the turn wants can't cost as much.
    assert start - _wealth(world) == WHOLE

    # Started again it finds that one, even if the recipe has another price by now.
    dearer = OFFER.model_copy(update={"price_per_unit": "0.2"})
    bought = _trader(world, tmp_path, policy=dearer, sleep=_sold(world)).buy(
        first, None, world.parent
    )
    assert world.trainer.bounty_count() == known + 1
    bounty = world.trainer.bounty(known + 1)
    assert (bounty.poster, bounty.terms.tier) == (world.trainer.address, Tier.C)
    assert bounty.terms.price_per_unit == TUSD // 10
    assert [len(one.lines) for one in bought.batches] == [GROUPS * SIZE]
    assert 0 < bought.spent <= 2
    again = _trader(world, tmp_path).buy(first, None, world.parent)
    assert [one.terms.batch for one in again.batches] == [one.terms.batch for one in bought.batches]

    _trader(world, tmp_path, sleep=_sold(world)).buy(second, None, world.parent)
    assert world.trainer.bounty_count() == known + 2
    assert start - _wealth(world) == 2 * WHOLE

    # The third nothing, until the rest of the first two is back.
    with pytest.raises(ConfigError, match=r"the budget of 2\.6\d* tUSD has 0\.2"):
        _trader(world, tmp_path).buy(third, None, world.parent)
    assert world.trainer.bounty_count() == known + 2
    _trader(world, tmp_path).close()
    assert "can be bought from until" in capsys.readouterr().err
    market.pass_time(2 * 3600)
    _trader(world, tmp_path).close()
    assert "are back in the balance of the key" in capsys.readouterr().err
    assert [world.trainer.bounty(known + one).available for one in (1, 2)] == [0, 0]
    spent = start - _wealth(world)
    assert 0 < spent < 2 * TUSD
    _trader(world, tmp_path).close()  # once more: nothing to do

    # Nobody sells anything to the third one; it is closed, and the run opens another.
    lasting = _trader(world, tmp_path, sleep=lambda _: market.pass_time(3600 + 60))
    with pytest.raises(ConfigError, match="nobody sold it anything"):
        lasting.buy(third, None, world.parent)
    assert world.trainer.bounty_count() == known + 3
    assert start - _wealth(world) == spent
    _trader(world, tmp_path, sleep=_sold(world)).buy(third, None, world.parent)
    assert world.trainer.bounty_count() == known + 4
    assert start - _wealth(world) <= 26 * TUSD // 10


def test_what_is_left_of_the_budget_and_what_an_offer_has_to_pay(world, tmp_path):
    first, *_ = plans(RECIPE)
    start, known = _wealth(world), world.trainer.bounty_count()
    for change, said in (
        ({"amount": "0.59"}, r"amount in \[bounty\] is 0\.59\d* tUSD, and a group of 4"),
        ({"budget": "0.59"}, r"the budget of 0\.59"),
    ):
        with pytest.raises(ConfigError, match=said):
            _trader(world, tmp_path, policy=OFFER.model_copy(update=change)).buy(
                first, None, world.parent
            )
    assert world.trainer.bounty_count() == known
    # The price is the recipe's of now: nothing was opened at the old one.
    cheaper = OFFER.model_copy(update={"budget": "0.59", "price_per_unit": "0.05"})
    with pytest.raises(Killed):
        _trader(world, tmp_path, policy=cheaper, sleep=_killed).buy(first, None, world.parent)
    assert start - _wealth(world) == 59 * TUSD // 100
    assert world.trainer.bounty(known + 1).terms.price_per_unit == 5 * TUSD // 100


def test_what_waits_to_be_mined_is_not_opened_again(world, market, accounts, tmp_path):
    first, *_ = plans(RECIPE)
    known, trainer = world.trainer.bounty_count(), world.trainer
    market.anvil.set_automine(False)
    try:
        # The process ends when the transaction is with the node and in no block.
        world.trainer = MarketClient(
            market.anvil.url, market.deployment, accounts.trainer, timeout=0.05
        )
        with pytest.raises(TransactionTimeout):
            _trader(world, tmp_path).buy(first, None, world.parent)
        world.trainer = trainer
        assert (trainer.bounty_count(), trainer.unmined()) == (known, 1)
        mined = iter([market.anvil.mine, _killed])
        with pytest.raises(Killed):
            _trader(world, tmp_path, sleep=lambda _: next(mined)()).buy(first, None, world.parent)
        assert (trainer.bounty_count(), trainer.unmined()) == (known + 1, 0)
    finally:
        market.anvil.set_automine(True)


def test_a_bounty_that_a_reorganisation_took_is_not_taken_for_anothers(
    world, market, tmp_path, capsys
):
    first, *_ = plans(RECIPE)
    before = market.anvil.snapshot()
    with pytest.raises(Killed):
        _trader(world, tmp_path, sleep=_killed).buy(first, None, world.parent)
    number = world.trainer.bounty_count()
    market.anvil.revert(before)
    assert market.open_bounty() == number

    opened = []

    def others(_):
        opened.append(world.trainer.bounty_count())
        if len(opened) == 2:
            raise Killed
        market.anvil.revert(again)  # and once more, while the run waits
        world.loop.open_bounty()
        market.open_bounty()

    again = market.anvil.snapshot()
    with pytest.raises(Killed):
        _trader(world, tmp_path, sleep=others).buy(first, None, world.parent)
    assert opened == [number + 1, number + 3]
    assert world.trainer.bounty(number + 3).poster == world.trainer.address
    assert f"bounty {number} is gone from the chain" in capsys.readouterr().err


def test_what_is_judged_after_the_deadline_is_waited_for(world, market, tmp_path):
    first, *_ = plans(RECIPE)
    batches = []

    def one_group(_):
        (number, miner) = world.trainer.bounty_count(), world.loop.miner()
        batches.append(miner.mine(number, 1, Arithmetic()).batch)
        if len(batches) == 1:
            world.loop.drive(world.loop.nodes(world.keys), batches[0])
            deadline = world.trainer.bounty(number).terms.deadline
            market.pass_time(deadline - world.trainer.head().timestamp - 40)
        else:
            market.pass_time(45)

    def judged(_):
        phase = world.loop.drive(world.loop.nodes(world.keys), batches[1])
        assert phase is BatchPhase.SETTLED

    steps = iter([one_group, one_group, judged])
    bought = _trader(world, tmp_path, sleep=lambda seconds: next(steps)(seconds)).buy(
        first, None, world.parent
    )
    assert [one.terms.batch for one in bought.batches] == batches


def test_traces_that_teach_nothing_do_not_end_a_run(world, market, tmp_path):
    first, *_ = plans(RECIPE)
    known = world.trainer.bounty_count()
    nothing = ConfigError("none of 8 attested traces can be trained on")
    trader = _trader(world, tmp_path, sleep=_sold(world))
    trader.buy(first, None, world.parent)
    assert "buy more traces" in trader.unusable(first, nothing).fix
    # The bounty is open: it is waited for more. Nobody sells more: the next call opens another.
    lasting = _trader(world, tmp_path, sleep=lambda _: market.pass_time(3600 + 60))
    with pytest.raises(ConfigError, match="nobody sold it anything beside 8 that taught nothing"):
        lasting.buy(first, None, world.parent)
    assert world.trainer.bounty_count() == known + 1
    bought = _trader(world, tmp_path, sleep=_sold(world)).buy(first, None, world.parent)
    assert [one.terms.bounty for one in bought.batches] == [known + 2]


def test_only_the_offer_may_change_while_a_run_goes_on():
    other = OFFER.model_copy(update={"budget": "9", "amount": "1", "wait_hours": 2.0})
    same = recipe_identity(RECIPE.model_copy(update={"bounty": other}))
    assert same == recipe_identity(RECIPE)
    paid = OFFER.model_copy(update={"tier": "A"})
    assert recipe_identity(RECIPE.model_copy(update={"bounty": paid})) != same


def test_batches_that_were_rolled_back_on_are_left_out(world, tmp_path, capsys):
    (plan, *_) = plans(RECIPE)
    bounty = world.loop.open_bounty()
    trader = _trader(world, tmp_path, bounties=(bounty,))

    def sell() -> int:
        mined = world.loop.miner().mine(bounty, GROUPS, Arithmetic())
        assert world.loop.drive(world.loop.nodes(world.keys), mined.batch) is BatchPhase.SETTLED
        return mined.batch

    first = sell()
    bought = trader.buy(plan, None, world.parent)
    assert ([one.terms.batch for one in bought.batches], bought.left_out) == ([first], {})
    trader.rolled_back(plan, SimpleNamespace(parent=world.parent, batches=(first,)))
    # The same run, killed and started again, still has what it was about to train on.
    assert len(_trader(world, tmp_path, bounties=(bounty,)).buy(plan, None, world.parent).batches)

    other = replace(trader, folder=RunFolder(tmp_path / "next"))
    with pytest.raises(ConfigError, match="was rolled back on all 1 settled batches"):
        other.buy(plan, None, world.parent)
    second = sell()
    bought = other.buy(plan, None, world.parent)
    assert [one.terms.batch for one in bought.batches] == [second]
    assert bought.left_out == {ROLLED_BACK: GROUPS * SIZE}
    assert "left out: 1 batches" in capsys.readouterr().err
    # With other settings they are worth another try.
    slower = replace(plan, settings=plan.settings.model_copy(update={"learning_rate": 1e-7}))
    fresh = replace(trader, folder=RunFolder(tmp_path / "slower"))
    bought = fresh.buy(slower, None, world.parent)
    assert [one.terms.batch for one in bought.batches] == [first, second]


def test_a_batch_whose_content_is_gone_holds_nobody_up(world, tmp_path, capsys, monkeypatch):
    """Its miner was paid, and nobody serves the file any more: the turn goes on without it."""
    (plan, *_) = plans(RECIPE)
    bounty, other = world.loop.open_bounty(), world.loop.open_bounty()
    mined = []
    for one in (bounty, other, bounty):
        mined.append(world.loop.miner().mine(one, GROUPS, Arithmetic()))
        phase = world.loop.drive(world.loop.nodes(world.keys), mined[-1].batch)
        assert phase is BatchPhase.SETTLED
    first, foreign, second = (one.batch for one in mined)

    # Only the bounty's own batches are read, whatever else the market has.
    read, batch_of = [], MarketClient.batch
    monkeypatch.setattr(MarketClient, "batch", lambda self, n: read.append(n) or batch_of(self, n))
    assert [one.id for one in settled_batches(world.trainer, {bounty})] == [first, second] == read
    assert [one.id for one in settled_batches(world.trainer)][-3:] == [first, foreign, second]

    full = world.loop.store
    everything = _trader(world, tmp_path, bounties=(bounty,))
    whole = replace(everything, folder=RunFolder(tmp_path / "whole")).buy(plan, None, world.parent)
    trader = replace(everything, store=_Without(full, mined[0].cid))
    for _ in range(2):  # started again, it trains on the same
        bought = trader.buy(plan, None, world.parent)
        assert [one.terms.batch for one in bought.batches] == [second]
        assert bought.left_out == {GONE: GROUPS * SIZE}
        assert bought.spent == whole.spent  # it was paid for all the same
    assert f"left out: batch {first}: " in capsys.readouterr().err
    # What the turn was trained on can't be exchanged behind its back.
    with pytest.raises(ContentUnavailable):
        replace(everything, store=_Without(full, mined[2].cid)).buy(plan, None, world.parent)
    (tmp_path / "run").rename(tmp_path / "before")
    nothing = replace(everything, store=_Without(full, mined[0].cid, mined[2].cid))
    with pytest.raises(ConfigError, match="none of the 2 settled batches can be had"):
        nothing.buy(plan, None, world.parent)


def test_bounties_of_another_environment_are_refused(world, tmp_path):
    (plan, *_) = plans(RECIPE)
    bounty = world.loop.open_bounty()
    mined = world.loop.miner().mine(bounty, GROUPS, Arithmetic())
    assert world.loop.drive(world.loop.nodes(world.keys), mined.batch) is BatchPhase.SETTLED
    elsewhere = {"sums": (b"\x07" * 32, SUMS)}
    trader = replace(_trader(world, tmp_path, bounties=(bounty,)), environments=elsewhere)
    with pytest.raises(ConfigError, match=f"batch {mined.batch} is of environment 0x"):
        trader.buy(plan, None, world.parent)


class _Without:
    """A store that nobody gives some contents to any more."""

    def __init__(self, store, *gone):
        self._store, self._gone = store, gone

    def get(self, cid, **limits):
        if str(cid) in self._gone:
            raise ContentUnavailable(f"nobody has {cid}")
        return self._store.get(cid, **limits)
