"""Draws tasks in a process of its own, with a hash seed of its own: for `env check`.

What a package prints or does to its interpreter stays in that process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, Self

from marketplace.gym import frames
from marketplace.gym.environment import Environment
from marketplace.gym.machine import MACHINE
from marketplace.gym.runner import refusal
from marketplace.gym.sources.package import PackageSource, unpinned
from marketplace.gym.spec import EnvironmentSpec, parse_spec, spec_bytes
from marketplace.protocol.errors import (
    CheckerFailed,
    EnvironmentMismatch,
    SpecError,
    TracemarketError,
)

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from marketplace.gym.drawing import main; main()"
)
_REFUSALS: Final = {
    SpecError.__name__: SpecError,
    EnvironmentMismatch.__name__: EnvironmentMismatch,
    MACHINE: CheckerFailed,
}


class DrawnTask(NamedTuple):
    """A task as text. completion: the reference. guesses: a completion for each rule of guesses().

    error: why there is no task of this seed; the rest is empty then.
    """

    prompt: str
    question: str
    answer: str
    completion: str
    guesses: dict[str, str]
    error: str = ""


class Drawn(NamedTuple):
    """What one process drew. tasks: in the order of the seeds. junk: completions that carry each
    junk answer past the answer rule. heldout: why there are no held-out tasks, or "". unpinned:
    requirements of a package that the spec does not pin."""

    tasks: list[DrawnTask]
    junk: dict[str, str]
    heldout: str
    unpinned: list[str]


class Drawer:
    """A process that draws tasks, with a hash seed of its own. A context manager.

    Each job runs in a fork of it, so that what one environment leaves behind meets no other.
    """

    def __init__(self, hash_seed: int) -> None:
        self._hash_seed = hash_seed
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        gone, self._popen = self._popen, None
        if gone is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(gone.pid, signal.SIGKILL)
            gone.communicate()

    def begin(
        self,
        spec: EnvironmentSpec,
        assets: Path | None,
        seeds: Sequence[bytes],
        junk: dict[str, str],
    ) -> None:
        """Sends a job. seeds: 32 bytes each, drawn in this order. junk: answers by name."""
        if self._popen is None:
            path = [os.path.abspath(entry) for entry in sys.path]
            self._popen = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "PYTHONHASHSEED": str(self._hash_seed)},
                start_new_session=True,
            )
        assert self._popen.stdin is not None
        job = {
            "spec": spec_bytes(spec).decode("utf-8"),
            "preload": list(spec.source.PRELOAD),
            "assets": None if assets is None else os.path.abspath(assets),
            "seeds": [seed.hex() for seed in seeds],
            "junk": junk,
        }
        frames.send(self._popen.stdin.fileno(), job)

    def result(self, seconds: float) -> Drawn:
        """The answer to the job. Raises SpecError or EnvironmentMismatch where the environment
        can't be built, ends its process, or takes over so many seconds."""
        assert self._popen is not None
        assert self._popen.stdout is not None
        try:
            answer = _received(self._popen.stdout.fileno(), time.monotonic() + seconds)
        except TimeoutError:
            self.close()
            raise SpecError(f"building it and drawing tasks took over {seconds:g} s") from None
        except (EOFError, ValueError):
            self.close()
            raise SpecError("the process that drew its tasks ended") from None
        if "refused" in answer:
            told = answer["refused"]
            raise _REFUSALS.get(told["kind"], SpecError)(told["message"], fix=told["fix"])
        tasks = [DrawnTask(**task) for task in answer["tasks"]]
        return Drawn(tasks, answer["junk"], answer["heldout"], answer["unpinned"])


def _received(fd: int, deadline: float) -> Any:
    """A whole frame. TimeoutError at the deadline, also in mid-frame; EOFError; ValueError for what
    is no frame."""
    buffer = bytearray()
    while (message := frames.take_frame(buffer)) is None:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise TimeoutError
        piece = os.read(fd, 1 << 20)
        if not piece:
            raise EOFError
        buffer += piece
    return message


def main() -> NoReturn:
    """Answers jobs from stdin on stdout until it is closed."""
    inbox, outbox = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    while (job := frames.receive(inbox)) is not None:
        for module in job["preload"]:
            with contextlib.suppress(ImportError):  # the job itself says so better
                importlib.import_module(module)
        pid = os.fork()
        if pid == 0:
            try:
                answer = _answer(job)
            except BaseException as error:
                answer = {"refused": refusal(error)}
            frames.send(outbox, answer)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if status:
            how = f"the process that drew its tasks ended with {os.waitstatus_to_exitcode(status)}"
            frames.send(outbox, {"refused": {"kind": "", "message": how, "fix": None}})
    os._exit(0)


def guesses(question: str) -> dict[str, str]:
    """Answers that stand at a fixed place of a question: what can be had without solving it."""
    found = {
        "the whole question": question,
        "its first word": _first(r"\w+", question),
        "its last word": _last(r"\w+", question),
        "its first number": _first(_NUMBER, question),
        "its last number": _last(_NUMBER, question),
        "its last line": _last(r"[^\n]+", question),
        "what follows its last colon": question.rpartition(":")[2],
        "what follows its last =": question.rpartition("=")[2],
        'what follows "answer"': _last(r"(?i)(?:answer|solution)\W*(?:is\W*)?(.+)", question),
        "its last quotation": _last(r"[\"'`“]([^\"'`“”]+)[\"'`”]", question),
        "its last parentheses": _last(r"\(([^()]+)\)", question),
        "its last brackets": _last(r"\[[^\[\]]+\]", question),
    }
    return {rule: text.strip(" \n\t.?!)]") for rule, text in found.items() if text.strip()}


_NUMBER = r"-?\d+(?:\.\d+)?"


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group() if found else ""


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else ""


def _answer(job: Any) -> dict[str, Any]:
    spec = parse_spec(job["spec"].encode("utf-8"))
    environment = Environment(spec, None if job["assets"] is None else Path(job["assets"]))
    environment.self_test()
    tasks = [_task(environment, bytes.fromhex(seed)) for seed in job["seeds"]]
    heldout = ""
    if spec.holdout_ppm:
        try:
            environment.heldout(0)
        except TracemarketError as error:
            heldout = str(error)
    pins = unpinned(spec.source, spec.packages) if isinstance(spec.source, PackageSource) else []
    junk = {name: environment.completion_of(text) for name, text in job["junk"].items()}
    return {
        "tasks": [task._asdict() for task in tasks],
        "junk": junk,
        "heldout": heldout,
        "unpinned": pins,
    }


def _task(environment: Environment, seed: bytes) -> DrawnTask:
    try:
        task = environment.task(seed)
    except Exception as error:
        return DrawnTask("", "", "", "", {}, f"{type(error).__name__}: {error}")
    told = {rule: environment.completion_of(text) for rule, text in guesses(task.question).items()}
    reference = environment.reference_completion(task)
    return DrawnTask(task.prompt, task.question, task.answer, reference, told)
