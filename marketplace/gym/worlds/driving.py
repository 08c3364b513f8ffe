"""A small driving simulator: what a large one (CARLA, say) has to be for its drives to be sold.

A car on a road of several lanes, with parked cars and a traffic light, to be brought over the line
at the end. All state is integers, so that a replay is exact; the light and the parked cars come
from the seed; time is the count of steps. It is a plain Gymnasium environment with the three
members that a world of one's own adds: `rules`, `describe` and `solution` (see action_worlds.py).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import gymnasium
from gymnasium import spaces

KEEP, FASTER, SLOWER, LEFT, RIGHT = range(5)
TOP_SPEED: Final = 3
ARRIVED: Final = 100.0
"""Reward of crossing the line. Every step costs 1; a crash or a red light ends the drive."""


@dataclass(frozen=True, slots=True)
class Car:
    """step: how many have passed. position: cells driven. lane: 0 is the leftmost."""

    step: int
    position: int
    lane: int
    speed: int


class Driving(gymnasium.Env[Any, Any]):
    """length: cells to the line. lanes. period: steps that the light stays one colour."""

    rules = (
        "You drive a car over a road of cells and lanes. Each step you choose an action: 0 keep, "
        "1 one cell per step faster (at most 3), 2 one slower (at least 0), 3 one lane to the "
        "left, 4 one to the right (a lane change needs a speed of at least 1 before the step). The "
        "lane changes first; then the car drives as many cells ahead as its speed says. Driving "
        "into a parked car or off the road, or driving past the light's cell while it is red, ends "
        "the drive. Reach the line at the end of the road in as few steps as you can."
    )

    def __init__(self, length: int = 16, lanes: int = 3, period: int = 3) -> None:
        for name, value, low, high in (
            ("length", length, 8, 200),
            ("lanes", lanes, 1, 8),
            ("period", period, 1, 20),
        ):
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} is {value!r}, not a whole number from {low} to {high}")
        self.action_space = spaces.Discrete(5)
        self.observation_space = spaces.MultiDiscrete([length + TOP_SPEED, lanes, TOP_SPEED + 1])
        self._length, self._lanes, self._period = length, lanes, period

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[int, int, int], dict[str, Any]]:
        """A road of that seed; the car stands at its beginning."""
        super().reset(seed=seed)
        rng = Random(seed)
        self._light = rng.randrange(self._length // 3, 2 * self._length // 3)
        self._red_first = rng.random() < 0.5
        cells = [(p, lane) for p in range(3, self._length - 1) for lane in range(self._lanes)]
        self._parked = frozenset(rng.sample(cells, len(cells) // 6))
        self._car = Car(0, 0, self._lanes // 2, 0)
        return self._seen(), {}

    def step(self, action: int) -> tuple[tuple[int, int, int], float, bool, bool, dict[str, Any]]:
        """One step; ends on arrival, on a crash and at a red light."""
        after = self._after(self._car, action)
        if after is None:
            return self._seen(), -1.0, True, False, {}
        self._car = after
        arrived = after.position >= self._length
        return self._seen(), ARRIVED - 1.0 if arrived else -1.0, arrived, False, {}

    def describe(self, observation: tuple[int, int, int]) -> str:
        """The road and the light, as text."""
        rows = []
        for lane in range(self._lanes):
            cells = ("#" if (p, lane) in self._parked else "." for p in range(self._length))
            rows.append("".join(cells))
        position, lane, speed = observation
        colours = ("red", "green") if self._red_first else ("green", "red")
        return (
            "The road, one line per lane, left lane first; # is a parked car, and the line is "
            f"after the last cell:\n{chr(10).join(rows)}\n"
            f"The light is at cell {self._light} (cells count from 0): {colours[0]} in the first "
            f"{self._period} steps, then {colours[1]} for {self._period}, and so on.\n"
            f"The car is in cell {position} of lane {lane} (0 is the left lane), at speed {speed}."
        )

    def solution(self, seed: int) -> list[int]:
        """A shortest drive. ValueError for a road that can't be driven."""
        self.reset(seed=seed)
        start = self._car
        before: dict[Car, tuple[Car, int]] = {}
        queue = deque([start])
        while queue:
            car = queue.popleft()
            for action in range(5):
                after = self._after(car, action)
                if after is None or after in before or after.step > 6 * self._length:
                    continue
                before[after] = (car, action)
                if after.position >= self._length:
                    return _path(before, start, after)
                queue.append(after)
        raise ValueError("this road can't be driven")

    def _after(self, car: Car, action: int) -> Car | None:
        """The car one step later; None where the drive ends badly."""
        lane, speed = car.lane, car.speed
        if action == FASTER:
            speed = min(speed + 1, TOP_SPEED)
        elif action == SLOWER:
            speed = max(speed - 1, 0)
        elif action in (LEFT, RIGHT) and speed > 0:
            lane += -1 if action == LEFT else 1
        if not 0 <= lane < self._lanes or (car.position, lane) in self._parked:
            return None
        red = (car.step // self._period % 2 == 0) == self._red_first
        for cell in range(car.position + 1, car.position + speed + 1):
            if (cell, lane) in self._parked or (red and cell == self._light + 1):
                return None
        return Car(car.step + 1, car.position + speed, lane, speed)

    def _seen(self) -> tuple[int, int, int]:
        return self._car.position, self._car.lane, self._car.speed


def _path(before: dict[Car, tuple[Car, int]], start: Car, end: Car) -> list[int]:
    actions = []
    while end != start:
        end, action = before[end]
        actions.append(action)
    return actions[::-1]
