"""Environments in two processes at once: tasks, scores and fingerprints are the spec's alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marketplace.gym.originality import fingerprint
from marketplace.gym.spec import NearSpec, builtin_names

ROOT = Path(__file__).parents[3]
DRAWN = ("json_schema", "tool_calls", "tables", "finance", "physics", "medicine")
"""Built-in specs with problems of our own."""
WORLDS: list[tuple[str, int, dict[str, Any]]] = [
    ("FrozenLake-v1", 40, {"kind": "at_least", "value": 1.0}),
    ("Taxi-v4", 60, {"kind": "reference", "zero": -60.0}),
    ("CliffWalking-v1", 60, {"kind": "reference", "zero": -61.0}),
    ("Blackjack-v1", 12, {"kind": "between", "zero": -1.0, "one": 1.0}),
    ("CartPole-v1", 50, {"kind": "between", "zero": 0.0, "one": 50.0}),
    ("MountainCar-v0", 200, {"kind": "reference", "zero": -200.0}),
    ("driving", 60, {"kind": "reference", "zero": 0.0}),
]
SOLUTION = (
    "First take seven from both sides, which leaves three times the unknown alone on the left; "
    "then divide by three. The unknown is therefore five, and putting it back into the equation "
    "shows that both sides agree: twenty-two is twenty-two. Answer: 5"
)

_DUMP = """
import json, sys
from marketplace.gym.environment import Environment
from marketplace.gym.originality import fingerprint
from marketplace.gym.source import UnreadableAnswer
from marketplace.gym.sources.gymnasium import GymnasiumSource
from marketplace.gym.spec import NearSpec, builtin_names, builtin_spec
from marketplace.protocol.hashing import keccak
asked = json.loads(sys.argv[1])
out = {"builtin": [], "drawn": [], "worlds": []}
for name in builtin_names():
    environment = Environment(builtin_spec(name))
    for number in range(6):
        task = environment.task(keccak(number.to_bytes(8, "big")))
        out["builtin"].append([task.prompt, task.answer, environment.heldout(number).prompt])
        out["builtin"].append(environment.judge(task, "<answer>7</answer>").score)
for name in asked["drawn"]:
    source = Environment(builtin_spec(name))._source
    before = None
    for number in range(500):
        entry = source.draw(number * 0x9E3779B97F4A7C15 % 2**64)
        right = source.score(entry.answer, entry)
        try:
            other = source.score(before or entry.answer, entry)
        except UnreadableAnswer as error:
            other = str(error)
        out["drawn"].append(ascii((name, entry.question, entry.answer, right, other)))
        before = entry.answer
for world, steps, score in asked["worlds"]:
    record = dict(kind="gymnasium", world=world, max_steps=steps, score=score)
    tasks = GymnasiumSource.model_validate_json(json.dumps(record)).open()
    for number in range(12):
        try:
            entry = tasks.draw(number)
        except ValueError:
            continue
        out["worlds"].append(ascii((entry, tasks.score(entry.answer, entry))))
found = fingerprint("Solve it.", asked["text"], NearSpec())
out["fingerprint"] = [found.digest.hex(), found.signature.hex()]
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def both() -> tuple[dict[str, Any], dict[str, Any]]:
    """What two processes found, under two hash seeds."""
    asked = json.dumps({"drawn": DRAWN, "worlds": WORLDS, "text": SOLUTION})
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _DUMP, asked],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
        )
        for hash_seed in ("1", "2")
    ]
    one, two = (process.communicate()[0] for process in running)
    assert [process.returncode for process in running] == [0, 0]
    return json.loads(one), json.loads(two)


def test_every_built_in_environment_asks_and_scores_alike(both) -> None:
    one, two = (found["builtin"] for found in both)
    assert one == two
    assert len(one) == 12 * len(builtin_names())


def test_500_numbers_of_each_source_of_our_own_are_alike(both) -> None:
    one, two = (found["drawn"] for found in both)
    assert one == two
    assert len(one) == 500 * len(DRAWN)


def test_gymnasium_worlds_draw_and_score_alike(both) -> None:
    one, two = (found["worlds"] for found in both)
    assert one == two
    assert len(one) > 50


def test_fingerprints_are_alike(both) -> None:
    own = fingerprint("Solve it.", SOLUTION, NearSpec())
    assert own.signature is not None
    for found in both:
        assert found["fingerprint"] == [own.digest.hex(), own.signature.hex()]
