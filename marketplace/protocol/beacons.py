"""drand beacons of scheme bls-bn254-unchained-on-g1: when a round comes, and whether a signature
is the network's.

From the standards alone, so that nothing has to be sent to be checked: hash to curve from RFC 9380
(sections 5.2, 5.3.1, 6.6.1), the pairing from py_ecc. contracts/src/DrandRandomness.sol checks the
same.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from marketplace.protocol.errors import BeaconInvalid, InvalidValue
from marketplace.protocol.hashing import keccak, uint

SCHEME: Final = "bls-bn254-unchained-on-g1"
SIGNATURE_BYTES: Final = 64

_DOMAIN: Final = b"BLS_SIG_BN254G1_XMD:KECCAK-256_SVDW_RO_NUL_"
_P: Final = 21888242871839275222246405745257275088696311157297823662689037894645226208583
_BLOCK: Final = 136  # bytes of keccak256's rate
_Point = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BeaconNetwork:
    """A drand network, as its chain info names it.

    name: of the network ("evmnet"). chain_hash: 0x hex, what relays call it by. public_key: 0x
    hex as drand prints it (128 bytes, the imaginary part of each coordinate first). genesis: time
    of round 1 in seconds. period: seconds between rounds.
    """

    name: str
    chain_hash: str
    public_key: str
    genesis: int
    period: int

    def __post_init__(self) -> None:
        for field, size in (("chain_hash", 32), ("public_key", 128)):
            value = getattr(self, field)
            if not re.fullmatch(f"0x[0-9a-f]{{{2 * size}}}", value):
                raise InvalidValue(f"{field} is {value!r}, not {size} bytes as 0x and small hex")
        uint(self.genesis, 64, "genesis")
        if uint(self.period, 64, "period") == 0:
            raise InvalidValue("the beacon's period is 0")

    @property
    def key(self) -> tuple[int, int, int, int]:
        """The public key as the contract takes it: real parts first."""
        x_im, x_re, y_im, y_re = _words(bytes.fromhex(self.public_key[2:]))
        return x_re, x_im, y_re, y_im

    def time_of(self, round: int) -> int:
        """When a round comes, in seconds. InvalidValue for round 0: there is none."""
        if uint(round, 64, "round") == 0:
            raise InvalidValue("there is no beacon round 0", fix="rounds start at 1")
        return self.genesis + (round - 1) * self.period


EVMNET: Final = BeaconNetwork(
    name="evmnet",
    chain_hash="0x04f1e9062b8a81f848fded9c12306733282b2727ecced50032187751166ec8c3",
    public_key="0x"
    "07e1d1d335df83fa98462005690372c643340060d205306a9aa8106b6bd0b382"
    "0557ec32c2ad488e4d4f6008f89a346f18492092ccc0d594610de2732c8b808f"
    "0095685ae3a85ba243747b1b2f426049010f6b73a0cf1d389351d5aaaa1047f6"
    "297d3a4f9749b33eb2d904c9d9ebf17224150ddd7abd7567a9bec6c74480ee0b",
    genesis=1727521075,
    period=3,
)
"""drand's production network for the EVM (League of Entropy)."""


def signature_halves(signature: bytes) -> tuple[int, int]:
    """The coordinates that a published signature is made of. BeaconInvalid for another length."""
    if len(signature) != SIGNATURE_BYTES:
        raise BeaconInvalid(f"a signature of {len(signature)} bytes, not {SIGNATURE_BYTES}")
    x, y = _words(signature)
    return x, y


def check_beacon(network: BeaconNetwork, round: int, signature: bytes) -> None:
    """BeaconInvalid where `signature` is not the network's for this round.

    Takes about a second: the pairing is plain Python.
    """
    curve = _curve()
    x, y = signature_halves(signature)
    point = (curve.FQ(x), curve.FQ(y), curve.FQ.one())
    if not (x < _P and y < _P and curve.is_on_curve(point, curve.b)):
        raise BeaconInvalid(f"0x{signature.hex()} is no point of the curve")
    # e(signature, G2) = e(H(round), key), as one product with one final exponentiation.
    message = curve.neg(_hashed(round))
    product = curve.pairing(curve.G2, point, final_exponentiate=False) * curve.pairing(
        _key(network), message, final_exponentiate=False
    )
    if curve.final_exponentiate(product) != curve.FQ12.one():
        raise BeaconInvalid(
            f"0x{signature.hex()} is not the signature of {network.name} for round {round}"
        )


def hash_round(round: int) -> _Point:
    """The point of G1 that a network signs for a round."""
    x, y = _curve().normalize(_hashed(round))[:2]
    return int(x), int(y)


@cache
def _curve() -> Any:
    # Imported here: it takes a while, and most of the market needs no pairing. It also raises the
    # interpreter's recursion limit, which is ours to keep.
    limit = sys.getrecursionlimit()
    from py_ecc import optimized_bn128

    sys.setrecursionlimit(limit)
    return optimized_bn128


def _key(network: BeaconNetwork) -> Any:
    curve = _curve()
    x_re, x_im, y_re, y_im = network.key
    key = (curve.FQ2([x_re, x_im]), curve.FQ2([y_re, y_im]), curve.FQ2.one())
    if not curve.is_on_curve(key, curve.b2):
        raise BeaconInvalid(f"{network.public_key} is no public key of a beacon")
    return key


def _hashed(round: int) -> Any:
    """drand signs keccak256 of the round's eight bytes; the curve's cofactor is 1."""
    curve = _curve()
    uniform = _expand(keccak(uint(round, 64, "round").to_bytes(8, "big")), 96)
    points = [_map_to_curve(int.from_bytes(uniform[i : i + 48], "big") % _P) for i in (0, 48)]
    first, second = ((curve.FQ(x), curve.FQ(y), curve.FQ.one()) for x, y in points)
    return curve.add(first, second)


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 32], "big") for i in range(0, len(data), 32)]


def _expand(message: bytes, size: int) -> bytes:
    """expand_message_xmd, RFC 9380 section 5.3.1."""
    domain = _DOMAIN + bytes([len(_DOMAIN)])
    first = keccak(bytes(_BLOCK) + message + size.to_bytes(2, "big") + b"\0" + domain)
    block = keccak(first + b"\1" + domain)
    out = block
    for i in range(2, -(-size // 32) + 1):
        mixed = bytes(a ^ b for a, b in zip(first, block, strict=True))
        block = keccak(mixed + bytes([i]) + domain)
        out += block
    return out[:size]


def _map_to_curve(u: int, z: int = 1) -> _Point:
    """Shallue-van de Woestijne, RFC 9380 section 6.6.1, with A = 0 and B = 3."""
    c4 = -4 * _g(z) * pow(3 * z * z, -1, _P) % _P
    c3 = _root(-_g(z) * 3 * z * z % _P)
    c3 = _P - c3 if c3 % 2 else c3
    tv1 = u * u * _g(z) % _P
    tv2 = (1 + tv1) % _P
    tv1 = (1 - tv1) % _P
    tv3 = pow(tv1 * tv2, _P - 2, _P)  # inv0
    tv4 = u * tv1 * tv3 * c3 % _P
    half = -z * pow(2, -1, _P)
    x1, x2 = (half - tv4) % _P, (half + tv4) % _P
    x3 = (z + c4 * pow(tv2 * tv2 * tv3, 2, _P)) % _P
    x = x1 if _is_square(_g(x1)) else x2 if _is_square(_g(x2)) else x3
    y = _root(_g(x))
    return x, y if y % 2 == u % 2 else _P - y


def _g(x: int) -> int:
    return (x**3 + 3) % _P


def _is_square(x: int) -> bool:
    return pow(x, (_P - 1) // 2, _P) in (0, 1)


def _root(x: int) -> int:
    found = pow(x, (_P + 1) // 4, _P)  # P = 3 mod 4
    if found * found % _P != x:
        raise AssertionError("no square: the map is wrong")
    return found
