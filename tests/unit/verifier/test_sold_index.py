"""What counts as bought before a block, by chain history alone, and an index that survives."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from marketplace.chain.blocks import Block, Event
from marketplace.gym.originality import Fingerprint
from marketplace.gym.spec import OriginalitySpec
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation
from marketplace.storage.embedded import EmbeddedStore
from verifier_node.earlier import EarlierSales
from verifier_node.sold import Attested, Commit, SoldIndex, Turn

ENV, OTHER = b"\x01" * 32, b"\x02" * 32
QUESTION = b"\x07" * 32
SAID = Attestation(b"\x0a" * 32, 1, 0)


def commit(batch: int, environment: bytes = ENV, root: bytes | None = None) -> Commit:
    own = root or bytes([batch % 256]) * 32
    return Commit(batch, environment, 1, "0x" + "11" * 20, own, b"\x05" * 32, 0)


def text(number: int) -> Fingerprint:
    return Fingerprint(number.to_bytes(32, "big"), None)


def ids(index: SoldIndex, block: int, most: int = 100, environment: bytes = ENV) -> list[int]:
    return [one.commit.batch for one in index.attested_before(environment, block, most)]


def test_the_last_thing_said_before_a_block_decides() -> None:
    index = SoldIndex(None)
    turns = [
        Turn(1, 10, 3, SAID),
        Turn(2, 11, 0, SAID),
        Turn(2, 12, 5, None),  # overturned
        Turn(2, 12, 9, SAID),  # and attested again in the same block
        Turn(3, 13, 0, SAID),
        Turn(3, 20, 0, None),
        Turn(4, 10, 0, SAID),
        Turn(5, 10, 0, None),
    ]
    commits = [commit(1), commit(2), commit(3), commit(4, OTHER), commit(5)]
    index.advance(30, b"\x09" * 32, commits, turns)
    assert ids(index, 10) == []  # in the very block of the commit is too late
    assert ids(index, 11) == [1]
    assert ids(index, 12) == [1, 2]
    assert ids(index, 13) == [1, 2]
    assert ids(index, 14) == [1, 2, 3]
    assert ids(index, 14, most=2) == [2, 3]
    assert ids(index, 21) == [1, 2]
    assert ids(index, 21, environment=OTHER) == [4]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_hangs_on_the_order_of_arrival(seed: int) -> None:
    turns = [Turn(batch, batch + 1, batch, SAID) for batch in range(1, 30)]
    commits = [commit(batch) for batch in range(1, 30)]
    shuffle = random.Random(seed)
    shuffle.shuffle(turns)
    shuffle.shuffle(commits)
    index = SoldIndex(None)
    index.advance(40, b"\x09" * 32, commits, turns)
    found = index.attested_before(ENV, 25, 10)
    assert [one.commit.batch for one in found] == list(range(14, 24))
    shuffle.shuffle(found)
    for one in found:
        index.add(one, [(QUESTION, text(one.commit.batch))])
    entries = [entry for one in found if (entry := index.entry(one)) is not None]
    assert {one.digest for one in index.sold(QUESTION, entries)} == {
        text(batch).digest for batch in range(14, 24)
    }
    assert list(index.sold(QUESTION, entries[:0])) == []


def test_a_crash_leaves_all_of_a_batch_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sold.sqlite"
    index = SoldIndex(path)
    batch = Attested(commit(1), SAID)

    def dying() -> Iterator[tuple[bytes, Fingerprint]]:
        yield QUESTION, text(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(batch, dying())
    index.close()
    index = SoldIndex(path)
    assert index.entry(batch) is None
    entry = index.add(batch, [(QUESTION, text(1)), (QUESTION, text(2))])
    assert index.add(batch, [(QUESTION, text(3))]) == entry  # another process was faster
    index.close()
    assert len(list(SoldIndex(path).sold(QUESTION, [entry]))) == 2
    # Another verdict of the same batch is another sale.
    assert SoldIndex(path).entry(Attested(commit(1), Attestation(b"\x0b" * 32, 2, 0))) is None


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sold.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match="no index of sold texts"):
        SoldIndex(path)


class Chain:
    """A reader over a list of events; fork: a byte that all hashes change with."""

    def __init__(self) -> None:
        self.events_: list[Event] = []
        self.fork = 0
        self.deployment = SimpleNamespace(block=1)
        self.read = 0

    def say(self, block: int, name: str, **args: object) -> None:
        place = len(self.events_)
        self.events_.append(Event(name, "market", args, block, b"", b"", place))

    def block(self, number: int) -> Block:
        return Block(number, bytes([self.fork]) * 32, b"", number)

    def events(self, first: int, last: int, names: object) -> list[Event]:
        found = [one for one in self.events_ if first <= one.block <= last]
        self.read += len(found)
        return found

    def bounty(self, bounty: int) -> SimpleNamespace:
        return SimpleNamespace(terms=SimpleNamespace(environment=ENV))

    def commit(self, batch: int, block: int, root: bytes) -> None:
        content = {"digest": b"\x05" * 32, "codec": 0x55}
        self.say(
            block, "BatchCommitted", batch=batch, bounty=1, miner="0x", root=root, content=content
        )

    def attest(self, batch: int, block: int, said: Attestation) -> None:
        fields = {"verdictRoot": said.root, "units": said.units, "faults": said.faults}
        self.say(block, "BatchAttested", batch=batch, attestation=fields)


def test_outcomes_sell_nothing_and_reorgs_are_read_again(tmp_path: Path) -> None:
    chain, index = Chain(), SoldIndex(None)
    store = EmbeddedStore(tmp_path)
    sales = EarlierSales(chain, store, index, fetch_seconds=0)  # type: ignore[arg-type]
    spec = SimpleNamespace(originality=OriginalitySpec(earlier=10))
    for batch, said in ((1, SAID), (2, UNAVAILABLE), (3, MALFORMED), (4, SAID)):
        chain.commit(batch, batch, bytes([batch]) * 32)
        chain.attest(batch, batch + 10, said)
    chain.say(15, "BatchOverturned", batch=4)
    for one in (1, 4):
        index.add(Attested(commit(one, root=bytes([one]) * 32), SAID), [(QUESTION, text(one))])

    def sold(block: int) -> set[int]:
        found = sales.before(block, ENV, spec)  # type: ignore[arg-type]
        assert found.missing == 0
        return {int.from_bytes(one.digest, "big") for one in found.sold(QUESTION)}

    assert sold(15) == {1, 4}
    assert sold(16) == {1}
    assert sold(15) == {1, 4}  # an older batch, judged later
    read = chain.read
    assert sold(16) == {1}
    assert chain.read == read  # nothing is read twice
    # The chain forgets that batch 1 was attested, and all that came after it.
    chain.fork = 1
    chain.events_ = chain.events_[:1]
    assert sold(16) == set()
    chain.attest(1, 17, SAID)
    assert sold(18) == {1}
