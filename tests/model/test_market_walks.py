"""Whole lives of a batch that random steps seldom finish, on the chain and in the model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import reference_batches as batches
import reference_court as court
from play import Play

# Papers of a committee, see Play.papers.
HONEST, GENEROUS, HARSH, UNAVAILABLE, MALFORMED, PARTIAL, ACCUSING = 0, 1, 2, 3, 4, 6, 7
SUM, DOUBLED, INNER = 8, 9, 12
ABSENT, LATE = -1, -2
LONGEST = 60
"""Pushes after which a walk is stuck."""
# Papers of a jury, see Play.jury_papers.
AS_DISPUTED, OTHERWISE = 0, 1


def everybody(paper: int) -> list[int]:
    return [paper] * 31


def batch_until(play: Play, batch: int, phase: int, ballot: list[int], move: int = 0) -> None:
    for _ in range(LONGEST):
        if play.model.market.phase(batch) == phase:
            return
        play.push_batch(batch - 1, ballot, move)
    raise AssertionError(f"batch {batch} did not get to phase {phase}")


def dispute_until(play: Play, dispute: int, phase: int, ballot: list[int], move: int = 0) -> None:
    for _ in range(LONGEST):
        if play.model.court.phase(dispute) == phase:
            return
        play.push_dispute(dispute - 1, ballot, move)
    raise AssertionError(f"dispute {dispute} did not get to phase {phase}")


def attested(play: Play, ballot: list[int], count: int = 4) -> int:
    """A new batch with an attestation by that ballot."""
    play.new_batch(0, 1, count)
    batch = len(play.model.market.batches)
    batch_until(play, batch, batches.CHALLENGEABLE, ballot, 3)
    return batch


@pytest.mark.parametrize(
    "ballot", [[0, 0, 0], [0, 0, -1], [0, 0, -2], [0, 0, 1], [3, 3, 0], [4, 4, 3]]
)
def test_a_batch_is_settled(play: Play, ballot: list[int]) -> None:
    batch = attested(play, ballot * 11)
    batch_until(play, batch, batches.SETTLED, ballot * 11)


def test_rounds_without_quorum_end_void(play: Play) -> None:
    play.new_batch(0, 1, 4)
    batch_until(play, 1, batches.VOID, [ABSENT, LATE, HONEST] * 11)


@pytest.mark.parametrize(
    ("lie", "jury"),
    [
        (GENEROUS, AS_DISPUTED),
        (GENEROUS, OTHERWISE),
        (GENEROUS, 2),
        (HARSH, OTHERWISE),
        (PARTIAL, OTHERWISE),
        (ACCUSING, OTHERWISE),
    ],
)
def test_a_verdict_is_disputed(play: Play, lie: int, jury: int) -> None:
    batch = attested(play, everybody(lie))
    place = 0 if lie == HARSH else 1
    tree = play.twins.forests[batch].attested(play.model.market[batch].attestation)
    play.any_leaf(4, 0, place, play.twins.forests[batch].trees.index(tree), False)
    dispute_until(play, 1, court.CLOSED, [jury] * 5 + [AS_DISPUTED, ABSENT] * 9)
    batch_until(play, batch, batches.SETTLED, everybody(HONEST))


@pytest.mark.parametrize(
    ("paper", "tree", "place", "proven"),
    [
        (HONEST, 6, 1, True),  # another sum at the root
        (HONEST, 10, 3, True),  # another sum on the way to the verdict
        (HONEST, 10, 0, False),  # another sum beside it
        (INNER, 10, 0, True),
        (INNER, 10, 3, False),
        (SUM, 6, 0, False),
        (DOUBLED, 7, 0, True),
        (DOUBLED, 7, 1, True),
    ],
)
def test_a_proof_tells_siblings_and_no_more(
    play: Play, paper: int, tree: int, place: int, proven: bool
) -> None:
    attested(play, everybody(paper))
    play.any_leaf(4, 0, place, tree, False)
    assert bool(play.model.court.disputes) is proven


@pytest.mark.parametrize("second", [AS_DISPUTED, OTHERWISE, ABSENT])
def test_an_appeal(play: Play, second: int) -> None:
    batch = attested(play, everybody(GENEROUS))
    play.any_leaf(4, 0, 1, 1, False)
    dispute_until(play, 1, court.APPEALABLE, everybody(OTHERWISE))
    play.push_dispute(0, [], 1)
    dispute_until(play, 1, court.CLOSED, everybody(second))
    batch_until(play, batch, batches.SETTLED, everybody(HONEST))


def test_an_appeal_after_a_jury_without_quorum(play: Play) -> None:
    attested(play, everybody(GENEROUS))
    play.any_leaf(4, 0, 1, 1, False)
    for _ in range(3):  # draw, vote, tally
        play.push_dispute(0, [0, 1, 2] * 11, 0)
    assert play.model.court[1].juries == 2
    dispute_until(play, 1, court.APPEALABLE, everybody(OTHERWISE))
    play.push_dispute(0, [], 1)
    dispute_until(play, 1, court.CLOSED, everybody(OTHERWISE))


def test_an_appeal_that_no_jury_hears(play: Play) -> None:
    attested(play, everybody(GENEROUS))
    play.any_leaf(4, 0, 1, 1, False)
    dispute_until(play, 1, court.APPEALABLE, everybody(OTHERWISE))
    before = play.model.ledger.balances.get(play.accounts[1], 0)
    play.push_dispute(0, [], 1)
    play.twins.wait(play.twins.rules.draw_timeout + 1)
    dispute_until(play, 1, court.CLOSED, [])
    bond = play.model.court[1].appeals[0].bond
    assert play.model.ledger.balances[play.accounts[1]] == before + bond


def test_busy_seats_dont_keep_a_jury_away(play: Play) -> None:
    """Nor from being fined: what they lose then uncovers seats that are open."""
    lied = attested(play, everybody(GENEROUS))
    for batch in range(2, 12):
        play.new_batch(0, 1, 2)
        for _ in range(3):
            if not play.model.rounds[batch].drawn_at:
                play.push_batch(batch - 1, everybody(ABSENT), 0)
    assert play.model.stake.eligible < 4
    play.any_leaf(4, lied - 1, 1, 1, False)
    play.push_dispute(0, [], 0)  # the draw
    jurors = [seat.member for seat in play.model.rounds[play.model.court[1].jury].seats]
    stake, each = play.model.stake, play.twins.rules.seat_stake
    absent = max(jurors, key=lambda who: stake.verifiers[who].open_seats)
    play.push_dispute(0, [ABSENT if who == absent else OTHERWISE for who in jurors], 0)
    # It takes away all that it can.
    one = stake.verifiers[absent]
    if beyond := one.stake - one.open_seats * each:
        play.twins.unstake(absent, beyond)
        play.twins.wait(play.twins.rules.unbonding_delay)
        play.twins.claim(absent, absent)
    dispute_until(play, 1, court.CLOSED, [])
    assert play.model.court[1].standing == court.FALLS
    one = play.model.stake.verifiers[absent]
    assert one.stake < one.open_seats * each


def test_a_bond_may_be_worth_more_than_its_batch(play: Play) -> None:
    assert not play.twins.commit_batch(play.accounts[2], 3, 32)
    assert play.twins.commit_batch(play.accounts[2], 3, 30)


@pytest.mark.parametrize("leader", [HONEST, GENEROUS])
@pytest.mark.parametrize("winner", [AS_DISPUTED, OTHERWISE, 3, ABSENT])
def test_a_conflict_is_narrowed(play: Play, leader: int, winner: int) -> None:
    play.new_batch(0, 1, 4)
    for _ in range(2):  # draw, vote
        play.push_batch(0, [leader, HONEST + GENEROUS - leader, UNAVAILABLE] * 11, 0)
    assert play.model.market.conflict(1)
    play.push_batch(0, [], 1)
    dispute_until(play, 1, court.CLOSED, everybody(winner))
    batch_until(play, 1, batches.SETTLED, everybody(HONEST))


@pytest.mark.parametrize(("said", "move"), [(GENEROUS, 0), (GENEROUS, 7), (INNER, 1)])
def test_an_opening(play: Play, said: int, move: int) -> None:
    batch = attested(play, everybody(said))
    play.twins.demand_opening(play.accounts[4], batch)
    if move == 7:
        play.push_dispute(0, [], 0)
    dispute_until(play, 1, court.CLOSED, everybody(AS_DISPUTED), move)
    batch_until(play, batch, batches.SETTLED, everybody(HONEST))


@pytest.mark.parametrize("said", [SUM, INNER, 9])
def test_lying_trees_are_proven_until_the_batch_is_void(play: Play, said: int) -> None:
    batch = attested(play, everybody(said))
    batch_until(play, batch, batches.VOID, everybody(said), 7)


@pytest.mark.parametrize(
    ("outcome", "jury"), [(UNAVAILABLE, 0), (UNAVAILABLE, 1), (MALFORMED, 1), (MALFORMED, 2)]
)
def test_an_outcome_is_disputed(play: Play, outcome: int, jury: int) -> None:
    batch = attested(play, everybody(outcome))
    play.twins.dispute_outcome(play.accounts[4], batch)
    dispute_until(play, 1, court.CLOSED, everybody(jury))
    batch_until(play, batch, batches.SETTLED, everybody(HONEST))


def test_the_quicker_of_two_disputes_decides(play: Play) -> None:
    batch = attested(play, everybody(GENEROUS))
    play.any_leaf(4, 0, 1, 1, False)
    play.any_leaf(3, 0, 0, 1, False)
    dispute_until(play, 1, court.CLOSED, everybody(OTHERWISE))
    # The other one is about an attestation that is gone: the next tally doesn't wait for it, and
    # its challenger bears the fees of its jurors.
    batch_until(play, batch, batches.CHALLENGEABLE, everybody(HONEST))
    bond = play.model.court[2].bond
    before = play.model.ledger.balances.get(play.accounts[3], 0)
    dispute_until(play, 2, court.CLOSED, everybody(OTHERWISE))
    assert before < play.model.ledger.balances[play.accounts[3]] < before + bond
    batch_until(play, batch, batches.SETTLED, everybody(HONEST))


def test_a_narrowed_round_with_an_older_dispute(play: Play) -> None:
    batch = attested(play, everybody(GENEROUS))
    play.any_leaf(4, 0, 1, 1, False)
    play.any_leaf(3, 0, 0, 1, False)
    dispute_until(play, 1, court.CLOSED, everybody(OTHERWISE))
    for _ in range(2):  # draw, vote
        play.push_batch(0, [HONEST, GENEROUS, UNAVAILABLE] * 11, 0)
    play.push_batch(0, [], 1)
    dispute_until(play, 3, court.CLOSED, everybody(3))
    play.push_batch(0, [], 0)  # the tally
    dispute_until(play, 2, court.CLOSED, everybody(OTHERWISE))
    batch_until(play, batch, batches.SETTLED, everybody(HONEST))


def test_committees_stay_fresh_after_an_overturn(play: Play) -> None:
    batch = attested(play, everybody(SUM))
    play.push_batch(0, [], 7)
    for _ in range(3):  # draw, nobody votes, tally
        play.push_batch(0, everybody(ABSENT), 0)
    assert [one.fresh for one in play.model.rounds.rounds] == [False, True, True]
    batch_until(play, batch, batches.SETTLED, everybody(HONEST))


def test_draws_are_missed_and_stall(play: Play) -> None:
    for _ in range(2):
        play.new_batch(0, 1, 2)
    play.twins.wait(1, blocks=260)
    play.twins.draw_due(play.accounts[0], 1)
    play.twins.draw(play.accounts[0], 2)
    play.twins.wait(901)
    for batch in (1, 2):
        play.twins.void_stalled(play.accounts[0], batch)


def test_a_conviction_reaches_what_is_unbonding(play: Play) -> None:
    batch = attested(play, everybody(SUM))
    seats = play.model.rounds[1].seats
    for seat in seats:
        stake = play.model.stake.verifiers[seat.member].stake
        play.twins.unstake(seat.member, stake - play.twins.rules.seat_stake)
    asked = [play.model.stake.verifiers[seat.member].unbonding for seat in seats]
    play.push_batch(batch - 1, [], 7)
    assert play.model.market[batch].overturned == 1
    left = [play.model.stake.verifiers[seat.member].unbonding for seat in seats]
    assert all(map(int.__lt__, left, asked))


def test_of_two_draws_at_one_point_the_older_comes_first(play: Play) -> None:
    attested(play, everybody(SUM), 2)
    play.new_batch(1, 1, 2)
    play.twins.wait(1, blocks=260)
    # Schedules the second batch's draw again, then opens a fresh round for the first one.
    play.push_batch(0, [], 7)
    points = [play.model.rounds[number].point for number in (2, 3)]
    assert points[0] == points[1]
    assert play.model.rounds.next_draw == 2
    play.twins.wait(1, blocks=2)
    play.twins.draw(play.accounts[0], 3)
