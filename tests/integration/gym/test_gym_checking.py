"""From lines to verdicts: one trace for every reason, and the same attestation everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marketplace.gym.checking import (
    BatchCheck,
    BatchTerms,
    GroupToScore,
    check_batch,
    open_batch,
    sampled_groups,
)
from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import (
    EnvironmentSpec,
    ProvenanceSpec,
    environment_id,
    parse_spec,
    spec_bytes,
)
from marketplace.protocol import batch_file, merkle
from marketplace.protocol.errors import (
    BatchTooLarge,
    CheckerFailed,
    InvalidValue,
    MalformedBatch,
    SpecError,
)
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.protocol.verdict import Reason, Verdict, verdict_leaf, verify_verdict

FULL = 1_000_000
MINER = "0x" + "11" * 20
RANDOMNESS = b"\x05" * 32

SPEC = parse_spec(
    b'{"v":1,"name":"small","source":{"kind":"math_answer","families":["linear"]},'
    b'"scoring":{"kind":"exact"},"limits":{"seconds":0.5,"memory_mb":64,"max_chars":40},'
    b'"sampling":{"temperature":0.7,"max_tokens":4}}'
)
TERMS = BatchTerms(
    chain_id=31337,
    market="0x" + "22" * 20,
    batch=7,
    bounty=3,
    miner=MINER,
    environment=environment_id(spec_bytes(SPEC)),
    assignment_seed=b"\x09" * 32,
    first_task=40,
    group_size=2,
    tier=Tier.C,
    pay_rule=PayRule.CORRECT,
)
TIER_B = replace(TERMS, tier=Tier.B)
TIER_A = replace(TERMS, tier=Tier.A)


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        with CheckPool(1, factory="misbehaving_environment:MisbehavingEnvironment") as made:
            yield made


def trace(index: int, completion: str, terms: BatchTerms = TERMS, **changes: Any) -> Trace:
    """A good trace for line `index`; but at tier C with tokens, logprobs and checkpoint 1."""
    group, sample = divmod(index, terms.group_size)
    task = terms.first_task + group
    values: dict[str, Any] = {
        "task": task,
        "sample": sample,
        "prompt": f"prompt {terms.seed(task).hex()[:4]}",
        "completion": completion,
        "tokens": None,
        "logprobs": None,
        "finish": "stop",
        "checkpoint": None,
        "model": "tests",
        "temperature": 0.7,
        "max_tokens": 4,
        "claimed_score": None,
    }
    if terms.tier is not Tier.C:
        values.update(tokens=(5, 2), logprobs=(-0.5, -0.25), checkpoint=1)
    return Trace(**{**values, **changes})


def lines_of(traces: list[Trace]) -> list[bytes]:
    return [encode_line(one) for one in traces]


def check(
    pool: CheckPool, traces: list[Trace] | list[bytes], terms: BatchTerms = TERMS, **others: Any
) -> BatchCheck:
    lines = [one if isinstance(one, bytes) else encode_line(one) for one in traces]
    return check_batch(lines, terms=terms, pool=pool, **({"spec": SPEC} | others))


def reasons(result: BatchCheck) -> list[Reason]:
    return [verdict.reason for verdict in result.verdicts]


# --- one trace for every reason ----------------------------------------------------


def test_one_trace_for_every_reason_at_tier_c(pool: CheckPool) -> None:
    long_text = "wrong but long" * 3
    lines = [
        *lines_of([trace(0, "right"), trace(1, "wrong", claimed_score=0.0)]),
        *lines_of([trace(2, "right", claimed_score=1.0), trace(3, "right")]),
        *lines_of([trace(4, "half", claimed_score=0.5), trace(5, "unreadable")]),
        *lines_of([trace(6, "raise", claimed_score=1.0), trace(7, "spin")]),
        *lines_of([trace(8, long_text), trace(9, "right", tokens=(1,) * 5)]),
        b'{"v":1}',
        encode_line(trace(11, "right", task=41)),
        *lines_of([trace(12, "right", sample=1), trace(13, "right", prompt="What is 1 + 1?")]),
        *lines_of([trace(14, "wrong", claimed_score=1.0), trace(15, "right", claimed_score=0.5)]),
    ]
    result = check(pool, lines)
    assert result.verdicts == (
        Verdict(FULL, Reason.CORRECT, 1, 0),
        Verdict(0, Reason.WRONG, 0, 0),
        Verdict(FULL, Reason.CORRECT, 1, 0),
        Verdict(FULL, Reason.DUPLICATE, 0, 0),
        Verdict(500_000, Reason.PARTIAL, 0, 0),
        Verdict(0, Reason.PARSE_FAILURE, 0, 0),
        Verdict(0, Reason.CHECKER_ERROR, 0, 0),
        Verdict(0, Reason.CHECKER_TIMEOUT, 0, 0),
        Verdict(0, Reason.TOO_LONG, 0, 0),
        Verdict(0, Reason.TOO_LONG, 0, 0),
        Verdict(0, Reason.MALFORMED_LINE, 0, 1),
        Verdict(0, Reason.UNASSIGNED, 0, 1),
        Verdict(0, Reason.UNASSIGNED, 0, 1),
        Verdict(0, Reason.TAMPERED_PROMPT, 0, 1),
        Verdict(0, Reason.FALSE_CLAIM, 0, 1),
        Verdict(0, Reason.FALSE_CLAIM, 0, 1),
    )
    assert (result.attestation.units, result.attestation.faults) == (2, 6)
    texts = {
        3: "was bought before",
        6: "the checker raised ValueError: no",
        7: "over 0.5 seconds",
        8: "42 characters, over 40",
        9: "5 tokens, over 4",
        10: "missing keys",
        11: "answers task 41 sample 1, but this line is assigned task 45 sample 1",
        13: "'What is 1 + 1?' instead of 'prompt ",
        14: "claims score 1, but it is 0",
    }
    for index, text in texts.items():
        explanation = result.explain(index)
        assert text in explanation.text
        assert (explanation.index, explanation.verdict) == (index, result.verdicts[index])
    with pytest.raises(InvalidValue, match="trace index is 16, the batch has 16"):
        result.explain(16)
    leaf = verdict_leaf(7, 6, result.verdicts[6])
    assert verify_verdict(leaf, 6, 16, result.tree().proof(6), result.attestation)


def test_tampering_is_found_also_in_a_trace_that_is_too_long(pool: CheckPool) -> None:
    result = check(pool, [trace(0, "x" * 41, prompt="Hi"), trace(1, "x" * 41)])
    assert reasons(result) == [Reason.TAMPERED_PROMPT, Reason.TOO_LONG]


def test_no_checker_runs_on_a_trace_that_is_refused_already(pool: CheckPool) -> None:
    traces = [
        trace(0, "right", TIER_B),
        trace(1, "kill the worker", TIER_B, temperature=0.1),
        trace(2, "kill the worker", TIER_B, prompt="Hi"),
        trace(3, "right", TIER_B),
    ]
    result = check(pool, traces, TIER_B)
    assert reasons(result)[1:3] == [Reason.OFF_POLICY, Reason.TAMPERED_PROMPT]
    assert result.attestation.units == 2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"logprobs": None}, "tier B needs logprobs"),
        ({"tokens": None, "logprobs": None}, "tier B needs tokens and logprobs"),
        ({"tokens": (), "logprobs": ()}, "tier B needs tokens and logprobs"),
        ({"checkpoint": None}, "tier B needs checkpoint"),
        ({"checkpoint": 2}, "checkpoint 2 in a group of checkpoint 1"),
        ({"temperature": 0.8}, "temperature 0.8, but the spec says 0.7"),
        ({"max_tokens": 5}, "max_tokens 5, but the spec says 4"),
    ],
)
def test_what_tier_b_asks_for(pool: CheckPool, changes: dict[str, Any], text: str) -> None:
    traces = [trace(0, "right", TIER_B), trace(1, "right!", TIER_B, **changes)]
    result = check(pool, traces, TIER_B)
    assert reasons(result) == [Reason.CORRECT, Reason.OFF_POLICY]
    assert text in result.explain(1).text
    if "checkpoint" not in changes and "tokens" not in changes:
        tier_c = check(pool, [trace(0, "right"), trace(1, "right!", **changes)])
        assert reasons(tier_c) == [Reason.CORRECT, Reason.CORRECT]


def test_checkpoints_are_asked_about_once_each(pool: CheckPool) -> None:
    asked = []

    def checkpoint_ok(checkpoint: int) -> bool:
        asked.append(checkpoint)
        return checkpoint == 4

    traces = [trace(i, f"right {i}", TIER_B, checkpoint=4 + i // 2) for i in range(6)]
    result = check(pool, traces, TIER_B, checkpoint_ok=checkpoint_ok)
    assert reasons(result) == [Reason.CORRECT] * 2 + [Reason.OFF_POLICY] * 4
    assert asked == [4, 5, 6]


# --- provenance --------------------------------------------------------------------


class Scorer:
    """Finds every trace off policy whose completion says so; remembers what it was asked."""

    def __init__(self, answer: Callable[[Trace], bool] = lambda one: "stolen" in one.completion):
        self.answer = answer
        self.asked: list[tuple[int, list[GroupToScore]]] = []

    def off_policy(self, checkpoint: int, groups: list[GroupToScore]) -> list[bool]:
        self.asked.append((checkpoint, groups))
        return [self.answer(one) for group in groups for one in group.traces]


def test_traces_with_other_logprobs_are_off_policy(pool: CheckPool) -> None:
    traces = [
        trace(0, "right", TIER_B, checkpoint=9),
        trace(1, "stolen", TIER_B, checkpoint=9),
        trace(2, "right", TIER_B, checkpoint=8),
        trace(3, "wrong", TIER_B, checkpoint=8),
        trace(4, "stolen", TIER_B, checkpoint=9),
        trace(5, "right", TIER_B, checkpoint=9),
        trace(6, "x" * 41, TIER_B, checkpoint=9),
        trace(7, "wrong", TIER_B, checkpoint=9, claimed_score=1.0),
    ]
    scorer = Scorer()
    result = check(pool, traces, TIER_B, scorer=scorer, randomness=RANDOMNESS)
    assert reasons(result) == [
        *[Reason.CORRECT, Reason.OFF_POLICY, Reason.CORRECT, Reason.WRONG],
        *[Reason.OFF_POLICY, Reason.CORRECT, Reason.TOO_LONG, Reason.FALSE_CLAIM],
    ]
    assert result.explain(1).text == "its logprobs are not those of checkpoint 9"
    assert result.verdicts[1].score_ppm == 0
    # One call per checkpoint, and only about traces that nothing speaks against yet.
    assert [
        (checkpoint, [[one.completion for one in group.traces] for group in groups])
        for checkpoint, groups in scorer.asked
    ] == [(8, [["right", "wrong"]]), (9, [["right", "stolen"], ["stolen", "right"]])]
    assert scorer.asked[0][1][0].prompt == traces[2].prompt


def test_tier_a_hands_the_scorer_each_tasks_seed(pool: CheckPool) -> None:
    traces = [
        trace(i, text, TIER_A) for i, text in enumerate(["right", "stolen", "right", "wrong"])
    ]
    scorer = Scorer()
    result = check(pool, traces, TIER_A, scorer=scorer, randomness=RANDOMNESS)
    assert reasons(result) == [Reason.CORRECT, Reason.OFF_POLICY, Reason.CORRECT, Reason.WRONG]
    assert "not what the assigned seed gives with checkpoint 1" in result.explain(1).text
    ((checkpoint, groups),) = scorer.asked
    first = TIER_A.first_task
    assert checkpoint == 1
    assert [group.seed for group in groups] == [TIER_A.seed(first), TIER_A.seed(first + 1)]
    assert [[one.sample for one in group.traces] for group in groups] == [[0, 1], [0, 1]]
    # The same as under tier B, but for the seed.
    again = Scorer()
    check(
        pool,
        [trace(i, "right", TIER_B) for i in range(2)],
        TIER_B,
        scorer=again,
        randomness=RANDOMNESS,
    )
    assert again.asked[0][1][0].seed is None


def test_what_tier_a_asks_for(pool: CheckPool) -> None:
    traces = [trace(0, "right", TIER_A), trace(1, "right!", TIER_A, logprobs=None)]
    result = check(pool, traces, TIER_A)
    assert reasons(result) == [Reason.CORRECT, Reason.OFF_POLICY]
    assert "tier A needs logprobs" in result.explain(1).text


def test_the_same_text_twice_is_no_lie_under_tier_a(pool: CheckPool) -> None:
    """Two places of a group may well be given the same text: it is paid once and costs no bond."""
    traces = [trace(0, "right", TIER_A), trace(1, "right", TIER_A)]
    result = check(pool, traces, TIER_A, scorer=Scorer(), randomness=RANDOMNESS)
    assert reasons(result) == [Reason.CORRECT, Reason.DUPLICATE]
    assert (result.attestation.units, result.attestation.faults) == (1, 0)


def test_only_the_groups_drawn_by_the_round_are_rescored(pool: CheckPool) -> None:
    traces = [trace(i, f"stolen {i}", TIER_B) for i in range(40)]
    scorer = Scorer()
    spec = SPEC.model_copy(update={"provenance": ProvenanceSpec(groups=3)})
    result = check(pool, traces, TIER_B, scorer=scorer, randomness=RANDOMNESS, spec=spec)
    drawn = sampled_groups(RANDOMNESS, 20, 3)
    assert [one.task - 40 for group in scorer.asked[0][1] for one in group.traces] == [
        group for group in drawn for _ in range(2)
    ]
    off = [i for i, reason in enumerate(reasons(result)) if reason is Reason.OFF_POLICY]
    assert off == [2 * group + sample for group in drawn for sample in (0, 1)]


def test_the_draw_of_groups() -> None:
    assert sampled_groups(RANDOMNESS, 3, 5) == [0, 1, 2]
    drawn = sampled_groups(RANDOMNESS, 1000, 10)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 10
    assert max(drawn) < 1000
    assert drawn != sampled_groups(b"\x06" * 32, 1000, 10)
    assert sampled_groups(RANDOMNESS, 5, 4) != sampled_groups(b"\x08" * 32, 5, 4)
    assert sampled_groups(RANDOMNESS, 10, 0) == []


def test_tier_c_is_never_rescored(pool: CheckPool) -> None:
    scorer = Scorer(lambda one: True)
    result = check(pool, [trace(0, "right"), trace(1, "wrong")], scorer=scorer)
    assert reasons(result) == [Reason.CORRECT, Reason.WRONG]
    assert scorer.asked == []


def test_a_scorer_that_answers_too_little_gives_no_verdict(pool: CheckPool) -> None:
    class Short(Scorer):
        def off_policy(self, checkpoint: int, groups: list[GroupToScore]) -> list[bool]:
            return [False]

    traces = [trace(0, "right", TIER_B), trace(1, "wrong", TIER_B)]
    with pytest.raises(CheckerFailed, match="1 answers for 2 traces"):
        check(pool, traces, TIER_B, scorer=Short(), randomness=RANDOMNESS)


# --- pay rules and terms -----------------------------------------------------------


def test_the_informative_rule_pays_whole_mixed_groups(pool: CheckPool) -> None:
    texts = ["right", "wrong", "right", "right", "wrong", "wrong", "right", "raise"]
    traces = [trace(i, text) for i, text in enumerate(texts)]
    result = check(pool, traces, replace(TERMS, pay_rule=PayRule.INFORMATIVE))
    assert [verdict.units for verdict in result.verdicts] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert result.explain(1).text == "it is wrong; worth 1 unit"


def test_terms_that_can_not_be_checked(pool: CheckPool) -> None:
    good = [trace(0, "right"), trace(1, "wrong")]
    with pytest.raises(InvalidValue, match="1 traces are not whole groups of 2"):
        check(pool, good[:1])
    with pytest.raises(InvalidValue, match="0 traces"):
        check(pool, [])
    with pytest.raises(InvalidValue, match="randomness"):
        check(pool, good, TIER_B, scorer=Scorer())
    with pytest.raises(InvalidValue, match="randomness"):
        check(pool, good, TIER_A, scorer=Scorer())


def test_an_environment_that_can_not_be_built_gives_no_verdict(pool: CheckPool) -> None:
    spec = SPEC.model_copy(update={"name": "unbuildable"})
    with pytest.raises(SpecError, match="can't be built"):
        check_batch(lines_of([trace(0, "a"), trace(1, "b")]), spec=spec, terms=TERMS, pool=pool)


# --- a real environment ------------------------------------------------------------


def test_hostile_lines_have_their_reason_and_touch_no_other_trace(pool: CheckPool) -> None:
    """Invalid UTF-8, 10 MB of text, a lone surrogate, more text than the spec allows; each beside
    a good trace of another group."""
    good = encode_line(trace(0, "right"))
    alone = check(pool, [good, encode_line(trace(1, "wrong"))])
    hostile = {
        good.replace(b"right", b"ri\xffght"): Reason.MALFORMED_LINE,
        good.replace(b"right", b"right" * 2_000_000): Reason.MALFORMED_LINE,
        good.replace(b"right", b"\\ud800"): Reason.MALFORMED_LINE,
        encode_line(trace(2, "x" * 900_000)): Reason.TOO_LONG,
    }
    for line, reason in hostile.items():
        found = check(
            pool, [good, encode_line(trace(1, "wrong")), line, encode_line(trace(3, "right"))]
        )
        assert found.verdicts[:2] == alone.verdicts
        assert reasons(found)[2:] == [reason, Reason.CORRECT]


def real_batch(spec: EnvironmentSpec, terms: BatchTerms, groups: int) -> list[bytes]:
    environment = Environment(spec)
    lines = []
    for index in range(groups * terms.group_size):
        task = environment.task(terms.seed(terms.first_task + index // terms.group_size))
        completion = (f" {task.answer}\n", task.answer, "12")[index % 3]
        lines.append(encode_line(trace(index, completion, terms, prompt=task.prompt)))
    return lines


def test_pools_of_any_size_come_to_the_same_attestation() -> None:
    terms = replace(TERMS, group_size=4)
    lines = real_batch(SPEC, terms, 25)
    lines[10] = lines[9]
    checks = []
    for workers, chunk in ((1, 64), (2, 7)):
        with CheckPool(workers, chunk_items=chunk) as made:
            checks.append(check_batch(lines, spec=SPEC, terms=terms, pool=made))
    assert checks[0] == checks[1]
    assert reasons(checks[0])[10] is Reason.UNASSIGNED
    assert checks[0].attestation.units == 25  # white space makes no other text
    other = replace(terms, assignment_seed=b"\x0a" * 32)
    with CheckPool(1) as made:  # copied from another assignment
        copied = check_batch(lines, spec=SPEC, terms=other, pool=made)
    assert set(reasons(copied)) == {Reason.TAMPERED_PROMPT, Reason.UNASSIGNED}


# --- the file ----------------------------------------------------------------------


def test_a_batch_opens_only_if_it_is_what_was_committed() -> None:
    lines = lines_of([trace(0, "right"), trace(1, "wrong")])
    root = merkle.batch_tree(TERMS.chain_id, TERMS.market, TERMS.bounty, TERMS.miner, lines).root
    data = batch_file.pack(lines)
    assert open_batch(data, count=2, root=root, terms=TERMS) == lines
    for bad in (
        {"root": b"\x01" * 32},
        {"terms": replace(TERMS, miner="0x" + "12" * 20)},
        {"terms": replace(TERMS, bounty=4)},
        {"count": 4},
    ):
        with pytest.raises(MalformedBatch, match=r"lead to batch root 0x|has 2 lines"):
            open_batch(data, **{"count": 2, "root": root, "terms": TERMS, **bad})
    with pytest.raises(MalformedBatch, match="not zstd"):
        open_batch(b"\n".join(lines), count=2, root=root, terms=TERMS)


def test_zeros_that_unpack_to_a_hundred_megabytes_are_refused() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(100 << 20))
    assert len(bomb) < 20_000
    with pytest.raises(BatchTooLarge, match="unpacks to"):
        open_batch(bomb, count=2, root=bytes(32), terms=TERMS)
