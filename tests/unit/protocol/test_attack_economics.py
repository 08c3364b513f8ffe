"""Attacks weighed by hand. Committee of 3 (quorum 2), seats worth 1000: absence 50, late 250,
incoherence 200, fraud 1000. A batch of 10 traces at 10 and 3: pay 100, fees 30, a seat's fee 10,
bond 100. Ten verifiers: a jury of 7 is everybody who did not sit, at 5 each."""

from dataclasses import dataclass, replace

import pytest

from marketplace.chain.parameters import PRESETS
from marketplace.protocol import attacks
from marketplace.protocol.assessment import Verdict, assess, break_even
from marketplace.protocol.attack_table import ATTACKS, assess_all, paying
from marketplace.protocol.attacks import luck, thinnest
from marketplace.protocol.economics import Assumptions, Case, assumed, least_loss, most_sold
from marketplace.protocol.errors import InvalidValue


@dataclass(frozen=True)
class Numbers:
    committee_size: int = 3
    max_rounds: int = 3
    max_juries: int = 2
    min_verifiers: int = 10
    seat_stake: int = 1000
    absence_bps: int = 500
    late_bps: int = 2500
    incoherence_bps: int = 2000
    fraud_bps: int = 20_000
    bond_per_trace: int = 10
    fault_multiple: int = 5
    wrong_bps: int = 10_000
    min_fee_per_trace: int = 1
    juror_fee: int = 5
    max_traces: int = 100


GIVEN = Assumptions(
    price=10, fee=3, traces=10, check_cost=1, gas_cost=0, seats=10, pool=1000, audits=0.05
)
# 0.28 tokens of 100,000 units for a commit, 1 for a dispute.
GAS = replace(GIVEN, gas_cost=100_000)


def case(**changes) -> Case:
    return Case(Numbers(), replace(GIVEN, **changes))


def parts(outlay) -> tuple[float, ...]:
    return outlay.at_risk, outlay.cost, outlay.gain, outlay.loss


def test_sums_of_a_case() -> None:
    seen = case()
    assert (seen.quorum, seen.value, seen.share, seen.bond) == (2, 130, 10, 100)
    assert (seen.absence, seen.late, seen.incoherence, seen.fraud) == (50, 250, 200, 1000)
    assert (seen.jury_fees, seen.dispute_bond, seen.juries) == (35, 70, [7])
    assert least_loss(Numbers()) == 2000


# at risk, cost, gain, loss. Two of ten seats are the attacker's, two are lazy; a committee has a
# lazy majority with chance C(2,2) C(8,1) / C(10,3) = 8/120.
@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (attacks.garbage, (100, 30, 0.2 * 30, 0)),
        (attacks.faulty, (100, 0, 0.05 * 100, 0.95 * 100)),  # escapes 8/120 x (1 - 0.25)
        (attacks.withheld_content, (100, 0, 6, 30)),
        # A dispute of its own faults: the jurors' 35; where it is served, half of the other 35.
        (attacks.withdrawn_content, (70, 35, 0.1 * 100, 0.9 * 35 / 2)),
        (attacks.lying_minority, (1000, 0, 0, 200 + 10)),
        (attacks.lying_majority, (2000, 0, 0.75 * 130, 0.25 * 2000)),
        (attacks.withheld_tree, (2000, 0, 0.75 * 130, 0.25 * 2000)),
        # One seat convicted, another out of line in any case; only one share of the fees is paid.
        (attacks.one_signer, (1200, 0, 0.75 * 110, 200 + 0.25 * 1000)),
        (attacks.lie_without_content, (100 + 2 * 50, 0, 0.1 * 130, 0.9 * (2 * 50 + 10))),
        (attacks.captured_juries, (2000, 0, 0, 2000)),
        (attacks.promised_bribe, (2820, 0, 0.1 * 130, 0.9 * 2820)),  # 4 jurors x (200 + 5)
        (attacks.lazy_signing, (1000, 0, 0.95 * 10, 0.05 * (3400 / 9 + 0.5))),  # see test_laziness
        (attacks.withheld_reveal, (1000, 0, 0, 260)),
        (attacks.absence, (1000, 0, 10, 60)),
        (attacks.conflict_farming, (2000, 0, 0.2 * 35, 200 + 50 + 20)),
        (attacks.false_malformed, (2000, 0, 0.1 * 200, 0.9 * 2000)),
        (attacks.false_unavailable, (2000, 0, 0.1 * 130, 0.9 * 2 * 60)),
        (attacks.selective_publication, (100, 0, 0.1 * 10, 0)),
        (attacks.frivolous_dispute, (70, 70, 0.2 * 35 + 35 / 2, 0)),
        (attacks.many_disputes, (700, 700, 245, 0)),
        (attacks.appeal_exhaustion, (70, 0, 0.2 * 35 + 35 / 2, 70)),
        (attacks.slash_to_oneself, (2000, 0, 35 + 10 + 30, 2000)),
        (attacks.late_dispute, (70, 35, 0.2 * 35, 0)),
        (attacks.self_audit, (100, 30, 8 / 120 * (10 + 30), 0)),
        (attacks.starved_jury, (2000, 0, 0, 2000)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_attack_by_hand(attack, expected) -> None:
    assert parts(attack(case())) == pytest.approx(expected)


def test_every_attack_of_the_table_is_weighed_above() -> None:
    marks = test_each_attack_by_hand.pytestmark[0].args[1]
    assert {attack for attack, _ in marks} == {attack.weigh for attack in ATTACKS}


def test_gas_is_paid_by_who_acts() -> None:
    costly = Case(Numbers(), GAS)
    assert attacks.garbage(costly).cost == pytest.approx(30 + 28_000)
    assert attacks.absence(costly).gain == pytest.approx(10 + 11_000)
    assert attacks.late_dispute(costly).cost == pytest.approx(35 + 100_000 + 0.2 * 7 * 11_000)


def test_a_majority_of_the_last_jury_keeps_the_lie() -> None:
    # Six of ten: two sit in the committee, four of the seven jurors are its own.
    assert parts(attacks.captured_juries(case(attacker=0.6))) == (2000, 0, 130, 0)
    assert attacks.lying_majority(case(attacker=0.6, watch=1)).net == 130
    assert parts(attacks.frivolous_dispute(case(attacker=0.6)))[2] == pytest.approx(70 + 10)


def test_too_few_seats_for_a_jury() -> None:
    # Six seats: a committee leaves three, a jury of 7 needs four. The lie can't be disputed.
    assert thinnest(Numbers()) == 7
    assert parts(attacks.lying_majority(case(seats=6, watch=1))) == (2000, 0, 130, 0)
    assert parts(attacks.lying_majority(case(seats=7, watch=1))) == (2000, 0, 0, 2000)
    # Seats that are unstaked before the jury is drawn count as little as seats that don't exist.
    assert attacks.lying_majority(case(seats=10, leaving=4, watch=1)).net == 130
    assert attacks.promised_bribe(case(seats=6)).net == 130


def test_appeals_double_the_bond() -> None:
    # A hundred seats: juries of 7 and 15; bonds 70 and 140.
    outlay = attacks.appeal_exhaustion(case(seats=100))
    assert parts(outlay) == pytest.approx((210, 0, 0.2 * 110 + (210 - 110) / 2, 210))


def test_what_comes_back_from_a_slash_to_oneself() -> None:
    # Fees so high that only the shares of the slash bind: 35 + 3/4 x 1965.
    outlay = attacks.slash_to_oneself(case(fee=190))
    assert outlay.gain == pytest.approx(35 + 1965 / 4 + 1965 / 2)
    assert outlay.net < 0


def test_a_false_unavailable_on_a_small_batch_is_not_worth_a_dispute() -> None:
    assert attacks.false_unavailable(case(traces=2)).net == 26  # 26 < jurors' 35
    assert break_even(_named("false unavailable"), case(), "traces") == 3


def test_a_lie_that_nobody_can_read_is_not_worth_a_dispute_on_a_small_batch() -> None:
    assert parts(attacks.lie_without_content(case(traces=2))) == (120, 0, 26, 0)  # 26 < 35
    assert break_even(_named("lie without content"), case(poster_watch=1), "traces") == 3


def test_a_jury_is_starved_by_who_owns_most_accounts() -> None:
    # 11 of 23: one that unstakes leaves a second jury of twelve, of which six deny a quorum.
    wide = case(seats=23, attacker=0.5)
    assert attacks.starved_jury(wide).gain > attacks.captured_juries(wide).gain > 0
    # Six of ten: no more to win by it than by voting.
    assert parts(attacks.starved_jury(case(attacker=0.6))) == (2000, 0, 130, 0)


def test_a_bond_counts_as_what_a_batch_is_worth() -> None:
    small = replace(GIVEN, price=1, fee=1, traces=95)
    assert Case(replace(Numbers(), bond_per_trace=21), small).bond == 1995
    with pytest.raises(InvalidValue, match="or its bond is worth 2016, more than"):
        Case(replace(Numbers(), bond_per_trace=21), replace(small, traces=96))
    assert most_sold(replace(Numbers(), bond_per_trace=21), 1, 1) == 95
    assert most_sold(Numbers(), 10, 3) == 153


def test_a_batch_of_faults_costs_no_more_than_the_bond() -> None:
    gentle = replace(Numbers(), fault_multiple=1, bond_per_trace=1, wrong_bps=5000)
    seen = Case(gentle, GIVEN)  # bond: the fee, 3, a trace; faults 10 x 1 and half of the fees
    assert seen.faulty == 25
    assert Case(replace(gentle, fault_multiple=5), GIVEN).faulty == 30


def _named(name: str):
    return next(attack for attack in ATTACKS if attack.name == name)


@pytest.mark.parametrize(
    ("name", "assumption", "expected"),
    [
        ("lying majority", "watch", 130 / 2130),
        ("lying majority", "traces", 52),  # 13 n 0.75 > 500 from n = 52 on
        ("lazy signing", "audits", 10 / (10 + 3400 / 9 + 0.5)),
        ("absence", "check_cost", 7),  # 10 c > 60
        ("false malformed or false faults", "miner_watch", 200 / 2200),
        ("false unavailable", "miner_watch", 130 / 250),
        ("garbage mining", "attacker", None),
        ("captured juries", "attacker", 0.6),
        ("captured juries", "seats", 7),
        ("captured juries", "leaving", 4),  # three of seven are left, four are needed
        ("starved jury", "attacker", 0.6),
        ("withdrawn content", "serves", (100 - 35) / (100 + 17.5)),
        ("late disputes", "attacker", None),
        ("conflict winner with one signer", "watch", None),
        ("conflict winner with one signer", "traces", 55),  # (10 n + n) 0.75 > 200 + 250 from 55 on
        ("lie without content", "poster_watch", 130 / (130 + 2 * 50 + 10)),
        ("bribe promised to the last jury", "believed", 2820 / 2950),
    ],
)
def test_break_even(name, assumption, expected) -> None:
    found = break_even(_named(name), case(), assumption)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_verdicts() -> None:
    assert assess(_named("lying majority"), case()).verdict is Verdict.DOES_NOT_PAY
    assert assess(_named("lying majority"), case(watch=0)).verdict is Verdict.PAYS
    assert assess(_named("selective publication"), case()).verdict is Verdict.OPEN
    assert assess(_named("selective publication"), case(serves=1)).verdict is Verdict.DOES_NOT_PAY
    assert [one.name for one in paying(case(watch=0))] == [
        "lying majority",
        "withheld verdict tree",
    ]


def test_what_the_lot_gives() -> None:
    found = luck(case(attacker=0.5))  # five of ten; three left for a jury of seven
    assert found.committee == pytest.approx((10 * 5 + 10) / 120)
    assert found.first_jury == found.last_jury == 0
    # Six: two sit in the committee, the other four are more than half of the seven left.
    assert luck(case(attacker=0.6)).first_jury == 1
    assert luck(case(attacker=0.1)).committee == 0


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_no_attack_pays_under_a_preset(preset) -> None:
    rules = preset.parameters(6)
    given = assumed(rules, 10**6)
    assert paying(Case(rules, given)) == []
    # The same in a token with other decimals.
    finer = preset.parameters(18)
    coarse = assess_all(Case(rules, given))
    fine = assess_all(Case(finer, assumed(finer, 10**18)))
    for one, other in zip(coarse, fine, strict=True):
        assert other.outlay.net == pytest.approx(one.outlay.net * 10**12)


@pytest.mark.parametrize(
    ("changes", "name", "parameter"),
    [
        ({"wrong_bps": 0}, "garbage mining", "wrong_bps"),
        ({"incoherence_bps": 0}, "lazy signing", "incoherence_bps"),
        ({"absence_bps": 0, "min_fee_per_trace": "0.0001"}, "false unavailable", "absence_bps"),
        ({"fault_multiple": 1, "bond_per_trace": "0.000001", "wrong_bps": 0}, "faulty traces",
         "fault_multiple"),
    ],
)  # fmt: skip
def test_a_worse_preset_is_found_out(changes, name, parameter) -> None:
    rules = replace(PRESETS["standard"], **changes).parameters(6)
    more = {"lazy": 0.5, "watch": 0.1} if name == "faulty traces" else {}
    if name == "lazy signing":
        more = {"lazy": 0.0, "check_cost": 1000, "audits": 0.01}
    if name == "false unavailable":
        more = {"fee": 100}
    found = paying(Case(rules, assumed(rules, 10**6, **more)))
    assert name in [one.name for one in found]
    assert parameter in next(one for one in found if one.name == name).parameters


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"traces": 101}, "at most 100"),
        ({"fee": 0}, "at least 1"),
        ({"price": 200}, "more than a lying majority loses"),
        ({"seats": 2}, "seat no committee"),
        ({"leaving": 8}, "seat no committee"),
        ({"watch": 1.5}, "watch is 1.5"),
        ({"pool": -1}, "below zero"),
        ({"traces": 0}, "must not be 0"),
    ],
)
def test_batches_that_no_market_sells(changes, said) -> None:
    with pytest.raises(InvalidValue, match=said):
        case(**changes)
