"""The verifier's dilemma, drawn by lot: what lazy and honest verifiers earn.

    python benchmarks/audits/simulate.py [--batches N] [--out FOLDER]

Every batch is played as the contracts play it: draw, votes, quorum, a dispute of a lie,
convictions, a fresh committee of those who have not sat, pay at the end. Constants are those of the
preset "standard". Writes results.json, results.md and results.png; the same seed writes the same
numbers.
marketplace/protocol/laziness.py computes the same exactly; every row says how far apart they are.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from dataclasses import asdict, dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, Final

from marketplace.chain.parameters import STANDARD
from marketplace.protocol.economics import Case, assumed
from marketplace.protocol.laziness import (
    Dilemma,
    Profit,
    break_even_rate,
    break_even_scale,
    mixed,
)
from marketplace.protocol.lots import quorum

UNIT: Final = 10**6
SEATS: Final = 64
SEED: Final = 20260101
RATES: Final = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
LAZY: Final = (1, 6, 13, 26, 38)
STAKES: Final = (10, 25, 50, 100, 200)


@dataclass(frozen=True, slots=True)
class Measured:
    """Mean profit for each first seat, with standard errors; of the difference too, because both
    kinds sit in the same batches."""

    lazy: float
    lazy_error: float
    honest: float
    honest_error: float
    advantage: float
    advantage_error: float


def play(dilemma: Dilemma, seats: int, lazy: int, planted: bool, lot: random.Random) -> Profit:
    """One batch among verifiers 0..seats-1, of whom the first `lazy` don't check. Sums of what
    both kinds earn and lose."""
    earned = [0.0] * seats
    unsat = list(range(seats))
    unpaid: list[int] = []
    for _ in range(dilemma.rounds):
        if len(unsat) < dilemma.committee:
            break
        members = lot.sample(unsat, dilemma.committee)
        unsat = [one for one in unsat if one not in members]
        signers = [one for one in members if one < lazy]
        checkers = [one for one in members if one >= lazy]
        for one in checkers:
            earned[one] -= dilemma.check_cost
        lie = planted and len(signers) >= quorum(len(members))
        if not lie:
            paid = [*unpaid, *(checkers if planted else members)]
            share = dilemma.fees / (len(unpaid) + len(members))
            for one in paid:
                earned[one] += share
            if planted:
                for one in signers:
                    earned[one] -= dilemma.out_of_line
            break
        wanted = 2 * dilemma.committee + 1
        if len(unsat) < quorum(wanted):  # no jury: the lie stands
            share = dilemma.fees / (len(unpaid) + len(members))
            for one in signers:
                earned[one] += share
            for one in [*unpaid, *checkers]:
                earned[one] -= dilemma.incoherence
            break
        for one in lot.sample(unsat, min(wanted, len(unsat))):
            earned[one] += dilemma.juror_gain
        for one in signers:
            earned[one] -= dilemma.fraud
        unpaid += checkers
    return Profit(lazy=sum(earned[:lazy]), honest=sum(earned[lazy:]))


def measure(
    dilemma: Dilemma, seats: int, lazy: int, rate: float, batches: int, seed: int
) -> Measured:
    """Plays `batches` planted and as many ordinary batches, and weighs them by the audit rate:
    audits are rare, and chance would else decide how many there are."""
    lot = random.Random(f"{seed} {seats} {lazy} {rate} {dilemma}")
    first = dilemma.committee / seats
    strata = []
    for planted, weight in ((True, rate), (False, 1 - rate)):
        lazies, honests = [], []
        for _ in range(batches):
            found = play(dilemma, seats, lazy, planted, lot)
            lazies.append(found.lazy / (lazy * first))
            honests.append(found.honest / ((seats - lazy) * first))
        differences = [a - b for a, b in zip(lazies, honests, strict=True)]
        strata.append((weight, [_mean(each) for each in (lazies, honests, differences)]))
    sums = [
        (
            sum(weight * means[which][0] for weight, means in strata),
            sqrt(sum((weight * means[which][1]) ** 2 for weight, means in strata)),
        )
        for which in range(3)
    ]
    return Measured(*sums[0], *sums[1], *sums[2])


def _mean(values: list[float]) -> tuple[float, float]:
    """With its standard error."""
    mean = sum(values) / len(values)
    spread = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, sqrt(spread / len(values))


def standard() -> Dilemma:
    """The preset's constants and the default assumptions, in tokens."""
    rules = STANDARD.parameters(6)
    found = Case(rules, assumed(rules, UNIT, seats=SEATS)).dilemma
    money = ("fees", "check_cost", "juror_gain", "late", "incoherence", "fraud")
    return replace(found, **{name: getattr(found, name) / UNIT for name in money})


def staked(dilemma: Dilemma, stake: float) -> Dilemma:
    """The same with another stake behind a seat."""
    by = stake / float(STANDARD.seat_stake)
    return replace(
        dilemma,
        late=dilemma.late * by,
        incoherence=dilemma.incoherence * by,
        fraud=dilemma.fraud * by,
    )


def run(batches: int) -> dict[str, Any]:
    dilemma = standard()
    started = time.perf_counter()

    def row(given: Dilemma, lazy: int, rate: float, **more: Any) -> dict[str, Any]:
        exact = mixed(given, SEATS, lazy, rate)
        found = measure(given, SEATS, lazy, rate, batches, SEED)
        apart = abs(found.advantage - exact.advantage)
        return {
            "lazy_share": lazy / SEATS,
            "audit_rate": rate,
            **more,
            **asdict(found),
            "exact_advantage": exact.advantage,
            "errors_apart": apart / found.advantage_error if found.advantage_error else 0.0,
        }

    by_rate = [row(dilemma, lazy, rate) for lazy in LAZY for rate in RATES]
    by_stake = [
        row(staked(dilemma, stake), lazy, 0.02, stake=stake) for lazy in LAZY for stake in STAKES
    ]
    return {
        "written_by": "make bench-audits",
        "python": platform.python_version(),
        "seconds": round(time.perf_counter() - started, 1),
        "seed": SEED,
        "batches": batches,
        "seats": SEATS,
        "traces": assumed(STANDARD.parameters(6), UNIT).traces,
        "constants": asdict(dilemma) | {"seat_stake": float(STANDARD.seat_stake)},
        "by_rate": by_rate,
        "by_stake": by_stake,
        "break_even": [
            {
                "lazy_share": lazy / SEATS,
                "audit_rate": break_even_rate(dilemma, SEATS, lazy),
                "audit_rate_simulated": _crossing(
                    [one for one in by_rate if one["lazy_share"] == lazy / SEATS], "audit_rate"
                ),
                "stake_at_2_percent": _times(
                    break_even_scale(dilemma, SEATS, lazy, 0.02), float(STANDARD.seat_stake)
                ),
                "stake_at_2_percent_simulated": _crossing(
                    [one for one in by_stake if one["lazy_share"] == lazy / SEATS], "stake"
                ),
            }
            for lazy in LAZY
        ],
    }


def _times(scale: float | None, stake: float) -> float | None:
    return None if scale is None else scale * stake


def _crossing(found: list[dict[str, Any]], by: str) -> float | None:
    """Where the simulated advantage is zero. It is linear in rate and stake: a weighted fit."""
    weights = [1 / max(one["advantage_error"], 1e-9) ** 2 for one in found]
    total = sum(weights)
    x = sum(w * one[by] for w, one in zip(weights, found, strict=True)) / total
    y = sum(w * one["advantage"] for w, one in zip(weights, found, strict=True)) / total
    over = sum(
        w * (one[by] - x) * (one["advantage"] - y) for w, one in zip(weights, found, strict=True)
    )
    under = sum(w * (one[by] - x) ** 2 for w, one in zip(weights, found, strict=True))
    slope = over / under
    return None if slope >= 0 else x - y / slope


def report(results: dict[str, Any]) -> str:
    constants = results["constants"]
    lines = [
        "# The verifier's dilemma",
        "",
        "Written by `make bench-audits`; do not edit.",
        "",
        f"{results['batches']:,} planted and as many ordinary batches of {results['traces']:,} "
        f"traces for each row, {results['seats']} verifiers with one seat each, seed "
        f"{results['seed']}, Python {results['python']}, {results['seconds']} s. Constants of the "
        f"preset `standard`: committee of {constants['committee']}, stake of a seat "
        f"{constants['seat_stake']:g}, late "
        f"{constants['late']:g}, incoherent {constants['incoherence']:g}, fraud "
        f"{constants['fraud']:g} (what surely lies behind the seat), fees of the batch "
        f"{constants['fees']:g}, checking it costs {constants['check_cost']:g} tokens.",
        "",
        "A lazy member signs the miner's claims unchecked. An audit is a planted batch with a "
        "false claim; its planter disputes a lie that was attested. Profit is in tokens for each "
        "seat of a first committee, with its standard error; the advantage is that of being lazy.",
        "",
        "![advantage by audit rate and by stake](results.png)",
        "",
        "## Where laziness begins to lose",
        "",
        "| lazy share | audit rate | simulated | stake at 2 % audits | simulated |",
        "| --: | --: | --: | --: | --: |",
    ]
    for one in results["break_even"]:
        lines.append(
            f"| {one['lazy_share']:.1%} | {_percent(one['audit_rate'])} | "
            f"{_percent(one['audit_rate_simulated'])} | {_number(one['stake_at_2_percent'])} | "
            f"{_number(one['stake_at_2_percent_simulated'])} |"
        )
    worst = max(one["errors_apart"] for one in [*results["by_rate"], *results["by_stake"]])
    lines += [
        "",
        "The exact values are those of `marketplace/protocol/laziness.py`; the simulated ones are "
        "the zero of a line through the rows below, weighted by their errors. Of "
        f"{len(results['by_rate']) + len(results['by_stake'])} rows the one farthest from the "
        f"exact value is {worst:.1f} standard errors away.",
        "",
        "A real lie that somebody disputes works like an audit: what counts is the share of "
        "batches whose false claims come to light.",
        "",
        "## By audit rate",
        "",
        *_rows(results["by_rate"], "audit_rate", lambda value: f"{value:.1%}", "audit rate"),
        "",
        "## By stake, 2 % audits",
        "",
        *_rows(results["by_stake"], "stake", lambda value: f"{value:g}", "stake"),
        "",
    ]
    return "\n".join(lines)


def _rows(found: list[dict[str, Any]], by: str, show: Any, title: str) -> list[str]:
    head = ["lazy share", title, "lazy", "±", "honest", "±", "advantage", "±", "exact"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --: |" * len(head)]
    for one in found:
        cells = [f"{one['lazy_share']:.1%}", show(one[by])]
        for name in ("lazy", "honest", "advantage"):
            cells += [f"{one[name]:.4f}", f"{one[name + '_error']:.4f}"]
        lines.append("| " + " | ".join([*cells, f"{one['exact_advantage']:.4f}"]) + " |")
    return lines


def _percent(value: float | None) -> str:
    return "never" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"


def plot(results: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
    figure = Figure(figsize=(9.6, 4.2), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    dilemma = standard()

    def at_rate(lazy: int, rate: float) -> float:
        return mixed(dilemma, SEATS, lazy, rate).advantage

    def at_stake(lazy: int, stake: float) -> float:
        return mixed(staked(dilemma, stake), SEATS, lazy, 0.02).advantage

    panels = (
        (left, "by_rate", "audit_rate", at_rate, "share of batches that are audits"),
        (right, "by_stake", "stake", at_stake, "stake behind a seat (tokens), 2 % audits"),
    )
    for axes, name, by, exact, label in panels:
        for lazy, colour in zip(LAZY, colours, strict=True):
            found = [one for one in results[name] if one["lazy_share"] == lazy / SEATS]
            places = [one[by] for one in found]
            dense = [places[0] + (places[-1] - places[0]) * n / 200 for n in range(201)]
            axes.plot(dense, [exact(lazy, place) for place in dense], color=colour, linewidth=1)
            axes.errorbar(
                places,
                [one["advantage"] for one in found],
                [2 * one["advantage_error"] for one in found],
                color=colour, linestyle="", marker="o", markersize=4, capsize=3,
                label=f"{lazy / SEATS:.0%} lazy",
            )  # fmt: skip
        axes.axhline(0, color="#999999", linestyle="--", linewidth=1)
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_xlabel(label)
        axes.set_ylabel("advantage of being lazy (tokens a seat)")
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    left.set_title("points: simulated, bars: two standard errors; lines: exact", fontsize=9)
    figure.savefig(path, format="png", metadata={"Software": None})


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--batches", type=int, default=20_000)
    options.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = options.parse_args()
    if given.batches < 2:
        options.error("at least 2 batches are needed for a standard error")
    results = run(given.batches)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (given.out / "results.md").write_text(report(results), "utf-8")
    plot(results, given.out / "results.png")
    print(report(results).split("## By audit rate")[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
