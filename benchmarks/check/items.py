"""What is checked: batches of reasoning-gym and math items, junk included, the same every time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from random import Random
from typing import Any, Final

from marketplace.gym.environment import Environment, Task
from marketplace.gym.pool import CheckItem
from marketplace.gym.spec import MATH_VERIFY_PACKAGES, EnvironmentSpec, builtin_spec, parse_spec
from marketplace.gym.trial import HOSTILE, JUNK
from marketplace.protocol.hashing import keccak

GROUP: Final = 8
"""Samples of one task, as in a batch."""

TASKS: Final = (
    *("base_conversion", "basic_arithmetic", "bitwise_arithmetic", "caesar_cipher"),
    *("calendar_arithmetic", "chain_sum", "count_primes", "decimal_arithmetic", "gcd"),
    *("knights_knaves", "largest_island", "maze", "number_sorting", "shortest_path"),
    *("simple_equations", "string_manipulation", "syllogism", "tower_of_hanoi"),
)
"""reasoning-gym, default configuration, own scorers: of all speeds but the very slow."""

MATH: Final = (
    ("linear", "two_sided", "fraction_sum", "shopping", "travel", "share"),
    ("quadratic", "percentage", "sequence", "derivative", "system"),
)
"""Families of math_answer, compared by math-verify. Two fifths of all items are math."""

MATH_PER_MILLE: Final = 400
KINDS: Final = {"right": 40, "of another task": 25, "a number": 10, "junk": 20, "hostile": 5}
"""Percent of the completions."""

HANGING: Final = frozenset({"a power tower", "a factorial"})
"""Hostile texts that math-verify works out for ever: a run in one plain process can't have them."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of one environment, whole groups."""

    spec: EnvironmentSpec
    items: list[CheckItem]


def specs() -> tuple[list[EnvironmentSpec], list[EnvironmentSpec]]:
    """reasoning-gym environments, and math environments."""
    gym = [
        _spec(task, {"kind": "reasoning_gym", "task": task, "config": {}}, "source", GYM_PACKAGES)
        for task in TASKS
    ]
    math = [
        _spec(
            f"math-{number}",
            {"kind": "math_answer", "families": list(families), "largest": 50},
            "math_verify",
            MATH_VERIFY_PACKAGES,
        )
        for number, families in enumerate(MATH)
    ]
    return gym, [*math, builtin_spec("math_answer")]


GYM_PACKAGES: Final = ("reasoning-gym",)


def batches(items: int, size: int, seed: int = 0) -> list[Batch]:
    """So many items in batches of about `size`, those of all environments in one mixed order."""
    gym, math = specs()
    rng = Random(seed)
    count = max(1, round(items / size))
    of_math = round(count * MATH_PER_MILLE / 1000)
    chosen = [math[place % len(math)] for place in range(of_math)]
    chosen += [gym[place % len(gym)] for place in range(count - of_math)]
    rng.shuffle(chosen)
    made = []
    for number, spec in enumerate(chosen):
        first, last = (round(place * items / count) for place in (number, number + 1))
        made.append(Batch(spec, _items(spec, last - first, f"{seed}/{number}")))
    return made


def _items(spec: EnvironmentSpec, count: int, tag: str) -> list[CheckItem]:
    environment = Environment(spec)
    rng = Random(tag)
    tasks = [
        environment.task(keccak(f"{tag}/{number}".encode())) for number in range(-(-count // GROUP))
    ]
    return [
        CheckItem(
            tasks[place // GROUP].seed,
            _completion(environment, tasks, place // GROUP, rng),
            tasks[place // GROUP].prompt,
        )
        for place in range(count)
    ]


def _completion(environment: Environment, tasks: list[Task], own: int, rng: Random) -> str:
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "right":
        return environment.reference_completion(tasks[own])
    if kind == "of another task":
        return environment.completion_of(rng.choice(tasks).answer)
    if kind == "a number":
        return environment.completion_of(str(rng.randint(-1000, 1000)))
    texts = JUNK if kind == "junk" else HOSTILE
    text = texts[rng.choice(sorted(set(texts) - HANGING))]
    return environment.completion_of(text) if rng.random() < 0.5 else text


def _spec(
    name: str, source: dict[str, Any], scoring: str, packages: tuple[str, ...]
) -> EnvironmentSpec:
    record = {
        "v": 1,
        "name": name,
        "source": source,
        "prompt": {"template": "{question}\nThink, then answer between <answer> and </answer>.\n"},
        "answer": {"kind": "between", "start": "<answer>", "end": "</answer>"},
        "scoring": {"kind": scoring},
        "limits": {"seconds": 5.0, "memory_mb": 1024, "max_chars": 8192},
        "packages": {package: metadata.version(package) for package in packages},
    }
    return parse_spec(json.dumps(record).encode())
