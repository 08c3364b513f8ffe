"""Native sandboxes seen from outside: namespaces, rights, mounts, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from marketplace.gym.sandbox.outcome import CLOCKED, FLOOR, Ended, Limits, Program, Property
from marketplace.gym.sandbox.probe import choose, guarantees_of, made, missing
from marketplace.protocol.errors import CheckerFailed

ROOT = Path(__file__).parents[3]
NAMESPACED = ("bubblewrap", "crun")
NATIVE = ("process", *NAMESPACED)
STARTER = """
import sys
from marketplace.gym.sandbox.outcome import Limits, Program
from marketplace.gym.sandbox.probe import made
program = Program({"main.py": "import time\\nwhile True: time.sleep(1)"})
print(made(sys.argv[1]).run(program, b"", Limits(cpu_seconds=30, wall_seconds=120)).ended)
"""
SECCOMP_FILTER = "2"


def skip_unless_usable(name: str) -> None:
    if lacking := missing(name, FLOOR):
        pytest.skip(f"{name} lacks {lacking[0]}")


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def mounts_of(pid: int | str) -> dict[str, list[str]]:
    """Options by mount point, in the eyes of a process."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return {line.split()[4]: line.split()[5].split(",") for line in lines}


def devices_of(pid: int | str) -> dict[str, str]:
    """Number of the file system by mount point, in the eyes of a process."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return {line.split()[4]: line.split()[2] for line in lines}


def until(wanted: str, deadline: float) -> None:
    assert time.monotonic() < deadline, f"no {wanted}"
    time.sleep(0.05)


@contextmanager
def waiting_program(name: str) -> Iterator[tuple[psutil.Process, int]]:
    """A starter of its own whose program waits: the starter, and the program's process."""
    starter = psutil.Popen(
        [sys.executable, "-c", STARTER, name],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline, found = time.monotonic() + 60, []
        while not found:
            until("program under seccomp", deadline)
            for one in starter.children(recursive=True):
                try:
                    if status_of(one.pid)["Seccomp"] == SECCOMP_FILTER:
                        found.append(one.pid)
                except (OSError, KeyError):
                    continue  # it ended meanwhile
        yield starter, found[0]
    finally:
        with suppress(psutil.NoSuchProcess):
            starter.kill()
        starter.wait()
        starter.stdout.close()


def assert_gone(processes: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 10
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes):
        until("end of what a killed starter ran", deadline)


@pytest.mark.parametrize("name", NAMESPACED)
def test_a_program_is_alone_without_rights_or_anything_to_write(name: str) -> None:
    skip_unless_usable(name)
    with waiting_program(name) as (_, pid):
        spaces = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
        ours = [os.readlink(f"/proc/self/ns/{one}") for one in spaces]
        shared = [one for one in spaces if os.readlink(f"/proc/{pid}/ns/{one}") in ours]
        status, mounts = status_of(pid), mounts_of(pid)
    assert shared == []
    for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[one], 16) == 0, one
    assert status["NoNewPrivs"] == "1"
    writable = [point for point, options in mounts.items() if "ro" not in options]
    # Devices that nobody can open.
    assert [point for point in writable if not point.startswith("/dev/")] == []
    assert "/usr" in mounts
    assert not {"/proc", "/sys", "/home", "/etc", "/tmp", "/run"} & set(mounts)


@pytest.mark.parametrize("name", NATIVE)
def test_a_killed_starter_leaves_nothing(name: str) -> None:
    skip_unless_usable(name)
    mounts, states = mounts_of("self"), runtime_states()
    with waiting_program(name) as (starter, pid):
        ran = starter.children(recursive=True)
        assert pid in {one.pid for one in ran}
        starter.kill()
        starter.wait()
        assert_gone(ran)
    assert (mounts_of("self"), runtime_states()) == (mounts, states)


def runtime_states() -> set[str]:
    """Directories that an OCI runtime keeps of its containers, by default or by name."""
    user = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    kept = [Path(base) / "crun" for base in ("/run", user)]
    names = {str(one) for base in kept if base.is_dir() for one in base.iterdir()}
    return names | {str(one) for one in Path("/sys/fs/cgroup").rglob("*sandbox*")}


def test_crun_keeps_its_files_in_memory_of_its_own() -> None:
    skip_unless_usable("crun")
    with waiting_program("crun") as (starter, _):
        [runtime] = [one for one in starter.children(recursive=True) if one.name() == "crun"]
        files = {point: devices_of(runtime.pid)[point] for point in ("/tmp", "/sys/fs/cgroup")}
        state = Path(f"/proc/{runtime.pid}/root/tmp/state/sandbox/status").exists()
    assert state
    assert len(set(files.values())) == 1
    assert not set(files.values()) & set(devices_of("self").values())


@pytest.mark.parametrize("name", NAMESPACED)
def test_whatever_is_killed_between_gives_no_verdict_and_leaves_nothing(name: str) -> None:
    """Each process between the starter and the program, one after the other."""
    skip_unless_usable(name)
    between = 1
    victim = 0
    while victim < between:
        with waiting_program(name) as (starter, pid):
            ran = [one for one in starter.children(recursive=True) if one.pid != pid]
            between = len(ran)
            ran[victim].kill()
            assert starter.stdout.readline().strip() in CLOCKED, ran[victim]
            assert_gone([*ran, psutil.Process(pid)] if psutil.pid_exists(pid) else ran)
        victim += 1
    assert between >= 2


REPORT = """
import json, os, sys

def refused(action):
    try:
        return repr(action())
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

kept = []
try:
    while True:
        kept.append(bytearray(1 << 16))
except MemoryError:
    mebibytes = len(kept) // 16
    kept.clear()
print(json.dumps([mebibytes, dict(os.environ), sys.argv, sys.path, sys.flags.hash_randomization, [
    refused(one)
    for one in (os.getcwd, os.fork, os.getppid, os.uname, os.urandom, lambda: os.listdir("/"),
                lambda: open("/etc/passwd"), lambda: os.stat("/"), lambda: os.kill(1, 0),
                lambda: os.setuid(0), lambda: os.sched_getaffinity(0))
]]))
"""


def test_native_sandboxes_show_a_program_the_same() -> None:
    reports = {}
    for name in NATIVE:
        if missing(name, FLOOR):
            continue
        with closing(made(name)) as sandbox:
            outcome = sandbox.run(Program({"main.py": REPORT}), b"", Limits(memory_mb=64))
        assert outcome.ended is Ended.EXITED, outcome
        reports[name] = json.loads(outcome.stdout)
    if len(reports) < 2:
        pytest.skip(f"only {list(reports)} can be used here")
    memory = [report.pop(0) for report in reports.values()]
    # How the allocator fills what it gets differs between runs.
    assert max(memory) - min(memory) <= 1, memory
    assert 55 <= min(memory) <= 64
    first, *others = reports.values()
    assert others == [first] * len(others)


@pytest.mark.parametrize("name", NATIVE)
def test_no_back_end_gives_a_program_more_time(name: str) -> None:
    """Also where the program is the first process of a namespace, which SIGXCPU does not end."""
    skip_unless_usable(name)
    main = "import time\nwhile time.process_time() < 1.5: pass\nprint('late')"
    with closing(made(name)) as sandbox:
        outcome = sandbox.run(Program({"main.py": main}), b"", Limits(cpu_seconds=1))
    assert (outcome.ended, outcome.stdout) == (Ended.CPU, b"")


@pytest.mark.parametrize(
    ("name", "said"),
    [("bubblewrap", "bwrap is not installed"), ("crun", "crun is not installed")],
)
def test_a_back_end_that_is_not_installed_says_so(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CheckerFailed, match=said):
        made(name).run(Program({"main.py": ""}), b"", Limits())


def test_a_runtime_that_is_there_and_does_not_work_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("bwrap", "crun"):
        fake = tmp_path / program
        fake.write_text("#!/bin/sh\necho user namespaces are forbidden >&2\nexit 1\n")
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    guarantees_of.cache_clear()
    try:
        for name in NAMESPACED:
            lacks = missing(name, FLOOR | {Property.NAMESPACES})
            assert len(lacks) == len(FLOOR) + 1
        assert "user namespaces are forbidden" in missing("bubblewrap", FLOOR)[0]
        if not missing("process", FLOOR):
            assert choose(FLOOR).name == "process"
    finally:
        guarantees_of.cache_clear()
