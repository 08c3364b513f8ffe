"""A node with votes to give has checkpoints fetched beside its passes, and says "unavailable" only
of what an attempt has not brought; a command of a person waits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from marketplace.protocol.errors import CheckpointError, ContentUnavailable, NoRoom, StorageError
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.embedded import EmbeddedStore
from marketplace.storage.rooms import Room
from verifier_node import checkpoints
from verifier_node.checkpoints import CheckpointCache
from verifier_node.fetching import FETCH_SECONDS, PAUSE_SECONDS, Fetches, InVain, OnItsWay, inline


class Asked(EmbeddedStore):
    """Notes how long it was to wait, and waits by a clock of its own. down: it does not answer."""

    def __init__(self, directory, time):
        super().__init__(directory, clock=lambda: time.now, wait=self._pass)
        self.time, self.waits, self.down = time, [], False

    def _pass(self, seconds):
        self.time.now += seconds

    def get(self, cid, *, timeout, max_bytes=None):
        self.waits.append(timeout)
        return super().get(cid, timeout=timeout, max_bytes=max_bytes)

    def get_file(self, cid, path, *, timeout, max_bytes=None, on_bytes=None):
        self.waits.append(round(timeout))
        super().get_file(cid, path, timeout=timeout, max_bytes=max_bytes, on_bytes=on_bytes)

    def has(self, cid):
        if self.down:
            raise ContentUnavailable("the daemon does not connect")
        return super().has(cid)


class Later(list):
    """Starts attempts when it is told to, as threads would in their own time."""

    def __call__(self, run):
        self.append(run)

    def end(self):
        self.pop(0)()


@pytest.fixture
def time():
    return SimpleNamespace(now=1000.0)


class World:
    """Checkpoints 1, 2, ... of these weights, each of its own trainer."""

    def __init__(self, folder, time):
        self.folder, self.time = folder, time
        self.store = Asked(folder / "store", time)
        self.known = {}
        self.reader = SimpleNamespace(checkpoint=self.known.__getitem__)

    def publish(self, weights=b"weights", parent=0, **files):
        ident = len(self.known) + 1
        model = self.folder / f"model-{ident}"
        model.mkdir()
        (model / "model.safetensors").write_bytes(weights)
        for name, text in files.items():
            (model / f"{name}.json").write_text(text)
        cid = put_checkpoint(self.store, model)
        content = SimpleNamespace(digest=cid.digest, codec=cid.codec)
        self.known[ident] = SimpleNamespace(content=content, trainer=f"t{ident}", parent=parent)
        return cid

    def cache(self, **options):
        folder = self.folder / "node"
        return CheckpointCache(
            self.reader, self.store, folder, clock=lambda: self.time.now, **options
        )

    def node(self, start=inline, **options):
        fetches = Fetches(20.0, clock=lambda: self.time.now, start=start)
        return self.cache(fetches=fetches, **options)

    def withhold(self, part):
        (found,) = (one for one in self.store._content.glob("*/*") if part in one.read_bytes())
        kept = found.rename(found.with_suffix(".away"))
        return lambda: kept.rename(found)


@pytest.fixture
def world(tmp_path, time):
    world = World(tmp_path, time)
    world.publish()
    return world


def test_weights_that_nobody_serves_are_waited_for_once_in_a_while(world, time):
    node = world.node()
    publish = world.withhold(b"weights")
    for _ in range(2):
        with pytest.raises(InVain):
            node.folder(1)
    assert world.store.waits == [20.0, FETCH_SECONDS, 20.0, 20.0]
    time.now += PAUSE_SECONDS
    with pytest.raises(InVain):
        node.folder(1)
    assert world.store.waits[4:] == [20.0, FETCH_SECONDS]
    publish()  # what has come is found at once, pause or not
    assert node.folder(1).is_dir()


def test_a_manifest_that_nobody_serves_is_looked_for_each_time_for_a_moment(world):
    node = world.node()
    world.withhold(b"model.safetensors")
    for _ in range(2):
        with pytest.raises(InVain):
            node.folder(1)
    assert world.store.waits == [20.0, 20.0]


def test_files_have_all_their_time_once_the_manifest_is_there(world):
    node = world.node()
    publish = world.withhold(b"model.safetensors")
    with pytest.raises(InVain):
        node.folder(1)
    publish()
    world.withhold(b"weights")
    with pytest.raises(InVain):
        node.folder(1)
    assert world.store.waits == [20.0, 20.0, FETCH_SECONDS]


def test_a_command_of_a_person_waits_each_time(world):
    person = world.cache()
    world.withhold(b"model.safetensors")
    for _ in range(2):
        with pytest.raises(ContentUnavailable):
            person.folder(1)
    assert world.store.waits == [FETCH_SECONDS, FETCH_SECONDS]


def test_a_node_is_told_what_is_on_its_way_and_goes_on(world):
    start = Later()
    node = world.node(start)
    for _ in range(3):
        with pytest.raises(OnItsWay):
            node.folder(1)
    assert (len(start), world.store.waits) == (1, [])
    start.end()
    assert node.folder(1).is_dir()
    assert start == []


def test_what_was_waited_for_in_vain_is_told_with_its_age_while_it_is_looked_for_again(world, time):
    start = Later()
    node = world.node(start)
    publish = world.withhold(b"weights")
    with pytest.raises(OnItsWay):
        node.folder(1)
    start.end()
    time.now += 7
    for _ in range(2):  # to every batch that names it
        with pytest.raises(InVain) as found:
            node.folder(1)
        assert found.value.age == 7
    assert len(start) == 1
    publish()
    start.end()
    found.value.again()  # no more
    assert node.folder(1).is_dir()


def test_what_was_found_out_long_ago_is_said_no_more(world, time):
    start = Later()
    node = world.node(start)
    world.withhold(b"weights")
    with pytest.raises(OnItsWay):
        node.folder(1)
    start.end()
    time.now += PAUSE_SECONDS + 1
    with pytest.raises(OnItsWay):
        node.folder(1)


def test_who_asks_again_through_what_was_raised_is_told_the_same(world):
    start = Later()
    node = world.node(start)
    with pytest.raises(OnItsWay) as first:
        node.folder(1)
    with pytest.raises(OnItsWay) as second:
        first.value.again()
    start.end()
    second.value.again()


def test_a_store_that_is_down_is_no_content_that_nobody_serves(world):
    node = world.node()
    world.withhold(b"weights")
    world.store.down = True
    with pytest.raises(StorageError, match="daemon") as found:
        node.folder(1)
    assert not isinstance(found.value, ContentUnavailable)
    world.store.down = False
    with pytest.raises(InVain):
        node.folder(1)


def test_a_nodes_own_trouble_is_told_once_and_then_it_tries_again(world):
    start = Later()
    node = world.node(start, room=Room(world.folder / "node", 3))
    with pytest.raises(OnItsWay):
        node.folder(1)
    start.end()
    with pytest.raises(NoRoom):
        node.folder(1)
    with pytest.raises(OnItsWay):
        node.folder(1)


def test_a_checkpoint_that_is_none_is_not_fetched_for_each_batch(world, time):
    cid = world.store.put(b"no manifest")
    world.known[1].content.digest, world.known[1].content.codec = cid.digest, cid.codec
    node = world.node()
    for _ in range(3):
        with pytest.raises(CheckpointError):
            node.folder(1)
    assert world.store.waits == [20.0]


def test_a_bug_in_a_download_ends_no_node_silently(world, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(checkpoints, "fetch_checkpoint", broken)
    with pytest.raises(ZeroDivisionError):
        world.node().folder(1)


def test_a_machine_without_threads_is_the_nodes_own_trouble(world):
    def start(_):
        raise RuntimeError("can't start new thread")

    node = world.node(start)
    for _ in range(2):
        with pytest.raises(StorageError, match="can't start new thread"):
            node.folder(1)


@pytest.mark.parametrize("make", ["cache", "node"])
def test_a_folder_that_does_not_stay_ends_no_loop_in_circles(world, monkeypatch, make):
    monkeypatch.setattr(checkpoints, "hold", lambda _: None)
    with pytest.raises(StorageError, match="removed as soon as it is fetched"):
        getattr(world, make)().folder(1)


def _ids(fetches, start, asked):
    """Which of these (cid, owner) are begun, in order."""
    begun = []
    for cid, owner in asked:
        with pytest.raises((OnItsWay, InVain)):
            fetches.ask(cid, owner, lambda _, cid=cid: begun.append(cid) or _fail())
    return begun


def _fail():
    raise ContentUnavailable("nobody")


def test_who_registers_many_does_not_keep_others_from_theirs(time):
    start = Later()
    fetches = Fetches(20.0, at_once=4, of_one=2, clock=lambda: time.now, start=start)
    begun = _ids(fetches, start, [(f"liar-{n}", "liar") for n in range(9)])
    assert len(start) == 2
    begun_honest = _ids(fetches, start, [("honest", "honest")])
    assert len(start) == 3
    start.pop()()
    assert begun_honest == ["honest"]
    # The next of the liar's begin as others end, each once before any begins again.
    for _ in range(20):
        with pytest.raises((OnItsWay, InVain)):
            fetches.ask("liar-0", "liar", lambda _: begun.append("again") or _fail())
        if "again" in begun:
            break
        start.end()
    assert begun == [*(f"liar-{n}" for n in range(9)), "again"]


def test_who_has_least_under_way_is_next(time):
    start = Later()
    fetches = Fetches(20.0, at_once=4, of_one=2, clock=lambda: time.now, start=start)
    lies = [(f"{liar}-{n}", liar) for liar in ("one", "two") for n in range(9)]
    _ids(fetches, start, lies)
    assert len(start) == 4
    begun = _ids(fetches, start, [("honest", "honest")])
    start.end()
    start.pop()()
    assert begun == ["honest"]


def test_who_registers_the_content_of_another_too_does_not_make_it_wait(time):
    start = Later()
    fetches = Fetches(20.0, at_once=4, of_one=1, clock=lambda: time.now, start=start)
    _ids(fetches, start, [("own", "liar"), ("copied", "liar")])
    assert len(start) == 1
    _ids(fetches, start, [("copied", "honest")])
    assert len(start) == 2


def test_no_more_than_so_many_run_at_once(time):
    start = Later()
    fetches = Fetches(20.0, at_once=3, of_one=2, clock=lambda: time.now, start=start)
    _ids(fetches, start, [(f"of-{n}", str(n)) for n in range(7)])
    for _ in range(4):
        assert len(start) == 3
        start.end()
    assert len(start) == 3


def test_what_nobody_asks_for_any_more_is_not_begun(time):
    start = Later()
    fetches = Fetches(20.0, at_once=1, of_one=1, clock=lambda: time.now, start=start)
    begun = _ids(fetches, start, [("first", "a"), ("old", "b")])
    time.now += PAUSE_SECONDS + 1
    begun += _ids(fetches, start, [("new", "c")])
    start.end()
    assert len(start) == 1
    start.end()
    assert "old" not in begun


# --- room on the disk ------------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch):
    """Policies that are the names of what they were loaded from."""
    monkeypatch.setattr(
        checkpoints, "_load", lambda folder, base: (folder.name, base and base.name)
    )


def _on_disk(world):
    return {one.name for one in (world.folder / "node").glob("[!.]*")}


def test_what_was_not_used_for_longest_goes_first_and_what_is_loaded_stays(world, loads):
    first = world.publish(b"a" * 4000)
    second = world.publish(b"b" * 4000)
    third = world.publish(b"c" * 4000)
    node = world.node(room=Room(world.folder / "node", 10_000))
    node.policy(2)
    node.policy(3)  # checkpoint 2 is loaded no more
    node.policy(4)
    assert _on_disk(world) == {str(second), str(third)}
    node.policy(3)
    node.policy(2)
    assert _on_disk(world) == {str(first), str(second)}


def test_the_base_of_what_is_loaded_stays_though_it_is_older(world, loads, monkeypatch):
    base = world.publish(b"b" * 4000)
    adapter = world.publish(b"a" * 100, parent=2, base="{}")
    monkeypatch.setattr(checkpoints, "is_adapter", lambda folder: folder.name == str(adapter))
    monkeypatch.setattr(checkpoints, "base_of", lambda folder: str(base))
    world.publish(b"o" * 4000)
    node = world.node()
    assert node.policy(3) == (str(adapter), str(base))
    # Another process, say, on the same disk.
    with pytest.raises(NoRoom, match="in use or on their way"):
        world.node(room=Room(world.folder / "node", 8_000)).policy(4)
    assert _on_disk(world) == {str(adapter), str(base)}
    assert node.policy(3) == (str(adapter), str(base))


def test_an_adapter_and_its_base_drive_each_other_out_by_no_turns(world, loads, monkeypatch):
    base = world.publish(b"b" * 4000)
    adapter = world.publish(b"a" * 4000, parent=2)
    monkeypatch.setattr(checkpoints, "is_adapter", lambda folder: folder.name == str(adapter))
    monkeypatch.setattr(checkpoints, "base_of", lambda folder: str(base))
    start = Later()
    node = world.node(start, room=Room(world.folder / "node", 6_000))
    with pytest.raises(OnItsWay):
        node.policy(3)
    start.end()
    for _ in range(2):
        with pytest.raises(OnItsWay):
            node.policy(3)
        start.end()
        assert _on_disk(world) == {str(adapter)}
        with pytest.raises(NoRoom):
            node.policy(3)


def test_a_node_unloads_where_only_that_makes_room(world, loads):
    world.publish(b"a" * 4000)
    second = world.publish(b"b" * 4000)
    node = world.node(room=Room(world.folder / "node", 6_000))
    node.policy(2)
    with pytest.raises(NoRoom):
        node.policy(3)
    node.policy(3)
    assert _on_disk(world) == {str(second)}


def test_a_checkpoint_over_the_limit_is_this_nodes_trouble_by_name(world):
    world.publish(b"a" * 4000)
    node = world.node(room=Room(world.folder / "node", 3_999))
    with pytest.raises(NoRoom, match=r"has 4,000 bytes.*3,999.*--checkpoint-gb") as found:
        node.folder(2)
    assert not isinstance(found.value, InVain)
    assert _on_disk(world) == set()
