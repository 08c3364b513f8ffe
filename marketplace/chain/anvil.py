"""A local chain: Anvil as a context manager.

    with AnvilNode() as node:
        client = MarketClient(node.url, deployment, signer=node.accounts[0])

The accounts are the published ones of the mnemonic below: anybody can spend from them. The
process ends with the context, with stop(), and also where this process is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from marketplace.protocol.errors import ChainError, ConfigError

BINARY_VARIABLE: Final = "TRACEMARKET_ANVIL"
LOCAL_CHAIN_ID: Final = 31337
MNEMONIC: Final = "test test test test test test test test test test test junk"

_BUNDLED: Final = Path("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")
_PROJECT: Final = Path(__file__).resolve().parents[2]
_START_ATTEMPTS: Final = 3
_POLL_SECONDS: Final = 0.02

# Anvil ends when this shell's standard input does: that is stop(), or the death, however
# sudden, of the process that holds the other end.
_TETHER: Final = """
exec 3<&0
"$@" 3<&- </dev/null & child=$!
(read -r _ <&3; kill -TERM "$child" 2>/dev/null) & watcher=$!
exec 3<&-
wait "$child"; status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"""


def find_anvil(environ: Mapping[str, str] = os.environ) -> Path:
    """The Anvil binary: $TRACEMARKET_ANVIL, else the project's node_modules, else PATH.

    Raises ConfigError where there is none.
    """
    if named := environ.get(BINARY_VARIABLE):
        if not os.access(named, os.X_OK):
            raise ConfigError(f"${BINARY_VARIABLE} is {named!r}, which can't be executed")
        return Path(named)
    for root in (_PROJECT, Path.cwd()):
        if os.access(root / _BUNDLED, os.X_OK):
            return root / _BUNDLED
    if found := shutil.which("anvil", path=environ.get("PATH")):
        return Path(found)
    raise ConfigError(
        "Anvil is not installed",
        fix=f"run `make setup`, put anvil on PATH or set ${BINARY_VARIABLE}",
    )


@cache
def published_account(index: int) -> LocalAccount:
    """Anvil's account `index` (from 0); its key is public."""
    Account.enable_unaudited_hdwallet_features()
    account: LocalAccount = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return account


class AnvilNode:
    """One Anvil process on 127.0.0.1.

    block_time: seconds between blocks, besides one for each transaction at once; None mines
    only the latter.
    timestamp: of the genesis block, in seconds; None for now.
    accounts: how many published accounts hold 10,000 ETH. state: a file that the chain is loaded
    from where it exists and is saved to at the end. log: a file for Anvil's output; silent without.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        block_time: int | None = None,
        timestamp: int | None = None,
        chain_id: int = LOCAL_CHAIN_ID,
        accounts: int = 20,
        state: Path | None = None,
        log: Path | None = None,
        binary: Path | None = None,
        startup_seconds: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.chain_id = chain_id
        self.accounts = tuple(published_account(index) for index in range(accounts))
        self._wanted_port = port
        self._block_time = block_time
        self._timestamp = timestamp
        self._state = state
        self._log = log
        self._binary = binary
        self._startup_seconds = startup_seconds
        self._clock = clock
        self._sleep = sleep
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._http: httpx.Client | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._ids = itertools.count(1)

    # --- life ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        if self._port is None:
            raise ChainError("Anvil is not running", fix="call start() first")
        return f"http://127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and wait until the node answers. Where another process takes a free port
        between choice and use, another one is tried.

        Raises ConfigError (no binary, port in use) or ChainError (it ended or stayed silent).
        """
        if self.running:
            return self
        binary = self._binary or find_anvil()
        if self._wanted_port is not None and not _is_free(self._wanted_port):
            raise ConfigError(
                f"port {self._wanted_port} is in use",
                fix="stop what listens there or choose another",
            )
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._launch(binary)
            try:
                self._wait_until_ready()
                return self
            except BaseException as error:
                said = self._last_words()
                self.stop()
                if not isinstance(error, ChainError):
                    raise
                retry = self._wanted_port is None and "in use" in said.lower()
                if not retry or attempt == _START_ATTEMPTS:
                    raise ChainError(f"{error.message}: {said or 'it said nothing'}") from None
        raise AssertionError("unreachable: the last attempt returns or raises")

    def stop(self) -> None:
        """End the process and wait for it; harmless where it does not run."""
        process, self._process = self._process, None
        if self._http is not None:
            self._http.close()
            self._http = None
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None
        self._port = None

    # --- RPC -------------------------------------------------------------------------

    def rpc(self, method: str, *params: Any) -> Any:
        """The result of one JSON-RPC call; ChainError where the node refuses or is gone."""
        if self._http is None:
            raise ChainError("Anvil is not running", fix="call start() first")
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        try:
            answer = self._http.post("/", json=body).json()
        except (httpx.HTTPError, ValueError) as error:
            raise ChainError(f"Anvil gave no answer to {method}: {error!r}") from None
        if "error" in answer:
            raise ChainError(f"Anvil refused {method}: {answer['error'].get('message')}")
        return answer["result"]

    def mine(self, blocks: int = 1, *, interval: int = 1) -> None:
        """Mine empty blocks, `interval` seconds of chain time apart."""
        if blocks:
            self.rpc("anvil_mine", hex(blocks), hex(interval))

    def increase_time(self, seconds: int) -> None:
        """Move the chain's clock and mine a block, so that calls see the new time."""
        self.rpc("evm_increaseTime", hex(seconds))
        self.rpc("evm_mine")

    def set_interval(self, seconds: int) -> None:
        """Blocks are so many seconds apart from now on, whatever the clock says; increase_time()
        has no effect then."""
        self.rpc("anvil_setBlockTimestampInterval", seconds)

    def next_block_at(self, timestamp: int) -> None:
        """The timestamp of the next block."""
        self.rpc("evm_setNextBlockTimestamp", hex(timestamp))

    def block_number(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def snapshot(self) -> str:
        """An id for revert(), which uses it up."""
        return str(self.rpc("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Back to a snapshot; it and all later ones are gone. ChainError where it is unknown."""
        if self.rpc("evm_revert", snapshot) is not True:
            raise ChainError(f"Anvil has no snapshot {snapshot}", fix="a snapshot can be used once")

    def reorg(self, depth: int) -> None:
        """Replace the last `depth` blocks by as many empty ones: their transactions are lost.

        Only on a young chain. From some 700 blocks on (those that revert() threw away count too)
        Anvil 1.7.1 moves older states to disk, fails to read them back and goes on from an empty
        state: every contract is gone.
        """
        self.rpc("anvil_reorg", depth, [])

    def set_balance(self, address: str, wei: int) -> None:
        self.rpc("anvil_setBalance", address, hex(wei))

    def set_automine(self, on: bool) -> None:
        """Whether each transaction gets a block at once; off, they wait for mine()."""
        self.rpc("evm_setAutomine", on)

    # --- starting --------------------------------------------------------------------

    def _launch(self, binary: Path) -> None:
        self._port = self._wanted_port or _free_port()
        self._scratch = tempfile.TemporaryDirectory(prefix="tracemarket-anvil-")
        scratch = Path(self._scratch.name)
        command = [str(binary), "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--chain-id", str(self.chain_id), "--accounts", str(len(self.accounts))]
        command += ["--mnemonic", MNEMONIC, "--cache-path", str(scratch / "cache")]
        if self._block_time is not None:
            command += ["--block-time", str(self._block_time), "--mixed-mining"]
        if self._timestamp is not None:
            command += ["--timestamp", str(self._timestamp)]
        if self._state is not None:
            command += ["--state", str(self._state)]
        if self._log is None:
            command += ["--quiet"]
        with (self._log or scratch / "output").open("ab") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _TETHER, "anvil", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is for us; we stop it in order
            )
        self._http = httpx.Client(base_url=self.url, timeout=60.0, trust_env=False)

    def _wait_until_ready(self) -> None:
        deadline = self._clock() + self._startup_seconds
        while True:
            if not self.running:
                raise ChainError("Anvil ended while starting")
            try:
                served = int(self.rpc("eth_chainId"), 16)
            except ChainError:
                if self._clock() > deadline:
                    raise ChainError(
                        f"Anvil did not answer within {self._startup_seconds:g} s"
                    ) from None
                self._sleep(_POLL_SECONDS)
                continue
            if served != self.chain_id:
                raise ChainError(f"Anvil serves chain id {served}, not {self.chain_id}")
            return

    def _last_words(self) -> str:
        if self._scratch is None:
            return ""
        file = self._log or Path(self._scratch.name) / "output"
        lines = file.read_text("utf-8", "replace").strip().splitlines() if file.exists() else []
        return " / ".join(lines[-5:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
