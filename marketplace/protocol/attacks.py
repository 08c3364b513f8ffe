"""Each known attack on the market's money, weighed. One function for each row: what it puts at
risk, spends, gains and loses in expectation, as Outlay says. Who attacks a batch is taken to have
what it needs (a quorum in its committee, say): how likely the lot gives it that is `luck`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from marketplace.protocol.assessment import Outlay
from marketplace.protocol.economics import Case, Rules
from marketplace.protocol.laziness import audited
from marketplace.protocol.lots import (
    chance_of_least,
    jury_sizes,
    lie_survives,
    lie_survives_unstaking,
    quorum,
)


@dataclass(frozen=True, slots=True)
class Luck:
    """What the lot gives an attacker with its share of the seats: a majority of a committee; of
    the first jury, once just a majority of the committee is its own; the last word."""

    committee: float
    first_jury: float
    last_jury: float


def luck(case: Case) -> Luck:
    held, seats = case.held, case.assumptions.seats
    juries = case.juries
    left = min(max(0, held - case.quorum), seats - case.committee)
    first = chance_of_least(left, seats - case.committee, juries[0], quorum(juries[0])) if (
        juries and held >= case.quorum
    ) else 0.0  # fmt: skip
    return Luck(
        committee=chance_of_least(held, seats, case.committee, case.quorum),
        first_jury=first,
        last_jury=_survives(case, held),
    )


def _survives(case: Case, held: int) -> float:
    given = case.assumptions
    return lie_survives(held, given.seats, case.committee, case.rules.max_juries, given.leaving)


def _signers(case: Case) -> int:
    """Seats of whoever has a majority of the committee, bought for this batch if need be."""
    return max(case.held, case.quorum)


def _caught(case: Case, watch: float) -> float:
    """That a lying majority falls: somebody looks, and the last jury is honest."""
    return watch * (1 - _survives(case, _signers(case)))


# --- miners --------------------------------------------------------------------------


def garbage(case: Case) -> Outlay:
    back = case.held / case.assumptions.seats * case.fees
    return Outlay(case.bond, case.wrong + case.gas("commit"), back, 0)


def faulty(case: Case) -> Outlay:
    seats = case.assumptions.seats
    blind = chance_of_least(case.lazy, seats, case.committee, case.quorum)
    escapes = blind * (1 - case.assumptions.watch)
    return Outlay(
        case.bond, case.gas("commit"), escapes * case.pay, (1 - escapes) * case.faulty
    )  # fmt: skip


def withheld_content(case: Case) -> Outlay:
    back = case.held / case.assumptions.seats * case.fees
    return Outlay(case.bond, case.gas("commit"), back, case.fees)


def withdrawn_content(case: Case) -> Outlay:
    # Its faults are attested. It disputes a verdict and withdraws the content: a jury that can't
    # have it leaves the batch unavailable, which costs the jurors' fees. A jury that can: the bond,
    # of which the miner gets back half of what the jurors leave.
    served = case.assumptions.serves
    return Outlay(
        case.dispute_bond,
        case.jury_fees + case.gas("dispute"),
        (1 - served) * case.faulty,
        served * (case.dispute_bond - case.jury_fees) / 2,
    )


# --- members of a committee ----------------------------------------------------------


def lying_minority(case: Case) -> Outlay:
    liars = case.quorum - 1
    each = case.incoherence + case.share
    return Outlay(liars * case.rules.seat_stake, 0, 0, liars * each)


def lying_majority(case: Case) -> Outlay:
    caught = _caught(case, case.assumptions.watch)
    signers = case.quorum * case.fraud
    return Outlay(signers, case.gas("commit"), (1 - caught) * case.value, caught * signers)


def withheld_tree(case: Case) -> Outlay:
    # Who does not open the tree falls without a jury; who opens it is judged like any other.
    caught = _caught(case, case.assumptions.watch)
    moves = max(1, (case.assumptions.traces - 1).bit_length()) * case.gas("vote") / 2
    signers = case.quorum * case.fraud
    return Outlay(
        signers, case.gas("commit"), (1 - caught) * case.value, caught * (signers + moves)
    )  # fmt: skip


def one_signer(case: Case) -> Outlay:
    # Two false votes, narrowed to a trace of which one is right about: that one, with a single
    # signer, becomes the attestation; the other's signers are out of line. Only its own share of
    # the fees is paid. The tie with the honest votes falls to whoever sits first.
    caught = _caught(case, case.assumptions.watch)
    spent = (case.quorum - 1) * case.incoherence
    return Outlay(
        spent + case.fraud,
        case.gas("commit") + case.gas("dispute"),
        (1 - caught) * (case.pay + case.share),
        spent + caught * case.fraud,
    )


def lie_without_content(case: Case) -> Outlay:
    # Nobody but the liars ever has the content. The poster disputes where that saves it more than
    # the jurors' fees, which it bears; the outcome is "unavailable": signers lose what absence
    # costs, and the members that said so are paid out of the miner's bond.
    worth = case.value > case.jury_fees + case.gas("dispute")
    caught = _caught(case, case.assumptions.poster_watch) if worth else 0.0
    others = case.committee - case.quorum
    return Outlay(
        case.bond + case.quorum * case.absence,
        case.gas("commit"),
        (1 - caught) * case.value,
        caught * (case.quorum * case.absence + others * case.share),
    )


def captured_juries(case: Case) -> Outlay:
    kept = _survives(case, _signers(case))
    signers = case.quorum * case.fraud
    return Outlay(signers, case.gas("commit"), kept * case.value, (1 - kept) * signers)


def promised_bribe(case: Case) -> Outlay:
    last = case.juries[-1] if case.juries else 0
    signers = case.quorum * case.fraud
    promised = quorum(last) * (case.incoherence + case.rules.juror_fee) if last else 0.0
    taken = case.assumptions.believed if last else 1.0
    return Outlay(signers + promised, 0, taken * case.value, (1 - taken) * (signers + promised))


def lazy_signing(case: Case) -> Outlay:
    seats, rate = case.assumptions.seats, case.assumptions.audits
    # The dilemma of one among the lazy ones; at least itself.
    found = audited(case.dilemma, seats, min(max(1, case.lazy), seats - 1))
    return Outlay(
        case.rules.seat_stake,
        0,
        (1 - rate) * case.checking,
        rate * -found.advantage,
    )


def withheld_reveal(case: Case) -> Outlay:
    return Outlay(case.rules.seat_stake, 0, 0, case.late + case.share)


def absence(case: Case) -> Outlay:
    return Outlay(
        case.rules.seat_stake, 0, case.checking + case.gas("vote"), case.absence + case.share
    )  # fmt: skip


def conflict_farming(case: Case) -> Outlay:
    liars = case.committee - case.quorum + 1
    revealed = case.quorum - (case.committee - liars)
    # One false vote must be there to narrow down to; the others need only be missing.
    lost = revealed * case.incoherence + (liars - revealed) * min(case.incoherence, case.absence)
    farmed = min(case.assumptions.pool, case.jury_fees)
    return Outlay(
        liars * case.rules.seat_stake,
        case.gas("dispute"),
        case.held / case.assumptions.seats * farmed,
        lost + liars * case.share,
    )


# --- a majority against the miner ----------------------------------------------------


def false_malformed(case: Case) -> Outlay:
    caught = _caught(case, case.assumptions.miner_watch)
    signers = case.quorum * case.fraud
    return Outlay(signers, 0, (1 - caught) * (case.bond + case.pay), caught * signers)


def false_unavailable(case: Case) -> Outlay:
    # The miner pays the jurors even where it is right: it disputes only what is worth that.
    worth = case.value > case.jury_fees + case.gas("dispute")
    caught = _caught(case, case.assumptions.miner_watch) if worth else 0.0
    each = case.absence + case.share
    return Outlay(
        case.quorum * case.rules.seat_stake,
        0,
        (1 - caught) * case.value,
        caught * case.quorum * each,
    )


def selective_publication(case: Case) -> Outlay:
    victims = case.committee - case.quorum
    unpaid = victims * case.share
    return Outlay(case.bond, 0, (1 - case.assumptions.serves) * unpaid, 0)


# --- before the court ----------------------------------------------------------------


def frivolous_dispute(case: Case) -> Outlay:
    seats, juries = case.assumptions.seats, case.juries
    wins = 0.0
    if juries:
        others = seats - case.committee
        held = min(case.held, others)
        wins = chance_of_least(held, others, juries[-1], quorum(juries[-1]))
    jurors = case.held / seats * case.jury_fees
    # The challenger may be the miner's friend, who gets half of what the jurors leave.
    back = jurors + (case.dispute_bond - case.jury_fees) / 2
    won = case.dispute_bond + min(case.quorum * case.fraud / 4, case.share)
    return Outlay(
        case.dispute_bond,
        case.dispute_bond + case.gas("dispute"),
        (1 - wins) * back + wins * won,
        0,
    )


DISPUTES: Final = 10


def many_disputes(case: Case) -> Outlay:
    one = frivolous_dispute(case)
    return Outlay(*(DISPUTES * part for part in (one.at_risk, one.cost, one.gain, one.loss)))


def appeal_exhaustion(case: Case) -> Outlay:
    appeals = range(max(1, len(case.juries)))
    bonds = sum(case.dispute_bond << number for number in appeals)
    jurors = sum(case.juries) * case.rules.juror_fee
    back = case.held / case.assumptions.seats * jurors + (bonds - jurors) / 2
    return Outlay(bonds, len(appeals) * case.gas("dispute"), back, bonds)


def slash_to_oneself(case: Case) -> Outlay:
    slashed = case.quorum * case.fraud
    jurors = min(slashed, case.jury_fees)
    left = slashed - jurors
    # Even where all jurors are its own.
    back = jurors + min(left / 4, case.share) + min(left / 2, case.fees)
    return Outlay(slashed, case.gas("commit") + case.gas("dispute"), back, slashed)


def late_dispute(case: Case) -> Outlay:
    # True, of what another dispute or a proof lets fall anyway: nobody is left to convict, and the
    # challenger's bond pays the jurors, the attacker's among them.
    part = case.held / case.assumptions.seats
    votes = part * case.first_jury * case.gas("vote")
    return Outlay(
        case.dispute_bond,
        case.jury_fees + case.gas("dispute") + votes,
        part * case.jury_fees,
        0,
    )


def self_audit(case: Case) -> Outlay:
    seats = case.assumptions.seats
    blind = chance_of_least(case.lazy, seats, case.committee, case.quorum)
    slashed = case.quorum * case.fraud
    left = max(0.0, slashed - case.jury_fees)
    back = min(left / 4, case.share) + min(left / 2, case.fees)
    return Outlay(case.bond, case.fees + case.gas("commit"), blind * back, 0)


def starved_jury(case: Case) -> Outlay:
    given = case.assumptions
    kept = lie_survives_unstaking(
        _signers(case), given.seats, case.committee, case.rules.max_juries, given.leaving
    )
    signers = case.quorum * case.fraud
    return Outlay(signers, case.gas("commit"), kept * case.value, (1 - kept) * signers)


def thinnest(rules: Rules) -> int:
    """Fewest seats with which a first jury can be drawn beside a committee."""
    seats = rules.committee_size
    while not jury_sizes(rules.committee_size, 1, seats - rules.committee_size):
        seats += 1
    return seats
