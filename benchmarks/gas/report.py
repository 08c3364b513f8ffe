"""results.json as text and as a picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

Results = dict[str, Any]

MODES: Final = ("alone", "alone_carried", "together", "together_carried")
_CLAIM: Final = "to a holder"


def withdrawal_share(results: Results) -> float:
    """Gas of one trace's part of a withdrawal."""
    settings = results["settings"]
    gas: int = results["withdrawals"][settings["withdrawal"]]
    return gas / settings["traces_per_withdrawal"]


def per_trace(results: Results, mode: str, size: str) -> float:
    """Gas of a trace from commit to money in the wallet. mode: one of MODES."""
    return float(results[mode][size]["gas"] / int(size) + withdrawal_share(results))


def aims(results: Results) -> list[dict[str, Any]]:
    """Each aim: what was wanted, what came out, and whether that is enough."""
    settings = results["settings"]
    size = str(settings["aim_size"])
    rows = []
    for mode in modes(results):
        ours = per_trace(results, mode, size)
        before = results[mode][size]["gas"] / int(size)
        for name, peer, wanted in (
            ("EAS multiAttest", results["eas"]["fields"], settings["eas_aim"]),
            ("EAS multiAttest, packed", results["eas"]["packed"], settings["eas_aim"]),
            ("slot, hash", results["slots"]["hash"], settings["slot_aim"]),
            ("slot, bare", results["slots"]["bare"], settings["slot_aim"]),
        ):
            theirs = peer["sizes"][size]["per_trace"]
            rows.append(
                {
                    "mode": mode,
                    "peer": name,
                    "theirs": theirs,
                    "ours": ours,
                    "wanted": wanted,
                    "ratio": theirs / ours,
                    "ratio_before_withdrawal": theirs / before,
                    "met": theirs / ours >= wanted,
                }
            )
    return rows


def modes(results: Results) -> list[str]:
    return [mode for mode in MODES if results[mode]]


def names(results: Results) -> dict[str, str]:
    """What a mode is called, after "ours"."""
    count = results["settings"]["batches_together"]
    return {
        "alone": "",
        "alone_carried": ", votes carried",
        "together": f", {count} at once",
        "together_carried": f", {count} at once, votes carried",
    }


def markdown(results: Results) -> str:
    """The whole report."""
    settings, machine = results["settings"], results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    share = withdrawal_share(results)
    size = str(settings["aim_size"])
    together = settings["batches_together"]
    parts = [
        "# Gas",
        "",
        "Written by `make bench-gas`; do not edit. Gas is `gasUsed` of receipts: base cost, "
        "calldata, execution, refunds.",
        "",
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}; "
        f"Anvil {machine['anvil']} ({machine['hardfork']}), solc {machine['compiler']}, "
        f"{packages}, Python {machine['python']}, web3 {machine['web3']}; "
        f"{results['seconds']} s in all, one chain.",
        "",
        "![gas per trace](results.png)",
        "",
        "## Per trace, for the whole life of a batch",
        "",
        f"Ours: commit (with the content's CID), draw, commit and reveal of {settings['committee']}"
        f" members out of {settings['verifiers']} verifiers, tally, settlement, and of one "
        f"withdrawal ({settings['withdrawal']}) for {settings['traces_per_withdrawal']} traces a "
        f"trace's share, {share:,.0f} gas. Steady state: {settings['warm_up_batches']} batches "
        "went before, the miner pays bonds from its ledger balance and every verifier has been "
        f"paid before; means of {settings['lives_per_size']} batches. EAS: one `multiAttest` "
        f"entry with the fields of a verdict leaf for each trace, as many as fit "
        f"{settings['block_gas'] / 1e6:g}M gas; EAS pays nobody. Slot: one fresh storage slot for "
        "each trace, with a hash that comes as calldata, or bare. `*`: extrapolated from the mean "
        "of full transactions; all else was sent.",
        "",
        *_per_trace_table(results),
        "",
        "## Aims",
        "",
        *_aims_table(results),
        "",
        f"A withdrawal's share alone, {share:,.0f} gas, leaves at most these ratios, were a batch "
        "free: "
        + ", ".join(f"{row['peer']} {row['theirs'] / share:.0f}" for row in aims(results)[:4])
        + ".",
        "",
        "## Where the gas goes",
        "",
        f"One batch of {int(size):,} traces. Every member votes by itself and pays for it:",
        "",
        *_steps_table(results, size),
        "",
        "A relay carries the votes: members sign their commitments (EIP-712), give it what opens "
        "them, and pay nothing; the relay pays one transaction for all commitments and one for "
        "all reveals. Who votes by itself all the same pays as above. All members here agree and "
        "name the same verdict file, as honest members do:",
        "",
        *_steps_table(results, size, "_carried"),
        "",
        f"The first batch ever, with all storage still empty, took {results['first']['gas']:,.0f} "
        f"gas ({results['first']['gas'] / int(size):,.0f} a trace):",
        "",
        *_table(
            ["step", "transactions", "gas"],
            (
                [action, f"{step['transactions']:g}", f"{step['gas']:,.0f}"]
                for action, step in results["first"]["steps"].items()
            ),
        ),
        "",
        f"Spread over the {settings['lives_per_size']} batches of a size: least and most gas of a "
        "batch.",
        "",
        *_table(
            ["traces", "mean", "least", "most"],
            (
                [f"{int(n):,}", *(f"{row[key]:,.0f}" for key in ("gas", "least", "most"))]
                for n, row in results["alone"].items()
            ),
        ),
        "",
        f"## {together} batches at once",
        "",
        f"The miner, the keeper and every verifier each handle what is theirs of {together} "
        "batches with one transaction a step (`multicall`, `drawDue`); gas of one of these "
        "batches. Where votes are carried, the relay brings those of all members and batches with "
        "two."
        if results["together"]
        else "Not available: the contracts have no `multicall`.",
        "",
        "## Entering",
        "",
        "What came before the first batch: deployment aside, once for each bounty, miner or "
        "verifier.",
        "",
        *_table(
            ["action", "times", "gas each"],
            (
                [action, str(step["transactions"]), f"{step['gas'] / step['transactions']:,.0f}"]
                for action, step in results["entering"].items()
            ),
        ),
        "",
        "## Withdrawals",
        "",
        "`Ledger.withdraw` beside a claim from `MerkleDistributor`, of the same token. A claim's "
        "bitmap word is already in use but where stated otherwise.",
        "",
        *_withdrawal_table(results),
        "",
        "## Disputes",
        "",
        *_disputes(results),
    ]
    return "\n".join(parts) + "\n"


def _per_trace_table(results: Results) -> list[str]:
    def peer(row: dict[str, Any]) -> str:
        return f"{row['per_trace']:,.0f}" + ("" if row["measured"] else "*")

    rows = []
    for n in results["alone"]:
        rows.append(
            [
                f"{int(n):,}",
                *(f"{per_trace(results, mode, n):,.0f}" for mode in modes(results)),
                peer(results["eas"]["fields"]["sizes"][n]),
                peer(results["eas"]["packed"]["sizes"][n]),
                peer(results["slots"]["hash"]["sizes"][n]),
                peer(results["slots"]["bare"]["sizes"][n]),
            ]
        )
    ours = [f"ours{names(results)[mode]}" for mode in modes(results)]
    head = ["traces", *ours, "EAS", "EAS, packed", "slot", "slot, bare"]
    return _table(head, rows)


def _aims_table(results: Results) -> list[str]:
    rows = [
        [
            f"{row['peer']} : ours{names(results)[row['mode']]}",
            f"{row['theirs']:,.0f} : {row['ours']:,.0f}",
            f"{row['ratio']:.0f}",
            f"{row['ratio_before_withdrawal']:.0f}",
            str(row["wanted"]),
            "met" if row["met"] else "**not met**",
        ]
        for row in aims(results)
    ]
    size = results["settings"]["aim_size"]
    wanted = f"aim at {size:,} traces"
    return _table([wanted, "gas per trace", "ratio", "before withdrawal", "aim", ""], rows)


def _steps_table(results: Results, size: str, votes: str = "") -> list[str]:
    count = results["settings"]["batches_together"]
    rows = []
    alone = results[f"alone{votes}"][size]
    together = results[f"together{votes}"][size] if results["together"] else None
    for action, step in alone["steps"].items():
        row = [
            action,
            f"{step['transactions']:g}",
            f"{step['gas']:,.0f}",
            f"{step['gas'] / step['transactions']:,.0f}",
            f"{step['gas'] / int(size):,.0f}",
        ]
        rows.append([*row, f"{together['steps'][action]['gas']:,.0f}" if together else "n/a"])
    settings = results["settings"]
    each = results["withdrawals"][settings["withdrawal"]]
    number = int(size) / settings["traces_per_withdrawal"]
    share = f"{each * number:,.0f}"
    row = [
        "withdrawals (share)",
        f"{number:g}",
        share,
        f"{each:,}",
        f"{each * number / int(size):,.0f}",
    ]
    rows.append([*row, share if together else "n/a"])
    whole = alone["gas"] + each * number
    row = ["all", "", f"{whole:,.0f}", "", f"{whole / int(size):,.0f}"]
    rows.append([*row, f"{together['gas'] + each * number:,.0f}" if together else "n/a"])
    head = ["step", "transactions", "gas", "gas each", "gas per trace", f"{count} at once: gas"]
    return _table(head, rows)


def _withdrawal_table(results: Results) -> list[str]:
    rows = [[f"withdraw {what}", f"{gas:,}"] for what, gas in results["withdrawals"].items()]
    for size, row in results["claims"].items():
        rows += [[f"claim {what}, {int(size):,} leaves", f"{gas:,}"] for what, gas in row.items()]
    lines = _table(["", "gas"], rows)
    verdicts = []
    withdrawn = results["withdrawals"]
    for to in ("to a holder", "to a fresh address"):
        for size, row in results["claims"].items():
            for part in ("all", "part"):
                ours, theirs = withdrawn[f"{part}, {to}"], row[to]
                verdict = "met" if ours <= theirs else "**not met**"
                verdicts.append(
                    [f"{part}, {to}, against {int(size):,} leaves", f"{ours / theirs:.2f}", verdict]
                )
    aim = "aim: a withdrawal costs no more than one claim"
    return [*lines, "", *_table([aim, "ratio", ""], verdicts)]


def _disputes(results: Results) -> list[str]:
    rows = results["dispute"]
    if rows is None:
        return ["Not measured."]
    actions = dict.fromkeys(action for row in rows for action in row["steps"])
    return _table(
        ["traces", "hashes of a proof", *actions, "all"],
        (
            [f"{row['traces']:,}", str(row["proof_hashes"])]
            + [f"{row['steps'].get(action, {'gas': 0})['gas']:,}" for action in actions]
            + [f"{sum(step['gas'] for step in row['steps'].values()):,}"]
            for row in rows
        ),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    align = [":--", *("--:" for _ in head[1:])]
    return [f"| {' | '.join(row)} |" for row in (head, align, *rows)]


def plot(results: Results) -> bytes:
    """Gas per trace over batch size, both logarithmic, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    sizes = [int(n) for n in results["alone"]]

    def peer(row: dict[str, Any]) -> list[float]:
        return [row["sizes"][str(n)]["per_trace"] for n in sizes]

    lines: list[tuple[str, list[float], str, str]] = [
        ("EAS multiAttest", peer(results["eas"]["fields"]), "#d55e00", "s"),
        ("one slot per trace", peer(results["slots"]["hash"]), "#e69f00", "^"),
    ]
    colours = ("#0072b2", "#56b4e9", "#009e73", "#000000")
    for mode, colour in zip(modes(results), colours, strict=False):
        values = [per_trace(results, mode, str(n)) for n in sizes]
        lines.append((f"tracemarket{names(results)[mode]}", values, colour, "o"))
    for name, values, colour, marker in lines:
        axes.plot(sizes, values, color=colour, marker=marker, label=name)
    largest = list(results["claims"])[-1]
    claim = results["claims"][largest][_CLAIM]
    axes.axhline(claim, color="#999999", linestyle="--", linewidth=1)
    axes.annotate(f"one Merkle claim ({int(largest):,} leaves)", (sizes[-1], claim), (0, 4),
                  textcoords="offset points", ha="right", fontsize=8, color="#666666")  # fmt: skip
    size = str(results["settings"]["aim_size"])
    wanted = [
        results["eas"]["fields"]["sizes"][size]["per_trace"] / results["settings"]["eas_aim"],
        results["slots"]["hash"]["sizes"][size]["per_trace"] / results["settings"]["slot_aim"],
    ]
    settings = results["settings"]
    label = f"aims: EAS/{settings['eas_aim']} (upper), slot/{settings['slot_aim']} (lower)"
    axes.plot([int(size)] * 2, wanted, "x", color="#000000", label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.set_xlabel("traces in a batch")
    axes.set_ylabel("gas per trace, all in")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=150)
    return out.getvalue()
