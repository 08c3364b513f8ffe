"""The commands of lineages and royalties, as people type them, on a real Anvil."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import command_line
from royalty_kit import CLAIMS, registered

from marketplace.chain.records import CheckpointShares
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.shares import derive_shares, encode_shares

TUSD = 10**6


@pytest.fixture
def cli(market, accounts, refinery, tmp_path, monkeypatch, capsys):
    """cli("royalties", "show", 1, key="miner") -> (exit code, stdout, stderr)."""
    keys = {role: getattr(accounts, role) for role in ("poster", "miner", "stranger", "trainer")}
    keys["author"] = refinery.author
    return command_line(market.anvil.url, market.deployment, keys, tmp_path, monkeypatch, capsys)


def test_the_commands(cli, refinery, market, accounts, owner):
    def read(*words: object, key: str | None = None):
        code, out, err = cli(*words, "--json", key=key)
        assert code == 0, err
        return json.loads(out)

    base = refinery.base(owner)
    first = refinery.batch(accounts.miner, 6)
    one = refinery.child(accounts.trainer, base, refinery.entries([first], [10]))
    two = refinery.child(accounts.trainer, one, refinery.entries([first], [10]))

    assert [row["id"] for row in read("model", "list")] == [1, 2, 3]
    steps = read("model", "lineage", two, "--verify")
    assert [step["checkpoint"] for step in steps] == [two, one, base]
    assert steps[0]["batches"][0]["weight_ppm"] == 1_000_000
    assert steps[0]["evaluation"]["environments"] == CLAIMS
    assert steps[2]["evaluation"] is None
    assert (steps[0]["sampling"]["temperature"], steps[2]["sampling"]) == (0.7, None)
    assert steps[1] == {**read("model", "show", one), "verified": True}
    code, out, err = cli("model", "lineage", two, "--verify")
    assert code == 0
    assert "sums: pass@1 0.500 ± 0.010" in out
    assert "all 3 steps are what the chain says" in err
    proof = read("model", "prove", two, first)
    assert (proof["batch"], proof["root"], proof["leaf"]) == (first, proof["leaf"], proof["root"])
    assert cli("model", "prove", two, 99)[0] == 2
    assert cli("model", "show", 99)[0] == 3
    assert cli("royalties", "pay", 99, "1", key="poster")[0] == 3
    assert cli("royalties", "pay", two, "1.0000001", key="poster")[0] == 2

    assert read("royalties", "pay", two, "100", key="poster")["paid"] == str(100 * TUSD)
    assert cli("royalties", "pay", two, "1", key="poster")[0] == 0
    shown = read("royalties", "show", two)
    assert (shown["received"], shown["kept"]) == (str(101 * TUSD), str(90_900_000))
    assert shown["due_to_parent"] == str(10_100_000)
    mine = read("royalties", "show", two, "--account", accounts.miner.address)["holders"]
    assert [(row["share"], row["due"]) for row in mine] == [(600_000_000, str(54_540_000))]
    assert cli("royalties", "show", two, "--account", accounts.stranger.address)[0] == 2
    assert "54.54" in cli("royalties", "show", two)[1]

    passed = read("royalties", "pass-on", two, "--to-base", key="stranger")["passed_on"]
    assert [(p["checkpoint"], p["parent"], p["amount"]) for p in passed] == [
        (two, one, "10100000"),
        (one, base, "1010000"),
    ]
    assert "nothing to pass on" in cli("royalties", "pass-on", two, key="stranger")[2]
    # Who mistypes an account is not told that it has nothing.
    code, _, err = cli("royalties", "collect", "--account", "bob", key="miner")
    assert (code, "account is 'bob', not an address" in err) == (2, True)
    collected = read("royalties", "collect", two, two, one, key="miner")  # one twice: once
    assert collected["collected"] == str(54_540_000 + 5_454_000)  # of both checkpoints
    assert "no royalties to collect" in cli("royalties", "collect", key="miner")[2]
    assert cli("royalties", "collect", two, key="stranger")[0] == 2
    code, _, err = cli("royalties", "collect", one, "--account", refinery.author.address,
                       key="stranger")  # fmt: skip
    assert code == 0
    assert "0.909 tUSD went to the ledger balance of" in err
    assert market.reader.balance(accounts.stranger.address) == 0

    assert read("royalties", "check", two)["derived"] is True
    assert read("royalties", "check", base)["derived"] is True
    assert "derived from its dataset" in cli("royalties", "check", two)[1]
    lie = registered(
        refinery, accounts, base, refinery.record(base, refinery.entries([first], [10])),
        root=market.reader.checkpoint(one).dataset_root,
    )  # fmt: skip
    code, out, _ = cli("royalties", "check", lie)
    assert (code, "NOT the derived one" in out) == (5, True)
    code, out, _ = cli("royalties", "check", lie, "--json")
    assert (code, json.loads(out)["derived"]) == (5, False)
    bad = registered(refinery, accounts, base, None, root=b"\x05" * 32)
    code, _, err = cli("model", "lineage", bad, "--verify")
    assert (code, "no record of what is in it" in err) == (5, True)


def test_a_list_that_can_not_be_had_stops_no_other(cli, refinery, market, accounts, owner):
    base = refinery.base(owner)
    entries = refinery.entries([refinery.batch(accounts.miner, 6)], [10])
    good = refinery.child(accounts.trainer, base, entries)
    one = market.reader.checkpoint(good)
    client = market.client(accounts.trainer)
    nowhere = replace(one.content, digest=b"\x09" * 32)
    gone, _ = client.register_checkpoint(
        client.checkpoint(base), one.content, ZERO32, CheckpointShares(b"\x07" * 32, 3, 0, nowhere)
    )
    payer = market.client(accounts.poster)
    payer.pay_royalty(market.reader.checkpoint(gone), 100)
    payer.pay_royalty(market.reader.checkpoint(good), 100)
    code, out, err = cli("royalties", "collect", "--json", "--timeout", "0.1", key="miner")
    assert (code, f"checkpoint {gone} is left out" in err) == (0, True)
    assert json.loads(out)["collected"] == "54"
    code, out, err = cli("royalties", "show", gone, "--json", "--timeout", "0.1")
    assert (code, json.loads(out)["holders"]) == (0, None)
    assert "can't be had" in err
    assert cli("royalties", "collect", gone, "--timeout", "0.1", key="miner")[0] == 4

    # Nobody pays for it by mistake, nor for one whose list leads elsewhere.
    other = derive_shares(accounts.miner.address, ())
    terms = CheckpointShares(b"\x07" * 32, 1, 0, refinery.store.put(encode_shares(other)))
    false, _ = client.register_checkpoint(client.checkpoint(base), one.content, ZERO32, terms)
    for checkpoint, code in ((gone, 4), (false, 5)):
        before = market.reader.royalties(checkpoint).received
        pay = ("royalties", "pay", checkpoint, "1", "--timeout", "0.1")
        found, _, err = cli(*pay, key="poster")
        assert (found, "nothing was paid" in err) == (code, True)
        assert market.reader.royalties(checkpoint).received == before
        assert cli(*pay, "--unseen", key="poster")[0] == 0
        assert market.reader.royalties(checkpoint).received == before + TUSD


def test_a_list_that_is_gone_is_derived_again(cli, refinery, market, accounts, owner):
    base = refinery.base(owner)
    entries = refinery.entries([refinery.batch(accounts.miner, 6)], [10])
    one = market.reader.checkpoint(refinery.child(accounts.trainer, base, entries))
    nowhere = replace(one.content, digest=b"\x09" * 32)
    terms = CheckpointShares(one.shares_root, one.holders, 0, nowhere)
    client = market.client(accounts.trainer)
    above = client.checkpoint(base)
    gone, _ = client.register_checkpoint(above, one.content, one.dataset_root, terms)
    short = ("--timeout", "0.1")
    assert cli("royalties", "pay", gone, "1", *short, key="poster")[0] == 0
    code, out, err = cli("royalties", "collect", gone, "--json", *short, key="miner")
    assert (code, "derived it from the dataset" in err) == (0, True)
    assert json.loads(out)["collected"] == "600000"
    shown = json.loads(cli("royalties", "show", gone, "--json", *short)[1])
    assert len(shown["holders"]) == one.holders


def test_many_collections_take_several_transactions(
    cli, refinery, market, accounts, owner, monkeypatch
):
    """A transaction may use 16.7 million gas (EIP-7825); a hundred collections use less."""
    base = refinery.base(owner)
    entries = refinery.entries([refinery.batch(accounts.miner, 6)], [10])
    one = refinery.child(accounts.trainer, base, entries)
    two = refinery.child(accounts.trainer, one, entries)
    payer = market.client(accounts.poster)
    for checkpoint in (one, two):
        payer.pay_royalty(market.reader.checkpoint(checkpoint), 1_000)
    start = market.reader.head().number + 1
    monkeypatch.setattr("marketplace.cli.royalties.MOST_AT_ONCE", 1)
    code, out, _ = cli("royalties", "collect", "--json", key="miner")
    assert (code, json.loads(out)["collected"]) == (0, "1080")
    code, out, _ = cli("royalties", "pass-on", two, "--to-base", "--json", key="miner")
    assert (code, [row["amount"] for row in json.loads(out)["passed_on"]]) == (0, ["100", "110"])
    names = ["RoyaltyCollected", "RoyaltyPassedOn"]
    moved = list(market.reader.events(start, market.reader.head().number, names=names))
    assert len({event.tx_hash for event in moved}) == len(moved) == 4
