"""OpenEnv environments as dialogues: replay, async rubrics, and what is refused by name."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckItem, CheckPool
from marketplace.gym.spec import builtin_spec, parse_spec
from marketplace.protocol.errors import EnvironmentMismatch, SpecError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Reason

pytestmark = pytest.mark.skipif(
    find_spec("openenv") is None, reason="openenv is not installed (extra gym, see docs/worlds.md)"
)

TASK = keccak(b"openenv")


def environment(**source: Any) -> Environment:
    record = builtin_spec("openenv_guess").model_dump(mode="json")
    record["source"] |= source
    if source.get("distribution"):
        record["source"]["action"] = "made_up_envs:GuessAction"
        record["packages"][source["distribution"]] = "2.0"
    return Environment(parse_spec(json.dumps(record).encode()))


def test_replays_score_and_forgeries_do_not() -> None:
    guess = environment()
    task = guess.task(TASK)
    assert guess.judge(task, task.answer).reason is Reason.CORRECT
    messages = json.loads(task.answer)
    assert json.loads(messages[-1]["content"]) == {"hint": "right"}
    messages[1]["content"] = '{"hint": "right"}'
    assert guess.judge(task, json.dumps(messages[:2])).detail.startswith("turn 0 is forged")
    talk = guess.begin(task)
    for message in ("50", "{}", '{"number": "5"}', '{"number": 5, "metadata": {}}',
                    '{"number": 1001}', '{"number": 5, "x": 1}', "[" * 9000):  # fmt: skip
        turn = talk.say(message)
        assert turn == ("error: the last line is no action that meets the schema", False, 0.0)
    while not talk.done:
        talk.say('{"number": 500}')  # never right here: the reference would have taken one turn
    assert talk.reward == 0.0
    assert len(talk.exchanges) == 7 + 9


def test_openenv_runs_in_check_workers() -> None:
    spec = builtin_spec("openenv_guess")
    right = environment().task(TASK).answer
    junk = json.dumps([{"role": "assistant", "content": "1"}, {"role": "tool", "content": "2"}])
    with CheckPool() as pool:
        results = pool.check(spec, [CheckItem(TASK, text) for text in (junk, "x", right)])
    assert [result.score for result in results] == [0.0, 0.0, 1.0]


_PACKAGE = '''
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from openenv.core.rubrics import LLMJudge, Sequential
from marketplace.gym.worlds.guess import Found, Guess, GuessAction

class NoSolution(Environment):
    def reset(self, seed=None, episode_id=None, **_): return Observation()
    def step(self, action, timeout_s=None, **_): return Observation()
    @property
    def state(self): return State()

class Judged(Guess):
    def __init__(self):
        super().__init__()
        self.rubric = Sequential(Found(), LLMJudge("rate {action}", client=None))

class Unseeded(Guess):
    times = 0
    def reset(self, seed=None, **_):
        Unseeded.times += 1
        seen = super().reset(seed=seed)
        seen.hint += f" ({Unseeded.times})"
        return seen

class Points(Guess):
    """Each wrong guess gives a tenth, the right one the rest: only the sum is the reward."""
    async def step_async(self, action, timeout_s=None, **_):
        seen = self._seen(action)
        self.given = getattr(self, "given", 0.0)
        seen.reward = 1.0 - self.given if seen.done else 0.0625
        self.given += seen.reward
        return seen
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "made_up_envs.py").write_text(_PACKAGE)
    info = tmp_path / "made_up_envs-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: made-up-envs\nVersion: 2.0\nRequires-Dist: openenv\n"
    )
    (info / "RECORD").write_text("made_up_envs.py,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "made-up-envs"


def test_what_cannot_be_replayed_is_refused_by_name(package: str) -> None:
    for name, said in (
        ("NoSolution", r"NoSolution has no solution\(seed\)"),
        ("Judged", r"asks a model in rubric, attribute rubric_1 \(LLMJudge\)"),
        ("Unseeded", "begins differently under the same seed"),
        ("Missing", "is no class that derives from Environment"),
        ("Found", "is no class that derives from Environment"),
        ("GuessAction", "is no class that derives from Environment"),
    ):
        with pytest.raises(SpecError, match=said):
            environment(distribution=package, environment=f"made_up_envs:{name}", config={})
    with pytest.raises(SpecError, match="module os is not one that distribution made-up-envs"):
        environment(distribution=package, environment="os:system")
    with pytest.raises(SpecError, match=r"module made_up_envs is not one that .* tracemarket"):
        environment(environment="made_up_envs:Points")
    with pytest.raises(SpecError, match=r"fails with config .*largest is 1, not from 2 to 1000"):
        environment(config={"largest": 1})
    with pytest.raises(EnvironmentMismatch, match=r"needs nowhere 2.0, but it is not installed"):
        environment(distribution="nowhere")


def test_rewards_may_be_sums(package: str) -> None:
    points = {"distribution": package, "environment": "made_up_envs:Points", "config": {}}
    summed = environment(**points, reward="sum")
    summed.self_test()
    last = environment(**points, reward="last")
    assert len(json.loads(last.task(TASK).answer)) == 2  # only first guesses get a full reward
    assert any(
        len(json.loads(summed.task(keccak(bytes([number]))).answer)) > 2 for number in range(5)
    )
