"""Each recipe that ships runs from end to end, cut down to a tiny model and a few groups."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from marketplace.cli.main import main
from trainer.recipe import load_recipe

TINY = {
    "v": 1,
    "name": "tiny",
    "source": {
        "kind": "reasoning_gym",
        "task": "chain_sum",
        "config": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    },
    "answer": {"kind": "whole"},
    "scoring": {"kind": "exact"},
    "sampling": {"temperature": 1.0, "max_tokens": 3, "stop": ["\n", "1", "2", "3", "4"]},
    "holdout_ppm": 300_000,
    "packages": {"reasoning-gym": "0.1.25"},
}


def _cut_down(text: str) -> str:
    """The recipe with a few groups and turns. A random model is never right, so the form of an
    answer is rewarded: else no group would say anything."""
    text = re.sub(r"^groups = \d+", "groups = 8", text, flags=re.M)
    text = re.sub(r"^turns = \d+", "turns = 1", text, flags=re.M)
    text = re.sub(r"^group_size = (?:8|16)$", "group_size = 4", text, flags=re.M)
    text = text.replace("[settings]\n", "[settings]\ntoken_budget = 1024\n", 1)
    if "binary = true" in text:
        if "format" not in text.split("binary = true")[1]:
            text = text.replace("binary = true", "binary = true\nformat = 0.5\nlanguage = 0.5")
        return text
    return text + "[stages.reward]\nformat = 0.5\n"


@pytest.mark.deep
@pytest.mark.parametrize("name", ["r1-zero", "r1", "alphazero", "experts"])
def test_a_recipe_runs(name, tmp_path, monkeypatch, capsys):
    from tiny_policy import tiny_policy

    monkeypatch.chdir(tmp_path)
    policy = tiny_policy(0, context=1024)
    policy.model.save_pretrained("base")
    policy.tokenizer.save_pretrained("base")
    Path("tiny.json").write_text(json.dumps(TINY), "utf-8")
    shipped = Path(load_recipe.__code__.co_filename).parent / "recipes" / f"{name}.toml"
    Path("cut.toml").write_text(_cut_down(shipped.read_text("utf-8")), "utf-8")
    words = ["train", "--recipe", "cut.toml", "--local", "--model", "base", "--out", "out"]
    words += ["--evaluate", "0", "--metrics", "jsonl"]
    if name != "alphazero":
        words += ["--environment", "tiny.json"]
    monkeypatch.setattr(sys, "argv", ["tracemarket", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    report = json.loads(Path("out.run", "report.json").read_text())
    stages = load_recipe("cut.toml").stages
    assert {turn["stage"] for turn in report["turns"]} == {stage.name for stage in stages}
    assert all(turn["steps"] for turn in report["turns"])
    made = Path("out", "tiny") if name == "experts" else Path("out")
    wanted = "adapter_model.safetensors" if name == "experts" else "model.safetensors"
    assert (made / wanted).is_file()
