"""Graded faults: what each costs whom, and who gets it. docs/faults.md is written from here.

The rules are those of the contracts (Rounds.judge and convict, BatchMarket's settlement,
Court.close); the numbers are a deployment's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from marketplace.protocol.economics import BPS, Rules


@dataclass(frozen=True, slots=True)
class Loss:
    """One thing lost. of: a seat, a trace, a batch, a dispute. amount: token base units for one of
    them, from the parameters; None where it follows from the bounty or the batch (`amount_words`).
    parameters: names in libraries/Types.sol."""

    of: str
    parameters: tuple[str, ...]
    amount: Callable[[Rules], int] | None
    amount_words: str
    goes_to: str


@dataclass(frozen=True, slots=True)
class Fault:
    grade: str
    who: str
    what: str
    losses: tuple[Loss, ...]


def _seat(share: Callable[[Rules], int]) -> Callable[[Rules], int]:
    return lambda rules: rules.seat_stake * share(rules) // BPS


POOL: Final = "insurance pool"
BOUNTY: Final = "bounty"
UNPAID: Final = "bounty; a juror's stays with the dispute"

FAULTS: Final = (
    Fault(
        "absent",
        "member or juror",
        "was drawn and committed no vote, or voted unavailable where another attestation became "
        "final",
        (
            Loss(
                "seat",
                ("seatStake", "absenceBps"),
                _seat(lambda rules: rules.absence_bps),
                "",
                POOL,
            ),
            Loss("seat", (), None, "its fee", UNPAID),
        ),
    ),
    Fault(
        "late",
        "member or juror",
        "committed a vote and did not reveal it in time",
        (
            Loss("seat", ("seatStake", "lateBps"), _seat(lambda rules: rules.late_bps), "", POOL),
            Loss("seat", (), None, "its fee", UNPAID),
        ),
    ),
    Fault(
        "unavailable",
        "miner",
        "published no content that a quorum could fetch",
        (Loss("batch", (), None, "the fees of the coherent members, out of its bond", "members"),),
    ),
    Fault(
        "malformed",
        "miner",
        "published content that is no batch file with the committed root and count",
        (
            Loss(
                "trace",
                ("bondPerTrace",),
                lambda rules: rules.bond_per_trace,
                "its whole bond: this, or the bounty's fee where that is more, for each trace",
                "members (their fees), the rest to the bounty",
            ),
        ),
    ),
    Fault(
        "wrong",
        "miner",
        "a trace earned no unit",
        (
            Loss(
                "trace",
                ("wrongBps",),
                None,
                "wrongBps of the bounty's fee for a trace, up to the bond",
                BOUNTY,
            ),
        ),
    ),
    Fault(
        "incoherent",
        "member or juror",
        "revealed another vote than the one that became final (nothing where that is unavailable, "
        "or where the batch is void)",
        (
            Loss(
                "seat",
                ("seatStake", "incoherenceBps"),
                _seat(lambda rules: rules.incoherence_bps),
                "",
                POOL,
            ),
            Loss("seat", (), None, "its fee", UNPAID),
        ),
    ),
    Fault(
        "fraudulent",
        "miner",
        "a trace is a proven lie: a malformed line, an unassigned task, a tampered prompt, a false "
        "claim, off policy",
        (
            Loss(
                "trace",
                ("faultMultiple", "bondPerTrace"),
                lambda rules: rules.fault_multiple * rules.bond_per_trace,
                "beside what a wrong trace costs; up to the batch's bond",
                BOUNTY,
            ),
        ),
    ),
    Fault(
        "fraudulent",
        "signer of an attestation",
        "the attestation fell before a jury, by a proof from its nodes, or because its tree was "
        "not opened",
        (
            Loss(
                "seat",
                ("seatStake", "fraudBps"),
                _seat(lambda rules: rules.fraud_bps),
                "beyond the seat's stake only as far as its owner's free and unbonding stake goes",
                "jurors of the dispute (what lost bonds do not cover); of the rest: challenger at "
                "most a quarter and one seat's fee, wronged side at most half and the batch's "
                "fees, " + POOL,
            ),
            Loss("seat", (), None, "its fee", "the other members"),
        ),
    ),
    Fault(
        "frivolous",
        "challenger or appellant",
        "disputed what stands, appealed what remains, or did not go on with an opening",
        (
            Loss(
                "dispute",
                ("jurorFee", "committeeSize"),
                lambda rules: 2 * (2 * rules.committee_size + 1) * rules.juror_fee,
                "twice what the first jury of a first committee costs; an appeal twice the bond "
                "before it",
                "jurors; of the rest: half to the miner where the attestation stands, " + POOL,
            ),
        ),
    ),
    Fault(
        "frivolous",
        "challenger of an outcome unavailable",
        "the content can be had, but may have come late: nobody is convicted",
        (
            Loss(
                "dispute",
                ("jurorFee",),
                lambda rules: (2 * rules.committee_size + 1) * rules.juror_fee,
                "the jurors' fees out of its bond; that much for a full first jury",
                "jurors",
            ),
        ),
    ),
)

COLUMNS: Final = ("grade", "who", "what happened", "loses, for each", "who gets it", "parameters")


def rows(presets: Mapping[str, Rules], money: Callable[[int], str]) -> list[tuple[str, ...]]:
    """The table: COLUMNS, then a column of numbers for each preset."""
    found = []
    for fault in FAULTS:
        for number, loss in enumerate(fault.losses):
            first = number == 0
            words = loss.amount_words or "a part of its stake"
            found.append(
                (
                    fault.grade if first else "",
                    fault.who if first else "",
                    fault.what if first else "",
                    f"{loss.of}: {words}",
                    loss.goes_to,
                    ", ".join(loss.parameters),
                    *(_number(loss, rules, money) for rules in presets.values()),
                )
            )
    return found


def _number(loss: Loss, rules: Rules, money: Callable[[int], str]) -> str:
    if loss.amount is not None:
        return money(loss.amount(rules))
    if loss.parameters == ("wrongBps",):
        return f"{rules.wrong_bps / 100:g} %"
    return ""


def markdown(presets: Mapping[str, Rules], money: Callable[[int], str]) -> str:
    """The table as Markdown, as it stands in docs/faults.md."""
    head = (*COLUMNS, *presets)
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in _with_rule(head, rows(presets, money))
    )


def _with_rule(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    return [head, ["---"] * len(head), *body]
