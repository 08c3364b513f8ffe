"""An environment whose checker does what the completion says. Imported by pool workers by name."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import struct
import sys
import time
from types import SimpleNamespace
from typing import Any

from marketplace.gym.environment import Judgement
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import CheckerFailed
from marketplace.protocol.verdict import Reason

_RETURNED: dict[str, Any] = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "1.7": 1.7,
    "-0.5": -0.5,
    "text": "1.0",
    "none": None,
}
_SCORES = {
    "wrong": (0.0, Reason.WRONG),
    "half": (0.5, Reason.PARTIAL),
    "unreadable": (0.0, Reason.PARSE_FAILURE),
}
_ANSWER = struct.Struct(">HIBBdd")  # as records.py has it
_FORGED = {
    "forged reason": (0, 0, 99, 1.0, 1e6),
    "forged score": (0, 0, Reason.CORRECT, 7.5, 1e6),
    "forged NaN": (0, 0, Reason.CORRECT, math.nan, 1e6),
    "forged clock": (0, 0, Reason.CORRECT, 1.0, math.nan),
    "forged past": (0, 0, Reason.CORRECT, 1.0, -1.0),
    "forged state": (0, 7, 0, 0.0, 1e6),
    "forged length": (60_000, 0, Reason.CORRECT, 1.0, 1e6),
    "forged text": (0, 0, Reason.WRONG, 0.0, 1e6),
    "forged number": (0, 0, Reason.CORRECT, 1.0, 1e6),
}
"""What a hostile checker may send in place of its process's own answer: length, state, reason,
score and clock."""
_hoard: list[bytes] = []


class MisbehavingEnvironment:
    def __init__(self, spec: EnvironmentSpec) -> None:
        self.served = 0
        self.leaked = False
        if spec.name == "unbuildable":
            raise RuntimeError("no such luck")
        if spec.name == "no-disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if spec.name == "dies":
            os._exit(9)

    def self_test(self) -> None:
        pass

    def task(self, seed: bytes) -> Any:
        if seed == bytes(32):
            raise CheckerFailed("seed zero has no task")
        if seed == b"\x01" * 32:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return SimpleNamespace(prompt=f"prompt {seed.hex()[:4]}")

    def judge(self, task: Any, completion: str) -> Judgement:
        self.served += 1
        if completion in _SCORES:
            return Judgement(*_SCORES[completion], f"it is {completion}")
        return Judgement(self._do(completion), Reason.CORRECT, f"pid {os.getpid()}")

    def _do(self, what: str) -> Any:
        if what in _RETURNED:
            return _RETURNED[what]
        if what == "spin":
            while True:
                pass
        if what == "sleep":
            time.sleep(3600)
        if what == "raise":
            raise ValueError("no")
        if what == "exit":
            sys.exit(3)
        if what == "crash":
            os._exit(3)
        if what == "leak":  # as what an earlier item left open
            self.leaked = True
        if what == "no handles" or (what == "open" and self.leaked):
            try:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            except OSError as error:
                raise ValueError("can't look it up") from error
        if what == "crash unless first" and self.served > 1:
            os._exit(4)
        if what == "hog":
            _hoard.append(bytes(2 << 30))
        if what == "kill the worker":
            os.kill(os.getppid(), 9)
            time.sleep(3600)
        if what == "hoard":  # fits once, not twice
            _hoard.append(bytes(40 << 20))
        if what == "fill":
            _hoard.append(b"x" * (270 << 20))
        if what == "print":
            for _ in range(64):
                print("x" * (1 << 16))
                sys.stderr.write("y" * (1 << 16))
                os.write(1, b"z" * (1 << 16))
        if what in _FORGED:
            length, *rest = _FORGED[what]
            number = self.served - (what != "forged number")
            record = _ANSWER.pack(length, number, *rest)
            if what == "forged text":
                record = _ANSWER.pack(1, number, *rest) + b"\xff"
            for fd in range(3, 64):
                with contextlib.suppress(OSError):
                    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                        os.write(fd, record)
            time.sleep(3600)
        if what == "write":
            with open("/tmp/tracemarket-must-not-exist", "w") as file:
                file.write("x" * 10)
        return 1.0
