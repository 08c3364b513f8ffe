"""Deployment files and parameters."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace

import pytest

from marketplace.chain.artifacts import MARKET_CONTRACTS, artifact
from marketplace.chain.deployment import Deployment, load_deployment, save_deployment
from marketplace.chain.parameters import MINIMAL, PRESETS, STANDARD, Parameters, preset
from marketplace.chain.records import Token
from marketplace.protocol.beacons import EVMNET
from marketplace.protocol.errors import ConfigError


def address(number: int) -> str:
    return "0x" + f"{number:040d}"


TOKEN = Token(address(99), "USD Coin", "USDC", 6, "2")
DEPLOYMENT = Deployment(
    chain_id=31337,
    block=12,
    addresses={short: address(index) for index, short in enumerate(MARKET_CONTRACTS, 1)},
    token=TOKEN,
    parameters=MINIMAL.parameters(6),
    randomness_delay=1,
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "deep" / "market.json"
    save_deployment(DEPLOYMENT, path)
    return path


def test_what_is_saved_loads_to_the_same(file) -> None:
    assert load_deployment(file) == DEPLOYMENT
    assert os.listdir(file.parent) == ["market.json"]
    plain = replace(DEPLOYMENT, token=replace(TOKEN, permit_version=None), block=13)
    save_deployment(plain, file)
    assert load_deployment(file) == plain


def test_a_market_on_a_beacon_names_its_network(file) -> None:
    assert json.loads(file.read_text())["randomness"] == "blockhash"
    assert DEPLOYMENT.contracts["randomness"] == "BlockHashRandomness"
    drand = replace(DEPLOYMENT, beacon=EVMNET, randomness_delay=36, randomness_patience=3600)
    save_deployment(drand, file)
    assert load_deployment(file) == drand
    assert json.loads(file.read_text())["randomness"] == "drand"
    assert drand.contracts == MARKET_CONTRACTS | {"randomness": "DrandRandomness"}


def test_a_file_from_before_there_was_a_choice_means_block_hashes(file) -> None:
    content = json.loads(file.read_text())
    for field in ("randomness", "beacon", "randomness_patience"):
        del content[field]
    file.write_text(json.dumps(content))
    assert load_deployment(file) == DEPLOYMENT
    assert load_deployment(file).randomness == "blockhash"


def test_a_failed_write_keeps_the_old_file(file, monkeypatch) -> None:
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("marketplace.chain.files.os.fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        save_deployment(replace(DEPLOYMENT, block=99), file)
    assert load_deployment(file) == DEPLOYMENT
    assert os.listdir(file.parent) == ["market.json"]


def test_a_reader_that_has_the_old_file_open_keeps_it_whole(file, tmp_path) -> None:
    old = tmp_path / "old.json"
    old.hardlink_to(file)
    save_deployment(replace(DEPLOYMENT, block=99), file)
    assert load_deployment(old) == DEPLOYMENT
    assert load_deployment(file).block == 99


def test_addresses_come_out_checksummed(file) -> None:
    low = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    content = json.loads(file.read_text())
    content["addresses"]["ledger"] = low
    file.write_text(json.dumps(content))
    expected = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert load_deployment(file).address("ledger") == expected


def _without_market(content):
    del content["addresses"]["market"]


def _without_court(content):
    # as in a file from before there was one
    del content["addresses"]["court"]


def _set(*path_and_value):
    *path, last, value = path_and_value

    def change(content):
        for part in path:
            content = content[part]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without_market, "addresses.market"),
        (_set("addresses", "ledger", "0x12"), r"addresses.ledger.*not an address.*0x12"),
        (_set("addresses", "extra", address(1)), "addresses.extra"),
        (_set("chain_id", "31337"), "chain_id.*31337"),
        (_set("chain_id", 0), "chain_id"),
        (_set("format", 2), "format.*2"),
        (_set("block", -1), "block.*-1"),
        (_set("token", "decimals", 6.5), "token.decimals.*6.5"),
        (_set("parameters", "absence_bps", 10_001), "parameters.absence_bps.*10001"),
        (_set("parameters", "fraud_bps", 100_001), "parameters.fraud_bps.*100001"),
        (_set("parameters", "juror_fee", "1"), "parameters.juror_fee.*'1'"),
        (_without_court, "addresses.court"),
        (_set("randomness", "dice"), "randomness.*dice"),
        (_set("randomness", "drand"), "'drand' needs beacon"),
        (_set("randomness_patience", 60), "'blockhash' has no randomness_patience"),
        (_set("beacon", {"name": "evmnet"}), "beacon.chain_hash"),
    ],
)
def test_a_wrong_file_names_the_field_and_the_value(file, change, said) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=said) as caught:
        load_deployment(file)
    assert str(file) in caught.value.message


def test_a_file_that_is_missing_or_no_json(tmp_path) -> None:
    with pytest.raises(ConfigError, match="no deployment file"):
        load_deployment(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("not json")
    with pytest.raises(ConfigError, match=r"bad\.json is not valid"):
        load_deployment(tmp_path / "bad.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        load_deployment(tmp_path / "binary.json")


def test_parameters_are_in_the_order_of_the_contract() -> None:
    constructor = next(e for e in artifact("BatchMarket").abi if e["type"] == "constructor")
    struct = next(i for i in constructor["inputs"] if i["type"] == "tuple")
    names = ["".join(w.title() for w in f.name.split("_")) for f in fields(Parameters)]
    names = [name[0].lower() + name[1:] for name in names]
    assert [part["name"] for part in struct["components"]] == names
    numbers = MINIMAL.parameters(6)
    assert numbers.as_tuple() == tuple(getattr(numbers, f.name) for f in fields(Parameters))


def test_money_of_a_preset_follows_the_token() -> None:
    assert MINIMAL.parameters(6).seat_stake == 100 * 10**6
    assert MINIMAL.parameters(18).seat_stake == 100 * 10**18
    assert MINIMAL.parameters(6).bond_per_trace == 10_000


@pytest.mark.parametrize("chosen", PRESETS.values(), ids=PRESETS)
def test_stake_outlasts_any_batch(chosen) -> None:
    # A signer can be convicted until the last dispute about its round has ended.
    attested = chosen.draw_timeout + chosen.commit_window + chosen.reveal_window
    dispute = chosen.challenge_window + chosen.longest_dispute
    assert chosen.unbonding_delay >= attested + dispute


def test_presets_by_name() -> None:
    assert preset("minimal") is MINIMAL
    assert preset("standard") is STANDARD
    with pytest.raises(ConfigError, match=r"'fast'.*minimal, standard"):
        preset("fast")
