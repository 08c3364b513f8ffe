"""Games by their rules alone: solved exactly, fed by self-play."""

from __future__ import annotations

import json
from functools import reduce
from operator import xor
from random import Random
from typing import Any

import pytest

from marketplace.gym.source import UnreadableAnswer
from marketplace.gym.sources.game import GameSource, GameTasks
from marketplace.gym.worlds.games import MARKS, ConnectFour, Nim, Solver, TicTacToe, opening
from marketplace.miner.self_play import TablePlayer
from marketplace.protocol.errors import SpecError


def tasks(game: str, ask: str = "move", **more: Any) -> GameTasks:
    record = {"kind": "game", "game": game, "ask": ask, **more}
    return GameSource.model_validate_json(json.dumps(record)).open()


def scored(opened: GameTasks, answer: object, number: int) -> tuple[float, str]:
    judged: Any = opened.score(json.dumps(answer), opened.draw(number))
    return judged.score, judged.detail


def test_values_are_the_known_ones() -> None:
    start = TicTacToe().start(Random(0))
    assert Solver(TicTacToe()).value(start) == 0
    game = Nim(piles=3, largest=5)
    solver = Solver(game)
    for piles in ((1, 2, 3), (1, 1), (4, 4, 1), (5, 3, 2), (2,)):
        assert solver.value((piles, 0)) == (1 if reduce(xor, piles) else -1)  # Bouton 1901
    # X has two in a row and the move: it wins, and only by completing them.
    own, other = 0b000000011, 0b000011000
    solver_of_three = Solver(TicTacToe())
    assert solver_of_three.value((own, other, 0)) == 1
    assert solver_of_three.best((own, other, 0)) == [2]


def test_stones_fall_and_lines_win_in_all_directions() -> None:
    game = ConnectFour()
    state = game.start(Random(0))
    for column in (0, 0, 1, 0, 2):  # X fills the lowest row's first three
        assert game.result(state) is None
        state = game.after(state, column)
    assert game.shown(state) == "....\nO...\nO...\nXXX.\nO is to move."
    assert game.result(state) == -1
    assert game.moves(state) == []
    for moves in ((0, 1, 0, 1, 0), (0, 1, 1, 2, 2, 3, 2), (3, 2, 2, 1, 1, 0, 1)):
        state = reduce(game.after, moves, game.start(Random(0)))
        assert game.result(state) == -1, moves
    full = reduce(game.after, [0, 0, 0, 0], game.start(Random(0)))
    assert 0 not in game.moves(full)


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four", "nim"])
def test_a_move_is_right_exactly_if_it_keeps_the_value(name: str) -> None:
    opened = tasks(name)
    for number in range(40):
        try:
            state = opened.position(number)
        except ValueError:
            continue
        value = opened.solver.value(state)
        for move in opened.game.moves(state):
            after = -opened.solver.value(opened.game.after(state, move))
            assert scored(opened, move, number)[0] == float(after == value)


def test_illegal_moves_and_broken_off_games_earn_nothing() -> None:
    opened = tasks("nim", "game", opening=1)
    number = next(n for n in range(50) if _is_task(opened, n))
    right = json.loads(opened.draw(number).answer)
    assert scored(opened, right, number) == (
        1.0,
        f"a whole game of {len(right)} moves, none of which gave anything away",
    )
    cases: list[tuple[Any, str]] = [
        (right[:-1], f"the game is not over after {len(right) - 1} moves"),
        ([*right, [0, 1]], f"move {len(right)}: the game is over already"),
        ([[0, 0], *right], r"move 0: [0, 0] is not legal"),
        ([[-1, 1], *right], r"move 0: [-1, 1] is not legal"),
        ([5, *right], r"move 0: 5 is not legal"),
    ]
    for answer, said in cases:
        assert scored(opened, answer, number) == (0.0, said)
    worse = next(
        move
        for move in opened.game.moves(opened.position(number))
        if not opened.solver.keeps(opened.position(number), move)
    )
    assert scored(opened, [worse], number)[1].endswith("gives something away")


JUNK = ["", "x", "[]", "true", "1.0", '"0"', "null", "{}", "[[0]]", "[true, 1]", "[0, 1, 2]"]
HOSTILE = ["[" * 50_000, "9" * 5000, "[" + "[0,1]," * 9000 + "[0,1]]", "NaN", "[[0, 1], null]"]


@pytest.mark.parametrize("ask", ["move", "game"])
def test_junk_is_never_paid(ask: str) -> None:
    opened = tasks("tic_tac_toe", ask)
    number = next(n for n in range(50) if _is_task(opened, n))
    for text in [*JUNK, *HOSTILE]:
        try:
            judged: Any = opened.score(text, opened.draw(number))
        except UnreadableAnswer:
            continue
        assert judged.score == 0.0, text


def test_self_play_from_the_rules_alone_learns_to_be_paid() -> None:
    """No human games: a player that begins at random ends with games of both sides that pay."""
    opened = tasks("nim", "game", opening=1)
    player = TablePlayer(opened.game, Random(1))
    numbers = [number for number in range(200) if _is_task(opened, number)]

    def paid() -> float:
        games = [json.dumps(player.play(opened.position(number))) for number in numbers]
        scores: list[Any] = [
            opened.score(game, opened.draw(number))
            for game, number in zip(games, numbers, strict=True)
        ]
        return sum(score.score for score in scores) / len(scores)

    before = paid()
    player.learn(3000)
    assert before < 0.2
    assert paid() > 0.95
    turns = {MARKS[opened.position(number)[-1]] for number in numbers}
    assert turns == {"X", "O"}


def test_boards_too_large_to_solve_are_refused() -> None:
    with pytest.raises(SpecError, match="5 by 5 cells are over 16"):
        tasks("connect_four", config={"columns": 5, "rows": 5})
    with pytest.raises(SpecError, match="largest Input should be less than or equal to 9"):
        tasks("nim", config={"largest": 1000})


def test_openings_are_legal_and_not_over() -> None:
    game = ConnectFour()
    for number in range(200):
        try:
            state = opening(game, Random(number), 6)
        except ValueError:
            continue
        own, other, player = state
        assert player == 0
        assert own & other == 0
        assert (own.bit_count(), other.bit_count()) == (3, 3)
        assert game.result(state) is None


def _is_task(opened: GameTasks, number: int) -> bool:
    try:
        opened.draw(number)
    except ValueError:
        return False
    return True
