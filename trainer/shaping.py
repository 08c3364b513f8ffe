"""Rewards of the trainer's own: format, language, all or nothing.

Scores decide money, so what a committee attested is never touched: batches are opened and proven
first, the dataset root is over the attested verdicts, and payments, the record's mean score and
the evaluation know the attested score only. Shaping makes a copy for the loss, which compares the
traces of a group by it:

    shaped = (score + format * f + language * l) / (1 + format + language)

where f and l lie in [0, 1] and follow from the text alone. A rule that sellers are to be paid by
belongs into the environment's own checker instead.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from marketplace.gym.source import Part
from marketplace.gym.spec import AnswerRule, BetweenAnswer
from marketplace.protocol.errors import MalformedTrace
from marketplace.protocol.seeds import PPM
from marketplace.protocol.trace import Tier, Trace, decode_line
from marketplace.protocol.verdict import Reason, Verdict, score_reason, to_ppm
from trainer.data import AttestedBatch

_SCORED = frozenset(
    {Reason.CORRECT, Reason.WRONG, Reason.PARTIAL, Reason.PARSE_FAILURE, Reason.DUPLICATE}
)
"""A copy is compared with the others of its group, so its score is of the same kind as theirs."""

_Share = Annotated[float, Field(ge=0.0, le=10.0)]


class RewardShaping(Part):
    """binary: a score below 1 counts as 0. format, language: weights beside the score's 1.

    think: the two marks that reasoning has to stand between, before the answer; None: anything may
    come before it. script: the first word of its letters' Unicode names (LATIN, CYRILLIC, CJK,
    ...); None: the one that most letters of the prompt have.
    """

    binary: bool = False
    format: _Share = 0.0
    language: _Share = 0.0
    think: tuple[str, str] | None = None
    script: Annotated[str, Field(pattern=r"^[A-Z]{2,20}$")] | None = None

    @property
    def changes(self) -> bool:
        """Whether any score can come out different."""
        return self.binary or self.format > 0 or self.language > 0


def shape_batch(batch: AttestedBatch, shaping: RewardShaping, rule: AnswerRule) -> AttestedBatch:
    """A copy of a proven batch for the loss, with shaped scores and nothing to pay.

    Tier C is left alone: its traces are learned from only where the attested score is full.
    """
    if not shaping.changes or batch.terms.tier is Tier.C:
        return batch
    verdicts = tuple(
        _shaped(line, verdict, shaping, rule)
        for line, verdict in zip(batch.lines, batch.verdicts, strict=True)
    )
    return replace(batch, verdicts=verdicts)


def shaped_score(score: float, trace: Trace, shaping: RewardShaping, rule: AnswerRule) -> float:
    """The shaped score of a trace, in [0, 1]."""
    base = float(score >= 1.0) if shaping.binary else score
    total = base
    if shaping.format:
        total += shaping.format * format_reward(trace, rule, shaping.think)
    if shaping.language:
        script = shaping.script or main_script(trace.prompt)
        total += shaping.language * script_share(trace.completion, script)
    return total / (1 + shaping.format + shaping.language)


def format_reward(trace: Trace, rule: AnswerRule, think: tuple[str, str] | None) -> float:
    """1 for a completion that ended by itself and is of the asked form, else 0.

    The form: where the answer stands between two marks, each of them once and nothing after;
    with think, its two marks once, in order, before the answer, with something in between.
    """
    if trace.finish != "stop":
        return 0.0
    text = trace.completion.strip()
    if isinstance(rule, BetweenAnswer):
        if text.count(rule.start) != 1 or text.count(rule.end) != 1:
            return 0.0
        head, _, rest = text.partition(rule.start)
        answer, end, after = rest.partition(rule.end)
        if not end or not answer.strip() or after.strip():
            return 0.0
    else:
        head, _, answer = text.rpartition("\n")
        if not answer:
            return 0.0
    if think is None:
        return 1.0
    start, stop = think
    before, found, rest = head.partition(start)
    thought, closed, after = rest.partition(stop)
    tidy = found and closed and thought.strip() and not before.strip() and not after.strip()
    return float(bool(tidy) and head.count(start) == head.count(stop) == 1)


def script_share(text: str, script: str) -> float:
    """The share of a text's letters that are of a script; 1 for a text without letters.

    A letter's script is the first word of its Unicode name, which tells Latin, Cyrillic, Greek,
    CJK, Hiragana, Arabic and so on apart. (unicodedata does not carry the Script property.)
    """
    counts = _scripts(text)
    total = sum(counts.values())
    return counts[script] / total if total else 1.0


def main_script(text: str) -> str:
    """The script that most letters of a text are of; LATIN for a text without letters."""
    counts = _scripts(text)
    return min(counts, key=lambda name: (-counts[name], name)) if counts else "LATIN"


def attested_mean(batches: list[AttestedBatch]) -> float:
    """The mean attested score of all traces that have one."""
    scores = [v.score_ppm / PPM for batch in batches for v in batch.verdicts if v.reason in _SCORED]
    return sum(scores) / len(scores) if scores else 0.0


def _shaped(line: bytes, verdict: Verdict, shaping: RewardShaping, rule: AnswerRule) -> Verdict:
    if verdict.reason not in _SCORED:
        return verdict
    try:
        trace = decode_line(line)
    except MalformedTrace:  # counted by whoever builds the groups
        return verdict
    score = to_ppm(shaped_score(verdict.score_ppm / PPM, trace, shaping, rule))
    copy = verdict.reason is Reason.DUPLICATE
    return Verdict(score, verdict.reason if copy else score_reason(score), 0, 0)


def _scripts(text: str) -> Counter[str]:
    return Counter(
        unicodedata.name(char, "UNKNOWN").split(" ", 1)[0] for char in text if char.isalpha()
    )
