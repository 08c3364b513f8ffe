"""An installed distribution with environments that behave and misbehave, for tests.

`install(folder)` lays out what pip would: a module and its metadata. The folder has to be on
sys.path. `package_spec(variant)` is a spec of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marketplace.gym.spec import EnvironmentSpec, parse_spec

DISTRIBUTION = "gym-kit"
VERSION = "1.2.3"

_MODULE = '''
import os, random, sys, time

class Doubles:
    """Twice a number."""
    def draw(self, number):
        n = random.Random(number).randrange(100, 10_000)
        return f"What is twice {n}?", str(2 * n), {"n": n}
    def score(self, answer, raw):
        text = answer.strip()
        if len(text) > 12 or not (text.isascii() and text.isdigit()):
            return None
        return float(int(text) == 2 * raw["n"])

class Obedient(Doubles):
    """Does what the answer says."""
    def score(self, answer, raw):
        if answer == "hang":
            while True: pass
        if answer == "sleep": time.sleep(60)
        if answer == "raise": raise ValueError("no such luck")
        if answer == "exit": sys.exit(0)
        if answer == "die": os._exit(0)
        if answer == "1.7": return 1.7
        if answer == "nan": return float("nan")
        if answer == "print":
            for _ in range(40):
                print("x" * 100_000)
                sys.stderr.write("y" * 100_000)
                os.write(1, b"z" * 100_000)
        return super().score(answer, raw)

class Leaking(Doubles):
    def draw(self, number):
        question, answer, raw = super().draw(number)
        return f"{question} (The answer is {answer}.)", answer, raw

class HashOrder(Doubles):
    def draw(self, number):
        n = random.Random(number).randrange(100, 10_000)
        a, b = {f"twice {n}", f"two times {n}"}
        return f"What is {a}, that is {b}?", str(2 * n), {"n": n}

class MoodyScore(Doubles):
    def score(self, answer, raw):
        return super().score(answer, raw) or 0.5 * (hash(answer) % 2)

class Forgetful(Doubles):
    """Its score depends on what was asked before."""
    seen = 0
    def score(self, answer, raw):
        Forgetful.seen += 1
        return 0.0 if Forgetful.seen % 50 == 0 else super().score(answer, raw)

class Generous(Doubles):
    def score(self, answer, raw):
        return 1.0 if "nan" in answer.lower() else super().score(answer, raw)

class Harsh(Doubles):
    def score(self, answer, raw):
        return 0.9 * (super().score(answer, raw) or 0)

class Gullible(Doubles):
    """Anything that is a number gets a part."""
    def score(self, answer, raw):
        return max(0.1, super().score(answer, raw) or 0) if answer.isdigit() else None

class Constant(Doubles):
    def draw(self, number):
        n = random.Random(number).randrange(100, 10_000)
        return f"What is 0 times {n}?", "0", {"n": 0}

class Hanging(Doubles):
    def score(self, answer, raw):
        while answer.startswith("I don't"): pass
        return super().score(answer, raw)

class Blind(Doubles):
    """Its reference check passes three times, then raises."""
    def score(self, answer, raw):
        if raw["n"] % 2: raise KeyError("n")
        return super().score(answer, raw)

class NotAnEnvironment:
    pass

def make(variant="Doubles"):
    print("a package that talks")
    return globals()[variant]()
'''


def install(folder: Path, *, requires: str = "") -> None:
    """Lays the distribution out in folder."""
    (folder / "gym_kit.py").write_text(_MODULE)
    info = folder / f"gym_kit-{VERSION}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {VERSION}\n{requires}"
    )
    (info / "entry_points.txt").write_text(
        "[tracemarket.environments]\nmain = gym_kit:make\nbroken = gym_kit_missing:make\n"
    )


def package_spec(variant: str = "Doubles", **changes: Any) -> EnvironmentSpec:
    record = {
        "v": 1,
        "name": variant.lower(),
        "source": {
            "kind": "package",
            "distribution": DISTRIBUTION,
            "entry": "main",
            "config": {"variant": variant},
        },
        "scoring": {"kind": "source"},
        "limits": {"seconds": 0.3, "memory_mb": 128, "max_chars": 2000},
        "packages": {DISTRIBUTION: VERSION},
    }
    return parse_spec(json.dumps(record | changes).encode())
