"""Only what was attested and can teach becomes a group; all else is counted by reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marketplace.gym.checking import BatchTerms
from marketplace.protocol import merkle, payout
from marketplace.protocol.errors import ProofFailed
from marketplace.protocol.payout import Checked, PayRule
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.protocol.verdict import Reason, Verdict, batch_verdicts
from trainer import data
from trainer.data import GroupRules, build_groups, open_attested

TERMS = BatchTerms(
    chain_id=31337,
    market="0x" + "11" * 20,
    batch=5,
    bounty=2,
    miner="0x" + "22" * 20,
    environment=b"\x01" * 32,
    assignment_seed=b"\x02" * 32,
    first_task=40,
    group_size=4,
    tier=Tier.B,
    pay_rule=PayRule.INFORMATIVE,
)
RULES = GroupRules(checkpoint=3, stop=("\n",), max_tokens=9, context=50)


class Codec:
    """One token per character."""

    vocabulary = 1000

    def encode(self, text):
        return tuple(map(ord, text))

    def encode_completion(self, text, stop):
        return self.encode(text + stop[0])

    def completion(self, tokens, stop):
        return "".join(map(chr, tokens)).partition(stop[0])[0]

    def finish(self, tokens, stop, max_tokens):
        text = "".join(map(chr, tokens))
        if stop[0] in text[:-1] or len(text) > max_tokens:
            return None
        return "stop" if text.endswith(stop[0]) else "length" if len(text) == max_tokens else None


def _trace(task=40, sample=0, text="12", **change):
    tokens = tuple(map(ord, text + "\n"))
    trace = Trace(
        task=task,
        sample=sample,
        prompt=f"{task}=",
        completion=text,
        tokens=tokens,
        logprobs=tuple(-0.1 * (i + sample) for i in range(len(tokens))),
        finish="stop",
        checkpoint=3,
        model="m",
        temperature=1.0,
        max_tokens=9,
        claimed_score=None,
    )
    return replace(trace, **change)


def _claiming(logprob):
    """A line that is whole but for its first log-probability."""
    line = encode_line(_trace(sample=3))
    assert line.count(b"-0.3") == 1  # of (-0.3, -0.4, -0.5)
    return line.replace(b"-0.3", logprob)


def _ended(tokens, **change):
    """A trace whose tokens give its text, but do not end where sampling ends."""
    return _trace(sample=3, tokens=tuple(tokens), logprobs=(-0.1,) * len(tokens), **change)


def _batch(traces, judged, terms=TERMS):
    """A batch whose verdicts follow from (score in ppm, reason) of each trace."""
    lines = [one if isinstance(one, bytes) else encode_line(one) for one in traces]
    checked = [Checked(score, reason, f"text {i}") for i, (score, reason) in enumerate(judged)]
    verdicts = payout.apply(terms.pay_rule, terms.group_size, checked)
    root = merkle.batch_tree(terms.chain_id, terms.market, terms.bounty, terms.miner, lines).root
    attestation = batch_verdicts(terms.batch, verdicts).attestation
    return open_attested(terms, root=root, lines=lines, verdicts=verdicts, attestation=attestation)


GOOD = (1_000_000, Reason.CORRECT)
BAD = (0, Reason.WRONG)


def test_a_group_with_its_scores():
    batch = _batch([_trace(sample=i, text=str(i)) for i in range(4)], [GOOD, BAD, BAD, GOOD])
    dataset = build_groups([batch], Codec(), RULES)
    (group,) = dataset.groups
    assert (group.batch, group.task) == (5, 40)
    assert group.prompt == tuple(map(ord, "40="))
    assert group.completions[2] == (ord("2"), ord("\n"))
    assert group.behaviour[1] == (-0.1, -0.2)
    assert group.scores == (1.0, 0.0, 0.0, 1.0)
    assert group.tokens == 8
    assert (dataset.traces, dataset.skipped) == (4, {})
    assert (dataset.mean_score, dataset.mean_tokens) == (0.5, 2.0)


def test_duplicates_keep_their_score():
    terms = replace(TERMS, pay_rule=PayRule.CORRECT)
    traces = [_trace(sample=i) for i in range(4)]
    lines = [encode_line(one) for one in traces]
    verdicts = [
        Verdict(1_000_000, Reason.CORRECT, 1, 0),
        Verdict(1_000_000, Reason.DUPLICATE, 0, 0),
        Verdict(0, Reason.WRONG, 0, 0),
        Verdict(250_000, Reason.PARTIAL, 0, 0),
    ]
    root = merkle.batch_tree(31337, terms.market, 2, terms.miner, lines).root
    attestation = batch_verdicts(5, verdicts).attestation
    batch = open_attested(terms, root=root, lines=lines, verdicts=verdicts, attestation=attestation)
    (group,) = build_groups([batch], Codec(), RULES).groups
    assert group.scores == (1.0, 1.0, 0.0, 0.25)


@pytest.mark.parametrize(
    ("line", "judgement", "reason"),
    [
        (_trace(sample=3), (0, Reason.FALSE_CLAIM), data.FAULT),
        (_trace(sample=3), (0, Reason.OFF_POLICY), data.FAULT),
        (b"not even JSON", (0, Reason.MALFORMED_LINE), data.FAULT),
        (_trace(sample=3), (0, Reason.CHECKER_ERROR), data.CHECKER),
        (_trace(sample=3), (0, Reason.CHECKER_TIMEOUT), data.CHECKER),
        (_trace(sample=3), (0, Reason.TOO_LONG), data.TOO_LONG),
        (b"attested all the same", BAD, data.UNREADABLE),
        (_claiming(b"NaN"), BAD, data.UNREADABLE),
        (_claiming(b"-Infinity"), BAD, data.UNREADABLE),
        (_claiming(b"-1e999"), BAD, data.UNREADABLE),
        (_claiming(b"null"), BAD, data.UNREADABLE),
        (_claiming(b"0.3"), BAD, data.UNREADABLE),
        (_trace(sample=2), BAD, data.MISPLACED),
        (_trace(sample=4_000_000_000), BAD, data.MISPLACED),
        (_trace(task=41, sample=3, prompt="40="), BAD, data.MISPLACED),
        (_trace(sample=3, prompt="41="), BAD, data.OTHER_PROMPT),
        (_trace(sample=3, logprobs=None), BAD, data.NO_LOGPROBS),
        (_trace(sample=3, tokens=None, logprobs=None), BAD, data.NO_LOGPROBS),
        (_trace(sample=3, checkpoint=2), BAD, data.OTHER_CHECKPOINT),
        (_trace(sample=3, completion="13"), BAD, data.NOT_ITS_TEXT),
        (_trace(sample=3, tokens=(49, 50, 1000)), BAD, data.OTHER_VOCABULARY),
        (_ended(b"12\nand on"), BAD, data.NOT_ITS_END),
        (_ended(b"12\n\n"), BAD, data.NOT_ITS_END),
        (_ended(b"12"), BAD, data.NOT_ITS_END),
        (_ended(b"12", finish="length"), BAD, data.NOT_ITS_END),
        (_ended(b"12\n", finish="length"), BAD, data.NOT_ITS_END),
        (_ended(b"1234567890", completion="1234567890", finish="length"), BAD, data.NOT_ITS_END),
        (_trace(sample=3, text="9" * 60), BAD, data.OVER_CONTEXT),
    ],
)
def test_a_trace_that_is_left_out(line, judgement, reason):
    batch = _batch([*(_trace(sample=i) for i in range(3)), line], [GOOD, BAD, BAD, judgement])
    dataset = build_groups([batch], Codec(), RULES)
    assert dataset.skipped == {reason: 1}
    assert dataset.traces == 4
    assert dataset.groups[0].scores == (1.0, 0.0, 0.0)


def test_groups_that_say_nothing_are_left_out():
    traces = [_trace(task=40 + i // 4, sample=i % 4) for i in range(12)]
    fault = (0, Reason.FALSE_CLAIM)
    judged = [GOOD] * 4 + [BAD] * 4 + [GOOD, fault, fault, fault]
    dataset = build_groups([_batch(traces, judged)], Codec(), RULES)
    assert dataset.groups == ()
    assert dataset.skipped == {data.ALL_ALIKE: 8, data.SINGLE: 1, data.FAULT: 3}
    assert dataset.mean_score == pytest.approx(5 / 9)
    # Where right traces are imitated, a group of them is of use; one of wrong traces never is.
    solved = build_groups([_batch(traces, judged)], Codec(), replace(RULES, solved=True))
    assert [one.scores for one in solved.groups] == [(1.0,) * 4]
    assert solved.skipped == {data.ALL_ALIKE: 4, data.SINGLE: 1, data.FAULT: 3}


def test_groups_of_one_are_nothing_to_compare():
    """A bounty that pays for right answers may ask for one trace of each task."""
    terms = replace(TERMS, group_size=1, pay_rule=PayRule.CORRECT)
    traces = [_trace(task=40 + i) for i in range(3)]
    for tier in (Tier.A, Tier.B):
        batch = _batch(traces, [GOOD, BAD, GOOD], replace(terms, tier=tier))
        dataset = build_groups([batch], Codec(), replace(RULES, solved=True))
        assert (dataset.groups, dataset.skipped) == ((), {data.SINGLE: 3})


def test_tier_c_gives_positives_only_each_text_once():
    terms = replace(TERMS, tier=Tier.C)
    opaque = {"tokens": None, "logprobs": None, "checkpoint": None}
    traces = [
        _trace(sample=0, text="4", **opaque),
        _trace(sample=1, text="5", **opaque),
        _trace(sample=2, text="4", **opaque),
        _trace(sample=3, text="4.0", finish="length", **opaque),
        *(_trace(task=41, sample=i, text="6", **opaque) for i in range(4)),
    ]
    judged = [GOOD, BAD, GOOD, GOOD, *[BAD] * 4]
    dataset = build_groups([_batch(traces, judged, terms)], Codec(), RULES)
    (group,) = dataset.groups
    assert group.behaviour is None
    assert group.completions == ((ord("4"), ord("\n")),)
    assert group.scores == (1.0,)
    assert dataset.skipped == {data.NEGATIVE_OPAQUE: 6, data.REPEATED_OPAQUE: 1}


def test_tier_a_is_used_like_tier_b_and_can_be_replayed():
    traces = [_trace(sample=i) for i in range(4)]
    judged = [GOOD, BAD, GOOD, BAD]
    replayed = replace(TERMS, tier=Tier.A)
    (proven,) = build_groups([_batch(traces, judged, replayed)], Codec(), RULES).groups
    (scorable,) = build_groups([_batch(traces, judged)], Codec(), RULES).groups
    assert proven.seed == replayed.seed(40)
    assert proven.samples == (0, 1, 2, 3)
    assert replace(proven, tier=Tier.B, seed=b"") == scorable


def test_traces_of_earlier_checkpoints_within_the_bound():
    rules = replace(RULES, checkpoint=9, ages={3: 2, 1: 3}, max_staleness=2)
    found = []
    for checkpoint in (9, 3, 1, 7, None):
        traces = [_trace(sample=i, checkpoint=checkpoint) for i in range(4)]
        dataset = build_groups([_batch(traces, [GOOD, BAD, BAD, BAD])], Codec(), rules)
        found.append([(one.checkpoint, one.age) for one in dataset.groups] or dataset.skipped)
    assert found == [
        [(9, 0)],
        [(3, 2)],
        {data.TOO_STALE: 4},
        {data.OTHER_CHECKPOINT: 4},
        {data.OTHER_CHECKPOINT: 4},
    ]


def test_a_group_has_one_policy():
    rules = replace(RULES, ages={2: 1}, max_staleness=1)
    traces = [_trace(sample=i, checkpoint=2 if i == 3 else 3) for i in range(4)]
    dataset = build_groups([_batch(traces, [GOOD, BAD, BAD, GOOD])], Codec(), rules)
    assert dataset.skipped == {data.OTHER_CHECKPOINT: 1}
    assert dataset.groups[0].scores == (1.0, 0.0, 0.0)


def test_another_temperature_is_left_out():
    rules = replace(RULES, temperature=1.0)
    traces = [_trace(sample=i, temperature=0.5 if i == 3 else 1.0) for i in range(4)]
    dataset = build_groups([_batch(traces, [GOOD, BAD, BAD, GOOD])], Codec(), rules)
    assert dataset.skipped == {data.OTHER_TEMPERATURE: 1}


def test_a_prompt_without_a_token_is_left_out():
    traces = [_trace(sample=i, prompt="") for i in range(4)]
    for tier in Tier:
        batch = _batch(traces, [GOOD, BAD, BAD, GOOD], replace(TERMS, tier=tier))
        dataset = build_groups([batch], Codec(), RULES)
        assert dataset.groups == ()
        assert dataset.skipped[data.NO_PROMPT] == (2 if tier is Tier.C else 4)


def test_copies_are_marked_and_at_tier_c_left_out():
    for tier in Tier:
        terms = replace(TERMS, pay_rule=PayRule.CORRECT, tier=tier)
        traces = [_trace(sample=i, text=f"1{i}") for i in range(4)]
        lines = [encode_line(one) for one in traces]
        verdicts = [
            Verdict(1_000_000, Reason.CORRECT, 1, 0),
            Verdict(1_000_000, Reason.DUPLICATE, 0, 0),
            Verdict(0, Reason.WRONG, 0, 0),
            Verdict(0, Reason.WRONG, 0, 0),
        ]
        root = merkle.batch_tree(31337, terms.market, 2, terms.miner, lines).root
        attestation = batch_verdicts(5, verdicts).attestation
        batch = open_attested(
            terms, root=root, lines=lines, verdicts=verdicts, attestation=attestation
        )
        dataset = build_groups([batch], Codec(), RULES)
        if tier is Tier.C:
            assert dataset.skipped == {data.COPY: 1, data.NEGATIVE_OPAQUE: 2}
            assert len(dataset.groups[0].completions) == 1
        else:
            assert dataset.groups[0].copies == (False, True, False, False)


def test_no_batches():
    dataset = build_groups([], Codec(), RULES)
    assert (dataset.groups, dataset.traces, dataset.mean_score) == ((), 0, 0.0)


def _proof():
    batch = _batch([_trace(sample=i) for i in range(4)], [GOOD, BAD, BAD, BAD])
    lines = list(batch.lines)
    root = merkle.batch_tree(31337, TERMS.market, 2, TERMS.miner, lines).root
    return {
        "root": root,
        "lines": lines,
        "verdicts": list(batch.verdicts),
        "attestation": batch.attestation,
    }


def _flip(root):
    return bytes([root[0] ^ 1]) + root[1:]


def _changed_line(proof):
    proof["lines"][2] = proof["lines"][2].replace(b'"12"', b'"13"')


def _changed_verdict(proof):
    proof["verdicts"][1] = Verdict(1_000_000, Reason.CORRECT, 1, 0)


def _swapped_verdicts(proof):
    proof["verdicts"][:2] = proof["verdicts"][1::-1]


def _changed_root(proof):
    proof["root"] = _flip(proof["root"])


def _changed_attestation(proof):
    proof["attestation"] = replace(proof["attestation"], root=_flip(proof["attestation"].root))


def _changed_sum(proof):
    proof["attestation"] = replace(proof["attestation"], units=3)


def _dropped_line(proof):
    proof["lines"].pop()


def _dropped_both(proof):
    proof["lines"].pop()
    proof["verdicts"].pop()


def _nothing(proof):
    proof["lines"].clear()
    proof["verdicts"].clear()


@pytest.mark.parametrize(
    "change",
    [
        _changed_line,
        _changed_verdict,
        _swapped_verdicts,
        _changed_root,
        _changed_attestation,
        _changed_sum,
        _dropped_line,
        _dropped_both,
        _nothing,
    ],
)
def test_content_that_does_not_lead_to_the_chains_roots_is_refused(change):
    proof = _proof()
    open_attested(TERMS, **proof)
    change(proof)
    with pytest.raises(ProofFailed, match="batch 5"):
        open_attested(TERMS, **proof)


@pytest.mark.parametrize("field", ["chain_id", "bounty"])
def test_content_of_another_place_is_refused(field):
    with pytest.raises(ProofFailed):
        open_attested(replace(TERMS, **{field: 99}), **_proof())


def test_another_batch_number_is_refused():
    with pytest.raises(ProofFailed, match="verdicts of batch 6"):
        open_attested(replace(TERMS, batch=6), **_proof())
