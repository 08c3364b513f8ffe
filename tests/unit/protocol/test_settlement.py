"""Settlement in token base units, by hand-computed examples."""

import pytest

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.payout import Settlement, Terms, settle
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation

TERMS = Terms(price=1000, fee=100, bond_per_trace=300, fault_multiple=5)
ROOT = b"\x01" * 32


def test_reserve_and_bond():
    assert TERMS.reserve(8) == 8 * 1100
    assert TERMS.bond(8) == 8 * 300
    # A bond below the fee could not pay for checking a batch that nobody can read.
    assert Terms(price=0, fee=400, bond_per_trace=300, fault_multiple=5).bond(8) == 8 * 400


def test_an_honest_batch():
    # 8 traces, 5 units. Fee pool 800, a third of it 266 per seat, 2 left over.
    assert settle(TERMS, 8, Attestation(ROOT, 5, 0), seats=3, coherent=3) == Settlement(
        miner_pay=5000,
        fee_per_seat=266,
        fees=798,
        forfeited=0,
        bond_refund=2400,
        bounty_refund=8800 - 5000 - 798,
    )


def test_absent_and_overruled_seats_leave_their_share_to_the_bounty():
    settlement = settle(TERMS, 8, Attestation(ROOT, 5, 0), seats=3 + 7, coherent=6)
    assert settlement.fee_per_seat == 80
    assert settlement.fees == 480
    assert settlement.bounty_refund == 8800 - 5000 - 480


def test_each_fault_costs_bond_that_goes_to_the_bounty():
    settlement = settle(TERMS, 8, Attestation(ROOT, 5, 1), seats=3, coherent=3)
    assert settlement.forfeited == 1500
    assert settlement.bond_refund == 900
    assert settlement.bounty_refund == 8800 - 5000 - 798 + 1500


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
        (8, 5, 0, 0, 0, "0 coherent seats of 0"),
        (8, 5, 0, 3, -1, "coherent seats is -1"),
    ],
)
def test_numbers_that_cannot_belong_together(count, units, faults, seats, coherent, message):
    with pytest.raises(InvalidValue, match=message):
        settle(TERMS, count, Attestation(ROOT, units, faults), seats=seats, coherent=coherent)


def test_terms_are_checked():
    good = {"price": 1, "fee": 1, "bond_per_trace": 1, "fault_multiple": 1}
    for name, bad in (
        ("price", -1),
        ("price", 1.5),
        ("fee", 2**96),
        ("bond_per_trace", True),
        ("fault_multiple", 2**16),
    ):
        with pytest.raises(InvalidValue):
            Terms(**(good | {name: bad}))
