"""Tasksets of the verifiers package: scored by their own rewards, refused where those can't be."""

from __future__ import annotations

import itertools
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckItem, CheckPool
from marketplace.gym.sources.offered import module_of
from marketplace.gym.spec import builtin_spec, parse_spec
from marketplace.protocol.errors import CheckerFailed, SpecError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Reason

pytestmark = pytest.mark.skipif(
    find_spec("verifiers") is None, reason="verifiers is not installed (extra gym)"
)

TASK = keccak(b"verifiers")


def environment(**source: Any) -> Environment:
    record = builtin_spec("verifiers_code_words").model_dump(mode="json")
    record["source"] |= source
    if source.get("distribution"):
        record["packages"][source["distribution"]] = "2.0"
    return Environment(parse_spec(json.dumps(record).encode()))


def test_rewards_add_up_to_the_score() -> None:
    words = environment()
    task = words.task(TASK)
    listed = task.question.split(": ")[1].rstrip("?").split(", ")
    assert task.answer == "".join(word[-1] for word in listed)
    assert words.judge(task, task.answer).reason is Reason.CORRECT
    judged = words.judge(task, f"It is {task.answer}")
    assert (judged.score, judged.detail) == (0.75, "bare 0, right 1")
    for junk in ("no", "x" * 1000, "\u0000", task.answer.upper(), "[" * 900):
        assert words.judge(task, junk).reason is Reason.WRONG


@pytest.mark.deep  # a worker imports verifiers anew, which takes six seconds of CPU
def test_rows_are_scored_in_check_workers() -> None:
    spec = builtin_spec("verifiers_code_words")
    right = environment().task(TASK).answer
    with CheckPool() as pool:
        results = pool.check(spec, [CheckItem(TASK, text) for text in ("nothing", "", right)])
    assert [result.score for result in results] == [0.0, 0.0, 1.0]


_HEAD = """
import verifiers.v1 as vf
from verifiers.v1.configs.judge import JudgeConfig
__all__ = ["Rows"]
class Data(vf.TaskData):
    answer: str
class Row(vf.Task[Data, vf.State, vf.TaskConfig]):
    REWARD
class Rows(vf.Taskset[Row, vf.TasksetConfig]):
    def load(self):
        for index in range(30):
            yield Row(Data(prompt=f"Say {index}.", answer=str(index)), CONFIG)
"""
_PLAIN = """
    @vf.reward
    async def same(self, trace): return float(trace.last_reply == self.data.answer)
"""
_NUMBERS = itertools.count()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a package of a reward, further code and a task config."""
    info = tmp_path / "made_up_rows-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: made-up-rows\nVersion: 2.0\nRequires-Dist: verifiers>=0.4\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def make(reward: str = _PLAIN, more: str = "", config: str = "None") -> Environment:
        names.append(f"made_up_rows_{next(_NUMBERS)}")  # once imported, a name is taken
        text = _HEAD.replace("REWARD", reward).replace("CONFIG", config) + more
        (tmp_path / f"{names[-1]}.py").write_text(text)
        (info / "RECORD").write_text("".join(f"{name}.py,,\n" for name in names))
        return environment(distribution="made-up-rows", taskset=names[-1], config={})

    return make


def test_a_library_that_is_no_package_of_tasksets_is_not_imported() -> None:
    with pytest.raises(SpecError, match="distribution pydantic does not require verifiers"):
        module_of("pydantic", "pydantic", "verifiers")


def test_a_taskset_may_come_from_a_pinned_package(made: Any) -> None:
    made().self_test()


def test_what_verifiers_could_not_agree_on_is_refused_by_name(made: Any) -> None:
    with pytest.raises(SpecError, match="uses the judge model Opinion"):
        made(more="class Opinion(vf.Judge[bool]):\n    prompt = 'good?'\n")
    with pytest.raises(SpecError, match=r"row 0 .* is scored by the judge models \['reference'\]"):
        made(config="vf.TaskConfig(judges=[vf.ReferenceJudgeConfig(id='reference')])")
    with pytest.raises(SpecError, match="has the reward disk, which wants a runtime"):
        made("\n    @vf.reward\n    async def disk(self, trace, runtime): return 1.0\n")
    with pytest.raises(SpecError, match=r"row 0 .* has no rewards"):
        made("pass")
    with pytest.raises(SpecError, match=r"row 0 .* needs a container"):
        made(_PLAIN + "\n    NEEDS_CONTAINER = True\n")
    with pytest.raises(SpecError, match="exports 0 tasksets in __all__, not one"):
        made(more="__all__ = []\n")
    with pytest.raises(SpecError, match="has no 'reply' in its data"):
        environment(answer="reply")
    with pytest.raises(SpecError, match="module os is not one that distribution tracemarket"):
        environment(taskset="os")
    with pytest.raises(SpecError, match=r"refuses config .*size"):
        environment(config={"size": 0})


def test_a_reward_that_raises_or_leaves_the_scale_is_an_error(made: Any) -> None:
    for reward in ("raise ValueError('x')", "return 1.7", "return float('nan')"):
        broken = made(f"\n    @vf.reward\n    async def bad(self, trace): {reward}\n")
        with pytest.raises(CheckerFailed):
            broken.judge(broken.task(TASK), "1")
