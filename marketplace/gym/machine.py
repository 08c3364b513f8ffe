"""What went wrong with this machine and says nothing about what it was asked to judge.

A verifier whose disk is full or whose files have run out must say nothing: a verdict that only it
comes to is a wrong vote.
"""

from __future__ import annotations

import errno
from typing import Final

MACHINE: Final = "machine"
"""The kind of a refusal to build an environment that comes of this, among names of exceptions."""

FIX: Final = "free this machine's disk and file handles, and look at its log for faults"

_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO})
"""Not EFBIG: no check may write. Not ENOMEM: a text can bring that about."""

_DEPTH: Final = 16


def is_of_machine(error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, is an OSError of disk or file handles."""
    one: BaseException | None = error
    for _ in range(_DEPTH):
        if one is None:
            return False
        if isinstance(one, OSError) and one.errno in _ERRNOS:
            return True
        one = one.__cause__ or one.__context__
    return False
