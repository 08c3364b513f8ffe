"""Task seeds, the seed walk and the held-out split."""

import pytest

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import keccak
from marketplace.protocol.seeds import PPM, is_heldout, noise_key, task_seed, walk_seed

BASE = (b"\x01" * 32, 1, "0x" + "22" * 20, b"\x03" * 32, 0)


@pytest.mark.parametrize(
    ("place", "bad"),
    [
        (0, b"\x01" * 31),
        (1, 2**64),
        (1, -1),
        (2, "0x22"),
        (3, b""),
        (4, 2**256),
        (4, 1.0),
    ],
)
def test_task_seed_refuses_what_does_not_fit(place, bad):
    with pytest.raises(InvalidValue):
        task_seed(*BASE[:place], bad, *BASE[place + 1 :])


def test_walk_seed_layout():
    seed = b"\x05" * 32
    assert walk_seed(seed, 258) == keccak(seed + b"\0\0\0\0\0\0\x01\x02")
    with pytest.raises(InvalidValue):
        walk_seed(seed, 2**64)


def test_noise_key_layout():
    seed = b"\x05" * 32
    wanted = b"tracemarket.noise" + seed + b"\0" * 7 + b"\x03" + b"\0" * 6 + b"\x01\x02"
    assert noise_key(seed, 3, 258) == keccak(wanted)
    for bad in ((seed[1:], 0, 0), (seed, 2**64, 0), (seed, -1, 0), (seed, 0, 2**64)):
        with pytest.raises(InvalidValue):
            noise_key(*bad)


def test_heldout_bounds():
    for question in ("", "What is 1 + 1?", "é ∑"):
        assert not is_heldout(question, 0)
        assert is_heldout(question, PPM)
    with pytest.raises(InvalidValue, match="1000001"):
        is_heldout("q", PPM + 1)


def test_heldout_is_monotone_and_near_its_share():
    questions = [f"What is {a} + {b}?" for a in range(50) for b in range(40)]
    tenth = {question for question in questions if is_heldout(question, 100_000)}
    half = {question for question in questions if is_heldout(question, 500_000)}
    assert tenth < half
    # Fixed by the hash, so no flakiness: within 3 standard errors of 200 (13.4) of 2,000.
    assert abs(len(tenth) - 200) < 40


def test_heldout_by_definition():
    digest = keccak(b"tracemarket.heldout" + b"What is 1 + 1?")
    share = int.from_bytes(digest[:8], "big") % PPM
    assert not is_heldout("What is 1 + 1?", share)
    assert is_heldout("What is 1 + 1?", share + 1)
