"""Anvil as a process: found, started, stopped, never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marketplace.chain.anvil import AnvilNode, find_anvil, published_account
from marketplace.protocol.errors import ChainError, ConfigError


def test_the_published_accounts() -> None:
    assert published_account(0).address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert published_account(1).address == "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def test_the_variable_names_the_binary(tmp_path) -> None:
    assert find_anvil({"TRACEMARKET_ANVIL": sys.executable}) == Path(sys.executable)
    with pytest.raises(ConfigError, match=r"TRACEMARKET_ANVIL.*nothing-here"):
        find_anvil({"TRACEMARKET_ANVIL": str(tmp_path / "nothing-here")})


def test_without_a_binary_the_error_says_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("marketplace.chain.anvil._PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="make setup"):
        find_anvil({"PATH": str(tmp_path)})
    binary = tmp_path / "anvil"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert find_anvil({"PATH": str(tmp_path)}) == binary


def test_blocks_time_snapshots_and_reorgs(fresh_anvil) -> None:
    node = fresh_anvil(chain_id=1337, accounts=3)
    assert len(node.accounts) == 3
    assert int(node.rpc("eth_chainId"), 16) == 1337
    assert int(node.rpc("eth_getBalance", node.accounts[2].address, "latest"), 16) == 10**22
    node.mine(5)
    assert node.block_number() == 5
    old = [node.rpc("eth_getBlockByNumber", hex(n), False) for n in (4, 5)]
    node.reorg(1)
    new = [node.rpc("eth_getBlockByNumber", hex(n), False) for n in (4, 5)]
    assert new[0]["hash"] == old[0]["hash"]
    assert new[1]["hash"] != old[1]["hash"]

    before = int(new[1]["timestamp"], 16)
    snapshot = node.snapshot()
    node.increase_time(1000)
    later = node.rpc("eth_getBlockByNumber", "latest", False)
    assert int(later["timestamp"], 16) >= before + 1000
    node.revert(snapshot)
    assert node.block_number() == 5
    with pytest.raises(ChainError, match=snapshot):
        node.revert(snapshot)


def test_a_state_file_keeps_the_chain(fresh_anvil, tmp_path) -> None:
    state = tmp_path / "state.json"
    node = fresh_anvil(state=state)
    node.mine(3)
    node.stop()
    assert not node.running
    assert fresh_anvil(state=state).block_number() == 3


def test_stopping_twice_is_harmless_and_calls_say_that_it_is_stopped(fresh_anvil) -> None:
    node = fresh_anvil()
    node.stop()
    node.stop()
    with pytest.raises(ChainError, match="not running"):
        node.rpc("eth_chainId")
    with pytest.raises(ChainError, match="not running"):
        _ = node.url
    assert node.start().block_number() == 0


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            AnvilNode(port=port).start()


def test_a_binary_that_ends_at_once_shows_its_words(tmp_path) -> None:
    binary = tmp_path / "anvil"
    binary.write_text("#!/bin/sh\necho bad luck >&2\nexit 3\n")
    binary.chmod(0o755)
    node = AnvilNode(binary=binary)
    with pytest.raises(ChainError, match="ended while starting: bad luck"):
        node.start()
    assert not node.running


def test_a_binary_that_stays_silent_is_given_up_and_ended(tmp_path) -> None:
    pid_file = tmp_path / "pid"
    binary = tmp_path / "anvil"
    binary.write_text(f"#!/bin/sh\necho $$ > {pid_file}\nexec sleep 600\n")
    binary.chmod(0o755)
    node = AnvilNode(binary=binary, startup_seconds=0.3)
    with pytest.raises(ChainError, match=r"did not answer within 0\.3 s"):
        node.start()
    assert not _alive(int(pid_file.read_text()))


def test_it_ends_where_its_parent_is_killed() -> None:
    code = (
        "from marketplace.chain.anvil import AnvilNode\n"
        "node = AnvilNode().start()\n"
        "print(node.url, flush=True)\n"
        "import signal; signal.pause()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        port = int(url.rsplit(":", 1)[1])
        assert _listens(port)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
    deadline = time.monotonic() + 20
    while _listens(port):
        assert time.monotonic() < deadline, "Anvil outlived its parent"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
