"""A small environment for OpenEnv, as an example of what its package would hold.

Where fastmcp is missing, openenv_runtime has to be imported before.
"""

from __future__ import annotations

from random import Random
from typing import Any

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation, State
from openenv.core.rubrics import Rubric
from pydantic import Field


class GuessAction(Action):
    """number: the guess."""

    number: int = Field(ge=1, le=1000)


class GuessObservation(Observation):
    """hint: what the last guess was."""

    hint: str


class Found(Rubric):
    """1 for the right number. Async, as rubrics that wait for something are."""

    async def forward(self, action: Any, observation: Any) -> float:
        return float(observation.hint == "right")


class Guess(Environment[GuessAction, GuessObservation, State]):
    """A number from 1 to `largest`, to be found in as few guesses as halving needs."""

    def __init__(self, largest: int = 60) -> None:
        super().__init__(rubric=Found())
        if not 2 <= largest <= 1000:
            raise ValueError(f"largest is {largest}, not from 2 to 1000")
        self._largest = largest
        self._guesses = largest.bit_length()

    def get_metadata(self) -> EnvironmentMetadata:
        return EnvironmentMetadata(
            name="guess",
            description=(
                f"Find a whole number from 1 to {self._largest} in at most {self._guesses} "
                "guesses. Each guess is answered with higher, lower or right."
            ),
        )

    def reset(
        self, seed: int | None = None, episode_id: str | None = None, **_: Any
    ) -> GuessObservation:
        self._number = Random(seed).randint(1, self._largest)
        self._state = State(episode_id=episode_id, step_count=0)
        # The seed's own hint: else all episodes would begin alike, and be one question.
        low = max(1, self._number - seed % 7) if seed else 1
        return GuessObservation(hint=f"it is {low} or more")

    async def step_async(
        self, action: GuessAction, timeout_s: float | None = None, **_: Any
    ) -> GuessObservation:
        self._state.step_count += 1
        seen = self._seen(action)
        seen.reward = await self._apply_rubric_async(action, seen)
        return seen

    def step(self, action: GuessAction, timeout_s: float | None = None, **_: Any) -> Any:
        raise NotImplementedError("use step_async: the rubric is async")

    @property
    def state(self) -> State:
        return self._state

    def solution(self, seed: int) -> list[GuessAction]:
        """Halving, from what the first hint says."""
        low = int(self.reset(seed=seed).hint.split()[2])
        high = self._largest
        guesses: list[GuessAction] = []
        while not guesses or guesses[-1].number != self._number:
            guess = (low + high) // 2
            guesses.append(GuessAction(number=guess))
            low, high = (guess + 1, high) if guess < self._number else (low, guess - 1)
        return guesses

    def _seen(self, action: GuessAction) -> GuessObservation:
        if action.number == self._number:
            return GuessObservation(hint="right", done=True)
        done = self._state.step_count >= self._guesses
        return GuessObservation(
            hint="higher" if self._number > action.number else "lower", done=done
        )
