"""Commitments refuse what can't be hashed as written, and salts must be real."""

import secrets

import pytest

from marketplace.protocol import commitments
from marketplace.protocol.commitments import commitment, new_salt, subject, vote
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.verdict import Attestation

ADDRESS = "0x" + "11" * 20
WORD = b"\x05" * 32
BASE = (31337, ADDRESS, 1, WORD, ADDRESS, Attestation(WORD, 2, 1), WORD)


@pytest.mark.parametrize(
    ("place", "bad"),
    [(0, -1), (1, "0x11"), (2, 2**64), (3, b""), (4, None), (6, WORD[:31]), (6, "salt")],
)
def test_commitment_refuses(place, bad):
    assert len(commitment(*BASE)) == 32
    with pytest.raises(InvalidValue):
        commitment(*BASE[:place], bad, *BASE[place + 1 :])


def test_subject_refuses():
    assert len(subject(31337, ADDRESS, 1, WORD)) == 32
    for bad in ((31337, ADDRESS, 2**64, WORD), (31337, ADDRESS, 1, WORD[:-1])):
        with pytest.raises(InvalidValue):
            subject(*bad)


def test_votes_differ_with_any_field():
    votes = {
        vote(Attestation(WORD, 2, 1)),
        vote(Attestation(WORD, 1, 2)),
        vote(Attestation(WORD[::-1][:31] + b"\x06", 2, 1)),
    }
    assert len(votes) == 3


def test_salts():
    assert new_salt(lambda n: b"\x07" * n) == b"\x07" * 32
    assert new_salt(secrets.token_bytes) != new_salt(secrets.token_bytes)
    with pytest.raises(InvalidValue, match="all zeros"):
        new_salt(bytes)
    with pytest.raises(InvalidValue, match="16 bytes"):
        new_salt(lambda n: b"\x07" * 16)


def test_a_sealed_salt_binds_the_verdict_file():
    sealed = commitments.sealed_salt(b"\1" * 32, b"\2" * 32, 0x55)
    assert sealed == commitments.sealed_salt(b"\1" * 32, b"\2" * 32, 0x55)
    others = [(b"\3" * 32, b"\2" * 32, 0x55), (b"\1" * 32, b"\3" * 32, 0x55)]
    others.append((b"\1" * 32, b"\2" * 32, 0x70))
    assert sealed not in [commitments.sealed_salt(*other) for other in others]


def test_the_common_commitment_knows_the_order_of_seats():
    first, second = b"\2" * 32, b"\4" * 32
    shared = commitments.common([first, second])
    assert shared == commitments.stored(shared)
    assert shared != commitments.common([second, first])
