"""The attack matrix: what a row is, how its trials are run, and how its verdict follows.

A row is an adversary: a function that plays one trial on a market in its first state and says
whether the market caught it. What it cost and what it brought in is the difference of the liars'
holdings on chain, before and after; nothing in a result is computed from parameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import Any, Final

TUSD: Final = 10**6
"""Base units of one test dollar."""


class Ruling(StrEnum):
    """caught: in every trial the market saw or refused the lie, and it earned no more than it cost.
    unprofitable: no trial earned more than it cost, nor harmed others by more. open: some trial
    did."""

    CAUGHT = "caught"
    UNPROFITABLE = "unprofitable"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial, in base units. cost, gain: what the liars' accounts lost, and what they won.
    harm: what those lost who had no part in it. figures: further measurements, by name."""

    caught: bool
    cost: int
    gain: int
    harm: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def pays(self) -> bool:
        """It earned more than it cost, or hurt others by more."""
        return self.gain > self.cost or self.harm > self.cost


Attack = Callable[[Any, int], Outcome]


@dataclass(frozen=True, slots=True)
class Row:
    """title: the attack in words. who: the liar. expected: what the tests insist on. trials: most
    trials of a whole run. deep: too slow for every test run. alone: each trial needs a node of its
    own, because it takes blocks back."""

    name: str
    title: str
    who: str
    expected: Ruling
    trials: int
    deep: bool
    alone: bool
    how: str
    attack: Attack


@dataclass(frozen=True, slots=True)
class Result:
    """Means are per trial, in base units. seconds: what all trials took."""

    name: str
    title: str
    who: str
    trials: int
    caught: int
    cost: float
    gain: float
    harm: float
    ruling: Ruling
    how: str
    figures: Mapping[str, float]
    seconds: float


ROWS: Final[list[Row]] = []


def row(
    title: str,
    who: str,
    expected: Ruling,
    *,
    trials: int = 20,
    deep: bool = False,
    alone: bool = False,
) -> Callable[[Attack], Attack]:
    """Enters an adversary into the matrix; its docstring says how it goes."""

    def enter(attack: Attack) -> Attack:
        name = attack.__name__.replace("_", "-")
        if any(known.name == name for known in ROWS):
            raise ValueError(f"two rows are called {name}")
        how = " ".join((attack.__doc__ or "").split())
        if not how:
            raise ValueError(f"{name} does not say how it goes")
        ROWS.append(Row(name, title, who, expected, trials, deep, alone, how, attack))
        return attack

    return enter


def rule(outcomes: Sequence[Outcome]) -> Ruling:
    if any(one.pays for one in outcomes):
        return Ruling.OPEN
    return Ruling.CAUGHT if all(one.caught for one in outcomes) else Ruling.UNPROFITABLE


Worlds = Callable[[bool], AbstractContextManager[Any]]
"""(alone) -> a market for one trial; where `alone`, on a node that nothing else was played on."""


def play(worlds: Worlds, entry: Row, trials: int) -> Iterator[Outcome]:
    """Plays `trials` trials, each from a world's first state."""
    for trial in range(trials):
        with worlds(entry.alone) as world:
            world.reset(trial)
            outcome = entry.attack(world, trial)
        yield outcome


def run_row(worlds: Worlds, entry: Row, trials: int) -> Result:
    return summarize(entry, list(play(worlds, entry, trials)))


def summarize(entry: Row, outcomes: Sequence[Outcome], seconds: float = 0.0) -> Result:
    if not outcomes:
        raise ValueError(f"{entry.name} had no trial")
    names = sorted({name for one in outcomes for name in one.figures})
    return Result(
        name=entry.name,
        title=entry.title,
        who=entry.who,
        trials=len(outcomes),
        caught=sum(one.caught for one in outcomes),
        cost=fmean(one.cost for one in outcomes),
        gain=fmean(one.gain for one in outcomes),
        harm=fmean(one.harm for one in outcomes),
        ruling=rule(outcomes),
        how=entry.how,
        figures={
            name: fmean(one.figures[name] for one in outcomes if name in one.figures)
            for name in names
        },
        seconds=seconds,
    )


# --- writing -----------------------------------------------------------------------------


def write_json(path: Path, results: Iterable[Result], about: Mapping[str, Any]) -> None:
    """At once or not at all: a run that is killed leaves the rows before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"about": dict(about), "rows": [asdict(result) for result in results]}
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=1) + "\n", "utf-8")
    part.replace(path)


def markdown(results: Sequence[Result], about: Mapping[str, Any]) -> str:
    """The table, then how each attack goes."""
    count = {ruling: sum(one.ruling is ruling for one in results) for ruling in Ruling}
    lines = [
        "# Attack matrix",
        "",
        "Written by `make attacks`; don't edit. Every row is an adversary in `tests/adversarial` "
        f"that was played against the contracts on Anvil (preset `{about['preset']}`, "
        f"{about['verifiers']} verifiers) and, where content is judged, against the checkers that "
        "verifiers run.",
        "",
        "*Cost* and *gain* are what the liars' accounts (wallet, ledger balance, stake, bounty) "
        "lost and won on chain, *harm* what others lost who had no part in it: means over the "
        "trials, in test dollars. **caught**: in every trial the market saw or refused the lie, "
        "and it earned no more than it cost. **unprofitable**: no trial earned more than it cost, "
        "nor did more harm, but it is not seen as a lie. **open**: some trial earned or harmed "
        "more than it cost; below is said at which price.",
        "",
        f"{len(results)} rows: {count[Ruling.CAUGHT]} caught, "
        f"{count[Ruling.UNPROFITABLE]} unprofitable, {count[Ruling.OPEN]} open.",
        "",
        "| Attack | Who tries | Caught | Cost | Gain | Harm | Verdict | Also measured |",
        "|---|---|---:|---:|---:|---:|---|---|",
    ]
    for one in results:
        figures = "; ".join(f"{name} {_number(value)}" for name, value in one.figures.items())
        lines.append(
            f"| [{one.title}](#{one.name}) | {one.who} | {one.caught}/{one.trials} | "
            f"{one.cost / TUSD:,.2f} | {one.gain / TUSD:,.2f} | {one.harm / TUSD:,.2f} | "
            f"{one.ruling} | {figures} |"
        )
    lines += ["", "## How each goes", ""]
    lines += [
        f'- <a id="{one.name}"></a>**{one.title}** (`{one.name}`): {one.how}' for one in results
    ]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:,.2f}"
