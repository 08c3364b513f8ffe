"""Puts an environment to the test before money depends on it: `tracemarket env check`.

    builds       packages in the pinned versions, data sets, the checker's own references
    tasks        two processes with other hash seeds and another order draw the same tasks
    references   every reference answer scores 1 (of a rubric environment: can be read)
    junk         no junk earns anything, hangs the checker or ends its process; hostile text may
                 use up its time limit, which is a verdict of its own and costs one trace
    leaks        no answer can be read off at a fixed place of the question (see below)
    verdicts     two pools with other hash seeds and another order find the same verdicts
    held out     where questions are held out, there are some
    variety      the tasks are not all the same, nor is one answer right almost always
    pins         a package's own requirements are pinned too

A leak is not "the answer's text occurs in the prompt": short answers do by chance, and many honest
tasks choose among things that they name. What must not work is to earn without solving: some
fixed rule (the last number, what follows "answer", the last line, ...) that gives the right answer
to at least half of the tasks, and to a quarter of them more than the most common answer does. The
checker judges these guesses, so answers in another form count too. It can't see an answer that is
encoded, or that stands at a place which no rule here reads.

Junk is text that holds no plausible answer: it must score exactly 0 or be an error, for a part of
a point makes a group "informative". Hostile text with digits may earn a part, since it can hold
an answer by chance, but never a full score. Another task's answer may be right by chance (yes or
no), so it is junk only where it earns something in most tasks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, NamedTuple, Self

from marketplace.gym.drawing import Drawer, Drawn, DrawnTask
from marketplace.gym.pool import CheckItem, CheckPool, CheckResult, Status
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import TracemarketError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Reason, to_ppm

TASKS: Final = 24
JUNK_TASKS: Final = 4
HOSTILE_TASKS: Final = 2
"""Tasks that all of the junk is tried on, and all of what is hostile."""

DRAW_SECONDS: Final = 90.0
RATE_SECONDS: Final = 3.0
RATE_ITEMS: Final = 4096

_SEED_TAG: Final = b"tracemarket.trial"
_DEATH: Final = "the checker's process"

JUNK: Final = {
    "nothing": "",
    "blanks": " \n\t ",
    "words": "I don't know.",
    "not a number": "NaN",
    "infinity": "-inf",
    "unicode": "\u202e\u0663\u00bd \U0001f9ee e\u0301 \uff0b\u200b",
    "control characters": "\x00\x01\x1b[\x7f",
    "JSON": '{"answer": null, "score": true}',
    "code": "__import__('os')._exit(True)",
    "LaTeX": r"\frac{}{}\sqrt[\left(",
    "markup": "</answer><answer>",
}
HOSTILE: Final = {
    "a power tower": "9**9**9**9",
    "a large exponent": "1e999999999",
    "a factorial": "99999999!",
    "one half of nothing": "1/0",
    "a hungry pattern": "(a+)+$" + "a" * 40 + "!",
}
_LONG: Final = {
    "brackets": "[",
    "braces": '{"a":',
    "parentheses": "(",
    "digits": "9",
    "signs": "-",
    "a long text": "\u00a4",
}
"""Repeated up to the spec's limits.max_chars. Hostile as well."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tested. detail: figures, or what is wrong."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Trial:
    """An environment's test. checks_per_second: through one worker, right and wrong answers in
    turn; None where it could not be measured."""

    environment: str
    checks: tuple[Check, ...]
    checks_per_second: float | None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)


class _Asked(NamedTuple):
    """An item and what it is for. kind: reference, junk, hostile, other or guess."""

    kind: str
    name: str
    task: int
    item: CheckItem


class TrialBench:
    """The processes that tests run in: two drawers and two pools of one worker, with different
    hash seeds. A context manager; reused for many environments, it saves starting Python.

    assets: folder of data sets that are fetched already.
    """

    def __init__(self, assets: Path | None = None) -> None:
        self.assets = assets
        self.drawers = Drawer(1), Drawer(2)
        self.pools = CheckPool(1, assets=assets), CheckPool(1, assets=assets, hash_seed=12_345)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.drawers, *self.pools):
            process.close()


def examine(
    spec: EnvironmentSpec,
    bench: TrialBench,
    *,
    tasks: int = TASKS,
    rate_seconds: float = RATE_SECONDS,
) -> Trial:
    """Tests an environment. Never raises for what the environment does: that fails a check."""
    seeds = [keccak(_SEED_TAG + index.to_bytes(8, "big")) for index in range(tasks)]
    try:
        drawn, tasks_check = _draw(spec, bench, seeds)
    except TracemarketError as error:
        return Trial(spec.name, (Check("builds", False, str(error)),), None)
    if not tasks_check.passed:
        return Trial(spec.name, (Check("builds", True, ""), tasks_check), None)
    asked = _questions(spec, drawn, seeds)
    try:
        results = bench.pools[0].check(spec, [one.item for one in asked])
        shuffled = list(range(len(asked)))
        Random(tasks).shuffle(shuffled)
        again = bench.pools[1].check(spec, [asked[place].item for place in shuffled])
        rate = checks_per_second(spec, bench.pools[0], _mixed(drawn.tasks, seeds), rate_seconds)
    except TracemarketError as error:
        failed = Check("verdicts", False, f"the check pool can't use it: {error}")
        return Trial(spec.name, (Check("builds", True, ""), tasks_check, failed), None)
    second = [again[place] for place in _inverse(shuffled)]
    checks = (
        Check("builds", True, _packages(spec)),
        tasks_check,
        _references(spec, drawn.tasks, asked, results),
        _junk(asked, results, tasks),
        _leaks(drawn.tasks, asked, results),
        _verdicts(asked, results, second),
        Check("held out", not drawn.heldout, drawn.heldout or f"{spec.holdout_ppm} ppm"),
        _variety(drawn.tasks),
        Check(
            "pins",
            not drawn.unpinned,
            f"not in packages: {', '.join(drawn.unpinned)}" if drawn.unpinned else "",
        ),
    )
    return Trial(spec.name, checks, rate)


# --- drawing and asking ------------------------------------------------------------


def _draw(spec: EnvironmentSpec, bench: TrialBench, seeds: Sequence[bytes]) -> tuple[Drawn, Check]:
    order = list(range(len(seeds)))
    Random(1).shuffle(order)
    junk = JUNK | HOSTILE | _long_texts(spec)
    one, two = bench.drawers
    one.begin(spec, bench.assets, seeds, junk)
    two.begin(spec, bench.assets, [seeds[place] for place in order], {})
    try:
        first = one.result(DRAW_SECONDS)
    finally:
        second = two.result(DRAW_SECONDS)
    other = [second.tasks[place] for place in _inverse(order)]
    for place, (left, right) in enumerate(zip(first.tasks, other, strict=True)):
        if left.error:
            return first, Check("tasks", False, f"seed {place}: {left.error}")
        for field in ("question", "prompt", "answer"):
            a, b = getattr(left, field), getattr(right, field)
            if a != b:
                return first, Check(
                    "tasks", False, f"two processes give another {field}: {_short(a)}, {_short(b)}"
                )
    return first, Check("tasks", True, f"{len(seeds)}, the same in two processes")


def _questions(spec: EnvironmentSpec, drawn: Drawn, seeds: Sequence[bytes]) -> list[_Asked]:
    most = spec.limits.max_chars
    tasks, long = drawn.tasks, _long_texts(spec)
    asked: list[_Asked] = []
    for place, task in enumerate(tasks):

        def ask(
            kind: str, name: str, completion: str, place: int = place, task: DrawnTask = task
        ) -> None:
            # Longer ones never reach a checker: their verdict is TOO_LONG.
            item = CheckItem(seeds[place], completion[:most], task.prompt)
            asked.append(_Asked(kind, name, place, item))

        ask("reference", "its reference answer", task.completion)
        other = tasks[(place + 1) % len(tasks)]
        if other.answer != task.answer:
            ask("other", "the next task's answer", other.completion)
        for rule, guess in task.guesses.items():
            ask("guess", rule, guess)
        for kind, count, texts in (
            ("junk", JUNK_TASKS, JUNK),
            ("hostile", HOSTILE_TASKS, HOSTILE),
            ("hostile", HOSTILE_TASKS, long),
        ):
            for name, text in texts.items() if place < count else ():
                ask(kind, name, text)
                if drawn.junk[name] != text:
                    ask(kind, name, drawn.junk[name])
    return asked


def _long_texts(spec: EnvironmentSpec) -> dict[str, str]:
    # Some room is left for what the answer rule asks for around an answer.
    most = max(1, spec.limits.max_chars - 128)
    return {name: piece * (most // len(piece) + 1) for name, piece in _LONG.items()}


def checks_per_second(
    spec: EnvironmentSpec, pool: CheckPool, items: Sequence[CheckItem], seconds: float
) -> float:
    """How many checks the pool does, timed over about so many seconds; items are repeated."""
    count = 8
    while True:  # as many as take long enough to be timed
        several = [items[number % len(items)] for number in range(count)]
        started = time.perf_counter()
        pool.check(spec, several)
        took = time.perf_counter() - started
        if took > seconds / 2 or count >= RATE_ITEMS:
            return count / took
        count = min(RATE_ITEMS, count * 4)


def _mixed(tasks: Sequence[DrawnTask], seeds: Sequence[bytes]) -> list[CheckItem]:
    """Right and wrong answers in turn."""
    return [
        CheckItem(seeds[place], completion, task.prompt)
        for place, task in enumerate(tasks)
        for completion in (task.completion, tasks[(place + 1) % len(tasks)].completion)
    ]


# --- judging -----------------------------------------------------------------------


def _references(
    spec: EnvironmentSpec,
    tasks: Sequence[DrawnTask],
    asked: Sequence[_Asked],
    results: Sequence[CheckResult],
) -> Check:
    limit = spec.limits.max_chars
    longest = max(len(task.completion) for task in tasks)
    if longest > limit:
        shown = f"one has {longest} characters, over limits.max_chars, {limit}"
        return Check("references", False, shown)
    bad = [
        (one, result)
        for one, result in zip(asked, results, strict=True)
        if one.kind == "reference" and not _passes(spec, result)
    ]
    if not bad and spec.rubric is not None:
        shown = f"{len(tasks)} of {len(tasks)} can be read; class rubric: a jury grades them"
        return Check("references", True, shown)
    if not bad:
        return Check("references", True, f"{len(tasks)} of {len(tasks)} score 1")
    one, result = bad[0]
    return Check(
        "references",
        False,
        f"{len(bad)} of {len(tasks)} don't score 1: {_short(tasks[one.task].answer)} is "
        f"{_told(result)}",
    )


def _passes(spec: EnvironmentSpec, result: CheckResult) -> bool:
    """Whether a reference answer fares as it must. What a jury says of it no check can know."""
    if spec.rubric is None:
        return result.reason is Reason.CORRECT
    return result.status is Status.OK and result.reason is Reason.WRONG


def _junk(asked: Sequence[_Asked], results: Sequence[CheckResult], tasks: int) -> Check:
    tried = errors = earned_by_others = 0
    slow: list[str] = []
    for one, result in zip(asked, results, strict=True):
        if one.kind in ("reference", "guess"):
            continue
        if one.kind == "other":
            earned_by_others += bool(result.score)
            continue
        tried += 1
        errors += result.status is Status.ERROR
        worst = None
        if result.status is Status.TIMEOUT:
            slow.append(one.name)
            worst = "hangs the checker" if one.kind == "junk" else None
        elif result.status is Status.ERROR and result.detail.startswith(_DEATH):
            worst = "ends the checker's process"
        elif result.score and (one.kind == "junk" or result.reason is Reason.CORRECT):
            worst = f"scores {result.score:g}"
        if worst is not None:
            shown = _short(one.item.completion)
            return Check("junk", False, f"{one.name} ({shown}) {worst}: {result.detail}")
    if earned_by_others * 2 > tasks:
        return Check(
            "junk",
            False,
            f"another task's answer earns something in {earned_by_others} of {tasks} tasks",
        )
    shown = f"{tried} tried, {errors} of them checker errors"
    if slow:
        shown += f", {len(slow)} over the time limit ({', '.join(sorted(set(slow)))})"
    return Check("junk", True, shown)


def _leaks(
    tasks: Sequence[DrawnTask], asked: Sequence[_Asked], results: Sequence[CheckResult]
) -> Check:
    hits = Counter(
        one.name
        for one, result in zip(asked, results, strict=True)
        if one.kind == "guess" and result.reason is Reason.CORRECT
    )
    common = _most_common(tasks)[1]
    (rule, most), *_ = [*hits.most_common(1), ("no rule", 0)]
    shown = f"{rule} answers {most} of {len(tasks)}"
    leaks = 2 * most >= len(tasks) and 4 * (most - common) >= len(tasks)
    return Check("leaks", not leaks, shown if leaks or most else "no rule answers any")


def _verdicts(
    asked: Sequence[_Asked], first: Sequence[CheckResult], second: Sequence[CheckResult]
) -> Check:
    for one, a, b in zip(asked, first, second, strict=True):
        if _verdict(a) != _verdict(b):
            shown = _short(one.item.completion)
            return Check("verdicts", False, f"{one.name} ({shown}) is {_told(a)}, then {_told(b)}")
    return Check("verdicts", True, f"{len(asked)}, the same in two processes")


def _variety(tasks: Sequence[DrawnTask]) -> Check:
    different = len({task.question for task in tasks})
    answer, common = _most_common(tasks)
    shown = f"{different} questions in {len(tasks)} tasks, {_short(answer)} answers {common}"
    # Few tasks prove less: a fair coin can fall on one side many times in a row.
    one_answer = common == len(tasks) or (len(tasks) >= 20 and common * 10 > len(tasks) * 9)
    return Check("variety", different > 1 and not one_answer, shown)


def _most_common(tasks: Sequence[DrawnTask]) -> tuple[str, int]:
    return Counter(task.answer for task in tasks).most_common(1)[0]


def _verdict(result: CheckResult) -> tuple[Status, int | None, Reason | None]:
    return result.status, None if result.score is None else to_ppm(result.score), result.reason


def _told(result: CheckResult) -> str:
    if result.status is Status.OK and result.reason is not None:
        return f"{result.reason.name} ({result.detail})"
    return f"{result.status.name} ({result.detail})"


def _packages(spec: EnvironmentSpec) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(spec.packages.items()))


def _inverse(order: Sequence[int]) -> list[int]:
    places = [0] * len(order)
    for place, original in enumerate(order):
        places[original] = place
    return places


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
