"""What holds for every source with problems of our own, whatever it asks."""

from __future__ import annotations

import hashlib
import json
import time
from functools import cache
from importlib import resources
from pathlib import Path
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marketplace.gym.environment import Environment, Task
from marketplace.gym.spec import BetweenAnswer, builtin_spec, parse_spec
from marketplace.protocol.errors import SpecError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Reason

ROOT = Path(__file__).parents[3]

DRAWN = {
    "json_schema": "da2d546a7755b767",
    "tool_calls": "f1945cfccffe6c63",
    "tables": "b58844f810195fbd",
    "finance": "903fdad7188c8251",
    "physics": "979a2fd218af2e59",
    "medicine": "aa8d13cc56ca7a87",
}
"""Built-in specs, and a digest of their first questions and answers."""

NASTY = (
    "null",
    "true",
    "{}",
    "[]",
    "[[]]",
    "NaN",
    "Infinity",
    "-1e999",
    "0",
    "1e60",
    "9" * 7000,
    "1" + "0" * 399,
    "1e999999999",
    "10**10**10 m",
    "((((((((((1 m))))))))))",
    "__import__('os').system('true')",
    "[" * 7000,
    '{"a":' * 1400 + "1" + "}" * 1400,
    '{"a": 1, "a": 2}',
    '"\\ud800"',
    "\ud800",
    "\x00",
    "A" * 7000,
    "A B C D E F",
    "A or B",
    "any of them",
    "٣",
    "−0",
    "<answer><answer>",
    "m" * 7000,
    "1 " + "m*" * 3500 + "m",
    "1 m^99999999999",
    "(a+)+$" + "a" * 5000,
    "$ref",
)


@cache
def environment(name: str) -> Environment:
    return Environment(builtin_spec(name))


@cache
def tasks(name: str) -> tuple[Task, ...]:
    return tuple(environment(name).task(keccak(bytes([number]))) for number in range(60))


def wrapped(answer: str) -> str:
    return f"<answer>{answer}</answer>"


@pytest.mark.parametrize("name", DRAWN)
def test_reference_answers_earn_one_and_stay_out_of_the_prompt(name: str) -> None:
    environment(name).self_test()
    for task in tasks(name):
        completion = environment(name).reference_completion(task)
        judgement = environment(name).judge(task, f"Some reasoning first. {completion}")
        assert judgement.reason is Reason.CORRECT
        assert completion not in task.prompt


@pytest.mark.parametrize("name", DRAWN)
def test_junk_earns_nothing_quickly(name: str) -> None:
    started = time.process_time()
    for task in tasks(name)[:10]:
        for junk in NASTY:
            judgement = environment(name).judge(task, wrapped(junk))
            assert judgement.score == 0.0 or junk == task.answer, junk
    assert (time.process_time() - started) / len(NASTY) / 10 < 0.05


@pytest.mark.parametrize("name", DRAWN)
@given(text=st.text(max_size=200) | st.from_regex(r"[-+0-9eE.,*/^ ()\[\]{}:\"a-zA-Zµ°Ω]{1,60}"))
@settings(max_examples=80, deadline=2000)
@example(text="10**10**10 m")
def test_no_text_makes_a_checker_fail(name: str, text: str) -> None:
    """Scores other than 0 are right answers: another text of the reference, none by accident."""
    task = tasks(name)[len(text) % 60]
    judgement = environment(name).judge(task, wrapped(text))  # CheckerFailed would end the test
    assert judgement.score in (0.0, 1.0)


@pytest.mark.deep
@pytest.mark.parametrize("name", DRAWN)
def test_mangled_answers_never_fail_a_checker_or_take_long(name: str) -> None:
    """20,000 mixtures of reference answers and junk, long ones among them."""
    rng = Random(name)
    answers = [task.answer for task in tasks(name)]
    for _ in range(20_000):
        task, text = rng.choice(tasks(name)), rng.choice(answers)
        for _ in range(rng.randint(1, 4)):
            place = rng.randint(0, len(text))
            part = rng.choice((*NASTY, *answers, *'0123456789.,-+eE*/^(){}[]; "m'))
            text = text[:place] + part * rng.choice((1, 1, 1, 2, 50)) + text[place:]
        started = time.process_time()
        judgement = environment(name).judge(task, wrapped(text[:8000]))
        assert judgement.score in (0.0, 1.0)
        assert time.process_time() - started < 1.0, text


@pytest.mark.parametrize("name", DRAWN)
def test_one_answer_does_not_serve_other_tasks(name: str) -> None:
    """A copied answer earns what guessing would, and only where answers are few."""
    answers = environment(name).reference_completion(tasks(name)[0])
    paid = [environment(name).score(task, answers) for task in tasks(name)[1:]]
    most = {"tables": 0.2, "medicine": 0.45}.get(name, 0.0)
    assert sum(paid) <= most * len(paid)


@pytest.mark.parametrize("name", DRAWN)
def test_questions_are_many(name: str) -> None:
    drawn = {environment(name)._source.draw(number).question for number in range(3000)}
    assert len(drawn) > 2600


@pytest.mark.parametrize(("name", "digest"), DRAWN.items())
def test_tasks_stay_what_they_are(name: str, digest: str) -> None:
    """A changed generator would make sold traces answer other questions."""
    entries = [environment(name)._source.draw(number) for number in range(100)]
    text = "\n".join(f"{entry.question}\n{entry.answer}" for entry in entries)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("name", DRAWN)
def test_families_must_exist_once(name: str) -> None:
    record = builtin_spec(name).model_dump(mode="json")
    for families, said in (
        (["nonsense"], "there is no"),
        (record["source"]["families"] * 2, "twic"),
    ):
        source = {**record["source"], "families": families[:32]}
        with pytest.raises(SpecError, match=said):
            Environment(parse_spec(json.dumps({**record, "source": source}).encode()))


@pytest.mark.parametrize("name", DRAWN)
def test_the_example_is_paid_and_refused_as_it_says(name: str) -> None:
    file = resources.files("marketplace.gym") / "examples" / f"{name}.json"
    record = json.loads(file.read_text("utf-8"))
    assert record["right"] is None
    assert isinstance(environment(name).spec.answer, BetweenAnswer)
    for task in tasks(name):
        assert environment(name).score(task, record["wrong"]) == 0.0
