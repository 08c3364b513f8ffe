"""How the options of a node become its cache of checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from marketplace.cli.watching import make_checkpoints
from marketplace.protocol.errors import NoRoom
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.embedded import EmbeddedStore
from verifier_node.fetching import InVain, OnItsWay


@pytest.fixture
def make(tmp_path):
    """A node's cache over a store with one checkpoint of 4,000 bytes."""
    store = EmbeddedStore(tmp_path / "store")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"w" * 4000)
    cid = put_checkpoint(store, tmp_path / "model")
    known = SimpleNamespace(content=SimpleNamespace(digest=cid.digest, codec=cid.codec), trainer="")
    context = SimpleNamespace(folder=lambda *parts: tmp_path.joinpath("home", *parts))

    def make(gigabytes=1.0, *, once=True, empty=False):
        reader = SimpleNamespace(checkpoint=lambda _: known)
        chosen = EmbeddedStore(tmp_path / "empty") if empty else store
        return make_checkpoints(context, reader, chosen, 0.1, gigabytes, once=once)

    return make


def test_gigabytes_are_the_limit(make):
    with pytest.raises(NoRoom, match="3,000"):
        make(0.000003).folder(1)
    assert make(0.000006).folder(1).parent.name == "checkpoints"


def test_a_single_pass_waits_and_a_node_does_not(make):
    with pytest.raises(InVain, match=r"looked for 0\.1 s"):
        make(empty=True).folder(1)
    with pytest.raises(OnItsWay):
        make(empty=True, once=False).folder(1)
