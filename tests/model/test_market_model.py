"""The contracts against the reference model: random steps on a real Anvil, compared one by one.

The example database is off and the seed fixed, but block hashes, and with them who is drawn, are
Anvil's own: a failure may not come again, so its message tells every step since the start.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

sys.path.insert(0, str(Path(__file__).parent))

from play import TUSD, Play

# Who acts is a number: roles are spread over the accounts, see play.ACCOUNTS.
anybody = st.integers(0, 25)
number = st.integers(0, 7)
amounts = st.sampled_from([0, 1, TUSD, 100 * TUSD + 7, 250 * TUSD, 10**13])
ballots = st.one_of(
    st.builds(lambda main: [main] * 31, st.integers(0, 9)),
    st.builds(
        lambda main, others: [others.get(seat, main) for seat in range(31)],
        st.sampled_from([0, 0, 1, 2]),
        st.dictionaries(st.integers(0, 6), st.integers(-2, 5), max_size=3),
    ),
    st.builds(
        lambda few: [few[seat % len(few)] for seat in range(31)],
        st.lists(st.integers(-2, 4), min_size=2, max_size=5),
    ),
)


class MarketMachine(RuleBasedStateMachine):
    """`play` is set by the test: one chain for all examples, put back before each."""

    play: ClassVar[Play]

    @initialize()
    def start(self) -> None:
        self.play.go_back()

    # --- what moves a case on, most of the time ---------------------------------------

    @rule(who=st.integers(0, 1), bounty=st.integers(1, 3), groups=st.integers(1, 3))
    def commit_batch(self, who: int, bounty: int, groups: int) -> None:
        self.play.new_batch(who, bounty, 2 * groups)

    @rule(batch=number, ballot=ballots, move=number, turns=st.integers(1, 4))
    def push_batch(self, batch: int, ballot: list[int], move: int, turns: int) -> None:
        for _ in range(turns):
            self.play.push_batch(batch, ballot, move)

    @rule(batch=number, ballot=ballots, move=number, place=number)
    def push_batch_far(self, batch: int, ballot: list[int], move: int, place: int) -> None:
        """To an attestation and a challenge of it."""
        for turn in range(5):
            self.play.push_batch(batch, ballot, (move + turn) % 8, place)

    @rule(dispute=number, ballot=ballots, move=number, turns=st.integers(1, 6))
    def push_dispute(self, dispute: int, ballot: list[int], move: int, turns: int) -> None:
        for _ in range(turns):
            self.play.push_dispute(dispute, ballot, move)

    @rule(dispute=number, ballot=ballots)
    def push_dispute_to_its_end(self, dispute: int, ballot: list[int]) -> None:
        for _ in range(9):
            self.play.push_dispute(dispute, ballot, 0)

    # --- anything by anybody, right or wrong -----------------------------------------

    @rule(who=anybody, batch=number, place=number, tree=st.integers(0, 10), bad=st.booleans())
    def dispute_leaf(self, who: int, batch: int, place: int, tree: int, bad: bool) -> None:
        self.play.any_leaf(who, batch, place, tree, bad)

    @rule(who=anybody, what=st.integers(0, 9), which=st.integers(0, 9), tree=number)
    def any_call(self, who: int, what: int, which: int, tree: int) -> None:
        self.play.any_call(who, what, which, tree)

    @rule(who=anybody, which=number, seat=st.integers(0, 4), what=st.integers(0, 5))
    def any_vote(self, who: int, which: int, seat: int, what: int) -> None:
        self.play.any_vote(who, which, seat, what)

    @rule(who=anybody, bounty=st.integers(0, 4), what=st.integers(0, 7), count=st.integers(0, 65))
    def any_batch(self, who: int, bounty: int, what: int, count: int) -> None:
        self.play.any_batch(who, bounty, what, count)

    @rule(who=anybody, amount=amounts, what=st.integers(0, 9), bounty=st.integers(0, 4))
    def any_money(self, who: int, amount: int, what: int, bounty: int) -> None:
        self.play.any_money(who, amount, what, bounty)

    @rule(who=anybody, what=st.integers(0, 11), deadline=st.integers(-1, 3))
    def any_bounty(self, who: int, what: int, deadline: int) -> None:
        self.play.any_bounty(who, what, deadline)

    @rule(
        seconds=st.sampled_from([1, 60, 91, 121, 301, 901, 4_000, 20_000]),
        blocks=st.sampled_from([1, 1, 1, 2, 3, 258]),
    )
    def wait(self, seconds: int, blocks: int) -> None:
        self.play.twins.wait(seconds, blocks)


def run(play: Play, examples: int, steps: int, **options: Any) -> None:
    machine = type("Machine", (MarketMachine,), {"play": play})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            # A chain is too slow to shrink on; the message of a failure has the whole story.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


def test_contracts_do_what_the_model_does(play: Play) -> None:
    run(play, examples=8, steps=40, derandomize=True)


@pytest.mark.deep
def test_contracts_do_what_the_model_does_for_long(play: Play) -> None:
    run(play, examples=250, steps=60)
