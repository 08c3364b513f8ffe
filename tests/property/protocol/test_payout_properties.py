"""Pay rules and settlement under arbitrary results and numbers."""

from hypothesis import given
from hypothesis import strategies as st

from marketplace.protocol.payout import Checked, PayRule, Terms, apply, settle
from marketplace.protocol.seeds import PPM
from marketplace.protocol.verdict import (
    CHECKER_STATES,
    FAULTS,
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    Reason,
    batch_verdicts,
    score_reason,
    to_ppm,
)

TEXTS = st.sampled_from(["a", "b", "c"])
SCORED = st.builds(
    lambda ppm, text: Checked(ppm, score_reason(ppm), text),
    st.sampled_from([0, 1, PPM // 2, PPM - 1, PPM]),
    TEXTS,
)
OTHER = [Reason.PARSE_FAILURE, Reason.TOO_LONG, *CHECKER_STATES, *FAULTS]
RESULT = SCORED | st.builds(Checked, st.just(0), st.sampled_from(sorted(OTHER)), TEXTS)


@st.composite
def batches(draw):
    size = draw(st.integers(1, 5))
    mixed = st.lists(RESULT, min_size=size, max_size=size)
    alike = RESULT.map(lambda result: [result] * size)
    groups = draw(st.lists(mixed | alike, min_size=1, max_size=5))
    return size, groups


@given(batches(), st.sampled_from(PayRule))
def test_rules(batch, rule):
    size, groups = batch
    results = [result for group in groups for result in group]
    verdicts = apply(rule, size, results)
    assert len(verdicts) == len(results)
    for result, verdict in zip(results, verdicts, strict=True):
        assert verdict.score_ppm == result.score_ppm
        assert verdict.faults == result.fault
        assert verdict.reason in (result.reason, Reason.DUPLICATE)
    # Groups do not touch each other.
    assert verdicts == [one for group in groups for one in apply(rule, size, group)]
    attestation = batch_verdicts(1, verdicts).attestation
    assert attestation.units + attestation.faults <= len(results)

    for start, group in zip(range(0, len(results), size), groups, strict=True):
        judged = verdicts[start : start + size]
        paid = sum(verdict.units for verdict in judged)
        if rule is PayRule.CORRECT:
            assert paid == len({one.completion for one in group if one.reason is Reason.CORRECT})
        else:
            scores = {one.score_ppm for one in group}
            unpaid = CHECKER_STATES | {Reason.TOO_LONG}
            broken = any(one.fault or one.reason in unpaid for one in group)
            dull = scores in ({0}, {PPM})
            assert paid == (0 if broken or dull else size)


MONEY = st.integers(0, 2**96 - 1)
TERMS = st.builds(Terms, MONEY, MONEY, MONEY, st.integers(0, 2**16 - 1), st.integers(0, 10_000))


@given(TERMS, st.integers(1, 10_000), st.integers(0, 100), st.data())
def test_settlement_makes_and_loses_nothing(terms, count, seats, data):
    coherent = data.draw(st.integers(0, seats))
    units = data.draw(st.integers(0, count))
    given_ = data.draw(
        st.sampled_from([UNAVAILABLE, MALFORMED, Attestation(b"\x01" * 32, units, count - units)])
    )
    done = settle(terms, count, given_, seats=seats, coherent=coherent)
    parts = (done.miner_pay, done.bond_refund, done.fees, done.bounty_refund)
    assert min(*parts, done.forfeited, done.fee_per_seat) >= 0
    assert sum(parts) == terms.reserve(count) + terms.bond(count)
    assert done.fees == done.fee_per_seat * coherent <= terms.fee * count
    assert done.forfeited + done.bond_refund == terms.bond(count)
    if given_ in (UNAVAILABLE, MALFORMED):
        # The poster pays nothing for what nobody could check.
        assert done.bounty_refund >= terms.reserve(count)


@given(st.floats(0, 1), st.floats(0, 1))
def test_to_ppm_keeps_order_and_ends(low, high):
    low, high = sorted((low, high))
    assert to_ppm(low) <= to_ppm(high)
    assert (to_ppm(low) == 0) == (low == 0)
    assert (to_ppm(high) == PPM) == (high == 1)
