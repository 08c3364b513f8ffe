"""Experts on a real Anvil: trained on attested traces, registered, sampled, verified, composed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from cli_kit import command
from test_replayed_market import SPEC, Replaying, policy  # noqa: F401  (a fixture)

from marketplace.gym.modules import base_of, is_adapter, write_base
from marketplace.gym.policy import Policy
from marketplace.gym.pool import CheckPool
from marketplace.miner.sampler import TransformersSampler
from marketplace.protocol.errors import CheckpointError, ContentCorrupt
from marketplace.protocol.hashing import ZERO32
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.cid import Cid
from trainer.checkpoint import read_record
from trainer.config import TrainSettings
from trainer.experts import LoraSettings, Start, train_expert
from trainer.turn import publish, train_on_batches
from verifier_node.checkpoints import CheckpointCache

GROUPS = 4


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as pool:
        yield pool


@pytest.fixture
def loop(market, pool, tmp_path) -> Replaying:
    return Replaying(market, pool, tmp_path)


@pytest.fixture
def cli(market, accounts, tmp_path, monkeypatch, capsys):
    return command("model", market, accounts.trainer, tmp_path, monkeypatch, capsys)


def _cid(market, checkpoint: int) -> Cid:
    content = market.reader.checkpoint(checkpoint).content
    return Cid.from_chain(content.digest, content.codec)


def test_experts_from_traces_to_a_composed_module(
    loop,
    market,
    accounts,
    policy,  # noqa: F811
    cli,
    tmp_path,
    caplog,
):
    bounty, base = loop.prepare(policy)
    mined = loop.miner().mine(bounty, GROUPS, TransformersSampler(policy, "t"), checkpoint=base)
    written = loop.judged(mined.batch)

    # The first turn, by the command.
    (tmp_path / "fast.toml").write_text("learning_rate = 1e-2\n")
    words = ("expert", "--bounty", bounty, "--parent", base, "--rank", 4)
    code, out, err = cli(*words, "--settings", "fast.toml", "--out", "first")
    assert code == 0, err
    first = int(out)
    # Much smaller than the base; it says which base that is, and what it was trained on.
    assert is_adapter(tmp_path / "first")
    assert base_of(tmp_path / "first") == str(_cid(market, base))
    registered = market.reader.checkpoint(first)
    record = read_record(tmp_path / "first")
    assert (registered.parent, record["parent"]) == (base, base)
    assert "0x" + registered.dataset_root.hex() == record["dataset"]["root"]
    assert record["settings"]["adapter"]["rank"] == 4

    # Miners sample from it and verifiers replay it, each with a cache of its own.
    cache = CheckpointCache(market.reader, loop.store, tmp_path / "miner")
    expert = cache.policy(first)
    plain = Policy.load(cache.base_folder(first)).model.state_dict()
    assert any(not one.equal(plain[name]) for name, one in expert.model.state_dict().items())
    mined = loop.miner().mine(bounty, GROUPS, TransformersSampler(expert, "t"), checkpoint=first)
    opened = loop.judged(mined.batch)
    assert opened.attestation.faults == 0
    assert opened.attestation.units > 0
    # The second turn starts where the first ended.
    folder = tmp_path / "second"
    start = Start(cache.folder(base), str(_cid(market, base)), cache.folder(first))
    trained = train_expert(start, first, [opened], SPEC, TrainSettings(), folder)
    trainer = market.client(accounts.trainer)
    second, _ = publish(
        trainer, loop.store, folder, parent=trainer.checkpoint(first), root=trained.dataset_root
    )
    assert cache.base_folder(second) == cache.folder(base)

    # Whole weights in bf16, twice: who has the first one gets the second by its delta.
    halves = []
    for name, parent in (("half", base), ("quarter", None)):
        above = parent or halves[-1]
        settings = TrainSettings(weights="bf16", learning_rate=1e-4)
        policy_above = Policy.load(cache.folder(above))
        made = train_on_batches(
            policy_above,
            above,
            [written],
            SPEC,
            settings,
            tmp_path / name,
            ages={base: 1},
            behaviour_of=cache.policy,
        )
        child, _ = publish(
            trainer,
            loop.store,
            made.folder,
            parent=trainer.checkpoint(above),
            root=made.dataset_root,
            parent_folder=cache.folder(above),
        )
        halves.append(child)
    with caplog.at_level("INFO", logger="marketplace.storage.checkpoints"):
        theirs = cache.policy(halves[1]).model.state_dict()
    assert "delta_applied file=model.safetensors" in caplog.text
    assert all(one.equal(theirs[name]) for name, one in policy_above.model.state_dict().items())

    # Composed, registered, and a checkpoint like any other; its root covers both data sets.
    experts = ("--expert", first, "--expert", second)
    code, out, err = cli("compose", "--method", "ties", *experts, "--out", "ties", "--register")
    assert code == 0, err
    ties = int(out)
    assert market.reader.checkpoint(ties).parent == base
    batches = [one["batch"] for one in read_record(tmp_path / "ties")["dataset"]["batches"]]
    assert batches == [1, mined.batch]
    assert cache.policy(ties).context == policy.context

    code, out, err = cli("compose", "--method", "route", *experts, "--out", "route", "--register")
    assert code == 0, err
    router = int(out)
    with pytest.raises(CheckpointError, match=f"checkpoint {router} is a router"):
        cache.policy(router)

    words = ("compare", *experts, "--composed", ties, "--composed", router)
    code, out, err = cli(*words, "--tasks", 2, "--samples", 2, "--out", "table", "--json")
    assert code == 0, err
    assert len(json.loads(out)) == 5
    assert (tmp_path / "table" / "experts.png").is_file()

    # What can't be composed is said.
    code, _, err = cli("compose", "--method", "magic", *experts, "--out", "x")
    assert (code, "magic" in err) == (2, True)
    code, _, err = cli(
        "compose", "--method", "ties", "--expert", base, "--expert", first, "--out", "x"
    )
    assert (code, f"checkpoint {base} is no adapter" in err) == (5, True)
    # An expert whose record claims another batch than the root it is registered with.
    record = json.loads((tmp_path / "first" / "training.json").read_text())
    record["dataset"]["batches"][0]["units"] += 1
    (tmp_path / "first" / "training.json").write_text(json.dumps(record))
    # Our own `publish` refuses that; a liar registers without it.
    told = put_checkpoint(loop.store, tmp_path / "first")
    lie, _ = trainer.register_checkpoint(trainer.checkpoint(base), told, registered.dataset_root)
    code, _, err = cli(
        "compose", "--method", "ties", "--expert", lie, "--expert", second, "--out", "x"
    )
    assert (code, f"the batches of expert {lie} lead to root" in err) == (5, True)


def test_adapters_that_no_node_loads(loop, market, accounts, policy, tmp_path):  # noqa: F811
    from trainer.checkpoint import TrainingRecord
    from trainer.experts import adapt, save_adapter

    _, base = loop.prepare(policy)
    trainer = market.client(accounts.trainer)
    cache = CheckpointCache(market.reader, loop.store, tmp_path / "node")
    record = TrainingRecord(parent=base, dataset={}, settings={}, metrics={})

    def registered(name: str, parent: int, change=lambda _: None) -> int:
        start = Start(cache.folder(base), str(_cid(market, base)))
        folder = save_adapter(
            adapt(start, LoraSettings(rank=2)),
            tmp_path / name,
            sampling=SPEC.sampling,
            record=record,
            base=start.cid,
        )
        change(folder)
        above = trainer.checkpoint(parent)
        return publish(trainer, loop.store, folder, parent=above, root=ZERO32)[0]

    good = registered("good", base)
    cache.policy(good)

    # Made for another base than any of its ancestors, though that base is registered too.
    # (The first is the good one's content under a false parent: what is in memory already must
    # not be taken for it, or nodes would disagree.)
    policy.model.save_pretrained(tmp_path / "twin")
    policy.tokenizer.save_pretrained(tmp_path / "twin")
    (tmp_path / "twin" / "notes.txt").write_text("another")
    twin, cid = publish(trainer, loop.store, tmp_path / "twin", parent=None, root=ZERO32)
    for parent, change in ((twin, lambda _: None), (base, lambda path: write_base(path, str(cid)))):
        wrong = registered(f"wrong-{parent}", parent, change)
        with pytest.raises(CheckpointError, match=f"{wrong} is an adapter for .* none of its"):
            cache.policy(wrong)

    def widen(path: Path) -> None:
        config = json.loads((path / "adapter_config.json").read_text())
        (path / "adapter_config.json").write_text(json.dumps(config | {"r": 10**6}))

    with pytest.raises(CheckpointError, match="r is 1000000"):
        cache.policy(registered("wide", base, widen))

    # A byte changed on its way.
    tampered = registered("tampered", base, lambda path: (path / "notes.txt").write_text("x"))
    stored = loop.store.get(_cid(market, tampered), timeout=0)
    entry = json.loads(stored)["files"]["notes.txt"]
    place = next((tmp_path / "store" / "content").glob(f"*/{entry['cid']}"))
    place.chmod(0o644)
    place.write_bytes(b"y")
    with pytest.raises(ContentCorrupt):
        cache.policy(tampered)
