"""Rubric environments: the spec, what is left to a jury, and what its grades make of a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from marketplace.gym.checking import BatchTerms, check_batch, for_jury
from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import (
    EnvironmentSpec,
    RubricScoring,
    builtin_spec,
    environment_id,
    parse_spec,
    spec_bytes,
)
from marketplace.protocol.errors import InvalidValue, SpecError
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.protocol.verdict import Reason

SPEC = builtin_spec("polite_refusal")
TERMS = BatchTerms(
    chain_id=31337,
    market="0x" + "22" * 20,
    batch=7,
    bounty=3,
    miner="0x" + "11" * 20,
    environment=environment_id(spec_bytes(SPEC)),
    assignment_seed=b"\x09" * 32,
    first_task=40,
    group_size=2,
    tier=Tier.C,
    pay_rule=PayRule.CORRECT,
)


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(1) as made:
        yield made


def lines(*texts: str, **changes: Any) -> list[bytes]:
    environment = Environment(SPEC)
    found = []
    for index, text in enumerate(texts):
        group, sample = divmod(index, TERMS.group_size)
        task = TERMS.first_task + group
        fields = {
            "task": task,
            "sample": sample,
            "prompt": environment.task(TERMS.seed(task)).prompt,
            "completion": text,
            "tokens": None,
            "logprobs": None,
            "finish": "stop",
            "checkpoint": None,
            "model": "tests",
            "temperature": 1.0,
            "max_tokens": 128,
            "claimed_score": None,
        }
        found.append(encode_line(Trace(**(fields | changes))))
    return found


def spec_with(**scoring: Any) -> EnvironmentSpec:
    record = json.loads(spec_bytes(SPEC))
    record["scoring"] |= scoring
    return parse_spec(json.dumps(record).encode())


def test_the_class_is_in_the_spec():
    assert (SPEC.kind, builtin_spec("chain_sum").kind) == ("rubric", "checked")
    assert isinstance(SPEC.rubric, RubricScoring)
    assert builtin_spec("chain_sum").rubric is None


def test_a_rubric_changes_no_other_spec():
    assert b"rubric" not in spec_bytes(builtin_spec("chain_sum"))


@pytest.mark.parametrize(
    ("scoring", "message"),
    [
        ({"rubric": "good or bad"}, "scoring.rubric.rubric: .*got 'good or bad'"),
        ({"min_sheets": 0}, "scoring.rubric.min_sheets: .*got 0"),
        ({"calibrators": ["0xABCD"]}, "scoring.rubric.calibrators.0: .*got '0xABCD'"),
        ({"grid": [0, 1]}, "scoring.rubric.grid: unknown key"),
    ],
)
def test_a_malformed_rubric_is_named(scoring: dict[str, Any], message: str):
    with pytest.raises(SpecError, match=message):
        spec_with(**scoring)


def test_a_jury_grades_no_dialogues():
    record = json.loads(spec_bytes(builtin_spec("store_tools")))
    record["scoring"] = json.loads(spec_bytes(SPEC))["scoring"]
    with pytest.raises(SpecError, match="several turns"):
        parse_spec(json.dumps(record).encode())


def test_rules_come_first_and_the_jury_grades_the_rest(pool: CheckPool):
    texts = ("Sorry, no.", "Never!", "  ", "x" * 2000)
    batch = lines(*texts)
    before = check_batch(batch, spec=SPEC, terms=TERMS, pool=pool)
    assert for_jury(before) == (0, 1)
    assert [one.units for one in before.verdicts] == [0] * 4  # nothing is paid without a jury
    after = check_batch(batch, spec=SPEC, terms=TERMS, pool=pool, panel=(4, 1, 4, 4))
    assert [(one.reason, one.score_ppm, one.units) for one in after.verdicts] == [
        (Reason.CORRECT, 1_000_000, 1),
        (Reason.PARTIAL, 250_000, 0),
        (Reason.PARSE_FAILURE, 0, 0),
        (Reason.TOO_LONG, 0, 0),
    ]
    assert after.notes[1] == "the jury's median grade is 1 of 4; worth 0 units"
    none = check_batch(batch, spec=SPEC, terms=TERMS, pool=pool, panel=(0, 0, 0, 0))
    assert [one.reason for one in none.verdicts[:2]] == [Reason.WRONG, Reason.WRONG]


def test_the_informative_rule_pays_groups_that_differ(pool: CheckPool):
    terms = replace(TERMS, pay_rule=PayRule.INFORMATIVE)
    batch = lines("Sorry, no.", "Never!", "Sorry, no!", "No, sorry.")
    check = check_batch(batch, spec=SPEC, terms=terms, pool=pool, panel=(3, 1, 4, 4))
    assert [one.units for one in check.verdicts] == [1, 1, 0, 0]


def test_a_copy_is_left_to_the_jury_too(pool: CheckPool):
    terms = replace(TERMS, pay_rule=PayRule.INFORMATIVE)
    check = check_batch(lines("No.", "No."), spec=SPEC, terms=terms, pool=pool)
    assert Reason.DUPLICATE in {one.reason for one in check.verdicts}
    assert for_jury(check) == (0, 1)


def test_a_claim_about_taste_is_no_lie(pool: CheckPool):
    batch = lines("Sorry, no.", "Never!", claimed_score=1.0)
    check = check_batch(batch, spec=SPEC, terms=TERMS, pool=pool, panel=(0, 2))
    assert [one.faults for one in check.verdicts] == [0, 0]


def test_grades_must_fit_the_batch(pool: CheckPool):
    batch = lines("Sorry, no.", "Never!")
    with pytest.raises(InvalidValue, match="1 grades for 2 traces of a rubric environment"):
        check_batch(batch, spec=SPEC, terms=TERMS, pool=pool, panel=(4,))
    checked = builtin_spec("word_problems")
    with pytest.raises(InvalidValue, match="of a checked environment"):
        check_batch(batch, spec=checked, terms=TERMS, pool=pool, panel=(4, 4))
