"""What jurors vote and watchers do, from findings alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marketplace.chain.records import (
    Dispute,
    DisputePhase,
    Kind,
    Opening,
    OpeningStatus,
    Standing,
)
from marketplace.gym.checking import BatchCheck
from marketplace.protocol.commitments import vote
from marketplace.protocol.disputes import (
    LeafVerdict,
    children_of,
    juror_attestation,
    leaf_tree,
    leaf_verdicts,
    root_of,
)
from marketplace.protocol.sheets import NO_VERDICT
from marketplace.protocol.verdict import (
    MALFORMED,
    SOUND,
    UNAVAILABLE,
    Attestation,
    Reason,
    Verdict,
    batch_verdicts,
)
from verifier_node.checking import Finding
from verifier_node.disputes import juror_vote
from verifier_node.journal import Stance
from verifier_node.published import Published
from verifier_node.watchtower import plan, turn, worth_appealing

BATCH = 3
RIGHT, WRONG = Verdict(10**6, Reason.CORRECT, 1, 0), Verdict(0, Reason.WRONG, 0, 0)
LIE = Verdict(0, Reason.FALSE_CLAIM, 0, 1)
HONEST = [RIGHT, WRONG, RIGHT, WRONG, RIGHT, WRONG, WRONG]


def found(verdicts: list[Verdict]) -> Finding:
    said = batch_verdicts(BATCH, verdicts).attestation
    check = BatchCheck(BATCH, tuple(verdicts), said, ("",) * len(verdicts))
    return Finding(said, check, "judged")


def file_of(leaves: list[LeafVerdict]) -> Published:
    return Published(leaves, leaf_tree(BATCH, leaves))


def changed(place: int, verdict: Verdict) -> list[Verdict]:
    return [*HONEST[:place], verdict, *HONEST[place + 1 :]]


GONE = Finding(UNAVAILABLE, None, "nobody has it")
GARBAGE = Finding(MALFORMED, None, "not a batch file")
UNGRADED = Finding(NO_VERDICT, None, "2 score sheets count, 3 are needed")
WHOLE = found(HONEST)


def decided(kind: Kind, standing: Standing, disputed: Attestation, index: int = 0) -> Dispute:
    return Dispute(
        id=1,
        phase=DisputePhase.APPEALABLE,
        kind=kind,
        standing=standing,
        challenger="0x" + "11" * 20,
        batch=BATCH,
        index=index,
        bond=7,
        jury=4,
        juries=1,
        decided_at=100,
        last=False,
        attestation=0,
        paid=False,
        miner_wronged=False,
        vote=vote(disputed),
        rival_vote=None,
        standing_vote=None,
    )


def never() -> Published | None:
    raise AssertionError("no file is needed for this")


@pytest.mark.parametrize("kind", [Kind.LEAF, Kind.OPENING, Kind.CONFLICT])
def test_a_juror_votes_its_own_verdict_of_the_trace(kind: Kind) -> None:
    vote = juror_vote(kind, BATCH, 4, WHOLE)
    assert vote == juror_attestation(BATCH, LeafVerdict.of(4, RIGHT))
    assert (vote.units, vote.faults) == (1, 0)
    assert juror_vote(kind, BATCH, 4, GONE) == UNAVAILABLE
    assert juror_vote(kind, BATCH, 4, GARBAGE) == MALFORMED


@pytest.mark.parametrize(
    ("kind", "finding", "expected"),
    [
        (Kind.MALFORMED, WHOLE, SOUND),
        (Kind.MALFORMED, GARBAGE, MALFORMED),
        (Kind.MALFORMED, GONE, UNAVAILABLE),
        (Kind.UNAVAILABLE, WHOLE, SOUND),
        (Kind.UNAVAILABLE, GARBAGE, SOUND),
        (Kind.UNAVAILABLE, GONE, UNAVAILABLE),
    ],
)
def test_a_juror_votes_the_outcome_or_sound(
    kind: Kind, finding: Finding, expected: Attestation
) -> None:
    assert juror_vote(kind, BATCH, 0, finding) == expected


def test_a_right_attestation_needs_nothing() -> None:
    assert plan(BATCH, WHOLE.attestation, WHOLE, never).stance is Stance.AGREED
    assert plan(BATCH, MALFORMED, GARBAGE, never).stance is Stance.AGREED


def test_outcomes_are_disputed_where_that_can_be_won() -> None:
    assert plan(BATCH, MALFORMED, WHOLE, never).stance is Stance.OUTCOME
    # The content may have come after the vote.
    assert plan(BATCH, UNAVAILABLE, WHOLE, never).stance is Stance.LEFT


def test_the_first_wrong_verdict_is_disputed() -> None:
    told = [*changed(2, LIE)[:5], LIE, WRONG]
    said = batch_verdicts(BATCH, told).attestation
    made = plan(BATCH, said, WHOLE, lambda: file_of(leaf_verdicts(told)))
    assert (made.stance, made.place) == (Stance.LEAF, 2)


def test_a_tree_that_is_withheld_is_demanded() -> None:
    said = batch_verdicts(BATCH, changed(2, LIE)).attestation
    assert plan(BATCH, said, WHOLE, lambda: None).stance is Stance.OPENING
    assert plan(BATCH, said, GARBAGE, lambda: None).stance is Stance.OPENING


@pytest.mark.parametrize("kind", ["sum", "cap"])
def test_a_tree_that_is_corrupt_is_proven_so(kind: str) -> None:
    leaves = leaf_verdicts(HONEST)
    if kind == "cap":
        leaves[3] = replace(leaves[3], units=5)
    behind = file_of(leaves)
    said = behind.tree.attestation
    if kind == "sum":
        said = replace(said, units=said.units + 1)
    made = plan(BATCH, said, WHOLE, lambda: behind)
    assert made.stance is Stance.FAULT
    assert made.fault is not None
    assert (made.fault.verdict is not None) == (kind == "cap")


def test_verdicts_of_what_is_no_batch_file_are_opened() -> None:
    made = plan(BATCH, WHOLE.attestation, GARBAGE, lambda: file_of(leaf_verdicts(HONEST)))
    assert made.stance is Stance.OPENING


@pytest.mark.parametrize("place", range(len(HONEST)))
def test_the_turns_of_an_opening_lead_to_the_first_difference(place: int) -> None:
    honest = leaf_tree(BATCH, leaf_verdicts(HONEST))
    # What comes after the first lie may be false too.
    told = [*changed(place, LIE)[: place + 1], *([LIE] * (len(HONEST) - place - 1))]
    theirs = leaf_tree(BATCH, leaf_verdicts(told))
    at = root_of(theirs.attestation, len(HONEST))
    while at.size > 1:
        children = children_of(theirs, at.first, at.size)
        opening = Opening(1, OpeningStatus.ANSWERED, at, 0, children, None)
        at = at.descend(children, turn(honest, opening))
    assert at.first == place


def test_without_an_own_tree_a_paid_verdict_is_looked_for() -> None:
    theirs = leaf_tree(BATCH, leaf_verdicts([WRONG] * 6 + [RIGHT]))
    at = root_of(theirs.attestation, 7)
    while at.size > 1:
        children = children_of(theirs, at.first, at.size)
        opening = Opening(1, OpeningStatus.ANSWERED, at, 0, children, None)
        at = at.descend(children, turn(None, opening))
    assert at.first == 6


@pytest.mark.parametrize("kind", [Kind.LEAF, Kind.OPENING])
@pytest.mark.parametrize("standing", [Standing.STANDS, Standing.UNAVAILABLE])
def test_a_jury_that_calls_a_lie_right_is_worth_an_appeal(kind: Kind, standing: Standing) -> None:
    lie = juror_attestation(BATCH, LeafVerdict.of(2, LIE))
    right = juror_attestation(BATCH, LeafVerdict.of(2, RIGHT))
    assert worth_appealing(decided(kind, standing, lie, 2), WHOLE)
    # Not where the watcher sees it as the jury does, nor where it can't look.
    assert not worth_appealing(decided(kind, standing, right, 2), WHOLE)
    assert not worth_appealing(decided(kind, standing, lie, 2), GONE)
    assert not worth_appealing(decided(kind, Standing.FALLS, lie, 2), WHOLE)


def test_a_jury_that_calls_a_sound_batch_malformed_is_worth_an_appeal() -> None:
    dispute = decided(Kind.MALFORMED, Standing.STANDS, MALFORMED)
    assert worth_appealing(dispute, WHOLE)
    assert not worth_appealing(dispute, GARBAGE)
    assert not worth_appealing(dispute, GONE)


def test_verdicts_without_enough_score_sheets_fall():
    """A committee attests verdicts of a rubric environment though too few graded: jurors say so
    with one voice, whatever the verdict, and watchers have the tree opened to one."""
    assert juror_vote(Kind.LEAF, BATCH, 2, UNGRADED) == NO_VERDICT
    assert juror_vote(Kind.OPENING, BATCH, 2, UNGRADED) == NO_VERDICT
    # The content is there, and is a batch.
    assert juror_vote(Kind.UNAVAILABLE, BATCH, 0, UNGRADED) == SOUND
    assert juror_vote(Kind.MALFORMED, BATCH, 0, UNGRADED) == SOUND
    known = file_of(leaf_verdicts(HONEST))
    made = plan(BATCH, WHOLE.attestation, UNGRADED, lambda: known)
    assert made.stance is Stance.OPENING
    # "Unavailable" takes the fees out of the bond of a miner that did nothing wrong: see 017.
    assert plan(BATCH, UNAVAILABLE, UNGRADED, lambda: known).stance is Stance.LEFT
