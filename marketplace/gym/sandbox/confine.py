"""How a native program ties itself down before it reads anything contributed. Run as text.

It stands before bootstrap.py in the same process. The seccomp filter comes ready-made as BPF, so
that no library has to be found here. Whatever fails here ends the process before the job's code.
"""

import ctypes
import mmap
import os
import resource
import signal

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_MODE_FILTER = 2
_MOST_PAGES = 1 << 22  # more than any interpreter takes


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _space():  # type: ignore[no-untyped-def]
    """Bytes of address space in use: what the interpreter takes is not the program's.

    The least limit under which one more page can be had, for not every back end shows /proc.
    """
    page = mmap.PAGESIZE
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    low, high = 0, _MOST_PAGES if hard == resource.RLIM_INFINITY else hard // page
    while high - low > 1:
        middle = (low + high) // 2
        try:
            resource.setrlimit(resource.RLIMIT_AS, (middle * page, hard))
            mmap.mmap(-1, page).close()
            high = middle
        except (OSError, MemoryError):
            low = middle
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return low * page


def CONFINE(job):  # type: ignore[no-untyped-def]
    for name in set(os.environ) - {"PYTHONHASHSEED", "LC_CTYPE"}:
        del os.environ[name]  # PWD and HOME, which runtimes set: the same everywhere
    limits = job["limits"]
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(*arguments):  # type: ignore[no-untyped-def]
        if libc.prctl(*(ctypes.c_ulong(one) for one in arguments)) != 0:
            raise OSError(ctypes.get_errno(), f"prctl{arguments[0]}")

    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    space = _space() + limits["memory"]
    for name, bound in (
        ("AS", space),
        ("CORE", 0),
        ("FSIZE", 0),
        ("NOFILE", 16),
        ("NPROC", 0),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
    ):
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (bound, bound))
    # Both limits at once: SIGXCPU, of the lower, does nothing to the first process of a namespace.
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu"], limits["cpu"]))
    if job["uid"] is not None:
        os.setgroups([])
        os.setresgid(job["uid"], job["uid"], job["uid"])
        os.setresuid(job["uid"], job["uid"], job["uid"])
    # After the change of user, which clears it.
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if job["parent"] is not None and os.getppid() != job["parent"]:
        os._exit(1)  # its starter is gone already
    if job["filter"] is not None:
        code = bytes.fromhex(job["filter"])
        kept = ctypes.create_string_buffer(code, len(code))
        program = _Program(len(code) // 8, ctypes.addressof(kept))
        prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program), 0, 0)
    os.write(job["ready"], b"1")
    os.close(job["ready"])
