"""Games of two, known by their rules alone, on boards small enough to be solved.

A state is hashable and says whose turn it is. `result` is seen by the player to move: -1 lost, 0
drawn, 1 won. No game here passes a turn, so values are negamax.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from random import Random
from typing import Annotated, Any, ClassVar, Final, Protocol

from pydantic import Field, model_validator

from marketplace.gym.source import Part

State = Any
Move = Any

MARKS: Final = "XO"


class Game(Protocol):
    """The rules of a game. Moves are JSON values: a number, or a list of numbers."""

    @property
    def rules(self) -> str:
        """The rules as text, with the form of a move."""
        ...

    def start(self, rng: Random) -> State:
        """A first state."""
        ...

    def moves(self, state: State) -> list[Move]:
        """The legal moves, in a fixed order; none where the game is over."""
        ...

    def after(self, state: State, move: Move) -> State:
        """The state after a legal move."""
        ...

    def result(self, state: State) -> int | None:
        """None while the game goes on."""
        ...

    def shown(self, state: State) -> str:
        """The state as text."""
        ...


class Board(Part):
    """Boards of columns and rows on which a row of equal marks wins.

    A state is (own, other, player): the cells of the player to move and of the other one, as bits
    (bit 0 is the upper left cell, then row by row), and whose turn it is.
    """

    def _size(self) -> tuple[int, int, int]:
        """Columns, rows, and how many in a row win."""
        return 3, 3, 3

    def start(self, rng: Random) -> tuple[int, int, int]:
        return 0, 0, 0

    def after(self, state: tuple[int, int, int], move: int) -> tuple[int, int, int]:
        own, other, player = state
        return other, own | self._cell(own | other, move), 1 - player

    def result(self, state: tuple[int, int, int]) -> int | None:
        """The one who moved last may have won; the one to move can't have."""
        own, other, _ = state
        lines, full = _lines(*self._size())
        for line in lines:
            if other & line == line:
                return -1
        return 0 if own | other == full else None

    def moves(self, state: tuple[int, int, int]) -> list[int]:
        if self.result(state) is not None:
            return []
        taken = state[0] | state[1]
        return [move for move in range(self._choices()) if not taken >> move & 1]

    def shown(self, state: tuple[int, int, int]) -> str:
        own, other, player = state
        columns, rows, _ = self._size()
        marks = [
            MARKS[player] if own >> cell & 1 else MARKS[1 - player] if other >> cell & 1 else "."
            for cell in range(columns * rows)
        ]
        lines = (marks[i : i + columns] for i in range(0, len(marks), columns))
        return "\n".join(map("".join, lines)) + f"\n{MARKS[player]} is to move."

    def _choices(self) -> int:
        """How many moves there are; one can be made while the cell of its number is empty."""
        columns, rows, _ = self._size()
        return columns * rows

    def _cell(self, taken: int, move: int) -> int:
        return 1 << move


class TicTacToe(Board):
    """Tic-tac-toe."""

    rules: ClassVar[str] = (
        "Tic-tac-toe on three by three cells: X and O take turns, three in a row, column or "
        "diagonal win. A move is the number of an empty cell: 0 to 8, row by row from the top."
    )


class ConnectFour(Board):
    """Connect four on a small board: at most 16 cells, so that it can be solved in seconds."""

    columns: Annotated[int, Field(ge=3, le=5)] = 4
    rows: Annotated[int, Field(ge=3, le=5)] = 4
    connect: Annotated[int, Field(ge=3, le=4)] = 3

    @model_validator(mode="after")
    def _can_be_solved(self) -> ConnectFour:
        if self.columns * self.rows > 16:
            raise ValueError(f"{self.columns} by {self.rows} cells are over 16")
        return self

    @property
    def rules(self) -> str:
        return (
            f"Connect {self.connect} on {self.columns} columns and {self.rows} rows: X and O "
            "take turns to drop a stone into a column, where it falls to the lowest empty cell. "
            f"{self.connect} in a row, column or diagonal win; a full board is a draw. A move is "
            f"the number of a column that is not full, 0 to {self.columns - 1}."
        )

    def _size(self) -> tuple[int, int, int]:
        return self.columns, self.rows, self.connect

    def _choices(self) -> int:
        return self.columns

    def _cell(self, taken: int, move: int) -> int:
        place = move + self.columns * (self.rows - 1)
        while taken >> place & 1:
            place -= self.columns
        return 1 << place


class Nim(Part):
    """Nim, where who takes the last object wins. A state is (piles, player)."""

    rules: ClassVar[str] = (
        "Nim: two players, X and O, take turns to take one or more objects from one pile. Who "
        "takes the last object wins. A move is [pile, count]; piles count from 0."
    )
    piles: Annotated[int, Field(ge=2, le=4)] = 3
    largest: Annotated[int, Field(ge=2, le=9)] = 7

    def start(self, rng: Random) -> tuple[tuple[int, ...], int]:
        return tuple(rng.randint(1, self.largest) for _ in range(self.piles)), 0

    def moves(self, state: tuple[tuple[int, ...], int]) -> list[list[int]]:
        return [[pile, count] for pile, size in enumerate(state[0]) for count in range(1, size + 1)]

    def after(
        self, state: tuple[tuple[int, ...], int], move: list[int]
    ) -> tuple[tuple[int, ...], int]:
        piles = list(state[0])
        piles[move[0]] -= move[1]
        return tuple(piles), 1 - state[1]

    def result(self, state: tuple[tuple[int, ...], int]) -> int | None:
        return None if any(state[0]) else -1

    def shown(self, state: tuple[tuple[int, ...], int]) -> str:
        piles = ", ".join(map(str, state[0]))
        return f"The piles hold {piles} objects.\n{MARKS[state[1]]} is to move."


class Solver:
    """Exact values of a game's states, by looking at everything that can follow."""

    def __init__(self, game: Game) -> None:
        self._game = game
        self._values: dict[Hashable, int] = {}

    def value(self, state: State) -> int:
        """What the player to move gets if both play as well as can be: -1, 0 or 1."""
        known = self._values.get(state)
        if known is not None:
            return known
        result = self._game.result(state)
        if result is None:
            result = -1
            for move in self._game.moves(state):
                result = max(result, -self.value(self._game.after(state, move)))
                if result == 1:
                    break
        self._values[state] = result
        return result

    def keeps(self, state: State, move: Move) -> bool:
        """Whether a legal move loses nothing of the state's value."""
        return -self.value(self._game.after(state, move)) == self.value(state)

    def best(self, state: State) -> list[Move]:
        """The moves that keep the value."""
        return [move for move in self._game.moves(state) if self.keeps(state, move)]


def opening(game: Game, rng: Random, moves: int) -> State:
    """The state after some random legal moves. ValueError if the game ends before."""
    state = game.start(rng)
    for _ in range(moves):
        possible = game.moves(state)
        if not possible:
            raise ValueError("the game ended in its opening")
        state = game.after(state, rng.choice(possible))
    if game.result(state) is not None:
        raise ValueError("the game ended in its opening")
    return state


GAMES: Final[dict[str, type[Part]]] = {
    "tic_tac_toe": TicTacToe,
    "connect_four": ConnectFour,
    "nim": Nim,
}


@cache
def _lines(columns: int, rows: int, connect: int) -> tuple[list[int], int]:
    """The winning lines and the full board, as bits."""
    found = []
    for row in range(rows):
        for column in range(columns):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                cells = [(row + k * down, column + k * right) for k in range(connect)]
                if all(0 <= r < rows and 0 <= c < columns for r, c in cells):
                    found.append(sum(1 << r * columns + c for r, c in cells))
    return found, (1 << columns * rows) - 1
