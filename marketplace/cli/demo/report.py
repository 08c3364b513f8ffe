"""The demo's report: report.json for scripts, report.html for people. No number in it is set by
hand: all come from the chain's events, from balances and from what was measured."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from rich.table import Table

from marketplace.chain.amounts import format_amount
from marketplace.cli.demo.money import as_tokens, bounty_books, gas_table, settlements
from marketplace.cli.demo.settings import DemoSettings
from marketplace.cli.demo.turns import HELDOUT_SEED, Run
from marketplace.cli.demo.world import World
from marketplace.protocol.batch_file import unpack
from marketplace.protocol.trace import decode_line
from marketplace.storage.cid import Cid
from trainer import plots
from trainer.curves import compare, evaluation_record
from trainer.evaluate import Evaluation, paired_gain
from trainer.report import Images, evaluation_images, learning_images, pictured, render

_PACKAGES = ("tracemarket", "torch", "transformers", "web3", "reasoning-gym")


def build_report(world: World, run: Run, *, quick: bool, seconds: float) -> dict[str, Any]:
    """Everything that was measured, as plain data. seconds: of the whole run."""
    settings, reader = world.settings, world.poster
    books = bounty_books(reader, run.bounty)
    found = settlements(reader)
    last = run.turns[-1].evaluation
    gain = paired_gain(run.before, last)
    sold = _sold(world, run)
    return {
        "quick": quick,
        "settings": {name: getattr(settings, name) for name in DemoSettings.__slots__},
        "heldout": {
            "tasks": len(run.heldout),
            "samples_per_task": settings.heldout_samples,
            "sampling_seed": HELDOUT_SEED,
            "training_seed": settings.seed,
            "questions_sold": sold["questions"],
            "heldout_questions_sold": sold["heldout"],
            "before": _accuracy(run.before),
            "turns": [{"turn": turn.number, **_accuracy(turn.evaluation)} for turn in run.turns],
            "after": _accuracy(last),
            "gain": gain.value,
            "gain_standard_error": gain.error,
            "gain_in_standard_errors": gain.sigmas if gain.error else None,
            "rises_by_more_than_two_standard_errors": gain.value > 2 * gain.error,
        },
        "evaluation": {
            "environment": settings.environment,
            "before": evaluation_record(run.before),
            "after": evaluation_record(last),
            "comparison": compare(run.before, last).plain(),
        },
        "turns": [_turn(turn) for turn in run.turns],
        "totals": {
            "groups": sum(turn.traces for turn in run.turns) // settings.group_size,
            "traces": sum(turn.traces for turn in run.turns),
            "units_paid": sum(turn.units for turn in run.turns),
        },
        "money": as_tokens(reader, books),
        "ledger_still_holds": str(reader.ledger_tokens()),
        "pool": {
            "units": str(reader.pool()),
            "human": reader.token.format(reader.pool()),
            "penalties": str(sum(amounts["slashed"] for amounts in found.values())),
        },
        "lies": [_lie(world, run, told, found) for told in run.lies],
        "people": _people(world),
        "gas": gas_table(world.meter),
        "seconds": {name: round(spent, 2) for name, spent in world.meter.seconds.items()}
        | {"whole run": round(seconds, 2)},
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
    }


def write_report(report: dict[str, Any], folder: Path) -> None:
    """report.json and report.html, the second one without any outside resource."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    template = resources.files("marketplace.cli") / "templates" / "report.html"
    page = render(template.read_text("utf-8"), report=report, images=_images(report))
    (folder / "report.html").write_text(page, "utf-8")


def summary(report: dict[str, Any]) -> list[Table]:
    """What the terminal shows at the end."""
    learned = Table(title="held-out accuracy", title_justify="left", header_style="bold")
    for name in ("turn", "pass@1", "standard error", "traces bought", "units paid"):
        learned.add_column(name, justify="right")
    before = report["heldout"]["before"]
    learned.add_row("base", f"{before['pass_at_1']:.3f}", f"{before['standard_error']:.3f}", "", "")
    for turn, seen in zip(report["turns"], report["heldout"]["turns"], strict=True):
        shown = (f"{seen['pass_at_1']:.3f}", f"{seen['standard_error']:.3f}")
        learned.add_row(str(turn["turn"]), *shown, str(turn["traces"]), str(turn["units"]))

    money = Table(title="the bounty's money", title_justify="left", show_header=False)
    money.add_column()
    money.add_column(justify="right")
    for name, amount in report["money"]["human"].items():
        money.add_row(name.replace("_", " "), amount)
    money.add_row("does not add up by", report["money"]["difference"] + " base units")
    money.add_row("in the court's pool (penalties)", report["pool"]["human"])

    symbol = report["money"]["symbol"]
    lies = Table(title=f"what lies cost, in {symbol}", title_justify="left", header_style="bold")
    for name in ("lie", "traces", "faults", "units", "earned", "bond lost", "net"):
        lies.add_column(name, justify="left" if name == "lie" else "right", no_wrap=True)
    for told in report["lies"]:
        lies.add_row(
            told["kind"],
            *(str(told[name]) for name in ("traces", "faults", "units_paid")),
            *(told["human"][name] for name in ("earned", "bond_forfeited", "net")),
        )
    return [learned, money, lies]


def _accuracy(evaluation: Evaluation) -> dict[str, Any]:
    found = evaluation.pass_at_1()
    return {
        "pass_at_1": found.value,
        "standard_error": found.error,
        f"pass_at_{evaluation.samples}": evaluation.pass_at_k(evaluation.samples).value,
    }


def _turn(turn: Any) -> dict[str, Any]:
    metrics, dataset = turn.trained.metrics, turn.trained.dataset
    return {
        "turn": turn.number,
        "parent": turn.parent,
        "checkpoint": turn.checkpoint,
        "batches": list(turn.batches),
        "dataset_root": "0x" + turn.trained.dataset_root.hex(),
        "traces": turn.traces,
        "units": turn.units,
        "mean_score": dataset.mean_score,
        "mean_tokens": dataset.mean_tokens,
        "groups_trained": metrics.groups,
        "traces_trained": metrics.traces,
        "not_trained": turn.trained.left_out,
        "optimizer_steps": len(metrics.steps),
        "stopped_early": metrics.stopped_early,
        "steps": [asdict(step) for step in metrics.steps],
    }


def _lie(world: World, run: Run, told: Any, found: dict[int, dict[str, int]]) -> dict[str, Any]:
    batch, amounts = world.poster.batch(told.batch), found[told.batch]
    assert batch.attestation is not None
    earned, forfeited = amounts["minerPaid"], amounts["bondForfeited"]
    decimals = world.poster.token.decimals
    net = earned - forfeited
    return {
        "kind": told.kind,
        "batch": told.batch,
        "traces": batch.count,
        "faults": batch.attestation.faults,
        "units_paid": batch.attestation.units,
        "bond": str(batch.bond),
        "earned": str(earned),
        "bond_forfeited": str(forfeited),
        "net": str(net),
        "human": {
            "earned": format_amount(earned, decimals),
            "bond_forfeited": format_amount(forfeited, decimals),
            "net": ("-" if net < 0 else "") + format_amount(abs(net), decimals),
        },
    }


def _people(world: World) -> list[dict[str, str]]:
    """Who ended with how much; everybody began with the same 1,000 tokens."""
    token = world.poster.token
    start = token.parse("1000")
    rows = [("poster and trainer", world.poster), ("miner", world.miner), ("liar", world.liar)]
    rows += [(f"verifier {n}", client) for n, client in enumerate(world.verifiers, start=1)]
    found = []
    for name, client in rows:
        has = client.token_balance(client.address) + client.balance(client.address)
        gained = format_amount(abs(has - start), token.decimals, token.symbol)
        found.append(
            {
                "who": name,
                "address": client.address,
                "gained": str(has - start),
                "human": ("-" if has < start else "+") + gained,
            }
        )
    return found


def _sold(world: World, run: Run) -> dict[str, int]:
    """Different questions in all bought traces, and how many of them are held out: read back
    from the published batches, not from what was meant to be sold."""
    held = {task.prompt for task in run.heldout}
    prompts = set()
    for turn in run.turns:
        for number in turn.batches:
            content = world.poster.batch_content(number)
            data = world.store.get(Cid.from_chain(content.digest, content.codec), timeout=5.0)
            for line in unpack(data, world.poster.batch(number).count):
                prompts.add(decode_line(line).prompt)
    return {"questions": len(prompts), "heldout": len(prompts & held)}


def _images(report: dict[str, Any]) -> Images:
    heldout, turns = report["heldout"], report["turns"]
    seen = [heldout["before"], *heldout["turns"]]
    money = report["money"]
    flows = {
        name.replace("_", " "): int(money[name]) / 10 ** money["decimals"]
        for name in ("paid", "fees", "refunded", "still_held")
    }
    return {
        **evaluation_images(report["evaluation"]),
        **learning_images(turns),
        "accuracy": pictured(
            plots.accuracy_plot,
            [one["pass_at_1"] for one in seen],
            [one["standard_error"] for one in seen],
            tasks=heldout["tasks"],
        ),
        "reward": pictured(
            plots.reward_plot,
            [turn["mean_score"] for turn in turns],
            [
                turn["groups_trained"] * report["settings"]["group_size"] / turn["traces"]
                for turn in turns
            ],
        ),
        "length": pictured(plots.length_plot, [turn["mean_tokens"] for turn in turns]),
        "money": pictured(plots.money_plot, flows, unit=money["symbol"]),
    }
