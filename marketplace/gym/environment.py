"""An environment at work: tasks from seeds, prompts, answers out of completions, scores.

Everything is a function of the spec and the seed alone. The held-out split goes by a
question's text (protocol.seeds.is_heldout), so a held-out question can't be sold under any
seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Final

from marketplace.gym.answers import read_json, same_value
from marketplace.gym.source import Entry, Explained, UnreadableAnswer
from marketplace.gym.sources.math_answer import same_mathematics
from marketplace.gym.spec import (
    BetweenAnswer,
    EnvironmentSpec,
    LastLineAnswer,
)
from marketplace.gym.worlds.dialogue import Conversation
from marketplace.protocol.errors import CheckerFailed, EnvironmentMismatch, SpecError
from marketplace.protocol.hashing import keccak, uint
from marketplace.protocol.seeds import is_heldout, walk_seed
from marketplace.protocol.verdict import Reason, score_reason, to_ppm

SHOTS_TAG: Final = b"tracemarket.shots"
HELDOUT_TASK_TAG: Final = b"tracemarket.heldout.task"
SELF_TEST_TAG: Final = b"tracemarket.selftest"

MAX_DRAWS: Final = 10_000
"""Draws of one walk before the task source counts as too small for what is asked of it."""

_ALONE: Final = frozenset({"openenv"})
"""Packages that ask for much that nothing here needs."""

_SELF_TESTS = 3
_ROUNDING = 1e-9
"""A scorer that adds up shares may end this far over 1."""


@dataclass(frozen=True, slots=True)
class Task:
    """One problem. seed: the 32 bytes it was derived from. answer: the reference answer."""

    seed: bytes
    question: str
    prompt: str
    answer: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Judgement:
    """A checked completion. score in [0, 1]; reason CORRECT, WRONG, PARTIAL or PARSE_FAILURE."""

    score: float
    reason: Reason
    detail: str = ""


class Environment:
    """Tasks and scores of one spec.

    assets: folder of what spec.to_fetch() names, a file each, named by its CID.

    Raises SpecError if the spec names a task, key or value that its source does not have, and
    EnvironmentMismatch if a package is missing or has another version than the spec pins.
    """

    def __init__(self, spec: EnvironmentSpec, assets: Path | None = None) -> None:
        check_packages(spec)
        self.spec = spec
        self._source = spec.source.open_with(assets)
        self._shots = self._draw_shots()
        self._head, self._tail = self._prompt_parts()

    def task(self, seed: bytes) -> Task:
        """The task of a 32-byte seed: the first question of its walk that may be sold.

        Held-out questions and those of the few-shot examples are walked over. Raises
        CheckerFailed if no such question is found.
        """
        for entry in self._walk(seed):
            if entry.question not in self._shots and not self._is_heldout(entry):
                return self._as_task(seed, entry)
        raise CheckerFailed(f"no task found in {MAX_DRAWS} draws from seed 0x{seed.hex()}")

    def heldout(self, index: int) -> Task:
        """The index-th held-out task (index from 0). Different indices may give one question.

        Raises SpecError if the spec holds nothing out, or its source is too small to find any.
        """
        if self.spec.holdout_ppm == 0:
            raise SpecError("holdout_ppm is 0: this environment has no held-out tasks")
        seed = keccak(HELDOUT_TASK_TAG + uint(index, 64, "held-out index").to_bytes(8, "big"))
        for entry in self._walk(seed):
            if self._is_heldout(entry):
                return self._as_task(seed, entry)
        raise SpecError(
            f"no held-out question in {MAX_DRAWS} draws at holdout_ppm {self.spec.holdout_ppm}",
            fix="raise holdout_ppm or widen the task's configuration",
        )

    def begin(self, task: Task) -> Conversation:
        """A conversation of the task. SpecError where tasks have no turns."""
        if not self.spec.source.turns():
            raise SpecError(f"tasks of kind {self.spec.source.kind!r} have no turns")
        source: Any = self._source
        conversation: Conversation = source.begin(task.entry)
        return conversation

    def judge(self, task: Task, completion: str) -> Judgement:
        """Scores a completion. May hang or use any memory: run it in a CheckPool.

        Raises CheckerFailed if the checker raises or returns anything but a number in [0, 1].
        """
        try:
            answer = self._answer(completion)
            value = self._scored(task, answer)
            said = value.detail if isinstance(value, Explained) else None
            score = checked_score(value.score if isinstance(value, Explained) else value)
        except UnreadableAnswer as error:
            return Judgement(0.0, Reason.PARSE_FAILURE, str(error))
        except (CheckerFailed, MemoryError):
            raise
        except Exception as error:
            raise CheckerFailed(f"the checker raised {type(error).__name__}: {error}") from error
        reason = score_reason(to_ppm(score))
        return Judgement(score, reason, said or f"answer {_short(answer)} scores {score:g}")

    def score(self, task: Task, completion: str) -> float:
        """The score of a completion in [0, 1]; errors as `judge`."""
        return self.judge(task, completion).score

    def answer_of(self, completion: str) -> str | None:
        """The answer that the answer rule reads from a completion, None if there is none."""
        try:
            return self._answer(completion)
        except UnreadableAnswer:
            return None

    def same_answer(self, one: str, two: str) -> bool:
        """Whether two answers are one: as text, as mathematics where answers are scored so, as JSON
        values where a source's own scorer may read them so. Never asks which is right."""
        one, two = (" ".join(text.split()) for text in (one, two))
        if one == two or self.spec.scoring.kind == "exact":
            return one == two
        try:
            if self.spec.scoring.kind == "math_verify":
                return same_mathematics(one, two) == 1.0
            return same_value(read_json(one), read_json(two))
        except Exception:  # unreadable, or beyond what the mathematics can compare
            return False

    def reference_completion(self, task: Task) -> str:
        """A completion from which the answer rule reads the task's reference answer."""
        return self.completion_of(task.answer)

    def completion_of(self, answer: str) -> str:
        """A completion from which the answer rule reads `answer`."""
        rule = self.spec.answer
        if isinstance(rule, BetweenAnswer):
            return f"{rule.start}{answer}{rule.end}"
        return answer

    def self_test(self) -> None:
        """SpecError unless the checker gives reference answers their full score."""
        for number in range(_SELF_TESTS):
            task = self.task(walk_seed(keccak(SELF_TEST_TAG), number))
            try:
                judgement = self.judge(task, self.reference_completion(task))
            except CheckerFailed as error:
                raise SpecError(f"the checker fails on its own reference answer: {error}") from None
            if self.spec.rubric is not None and judgement.reason is not Reason.PARSE_FAILURE:
                continue
            if judgement.reason is not Reason.CORRECT:
                raise SpecError(
                    f"the reference answer {_short(task.answer)} of {_short(task.question)} is "
                    f"{judgement.reason.name} under scoring {self.spec.scoring.kind!r} with "
                    f"answer rule {self.spec.answer.kind!r}: {judgement.detail}",
                    fix="choose an answer rule and a scoring that accept the source's answers",
                )

    # --- tasks ---------------------------------------------------------------------

    def _walk(self, seed: bytes) -> Iterator[Entry]:
        for counter in range(MAX_DRAWS):
            number = int.from_bytes(walk_seed(seed, counter)[:8], "big")
            try:
                entry = self._source.draw(number)
            except (MemoryError, RecursionError, OSError):  # of this machine, not of the number
                raise
            except Exception:
                # The same everywhere: a few generators find nothing for some seeds.
                continue
            yield entry

    def _is_heldout(self, entry: Entry) -> bool:
        return is_heldout(entry.question, self.spec.holdout_ppm)

    def _draw_shots(self) -> dict[str, str]:
        """Question to answer, in order. All different, none held out."""
        shots: dict[str, str] = {}
        for index in range(self.spec.prompt.shots):
            seed = keccak(SHOTS_TAG + index.to_bytes(8, "big"))
            found = (
                entry
                for entry in self._walk(seed)
                if entry.question not in shots and not self._is_heldout(entry)
            )
            for entry in islice(found, 1):
                shots[entry.question] = entry.answer
            if len(shots) <= index:
                raise SpecError(
                    f"prompt.shots is {self.spec.prompt.shots}, but the task source gave only "
                    f"{index} different questions in {MAX_DRAWS} draws",
                    fix="lower prompt.shots or widen the task's configuration",
                )
        return shots

    def _prompt_parts(self) -> tuple[str, str]:
        prompt = self.spec.prompt
        shown = "".join(
            _filled(prompt.shot_template, question, answer)
            for question, answer in self._shots.items()
        )
        head, _, tail = prompt.template.partition("{question}")
        return shown + head, tail

    def _as_task(self, seed: bytes, entry: Entry) -> Task:
        prompt = f"{self._head}{entry.question}{self._tail}"
        return Task(seed, entry.question, prompt, entry.answer, entry)

    # --- answers -------------------------------------------------------------------

    def _answer(self, completion: str) -> str:
        rule = self.spec.answer
        answer = completion
        if isinstance(rule, LastLineAnswer):
            answer = completion.strip().rpartition("\n")[2]
        elif isinstance(rule, BetweenAnswer):
            before, end, _ = completion.rpartition(rule.end)
            _, start, answer = before.rpartition(rule.start)
            if not end or not start:
                raise UnreadableAnswer(f"nothing stands between {rule.start!r} and {rule.end!r}")
        answer = answer.strip()
        if not answer:
            raise UnreadableAnswer("the answer is empty")
        return answer

    def _scored(self, task: Task, answer: str) -> object:
        kind = self.spec.scoring.kind
        if kind == "rubric":
            # No checker can say: what is readable waits for the jury (check_batch's panel).
            return Explained(0.0, f"answer {_short(answer)} is for the jury to grade")
        if kind == "exact":
            return float(answer == task.answer.strip())
        if kind == "math_verify":
            return same_mathematics(answer, task.answer)
        return self._source.score(answer, task.entry)


def checked_score(value: object) -> float:
    """value as a float in [0, 1]; CheckerFailed for NaN, infinity, 1.7, text, None and the like."""
    if not isinstance(value, int | float):
        raise CheckerFailed(f"the checker returned {_short(value)}, not a number")
    score = float(value)
    if not math.isfinite(score) or not 0.0 <= score <= 1.0 + _ROUNDING:
        raise CheckerFailed(f"the checker returned {score}, not a number in [0, 1]")
    return min(score, 1.0)


def installed_version(package: str) -> str | None:
    """The version of a package, None if it is not installed. Read once: it takes milliseconds, and
    what runs here is what was installed when it was imported."""
    try:
        return _known_version(package)
    except (metadata.PackageNotFoundError, ValueError):
        return None


_known_version = cache(metadata.version)


def check_packages(spec: EnvironmentSpec) -> None:
    """EnvironmentMismatch unless every package is installed in the version the spec pins."""
    for package, pinned in sorted(spec.packages.items()):
        installed = installed_version(package)
        if installed != pinned:
            found = "it is not installed" if installed is None else f"{installed} is installed"
            raise EnvironmentMismatch(
                f"environment {spec.name!r} needs {package} {pinned}, but {found}",
                fix=f"pip install {'--no-deps ' if package in _ALONE else ''}{package}=={pinned}",
            )


def _filled(template: str, question: str, answer: str) -> str:
    """Both placeholders replaced in one pass: a question that holds "{answer}" stays as it is."""
    head, _, tail = template.partition("{question}")
    return head.replace("{answer}", answer, 1) + question + tail.replace("{answer}", answer, 1)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
