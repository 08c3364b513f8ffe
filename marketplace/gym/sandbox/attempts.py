"""What a sandbox guarantees here, found out by a program that tries what must not work."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from marketplace.gym.sandbox.outcome import Backend, Ended, Guarantee, Limits, Program
from marketplace.gym.sandbox.outcome import Property as P
from marketplace.protocol.errors import TracemarketError

if TYPE_CHECKING:
    from marketplace.gym.sandbox.native import ProcessSandbox

LIMITS = Limits(wall_seconds=30.0)

ATTEMPTS = """
import json, os, sys

def tried(action):
    try:
        got = action()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return [repr(got)[:200]]

def libc():
    import ctypes  # there in native back ends only
    return ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    import ctypes
    got = getattr(libc(), name)(*arguments)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got

def write():
    open("/tmp/tracemarket-attempt", "w").close()
    os.unlink("/tmp/tracemarket-attempt")

def spawn():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid

print(json.dumps({
    "socket": tried(lambda: call("socket", 2, 1, 0) if "ctypes" in sys.modules
                    else __import__("socket").socket()),
    "read": tried(lambda: open(%(readable)r).read(10)),
    "passwd": tried(lambda: open("/etc/passwd").read(10)),
    "list": tried(lambda: os.listdir("/")),
    "write": tried(write),
    "fork": tried(spawn),
    "thread": tried(lambda: __import__("_thread").start_new_thread(print, ())),
    "kill": tried(lambda: os.kill(%(starter)d, 0)),
    "proc": tried(lambda: open("/proc/%(starter)d/environ", "rb").read(10)),
    "environment": sorted(set(os.environ) - {"PYTHONHASHSEED", "LC_CTYPE"}),
    "uid": tried(lambda: os.getuid()),
    "setuid": tried(lambda: os.setuid(0)),
    "memory": tried(lambda: len(bytearray(1 << 33))),
}))
"""


def attempted(backend: Backend) -> dict[str, Any]:
    """What came of each attempt: a text if it was refused, a list if it worked."""
    source = ATTEMPTS % {"readable": os.path.realpath(sys.executable), "starter": os.getpid()}
    outcome = backend.run(Program({"main.py": source}), b"", LIMITS)
    if outcome.ended is not Ended.EXITED or outcome.status != 0:
        said = outcome.stderr.decode("utf-8", "replace").strip()[-300:]
        raise RuntimeError(f"it ended by {outcome.ended}, status {outcome.status}: {said}")
    return dict(json.loads(outcome.stdout))


def nothing_held(why: str) -> Mapping[P, Guarantee]:
    """The guarantees of a back end that does not work here."""
    return {one: Guarantee(False, why) for one in P}


def native_guarantees(backend: ProcessSandbox) -> Mapping[P, Guarantee]:
    """Of a native back end."""
    from marketplace.gym.sandbox.native import seccomp_filter

    try:
        found = attempted(backend)
    except (TracemarketError, RuntimeError, ValueError, OSError) as error:
        return nothing_held(str(error))
    namespaces = backend.namespaces
    means = "seccomp" if seccomp_filter() is not None else "no seccomp (PyPI pyseccomp, libseccomp)"
    means += " and namespaces" if namespaces else ""
    dropped = bool(namespaces) or os.geteuid() != 0 or _refused(found, "setuid")
    return {
        P.OWN_PROCESS: Guarantee(True, "fork and exec"),
        P.NO_NETWORK: _by(found, means, "socket"),
        P.NO_FILES: _by(found, means, "read", "passwd", "list"),
        P.NO_WRITES: _by(found, f"{means}, RLIMIT_FSIZE 0", "write"),
        P.NO_PROCESSES: _by(found, f"{means}, RLIMIT_NPROC 0", "fork", "thread"),
        P.NO_SIGNALS: _by(found, means, "kill", "proc"),
        P.CLEAN_ENVIRONMENT: Guarantee(
            not found["environment"], f"it sees {found['environment'] or 'PYTHONHASHSEED=0 alone'}"
        ),
        P.UNPRIVILEGED: Guarantee(
            dropped and _refused(found, "setuid"), f"user {found['uid'][0]}, no_new_privs"
        ),
        P.BOUNDED: _by(found, "RLIMIT_AS, RLIMIT_CPU, clock, pipes read to a limit", "memory"),
        P.NOTHING_LEFT: Guarantee(
            bool(namespaces) or (_refused(found, "fork") and _refused(found, "write")),
            "its pid namespace ends with it" if namespaces else "it can't start or write anything",
        ),
        P.NAMESPACES: Guarantee(bool(namespaces), namespaces or "none"),
        P.DETERMINISTIC: Guarantee(False, "clock, addresses and CPU time differ between runs"),
    }


def guest_guarantees(backend: Backend) -> Mapping[P, Guarantee]:
    """Of CPython in WebAssembly."""
    try:
        found = attempted(backend)
    except (TracemarketError, RuntimeError, ValueError, OSError, ImportError) as error:
        return nothing_held(str(error))
    means = "no host function for it"
    return {
        P.OWN_PROCESS: Guarantee(True, "forked, and WebAssembly memory of its own"),
        P.NO_NETWORK: _by(found, means, "socket"),
        P.NO_FILES: _by(found, means, "read", "passwd"),
        P.NO_WRITES: _by(found, means, "write"),
        P.NO_PROCESSES: _by(found, means, "fork", "thread"),
        P.NO_SIGNALS: _by(found, means, "kill", "proc"),
        P.CLEAN_ENVIRONMENT: Guarantee(not found["environment"], "no variables at all"),
        P.UNPRIVILEGED: Guarantee(True, "it makes no system call"),
        P.BOUNDED: _by(found, "fuel, memory limit, output limit", "memory"),
        P.NOTHING_LEFT: Guarantee(True, "its process ends with it"),
        P.NAMESPACES: Guarantee(False, "none, and nothing to put in them"),
        P.DETERMINISTIC: Guarantee(True, "fuel instead of time, a clock and noise of its own"),
    }


def _refused(found: Mapping[str, Any], name: str) -> bool:
    return isinstance(found[name], str)


def _by(found: Mapping[str, Any], means: str, *names: str) -> Guarantee:
    worked = [f"{name} gave {found[name][0]}" for name in names if not _refused(found, name)]
    return Guarantee(not worked, "; ".join(worked) if worked else means)
