"""Lists of shares: what is derived, what a file may hold, what a proof shows."""

from __future__ import annotations

import pytest

from marketplace.protocol.errors import InvalidValue, ProofFailed
from marketplace.protocol.shares import (
    ALL_SHARES,
    Contribution,
    Share,
    ShareList,
    Split,
    apportion,
    decode_shares,
    derive_shares,
    earned_by,
    encode_shares,
    kept_of,
    share_leaf,
)
from marketplace.protocol.verdict import Attestation, verify_verdict

TRAINER, AUTHOR, ANNE, BEN = (bytes([n]) * 20 for n in (9, 8, 1, 2))


def shares_of(found: ShareList) -> dict[bytes, int]:
    return {one.account: one.share for one in found.shares}


def test_miners_share_by_weight():
    found = derive_shares(
        TRAINER,
        [
            Contribution(1, ANNE, AUTHOR, weight_ppm=250_000),
            Contribution(2, BEN, AUTHOR, weight_ppm=250_000),
            Contribution(3, ANNE, AUTHOR, weight_ppm=500_000),
            Contribution(4, BEN, AUTHOR, weight_ppm=0),
        ],
    )
    # Three quarters and one of 60 %.
    assert shares_of(found) == {
        ANNE: 450_000_000,
        BEN: 150_000_000,
        AUTHOR: 100_000_000,
        TRAINER: 300_000_000,
    }


def test_one_account_in_several_roles_has_one_share():
    found = derive_shares(ANNE, [Contribution(1, ANNE, ANNE, 1_000_000)])
    assert found.shares == (Share(ANNE, ALL_SHARES),)


def test_authors_share_as_their_batches_do():
    other = bytes([7]) * 20
    batches = [Contribution(1, ANNE, AUTHOR, 750_000), Contribution(2, ANNE, other, 250_000)]
    found = shares_of(derive_shares(TRAINER, batches, Split(0, 1_000_000)))
    assert found == {AUTHOR: 750_000_000, other: 250_000_000}  # nobody is on it with nothing


@pytest.mark.parametrize("contributions", [[], [Contribution(1, ANNE, AUTHOR, 0)]])
def test_where_nobody_contributed_the_trainer_has_all(contributions):
    assert shares_of(derive_shares(TRAINER, contributions)) == {TRAINER: ALL_SHARES}


def test_apportioning_gives_the_largest_remainders_the_rest():
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]  # a tie goes to whoever stands first
    assert apportion(10, [0, 5, 2]) == [0, 7, 3]  # 7.14 and 2.86
    assert apportion(1, [3, 4]) == [0, 1]
    for bad in ([], [0, 0], [2, -1]):
        with pytest.raises(InvalidValue, match="can't be divided"):
            apportion(10, bad)


@pytest.mark.parametrize(
    ("split", "message"),
    [((700_000, 300_001), "1000001 ppm"), ((-1, 0), "-1"), ((0.5, 0), "not an integer")],
)
def test_a_split_of_more_than_all(split, message):
    with pytest.raises(InvalidValue, match=message):
        Split(*split)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([(ANNE, ALL_SHARES - 1)], "add up to 999999999"),
        ([(ANNE, ALL_SHARES), (BEN, 1)], "add up to 1000000001"),
        ([(BEN, 1), (ANNE, ALL_SHARES - 1)], "ascend"),
        ([(ANNE, 1), (ANNE, ALL_SHARES - 1)], "ascend"),
        ([], "add up to 0"),
    ],
)
def test_lists_that_are_none(shares, message):
    with pytest.raises(InvalidValue, match=message):
        ShareList(tuple(Share(*one) for one in shares))
    with pytest.raises(InvalidValue, match="share is 0"):
        Share(ANNE, 0)


def test_a_proof_holds_for_its_account_and_share_only():
    accounts = [bytes([n + 1]) * 20 for n in range(7)]
    shares = tuple(
        Share(account, share)
        for account, share in zip(accounts, apportion(ALL_SHARES, range(1, 8)), strict=True)
    )
    found = ShareList(shares)
    top = Attestation(found.root, ALL_SHARES, 0)
    for index, one in enumerate(shares):
        proof = found.proof(index)
        assert verify_verdict(share_leaf(one), index, 7, proof, top)
        assert not verify_verdict(share_leaf(Share(ANNE, one.share + 1)), index, 7, proof, top)
        assert not verify_verdict(share_leaf(one), (index + 1) % 7, 7, proof, top)
    assert (found.index(accounts[4]), found.index(bytes(20))) == (4, None)


def test_a_file_comes_back_as_it_was():
    found = derive_shares(TRAINER, [Contribution(1, ANNE, AUTHOR, 1_000_000)], Split(5, 7))
    data = encode_shares(found)
    assert decode_shares(data) == found
    assert decode_shares(data).root == found.root


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"v":1', b'"v":2'),
        (b'"v":1', b'"v": 1'),
        (b'"contributors_ppm":600000', b'"contributors_ppm":600001.0'),
        (b'"contributors_ppm"', b'"contributor_ppm"'),
        (b"1000000000]]", b"999999999]]"),
        (b"1000000000]]", b'"1000000000"]]'),
        (b"1000000000]]", b"1000000000,1]]"),
        (b"1000000000]]", b"NaN]]"),
        (b"0909", b"zz09"),
        (b"\n", b""),
        (b"\n", b"\n\n"),
        (b"{", b"["),
        (b'"split"', b'"v"'),
    ],
)
def test_files_that_hold_no_list(old, new):
    data = encode_shares(derive_shares(TRAINER, ()))
    assert old in data
    with pytest.raises(ProofFailed, match="list of shares is not valid"):
        decode_shares(data.replace(old, new, 1))


def test_what_is_kept_and_earned():
    assert (kept_of(1_005, 200_000), kept_of(4, 200_000), kept_of(0, 0)) == (804, 4, 0)
    assert earned_by(1_005, 200_000, 600_000_000) == 482
    assert earned_by(1, 0, ALL_SHARES - 1) == 0
