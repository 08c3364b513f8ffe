"""Royalties and lineages on Anvil: everybody who made a checkpoint collects its part to the base
unit, and a record that says another thing than the chain is refused."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from royalty_kit import Refinery, registered, write_folder

from marketplace.chain.client import Payment
from marketplace.chain.errors import ContractError
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import CheckpointShares
from marketplace.protocol.errors import (
    CheckpointError,
    InsufficientFunds,
    InvalidValue,
    ProofFailed,
)
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.merkle import dataset_leaf, verify_inclusion
from marketplace.protocol.shares import (
    ALL_SHARES,
    Share,
    ShareList,
    Split,
    derive_shares,
    encode_shares,
)
from trainer.lineage import lineage, prove_batch, read_step, settled_blocks, verify_step
from trainer.royalties import check_shares, due_now, fetch_shares
from trainer.turn import publish


def collect(refinery: Refinery, checkpoint: int, account: str) -> int:
    reader = refinery.market.reader
    one = reader.checkpoint(checkpoint)
    found = due_now(reader, one, fetch_shares(reader, refinery.store, one, timeout=0), account)
    assert found is not None
    collection, due = found
    before = reader.balance(account)
    if due:
        reader.collect_royalties([collection])  # anybody may
    assert reader.balance(account) == before + due
    return due


def test_everybody_who_made_a_checkpoint_collects_to_the_base_unit(
    refinery, market, accounts, owner
):
    base = refinery.base(owner)
    first = refinery.batch(accounts.miner, 6)
    second = refinery.batch(accounts.other_miner, 3)
    third = refinery.batch(accounts.miner, 5)
    entries = refinery.entries([first, second, third], [500, 1000, 0])
    assert [one.weight_ppm for one in entries] == [333_333, 666_667, 0]
    child = refinery.child(accounts.trainer, base, entries, pass_on_ppm=250_000)
    read = market.reader.checkpoint(child)
    assert (read.dataset_root, read.parent) == (refinery.root(entries), base)
    assert (read.holders, read.pass_on_ppm) == (4, 250_000)

    step = read_step(market.reader, refinery.store, child, timeout=0)
    batches = verify_step(
        market.reader, refinery.store, step, settled_blocks(market.reader), timeout=0
    )
    shares = fetch_shares(market.reader, refinery.store, read, timeout=0)
    checked = check_shares(market.reader, shares, read, step.entries, batches)
    assert (checked.honest, checked.usual_split) == (True, True)
    parts = {"0x" + one.account.hex(): one.share for one in shares.shares}
    # a third and two thirds of 60 %, whatever the units of the batches
    miner, other = (a.address.lower() for a in (accounts.miner, accounts.other_miner))
    assert parts[miner] == 199_999_800
    assert parts[other] == 400_000_200
    assert parts[refinery.author.address.lower()] == 100_000_000
    assert parts[accounts.trainer.address.lower()] == 300_000_000

    payer = market.client(accounts.deployer)
    payer.pay_royalty(read, 1_000_001)
    payer.pay_royalty(read, 9, payment=Payment.APPROVE)
    payer.deposit(5)
    payer.pay_royalty(read, 5)
    received = 1_000_015
    assert market.reader.royalties(child).received == received
    goes_on = received // 4
    kept = received - goes_on
    people = (accounts.miner, accounts.other_miner, accounts.trainer, refinery.author)
    earned = {}
    for key in people:
        part = kept * parts[key.address.lower()] // ALL_SHARES
        before = market.reader.balance(key.address)
        assert collect(refinery, child, key.address) == part
        assert market.reader.balance(key.address) == before + part
        assert collect(refinery, child, key.address) == 0  # not twice
        earned[key] = part
    assert 0 <= kept - sum(earned.values()) < 4  # dust stays owed

    # the parent's part, then the same again: one collection for all payments since
    assert market.reader.royalty_due_to_parent(child) == goes_on
    payer.pass_on_royalties([child])
    assert collect(refinery, base, owner.address) == goes_on
    for amount in (7, 11, 2_000_000):
        payer.pay_royalty(read, amount)
    received += 2_000_018
    payer.pass_on_royalties([child])
    kept = received - received // 4
    for key in people:
        share = parts[key.address.lower()]
        assert collect(refinery, child, key.address) == kept * share // ALL_SHARES - earned[key]
    assert collect(refinery, base, owner.address) == received // 4 - goes_on
    sums = market.reader.royalties(child)
    dust = received - sums.passed_on - sums.collected
    assert market.reader.held_for("royalties") == dust < 4
    before = market.reader.token_balance(owner.address)
    market.client(owner).withdraw()
    assert market.reader.token_balance(owner.address) == before + received // 4


def test_what_the_royalties_refuse(refinery, market, accounts, owner):
    base = refinery.base(owner)
    client = market.client(accounts.deployer)
    one = market.reader.checkpoint(base)
    with pytest.raises(ContractError, match="no checkpoint 7"):
        client.pay_royalty(replace(one, id=7), 5)
    with pytest.raises(ContractError, match="the amount is zero"):
        client.pay_royalty(one, 0)
    with pytest.raises(InsufficientFunds, match="pay_royalty needs"):
        market.client(accounts.stranger).pay_royalty(one, 5)
    with pytest.raises(ContractError, match="has nothing to pass on"):
        client.pass_on_royalties([base])
    shares = fetch_shares(market.reader, refinery.store, one, timeout=0)
    collection, due = due_now(market.reader, one, shares, owner.address)
    assert due == 0
    with pytest.raises(ContractError, match="nothing to collect"):
        client.collect_royalties([collection])
    client.pay_royalty(one, 100)
    thief = accounts.stranger.address
    with pytest.raises(ContractError, match=f"{thief} does not have the share 1000000000"):
        client.collect_royalties([replace(collection, account=thief)])
    with pytest.raises(ContractError, match="at place 1"):
        client.collect_royalties([replace(collection, index=1)])
    # one of several that fails takes all of them back
    client.collect_royalties([collection])
    client.pay_royalty(one, 100)
    with pytest.raises(ContractError, match="nothing to collect"):
        client.collect_royalties([collection, collection])
    assert market.reader.royalties(base).collected == 100
    assert due_now(market.reader, one, shares, thief) is None
    for parent, terms, message in (
        (one, CheckpointShares(shares.root, 1, 500_001, one.content), "500001 ppm would go on"),
        (None, CheckpointShares(shares.root, 1, 1, one.content), "1 ppm would go on .* 0 can"),
        (None, CheckpointShares(ZERO32, 1, 0, one.content), "the list of shares has the root"),
        (None, CheckpointShares(shares.root, 0, 0, one.content), "and 0 holders"),
    ):
        with pytest.raises(ContractError, match=message):
            client.register_checkpoint(parent, one.content, ZERO32, terms)


def test_a_list_that_is_not_the_derived_one_is_seen(refinery, market, accounts, owner):
    """The contract takes it; whoever derives the list again sees who got less."""
    base = refinery.base(owner)
    entries = refinery.entries([refinery.batch(accounts.miner, 6)], [10])
    honest = refinery.child(accounts.trainer, base, entries)
    one = market.reader.checkpoint(honest)
    trainer, miner = (bytes.fromhex(a.address[2:]) for a in (accounts.trainer, accounts.miner))
    lists = {
        "skimmed": ShareList(
            tuple(sorted([Share(trainer, 900_000_000), Share(miner, 100_000_000)],
                         key=lambda share: share.account))
        ),
        "alone": derive_shares(trainer, ()),
    }  # fmt: skip
    step = read_step(market.reader, refinery.store, honest, timeout=0)
    settled = settled_blocks(market.reader)
    batches = verify_step(market.reader, refinery.store, step, settled, timeout=0)
    for shares in lists.values():
        listed = refinery.store.put(encode_shares(shares))
        terms = CheckpointShares(shares.root, len(shares.shares), 0, listed)
        client = market.client(accounts.trainer)
        above = client.checkpoint(base)
        lying, _ = client.register_checkpoint(above, one.content, one.dataset_root, terms)
        read = market.reader.checkpoint(lying)
        found = fetch_shares(market.reader, refinery.store, read, timeout=0)
        checked = check_shares(market.reader, found, read, step.entries, batches)
        assert not checked.honest
        wronged = next(
            d for d in checked.differences if d.account == accounts.miner.address.lower()
        )
        assert wronged.derived == 600_000_000 > wronged.registered
    # Another split is another honest list, and said.
    folder = write_folder(refinery.folder / "other-split", refinery.record(base, entries))
    greedy, _ = publish(
        market.client(accounts.trainer), refinery.store, folder,
        parent=market.reader.checkpoint(base), root=refinery.root(entries), split=Split(0, 0),
    )  # fmt: skip
    read = market.reader.checkpoint(greedy)
    found = fetch_shares(market.reader, refinery.store, read, timeout=0)
    checked = check_shares(market.reader, found, read, step.entries, batches)
    # a list of the trainer alone needs no file, so it does not say its split
    assert not checked.honest


def test_a_list_that_is_not_the_registered_one(refinery, market, accounts, owner):
    base = refinery.base(owner)
    client = market.client(accounts.trainer)
    one = market.reader.checkpoint(base)
    shares = derive_shares(accounts.miner.address, ())
    for terms, message in (
        (
            CheckpointShares(b"\x01" * 32, 1, 0, refinery.store.put(encode_shares(shares))),
            "leads to",
        ),
        (CheckpointShares(shares.root, 2, 0, refinery.store.put(encode_shares(shares))), "2 and"),
        (CheckpointShares(shares.root, 1, 0, refinery.store.put(b"{}")), "not valid"),
        (CheckpointShares(shares.root, 2**32 - 1, 0, one.content), "4294967295 holders"),
    ):
        bad, _ = client.register_checkpoint(one, one.content, ZERO32, terms)
        with pytest.raises(ProofFailed, match=message) as refused:
            fetch_shares(market.reader, refinery.store, market.reader.checkpoint(bad), timeout=0)
        assert f"checkpoint {bad}" in str(refused.value)


def test_a_lineage_is_walked_and_verified(refinery, market, accounts, owner):
    base = refinery.base(owner)
    first = refinery.batch(accounts.miner, 6)
    second = refinery.batch(accounts.other_miner, 3)
    one = refinery.child(accounts.trainer, base, refinery.entries([first], [10]))
    two = refinery.child(accounts.trainer, one, refinery.entries([first, second], [1, 2]))
    steps = lineage(market.reader, refinery.store, two, timeout=0)
    assert [step.checkpoint.id for step in steps] == [two, one, base]
    settled = settled_blocks(market.reader)
    for step in steps:
        verify_step(market.reader, refinery.store, step, settled, timeout=0)
    assert steps[0].bounties == (refinery.bounty,)
    assert steps[-1].training is None

    deployment = market.deployment
    domain = (deployment.chain_id, deployment.address("market"))
    proof = prove_batch(*domain, steps[0], second)
    leaf = dataset_leaf(*domain, second, b"\x03" * 32, 3, 666_667)
    root = market.reader.checkpoint(two).dataset_root
    assert verify_inclusion(leaf, proof.index, proof.size, proof.siblings, root)
    with pytest.raises(InvalidValue, match="batch 99 is not in the dataset"):
        prove_batch(*domain, steps[0], 99)
    with pytest.raises(InvalidValue, match="batch 1 is not in the dataset"):
        prove_batch(*domain, steps[2], 1)


def test_lies_about_a_dataset_are_refused(refinery, market, accounts, owner):
    base = refinery.base(owner)
    first = refinery.batch(accounts.miner, 6)
    second = refinery.batch(accounts.other_miner, 3)
    pending = refinery.batch(accounts.other_miner, 2, settle=False)
    true = refinery.entries([first, second], [1, 1])
    root = refinery.root(true)

    def refused(entries, message, *, root=root, parent=base, sampling="the spec's", **changes):
        record = refinery.record(base, entries, **changes)
        bad = registered(refinery, accounts, parent, record, root=root, sampling=sampling)
        step = read_step(market.reader, refinery.store, bad, timeout=0)
        settled = settled_blocks(market.reader)
        with pytest.raises(ProofFailed, match=message) as error:
            verify_step(market.reader, refinery.store, step, settled, timeout=0)
        assert f"checkpoint {bad}" in str(error.value)

    unsettled = refinery.entries([first, pending], [1, 1])
    refused(unsettled, f"batch {pending}, which is not settled", root=refinery.root(unsettled))
    missing = [true[0], true[1].model_copy(update={"batch": 99})]
    refused(missing, "batch 99, which does not exist", root=refinery.root(missing))
    other = [true[0], true[1].model_copy(update={"verdict_root": "0x" + "77" * 32})]
    refused(other, f"batch {second} was attested with root 0x7777", root=refinery.root(other))
    units = [true[0], true[1].model_copy(update={"units": 4})]
    refused(units, f"batch {second} .* 4 units; final is .* with 3", root=refinery.root(units))
    heavy = [true[0], true[1].model_copy(update={"weight_ppm": 1_000_001})]
    refused(heavy, f"batch {second} has the weight 1000001 ppm")
    light = [true[0], true[1].model_copy(update={"weight_ppm": -1})]
    refused(light, f"batch {second} has the weight -1 ppm")
    short = [true[0], true[1].model_copy(update={"weight_ppm": 499_999})]
    refused(short, "add up to 999999 ppm")
    unweighed = [one.model_copy(update={"weight_ppm": 0}) for one in true]
    refused(unweighed, "add up to 0 ppm")  # else the trainer would hold all shares
    refused(true[::-1], f"batch {first} follows batch {second}")
    refused([true[0], true[0]], f"batch {first} follows batch {first}")
    refused(true, "lead to the dataset root", root=b"\x05" * 32)
    refused(true, f"names batch {first}, but is registered without a dataset", root=ZERO32)
    refused(true, "child of 2, its own record says 1", parent=2)
    refused([], "child of 2, its own record says 1", parent=2, root=ZERO32)
    refused(true, "no sampling rules", sampling=None)
    refused(true, "other sampling rules", sampling={"temperature": 0.5})
    refused([], "lead to the dataset root 0x0000")

    bare = registered(refinery, accounts, base, None, root=root)
    step = read_step(market.reader, refinery.store, bare, timeout=0)
    with pytest.raises(ProofFailed, match="no record of what is in it"):
        verify_step(market.reader, refinery.store, step, {}, timeout=0)

    # Registered first, settled later: the batch can't have been trained on as attested.
    late = refinery.entries([pending], [1])
    early = registered(
        refinery, accounts, base, refinery.record(base, late), root=refinery.root(late)
    )
    market.reader.settle(pending)
    step = read_step(market.reader, refinery.store, early, timeout=0)
    settled = settled_blocks(market.reader)
    with pytest.raises(ProofFailed, match=f"before batch {pending} was settled in block"):
        verify_step(market.reader, refinery.store, step, settled, timeout=0)


def test_a_batch_settled_later_in_the_same_block_is_refused(
    refinery, market, accounts, owner, monkeypatch
):
    base = refinery.base(owner)
    batch = refinery.batch(accounts.miner, 6)
    child = refinery.child(accounts.trainer, base, refinery.entries([batch], [1]))
    (settlement,) = market.reader.events(0, market.reader.head().number, names=["BatchSettled"])
    step = read_step(market.reader, refinery.store, child, timeout=0)
    settled = settled_blocks(market.reader)
    registration = replace(
        market.reader.registration(child),
        block=settlement.block,
        log_index=settlement.log_index + 1,
    )
    kind = type(market.reader)
    monkeypatch.setattr(kind, "registration", lambda *_: registration)
    assert verify_step(market.reader, refinery.store, step, settled, timeout=0)
    before = replace(registration, log_index=settlement.log_index - 1)
    monkeypatch.setattr(kind, "registration", lambda *_: before)
    with pytest.raises(ProofFailed, match=f"before batch {batch} was settled in block"):
        verify_step(market.reader, refinery.store, step, settled, timeout=0)


def test_a_batch_named_often_is_read_once(refinery, market, accounts, owner, monkeypatch):
    """64 MiB of it would be half a million reads."""
    base = refinery.base(owner)
    (entry,) = refinery.entries([refinery.batch(accounts.miner, 6)], [1])
    record = refinery.record(base, [entry] * 300)
    bad = registered(refinery, accounts, base, record, root=b"\x05" * 32)
    settled = settled_blocks(market.reader)
    read, batch_of = [], MarketReader.batch
    monkeypatch.setattr(MarketReader, "batch", lambda self, n: read.append(n) or batch_of(self, n))
    step = read_step(market.reader, refinery.store, bad, timeout=0)
    with pytest.raises(ProofFailed, match=f"batch {entry.batch} follows batch {entry.batch}"):
        verify_step(market.reader, refinery.store, step, settled, timeout=0)
    assert read == [entry.batch]


def test_records_that_are_none(refinery, market, accounts, owner):
    base = refinery.base(owner)
    good = refinery.record(base, [])
    for record, message in (
        (good | {"v": 2}, "v: "),
        (good | {"parent": "1"}, "parent: .*is '1'"),
        ({}, "v: Field required"),
        (good | {"dataset": {"root": "0x00", "batches": []}}, "dataset.root"),
        ([], "the file"),
    ):
        bad = registered(refinery, accounts, base, record, root=ZERO32)
        with pytest.raises(CheckpointError, match=message) as refused:
            read_step(market.reader, refinery.store, bad, timeout=0)
        assert f"training.json of checkpoint {bad}" in str(refused.value)
    folder, client = write_folder(refinery.folder / "other", good), market.client(accounts.trainer)
    with pytest.raises(CheckpointError, match="does not lead to the dataset root 0x0505"):
        publish(client, refinery.store, folder, parent=client.checkpoint(base), root=b"\x05" * 32)
    # Nobody could verify a child whose record names another parent.
    with pytest.raises(CheckpointError, match=f"names parent {base}, not None"):
        publish(client, refinery.store, folder, parent=None, root=b"\x05" * 32)


def test_what_the_chain_took_back_is_not_registered(refinery, market, accounts, owner):
    """A reorg after the turn began, say: paying for a child that nobody can verify helps nobody."""
    base = refinery.base(owner)
    first = refinery.batch(accounts.miner, 6)
    pending = refinery.batch(accounts.other_miner, 2, settle=False)
    (entry,) = refinery.entries([first], [1])
    other = entry.model_copy(update={"verdict_root": "0x" + "77" * 32})
    fewer = entry.model_copy(update={"units": 5})
    known = market.reader.checkpoint_count()
    for wrong in (other, fewer, *refinery.entries([pending], [1])):
        with pytest.raises(CheckpointError, match=f"batch {wrong.batch} is not settled with"):
            refinery.child(accounts.trainer, base, [wrong])
        shutil.rmtree(refinery.folder / f"child-{known + 1}")
    assert market.reader.checkpoint_count() == known
    refinery.child(accounts.trainer, base, [entry])


def test_lists_and_lineages_hold_where_contracts_count_other_blocks(
    refinery, market, accounts, owner, monkeypatch
):
    """On Arbitrum block.number is the number of a block of Ethereum."""
    base = refinery.base(owner)
    child = refinery.child(
        accounts.trainer, base, refinery.entries([refinery.batch(accounts.miner, 6)], [10])
    )
    one = market.reader.checkpoint(child)
    for wrong in (one.registered_block - 1, 5):
        other = replace(one, registered_block=wrong)
        monkeypatch.setattr(type(market.reader), "checkpoint", lambda *_, other=other: other)
        assert len(fetch_shares(market.reader, refinery.store, other, timeout=0).shares) == 3
        step = read_step(market.reader, refinery.store, child, timeout=0)
        settled = settled_blocks(market.reader)
        assert verify_step(market.reader, refinery.store, step, settled, timeout=0)
