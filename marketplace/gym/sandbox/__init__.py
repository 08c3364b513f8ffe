"""Runs programs that nobody trusts. One interface (outcome.py), four back ends:

    wasm         CPython as a WebAssembly module: deterministic, metered, portable (guest.py)
    process      a process of its own under rlimits and seccomp: Linux alone (native.py)
    bubblewrap   the same process inside namespaces of its own, through bwrap (native.py)
    crun         the same process inside a container of its own, without a daemon or image (crun.py)

probe.py finds out what each of them guarantees on this machine and refuses what is not enough.
A sandbox only ever learns inputs and gives outputs; whoever calls it compares, outside.
"""
