"""JSON of hostile people: what it costs to refuse it."""

from __future__ import annotations

import time

import pytest

from marketplace.protocol import strict_json


@pytest.mark.parametrize("text", ['"' + '\\"' * 8000, '"' + '\\"' * 8000 + "\\"])
def test_a_string_that_never_ends_costs_one_pass(text: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="Unterminated string"):
        strict_json.loads(text, depth=8)
    assert time.process_time() - started < 0.3


def test_brackets_in_strings_are_no_depth() -> None:
    assert strict_json.loads(r'["[[[\"[[\\", "]"]', depth=1) == ['[[["[[\\', "]"]
    with pytest.raises(ValueError, match="too deeply"):
        strict_json.loads(r'["\\", [[1]]]', depth=2)
