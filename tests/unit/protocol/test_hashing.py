"""keccak and the strict input checks."""

import pytest

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import abi_hash, address20, bytes32, keccak, uint


def test_keccak_is_ethereums():
    # keccak256(""), from the Ethereum yellow paper; NIST SHA3-256("") is a7ffc6f8...
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_abi_hash_puts_the_tag_first():
    assert abi_hash(("uint8",), (5,), tag=b"\x07") == keccak(b"\x07" + bytes(31) + b"\x05")


@pytest.mark.parametrize("bits", [8, 32, 64, 256])
def test_uint_bounds(bits):
    assert uint(0, bits, "n") == 0
    assert uint(2**bits - 1, bits, "n") == 2**bits - 1
    for bad in (-1, 2**bits):
        with pytest.raises(InvalidValue, match=f"n is {bad}, outside uint{bits}"):
            uint(bad, bits, "n")


@pytest.mark.parametrize("bad", [True, 1.0, "1", None, b"\x01"])
def test_uint_takes_integers_only(bad):
    with pytest.raises(InvalidValue, match="not an integer"):
        uint(bad, 32, "n")


def test_bytes32():
    assert bytes32(b"\x01" * 32, "root") == b"\x01" * 32
    for length in (0, 20, 31, 33):
        with pytest.raises(InvalidValue, match=f"root has {length} bytes"):
            bytes32(b"\x01" * length, "root")
    for bad in ("0x" + "01" * 32, bytearray(32), None):
        with pytest.raises(InvalidValue, match="not bytes"):
            bytes32(bad, "root")


def test_address_forms_are_one_address():
    checksummed = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    expected = bytes.fromhex(checksummed[2:])
    for form in (checksummed, checksummed.lower(), expected):
        assert address20(form, "miner") == expected


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "0x",
        "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAzz",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Be   ",
        bytes(19),
        bytes(32),
        None,
        0,
    ],
)
def test_not_an_address(bad):
    with pytest.raises(InvalidValue, match=r"miner is .*not an address"):
        address20(bad, "miner")
