"""reasoning-gym datasets as task sources: one item per seed, scored by the dataset itself.

Some datasets can't be used and are refused by name. Checked for 0.1.25 by `make gym-sweep`, which
puts every task through `env check` (docs/reasoning-gym.md), and by reading what uses a clock or
global randomness. Others hand the answer to eval() or to SymPy's parser, which evaluates it; for
those only answers of a harmless form reach the scorer (see `_FORMS`).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, JsonValue, PydanticUserError, TypeAdapter, ValidationError

from marketplace.gym.source import Entry, Source, UnreadableAnswer
from marketplace.protocol.errors import SpecError

_HASH_ORDER = "its items depend on Python's hash seed, so verifiers would not agree"
_NO_ANSWER = "it gives no reference answer, so its checker can't be tested"

REFUSED: Final = {
    "boxnet": _NO_ANSWER,
    "graph_color": _NO_ANSWER,
    "propositional_logic": _NO_ANSWER,
    "rubiks_cube": _NO_ANSWER,
    "rush_hour": _NO_ANSWER,
    "codeio": _HASH_ORDER,
    "intermediate_integration": _HASH_ORDER,
    "isomorphic_strings": _HASH_ORDER,
    "knight_swap": _HASH_ORDER,
    "polynomial_multiplication": _HASH_ORDER,
    "ransom_note": _HASH_ORDER,
    "word_ladder": _HASH_ORDER,
    "list_functions": "it draws from Python's global randomness, so verifiers would not agree",
    "time_intervals": "its items depend on today's date, so verifiers would not agree",
    "pool_matrix": "it takes 32-bit seeds only and reseeds NumPy's global randomness",
    "arc_agi": "it reads its whole data set for every task, over half a second of CPU time each",
    "group_anagrams": (
        "it reads its whole data set for every task, about 0.4 s of CPU time each: references time "
        "out now and then, and its own scorer gives junk 0.01"
    ),
    "string_insertion": "its answer is nearly always the question's last word, as it stands there",
    "composite": "it nests other tasks; register one environment per task",
}

_OWN_KEYS = ("seed", "size")
"""Configuration that the market fixes: the seed walk gives the seed, and one item is drawn."""

_PLAIN_LIST = re.compile(r"[\w\s,+\-\[\]\"']*", re.ASCII)
_TOKEN = re.compile(r"\d+(?:\.\d*)?|\.\d+|[A-Za-z]+|\*\*|[-+*/^(),\s]")
_FUNCTIONS = re.compile(r"a?(?:sin|cos|tan)h?|cot|sec|csc|exp|log|ln|sqrt|pi|Abs")
_COMPLEX = re.compile(r"[\d\s.,ij()+\-*]{1,100}", re.ASCII)
_MAX_EXPRESSION = 2000


def _is_plain_list(answer: str) -> bool:
    # Without a call, an attribute or an operator, eval() of this can do nothing.
    return len(answer) <= _MAX_EXPRESSION and _PLAIN_LIST.fullmatch(answer) is not None


def _is_expression(answer: str) -> bool:
    """Numbers, operators, one-letter symbols and well-known functions; no attribute, no string."""
    position = 0
    while position < len(answer) <= _MAX_EXPRESSION:
        token = _TOKEN.match(answer, position)
        if token is None:
            return False
        word = token.group()
        if word.isalpha() and len(word) > 1 and not _FUNCTIONS.fullmatch(word):
            return False
        position = token.end()
    return position == len(answer)


def _is_finite_complex(answer: str) -> bool:
    # Its scorer takes NaN for every number.
    return _COMPLEX.fullmatch(answer) is not None


def _is_nothing(answer: str) -> bool:
    # Its scorer finds every answer right: with "source" such a task can't be built at all.
    return False


_FORMS: Final = {
    "game_of_life_halting": _is_nothing,
    "complex_arithmetic": _is_finite_complex,
    "binary_matrix": _is_plain_list,
    "n_queens": _is_plain_list,
    "spiral_matrix": _is_plain_list,
    "countdown": _is_expression,
    "puzzle24": _is_expression,
    "simple_integration": _is_expression,
}


class ReasoningGymSource(Source):
    """Tasks of one reasoning-gym dataset. config: its configuration, without seed and size."""

    PACKAGES: ClassVar[tuple[str, ...]] = ("reasoning-gym",)
    PRELOAD: ClassVar[tuple[str, ...]] = ("reasoning_gym",)

    kind: Literal["reasoning_gym"]
    task: Annotated[str, Field(min_length=1, max_length=64)]
    config: dict[str, JsonValue] = Field(default_factory=dict)

    def open(self) -> ReasoningGymTasks:
        return ReasoningGymTasks(self)


class ReasoningGymTasks:
    """A TaskSource over one dataset. SpecError for a task or configuration that can't be used."""

    def __init__(self, source: ReasoningGymSource) -> None:
        # Imported here: it takes more than a second, and other sources don't need it.
        from reasoning_gym.factory import DATASETS

        name = source.task
        if name in REFUSED:
            raise SpecError(f"reasoning-gym task {name!r} can't be used: {REFUSED[name]}")
        if name not in DATASETS:
            usable = sorted(set(DATASETS) - set(REFUSED))
            near = difflib.get_close_matches(name, usable, n=3, cutoff=0.5)
            raise SpecError(
                f"there is no reasoning-gym task {name!r}",
                fix=f"did you mean {near}?" if near else f"use one of {usable}",
            )
        self._name = name
        self._dataset, self._config_class = DATASETS[name]
        self._config = _checked_config(name, source.config, self._config_class)
        self._readable = _FORMS.get(name)
        try:
            self._scorer = self._build(0)
            self.draw(0)
        except Exception as error:
            raise SpecError(
                f"reasoning-gym task {name!r} refuses config {json.dumps(source.config)}: "
                f"{_said(error)}"
            ) from None

    def draw(self, number: int) -> Entry:
        """The first item of the dataset seeded with number (0 to 2**64 - 1)."""
        item = self._build(number)[0]
        question, answer = item["question"], item["answer"]
        if not isinstance(question, str) or not isinstance(answer, str):
            raise ValueError(f"{self._name} gave a {type(answer).__name__} as reference answer")
        if not answer.strip():  # base_conversion writes 0 as nothing: no completion can say that
            raise ValueError(f"{self._name} gave no reference answer")
        question.encode("utf-8")  # hashed and sent later: a lone surrogate must not get through
        return Entry(question, answer, item)

    def score(self, answer: str, entry: Entry) -> object:
        """The dataset's score_answer, unchecked."""
        if self._readable is not None and not self._readable(answer):
            raise UnreadableAnswer(f"{self._name} takes no answer of this form")
        return self._scorer.score_answer(answer, dict(entry.raw))

    def _build(self, number: int) -> Any:
        return self._dataset(config=self._config_class(**self._config, seed=number, size=1))


def _checked_config(name: str, config: dict[str, Any], config_class: Any) -> dict[str, Any]:
    """The configuration with every value of the type its dataclass declares."""
    known = [one.name for one in dataclasses.fields(config_class) if one.name not in _OWN_KEYS]
    hints = _type_hints(config_class)
    checked = {}
    for key, value in config.items():
        if key in _OWN_KEYS:
            raise SpecError(f"config key {key!r} of task {name!r} is fixed by the market")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
            raise SpecError(
                f"reasoning-gym task {name!r} has no config key {key!r}",
                fix=f"did you mean {near}?" if near else f"its keys are {known}",
            )
        checked[key] = _of_type(name, key, value, hints.get(key))
    return checked


def _type_hints(config_class: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(config_class)
    except Exception:  # a hint that can't be resolved: validate() and the trial draw remain
        return {}


def _of_type(name: str, key: str, value: Any, hint: Any) -> Any:
    if hint is None:
        return value
    try:
        # Through JSON, where a list may stand for a tuple although the check is strict.
        return TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise SpecError(f"config key {key!r} of task {name!r} is {value!r}: {said}") from None
    except PydanticUserError:  # a class of reasoning-gym's own
        return value


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
