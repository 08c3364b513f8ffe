"""Shaping is for the loss: it follows from the text, and what was attested stays as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marketplace.gym.spec import BetweenAnswer, LastLineAnswer, WholeAnswer
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.merkle import batch_tree
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.protocol.verdict import Reason, Verdict, batch_verdicts
from trainer.data import open_attested
from trainer.shaping import (
    RewardShaping,
    attested_mean,
    format_reward,
    main_script,
    script_share,
    shape_batch,
    shaped_score,
)

NOBODY = "0x" + "00" * 20
BETWEEN = BetweenAnswer(kind="between", start="<answer>", end="</answer>")
THINK = ("<think>", "</think>")


def _trace(completion, *, finish="stop", prompt="What is 2 + 2?"):
    return Trace(
        task=0,
        sample=0,
        prompt=prompt,
        completion=completion,
        tokens=None,
        logprobs=None,
        finish=finish,
        checkpoint=None,
        model="m",
        temperature=1.0,
        max_tokens=64,
        claimed_score=None,
    )


@pytest.mark.parametrize(
    ("text", "plain", "thoughtful"),
    [
        ("<think>2 and 2</think><answer>4</answer>", 1, 1),
        ("<think>2 and 2</think>\n<answer> 4 </answer>\n", 1, 1),
        ("so <answer>4</answer>", 1, 0),
        ("<think></think><answer>4</answer>", 1, 0),
        ("x <think>2</think><answer>4</answer>", 1, 0),
        ("<think>2</think> y <answer>4</answer>", 1, 0),
        ("<think>2</think><think>3</think><answer>4</answer>", 1, 0),
        ("<answer>4</answer> done", 0, 0),
        ("<answer>4</answer><answer>5</answer>", 0, 0),
        ("<answer></answer>", 0, 0),
        ("</answer>4<answer>", 0, 0),
        ("4", 0, 0),
        ("", 0, 0),
    ],
)
def test_format(text, plain, thoughtful):
    assert format_reward(_trace(text), BETWEEN, None) == plain
    assert format_reward(_trace(text), BETWEEN, THINK) == thoughtful


def test_format_of_other_answer_rules():
    last, whole = LastLineAnswer(kind="last_line"), WholeAnswer(kind="whole")
    assert format_reward(_trace("a\n4"), last, None) == 1
    assert format_reward(_trace("4"), whole, None) == 1
    assert format_reward(_trace("4", finish="length"), whole, None) == 0
    assert format_reward(_trace("<think>a</think>\n4"), last, THINK) == 1


def test_scripts():
    assert script_share("only Latin, 123!", "LATIN") == 1
    assert script_share("123", "LATIN") == 1
    assert script_share("аб ab", "LATIN") == 0.5
    assert script_share("答案是 four", "CJK") == pytest.approx(3 / 7)
    assert main_script("сколько будет 2 + 2 apples?") == "CYRILLIC"
    assert main_script("2 + 2 =") == "LATIN"


def test_shaped_scores():
    shaping = RewardShaping(binary=True, format=0.2, language=0.1)
    right = _trace("two <answer>4</answer>")
    assert shaped_score(1.0, right, shaping, BETWEEN) == pytest.approx(1)
    assert shaped_score(0.9, right, shaping, BETWEEN) == pytest.approx(0.3 / 1.3)
    bare, strange = _trace("4"), _trace("два <answer>4</answer>")
    assert shaped_score(1.0, bare, shaping, BETWEEN) == pytest.approx(1.1 / 1.3)
    assert 1.2 / 1.3 < shaped_score(1.0, strange, shaping, BETWEEN) < 1
    assert shaped_score(0.9, right, RewardShaping(), BETWEEN) == 0.9


def _attested(texts, verdicts):
    lines = [encode_line(_trace(text)) for text in texts]
    terms = BatchTerms(
        chain_id=1,
        market=NOBODY,
        batch=1,
        bounty=1,
        miner=NOBODY,
        environment=bytes(32),
        assignment_seed=bytes(32),
        first_task=0,
        group_size=4,
        tier=Tier.B,
        pay_rule=PayRule.CORRECT,
    )
    return open_attested(
        terms,
        root=batch_tree(1, NOBODY, 1, NOBODY, lines).root,
        lines=lines,
        verdicts=verdicts,
        attestation=batch_verdicts(1, verdicts).attestation,
    )


def test_a_copy_is_shaped_like_what_it_copies():
    """Else the same text would be better the second time, by the format that it lacks."""
    verdicts = [
        Verdict(1_000_000, Reason.CORRECT, 1, 0),
        Verdict(1_000_000, Reason.DUPLICATE, 0, 0),
        Verdict(600_000, Reason.DUPLICATE, 0, 0),
        Verdict(0, Reason.WRONG, 0, 0),
    ]
    batch = _attested(["4", "4", "4.1", "5"], verdicts)
    shaped = shape_batch(batch, RewardShaping(binary=True, format=1.0), BETWEEN)
    assert [one.score_ppm for one in shaped.verdicts] == [500_000, 500_000, 0, 0]
    assert [one.reason is Reason.DUPLICATE for one in shaped.verdicts] == [0, 1, 1, 0]
    assert attested_mean([batch]) == pytest.approx(2.6 / 4)


def test_the_attested_batch_stays_as_it_was():
    texts = ["<answer>4</answer>", "no", "<answer>5</answer>", "<answer>4</answer>"]
    verdicts = [
        Verdict(1_000_000, Reason.CORRECT, 1, 0),
        Verdict(0, Reason.PARSE_FAILURE, 0, 0),
        Verdict(0, Reason.WRONG, 0, 0),
        Verdict(0, Reason.FALSE_CLAIM, 0, 1),
    ]
    batch = _attested(texts, verdicts)
    shaped = shape_batch(batch, RewardShaping(format=1.0), BETWEEN)
    assert [one.score_ppm for one in shaped.verdicts] == [1_000_000, 0, 500_000, 0]
    assert [one.units for one in shaped.verdicts] == [0, 0, 0, 0]
    assert shaped.verdicts[3].reason is Reason.FALSE_CLAIM  # a fault is no reward
    assert shaped.attestation == batch.attestation
    assert batch.verdicts == tuple(verdicts)
    assert attested_mean([batch]) == pytest.approx(1 / 3)
    assert shape_batch(batch, RewardShaping(), BETWEEN) is batch
    opaque = replace(batch, terms=replace(batch.terms, tier=Tier.C))
    assert shape_batch(opaque, RewardShaping(format=1.0), BETWEEN) is opaque
