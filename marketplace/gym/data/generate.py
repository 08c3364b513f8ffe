"""Writes the data sets of the built-in environments "word_problems" and "polite_refusal" and puts
their CIDs into the specs.

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
SPECS = FOLDER.parent / "specs"


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


_WISHES = (
    ("a hotel's front desk", "asks for a late check-out at 6 p.m.", "the room is booked again"),
    ("a bakery", "asks for forty loaves by tomorrow morning", "the oven holds twenty a night"),
    ("a library", "asks to borrow the local atlas of 1780", "it is read in the building only"),
    ("a bicycle shop", "asks for a repair today", "both mechanics are booked until Thursday"),
    ("a software firm", "asks for a refund after five months", "refunds end after thirty days"),
    ("a dentist's office", "asks to be seen this afternoon", "only emergencies get a place today"),
    ("a landlord's office", "asks to keep a second dog", "the lease allows one"),
    ("a museum", "asks to bring a tripod", "tripods are not allowed near the pictures"),
    ("a travel agent", "asks to change the name on a ticket", "the airline forbids it"),
    ("a theatre", "asks to be let in after the start", "doors stay closed until the interval"),
    ("a courier", "asks for delivery on Sunday", "nobody drives on Sundays"),
    ("a school office", "asks for another pupil's marks", "marks are told to parents only"),
)
_MOODS = (
    "is in a hurry",
    "is a regular",
    "sounds upset",
    "is very friendly",
    "writes all in capitals",
)


def refusals() -> list[dict[str, str]]:
    """A reply of each row's own for reference: what there is to grade has no right answer."""
    return [
        {
            "question": f"You write for {who}. A customer who {mood} {wish}. "
            f"It can't be done: {why}.",
            "answer": f"Thank you for asking. I am sorry, that is not possible: {why}. "
            "If you like, I will gladly look for something else with you.",
        }
        for mood in _MOODS
        for who, wish, why in _WISHES
    ]


def problems() -> list[dict[str, str]]:
    """All different questions, in an order of their own."""
    rng = Random(20_260_101)
    found: dict[str, int] = {}
    while len(found) < ROWS:
        question, answer = KINDS[len(found) % len(KINDS)](rng)
        found[question] = answer
    return [{"question": question, "answer": str(answer)} for question, answer in found.items()]


SETS: dict[str, Callable[[], list[dict[str, str]]]] = {
    "word_problems": problems,
    "polite_refusal": refusals,
}


def main(check: bool) -> int:
    kept = set()
    for name, rows in SETS.items():
        made = rows()
        data = "".join(json.dumps(row) + "\n" for row in made).encode()
        path = FOLDER / str(cid_of_bytes(data))
        kept.add(path)
        text = (SPECS / f"{name}.json").read_text("utf-8")
        source = json.loads(text)["source"]
        if check:
            same = path.is_file() and path.read_bytes() == data
            if not same or source["cid"] != path.name or source["rows"] != len(made):
                print(f"{name}.json or its data set is not what this writes")
                return 1
            continue
        path.write_bytes(data)
        (SPECS / f"{name}.json").write_text(text.replace(source["cid"], path.name), "utf-8")
        print(path.name)
    if check:
        print("up to date")
        return 0
    for old in set(FOLDER.glob("baf*")) - kept:
        old.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
