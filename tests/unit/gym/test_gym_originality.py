"""Originality: what counts as the same text, and that copies hurt nobody but who sells them."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketplace.gym.originality import (
    PERMUTATIONS,
    Fingerprint,
    TextOf,
    TextOriginals,
    Texts,
    fingerprint,
    normalised,
    question_key,
)
from marketplace.gym.spec import EnvironmentSpec, NearSpec, OriginalitySpec, parse_spec
from marketplace.protocol.errors import SpecError
from marketplace.protocol.payout import Checked, PayRule, apply
from marketplace.protocol.trace import Tier, Trace
from marketplace.protocol.verdict import Reason, Verdict

FULL = 1_000_000
NEAR = NearSpec()
SPEC = parse_spec(
    b'{"v":1,"name":"small","source":{"kind":"math_answer","families":["linear"]},'
    b'"scoring":{"kind":"exact"},"originality":{"earlier":100,"near":{}},'
    b'"packages":{"datasketch":"2.0.0"}}'
)
SOLUTION = (
    "First take seven from both sides, which leaves three times the unknown alone on the left; "
    "then divide by three. The unknown is therefore five, and putting it back into the equation "
    "shows that both sides agree: twenty-two is twenty-two. Answer: 5"
)


class Sold:
    """Earlier, from a list of (prompt, completion)."""

    def __init__(self, texts: Iterable[tuple[str, str]], near: NearSpec | None = NEAR) -> None:
        self.texts = [(question_key(p), fingerprint(p, c, near)) for p, c in texts]

    def sold(self, question: bytes) -> Iterable[Fingerprint]:
        return [one for key, one in self.texts if key == question]


def judged(
    texts: Sequence[tuple[str, str]],
    *,
    earlier: Iterable[tuple[str, str]] = (),
    spec: EnvironmentSpec = SPEC,
    tier: Tier = Tier.C,
    rule: PayRule = PayRule.CORRECT,
    group: int = 2,
    scores: Sequence[int] | None = None,
    nats: float = 0.0,
) -> list[Verdict]:
    """Verdicts of right texts (prompt, completion); scores: others than 1."""
    scores = scores or [FULL] * len(texts)
    reasons = {FULL: Reason.CORRECT, 0: Reason.WRONG}
    results = [
        Checked(score, reasons.get(score, Reason.PARTIAL), text)
        for score, (_, text) in zip(scores, texts, strict=True)
    ]
    traces = [TextOf(prompt, text, nats) for prompt, text in texts]
    originals = TextOriginals(spec, tier, rule, traces, Sold(earlier, spec.originality.near))
    return apply(rule, group, results, originals)


def units(verdicts: Sequence[Verdict]) -> list[int]:
    return [one.units for one in verdicts]


def reasons(verdicts: Sequence[Verdict]) -> list[Reason]:
    return [one.reason for one in verdicts]


# --- normalisation -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", " 7\n"),
        ("The  Answer", "the answer"),
        ("x\u00b2", "x2"),
        ("\uff17", "7"),
        ("an\u200dswer", "answer"),
        ("an\ufeffswer\ufe0f", "answer"),
        ("Stra\u00dfe", "STRASSE"),
        ("e\u0301", "\u00c9"),
        ("a\u00a0b\u2003c", "a b c"),
        ("bell\x07", "bell"),
    ],
)
def test_texts_that_read_alike_are_one_text(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1.5", "15"), ("-1", "1"), ("x+1", "x-1"), ("1 2", "12"), ("7", "8")]
)
def test_texts_that_say_something_else_stay_apart(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@given(st.text(st.characters(categories=["L", "N", "S", "P", "Z"])))
def test_characters_after_unicode_3_2_are_left_alone(text: str) -> None:
    later = {c for c in text if unicodedata.ucd_3_2_0.category(c) == "Cn"}
    assert later <= set(normalised(text))


def test_fingerprints_stay_what_they_are() -> None:
    """Written down: another version of the package or of Python must come to the same."""
    own = fingerprint("Solve it.", SOLUTION, NEAR)
    assert own.signature is not None
    assert len(own.signature) == 512
    assert own.digest.hex().startswith("886f51c5fa28faa6")
    assert own.signature.hex().startswith("34913f0138abea01b4f20800461f2e00")


# --- near-duplicates ---------------------------------------------------------------


def resembles(prompt: str, one: str, other: str) -> bool:
    return fingerprint(prompt, one, NEAR).resembles(fingerprint(prompt, other, NEAR), NEAR)


def test_light_edits_hide_nothing() -> None:
    edited = SOLUTION.replace("First take", "We take").replace("therefore", "so")
    assert fingerprint("p", edited, NEAR).digest != fingerprint("p", SOLUTION, NEAR).digest
    assert resembles("p", SOLUTION, edited)
    assert resembles("p", SOLUTION, SOLUTION.replace(" ", "\n\n").upper())
    spaced = " ".join(SOLUTION)  # white space between all letters
    assert resembles("p", SOLUTION, spaced)


def test_another_solution_of_the_same_question_is_original() -> None:
    other = (
        "Subtract 7: 3x = 15. Hence x = 15 / 3 = 5. To check, 3 * 5 + 7 = 22, as it should be, so "
        "the equation holds and no other value of x can satisfy it, for it is linear. Answer: 5"
    )
    assert not resembles("p", SOLUTION, other)


def test_short_texts_are_only_compared_as_they_are() -> None:
    assert not resembles("p", "the answer is 5", "the answer is 5.")
    assert fingerprint("p", "7", NEAR).signature is None


def test_quoting_the_question_makes_nobody_a_copier() -> None:
    prompt = SOLUTION * 2
    assert not resembles(prompt, f"{prompt} So it is five.", f"{prompt} I would say 5, hm.")
    assert resembles("p", f"{prompt} So it is five.", f"{prompt} I would say 5, hm.")


def test_a_text_of_the_longest_length_is_no_trouble() -> None:
    text = "".join(chr(0x4E00 + place % 20_000) for place in range(262_144))
    assert fingerprint("p", text, NEAR).signature is not None


def test_nearness_must_pin_its_package() -> None:
    with pytest.raises(SpecError, match=r"originality\.near.*datasketch"):
        parse_spec(
            b'{"v":1,"name":"small","source":{"kind":"math_answer","families":["linear"]},'
            b'"scoring":{"kind":"exact"},"originality":{"near":{}}}'
        )


# --- who is paid -------------------------------------------------------------------


def test_a_copy_of_what_was_bought_is_worth_nothing_and_no_lie() -> None:
    edited = SOLUTION.replace("First take", "We take")
    found = judged(
        [("q1", SOLUTION), ("q1", edited), ("q2", SOLUTION), ("q2", "7")],
        earlier=[("q1", SOLUTION), ("q3", "7")],
    )
    # The same words for another question are no copy.
    assert reasons(found) == [Reason.DUPLICATE, Reason.DUPLICATE, Reason.CORRECT, Reason.CORRECT]
    assert units(found) == [0, 0, 1, 1]
    assert {one.faults for one in found} == {0}
    assert found[0].score_ppm == FULL


def test_the_same_pair_is_bought_once_in_a_batch_whatever_its_white_space() -> None:
    found = judged([("q1", "7"), ("q1", " 7"), ("q1", "7 "), ("q2", "7")])
    assert units(found) == [1, 0, 0, 1]


def test_wrong_texts_are_not_bought_and_spoil_nothing() -> None:
    found = judged([("q1", "7"), ("q1", "7")], scores=[0, FULL])
    assert units(found) == [0, 1]


def test_informative_groups_are_not_padded_with_copies() -> None:
    def pay(*texts: str) -> list[int]:
        scores = [FULL if text.strip() == "right" else 0 for text in texts]
        group = [("q", text) for text in texts]
        rule = PayRule.INFORMATIVE
        return units(judged(group, rule=rule, group=len(texts), scores=scores))

    assert pay("right", "wrong", "wrong ", "Wrong") == [1, 1, 0, 0]
    assert pay("right", " right", "right", "right") == [0, 0, 0, 0]  # one text, all right
    assert pay("right", "wrong", "other", "third") == [1, 1, 1, 1]
    # What was sold before is no part of a group.
    sold = [("q", "wrong")]
    found = judged(
        [("q", "right"), ("q", "wrong")],
        earlier=sold,
        rule=PayRule.INFORMATIVE,
        scores=[FULL, 0],
    )
    assert units(found) == [0, 0]
    assert reasons(found) == [Reason.CORRECT, Reason.DUPLICATE]


def test_likely_texts_of_a_checkpoint_are_no_copies() -> None:
    group = [("q", "right"), ("q", "right"), ("q", "wrong"), ("q", "wrong")]
    sampled = {"group": 4, "tier": Tier.B, "rule": PayRule.INFORMATIVE, "earlier": group[:1]}
    scores = [FULL, FULL, 0, 0]
    assert units(judged(group, scores=scores, nats=3.0, **sampled)) == [1, 1, 1, 1]
    copied = judged(group, scores=scores, nats=40.0, **sampled)
    assert reasons(copied)[:2] == [Reason.DUPLICATE] * 2
    # By the correct rule a pair is bought once, whoever sampled it.
    assert units(judged(group[:2], nats=3.0, tier=Tier.B, earlier=group[:1])) == [0, 0]


def test_replayed_texts_are_nobodys_copies() -> None:
    group = [("q", SOLUTION), ("q", "wrong")]
    rules = {"tier": Tier.A, "earlier": [("q", SOLUTION)], "nats": 99.0}
    assert units(judged(group, scores=[FULL, 0], **rules)) == [1, 0]
    informative = judged(group, scores=[FULL, 0], rule=PayRule.INFORMATIVE, **rules)
    assert units(informative) == [1, 1]
    assert units(judged([("q", "7"), ("q", "7 ")], tier=Tier.A)) == [1, 0]


def test_a_question_is_paid_as_often_as_the_spec_says() -> None:
    spec = SPEC.model_copy(update={"limits": SPEC.limits.model_copy(update={"paid_per_task": 2})})
    texts = [("q", "a"), ("q", "b"), ("q", "c"), ("r", "a")]
    found = judged(texts, spec=spec, group=4)
    assert units(found) == [1, 1, 0, 1]
    assert reasons(found) == [Reason.CORRECT] * 4
    assert units(judged(texts, spec=spec, group=4, earlier=[("q", "z")])) == [1, 0, 0, 1]
    scores = [FULL, 0, 0, 0]
    informative = judged(
        [("q", text) for text in "abcd"],
        spec=spec,
        rule=PayRule.INFORMATIVE,
        group=4,
        scores=scores,
    )
    assert units(informative) == [1, 1, 0, 0]


# --- properties --------------------------------------------------------------------

_TEXTS = st.sampled_from(
    ["7", " 7", "8", SOLUTION, SOLUTION.upper(), SOLUTION.replace("First take", "We take")]
)
_BATCH = st.lists(st.tuples(st.sampled_from(["p", "q"]), _TEXTS), min_size=2, max_size=8).filter(
    lambda found: len(found) % 2 == 0
)


@settings(deadline=None)
@given(_BATCH, _BATCH)
def test_who_was_first_is_paid_as_without_a_copier(victim: list, copier: list) -> None:
    before = judged(victim)
    bought = [text for text, verdict in zip(victim, before, strict=True) if verdict.units]
    after = judged(copier, earlier=bought)
    assert judged(victim) == before  # nothing of the copier's is in what it depends on
    for (prompt, text), verdict in zip(copier, after, strict=True):
        own = fingerprint(prompt, text, NEAR)
        copied = any(
            prompt == asked and own.resembles(fingerprint(asked, sold, NEAR), NEAR)
            for asked, sold in bought
        )
        assert not (copied and verdict.units)
        assert verdict.faults == 0


@settings(deadline=None)
@given(_BATCH, _BATCH, st.randoms())
def test_the_order_in_which_earlier_batches_arrive_is_nothing(
    batch: list, earlier: list, random: object
) -> None:
    shuffled = list(earlier)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert judged(batch, earlier=earlier) == judged(batch, earlier=shuffled)


@settings(deadline=None)
@given(_BATCH)
def test_what_nobody_bought_changes_nothing(batch: list) -> None:
    """Texts for other questions, and texts without a unit, are not in the index."""
    others = [(f"other {prompt}", text) for prompt, text in batch]
    assert judged(batch, earlier=others) == judged(batch)


def test_the_default_spec_compares_equal_texts_of_one_batch() -> None:
    spec = replace_originality(SPEC, OriginalitySpec())
    edited = SOLUTION.replace("First take", "We take")
    found = judged([("q", SOLUTION), ("q", edited)], spec=spec)
    assert units(found) == [1, 1]
    assert units(judged([("q", "7"), ("q", "7 ")], spec=spec)) == [1, 0]


def replace_originality(spec: EnvironmentSpec, part: OriginalitySpec) -> EnvironmentSpec:
    return spec.model_copy(update={"originality": part})


def test_how_likely_a_text_was_is_the_same_number_on_every_python() -> None:
    # The last bits of a plain sum differ from Python 3.11 to 3.12, and nats is a threshold.
    logprobs = (-0.1,) * 320
    assert TextOf.of(trace(logprobs)).nats == 32.0
    # Finite each, and nothing that a float can add up.
    assert TextOf.of(trace((-1.7e308,) * 4)).nats >= 1000.0


def trace(logprobs: tuple[float, ...]) -> Trace:
    return Trace(
        task=0,
        sample=0,
        prompt="1 + 1",
        completion="2",
        tokens=(7,) * len(logprobs),
        logprobs=logprobs,
        finish="stop",
        checkpoint=1,
        model="model",
        temperature=1.0,
        max_tokens=512,
        claimed_score=None,
    )


def test_all_texts_of_a_question_compare_as_one_by_one() -> None:
    dice = random.Random(5)

    def fingerprinted(size: int) -> Fingerprint:
        # Signatures that agree in 80 to 100 of 128 values, and so stand on both sides of 0.7.
        values = [0] * size + [dice.randrange(1, 1 << 32) for _ in range(PERMUTATIONS - size)]
        signature = b"".join(value.to_bytes(4, "little") for value in values)
        return Fingerprint(dice.randbytes(32), dice.choice([signature, signature, None]))

    own = Fingerprint(bytes(32), bytes(4 * PERMUTATIONS))
    found = set()
    for _ in range(200):
        many = [fingerprinted(dice.randrange(80, 92)) for _ in range(dice.randrange(4))]
        texts = Texts(many)
        assert len(texts) == len(many)
        for near in (NEAR, None):
            one_by_one = any(own.resembles(other, near) for other in many)
            assert texts.have_like(own, near) is one_by_one
            found.add((near is None, one_by_one))
        assert Texts([*many, own]).have_like(own, None)
    assert found == {(False, True), (False, False), (True, False)}
