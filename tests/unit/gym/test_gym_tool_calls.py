"""Calls count by name, arguments and types; order where the request has one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from marketplace.gym.source import Entry, UnreadableAnswer
from marketplace.gym.sources.tool_calls import (
    FAMILIES,
    TOOLS,
    Call,
    ToolCallsSource,
    ToolCallsTasks,
)


def source(*families: str, **fields: Any) -> ToolCallsTasks:
    return ToolCallsSource(kind="tool_calls", families=families or tuple(FAMILIES), **fields).open()


TASKS = source()


def found(tasks: ToolCallsTasks, words: str) -> Entry:
    return next(e for e in map(tasks.draw, range(500)) if words in e.question.split("Request:")[1])


def score(entry: Entry, calls: Any) -> object:
    return TASKS.score(json.dumps(calls), entry)


def test_the_order_counts_where_the_request_has_one() -> None:
    for number in range(200):
        entry = TASKS.draw(number)
        calls = json.loads(entry.answer)
        turned = score(entry, calls[::-1])
        assert turned == float(len(calls) == 1 or not entry.raw["ordered"])
        assert entry.raw["ordered"] == ("In this order" in entry.question)


def test_every_call_is_made_once() -> None:
    for number in range(50):
        entry = TASKS.draw(number)
        calls = json.loads(entry.answer)
        for wrong in ([], calls[1:], calls + calls[:1], calls * 2, calls * 50):
            assert score(entry, wrong) == 0.0


def test_every_argument_counts_with_its_type() -> None:
    for number in range(100):
        entry = TASKS.draw(number)
        calls = json.loads(entry.answer)
        for call in calls:
            for name, value in list(call["arguments"].items()):
                wrongs = [None, str(value) + "0", [value], not value]
                wrongs += [float(value)] if type(value) is int else []
                wrongs += [int(value)] if type(value) is bool else []
                for wrong in wrongs:
                    call["arguments"][name] = wrong
                    assert score(entry, calls) == 0.0, (entry.question, calls)
                del call["arguments"][name]
                assert score(entry, calls) == 0.0
                call["arguments"][name] = value
            call["arguments"]["extra"] = 1
            assert score(entry, calls) == 0.0
            del call["arguments"]["extra"]
        assert score(entry, calls) == 1.0


def test_a_number_may_be_written_as_an_integer() -> None:
    entry = source("convert").draw(0)
    (call,) = json.loads(entry.answer)
    call["arguments"]["amount"] = int(call["arguments"]["amount"])
    assert score(entry, [call]) == 1.0


def test_defaults_may_be_left_out_or_written() -> None:
    entry = found(source("transfer"), "EUR")
    (call,) = json.loads(entry.answer)
    assert "currency" not in call["arguments"]
    call["arguments"]["currency"] = "EUR"
    assert score(entry, [call]) == 1.0
    call["arguments"]["currency"] = "USD"
    assert score(entry, [call]) == 0.0


def test_several_calls_may_be_right() -> None:
    entry = found(source("message"), "whichever")
    (call,) = json.loads(entry.answer)
    for tool, paid in (("send_email", 1.0), ("send_sms", 1.0), ("find_files", 0.0)):
        assert score(entry, [{**call, "name": tool}]) == paid
    entry = found(source("message"), "by e-mail, with")
    assert score(entry, [{**call, "name": "send_sms"}]) == 0.0
    entry = found(source("event"), "as guests")
    (call,) = json.loads(entry.answer)
    call["arguments"]["guests"].reverse()
    assert score(entry, [call]) == 1.0


def test_needed_tools_are_listed_with_all_their_parameters() -> None:
    for tasks, size in ((TASKS, 8), (source(tools=5, wishes=4), 5)):
        for number in range(200):
            entry = tasks.draw(number)
            lines = entry.question.split("\n")[1:-1]
            listed = {json.loads(line)["name"]: json.loads(line)["parameters"] for line in lines}
            assert len(listed) == len(lines) >= size
            calls: list[Call] = [call for wish in entry.raw["wishes"] for call in wish]
            for call in calls:
                assert {**call.needed, **call.optional}.keys() <= listed[call.tool].keys()
    assert all(TOOLS[name][0] for name in TOOLS)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        "call()",
        "[" * 9 + "]" * 9,
        '[{"name": "a"}]',
        '[{"name": 1, "arguments": {}}]',
        '[{"name": "a", "arguments": []}]',
        '[{"name": "a", "arguments": {}, "id": 1}]',
    ],
)
def test_what_is_no_list_of_calls_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableAnswer):
        TASKS.score(text, TASKS.draw(0))
