"""What is refused of a relay, and networks from files. Whole lives: test_drand_market.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from drand_kit import RECORDED, relay

from marketplace.chain.relays import Relays, load_network
from marketplace.protocol.beacons import EVMNET, SCHEME
from marketplace.protocol.errors import BeaconInvalid, BeaconUnavailable, ConfigError

GOOD = RECORDED[1].hex()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "its answer is no beacon"),
        (b"[]", "its answer is no beacon"),
        (json.dumps({"round": 2, "signature": GOOD}).encode(), "it answered with round 2"),
        (json.dumps({"round": 1, "signature": "0x" + GOOD}).encode(), "its signature is no hex"),
        (json.dumps({"round": 1, "signature": GOOD[:-2]}).encode(), "63 bytes"),
        (json.dumps({"round": 1, "signature": 7}).encode(), "its answer is no beacon"),
        (json.dumps({"round": 1, "signature": "ab" * 64}).encode(), "no point of the curve"),
        (b"[" * 60_000, "its answer is no beacon"),
        (b'{"round": 1, "signature": "00", "signature": "%s"}' % GOOD.encode(), "no beacon"),
        (json.dumps({"round": 1, "signature": GOOD}).encode("utf-16"), "its answer is no beacon"),
        (b" " * 70_000, "more than 65536 bytes"),
    ],
)
def test_an_answer_that_is_no_beacon_is_refused(body: bytes, said: str) -> None:
    with relay({}) as served:
        served.raw = body
        with pytest.raises(BeaconInvalid, match=said):
            Relays(EVMNET, [served.url]).fetch(1)


def test_a_relay_that_is_slow_is_given_up() -> None:
    with relay({1: RECORDED[1]}) as served:
        served.slow = 0.5
        with pytest.raises(BeaconUnavailable, match=r"no answer within 0\.1 s"):
            Relays(EVMNET, [served.url], timeout=0.1).fetch(1)


def test_a_url_in_a_message_shows_no_secrets() -> None:
    url = "http://name:word@127.0.0.1:9/key-in-path"
    with pytest.raises(BeaconUnavailable, match=r"http://127\.0\.0\.1:9: it can't be") as said:
        Relays(EVMNET, [url]).fetch(1)
    assert "word" not in str(said.value)
    assert "key-in-path" not in str(said.value)


def test_networks_by_name_and_from_a_file(tmp_path: Path) -> None:
    assert load_network("evmnet") is EVMNET
    info = {
        "public_key": EVMNET.public_key[2:],
        "period": 3,
        "genesis_time": EVMNET.genesis,
        "hash": EVMNET.chain_hash[2:],
        "groupHash": "00" * 32,
        "schemeID": SCHEME,
        "metadata": {"beaconID": "evmnet"},
    }
    file = tmp_path / "info.json"
    file.write_text(json.dumps(info))
    assert load_network(str(file)) == EVMNET
    for change, said in [
        ({"schemeID": "pedersen-bls-chained"}, "scheme 'pedersen-bls-chained'"),
        ({"period": 0}, "period is 0"),
        ({"public_key": "8e" * 48}, "public_key is '0x8e"),
        ({"genesis_time": "soon"}, "genesis is 'soon'"),
        ({"metadata": 3}, "no chain info"),
    ]:
        file.write_text(json.dumps(info | change))
        with pytest.raises(ConfigError, match=said):
            load_network(str(file))
    file.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"no chain info of a drand network: .*nests too deeply"):
        load_network(str(file))
    with pytest.raises(ConfigError, match="no drand network 'quicknet', and no such file"):
        load_network("quicknet")
