"""Games known by their rules alone: traces from self-play, checked without any human game.

    ask "move"   a position; the answer is a move, right if it keeps the position's exact value
    ask "game"   a position; the answer is a whole game from there, as a JSON list of the moves of
                 both sides, right if every one is legal, the game is over, and no move gave
                 anything away

Positions come from random play (`opening` moves of it), so that both sides get theirs. Those in
which every move is as good as any other are not asked.
"""

from __future__ import annotations

import json
from random import Random
from typing import Annotated, Any, Final, Literal

from pydantic import Field, JsonValue, ValidationError

from marketplace.gym.source import Entry, Explained, Source, UnreadableAnswer
from marketplace.gym.worlds.games import GAMES, Move, Solver, State, opening
from marketplace.protocol import strict_json
from marketplace.protocol.errors import SpecError

MAX_MOVES: Final = 64


class GameSource(Source):
    """Positions of a game. opening: how many random moves lead there, at most."""

    kind: Literal["game"]
    game: Literal["tic_tac_toe", "connect_four", "nim"]
    ask: Literal["move", "game"]
    opening: Annotated[int, Field(ge=0, le=12)] = 4
    config: dict[str, JsonValue] = Field(default_factory=dict)

    def open(self) -> GameTasks:
        return GameTasks(self)


class GameTasks:
    """A TaskSource over one game. SpecError for a config that the game refuses."""

    def __init__(self, source: GameSource) -> None:
        try:
            game: Any = GAMES[source.game].model_validate_json(json.dumps(source.config))
        except ValidationError as error:
            said = error.errors(include_url=False)[0]
            raise SpecError(
                f"game {source.game!r} refuses config {json.dumps(source.config)}: "
                f"{'.'.join(map(str, said['loc']))} {said['msg'].removeprefix('Value error, ')}"
            ) from None
        self.game = game
        self.solver = Solver(game)
        # Most of the solving, once and here: no single check is to pay for it.
        self.solver.best(game.start(Random(0)))
        self._whole = source.ask == "game"
        self._opening = source.opening

    def position(self, number: int) -> State:
        """The position of a 64-bit number. ValueError for one in which nothing can go wrong."""
        rng = Random(number)
        state = opening(self.game, rng, rng.randint(0, self._opening))
        if len(self.solver.best(state)) == len(self.game.moves(state)):
            raise ValueError("every move is as good as any other")
        return state

    def draw(self, number: int) -> Entry:
        """The task of a 64-bit number. Errors as `position`."""
        state = self.position(number)
        asked = (
            "Play the game from here to its end for both sides, without giving anything away. Give "
            "all moves as a JSON list."
            if self._whole
            else "Give a move that loses nothing of what the player to move can get at best."
        )
        moves = self._perfect(state)
        answer = json.dumps(moves if self._whole else moves[0])
        question = f"{self.game.rules}\n{self.game.shown(state)}\n{asked}"
        return Entry(question, answer, {"number": number})

    def score(self, answer: str, entry: Entry) -> object:
        """1 where nothing was given away, else 0."""
        try:
            told = strict_json.loads(answer, depth=2)
        except ValueError as error:
            raise UnreadableAnswer(f"the answer is not JSON: {error}") from None
        state = self.position(entry.raw["number"])
        if not self._whole:
            return self._judged(state, _move(told))
        if not isinstance(told, list) or not told:
            raise UnreadableAnswer("the answer is no JSON list of moves")
        if len(told) > MAX_MOVES:
            raise UnreadableAnswer(f"{len(told)} moves are over {MAX_MOVES}")
        for place, move in enumerate(map(_move, told)):
            judged = self._judged(state, move)
            if judged.score != 1.0:
                return Explained(0.0, f"move {place}: {judged.detail}")
            state = self.game.after(state, move)
        if self.game.result(state) is None:
            return Explained(0.0, f"the game is not over after {len(told)} moves")
        return Explained(
            1.0, f"a whole game of {len(told)} moves, none of which gave anything away"
        )

    def _judged(self, state: State, move: Move) -> Explained:
        legal = self.game.moves(state)
        if not legal:
            return Explained(0.0, "the game is over already")
        if move not in legal:
            return Explained(0.0, f"{_short(move)} is not legal")
        if not self.solver.keeps(state, move):
            return Explained(0.0, f"{_short(move)} gives something away")
        return Explained(1.0, f"{_short(move)} keeps the value {self.solver.value(state)}")

    def _perfect(self, state: State) -> list[Move]:
        moves: list[Move] = []
        while best := self.solver.best(state):
            moves.append(best[0])
            state = self.game.after(state, moves[-1])
        return moves


def _move(told: Any) -> Move:
    """A move: a number or a list of two. UnreadableAnswer for anything else (true is no 1)."""
    numbers = told if isinstance(told, list) else [told]
    if not 1 <= len(numbers) <= 2 or any(type(number) is not int for number in numbers):
        raise UnreadableAnswer(f"{_short(told)} is no move")
    return told


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
