"""Entry point: one place where errors become messages and exit codes.

0 done; 1 failed; 2 wrong usage or configuration; 3 chain; 4 storage; 5 content or proof; 6 key;
7 beacon; 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys

from marketplace.cli.app import app
from marketplace.cli.output import messages, printable
from marketplace.protocol.errors import TracemarketError

_OF_THE_DISK = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
)
"""What a disk or its permissions say: nothing is wrong with the program."""


def main() -> None:
    """Runs the command line; never returns."""
    # Models and tokenizers are local folders: nothing is looked up on a hub.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Read when torch is loaded. Threads that wait must not spin: a verifier, a miner and a chain
    # often share a machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except TracemarketError as error:
        _tell(type(error).__name__, error.message, error.fix)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        where = f" ({error.filename})" if error.filename else ""
        _tell(
            type(error).__name__,
            f"{error.strerror}{where}",
            "free disk space, or name a place that can be written; then run the command again",
        )
        sys.exit(1)


def _tell(kind: str, message: str, fix: str | None) -> None:
    # Not wrapped: a terminal does that itself, and a log is searched by line.
    messages.print(f"[red]error:[/red] {kind}:", end=" ")
    messages.print(printable(message), markup=False, soft_wrap=True)
    if fix:
        messages.print("[yellow]fix:[/yellow]", end=" ")
        messages.print(printable(fix), markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
