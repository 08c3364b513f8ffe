"""The recorded drand rounds are real, and whatever differs from them is refused: checked without
Solidity and without its precompiles.

tests/vectors/drand_evmnet.json holds rounds that public repositories recorded, with their source.
`networks` are chain infos as drand prints them, `rounds` their beacons with the value that the
contract keeps, `points` hashes of rounds known from elsewhere.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marketplace.protocol.beacons import EVMNET, BeaconNetwork, check_beacon, hash_round
from marketplace.protocol.errors import BeaconInvalid, InvalidValue
from marketplace.protocol.hashing import keccak

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "drand_evmnet.json").read_text(encoding="utf-8")
)
NETWORKS = {
    row["name"]: BeaconNetwork(
        row["name"], row["chainHash"], row["publicKey"], row["genesis"], row["period"]
    )
    for row in VECTORS["networks"]
}
ROUNDS = [row for row in VECTORS["rounds"] if row["network"] == "evmnet"]
P = 21888242871839275222246405745257275088696311157297823662689037894645226208583


def signature(row: dict[str, Any]) -> bytes:
    return bytes.fromhex(row["signature"][2:])


def test_the_built_in_network_is_the_recorded_one() -> None:
    assert NETWORKS["evmnet"] == EVMNET


@pytest.mark.parametrize(
    "row", VECTORS["rounds"], ids=lambda row: f"{row['network']}-{row['round']}"
)
def test_recorded_round_is_the_networks(row: dict[str, Any]) -> None:
    check_beacon(NETWORKS[row["network"]], row["round"], signature(row))
    assert "0x" + keccak(signature(row)).hex() == row["value"]
    assert row["source"]


def test_another_rounds_signature_is_not() -> None:
    first, second = ROUNDS[:2]
    limit = sys.getrecursionlimit()
    with pytest.raises(BeaconInvalid, match=f"evmnet for round {first['round']}"):
        check_beacon(EVMNET, first["round"], signature(second))
    assert sys.getrecursionlimit() == limit  # py_ecc raises it: others count on ours


def test_what_is_no_point_or_no_key_is_refused_by_name() -> None:
    good = signature(ROUNDS[0])
    x = int.from_bytes(good[:32], "big")
    unreduced = (x + P).to_bytes(32, "big") + good[32:]
    for bad, said in [
        (good[:63], "63 bytes"),
        (bytes(64), "no point of the curve"),
        (good[:63] + bytes([good[63] ^ 1]), "no point of the curve"),
        (unreduced, "no point of the curve"),
    ]:
        with pytest.raises(BeaconInvalid, match=said):
            check_beacon(EVMNET, 1, bad)
    with pytest.raises(BeaconInvalid, match="no public key"):
        check_beacon(replace(EVMNET, public_key="0x" + "00" * 127 + "01"), 1, good)


def test_hash_to_curve_agrees_with_a_published_one() -> None:
    for row in VECTORS["points"]:
        raw = bytes.fromhex(row["point"][2:])
        wanted = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
        assert hash_round(row["round"]) == wanted


def test_a_network_says_when_its_rounds_come() -> None:
    assert EVMNET.time_of(1) == EVMNET.genesis
    assert EVMNET.time_of(101) == EVMNET.genesis + 300
    with pytest.raises(InvalidValue, match="round 0"):
        EVMNET.time_of(0)
    for change in ({"period": 0}, {"public_key": "0x12"}, {"chain_hash": "04f1"}):
        with pytest.raises(InvalidValue):
            replace(EVMNET, **change)
