"""Programs in a process of their own: under rlimits and seccomp, in namespaces by bubblewrap.

    caller ──job──> python (confine.py ties it down, bootstrap.py runs the job) [inside bwrap]

seccomp lets a program compute, read the stdin it has and write to stdout and stderr; every other
system call fails with EPERM, so that it can open, start, signal and connect to nothing. The same
filter and limits hold inside bubblewrap and inside crun (crun.py), so outcomes are the same.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

from marketplace.gym.sandbox.outcome import MODULES, Ended, Guarantee, Limits, Outcome, Program
from marketplace.gym.sandbox.outcome import Property as P
from marketplace.protocol.errors import CheckerFailed

NOBODY: Final = 65_534
"""The user that programs become when root starts them."""

_ALLOWED: Final = (
    *("read", "write", "readv", "writev", "close", "lseek", "fstat", "dup"),
    *("mmap", "munmap", "mremap", "mprotect", "madvise", "brk"),
    *("futex", "sched_yield", "restart_syscall", "rseq", "set_robust_list"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time"),
    *("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getrusage", "times"),
    *("getrandom", "exit", "exit_group"),
)
_CHUNK = 1 << 16
_BY_STARTER = 128  # bwrap and crun exit with this and the signal's number
_ENDED_BY_LIMIT = frozenset((-signal.SIGKILL, _BY_STARTER + signal.SIGKILL))
"""RLIMIT_CPU's signal, and the out-of-memory killer's. Either way the machine ended it, not the
program. (One that exits with such a status itself only does without a score.)"""


class ProcessSandbox:
    """The floor: what Linux gives every process, with nothing installed but libseccomp."""

    name = "process"
    namespaces = ""
    """Those that a program is alone in, as a text for people; without any it is tied down more."""

    def run(self, program: Program, stdin: bytes, limits: Limits) -> Outcome:
        """One Python process per run."""
        ready, ready_in = os.pipe()
        try:
            command, job = self._command(ready_in), self._job(program, limits, ready_in)
            running = _Running(command, ready_in, job)
        finally:
            os.close(ready_in)
        try:
            outcome = running.finish(stdin, limits)
            marks = os.read(ready, 8)
            if not marks:
                said = (outcome.stderr or outcome.stdout).decode("utf-8", "replace").strip()
                raise CheckerFailed(
                    f"the {self.name} sandbox can't be set up here: {said[-300:] or outcome.ended}",
                    fix="see `tracemarket env sandbox`",
                )
            return self._settled(outcome, marks)
        finally:
            os.close(ready)

    def guarantees(self) -> Mapping[P, Guarantee]:
        """By trying everything that must not work."""
        from marketplace.gym.sandbox.attempts import native_guarantees

        return native_guarantees(self)

    def close(self) -> None:
        """Keeps no process."""

    def _command(self, ready: int) -> list[str]:
        """What to start. ready: the descriptor that the program has to inherit."""
        return interpreter()

    def _settled(self, outcome: Outcome, marks: bytes) -> Outcome:
        """The outcome in the light of what was written to `ready`: 1 by the program's start."""
        return outcome

    def _job(self, program: Program, limits: Limits, ready: int) -> bytes:
        code = seccomp_filter()
        drops = not self.namespaces and os.geteuid() == 0
        job = {
            "files": dict(program.files),
            "limits": {
                "memory": limits.memory_mb << 20,
                "cpu": max(1, math.ceil(limits.cpu_seconds)),
            },
            "uid": NOBODY if drops else None,
            "parent": None if self.namespaces else os.getpid(),
            "filter": None if code is None else code.hex(),
            "ready": ready,
        }
        body = json.dumps(job).encode("ascii")
        return len(body).to_bytes(8, "big") + body


class BubblewrapSandbox(ProcessSandbox):
    """The floor inside user, mount, pid, network, IPC, UTS and cgroup namespaces."""

    name = "bubblewrap"
    namespaces = "user, mount, pid, net, ipc, uts, cgroup"

    def _command(self, ready: int) -> list[str]:
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise CheckerFailed("bwrap is not installed", fix="apt-get install bubblewrap")
        command = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        command += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
        command += ["--cap-drop", "ALL", "--setenv", "PYTHONHASHSEED", "0"]
        for name in interpreter_paths():
            command += ["--ro-bind", name, name]
        # An empty directory to work in; then nothing can be written any more, not even there.
        command += ["--dir", "/work", "--remount-ro", "/", "--chdir", "/work", "--"]
        return command + interpreter()


class _Running:
    """A started program. finish() always leaves it dead and reaped, with its whole session."""

    def __init__(self, command: list[str], ready: int, job: bytes) -> None:
        self._job = job
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            pass_fds=(ready,),
            start_new_session=True,
        )

    def finish(self, stdin: bytes, limits: Limits) -> Outcome:
        """Feeds and drains the program until it ends or a limit ends it."""
        before = _used_by_children()
        outputs = (bytearray(), bytearray())
        ended: Ended | None = None
        try:
            ended = self._pump(self._job + stdin, outputs, limits)
        finally:
            # Its whole group, and before it is reaped: until then nobody else can have its id.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
                if pipe is not None:
                    pipe.close()
            status = self._popen.wait()
        used = _used_by_children() - before
        if ended is Ended.EXITED and status in _ENDED_BY_LIMIT:
            ended = Ended.CPU
        elif ended is Ended.EXITED and status < 0:
            ended = Ended.KILLED
        out, err = (bytes(output[: limits.output_bytes]) for output in outputs)
        return Outcome(ended, status, out, err, cpu_seconds=used, detail=f"status {status}")

    def _pump(self, feed: bytes, outputs: tuple[bytearray, bytearray], limits: Limits) -> Ended:
        popen = self._popen
        assert popen.stdin is not None
        assert popen.stdout is not None
        assert popen.stderr is not None
        rest = memoryview(feed)
        os.set_blocking(popen.stdin.fileno(), False)
        deadline = time.monotonic() + limits.wall_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(popen.stdin, selectors.EVENT_WRITE, None)
            selector.register(popen.stdout, selectors.EVENT_READ, outputs[0])
            selector.register(popen.stderr, selectors.EVENT_READ, outputs[1])
            reading = len(outputs)
            while reading:
                left = deadline - time.monotonic()
                if left <= 0:
                    return Ended.WALL
                for key, _ in selector.select(left):
                    if key.data is None:
                        try:
                            rest = rest[os.write(key.fd, rest[:_CHUNK]) :]
                        except BrokenPipeError:  # it does not read on: its own affair
                            rest = rest[:0]
                        if not rest:
                            selector.unregister(popen.stdin)
                            popen.stdin.close()
                        continue
                    piece = os.read(key.fd, _CHUNK)
                    key.data.extend(piece)
                    if len(key.data) > limits.output_bytes:
                        return Ended.OUTPUT
                    if not piece:
                        selector.unregister(key.fileobj)
                        reading -= 1
        end = os.pidfd_open(popen.pid)  # it may have closed its outputs and go on
        try:
            ready = select.select([end], [], [], max(0.0, deadline - time.monotonic()))[0]
        finally:
            os.close(end)
        return Ended.EXITED if ready else Ended.WALL


@cache
def seccomp_filter() -> bytes | None:
    """The filter as BPF, made by libseccomp, or None where it or its Python package is missing."""
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError):
        return None
    made = pyseccomp.SyscallFilter(pyseccomp.ERRNO(1))
    for name in _ALLOWED:
        with contextlib.suppress(OSError, ValueError):  # a call that this architecture lacks
            made.add_rule(pyseccomp.ALLOW, name)
    out, into = os.pipe()  # a filter has some hundred bytes: far less than a pipe holds
    with os.fdopen(out, "rb") as reader, os.fdopen(into, "wb") as writer:
        made.export_bpf(writer)
        writer.close()
        return reader.read()


@cache
def _code() -> str:
    here = resources.files("marketplace.gym.sandbox")
    confine, bootstrap = (
        (here / name).read_text(encoding="utf-8") for name in ("confine.py", "bootstrap.py")
    )
    return f"MODULES = {MODULES!r}\n{confine}\n{bootstrap}"


def interpreter() -> list[str]:
    """The command of a program: the interpreter itself, not a link in a virtual environment."""
    # -I would ignore the hash seed too. -S: no site-packages.
    return [os.path.realpath(sys.executable), "-P", "-s", "-S", "-B", "-c", _code()]


def interpreter_paths() -> list[str]:
    """What of this machine's files the interpreter needs: all that a mount namespace shows."""
    base = os.path.realpath(sys.base_prefix)
    loader = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")
    names = ("/usr", base, "/lib", "/lib64", "/bin", *loader)
    return [name for name in dict.fromkeys(names) if os.path.exists(name)]


def _used_by_children() -> float:
    times = os.times()
    return times.children_user + times.children_system
