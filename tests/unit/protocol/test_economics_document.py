"""docs/economics.md says what the code computes."""

from pathlib import Path

import pytest

from marketplace.chain.parameters import STANDARD
from marketplace.protocol.assessment import Verdict, break_even
from marketplace.protocol.attack_table import ATTACKS, assess_all
from marketplace.protocol.economics import Case, assumed, least_loss
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


def test_open_attacks_are_told() -> None:
    found = [one.name for one in assess_all(CASE) if one.verdict is Verdict.OPEN]
    assert sorted(found) == [
        "pool draining by late disputes",
        "selective publication",
        "starved jury",
    ]
    assert "| starved jury |" in TEXT
    assert "| late disputes |" in TEXT
    assert "| selective publication |" in TEXT
