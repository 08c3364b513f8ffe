"""A page's shell commands as one script: a chain of its own, every command a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 900


def commands(page: str) -> list[str]:
    """The page's shell blocks, in order."""
    text = (ROOT / page).read_text("utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def run_story(folder: Path, story: str, probe: str, environment: Mapping[str, str]) -> None:
    """Run the commands in the folder, the probe's just before the chain ends."""
    story = story.replace("kill $(jobs -p)", probe + "\nkill $(jobs -p)\nwait")
    script = folder / "story.sh"
    script.write_text(
        "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + story
    )
    # A group of its own, so that nothing outlives the test.
    process = subprocess.Popen(
        ["bash", str(script)],
        cwd=folder,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"the story took over {SECONDS} s:\n{output[-6000:]}")
    finally:
        _end_group(process.pid)
    # The faucet is asked until the chain answers; any other error is one.
    errors = [line for line in output.splitlines() if "error:" in line]
    assert process.returncode == 0, output[-6000:]
    assert not [line for line in errors if "NodeUnreachable" not in line], output[-6000:]


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
