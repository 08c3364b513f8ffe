"""Gymnasium worlds: replays, what they refuse, and that all machines compute alike."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from marketplace.gym.environment import Environment
from marketplace.gym.source import UnreadableAnswer
from marketplace.gym.sources.gymnasium import GymnasiumSource, GymnasiumTasks
from marketplace.gym.spec import builtin_spec, parse_spec
from marketplace.gym.worlds import exact
from marketplace.protocol.errors import EnvironmentMismatch, SpecError
from marketplace.protocol.hashing import keccak

ROOT = Path(__file__).parents[3]
WORLDS: list[tuple[str, int, dict[str, Any]]] = [
    ("FrozenLake-v1", 40, {"kind": "at_least", "value": 1.0}),
    ("Taxi-v4", 60, {"kind": "reference", "zero": -60.0}),
    ("CliffWalking-v1", 60, {"kind": "reference", "zero": -61.0}),
    ("Blackjack-v1", 12, {"kind": "between", "zero": -1.0, "one": 1.0}),
    ("CartPole-v1", 50, {"kind": "between", "zero": 0.0, "one": 50.0}),
    ("MountainCar-v0", 200, {"kind": "reference", "zero": -200.0}),
    ("driving", 60, {"kind": "reference", "zero": 0.0}),
]


def tasks(world: str, max_steps: int, score: dict[str, Any], **more: Any) -> GymnasiumTasks:
    record = {"kind": "gymnasium", "world": world, "max_steps": max_steps, "score": score, **more}
    return GymnasiumSource.model_validate_json(json.dumps(record)).open()


def seed(number: int) -> bytes:
    return keccak(number.to_bytes(8, "big"))


@pytest.mark.parametrize(("world", "max_steps", "score"), WORLDS, ids=[one[0] for one in WORLDS])
def test_reference_answers_get_the_full_score_and_random_ones_less(
    world: str, max_steps: int, score: dict[str, Any]
) -> None:
    opened = tasks(world, max_steps, score)
    rng = Random(1)
    full, drawn = 0, 0
    for number in range(2**64 - 25, 2**64):
        try:
            entry = opened.draw(number)
        except ValueError:
            continue
        drawn += 1
        assert opened.score(entry.answer, entry).score == 1.0  # type: ignore[attr-defined]
        with pytest.raises(UnreadableAnswer, match=f"ended before action|not 1 to {max_steps}"):
            opened.score(entry.answer[:-1] + ", 0]", entry)
        if len(json.loads(entry.answer)) > 1:
            cut = json.dumps(json.loads(entry.answer)[:-1])
            assert opened.score(cut, entry).score == 0.0  # type: ignore[attr-defined]
        guess = json.dumps([rng.randrange(2) for _ in range(max_steps)])
        with suppress(UnreadableAnswer):
            full += opened.score(guess, entry).score == 1.0  # type: ignore[attr-defined]
    assert drawn >= 10
    assert full <= drawn // 3


JUNK = [
    "",
    "no",
    "[]",
    "{}",
    "[null]",
    "[true]",
    "[1.0]",
    '["1"]',
    "[-1]",
    "[2]",
    "[[1]]",
    "[NaN]",
    "[1" + "0" * 5000 + "]",
    "[" * 100_000,
    "[0" + ",0" * 100_000 + "]",
    "\ud800",
]


def test_junk_is_a_parse_failure() -> None:
    opened = tasks("CartPole-v1", 50, {"kind": "at_least", "value": 50.0})
    entry = opened.draw(1)
    for junk in JUNK:
        with pytest.raises(UnreadableAnswer):
            opened.score(junk, entry)


def test_sine_and_cosine_are_the_same_bits_everywhere() -> None:
    """Golden values: they may not depend on a machine's libraries. And they are right."""
    known = [exact.sin(0.1), exact.cos(0.1), exact.sin(-2.5), exact.cos(1.9), exact.sin(700.25)]
    assert [value.hex() for value in known] == GOLDEN
    rng = Random(7)
    for _ in range(20_000):
        angle = rng.uniform(-4, 4) if rng.random() < 0.5 else rng.uniform(-1000, 1000)
        assert abs(exact.sin(angle) - math.sin(angle)) < 1e-15
        assert abs(exact.cos(angle) - math.cos(angle)) < 1e-15
    for angle in (1000.5, math.inf, math.nan):
        with pytest.raises(ValueError, match="is not within 1000"):
            exact.sin(angle)


GOLDEN = [
    "0x1.98eaecb8bcb2cp-4",
    "0x1.fd712f9a817c0p-1",
    "-0x1.326af0dcfcab0p-1",
    "-0x1.4b0c6b93445abp-2",
    "0x1.4721104077214p-2",
]


def test_physics_is_gymnasiums_own_but_for_the_last_bits() -> None:
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv

    ours, _ = tasks("CartPole-v1", 50, {"kind": "at_least", "value": 50.0})._world.begin(5)
    theirs = CartPoleEnv()
    theirs.reset(seed=5)
    theirs.state = ours.state.copy()
    for step in range(30):
        ours.step(step % 2)
        theirs.step(step % 2)
    assert abs(ours.state - theirs.state).max() < 1e-13
    assert type(ours).step is not CartPoleEnv.step
    assert CartPoleEnv.step.__globals__["np"].__name__ == "numpy"  # theirs was left alone


def test_worlds_that_cannot_be_used_say_why() -> None:
    at_least = {"kind": "at_least", "value": 1.0}
    for world, said in (
        ("Pendulum-v1", "its actions are real numbers"),
        ("FrozenLake-v2", r"there is no world 'FrozenLake-v2'.*did you mean \['FrozenLake-v1'\]"),
        ("os:system", "there is no world 'os:system'"),
    ):
        with pytest.raises(SpecError, match=said):
            tasks(world, 10, at_least)
    with pytest.raises(SpecError, match=r"refuses config .* size: Input should be less than"):
        tasks("FrozenLake-v1", 10, at_least, config={"size": 1000})
    with pytest.raises(SpecError, match="Extra inputs are not permitted"):
        tasks("Taxi-v4", 10, at_least, config={"is_rainy": True})
    with pytest.raises(SpecError, match="lanes is 0, not a whole number from 1 to 8"):
        tasks("driving", 10, at_least, config={"lanes": 0})
    with pytest.raises(SpecError, match=r"score.one is 0.0, not over score.zero"):
        tasks("Taxi-v4", 10, {"kind": "between", "zero": 0.0, "one": 0.0})
    record = builtin_spec("driving").model_dump(mode="json")
    with pytest.raises(SpecError, match=r'needs packages\["gymnasium"\]'):
        parse_spec(json.dumps({**record, "packages": {}}).encode())


# --- worlds in packages ------------------------------------------------------------

_PACKAGE = """
import gymnasium
from gymnasium import spaces

class Count(gymnasium.Env):
    rules = "Count to the target with actions 0 (nothing) and 1 (add one)."
    action_space = spaces.Discrete(2)
    def __init__(self, most=9):
        self.most = most
    def reset(self, *, seed=None, options=None):
        self.target, self.count = 2 + seed % self.most, 0
        return self.target, {}
    def step(self, action):
        self.count += action
        done = self.count == self.target
        return self.count, float(done), done, False, {}
    def describe(self, observation):
        return f"The target is {observation}."
    def solution(self, seed):
        return [1] * (2 + seed % self.most)

class Steering(Count):
    action_space = spaces.Box(-1.0, 1.0)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "counting_world.py").write_text(_PACKAGE)
    info = tmp_path / "counting_world-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-world\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[tracemarket.worlds]\ncount = counting_world:Count\nsteering = counting_world:Steering\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "counting-world"


def test_a_world_may_come_from_a_pinned_package(package: str) -> None:
    record = builtin_spec("driving").model_dump(mode="json")
    record["source"] |= {
        "distribution": package,
        "world": "count",
        "config": {"most": 50},
        "score": {"kind": "at_least", "value": 1.0},
    }
    with pytest.raises(SpecError, match=r'needs packages\["counting-world"\]'):
        parse_spec(json.dumps(record).encode())
    record["packages"][package] = "1.1"
    with pytest.raises(EnvironmentMismatch, match=r"needs counting-world 1.1, but 1.2"):
        Environment(parse_spec(json.dumps(record).encode()))
    record["packages"][package] = "1.2"
    environment = Environment(parse_spec(json.dumps(record).encode()))
    environment.self_test()
    record["source"]["world"] = "steering"
    with pytest.raises(SpecError, match=r"action space is Box.*, not Discrete from 0"):
        Environment(parse_spec(json.dumps(record).encode()))
    record["source"]["world"] = "sum"
    with pytest.raises(SpecError, match=r"no entry point 'sum' .*\['count', 'steering'\]"):
        Environment(parse_spec(json.dumps(record).encode()))
