"""The recorded drand rounds are real: checked without Solidity and without its precompiles.

tests/vectors/drand_evmnet.json holds rounds that public repositories recorded, with their source.
Here they are verified from the standards alone: hash to curve from RFC 9380 (sections 5.2, 5.3.1,
6.6.1), the pairing from py_ecc. `networks` are chain infos as drand prints them, `rounds` their
beacons with the value that the contract keeps, `points` hashes of rounds known from elsewhere.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from marketplace.protocol.hashing import keccak

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors" / "drand_evmnet.json").read_text(encoding="utf-8")
)
NETWORKS = {network["name"]: network for network in VECTORS["networks"]}
DOMAIN = b"BLS_SIG_BN254G1_XMD:KECCAK-256_SVDW_RO_NUL_"
P = 21888242871839275222246405745257275088696311157297823662689037894645226208583
BLOCK = 136  # bytes of keccak256's rate
Point = tuple[int, int]


@pytest.fixture(scope="module")
def curve() -> Any:
    """py_ecc, whose import raises the interpreter's recursion limit: other tests count on ours."""
    limit = sys.getrecursionlimit()
    from py_ecc import optimized_bn128

    yield optimized_bn128
    sys.setrecursionlimit(limit)


def halves(data: str) -> list[int]:
    """The 32-byte words of hex `data`."""
    raw = bytes.fromhex(data.removeprefix("0x"))
    assert len(raw) % 32 == 0
    return [int.from_bytes(raw[i : i + 32], "big") for i in range(0, len(raw), 32)]


def expand(message: bytes, size: int) -> bytes:
    """expand_message_xmd, RFC 9380 section 5.3.1."""
    domain = DOMAIN + bytes([len(DOMAIN)])
    first = keccak(bytes(BLOCK) + message + size.to_bytes(2, "big") + b"\0" + domain)
    block = keccak(first + b"\1" + domain)
    out = block
    for i in range(2, -(-size // 32) + 1):
        mixed = bytes(a ^ b for a, b in zip(first, block, strict=True))
        block = keccak(mixed + bytes([i]) + domain)
        out += block
    return out[:size]


def g(x: int) -> int:
    return (x**3 + 3) % P


def is_square(x: int) -> bool:
    return pow(x, (P - 1) // 2, P) in (0, 1)


def root(x: int) -> int:
    found = pow(x, (P + 1) // 4, P)  # P = 3 mod 4
    assert found * found % P == x
    return found


def map_to_curve(u: int, z: int = 1) -> Point:
    """Shallue-van de Woestijne, RFC 9380 section 6.6.1, with A = 0 and B = 3."""
    c4 = -4 * g(z) * pow(3 * z * z, -1, P) % P
    c3 = root(-g(z) * 3 * z * z % P)
    c3 = P - c3 if c3 % 2 else c3
    tv1 = u * u * g(z) % P
    tv2 = (1 + tv1) % P
    tv1 = (1 - tv1) % P
    tv3 = pow(tv1 * tv2, P - 2, P)  # inv0
    tv4 = u * tv1 * tv3 * c3 % P
    half = -z * pow(2, -1, P)
    x1, x2 = (half - tv4) % P, (half + tv4) % P
    x3 = (z + c4 * pow(tv2 * tv2 * tv3, 2, P)) % P
    x = x1 if is_square(g(x1)) else x2 if is_square(g(x2)) else x3
    y = root(g(x))
    return x, y if y % 2 == u % 2 else P - y


def hash_round(curve: Any, number: int) -> Any:
    """drand signs keccak256 of the round's eight bytes; the curve's cofactor is 1."""
    uniform = expand(keccak(number.to_bytes(8, "big")), 96)
    points = [map_to_curve(int.from_bytes(uniform[i : i + 48], "big") % P) for i in (0, 48)]
    first, second = ((curve.FQ(x), curve.FQ(y), curve.FQ(1)) for x, y in points)
    return curve.add(first, second)


def verifies(curve: Any, network: dict[str, Any], number: int, signature: str) -> bool:
    """Whether e(signature, G2) = e(H(round), key). drand prints the imaginary part first."""
    x, y = halves(signature)
    x_im, x_re, y_im, y_re = halves(network["publicKey"])
    point = (curve.FQ(x), curve.FQ(y), curve.FQ(1))
    key = (curve.FQ2([x_re, x_im]), curve.FQ2([y_re, y_im]), curve.FQ2.one())
    assert curve.is_on_curve(key, curve.b2)
    assert curve.is_inf(curve.multiply(key, curve.curve_order))
    if not curve.is_on_curve(point, curve.b):
        return False
    return curve.pairing(curve.G2, point) == curve.pairing(key, hash_round(curve, number))


@pytest.mark.parametrize(
    "row", VECTORS["rounds"], ids=lambda row: f"{row['network']}-{row['round']}"
)
def test_recorded_round_is_the_networks(curve: Any, row: dict[str, Any]) -> None:
    assert verifies(curve, NETWORKS[row["network"]], row["round"], row["signature"])
    assert "0x" + keccak(bytes.fromhex(row["signature"][2:])).hex() == row["value"]
    assert row["source"]


def test_another_rounds_signature_is_not(curve: Any) -> None:
    first, second = (row for row in VECTORS["rounds"][:2])
    assert not verifies(curve, NETWORKS["evmnet"], first["round"], second["signature"])


def test_hash_to_curve_agrees_with_a_published_one(curve: Any) -> None:
    for row in VECTORS["points"]:
        point = curve.normalize(hash_round(curve, row["round"]))
        assert [int(value) for value in point[:2]] == halves(row["point"])
