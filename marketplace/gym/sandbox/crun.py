"""Programs in a container of their own, by the OCI runtime crun: no daemon, no image, no root.

    caller ──job──> setpriv ─> unshare ─> crun ─> python (confine.py and bootstrap.py, as elsewhere)

A runtime wants a bundle on disk and keeps state there, and nothing of that may outlive a caller
that was killed. So crun itself runs in namespaces, as root of a user namespace: its files lie in
memory that only they see, and when the caller dies, its first process dies, and all of it with it.

Limits are the program's own (confine.py), not a cgroup's. It is one process and can't start
another, so a cgroup would bound nothing more; one that is out of memory kills where RLIMIT_AS
raises MemoryError, so verdicts would differ; and its directory would outlive a killed caller.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import Final

from marketplace.gym.sandbox.native import (
    NOBODY,
    ProcessSandbox,
    interpreter,
    interpreter_paths,
)
from marketplace.gym.sandbox.outcome import Ended, Outcome
from marketplace.protocol.errors import CheckerFailed

_TOOLS: Final = {"crun": "crun", "setpriv": "util-linux", "unshare": "util-linux"}
"""Programs needed, and Debian's packages of them."""

_TIE = """
test "$PPID" = "$1" || exit 1
shift
exec "$@"
"""
"""Ends at once if its starter died before setpriv could tie them together."""

_SET_UP = """
set -e
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -n -t tmpfs -o mode=755,size=1m tmpfs /sys/fs/cgroup
mount -n --bind /sys/fs/cgroup /tmp
cd /tmp
mkdir root root/dev root/work state
printf %s "$1" >config.json
ready=$2
shift 2
status=0
"$@" || status=$?
printf . >/proc/self/fd/$ready
exit $status
"""
"""Makes a bundle in memory and runs it.

The memory hides the cgroups, of which crun refuses some arrangements even if it is to use none,
and /tmp, where it keeps a copy of itself for a moment. (An interpreter in /tmp is hidden too; the
probe then says so.)
"""


class CrunSandbox(ProcessSandbox):
    """The floor inside a container's user, mount, pid, network, IPC, UTS and cgroup namespaces."""

    name = "crun"
    namespaces = "user, mount, pid, net, ipc, uts, cgroup"

    def _command(self, ready: int) -> list[str]:
        found = {tool: shutil.which(tool) for tool in _TOOLS}
        for tool, package in _TOOLS.items():
            if found[tool] is None:
                raise CheckerFailed(f"{tool} is not installed", fix=f"apt-get install {package}")
        crun, setpriv, unshare = (str(found[tool]) for tool in _TOOLS)
        return [
            *(setpriv, "--pdeathsig", "KILL", "/bin/sh", "-c", _TIE, "sh", str(os.getpid())),
            *(unshare, "--user", "--map-root-user", "--mount", "--mount-proc"),
            *("--pid", "--fork", "--kill-child"),
            *("/bin/sh", "-c", _SET_UP, "sh", json.dumps(_configuration()), str(ready)),
            *(crun, "--root", "state", "--cgroup-manager", "disabled"),
            # A session keyring for each run would soon use up the user's quota of keys.
            *("run", "--no-new-keyring", f"--preserve-fds={ready - 2}", "sandbox"),
        ]

    def _settled(self, outcome: Outcome, marks: bytes) -> Outcome:
        # unshare exits with 1 if its child was killed, which is not the program's end.
        if outcome.ended is Ended.EXITED and not marks.endswith(b"."):
            return replace(outcome, ended=Ended.CPU, detail="what kept the program was killed")
        return outcome


def _configuration() -> dict[str, object]:
    """config.json of the OCI runtime specification. Its image is this machine's interpreter."""
    sets = ("bounding", "effective", "inheritable", "permitted", "ambient")
    ids = [{"containerID": NOBODY, "hostID": 0, "size": 1}]  # 0 here: the starter's own outside
    kinds = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
    return {
        "ociVersion": "1.0.0",
        "root": {"path": "root", "readonly": True},
        "process": {
            "terminal": False,
            "user": {"uid": NOBODY, "gid": NOBODY},
            "args": interpreter(),
            "env": ["PYTHONHASHSEED=0"],
            "cwd": "/work",
            "capabilities": {name: [] for name in sets},
            "noNewPrivileges": True,
        },
        "mounts": [
            {
                "destination": name,
                "source": name,
                "type": "bind",
                "options": ["bind", "ro", "nosuid", "nodev"],
            }
            for name in interpreter_paths()
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "uidMappings": ids,
            "gidMappings": ids,
        },
    }
