"""The schema must hold and the facts must be right: neither is enough alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marketplace.gym.source import Entry, UnreadableAnswer
from marketplace.gym.sources.json_schema import FAMILIES, JsonSchemaSource, _is_valid

SOURCE = JsonSchemaSource(kind="json_schema", families=tuple(FAMILIES))
TASKS = SOURCE.open()


def entries(family: str, count: int = 20) -> list[Entry]:
    tasks = JsonSchemaSource(kind="json_schema", families=(family,)).open()
    return [tasks.draw(number) for number in range(count)]


def score(entry: Entry, facts: Any) -> object:
    return TASKS.score(json.dumps(facts), entry)


def test_layout_order_of_keys_and_number_forms_do_not_count() -> None:
    for number in range(50):
        entry = TASKS.draw(number)
        turned = dict(reversed(entry.raw["facts"].items()))
        assert TASKS.score(json.dumps(turned, indent=4), entry) == 1.0
    (entry,) = entries("readings", 1)
    assert TASKS.score(entry.answer.replace(".5", ".50"), entry) == 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_an_object_that_is_only_valid_earns_nothing(family: str) -> None:
    valid = 0
    for entry, other in zip(entries(family), entries(family, 60)[40:], strict=True):
        schema, facts = entry.raw["schema"], entry.raw["facts"]
        assert score(entry, {}) == 0.0
        names = dict(zip(schema["required"], other.raw["schema"]["required"], strict=True))
        lie = {mine: other.raw["facts"][theirs] for mine, theirs in names.items()}
        valid += _is_valid(lie, schema)
        assert lie == facts or score(entry, lie) == 0.0
    assert valid > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_counts(family: str) -> None:
    for entry in entries(family):
        facts = entry.raw["facts"]
        for key, value in facts.items():
            assert score(entry, {name: facts[name] for name in facts if name != key}) == 0.0
            for wrong in (None, str(value), [value], f"{value} ", not value):
                assert wrong == value or score(entry, {**facts, key: wrong}) == 0.0
        assert score(entry, {**facts, "more": 1}) == 0.0
        assert score(entry, [facts]) == 0.0


def test_true_is_not_one() -> None:
    for entry in entries("order", 50):
        key = next(name for name in entry.raw["facts"] if "express" in name)
        wrong = int(entry.raw["facts"][key])
        assert score(entry, {**entry.raw["facts"], key: wrong}) == 0.0


def test_partial_pays_the_share_of_right_keys_of_a_valid_object_only() -> None:
    tasks = JsonSchemaSource(kind="json_schema", families=("shipment",), partial=True).open()
    entry = tasks.draw(1)
    facts = entry.raw["facts"]
    code = next(iter(facts))
    assert tasks.score(json.dumps({**facts, code: "wrong"}), entry) == 0.8
    assert tasks.score(json.dumps({**facts, code: 5}), entry) == 0.0
    assert tasks.score(json.dumps({**facts, "more": 5}), entry) == 0.0
    assert tasks.score(entry.answer, entry) == 1.0


def test_schemas_are_ours_alone() -> None:
    for number in range(300):
        entry = TASKS.draw(number)
        assert _is_valid(entry.raw["facts"], entry.raw["schema"])
        for word in ('"$', '"pattern', '"format"'):
            assert word not in json.dumps(entry.raw["schema"])


def test_what_is_not_json_is_unreadable() -> None:
    entry = TASKS.draw(0)
    for text in ("{'a': 1}", "{" * 9 + "}" * 9, '{"a":1,"a":1}', "[NaN]", "1" * 400, "{}" * 20_000):
        with pytest.raises(UnreadableAnswer):
            TASKS.score(text, entry)
