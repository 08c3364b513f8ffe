"""A turn from proven batches: of one environment, of the parent's lineage, and whole or not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.gym.spec import builtin_spec
from marketplace.protocol import merkle
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.protocol.verdict import Reason, Verdict, batch_verdicts
from trainer.config import TrainSettings
from trainer.data import (
    NOT_ITS_END,
    OFF_POLICY,
    OTHER_CHECKPOINT,
    SINGLE,
    TOO_STALE,
    open_attested,
)
from trainer.lineage import lineage_ages
from trainer.turn import train_on_batches

SPEC = builtin_spec("two_digit_sums")
SETTINGS = TrainSettings(learning_rate=1e-3, token_budget=64)
TERMS = BatchTerms(
    chain_id=31337,
    market="0x" + "11" * 20,
    batch=5,
    bounty=2,
    miner="0x" + "22" * 20,
    environment=b"\x01" * 32,
    assignment_seed=b"\x02" * 32,
    first_task=40,
    group_size=2,
    tier=Tier.B,
    pay_rule=PayRule.INFORMATIVE,
)


def _batch(policy, checkpoint, terms=TERMS, first="2\n", lie=0.0):
    """One group of two traces that the policy scores itself. first: all that the first one's
    tokens say. lie: nats off in its log-probabilities."""
    prompt = policy.codec.encode("1 + 1 = ")
    texts = ("2", "3")
    tokens = [policy.codec.encode(text) for text in (first, "3\n")]
    (rows,) = completion_logprobs(policy, [TokenGroup(prompt, tuple(tokens))], 1.0)
    lines = [
        encode_line(
            Trace(
                task=40,
                sample=place,
                prompt="1 + 1 = ",
                completion=text,
                tokens=ids,
                logprobs=row if place else tuple(one - lie for one in row),
                finish="stop",
                checkpoint=checkpoint,
                model="tiny",
                temperature=1.0,
                max_tokens=9,
                claimed_score=None,
            )
        )
        for place, (text, ids, row) in enumerate(zip(texts, tokens, rows, strict=True))
    ]
    verdicts = [Verdict(1_000_000, Reason.CORRECT, 1, 0), Verdict(0, Reason.WRONG, 1, 0)]
    root = merkle.batch_tree(terms.chain_id, terms.market, terms.bounty, terms.miner, lines).root
    attestation = batch_verdicts(terms.batch, verdicts).attestation
    return open_attested(terms, root=root, lines=lines, verdicts=verdicts, attestation=attestation)


def test_traces_of_the_parent_and_of_an_earlier_checkpoint(make_policy, tmp_path):
    parent, older = make_policy(0), make_policy(0)
    with torch.no_grad():
        older.model.model.embed_tokens.weight += 0.01
    batches = [_batch(parent, 9), _batch(older, 7, replace(TERMS, batch=6))]
    alone = train_on_batches(make_policy(0), 9, batches, SPEC, SETTINGS, tmp_path / "alone")
    assert alone.dataset.skipped == {OTHER_CHECKPOINT: 2}
    both = train_on_batches(
        make_policy(0),
        9,
        batches,
        SPEC,
        SETTINGS,
        tmp_path / "both",
        ages={8: 1, 7: 2},
        behaviour_of={7: older}.get,
    )
    assert (both.dataset.skipped, both.metrics.groups) == ({}, 2)
    assert both.metrics.dropped == {}
    strict = SETTINGS.model_copy(update={"max_staleness": 1})
    bounded = train_on_batches(
        make_policy(0),
        9,
        batches,
        SPEC,
        strict,
        tmp_path / "bounded",
        ages={8: 1, 7: 2},
        behaviour_of={7: older}.get,
    )
    assert bounded.dataset.skipped == {TOO_STALE: 2}


@pytest.mark.parametrize("first", ["2\n9 9", "2"])
def test_tokens_behind_the_end_or_short_of_it_earn_no_weight(policy, tmp_path, first):
    """Both give the text "2", with true log-probabilities: only the end tells."""
    batches = [_batch(policy, 9), _batch(policy, 9, replace(TERMS, batch=6), first)]
    made = train_on_batches(policy, 9, batches, SPEC, SETTINGS, tmp_path / "x")
    assert made.dataset.skipped == {NOT_ITS_END: 1, SINGLE: 1}
    assert made.weights == (1_000_000, 0)


def test_a_batch_of_another_environment_is_refused(policy, tmp_path):
    foreign = _batch(policy, 9, replace(TERMS, batch=6, environment=b"\x09" * 32))
    with pytest.raises(ConfigError, match="batch 6 was attested for another environment"):
        train_on_batches(policy, 9, [_batch(policy, 9), foreign], SPEC, SETTINGS, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nothing_to_train_on_is_said_with_reasons(policy, tmp_path):
    with pytest.raises(ConfigError, match=OTHER_CHECKPOINT):
        train_on_batches(policy, 3, [_batch(policy, 9)], SPEC, SETTINGS, tmp_path / "x")
    with pytest.raises(ConfigError, match="no settled batches"):
        train_on_batches(policy, 3, [], SPEC, SETTINGS, tmp_path / "x")


def test_what_is_left_out_before_and_by_verification_is_added_up(policy, tmp_path):
    batches = [
        _batch(policy, 9),
        _batch(policy, 9, replace(TERMS, batch=6), first="2"),
        _batch(policy, 9, replace(TERMS, batch=7), lie=1.0),
    ]
    made = train_on_batches(policy, 9, batches, SPEC, SETTINGS, tmp_path / "x")
    assert made.dataset.skipped == {NOT_ITS_END: 1, SINGLE: 1}
    assert made.metrics.dropped == {OFF_POLICY: 1, SINGLE: 1}
    assert made.left_out == {NOT_ITS_END: 1, OFF_POLICY: 1, SINGLE: 2}
    assert sum(made.left_out.values()) + made.metrics.traces == made.dataset.traces


def test_a_turn_that_verification_leaves_nothing_of_makes_no_checkpoint(make_policy, tmp_path):
    lies = _batch(make_policy(1), 9)  # another model's log-probabilities
    with pytest.raises(ConfigError, match=f"none of 2 .*{OFF_POLICY}"):
        train_on_batches(make_policy(0), 9, [lies], SPEC, SETTINGS, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_batch_that_is_given_twice_is_refused_before_training(policy, tmp_path):
    twice = [_batch(policy, 9)] * 2
    with pytest.raises(ConfigError, match="batch 5 is given twice"):
        train_on_batches(policy, 9, twice, SPEC, SETTINGS, tmp_path / "x", on_step=_never)


def _never(*_):
    raise AssertionError("it was trained on")


def test_ages_come_from_the_chain():
    parents = {9: 8, 8: 5, 5: 0}

    class Reader:
        def checkpoint(self, number):
            return SimpleNamespace(parent=parents[number])

    assert lineage_ages(Reader(), 9, 5) == {8: 1, 5: 2}
    assert lineage_ages(Reader(), 9, 1) == {8: 1}
    assert lineage_ages(Reader(), 9, 0) == {}
