"""Add up what the actions of a deep run did; exit code 1 where one never succeeded or runs lack.

python tests/solidity/deep_report.py <actions.txt> <runs> <calls a run>
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

ACTIONS: Final = Path(__file__).parent / "support" / "Actions.sol"


def actions(source: str) -> list[str]:
    body = re.search(r"enum Action \{([^}]*)\}", source)
    if body is None:
        raise ValueError("Actions.sol has no enum Action")
    return re.findall(r"\w+", body[1])


def totals(text: str, names: list[str]) -> tuple[int, dict[str, int]]:
    """The number of runs, and for each action how often it did something in all of them.

    text: a line a run, a count for each action, in the enum's order.
    """
    # Hardhat ends the last run twice, so equal lines count once.
    lines = dict.fromkeys(text.splitlines())
    rows = [[int(count) for count in line.split()] for line in lines]
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"a line doesn't have {len(names)} counts")
    return len(rows), {name: sum(row[i] for row in rows) for i, name in enumerate(names)}


def main(file: str, wanted_runs: int, depth: int) -> int:
    runs, counts = totals(Path(file).read_text(), actions(ACTIONS.read_text()))
    for name, count in counts.items():
        print(f"{count:>10,}  {name}")
    print(f"{runs * depth:>10,}  handler calls in {runs:,} runs")
    never = [name for name, count in counts.items() if count == 0]
    if never:
        print(f"never succeeded: {', '.join(never)}")
    if runs < wanted_runs:
        print(f"only {runs} of {wanted_runs} runs ended")
    return 1 if never or runs < wanted_runs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
