"""A process of a distributed job that is killed in the middle of its second save."""

from __future__ import annotations

import os
import signal
import sys

from torch.distributed.checkpoint import FileSystemWriter

from trainer.distributed import main

finish, calls = FileSystemWriter.finish, []


def killed(*arguments, **named):
    """All parts are written, what says where they are is not."""
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return finish(*arguments, **named)


FileSystemWriter.finish = killed
sys.exit(main(sys.argv[1:]))
