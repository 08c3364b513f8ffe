"""Entry point: one place where errors become messages and exit codes.

0 done; 1 failed; 2 wrong usage or configuration; 3 chain; 4 storage; 5 content or proof; 6 key;
7 beacon; 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from marketplace.cli.app import app
from marketplace.cli.output import messages, printable
from marketplace.protocol.errors import TracemarketError


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
        # Not wrapped: a terminal does that itself, and a log is searched by line.
        messages.print(f"[red]error:[/red] {type(error).__name__}:", end=" ")
        messages.print(printable(error.message), markup=False, soft_wrap=True)
        if error.fix:
            messages.print("[yellow]fix:[/yellow]", end=" ")
            messages.print(printable(error.fix), markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`): nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
