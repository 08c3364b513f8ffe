"""docs/economics.md says what the code computes."""

from pathlib import Path

import pytest

from marketplace.chain.parameters import STANDARD
from marketplace.protocol.assessment import Verdict, break_even
from marketplace.protocol.attack_table import ATTACKS, assess_all
from marketplace.protocol.economics import Case, assumed, least_loss, most_sold
from marketplace.protocol.laziness import break_even_rate

TEXT = " ".join((Path(__file__).parents[3] / "docs/economics.md").read_text("utf-8").split())
RULES = STANDARD.parameters(6)
CASE = Case(RULES, assumed(RULES, 10**6))


def _turns(name: str, assumption: str) -> float:
    found = break_even(next(one for one in ATTACKS if one.name == name), CASE, assumption)
    assert found is not None
    return found


def test_sizes_at_which_attacks_turn() -> None:
    # The break-even is the first size that pays, or for a false unavailable no longer does.
    assert f"up to {_turns('lying majority', 'traces') - 1:,.0f} traces a batch" in TEXT
    assert f"up to {_turns('lazy signing', 'traces') - 1:,.0f} traces" in TEXT
    assert f"Below {_turns('false unavailable', 'traces'):.0f} traces" in TEXT
    assert f"({least_loss(RULES) // 10**6} tokens)" in TEXT


def test_shares_at_which_attacks_turn() -> None:
    assert _turns("lying majority", "watch") == pytest.approx(1 / 25, rel=0.05)
    assert _turns("captured juries", "attacker") == pytest.approx(9 / 16)
    wide = Case(RULES, assumed(RULES, 10**6, seats=64)).dilemma
    assert f"from {break_even_rate(wide, 64, 1):.1%}".replace("%", " %") in TEXT
    assert f"from {break_even_rate(wide, 64, 13):.1%}".replace("%", " %") in TEXT


def test_what_a_single_signer_risks() -> None:
    largest = Case(RULES, assumed(RULES, 10**6, traces=most_sold(RULES, 10_000, 2_000)))
    signer = next(one for one in ATTACKS if one.name == "conflict winner with one signer")
    assert signer.weigh(CASE).at_risk == 140 * 10**6
    assert break_even(signer, CASE, "watch") is None
    assert f"up to {_turns(signer.name, 'traces') - 1:,.0f} traces, and on the largest" in TEXT
    assert f"batch {break_even(signer, largest, 'watch'):.0%} must".replace("%", " %") in TEXT
    false = next(one for one in ATTACKS if one.name == "false malformed or false faults")
    assert f"in {break_even(false, largest, 'miner_watch'):.1%} of".replace("%", " %") in TEXT
    assert f"in {_turns(false.name, 'miner_watch'):.1%} with".replace("%", " %") in TEXT
    assert f"bond ({largest.bond // 10**6} tokens)" in TEXT


def test_what_juries_need() -> None:
    assert _turns("starved jury", "attacker") == pytest.approx(9 / 16)
    assert f"If {_turns('captured juries', 'leaving'):.0f} of 16 leave" in TEXT
    assert f"from {_turns('withdrawn content', 'traces'):,.0f} traces on" in TEXT
    assert f"({CASE.jury_fees / 10**6:g} tokens)" in TEXT


def test_open_attacks_are_told() -> None:
    found = [one.name for one in assess_all(CASE) if one.verdict is Verdict.OPEN]
    assert found == ["selective publication"]
    for name in found:
        assert f"| {name} |" in TEXT
    without = f"fewer than {_turns('lie without content', 'poster_watch'):.1%}"
    assert without.replace("%", " %") in TEXT
    assert f"fewer than {_turns('lie without content', 'traces'):.0f} traces" in TEXT
    unpaid = (CASE.committee - CASE.quorum) * CASE.share / 10**6
    assert f"two members, {unpaid:.2f} tokens" in TEXT
