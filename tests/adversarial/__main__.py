"""python tests/adversarial [--trials N] [--only NAME ...] [--json FILE] [--table FILE ...]"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from arena import VERIFIERS, Arena
from attack_rows import ROWS
from matrix import TUSD, Ruling, markdown, run_row, write_json

from marketplace.chain.anvil import AnvilNode
from marketplace.chain.parameters import STANDARD
from marketplace.gym.pool import CheckPool


def main() -> int:
    parser = argparse.ArgumentParser(description="Play the attack matrix.")
    parser.add_argument("--trials", type=int, default=20, help="most trials of a row")
    parser.add_argument("--only", nargs="*", default=[], help="names of rows")
    parser.add_argument("--json", type=Path, default=Path("build/attacks.json"))
    parser.add_argument("--table", type=Path, action="append", default=[], help="Markdown files")
    options = parser.parse_args()
    if unknown := set(options.only) - {row.name for row in ROWS}:
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    chosen = [row for row in ROWS if not options.only or row.name in options.only]
    results, surprises = [], 0
    with AnvilNode() as node, CheckPool(workers=1) as pool:
        arena = Arena(node, pool=pool)
        for row in chosen:
            started = time.monotonic()
            result = run_row(arena, row, min(options.trials, row.trials))
            results.append(result)
            surprise = result.ruling is not row.expected
            surprises += surprise
            print(
                f"{result.name:32} {result.caught:3}/{result.trials:<3}"
                f" cost {result.cost / TUSD:9.2f} gain {result.gain / TUSD:8.2f}"
                f" harm {result.harm / TUSD:7.2f}"
                f" {result.ruling:12} {time.monotonic() - started:6.1f} s"
                + (f"  EXPECTED {row.expected}" if surprise else ""),
                flush=True,
            )
    about = {"preset": STANDARD.name, "verifiers": VERIFIERS, "trials": options.trials}
    write_json(options.json, results, about)
    for path in options.table or [options.json.with_suffix(".md")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown(results, about), "utf-8")
    opened = [one.title for one in results if one.ruling is Ruling.OPEN]
    print(f"{len(results)} rows, {len(opened)} open: {'; '.join(opened) or 'none'}")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
