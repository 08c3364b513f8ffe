"""A player that learns a game from its rules alone, by playing against itself.

The smallest thing that deserves the name: a table of how positions turned out, for whoever was to
move, and play that prefers what turned out badly for the other side. It shows that a miner needs no
human games: its own, played for both sides, become good enough to be sold.

    player = TablePlayer(tasks.game, Random(1))
    player.learn(2000)
    moves = player.play(position)     # a whole game from there: the answer to ask "game"
"""

from __future__ import annotations

from collections.abc import Hashable
from random import Random

from marketplace.gym.worlds.games import Game, Move, State


class TablePlayer:
    """explore: share of random moves while learning."""

    def __init__(self, game: Game, rng: Random, *, explore: float = 0.3) -> None:
        self._game = game
        self._rng = rng
        self._explore = explore
        self._values: dict[Hashable, float] = {}

    def learn(self, games: int) -> None:
        """Plays whole games from the first state, both sides, and remembers how they ended."""
        for _ in range(games):
            state = self._game.start(self._rng)
            path = [state]
            while moves := self._game.moves(state):
                explores = self._rng.random() < self._explore
                state = self._game.after(
                    state, self._rng.choice(moves) if explores else self.move(state)
                )
                path.append(state)
            for state in reversed(path):  # from the end, so that each state sees what follows
                self._values[state] = self._backed_up(state)

    def move(self, state: State) -> Move:
        """The move after which the other side fared worst so far; among equals, any."""
        scored = [
            (-self._values.get(self._game.after(state, move), 0.0), self._rng.random(), move)
            for move in self._game.moves(state)
        ]
        return max(scored, key=lambda one: one[:2])[2]

    def play(self, state: State) -> list[Move]:
        """The moves of a game from here to its end, both sides."""
        moves = []
        while self._game.moves(state):
            moves.append(self.move(state))
            state = self._game.after(state, moves[-1])
        return moves

    def _backed_up(self, state: State) -> float:
        result = self._game.result(state)
        if result is not None:
            return float(result)
        return max(
            -self._values.get(self._game.after(state, move), 0.0)
            for move in self._game.moves(state)
        )
