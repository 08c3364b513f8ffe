"""python tests/adversarial [--trials N] [--only PATTERN ...] [--json FILE] [--table FILE ...]"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from arena import VERIFIERS
from arenas import Arenas
from attack_rows import ROWS
from matrix import TUSD, Outcome, Result, Row, Ruling, markdown, play, summarize, write_json

from marketplace.chain.parameters import STANDARD
from marketplace.gym.pool import CheckPool


class Run:
    """The rows played so far; the JSON file holds them all the time."""

    def __init__(self, path: Path, trials: int) -> None:
        self.path = path
        self.about = {"preset": STANDARD.name, "verifiers": VERIFIERS, "trials": trials}
        self.results: list[Result] = []
        self.failed: list[str] = []
        self.surprises = 0

    def play(self, arenas: Arenas, entry: Row) -> None:
        """Plays a row; where it is interrupted, what was played of it counts."""
        trials = min(int(self.about["trials"]), entry.trials)
        started = time.monotonic()
        outcomes: list[Outcome] = []
        try:
            for outcome in play(arenas, entry, trials):
                outcomes.append(outcome)
                if sys.stderr.isatty():
                    print(f"{entry.name} {len(outcomes)}/{trials}", end="\r", file=sys.stderr)
        except KeyboardInterrupt:
            if outcomes:
                self._add(entry, outcomes, time.monotonic() - started)
            raise
        except Exception:
            traceback.print_exc()
            self.failed.append(entry.name)
            print(f"{entry.name:32} FAILED in trial {len(outcomes) + 1}", flush=True)
        else:
            self._add(entry, outcomes, time.monotonic() - started)

    def _add(self, entry: Row, outcomes: Sequence[Outcome], seconds: float) -> None:
        result = summarize(entry, outcomes, round(seconds, 1))
        self.results.append(result)
        surprise = result.ruling is not entry.expected
        self.surprises += surprise
        print(
            f"{result.name:32} {result.caught:3}/{result.trials:<3}"
            f" cost {result.cost / TUSD:9.2f} gain {result.gain / TUSD:8.2f}"
            f" harm {result.harm / TUSD:7.2f}"
            f" {result.ruling:12} {seconds:6.1f} s"
            + (f"  EXPECTED {entry.expected}" if surprise else ""),
            flush=True,
        )
        self.write(whole=False)

    def write(self, *, whole: bool) -> None:
        write_json(self.path, self.results, self.about | {"whole": whole})


def main() -> int:
    parser = argparse.ArgumentParser(description="Play the attack matrix.")
    parser.add_argument("--trials", type=int, default=20, help="most trials of a row")
    parser.add_argument("--only", nargs="*", default=[], help="names of rows, or patterns: reorg-*")
    parser.add_argument(
        "--json", type=Path, default=Path("build/attacks.json"), help="written after every row"
    )
    parser.add_argument(
        "--table",
        type=Path,
        action="append",
        default=[],
        help="Markdown files, written at the end, where no row failed",
    )
    options = parser.parse_args()
    if options.trials < 1:
        parser.error("play at least one trial")
    for pattern in options.only:
        if not any(fnmatchcase(one.name, pattern) for one in ROWS):
            parser.error(f"there is no row {pattern}")
    patterns = options.only or ["*"]
    chosen = [one for one in ROWS if any(fnmatchcase(one.name, pattern) for pattern in patterns)]

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(options.json, options.trials)
    try:
        with CheckPool(workers=1) as pool, Arenas(pool) as arenas:
            for entry in chosen:
                run.play(arenas, entry)
    except KeyboardInterrupt:
        run.write(whole=False)
        print(f"interrupted; {options.json} has {len(run.results)} of {len(chosen)} rows")
        return 130
    if run.failed:
        print(f"{len(run.failed)} rows failed: {', '.join(run.failed)}; no table is written")
        return 1
    run.write(whole=True)
    for path in options.table or [options.json.with_suffix(".md")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(markdown(run.results, run.about), "utf-8")
    opened = [one.title for one in run.results if one.ruling is Ruling.OPEN]
    print(f"{len(run.results)} rows, {len(opened)} open: {'; '.join(opened) or 'none'}")
    return 1 if run.surprises else 0


if __name__ == "__main__":
    sys.exit(main())
