"""What a stranger's evaluation.json may say: numbers that can be shown, and not too many words."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from trainer.records import EvaluationFile

CLAIM = {
    "environment_name": "sums",
    "tasks": 8,
    "samples": 4,
    "pass_at_1": 0.5,
    "standard_error": 0.1,
}


def _parsed(**change):
    file = {"v": 1, "environments": {"0x01": CLAIM | change}}
    return EvaluationFile.model_validate_json(json.dumps(file)).environments["0x01"]


def test_a_claim():
    assert _parsed().model_dump() == CLAIM


@pytest.mark.parametrize(
    "change",
    [
        {"pass_at_1": float("nan")},
        {"pass_at_1": 1.01},
        {"standard_error": float("nan")},
        {"standard_error": float("inf")},
        {"standard_error": -0.1},
        {"tasks": -8},
        {"samples": 2**32},
        {"samples": "4"},
        {"environment_name": "x" * 65},
    ],
)
def test_claims_that_are_none(change):
    with pytest.raises(ValidationError):
        _parsed(**change)
