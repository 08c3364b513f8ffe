"""A miner's spool on a real Anvil: damaged files, full disks, and tries that died."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import Arithmetic, Loop

from marketplace.gym.pool import CheckPool
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import ConfigError
from marketplace.storage.cid import Cid
from marketplace.storage.embedded import EmbeddedStore

GROUPS = 3


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as pool:
        yield pool


@pytest.fixture
def loop(market, pool, tmp_path) -> Loop:
    return Loop(market, pool, tmp_path)


@pytest.mark.parametrize("left", [b"", b"half of it", None], ids=["empty", "half", "gone"])
def test_a_spooled_file_that_was_damaged_is_not_committed(loop, market, left):
    bounty = loop.open_bounty()
    market.stake_verifiers(3)
    entry, path = _spooled(loop, market, bounty)
    path.write_bytes(left) if left is not None else path.unlink()
    assert loop.miner().resume() == []
    assert market.reader.batch_count() == 0  # its bond would have been lost
    assert not path.with_name(f"{entry.cid}.json").exists()
    assert (path.parent / "set-aside" / f"{entry.cid}.json").exists()
    assert loop.miner().mine(bounty, 1, Arithmetic()).batch == 1


def test_what_was_committed_and_is_damaged_since_is_told_each_time(loop, market, monkeypatch):
    bounty = loop.open_bounty()
    market.stake_verifiers(3)
    entry, path = _spooled(loop, market, bounty)
    monkeypatch.setattr(EmbeddedStore, "put", _power_cut)
    with pytest.raises(KeyboardInterrupt):
        loop.miner().resume()
    monkeypatch.undo()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    for _ in range(2):
        with pytest.raises(ConfigError, match=rf"batch 1 is committed.*{entry.cid}"):
            loop.miner().resume()
    path.unlink()
    loop.store.put(whole)  # by another process that had it
    assert loop.miner().resume() == []
    assert list(path.parent.glob("*.*")) == []


def test_a_full_disk_behind_the_commit_keeps_nothing_from_being_published(
    loop, market, monkeypatch
):
    bounty = loop.open_bounty()
    market.stake_verifiers(3)
    monkeypatch.setattr(Spool, "committed", _full_disk)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    assert loop.store.has(Cid.parse(mined.cid))
    assert loop.miner().resume() == []


def test_a_spooled_batch_is_set_aside_though_the_first_try_died(loop, market, monkeypatch):
    bounty = loop.open_bounty()
    market.stake_verifiers(3)
    entry, path = _spooled(loop, market, bounty)
    loop.miner().mine(bounty, 1, Arithmetic())
    moved: list[Path] = []
    replace_file = Path.replace

    def dies(one, to):
        if moved:
            raise KeyboardInterrupt
        moved.append(one)
        return replace_file(one, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            Spool(path.parent).set_aside(entry)
    assert loop.miner().resume() == []
    assert market.reader.batch_count() == 1


def _spooled(loop, market, bounty):
    """An entry that waits for its commit, and its file."""
    miner = loop.miner()
    terms, assignment = market.reader.bounty(bounty), miner.enrol(bounty)
    lines = miner.sample(
        terms, miner.environment(terms), assignment, GROUPS, Arithmetic(), checkpoint=None, seed=0
    )
    entry = miner.spool(terms, assignment, lines)
    folder = loop.folder / f"spool-{market.accounts.miner.address}"
    return entry, folder / f"{entry.cid}.jsonl.zst"


def _full_disk(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def _power_cut(*_args, **_kwargs):
    raise KeyboardInterrupt
