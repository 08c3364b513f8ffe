"""Questions over generated tables: look up, count, add up, compare groups, join two tables.

Prices have two decimals and are added up exactly; an answer is a number or a name that stands in
the table. No question has two right answers: where a group ties, other tables are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Annotated, Final, Literal

from pydantic import Field

from marketplace.gym.answers import read_number
from marketplace.gym.families import FamilyNames, chosen_families
from marketplace.gym.source import Entry, Source, UnreadableAnswer

MAX_NAME_CHARS: Final = 64

_PRODUCTS: Final = ("lamp", "chair", "desk", "shelf", "mirror", "vase", "rug", "clock", "stool")
_REGIONS: Final = ("north", "south", "east", "west", "coast", "islands")
_MANAGERS: Final = ("Ada", "Ben", "Chloe", "Dev", "Ema", "Farid", "Grace", "Hana")


@dataclass(frozen=True, slots=True)
class Sale:
    """A row of the sales table. price: of one unit, in cents."""

    number: int
    product: str
    region: str
    units: int
    price: int

    @property
    def revenue(self) -> int:
        return self.units * self.price


@dataclass(frozen=True, slots=True)
class Tables:
    """Sales, and who manages each region."""

    sales: tuple[Sale, ...]
    managers: dict[str, str]


Answer = str | int | Decimal
Family = Callable[[Random, Tables], tuple[str, Answer] | None]
"""The question and its answer, or None if these tables make the question ambiguous."""


def _money(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


def _lookup(rng: Random, tables: Tables) -> tuple[str, Answer] | None:
    sale = rng.choice(tables.sales)
    column, answer = rng.choice(
        (("units", sale.units), ("price", _money(sale.price)), ("product", sale.product))
    )
    return f"What stands in column {column} for sale {sale.number}?", answer


def _count(rng: Random, tables: Tables) -> tuple[str, Answer] | None:
    least, region = rng.randint(5, 90), rng.choice(tables.sales).region
    rows = [sale for sale in tables.sales if sale.region != region and sale.units >= least]
    if not rows:  # 0 would be the first thing to guess
        return None
    return f"How many sales outside region {region} have at least {least} units?", len(rows)


def _sum_units(rng: Random, tables: Tables) -> tuple[str, Answer] | None:
    product = rng.choice(tables.sales).product
    total = sum(sale.units for sale in tables.sales if sale.product == product)
    return f"How many units of product {product} were sold in all?", total


def _sum_revenue(rng: Random, tables: Tables) -> tuple[str, Answer] | None:
    region = rng.choice(tables.sales).region
    total = sum(sale.revenue for sale in tables.sales if sale.region == region)
    return f"What is the revenue (units times price, added up) of region {region}?", _money(total)


def _group_max(rng: Random, tables: Tables) -> tuple[str, Answer] | None:
    by_region: dict[str, int] = {}
    for sale in tables.sales:
        by_region[sale.region] = by_region.get(sale.region, 0) + sale.units
    best = max(by_region.values())
    names = [region for region, units in by_region.items() if units == best]
    if len(names) > 1 or len(by_region) < 2:
        return None
    return "Which region sold the most units in all?", names[0]


def _join_sum(rng: Random, tables: Tables) -> tuple[str, Answer] | None:
    manager = tables.managers[rng.choice(tables.sales).region]
    total = sum(sale.revenue for sale in tables.sales if tables.managers[sale.region] == manager)
    return (
        f"What is the revenue (units times price, added up) of all regions that {manager} manages?",
        _money(total),
    )


def _join_max(rng: Random, tables: Tables) -> tuple[str, Answer] | None:
    best = max(sale.revenue for sale in tables.sales)
    names = {tables.managers[sale.region] for sale in tables.sales if sale.revenue == best}
    if len(names) > 1:
        return None
    return "Who manages the region of the one sale with the highest units times price?", min(names)


FAMILIES: Final[dict[str, Family]] = {
    "lookup": _lookup,
    "count": _count,
    "sum_units": _sum_units,
    "sum_revenue": _sum_revenue,
    "group_max": _group_max,
    "join_sum": _join_sum,
    "join_max": _join_max,
}


class TablesSource(Source):
    """Questions over generated tables of `rows` sales."""

    kind: Literal["tables"]
    families: FamilyNames
    rows: Annotated[int, Field(ge=4, le=200)] = 10

    def open(self) -> TablesTasks:
        return TablesTasks(self)


class TablesTasks:
    """A TaskSource over some families. SpecError for a family that does not exist."""

    def __init__(self, source: TablesSource) -> None:
        self._families = chosen_families("tables", FAMILIES, source.families)
        self._rows = source.rows

    def draw(self, number: int) -> Entry:
        """Tables and question of a 64-bit number; raw says whether the answer is a number."""
        rng = Random(number)
        family = rng.choice(self._families)
        made = None
        while made is None:  # a few times at most
            tables = _draw_tables(rng, self._rows)
            made = family(rng, tables)
        question, answer = made
        return Entry(
            f"{_written(tables)}\n\n{question}",
            str(answer),
            {"number": not isinstance(answer, str)},
        )

    def score(self, answer: str, entry: Entry) -> object:
        """1 for the same number, or the same name in any case; else 0."""
        if entry.raw["number"]:
            return float(read_number(answer) == Fraction(entry.answer))
        if len(answer) > MAX_NAME_CHARS:
            raise UnreadableAnswer(f"the answer has over {MAX_NAME_CHARS} characters")
        return float(answer.strip().casefold() == entry.answer.casefold())


def _draw_tables(rng: Random, rows: int) -> Tables:
    products, regions = rng.sample(_PRODUCTS, 4), rng.sample(_REGIONS, 4)
    managers = rng.sample(_MANAGERS, 3)
    # Every manager has a region, one has two: a join that skips a region gives a wrong sum.
    manages = dict(zip(regions, [*managers, rng.choice(managers)], strict=True))
    first = rng.randint(100, 900)
    sales = tuple(
        Sale(
            first + row,
            rng.choice(products),
            rng.choice(regions),
            rng.randint(1, 99),
            rng.randint(100, 9_999),
        )
        for row in range(rows)
    )
    return Tables(sales, manages)


def _written(tables: Tables) -> str:
    """Both tables as Markdown."""
    lines = ["| sale | product | region | units | price |", "|---|---|---|---|---|"]
    lines += [
        f"| {sale.number} | {sale.product} | {sale.region} | {sale.units} | {_money(sale.price)} |"
        for sale in tables.sales
    ]
    lines += ["", "| region | manager |", "|---|---|"]
    lines += [f"| {region} | {manager} |" for region, manager in sorted(tables.managers.items())]
    return "\n".join(lines)
