"""Shares against a reference in fractions, and royalties against one that pays each payment out."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from marketplace.protocol.shares import (
    ALL_SHARES,
    Contribution,
    Split,
    apportion,
    decode_shares,
    derive_shares,
    earned_by,
    encode_shares,
    kept_of,
)

ACCOUNTS = st.integers(1, 6).map(lambda n: bytes([n]) * 20)
CONTRIBUTIONS = st.lists(
    st.builds(
        Contribution,
        batch=st.integers(1, 2**64 - 1),
        miner=ACCOUNTS,
        author=ACCOUNTS,
        weight_ppm=st.integers(0, 1_000_000),
    ),
    max_size=12,
)
SPLITS = st.tuples(st.integers(0, 1_000_000), st.integers(0, 1_000_000)).map(
    lambda pair: Split(pair[0], min(pair[1], 1_000_000 - pair[0]))
)


def ideal(trainer: bytes, batches: list[Contribution], split: Split) -> dict[bytes, Fraction]:
    """What each account should have, unrounded, in parts of 1."""
    worth = [Fraction(one.weight_ppm) for one in batches]
    if not sum(worth):
        return {trainer: Fraction(1)}
    found: dict[bytes, Fraction] = {}

    def give(account: bytes, part: Fraction) -> None:
        found[account] = found.get(account, Fraction(0)) + part

    for one, value in zip(batches, worth, strict=True):
        give(one.miner, Fraction(split.contributors_ppm, 10**6) * value / sum(worth))
        give(one.author, Fraction(split.authors_ppm, 10**6) * value / sum(worth))
    give(trainer, 1 - Fraction(split.contributors_ppm + split.authors_ppm, 10**6))
    return found


@given(ACCOUNTS, CONTRIBUTIONS, SPLITS)
def test_shares_are_the_ideal_ones_to_less_than_a_billionth(trainer, batches, split):
    found = derive_shares(trainer, batches, split)
    wanted = ideal(trainer, batches, split)
    assert sum(one.share for one in found.shares) == ALL_SHARES
    shares = {one.account: one.share for one in found.shares}
    assert shares.keys() <= wanted.keys()
    for account, part in wanted.items():
        assert abs(shares.get(account, 0) - part * ALL_SHARES) < 1
    assert decode_shares(encode_shares(found)) == found


@given(ACCOUNTS, CONTRIBUTIONS, SPLITS, st.randoms())
def test_the_order_of_the_batches_changes_nothing(trainer, batches, split, dice):
    shuffled = list(batches)
    dice.shuffle(shuffled)
    assert derive_shares(trainer, shuffled, split) == derive_shares(trainer, batches, split)


@given(ACCOUNTS, CONTRIBUTIONS, SPLITS, st.data())
def test_traces_in_one_batch_or_two_earn_the_same(trainer, batches, split, data):
    cut = []
    for one in batches:
        part = data.draw(st.integers(0, one.weight_ppm))
        cut += [replace(one, weight_ppm=part), replace(one, weight_ppm=one.weight_ppm - part)]
    assert derive_shares(trainer, cut, split) == derive_shares(trainer, batches, split)


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_apportioned_parts_add_up_and_are_close(whole, parts):
    if not sum(parts):
        return
    found = apportion(whole, parts)
    assert sum(found) == whole
    for given_, part in zip(found, parts, strict=True):
        assert abs(given_ - Fraction(whole * part, sum(parts))) < 1


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=20),
    st.integers(0, 500_000),
    st.lists(st.integers(1, 1000), min_size=1, max_size=6),
)
def test_cumulative_royalties_never_give_more_than_came_in(payments, pass_on_ppm, parts):
    shares = apportion(ALL_SHARES, parts)
    received, collected = 0, [0] * len(shares)
    for place, amount in enumerate(payments):
        received += amount
        index = place % len(shares)
        due = earned_by(received, pass_on_ppm, shares[index]) - collected[index]
        assert due >= 0
        collected[index] += due
        assert sum(collected) <= kept_of(received, pass_on_ppm) <= received
    for index, share in enumerate(shares):
        collected[index] = earned_by(received, pass_on_ppm, share)
    dust = kept_of(received, pass_on_ppm) - sum(collected)
    assert 0 <= dust < len(shares)
