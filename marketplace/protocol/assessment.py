"""Whether an attack pays: what it puts in and takes out, and where the answer turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from marketplace.protocol.economics import SHARES, Case, least_loss


@dataclass(frozen=True, slots=True)
class Outlay:
    """Expected money of one attempt, beside honest behaviour.

    at_risk: what must be put up. cost: spent in any case. gain, loss: weighed by their chances.
    """

    at_risk: float
    cost: float
    gain: float
    loss: float

    @property
    def net(self) -> float:
        return self.gain - self.cost - self.loss


class Verdict(Enum):
    DOES_NOT_PAY = "does not pay"
    PAYS = "pays"
    OPEN = "open"
    """It pays, and no parameter of a deployment prevents it: see its price and note."""


@dataclass(frozen=True, slots=True)
class Attack:
    """name: of the row. who: tries it. weigh: its formula. hinges: assumptions it turns on.
    parameters: those to change where it pays; none: the contracts' logic allows it."""

    name: str
    who: str
    weigh: Callable[[Case], Outlay]
    hinges: tuple[str, ...]
    parameters: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Hinge:
    """break_even: value of the assumption at which the attack neither pays nor loses; None where
    it never turns in the range."""

    assumption: str
    value: float
    break_even: float | None


@dataclass(frozen=True, slots=True)
class Assessment:
    name: str
    who: str
    outlay: Outlay
    verdict: Verdict
    hinges: tuple[Hinge, ...]
    parameters: tuple[str, ...]
    note: str


def assess(attack: Attack, case: Case) -> Assessment:
    outlay = attack.weigh(case)
    if outlay.net <= 0:
        verdict = Verdict.DOES_NOT_PAY
    else:
        verdict = Verdict.PAYS if attack.parameters else Verdict.OPEN
    hinges = tuple(
        Hinge(name, getattr(case.assumptions, name), break_even(attack, case, name))
        for name in attack.hinges
    )
    return Assessment(
        attack.name, attack.who, outlay, verdict, hinges, attack.parameters, attack.note
    )


def break_even(attack: Attack, case: Case, assumption: str) -> float | None:
    """The value of one assumption at which the attack turns, the others as they are: a share from
    0 to 1, a number from the least to the most that makes a batch. Of whole numbers, the first
    one on the far side. None: it never turns."""

    def pays(value: float) -> bool:
        given: dict[str, Any] = {assumption: value}
        return attack.weigh(Case(case.rules, replace(case.assumptions, **given))).net > 0

    given = case.assumptions
    share = assumption in SHARES
    low: float = 0
    if share:
        high: float = 1
    elif assumption == "seats":
        low, high = case.committee + given.busy, max(10_000, given.seats)
    elif assumption == "traces":
        most = least_loss(case.rules) // max(1, given.price + given.fee)
        low, high = 1, min(case.rules.max_traces, most)
    else:
        high = max(1, getattr(given, assumption)) * 1_000_000
    at_low = pays(low)
    if pays(high) == at_low:
        return None
    while high - low > (1e-9 if share else 1):
        middle = (low + high) / 2 if share else (low + high) // 2
        if pays(middle) == at_low:
            low = middle
        else:
            high = middle
    return high
