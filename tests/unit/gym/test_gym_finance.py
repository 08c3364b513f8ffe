"""Answers are recomputed from the question's text, with floats and other formulas."""

from __future__ import annotations

import re
from decimal import Decimal, localcontext

import pytest

from marketplace.gym.source import UnreadableAnswer
from marketplace.gym.sources.finance import FAMILIES, FinanceSource, FinanceTasks


def source(*families: str, tolerance: str = "0") -> FinanceTasks:
    return FinanceSource(
        kind="finance", families=families or tuple(FAMILIES), tolerance=tolerance
    ).open()


def solved(family: str, question: str) -> float:
    question = question.split(" Round once")[0]
    numbers = [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", question)]
    if family == "compound_interest":
        balance, rate, times, years = numbers
        for _ in range(int(times * years)):
            balance += balance * rate / 100 / times
        return balance
    if family == "loan_payment":
        loan, rate, months = numbers
        # Present values of payments of 1 add up to what one dollar of payment is lent for.
        return loan / sum((1 + rate / 1200) ** -month for month in range(1, int(months) + 1))
    if family == "npv":
        paid, *flows, rate = numbers
        value = 0.0
        for flow in reversed(flows):
            value = (value + flow) / (1 + rate / 100)
        return value - paid
    if family == "irr":
        paid, *flows = numbers
        rate = 0.1
        for _ in range(60):  # Newton
            value = sum(flow / (1 + rate) ** year for year, flow in enumerate(flows, 1)) - paid
            slope = sum(-y * flow / (1 + rate) ** (y + 1) for y, flow in enumerate(flows, 1))
            rate -= value / slope
        return rate * 100
    if family == "growth":
        start, end, years = numbers
        return ((end / start) ** (1 / years) - 1) * 100
    if family == "currency":
        _, first, _, second, amount, fee = [1.0, numbers[0], 1.0, *numbers[1:4]]
        return amount * first * second * (1 - fee / 100)
    cash, receivables, inventory, plant, payables, loans, income = numbers
    assets = cash + receivables + inventory + plant
    equity = assets - payables - loans
    name = question.rpartition("What is the ")[2]
    return {
        "current ratio": (cash + receivables + inventory) / payables,
        "quick ratio": (cash + receivables) / payables,
        "debt-to-equity ratio": (payables + loans) / equity,
        "equity ratio": 100 * equity / assets,
        "return on equity": 100 * income / equity,
        "return on assets": 100 * income / assets,
    }[re.split(r" \(|, in", name)[0]]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_right(family: str) -> None:
    tasks = source(family)
    for number in range(80):
        entry = tasks.draw(number)
        assert abs(solved(family, entry.question) - float(entry.answer)) < 0.0051
        assert "Round once, at the end, half up" in entry.question
        assert re.fullmatch(r"-?\d+\.\d\d", entry.answer)


def test_rounding_is_part_of_the_question() -> None:
    tasks = source()
    for number in range(100):
        entry = tasks.draw(number)
        exact = Decimal(entry.answer)
        for off in ("0.01", "-0.01", "0.004", "-0.000001"):
            assert tasks.score(str(exact + Decimal(off)), entry) == 0.0
        assert tasks.score(f"{exact:+,f}", entry) == 1.0
        assert tasks.score(f"{exact:f}000", entry) == 1.0
        assert tasks.score(str(-exact), entry) == 0.0


def test_the_tolerance_is_the_specs() -> None:
    tasks = source(tolerance="0.05")
    entry = tasks.draw(3)
    for off, paid in (("0.05", 1.0), ("-0.05", 1.0), ("0.0500001", 0.0), ("-0.06", 0.0)):
        assert tasks.score(str(Decimal(entry.answer) + Decimal(off)), entry) == paid


@pytest.mark.parametrize("tolerance", ["-1", "1e3", "NaN", "", "0.1234567", "1000", ".5", "0.5 "])
def test_a_tolerance_is_a_plain_small_decimal(tolerance: str) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        source(tolerance=tolerance)


def test_the_process_wide_precision_does_not_matter() -> None:
    tasks = source()
    usual = [tasks.draw(number) for number in range(40)]
    with localcontext() as context:
        context.prec = 3
        assert [tasks.draw(number) for number in range(40)] == usual
        assert all(tasks.score(entry.answer, entry) == 1.0 for entry in usual)


@pytest.mark.parametrize("text", ["12.34 dollars", "$12.34", "12.34%", "12,34", "about 3", "1/3"])
def test_a_number_stands_alone(text: str) -> None:
    with pytest.raises(UnreadableAnswer):
        source().score(text, source().draw(0))
