"""Finance with decimal arithmetic: interest, loans, present values, returns, ratios, currencies.

Every question states how its answer is rounded (to two decimals, half up, once, at the end). An
exact value too near to a tie of that rule is drawn again, so that nobody's own precision
decides. `tolerance` is how far an answer may be off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction
from random import Random
from typing import Annotated, Final, Literal

from pydantic import Field

from marketplace.gym.answers import read_number
from marketplace.gym.families import FamilyNames, chosen_families
from marketplace.gym.source import Entry, Source

_CONTEXT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_CENT: Final = Decimal("0.01")
_CLEAR: Final = Decimal("0.000001")
"""An exact value this near to a tie (half a cent) is not asked for, unless it is one."""

Family = Callable[[Random], tuple[str, str, Decimal]]
"""The question, the unit it is answered in, and the value before rounding."""


def _rate(rng: Random, least: int, most: int) -> Decimal:
    """A rate in percent, in steps of 0.05."""
    return Decimal(rng.randint(least * 20, most * 20)) / 20


def _compound_interest(rng: Random) -> tuple[str, str, Decimal]:
    sum_, rate, years = rng.randint(10, 5000) * 10, _rate(rng, 1, 12), rng.randint(2, 25)
    often, times = rng.choice(
        (("yearly", 1), ("half-yearly", 2), ("quarterly", 4), ("monthly", 12))
    )
    value = sum_ * (1 + rate / 100 / times) ** (times * years)
    question = (
        f"{sum_} dollars earn {rate} % a year, compounded {often} at that rate divided by {times}. "
        f"How many dollars are there after {years} years?"
    )
    return question, "dollars", value


def _loan_payment(rng: Random) -> tuple[str, str, Decimal]:
    loan, rate, years = rng.randint(10, 4000) * 100, _rate(rng, 2, 15), rng.randint(1, 30)
    monthly = rate / 1200
    value = loan * monthly / (1 - (1 + monthly) ** (-12 * years))
    question = (
        f"A loan of {loan} dollars at {rate} % a year (a twelfth of it a month) is paid back in "
        f"{12 * years} equal payments at the ends of months. How many dollars is one payment?"
    )
    return question, "dollars", value


def _flows(rng: Random) -> tuple[int, list[int]]:
    """What is paid now, and what comes back at the ends of the years."""
    paid = rng.randint(20, 900) * 100
    years = rng.randint(2, 6)
    return paid, [rng.randint(50, 220) * paid // (100 * years) for _ in range(years)]


def _said(flows: Iterable[int]) -> str:
    return ", ".join(str(flow) for flow in flows)


def _present_value(paid: int, flows: list[int], rate: Decimal) -> Decimal:
    """rate: a share, not in percent."""
    return sum(
        (flow / (1 + rate) ** year for year, flow in enumerate(flows, 1)), start=Decimal(-paid)
    )


def _npv(rng: Random) -> tuple[str, str, Decimal]:
    (paid, flows), rate = _flows(rng), _rate(rng, 1, 18)
    question = (
        f"A project costs {paid} dollars now and returns, at the ends of the years to come, "
        f"{_said(flows)} dollars. What is its net present value at {rate} % a year, in dollars?"
    )
    return question, "dollars", _present_value(paid, flows, rate / 100)


def _irr(rng: Random) -> tuple[str, str, Decimal]:
    paid, flows = _flows(rng)
    flows[-1] += max(0, paid - sum(flows)) + rng.randint(1, 40) * paid // 100
    # All returns are positive and exceed the cost, so there is one root, and it is in (0, 2).
    low, high = Decimal(0), Decimal(2)
    for _ in range(100):
        middle = (low + high) / 2
        if _present_value(paid, flows, middle) > 0:
            low = middle
        else:
            high = middle
    question = (
        f"A project costs {paid} dollars now and returns, at the ends of the years to come, "
        f"{_said(flows)} dollars. What is its internal rate of return, in percent a year?"
    )
    return question, "percent", low * 100


def _growth(rng: Random) -> tuple[str, str, Decimal]:
    start, years = rng.randint(100, 9_999), rng.randint(2, 12)
    end = start * rng.randint(60, 400) // 100
    value = ((Decimal(end) / start) ** (Decimal(1) / years) - 1) * 100
    question = (
        f"Sales went from {start} to {end} in {years} years. What is the compound yearly growth "
        "rate, in percent (negative if they fell)?"
    )
    return question, "percent", value


def _ratio(rng: Random) -> tuple[str, str, Decimal]:
    cash, receivables, inventory, plant = (rng.randint(20, 4000) for _ in range(4))
    assets = cash + receivables + inventory + plant
    payables, loans = rng.randint(10, assets // 3), rng.randint(10, assets // 3)
    equity = assets - payables - loans
    income = rng.randint(-equity // 10, equity // 3)
    current = cash + receivables + inventory
    name, unit, value = rng.choice(
        (
            ("current ratio (current assets over current liabilities)", "", (current, payables)),
            (
                "quick ratio (cash and receivables over current liabilities)",
                "",
                (cash + receivables, payables),
            ),
            ("debt-to-equity ratio (all liabilities over equity)", "", (payables + loans, equity)),
            ("equity ratio, in percent of total assets", "percent", (100 * equity, assets)),
            (
                "return on equity (net income over equity), in percent",
                "percent",
                (100 * income, equity),
            ),
            (
                "return on assets (net income over total assets), in percent",
                "percent",
                (100 * income, assets),
            ),
        )
    )
    question = (
        f"Balance sheet, in thousands: cash {cash}; receivables {receivables}; inventory "
        f"{inventory}; plant {plant}; payables due within a year {payables}; loans due in ten "
        f"years {loans}; equity is the rest. Net income of the year: {income}. What is the {name}?"
    )
    return question, unit, Decimal(value[0]) / value[1]


def _currency(rng: Random) -> tuple[str, str, Decimal]:
    one, middle, other = rng.sample(("EUR", "USD", "GBP", "CHF", "SEK"), 3)
    amount = Decimal(rng.randint(1_000, 999_999)) / 100
    first, second = (Decimal(rng.randint(5_000, 20_000)) / 10_000 for _ in range(2))
    fee = Decimal(rng.randint(0, 30)) / 10
    value = amount * first * (1 - fee / 100) * second
    question = (
        f"One {one} buys {first:.4f} {middle}, and one {middle} buys {second:.4f} {other}. "
        f"{amount:.2f} {one} are changed to {middle}, a fee of {fee} % is taken off, and the rest "
        f"is changed to {other}. How many {other} come out?"
    )
    return question, other, value


FAMILIES: Final[dict[str, Family]] = {
    "compound_interest": _compound_interest,
    "loan_payment": _loan_payment,
    "npv": _npv,
    "irr": _irr,
    "growth": _growth,
    "ratio": _ratio,
    "currency": _currency,
}


class FinanceSource(Source):
    """Finance problems. tolerance: how far an answer may be off, a decimal ("0": not at all)."""

    kind: Literal["finance"]
    families: FamilyNames
    tolerance: Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,2})(\.[0-9]{1,6})?$")] = "0"

    def open(self) -> FinanceTasks:
        return FinanceTasks(self)


class FinanceTasks:
    """A TaskSource over some families. SpecError for a family that does not exist."""

    def __init__(self, source: FinanceSource) -> None:
        self._families = chosen_families("finance", FAMILIES, source.families)
        self._tolerance = Fraction(source.tolerance)

    def draw(self, number: int) -> Entry:
        """The problem of a 64-bit number."""
        rng = Random(number)
        family = rng.choice(self._families)
        # A context of its own: other libraries may have changed the process's.
        with localcontext(_CONTEXT):
            question, unit, value = family(rng)
            while not _is_clear(value):
                question, unit, value = family(rng)
            answer = value.quantize(_CENT, ROUND_HALF_UP)
        rule = "Round once, at the end, half up (away from zero), to two decimals"
        return Entry(f"{question} {rule}{f', in {unit}' if unit else ''}.", str(answer))

    def score(self, answer: str, entry: Entry) -> object:
        """1 within the tolerance of the rounded value, else 0."""
        return float(abs(read_number(answer) - Fraction(entry.answer)) <= self._tolerance)


def _is_clear(value: Decimal) -> bool:
    """True unless value is next to a tie or rounds to 0, an answer that needs no work."""
    from_tie = abs(value * 100 % 1) - Decimal("0.5")
    return abs(value) >= _CENT and (from_tie == 0 or abs(from_tie) > _CLEAR)
