"""The quick demo as its user runs it: it must end well, and its report must add up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE_MODEL = ROOT / "build" / "models" / "smollm2-135m"


@pytest.mark.model
def test_the_quick_demo_and_its_report(tmp_path):
    out = tmp_path / "demo"
    command = [Path(sys.executable).parent / "tracemarket", "demo", "--quick", "--out", out]
    done = subprocess.run(
        [*command, "--base-model", BASE_MODEL], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "too small to show a gain" in done.stderr
    assert not (out / "work").exists()  # gigabytes are not left behind
    assert "data:image/svg+xml" in (out / "report.html").read_text("utf-8")

    report = json.loads((out / "report.json").read_text("utf-8"))
    money = {
        name: int(report["money"][name])
        for name in ("funded", "forfeited", "paid", "fees", "refunded", "still_held", "difference")
    }
    assert money["funded"] == 80 * 10**6
    assert money["funded"] + money["forfeited"] == (
        money["paid"] + money["fees"] + money["refunded"] + money["still_held"]
    )
    assert money["difference"] == 0
    assert money["still_held"] == 0
    # Everybody has left with what was theirs: what stays is the pool, made of penalties.
    pool = int(report["pool"]["units"])
    assert report["ledger_still_holds"] == str(pool)
    assert report["pool"]["penalties"] == str(pool)
    # What one gains another pays, or the pool has it: no token is made or lost on the way.
    assert sum(int(person["gained"]) for person in report["people"]) == -pool

    assert money["paid"] == report["totals"]["units_paid"] * 10**4
    assert [turn["parent"] for turn in report["turns"]] == [1, 2, 3]
    assert [turn["checkpoint"] for turn in report["turns"]] == [2, 3, 4]
    assert report["heldout"]["heldout_questions_sold"] == 0
    assert report["heldout"]["questions_sold"] > 50
    assert {lie["kind"] for lie in report["lies"]} == {
        "copies answers",
        "tampers prompts",
        "claims scores",
    }
    for lie in report["lies"]:
        assert lie["faults"] > 0
        assert int(lie["net"]) < 0
    assert report["gas"]["settle"]["calls"] == 6
    assert set(report["seconds"]) >= {"mine", "check and settle", "train", "evaluate", "whole run"}
