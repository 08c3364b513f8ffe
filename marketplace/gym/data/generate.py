"""Writes the data set of the built-in environment "word_problems" and puts its CID into the spec.

python marketplace/gym/data/generate.py            writes both
python marketplace/gym/data/generate.py --check    exits 1 if they are not what it would write
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from marketplace.storage.unixfs import cid_of_bytes

ROWS = 200
FOLDER = Path(__file__).parent
SPEC = FOLDER.parent / "specs" / "word_problems.json"


def _change(rng: Random) -> tuple[str, int]:
    thing = rng.choice(("notebooks", "mugs", "lamps", "scarves", "plants"))
    count, price = rng.randint(2, 9), rng.randint(3, 14)
    paid = count * price + rng.randint(1, 40)
    return (
        f"{count} {thing} cost {price} euros each. How many euros of change are there from "
        f"{paid} euros?",
        paid - count * price,
    )


def _ages(rng: Random) -> tuple[str, int]:
    one, two = rng.sample(("Ana", "Bo", "Cem", "Dina", "Emil", "Fay", "Gus", "Hana"), 2)
    younger, gap, later = rng.randint(3, 20), rng.randint(2, 15), rng.randint(2, 12)
    return (
        f"{one} is {younger} years old and {two} is {gap} years older. How old are they together "
        f"in {later} years?",
        2 * younger + gap + 2 * later,
    )


def _timetable(rng: Random) -> tuple[str, int]:
    start, minutes = rng.randint(6, 20) * 60 + rng.randrange(0, 60, 5), rng.randint(35, 170)
    end = start + minutes
    return (
        f"A film starts at {start // 60:02}:{start % 60:02} and ends at "
        f"{end // 60:02}:{end % 60:02}. How many minutes long is it?",
        minutes,
    )


def _fence(rng: Random) -> tuple[str, int]:
    length, width, gate = rng.randint(8, 40), rng.randint(5, 30), rng.randint(2, 4)
    return (
        f"A garden is {length} m long and {width} m wide. How many metres of fence go around it, "
        f"with a gap of {gate} m for the gate?",
        2 * (length + width) - gate,
    )


def _boxes(rng: Random) -> tuple[str, int]:
    thing = rng.choice(("eggs", "bottles", "bulbs", "tiles"))
    each = rng.choice((4, 6, 8, 10, 12))
    total = rng.randint(20, 200)
    return (
        f"{total} {thing} are packed into boxes that hold {each}. How many boxes are needed for "
        "all of them?",
        -(-total // each),
    )


def _speed(rng: Random) -> tuple[str, int]:
    hours, speed, stop = rng.randint(2, 6), rng.randint(8, 30) * 3, rng.choice((20, 40, 60))
    return (
        f"A bus drives {speed} km per hour for {hours} hours, of which it stands still for "
        f"{stop} minutes. How many km does it drive?",
        speed * hours - speed * stop // 60,
    )


KINDS: tuple[Callable[[Random], tuple[str, int]], ...] = (
    _change,
    _ages,
    _timetable,
    _fence,
    _boxes,
    _speed,
)


def rows() -> list[dict[str, str]]:
    """All different questions, in an order of their own."""
    rng = Random(20_260_101)
    found: dict[str, int] = {}
    while len(found) < ROWS:
        question, answer = KINDS[len(found) % len(KINDS)](rng)
        found[question] = answer
    return [{"question": question, "answer": str(answer)} for question, answer in found.items()]


def main(check: bool) -> int:
    data = "".join(json.dumps(row) + "\n" for row in rows()).encode()
    path = FOLDER / str(cid_of_bytes(data))
    spec = json.loads(SPEC.read_text("utf-8"))
    if check:
        same = path.is_file() and path.read_bytes() == data
        same = same and spec["source"]["cid"] == path.name and spec["source"]["rows"] == ROWS
        print("up to date" if same else f"{SPEC.name} or its data set is not what this writes")
        return 0 if same else 1
    for old in FOLDER.glob("baf*"):
        old.unlink()
    path.write_bytes(data)
    text = SPEC.read_text("utf-8")
    SPEC.write_text(text.replace(spec["source"]["cid"], path.name), "utf-8")
    print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
