"""How many groups a miner puts into one batch: the most that the contracts take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from marketplace.chain.amounts import format_amount
from marketplace.chain.parameters import MINIMAL, Parameters
from marketplace.chain.records import Bounty, BountyTerms, PayRule, Tier
from marketplace.miner.mine import Miner
from marketplace.miner.sampler import Sampler
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import ConfigError, InsufficientFunds
from marketplace.storage.embedded import EmbeddedStore

TUSD = 10**6
SIZE = 4
RULES = replace(MINIMAL.parameters(6), max_traces=1 << 20)
LEAST_LOSS = 200 * TUSD
BOND = TUSD // 100


def bond(rules: Parameters, terms: BountyTerms, traces: int) -> int:
    """BatchMarket._bond."""
    return traces * max(rules.bond_per_trace, terms.fee_per_trace)


def accepts(rules: Parameters, bounty: Bounty, groups: int) -> bool:
    """BatchMarket._requireSellable, and what the escrow can reserve."""
    terms, traces = bounty.terms, groups * bounty.terms.group_size
    cost = traces * (terms.price_per_unit + terms.fee_per_trace)
    dear = max(cost, bond(rules, terms, traces)) > LEAST_LOSS
    return not dear and traces <= rules.max_traces and cost <= bounty.available


def offer(price: int, fee: int, *, available: int = 10**6 * TUSD, size: int = SIZE) -> Bounty:
    terms = BountyTerms(
        environment=b"\x01" * 32,
        trainer=None,
        deadline=1_000,
        group_size=size,
        tier=Tier.C,
        pay_rule=PayRule.CORRECT,
        price_per_unit=price,
        fee_per_trace=fee,
    )
    return Bounty(1, "0x" + "11" * 20, available, 0, terms)


def miner(tmp_path: Path, rules: Parameters, bounty: Bounty) -> Miner:
    client = SimpleNamespace(
        parameters=rules,
        token=SimpleNamespace(format=lambda units: format_amount(units, 6)),
        bounty=lambda _: bounty,
        bond_for=lambda _, traces: bond(rules, bounty.terms, traces),
        head=lambda: SimpleNamespace(timestamp=0),
    )
    return Miner(client, EmbeddedStore(tmp_path / "store"), Spool(tmp_path / "spool"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("price", "fee", "groups"),
    [
        (TUSD // 10, TUSD // 50, 416),  # its cost bounds it: 0.48 a group
        (TUSD // 1000, TUSD // 1000, 5_000),  # its bond: 0.04 a group
        (1, 100, 5_000),
        (BOND - 101, 100, 5_000),  # cost just below the bond
        (BOND, 1, 4_999),  # and just above
        (0, BOND + 1, 4_999),  # a fee above the bond per trace is its bond
    ],
)
def test_neither_cost_nor_bond_is_more_than_a_lying_majority_loses(
    tmp_path, price, fee, groups
) -> None:
    bounty = offer(price, fee)
    assert miner(tmp_path, RULES, bounty).affordable_groups(bounty) == groups
    assert accepts(RULES, bounty, groups)
    assert not accepts(RULES, bounty, groups + 1)


def test_what_the_bounty_holds_and_the_longest_batch_bound_it_too(tmp_path) -> None:
    poor = offer(TUSD // 1000, TUSD // 1000, available=80_007)
    assert miner(tmp_path, RULES, poor).affordable_groups(poor) == 10
    short, rich = replace(RULES, max_traces=10), offer(1, 100)
    assert miner(tmp_path, short, rich).affordable_groups(rich) == 2


@pytest.mark.parametrize(
    ("rules", "bounty"),
    [
        (RULES, offer(50 * TUSD, TUSD)),
        (replace(RULES, bond_per_trace=50 * TUSD + 1), offer(1, 100)),
        (replace(RULES, max_traces=3), offer(1, 100)),
    ],
    ids=["too dear", "too large a bond", "too many traces"],
)
def test_a_group_that_fits_no_batch_is_refused_before_anything_is_sampled(
    tmp_path, rules, bounty
) -> None:
    unused: Sampler = SimpleNamespace()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="no group of bounty 1 fits a batch: it has 4 traces"):
        miner(tmp_path, rules, bounty).mine(1, 1, unused)


def test_a_bounty_that_is_spent_says_so(tmp_path) -> None:
    spent = offer(TUSD // 10, TUSD // 50, available=479_999)
    unused: Sampler = SimpleNamespace()  # type: ignore[assignment]
    with pytest.raises(InsufficientFunds, match=r"has 0\.479999 free, one group needs 0\.48"):
        miner(tmp_path, RULES, spent).mine(1, 1, unused)
