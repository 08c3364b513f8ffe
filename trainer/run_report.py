"""The data of a run's report, from what its turns measured (trainer/run.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.curves import compare, evaluation_of
from trainer.recipe import Recipe
from trainer.records import added_up
from trainer.report import spending_rows


def run_report(
    recipe: Recipe,
    start: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    unit: str | None,
    *,
    turns: int,
) -> dict[str, Any]:
    """start: the base's evaluations. records: of the turns done, of so many in all. unit: of money,
    None where nothing is bought."""
    from trainer.checkpoint import package_versions

    money = None
    if unit is not None:
        found = [_spending(name, start, records) for name in recipe.environments]
        rows = sorted((row for one in found for row in one), key=lambda row: row["turn"])
        money = {"unit": unit, "rows": rows}
    settings = dict(records[-1]["settings"]) if records else {}
    return {
        "v": 1,
        "title": f"{recipe.name}: {', '.join(map(_short, recipe.environments))}",
        "recipe": recipe.name,
        "dry_run": unit is None,
        "unfinished": (f"{len(records)} of {turns} turns done" if len(records) < turns else None),
        "turns": list(records),
        "steps": sum(len(one["steps"]) for one in records),
        "traces": sum(one["traces"] for one in records),
        "tokens": sum(one["tokens"] for one in records),
        "evaluations": list(
            filter(None, (_compared(name, start, records) for name in recipe.environments))
        ),
        "money": money,
        "left_out": added_up(*(record["left_out"] for record in records)),
        "settings": settings,
        "packages": package_versions(),
    }


def _spending(
    name: str, start: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What was spent on one environment, and what accuracy there that bought."""
    own = [one for one in records if one["environment"] == name]
    seen = [(0, start), *((one["turn"], one) for one in own if not one["rolled_back"])]
    accuracy = {
        turn: one["evaluations"][name]["pass_at_1"]
        for turn, one in seen
        if name in one["evaluations"]
    }
    spent = {one["turn"]: one["spent"] or 0.0 for one in own}
    return [{"environment": name, **row} for row in spending_rows(spent, accuracy)]


def _compared(
    name: str, start: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Before and after on one environment."""
    before = start["evaluations"].get(name)
    seen = [
        (one["turn"], one["evaluations"][name])
        for one in records
        if name in one["evaluations"] and not one["rolled_back"]
    ]
    measured = [(one["turn"], one["evaluations"].get(name), one["rolled_back"]) for one in records]
    if before is None or not any(one for _, one, _ in measured):
        return None
    after = seen[-1][1] if seen else before
    comparison = None
    if seen and before["samples"] > 1:
        comparison = compare(evaluation_of(before), evaluation_of(after)).plain()
    points = [(0, before, False), *measured]
    return {
        "name": name,
        "environment": _short(name),
        "before": before if seen else None,
        "after": after,
        "comparison": comparison,
        "over_turns": [
            {
                "turn": turn,
                "value": one["pass_at_1"],
                "standard_error": one["standard_error"],
                "rolled_back": rolled_back,
            }
            for turn, one, rolled_back in points
            if one is not None
        ],
    }


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:14]}…"
