"""Reports are one file without outside resources, and say what the numbers say."""

from __future__ import annotations

import json
import re

import pytest

from marketplace.protocol.errors import CheckpointError
from trainer import plots
from trainer.card import Ancestor, Origin, check_evaluations, check_record, model_card
from trainer.curves import compare, evaluation_record
from trainer.evaluate import Evaluation
from trainer.measured import read_evaluations, write_evaluation
from trainer.report import evaluation_page, run_page, spending_rows, write_report

BEFORE = Evaluation(
    ((1.0, 0.0, 0.0, 0.0),) * 9 + ((0.0,) * 4,) * 2, ((0, 1, 2, 3),) * 9 + ((0, 0, 1, -1),) * 2
)
AFTER = Evaluation(
    ((1.0, 1.0, 1.0, 0.0),) * 9 + ((0.0,) * 4,) * 2, ((0, 0, 0, 1),) * 9 + ((0, 0, 1, -1),) * 2
)
STEP = {
    "loss": 0.1,
    "grad_norm": 1.0,
    "effective_share": 0.9,
    "kl_quantiles": [0.0, 0.1, 0.2],
    "masked": {"clipped": 0.05},
    "mean_length": 7.5,
    "mean_score": 0.4,
}


def _evaluated():
    return {
        "environment": "sums <b>",
        "before": evaluation_record(BEFORE),
        "after": evaluation_record(AFTER),
        "comparison": compare(BEFORE, AFTER).plain(),
        "over_turns": [
            {"turn": turn, "value": value, "standard_error": 0.02}
            for turn, value in enumerate((0.2, 0.4, 0.6))
        ],
    }


def _report(**changes):
    turn = {
        "turn": 1,
        "stage": "rl",
        "environment": "sums",
        "traces": 16,
        "groups": 4,
        "mean_score": 0.4,
        "mean_tokens": 7.5,
        "steps": [STEP, STEP],
        "stopped_early": False,
    }
    rows = spending_rows({1: 2.0, 2: 1.0}, {0: 0.2, 1: 0.4, 2: 0.6})
    return {
        "title": "a run",
        "dry_run": False,
        "unfinished": None,
        "turns": [turn, {**turn, "turn": 2}],
        "steps": 4,
        "traces": 32,
        "tokens": 240,
        "evaluations": [_evaluated()],
        "money": {"unit": "tUSD", "rows": rows},
        "left_out": {"same score throughout its group": 8},
        "settings": {"learning_rate": 1e-5},
        "packages": {"torch": "2.13.0"},
        **changes,
    }


def test_the_page_of_a_run():
    page = run_page(_report())
    assert "<strong>sharpens</strong>: pass@1 +0.409" in page
    assert "sums &lt;b&gt;" in page  # names come from strangers
    assert "<b>" not in page
    assert not re.search(r'(src|href|srcset)="(?!data:)', page)
    assert "<script" not in page
    assert page.count("prefers-color-scheme: dark") > page.count("<picture>") > 8
    assert "0.0750" in page  # 3 tUSD for 40 points
    assert "tUSD per point" in page


def _rolled_back():
    """The second of three turns was not kept."""
    report = _report()
    first, second = report["turns"]
    turns = [
        {**first, "checkpoint": 2, "parent": 1},
        {**second, "checkpoint": 2, "parent": 2, "rolled_back": True},
        {**second, "turn": 3, "checkpoint": 3, "parent": 2},
    ]
    evaluated = _evaluated()
    evaluated["over_turns"] = [
        {"turn": turn, "value": value, "standard_error": 0.02, "rolled_back": turn == 2}
        for turn, value in enumerate((0.2, 0.4, 0.1, 0.6))
    ]
    rows = spending_rows({1: 2.0, 2: 1.0, 3: 1.0}, {0: 0.2, 1: 0.4, 3: 0.6})
    return {
        **report,
        "turns": turns,
        "evaluations": [evaluated],
        "money": {"unit": "tUSD", "rows": rows},
    }


@pytest.fixture
def drawn(monkeypatch):
    """What the plots are asked for, in place of drawing them (test_run_plots.py draws)."""
    asked = []
    for name in ("accuracy_plot", "spending_plot", "steps_plot", "curves_plot"):

        def draw(*values, name=name, **options):
            asked.append((name, values, options))
            return b"<svg/>"

        monkeypatch.setattr(plots, name, draw)
    return asked


def test_turns_that_were_rolled_back_are_marked(drawn):
    page = run_page(_rolled_back())
    assert "1 of 3 turns was rolled back" in page
    assert '<tr class="lost"><td>2</td>' in page
    assert "rolled back to 2" in page
    assert "checkpoint 3" in page
    assert '<tr class="lost"><td>2, rolled back</td>' in page
    assert page.count('class="lost"') == 2
    assert 'class="lost"' not in run_page(_report())


def test_plots_mark_them_too(drawn):
    run_page(_rolled_back())
    accuracy = next(one for one in drawn if one[0] == "accuracy_plot")
    assert accuracy[1][0] == [0.2, 0.4, 0.6]
    assert (accuracy[2]["turns"], accuracy[2]["lost"]) == ([0, 1, 3], [(2, 0.1, 0.02)])
    spending = next(one for one in drawn if one[0] == "spending_plot")
    assert spending[1][0] == [0.0, 2.0, 4.0]
    assert spending[2]["lost"] == [(3.0, 0.1, 0.02)]
    assert all(one[2]["lost"] == [(3, 4)] for one in drawn if one[0] == "steps_plot")


def test_parts_that_there_are_not():
    page = run_page(
        _report(money=None, turns=[], evaluations=[], dry_run=True, unfinished="1 of 2 turns done")
    )
    assert "<picture>" not in page
    for said in ("A dry run", "Not finished: 1 of 2", "Nothing was evaluated"):
        assert said in page
    assert "per point" not in page


def test_evaluations_alone(tmp_path):
    alone = {"environment": "sums", "after": evaluation_record(BEFORE)}
    page = evaluation_page("checkpoint 1", [alone])
    assert "maj@k" in page
    assert page == evaluation_page("checkpoint 1", [alone])  # the same data give the same bytes
    assert "gain" not in re.sub(r"gains are paired", "", page)
    write_report(_report(turns=[], evaluations=[], money=None), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["steps"] == 4


def test_money_for_points():
    rows = spending_rows({1: 5.0, 2: 5.0, 3: 2.0}, {0: 0.5, 1: 0.4, 3: 0.6})
    assert [row["total"] for row in rows] == [5.0, 10.0, 12.0]
    assert rows[0]["points"] == pytest.approx(-10)
    assert [row["per_point"] for row in rows[:2]] == [None, None]
    assert rows[1]["points"] is None
    assert rows[2]["per_point"] == pytest.approx(1.2)


def test_evaluations_are_kept_with_the_checkpoint(tmp_path):
    folder = tmp_path / "bafy"
    folder.mkdir()
    record = evaluation_record(BEFORE, seed=1)
    assert write_evaluation(folder, "0xaa", record) == folder / "evaluation.json"
    assert read_evaluations(folder) == {"0xaa": record}
    # Published: what lies inside is fixed by the CID, and is the trainer's claim.
    (folder / "manifest.json").write_text("{}")
    assert read_evaluations(folder, claims=False) == {}
    ours = evaluation_record(AFTER, seed=2)
    assert write_evaluation(folder, "0xaa", ours) == tmp_path / "bafy.evaluation.json"
    assert read_evaluations(folder) == {"0xaa": ours}
    assert json.loads((folder / "evaluation.json").read_text())["environments"]["0xaa"] == record
    (tmp_path / "bafy.evaluation.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no record of evaluations"):
        read_evaluations(folder)


def test_model_card():
    origin = Origin(
        chain_id=31337,
        market="0xmarket",
        chain=[
            Ancestor(2, "bafychild", "0xtrainer", "0xroot"),
            Ancestor(1, "bafybase", "0xt", None),
        ],
        bounties=[4],
        environments={"0xaa": "sums"},
    )
    record = {
        "dataset": {
            "root": "0xroot",
            "batches": [{}],
            "traces": 64,
            "skipped": {"fault": 2, "copy": 3},
        },
        "settings": {"learning_rate": 1e-5},
        "metrics": {"dropped": {"copy": 4}},  # the same reason, found later
        "packages": {"torch": "2.13.0"},
    }
    found = {"0xaa": evaluation_record(AFTER, seed=3, environment_name='a "name": x')}
    card = model_card(origin, record, found, measured=False)
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert '      name: "a \\"name\\": x"' in card  # a name can't break out of the YAML
    assert "| 1 | `bafybase` | none (a base model) |" in card
    assert "Claimed by the trainer" in card
    assert "| 1 | 0.614 ± 0.091 | 0.614 ± 0.091 |" in card
    assert "- left out, copy: 7\n- left out, fault: 2" in card
    assert "## Licence" in card
    # A trainer's own words stay one line of text.
    sneaky = {**record, "settings": {"a": "b |\n\n## Licence\n\nMIT <script>"}}
    card = model_card(origin, sneaky, found, measured=False)
    assert "| a | b \\| \\#\\# Licence MIT \\<script\\> |" in card
    assert card.count("\n## Licence\n") == 1
    base = model_card(
        Origin(1, "0xm", [Ancestor(1, "b", "0xt", None)], [], {}), None, {}, measured=True
    )
    assert "trained on no traces" in base
    assert "None is known." in base
    with pytest.raises(CheckpointError, match="settings is 3"):
        check_record({"settings": 3})


def test_a_card_of_a_strangers_records():
    """Whoever trained a checkpoint wrote its records: no word of theirs makes a heading, and what
    is no such record is refused, by name."""
    one = evaluation_record(AFTER, seed=3)
    for record, said in (
        ({"dataset": {"batches": [{"batch": "1"}]}}, "dataset.batches.0.batch is '1'"),
        ({"dataset": {"skipped": [1]}}, "dataset.skipped is"),
        ({"metrics": {"dropped": 5}}, "metrics.dropped is 5"),
        ({"dataset": {"traces": "1\n# Heading"}}, "dataset.traces is"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(f"training.json: {said}")):
            check_record(record)
    for found, said in (
        ({}, "0xaa.tasks is"),
        (
            one | {"pass": [{"k": 1, "value": "x", "standard_error": 0.1}]},
            "0xaa.pass.0.value is 'x'",
        ),
        (one | {"majority": []}, "'0xaa' has 3 points of pass@k and 0 of maj@k"),
    ):
        with pytest.raises(CheckpointError, match=re.escape(f"evaluation.json: {said}")):
            check_evaluations({"0xaa": found})
    hostile = {"dataset": {"skipped": {"x |`\n# Heading": 1}}, "settings": {"<b>\n# Heading": 2}}
    origin = Origin(1, "0xm", [Ancestor(1, "b", "0xt", "0xr")], [1], {"0xaa": "y\n# Heading"})
    card = model_card(
        origin,
        check_record(hostile),
        check_evaluations({"0xaa": one | {"environment_name": "z\n# Heading"}}),
        measured=True,
    )
    assert "\n# Heading" not in card
    assert "- left out, x \\|\\` \\# Heading: 1" in card
    assert "<b>" not in card
