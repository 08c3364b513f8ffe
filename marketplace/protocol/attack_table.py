"""The attacks that a market is weighed against before it is deployed."""

from __future__ import annotations

from typing import Final

from marketplace.protocol import attacks
from marketplace.protocol.assessment import Assessment, Attack, Verdict, assess
from marketplace.protocol.economics import Case

ATTACKS: Final = (
    Attack(
        "garbage mining", "miner that also verifies", attacks.garbage,
        ("attacker",), ("wrong_bps",),
        "traces without a unit, to earn the poster's fees on the attacker's own seats",
    ),
    Attack(
        "faulty traces", "miner", attacks.faulty,
        ("lazy",), ("fault_multiple", "bond_per_trace"),
        "false claims that a committee with a lazy majority signs, unless somebody looks",
    ),
    Attack(
        "withheld content", "miner", attacks.withheld_content,
        ("attacker",), ("bond_per_trace",),
        "commits and never publishes; the members' fees come out of its bond",
    ),
    Attack(
        "withdrawn content", "miner", attacks.withdrawn_content,
        ("serves", "traces"), ("juror_fee",),
        "disputes its attested faults and withdraws the content: unavailable is cheaper than "
        "faulty, but it bears the jurors' fees",
    ),
    Attack(
        "lying minority", "members", attacks.lying_minority,
        (), ("incoherence_bps",),
        "gains nothing; who sees that it loses saves nothing by withholding its reveal",
    ),
    Attack(
        "lying majority", "members, bought or sybil", attacks.lying_majority,
        ("watch", "traces"), ("seat_stake", "fraud_bps", "committee_size"),
        "units for nothing; at risk is the price of a quorum's seats",
    ),
    Attack(
        "withheld verdict tree", "lying majority", attacks.withheld_tree,
        ("watch", "traces"), ("seat_stake", "fraud_bps", "committee_size"),
        "opened move by move or fallen: no cheaper than a lie that can be read",
    ),
    Attack(
        "conflict winner with one signer", "lying majority", attacks.one_signer,
        ("watch", "traces"), ("seat_stake", "incoherence_bps", "fraud_bps"),
        "no quorum on purpose; the vote that wins the conflict has one signer, so a false one "
        "risks one seat's stake; the others' incoherence is spent",
    ),
    Attack(
        "lie without content", "lying majority and its miner", attacks.lie_without_content,
        ("poster_watch", "traces"), ("absence_bps",),
        "only the liars have the content: a dispute ends unavailable, and they lose what absence "
        "costs",
    ),
    Attack(
        "captured juries", "sybil verifiers", attacks.captured_juries,
        ("attacker", "seats", "leaving"), ("min_verifiers", "max_juries"),
        "the lie is disputed for certain; the last jury that can be drawn decides",
    ),
    Attack(
        "bribe promised to the last jury", "lying majority", attacks.promised_bribe,
        ("believed",), ("incoherence_bps", "max_juries"),
        "jurors are promised what they lose if the lie falls; if all believe it, none is paid",
    ),
    Attack(
        "lazy signing", "member", attacks.lazy_signing,
        ("audits", "traces"), ("incoherence_bps", "seat_stake"),
        "signs the miner's claims unchecked; planted batches catch it",
    ),
    Attack(
        "withheld reveal", "member", attacks.withheld_reveal,
        (), ("late_bps",), "loses the late penalty, no less than the incoherent one, and its fee",
    ),
    Attack(
        "absence", "member", attacks.absence,
        ("check_cost",), ("absence_bps",), "spares the work and the gas",
    ),
    Attack(
        "conflict farming", "members", attacks.conflict_farming,
        ("attacker",), ("incoherence_bps", "absence_bps", "juror_fee"),
        "no quorum on purpose, so that the pool pays a jury",
    ),
    Attack(
        "false malformed or false faults", "poster and lying majority", attacks.false_malformed,
        ("miner_watch",), ("seat_stake", "bond_per_trace"),
        "the miner's bond, no more than what is at risk, and its work for nothing",
    ),
    Attack(
        "false unavailable", "poster and lying majority", attacks.false_unavailable,
        ("miner_watch", "traces"), ("absence_bps", "juror_fee"),
        "nobody is convicted for it, and the miner bears the jurors' fees even where it is right",
    ),
    Attack(
        "selective publication", "poster and miner", attacks.selective_publication,
        ("serves",), (),
        "content withheld from a minority: its fees go back to the poster",
    ),
    Attack(
        "frivolous dispute", "challenger, the miner's friend", attacks.frivolous_dispute,
        ("attacker",), ("juror_fee", "min_verifiers"),
        "part of the bond comes back to its own jurors and to the miner",
    ),
    Attack(
        f"griefing by {attacks.DISPUTES} disputes", "challenger", attacks.many_disputes,
        ("attacker",), ("juror_fee", "min_verifiers"),
        "delays a batch until the last dispute ends; each one costs its bond",
    ),
    Attack(
        "appeal exhaustion", "challenger, the miner's friend", attacks.appeal_exhaustion,
        ("attacker",), ("juror_fee",),
        "bonds double; the other side gets its own back",
    ),
    Attack(
        "slash to oneself", "signers, challenger and poster", attacks.slash_to_oneself,
        (), ("juror_fee",),
        "at most the jurors' fees and three quarters of the rest come back",
    ),
    Attack(
        "late disputes", "challenger with jurors", attacks.late_dispute,
        ("attacker",), ("juror_fee",),
        "true disputes of what falls anyway: their own bonds pay the jurors, not the pool",
    ),
    Attack(
        "planted batch as income", "poster", attacks.self_audit,
        ("lazy",), ("fraud_bps",),
        "pays only where most committees are lazy, and then it is what audits are for",
    ),
    Attack(
        "starved jury", "sybil verifiers", attacks.starved_jury,
        ("attacker",), ("min_verifiers", "max_juries"),
        "who owns most accounts unstakes, so that a jury can't be drawn and the lie stands; "
        "busy seats starve none, juries are drawn from all stake",
    ),
)  # fmt: skip


def assess_all(case: Case) -> list[Assessment]:
    return [assess(attack, case) for attack in ATTACKS]


def paying(case: Case) -> list[Assessment]:
    """Attacks that pay and that other parameters would prevent."""
    return [found for found in assess_all(case) if found.verdict is Verdict.PAYS]
