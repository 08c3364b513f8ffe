"""Easy environments that have little to do with each other, for experts of a small model."""

from __future__ import annotations

import json
from typing import Any, Final

from marketplace.gym.environment import Environment
from marketplace.gym.spec import builtin_spec, parse_spec


def _reasoning_gym(name: str, task: str, config: dict[str, Any], tokens: int) -> Environment:
    record = {
        "v": 1,
        "name": name,
        "source": {"kind": "reasoning_gym", "task": task, "config": config},
        "prompt": {
            "template": "{question}\nAnswer: ",
            "shots": 3,
            "shot_template": "{question}\nAnswer: {answer}\n",
        },
        "scoring": {"kind": "exact"},
        "sampling": {"temperature": 1.0, "max_tokens": tokens, "stop": ["\n"]},
        "limits": {"seconds": 2.0, "memory_mb": 512, "max_chars": 256},
        "holdout_ppm": 100_000,
        "packages": {"reasoning-gym": "0.1.25"},
    }
    return Environment(parse_spec(json.dumps(record).encode()))


def build(name: str) -> Environment:
    """The environment of that name."""
    if name == "sums":
        return Environment(builtin_spec("two_digit_sums"))
    if name == "gcd":
        config = {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 40}
        return _reasoning_gym(name, "gcd", config, 4)
    return _reasoning_gym(name, "syllogism", {}, 4)


NAMES: Final = ("sums", "gcd", "syllogism")
