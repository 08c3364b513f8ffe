"""The two pay rules over whole batches."""

import pytest

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.payout import Checked, PayRule, apply
from marketplace.protocol.verdict import FAULTS, Reason

FULL = 1_000_000


def right(text: str = "4") -> Checked:
    return Checked(FULL, Reason.CORRECT, text)


def wrong(text: str = "5", reason: Reason = Reason.WRONG) -> Checked:
    return Checked(0, reason, text)


def units(rule, size, results):
    return [verdict.units for verdict in apply(rule, size, results)]


def reasons(rule, size, results):
    return [verdict.reason for verdict in apply(rule, size, results)]


def test_codes():
    assert (int(PayRule.CORRECT), int(PayRule.INFORMATIVE)) == (0, 1)


def test_correct_pays_each_different_full_score():
    group = [right("a"), wrong(), Checked(999_999, Reason.PARTIAL, "c"), right("d")]
    verdicts = apply(PayRule.CORRECT, 4, group)
    assert [verdict.units for verdict in verdicts] == [1, 0, 0, 1]
    assert [verdict.score_ppm for verdict in verdicts] == [FULL, 0, 999_999, FULL]
    assert [verdict.reason for verdict in verdicts] == [one.reason for one in group]


def test_correct_pays_the_same_text_once_in_a_group():
    verdicts = apply(PayRule.CORRECT, 4, [right("a"), right("b"), right("a"), right("a")])
    assert [verdict.units for verdict in verdicts] == [1, 1, 0, 0]
    assert [verdict.reason for verdict in verdicts][2:] == [Reason.DUPLICATE] * 2
    assert {verdict.score_ppm for verdict in verdicts} == {FULL}
    assert {verdict.faults for verdict in verdicts} == {0}


def test_correct_duplicates_are_exact_and_within_the_group():
    assert units(PayRule.CORRECT, 2, [right("a"), right("a "), right("a"), right("b")]) == [1] * 4


def test_correct_wrong_duplicates_keep_their_reason():
    assert reasons(PayRule.CORRECT, 2, [wrong("x"), wrong("x")]) == [Reason.WRONG] * 2


def test_correct_a_lie_does_not_spoil_the_same_text_after_it():
    group = [Checked(0, Reason.OFF_POLICY, "a"), right("a"), right("a")]
    verdicts = apply(PayRule.CORRECT, 3, group)
    assert [verdict.units for verdict in verdicts] == [0, 1, 0]
    assert [verdict.faults for verdict in verdicts] == [1, 0, 0]


def test_correct_pays_within_a_group_that_has_faults_and_errors():
    group = [right(), wrong("", Reason.CHECKER_ERROR), wrong("", Reason.MALFORMED_LINE)]
    assert units(PayRule.CORRECT, 3, group) == [1, 0, 0]


def test_informative_pays_whole_groups_with_something_to_learn():
    mixed, solved, failed = [right(), wrong()], [right(), right("b")], [wrong(), wrong("6")]
    results = [*mixed, *solved, *failed]
    assert units(PayRule.INFORMATIVE, 2, results) == [1, 1, 0, 0, 0, 0]


def test_informative_has_no_duplicates():
    group = [right("a"), right("a"), wrong("b"), wrong("b")]
    assert units(PayRule.INFORMATIVE, 4, group) == [1] * 4
    assert Reason.DUPLICATE not in reasons(PayRule.INFORMATIVE, 4, group)


def test_informative_counts_partial_scores():
    partial = Checked(1, Reason.PARTIAL, "x")
    assert units(PayRule.INFORMATIVE, 2, [partial, wrong()]) == [1, 1]
    nearly = Checked(999_999, Reason.PARTIAL, "x")
    assert units(PayRule.INFORMATIVE, 2, [right(), nearly]) == [1, 1]


@pytest.mark.parametrize("reason", [*sorted(FAULTS), Reason.CHECKER_ERROR, Reason.CHECKER_TIMEOUT])
def test_informative_pays_nothing_in_a_broken_group_only(reason):
    broken = [right(), wrong(), wrong("", reason), wrong()]
    whole = [right(), wrong(), wrong(), wrong()]
    verdicts = apply(PayRule.INFORMATIVE, 4, broken + whole)
    assert [verdict.units for verdict in verdicts] == [0] * 4 + [1] * 4
    assert verdicts[2].reason is reason
    assert sum(verdict.faults for verdict in verdicts) == (reason in FAULTS)


def test_informative_failures_of_the_model_are_failures_not_breaks():
    assert units(PayRule.INFORMATIVE, 2, [right(), wrong("", Reason.PARSE_FAILURE)]) == [1, 1]


def test_informative_padding_over_the_limits_breaks_its_group():
    assert units(PayRule.INFORMATIVE, 2, [right(), wrong("", Reason.TOO_LONG)]) == [0, 0]


def test_groups_of_one_are_never_informative():
    assert units(PayRule.INFORMATIVE, 1, [right(), wrong()]) == [0, 0]


@pytest.mark.parametrize(
    ("rule", "size", "count", "message"),
    [
        (PayRule.CORRECT, 4, 6, "6 results are no whole number of groups of 4"),
        (PayRule.CORRECT, 0, 4, "group size is 0"),
        (PayRule.CORRECT, -1, 4, "group size is -1"),
        (2, 4, 4, "pay rule is 2"),
    ],
)
def test_refused(rule, size, count, message):
    with pytest.raises(InvalidValue, match=message):
        apply(rule, size, [wrong()] * count)


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (1, Reason.WRONG),
        (FULL, Reason.DUPLICATE),
        (FULL, Reason.FALSE_CLAIM),
        (0, Reason.CORRECT),
        (0.5, Reason.PARTIAL),
        (0, 2),
    ],
)
def test_results_that_contradict_themselves(score, reason):
    with pytest.raises(InvalidValue):
        Checked(score, reason, "")


def test_the_fault_flag_follows_the_reason():
    assert wrong("", Reason.UNASSIGNED).fault
    assert not wrong("", Reason.CHECKER_ERROR).fault
