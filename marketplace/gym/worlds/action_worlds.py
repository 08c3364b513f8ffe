"""Worlds of actions: Gymnasium environments whose episodes can be replayed.

Ours wrap environments that Gymnasium ships with, each told as text and with a solver, so that every
task has a reference answer. Any other is a Gymnasium environment with a Discrete action space and
three more members:

    rules                  what a player has to know, as text
    describe(observation)  the situation after reset, as text: all that the task's question says
    solution(seed)         actions that get the full score; ValueError where there are none

and the promise that reset(seed=n) and the same actions give the same rewards on every machine and
every day: no clock, no global randomness, fixed time steps, and no sum of floats whose order may
change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Annotated, Any, ClassVar, Final, Protocol

from pydantic import Field

from marketplace.gym.source import Part
from marketplace.gym.worlds.exact import ExactMath, ExactNumpy

_DECIMALS: Final = 4
"""Of physical start values: the task's text holds exactly what the replay starts from."""


class ActionWorld(Protocol):
    """Episodes by number."""

    @property
    def rules(self) -> str:
        """What a player has to know."""
        ...

    def begin(self, number: int) -> tuple[Any, str]:
        """A Gymnasium environment, reset to the episode, and its first situation as text.

        It may be the same object each time: an earlier episode can't go on."""
        ...

    def solve(self, number: int, steps: int) -> list[int]:
        """Actions of full score, `steps` at most. ValueError where the number has none."""
        ...


class FrozenLake(Part):
    """FrozenLake-v1 without slipping, on a map of its own for every number."""

    rules: ClassVar[str] = (
        "You stand on a frozen lake, in the cell S. Actions: 0 left, 1 down, 2 right, 3 up; at the "
        "edge you stay where you are. F is ice, H a hole that ends the walk, G the goal. Reach the "
        "goal."
    )
    size: Annotated[int, Field(ge=3, le=12)] = 4
    frozen: Annotated[float, Field(ge=0.6, le=0.95)] = 0.7

    def begin(self, number: int) -> tuple[Any, str]:
        from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv, generate_random_map

        rows = generate_random_map(self.size, self.frozen, seed=number)
        env = FrozenLakeEnv(desc=rows, is_slippery=False)
        env.reset(seed=number)
        return env, "The lake:\n" + "\n".join(rows)

    def solve(self, number: int, steps: int) -> list[int]:
        env, _ = self.begin(number)
        return _shortest(env.P, int(env.s))


class Taxi(Part):
    """Taxi-v4 without rain: fetch a passenger and bring them to their destination."""

    rules: ClassVar[str] = (
        "You drive a taxi on a grid of five by five cells. Actions: 0 south, 1 north, 2 east, "
        "3 west, 4 pick the passenger up, 5 drop them off. Every step costs 1, a wrong pickup or "
        "drop-off 10, and the right drop-off gives 20 and ends the drive. Places: R is row 0 "
        "column 0, G row 0 column 4, Y row 4 column 0, B row 4 column 3. Walls you can't drive "
        "through: between columns 1 and 2 in rows 0 and 1, between columns 0 and 1 in rows 3 and "
        "4, and between columns 2 and 3 in rows 3 and 4."
    )

    def begin(self, number: int) -> tuple[Any, str]:
        env = _taxi()
        state, _ = env.reset(seed=number)
        row, column, passenger, destination = env.decode(state)
        return env, (
            f"The taxi is in row {row}, column {column}. The passenger waits at "
            f"{'RGYB'[passenger]} and wants to get to {'RGYB'[destination]}."
        )

    def solve(self, number: int, steps: int) -> list[int]:
        env, _ = self.begin(number)
        return _shortest(env.P, int(env.s))


class SlipperyCliff(Part):
    """CliffWalking-v1 with slipping: where a step slips to is fixed by the number."""

    rules: ClassVar[str] = (
        "You walk over a grid of 4 rows and 12 columns, from the lower left corner to the lower "
        "right one; the cells between them are a cliff. Actions: 0 up, 1 right, 2 down, 3 left. "
        "You slip: a step goes in the direction you chose or in one of the two beside it, as the "
        "episode's random generator says, which Gymnasium's CliffWalking-v1 with is_slippery "
        "seeds. Each step costs 1; a fall off the cliff costs 100 and puts you back to the start."
    )

    def begin(self, number: int) -> tuple[Any, str]:
        env = _cliff()
        env.reset(seed=number)
        return env, f"The episode's seed is {number}."

    def solve(self, number: int, steps: int) -> list[int]:
        """A walk that never falls, by search over what the generator will say."""
        env, _ = self.begin(number)
        rolls = env.np_random.random(steps).tolist()
        start = (int(env.s), 0)

        def moves(node: tuple[int, int]) -> list[tuple[int, tuple[int, int], float, bool]]:
            cell, step = node
            if step == steps:
                return []
            after = []
            for action in range(4):
                outcomes = env.P[cell][action]
                _, target, reward, done = outcomes[_drawn([o[0] for o in outcomes], rolls[step])]
                after.append((action, (int(target), step + 1), float(reward), bool(done)))
            return after

        return _search(start, moves, lambda reward, done: done)


class Blackjack(Part):
    """Blackjack-v1: the cards of a number are fixed, and drawn in order."""

    rules: ClassVar[str] = (
        "You play blackjack against a dealer, with cards that come from the episode's random "
        "generator, as Gymnasium's Blackjack-v1 seeds it. Actions: 1 takes a card, 0 stops and "
        "lets the dealer play, who draws up to 17. Over 21 loses."
    )

    def begin(self, number: int) -> tuple[Any, str]:
        from gymnasium.envs.toy_text.blackjack import BlackjackEnv

        env = BlackjackEnv(sab=True)
        (total, dealer, ace), _ = env.reset(seed=number)
        return env, (
            f"The episode's seed is {number}. Your hand counts {total}"
            f"{' with an ace as 11' if ace else ''}, the dealer shows {dealer}."
        )

    def solve(self, number: int, steps: int) -> list[int]:
        for hits in range(min(steps, 12)):
            env, _ = self.begin(number)
            actions = [1] * hits + [0]
            done = False
            for action in actions:
                _, reward, done, _, _ = env.step(action)
                if done:
                    break
            if done and reward == 1.0:
                return actions
            if done and action:
                break
        raise ValueError("these cards can't be won")


class CartPole(Part):
    """CartPole-v1: balance a pole, with sine and cosine that all machines compute alike."""

    rules: ClassVar[str] = (
        "A pole stands on a cart. Actions: 0 pushes the cart to the left, 1 to the right, for 0.02 "
        "seconds, with a force of 10 newtons; the cart weighs 1 kg, the pole 0.1 kg at half a "
        "length of 0.5 m, gravity is 9.8 m/s2 (Gymnasium's CartPole-v1). The episode ends when the "
        "pole leans over 12 degrees or the cart leaves 2.4 m. Keep it going to the last step."
    )

    def begin(self, number: int) -> tuple[Any, str]:
        import numpy as np
        from gymnasium.envs.classic_control.cartpole import CartPoleEnv

        env = _exact(CartPoleEnv)()
        env.reset(seed=number)
        values = [round(float(value), _DECIMALS) for value in env.state]
        env.state = np.array(values, dtype=np.float64)
        place, speed, angle, turning = values
        return env, (
            f"The cart is at {place} m with {speed} m/s, the pole leans {angle} rad to the right "
            f"with {turning} rad/s."
        )

    def solve(self, number: int, steps: int) -> list[int]:
        return _steered(self.begin(number)[0], _balancing, steps)


class MountainCar(Part):
    """MountainCar-v0, with a cosine that all machines compute alike."""

    rules: ClassVar[str] = (
        "A car with a weak engine stands in a valley: its height is sin(3 x). Actions: 0 "
        "accelerates to the left, 1 lets it roll, 2 accelerates to the right. Each step the "
        "velocity grows by (action - 1) * 0.001 - 0.0025 * cos(3 x), within -0.07 and 0.07, then x "
        "by the velocity, within -1.2 and 0.6 (Gymnasium's MountainCar-v0). Every step costs 1. "
        "Reach x = 0.5."
    )

    def begin(self, number: int) -> tuple[Any, str]:
        from gymnasium.envs.classic_control.mountain_car import MountainCarEnv

        env = _exact(MountainCarEnv)()
        env.reset(seed=number)
        start = round(float(env.state[0]), _DECIMALS)
        env.state = (start, 0.0)
        return env, f"The car stands at x = {start}."

    def solve(self, number: int, steps: int) -> list[int]:
        return _steered(self.begin(number)[0], _uphill, steps)


class OwnWorld:
    """A Gymnasium environment with rules, describe and solution (see above)."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.rules: str = make().rules

    def begin(self, number: int) -> tuple[Any, str]:
        env = self._make()
        observation, _ = env.reset(seed=number)
        return env, env.describe(observation)

    def solve(self, number: int, steps: int) -> list[int]:
        return list(self._make().solution(number))


GYMNASIUM_WORLDS: Final[dict[str, type[Part]]] = {
    "FrozenLake-v1": FrozenLake,
    "Taxi-v4": Taxi,
    "CliffWalking-v1": SlipperyCliff,
    "Blackjack-v1": Blackjack,
    "CartPole-v1": CartPole,
    "MountainCar-v0": MountainCar,
}

OWN_WORLDS: Final = {"driving": "marketplace.gym.worlds.driving:Driving"}

REFUSED_WORLDS: Final = {
    "Acrobot-v1": "its integrator computes sines of arrays, which differ between processors",
    "Pendulum-v1": "its actions are real numbers",
    "MountainCarContinuous-v0": "its actions are real numbers",
    "FrozenLake8x8-v1": 'use FrozenLake-v1 with config {"size": 8}',
    "CartPole-v0": "use CartPole-v1 with max_steps 200",
}


@cache  # their tables take 25 and 45 ms to build; reset() leaves nothing of an earlier episode
def _taxi() -> Any:
    from gymnasium.envs.toy_text.taxi import TaxiEnv

    return TaxiEnv()


@cache
def _cliff() -> Any:
    from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv

    return CliffWalkingEnv(is_slippery=True)


def _exact(kind: type) -> type:
    """kind, but its step computes sine and cosine by exact.py. kind itself stays as it is."""
    step: Any = vars(kind)["step"]
    names = {**step.__globals__, "np": ExactNumpy(), "math": ExactMath()}
    return type(kind.__name__, (kind,), {"step": FunctionType(step.__code__, names, "step")})


def _uphill(state: Any) -> int:
    return 2 if state[1] >= 0 else 0


def _balancing(state: Any) -> int:
    place, speed, angle, turning = (float(value) for value in state)
    return 1 if 0.02 * place + 0.1 * speed + angle + 0.3 * turning > 0 else 0


def _steered(env: Any, policy: Callable[[Any], int], steps: int) -> list[int]:
    """The actions of a policy until the episode ends, `steps` at most."""
    actions = []
    for _ in range(steps):
        actions.append(policy(env.state))
        if env.step(actions[-1])[2]:
            break
    return actions


def _drawn(chances: list[float], roll: float) -> int:
    """What Gymnasium's categorical_sample picks: the first whose cumulative chance is over roll."""
    total = 0.0
    for place, chance in enumerate(chances):
        total += chance
        if total > roll:
            return place
    return 0


def _shortest(table: Any, start: int) -> list[int]:
    """The fewest actions to a rewarded end, in a world without chance (env.P)."""

    def moves(state: int) -> list[tuple[int, int, float, bool]]:
        found = []
        for action in sorted(table[state]):
            ((_, after, reward, done),) = table[state][action]
            found.append((int(action), int(after), float(reward), bool(done)))
        return found

    return _search(start, moves, lambda reward, done: done and reward > 0)


def _search(start: Any, moves: Callable[[Any], Any], wins: Callable[[float, bool], bool]) -> Any:
    """Breadth first. ValueError where no win can be reached. Falls (reward -100) are not taken."""
    before: dict[Any, tuple[Any, int]] = {start: (start, -1)}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for action, after, reward, done in moves(node):
            if wins(reward, done):
                actions = [action]
                while node != start:
                    node, action = before[node]
                    actions.append(action)
                return actions[::-1]
            if not done and reward > -100 and after not in before:
                before[after] = (node, action)
                queue.append(after)
    raise ValueError("no win can be reached")
