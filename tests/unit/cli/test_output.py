"""What strangers wrote, on a terminal: shown, never obeyed."""

from __future__ import annotations

import json
import sys

import pytest

from marketplace.cli import output
from marketplace.cli.main import main
from marketplace.gym.spec import builtin_spec, parse_spec, spec_bytes

HOSTILE = "\x1b]0;owned\x07[/nothing] [red]ok[/red] \x9b2J \u202egnp\U000e0041"


def test_tables_show_what_strangers_wrote(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    output.table("environments", ["name"], [(HOSTILE,)])
    output.facts("an environment", [("name", HOSTILE)])
    said = capsys.readouterr().out
    assert said.count("[/nothing] [red]ok[/red]") == 2
    assert said.count(r"\u001b]0;owned\u0007") == 2
    assert all(char.isprintable() or char == "\n" for char in said)


@pytest.mark.parametrize("width", [20, 80, 200])
def test_hashes_stay_in_one_piece(capsys, monkeypatch, width: int) -> None:
    monkeypatch.setattr(output.out, "_width", width)
    digest, words = "0x" + "ab" * 32, "many words " * 30
    longer = ("a long word", "z" * 300)
    output.facts("a checkpoint", [("identity", digest), ("kept for its holders", words), longer])
    said = capsys.readouterr().out
    assert said.count("z") == 300
    assert digest in said
    assert said.split().count("many") == 30
    assert "\u2026" not in said
    # Whatever else there is keeps to the terminal, or to what the hash needs.
    assert max(map(len, said.splitlines())) <= max(width, 66 + 20 + 8)


def test_env_show_shows_a_strangers_spec(tmp_path, capsys, monkeypatch) -> None:
    spec = json.loads(spec_bytes(builtin_spec("tables")))
    spec["description"] = HOSTILE
    spec["prompt"]["template"] = HOSTILE + "{question}"
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tracemarket", "env", "show", str(file)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in said)
    assert parse_spec(said.split("\n")[0].encode()) == parse_spec(file.read_bytes())
