"""Settlement in token base units, by hand-computed examples."""

from dataclasses import replace

import pytest

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.payout import Settlement, Terms, settle
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation

TERMS = Terms(price=1000, fee=100, bond_per_trace=300, fault_multiple=5, wrong_bps=10_000)
FREE = replace(TERMS, wrong_bps=0)
ROOT = b"\x01" * 32


def test_reserve_and_bond():
    assert TERMS.reserve(8) == 8 * 1100
    assert TERMS.bond(8) == 8 * 300
    # A bond below the fee could not pay for checking a batch that nobody can read.
    assert replace(TERMS, price=0, fee=400).bond(8) == 8 * 400


def test_an_honest_batch():
    # 8 traces, 5 units. Fee pool 800, a third of it 266 per seat, 2 left over.
    assert settle(TERMS, 8, Attestation(ROOT, 5, 0), seats=3, coherent=3) == Settlement(
        miner_pay=5000,
        fee_per_seat=266,
        fees=798,
        # 3 traces without a unit are checked at their miner's cost.
        forfeited=300,
        bond_refund=2100,
        bounty_refund=8800 - 5000 - 798 + 300,
    )


def test_absent_and_overruled_seats_leave_their_share_to_the_bounty():
    settlement = settle(TERMS, 8, Attestation(ROOT, 5, 0), seats=3 + 7, coherent=6)
    assert settlement.fee_per_seat == 80
    assert settlement.fees == 480
    assert settlement.bounty_refund == 8800 - 5000 - 480 + 300


def test_convicted_seats_take_no_part():
    settlement = settle(TERMS, 8, Attestation(ROOT, 8, 0), seats=1 + 3, coherent=3)
    assert (settlement.fee_per_seat, settlement.fees) == (200, 600)
    # Nobody is left where all were convicted.
    nobody = settle(TERMS, 8, Attestation(ROOT, 8, 0), seats=0, coherent=0)
    assert (nobody.fee_per_seat, nobody.fees) == (0, 0)


@pytest.mark.parametrize(
    ("bps", "units", "charge"),
    [(0, 0, 0), (10_000, 8, 0), (10_000, 3, 500), (2_500, 3, 125), (3_333, 7, 33), (1, 7, 0)],
)
def test_traces_without_a_unit_cost_a_share_of_their_fee(bps, units, charge):
    terms = replace(TERMS, wrong_bps=bps)
    settlement = settle(terms, 8, Attestation(ROOT, units, 0), seats=3, coherent=3)
    assert settlement.forfeited == charge == terms.wrong(8, units)
    assert settlement.bond_refund == 2400 - charge


def test_each_fault_costs_bond_that_goes_to_the_bounty():
    settlement = settle(FREE, 8, Attestation(ROOT, 5, 1), seats=3, coherent=3)
    assert settlement.forfeited == 1500
    assert settlement.bond_refund == 900
    assert settlement.bounty_refund == 8800 - 5000 - 798 + 1500
    # A lie has no unit either: it costs its fee too.
    also = settle(TERMS, 8, Attestation(ROOT, 5, 1), seats=3, coherent=3)
    assert also.forfeited == 1500 + 300


def test_faults_cost_no_more_than_the_bond():
    settlement = settle(TERMS, 8, Attestation(ROOT, 5, 2), seats=3, coherent=3)
    assert settlement.forfeited == 2400
    assert settlement.bond_refund == 0
    assert settlement.miner_pay == 5000  # what was good is still paid


def test_unavailable_takes_the_fees_from_the_bond():
    assert settle(TERMS, 8, UNAVAILABLE, seats=3, coherent=2) == Settlement(
        miner_pay=0,
        fee_per_seat=266,
        fees=532,
        forfeited=532,
        bond_refund=2400 - 532,
        bounty_refund=8800,
    )


def test_malformed_takes_the_whole_bond():
    assert settle(TERMS, 8, MALFORMED, seats=3, coherent=3) == Settlement(
        miner_pay=0,
        fee_per_seat=266,
        fees=798,
        forfeited=2400,
        bond_refund=0,
        bounty_refund=8800 + 2400 - 798,
    )


@pytest.mark.parametrize(
    ("count", "units", "faults", "seats", "coherent", "message"),
    [
        (0, 0, 0, 3, 3, "count is 0"),
        (-1, 0, 0, 3, 3, "count is -1"),
        (8, 9, 0, 3, 3, "9 units and 0 faults in 8 traces"),
        (8, 5, 4, 3, 3, "5 units and 4 faults in 8 traces"),
        (8, 5, 0, 3, 4, "4 coherent seats of 3"),
        (8, 5, 0, 0, 1, "1 coherent seats of 0"),
        (8, 5, 0, 3, -1, "coherent seats is -1"),
    ],
)
def test_numbers_that_cannot_belong_together(count, units, faults, seats, coherent, message):
    with pytest.raises(InvalidValue, match=message):
        settle(TERMS, count, Attestation(ROOT, units, faults), seats=seats, coherent=coherent)


def test_terms_are_checked():
    good = {"price": 1, "fee": 1, "bond_per_trace": 1, "fault_multiple": 1, "wrong_bps": 1}
    for name, bad in (
        ("price", -1),
        ("price", 1.5),
        ("fee", 2**96),
        ("bond_per_trace", True),
        ("fault_multiple", 2**16),
        ("wrong_bps", 10_001),
    ):
        with pytest.raises(InvalidValue):
            Terms(**(good | {name: bad}))
