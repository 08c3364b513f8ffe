"""The author's guide's commands, run as a new author would paste them: from nothing to a bounty on
an environment of one's own, with a real chain, every command a process of its own."""

from __future__ import annotations

import json

from story import ROOT, commands, free_port, run_story


def test_an_author_publishes_in_fifteen_minutes(tmp_path):
    blocks = commands("docs/environments.md")
    assert len(blocks) == 6
    site = tmp_path / "site"
    run_story(
        tmp_path,
        "\n".join(blocks).replace("8545", free_port()),
        """
        tracemarket env check days --json > days.json
        tracemarket env list --json > listed.json
        tracemarket bounty show "$BOUNTY" --json > bounty.json
        """,
        {
            "PYTHONPATH": f"{site}:{ROOT}",
            # The author's package goes beside the tests, not into this environment, and needs
            # no network.
            "PIP_TARGET": str(site),
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
    )

    checked = json.loads((tmp_path / "days.json").read_text())
    assert checked["passed"]
    assert checked["checks_per_second"] > 1
    listed = json.loads((tmp_path / "listed.json").read_text())
    assert [one["name"] for one in listed] == ["days", "squares"]
    bounty = json.loads((tmp_path / "bounty.json").read_text())
    assert bounty["environment"] == listed[0]["id"]
    assert bounty["available"] == str(20 * 10**6)
