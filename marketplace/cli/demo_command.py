"""`tracemarket demo`."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from marketplace.cli.output import out, say
from marketplace.protocol.errors import ConfigError


def demo(
    folder: Annotated[Path, typer.Option("--out", help="where the report goes")] = Path(
        "build/demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="smaller and faster; too small to show a gain")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="keep the run's stores, journals and checkpoints (GBs)")
    ] = False,
    base_model: Annotated[
        Path, typer.Option(help="folder of the base model, made where it is missing")
    ] = Path("build/models/smollm2-135m"),
) -> None:
    """Run the whole loop on this machine: a chain, a bounty, an honest and a dishonest miner,
    five verifiers, three turns of training, and a report."""
    try:
        import torch

        from marketplace.cli.demo.report import build_report, summary, write_report
        from marketplace.cli.demo.settings import FULL, QUICK
        from marketplace.cli.demo.turns import close, run_turns
        from marketplace.cli.demo.world import World
    except ImportError as error:
        raise ConfigError(
            f"the demo needs {error.name}", fix="install tracemarket[train]"
        ) from None

    # More threads than cores would make the checkers and the model fight each other.
    torch.set_num_threads(max(1, min(torch.get_num_threads(), 8)))
    if quick:
        say("quick run: every part at work, too small to show a gain")
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    started = time.perf_counter()

    def announce(line: str) -> None:
        say(f"[dim]{time.perf_counter() - started:6.1f} s[/dim]  {line}")

    try:
        with World(QUICK if quick else FULL, work) as world:
            announce(f"chain id {world.deployment.chain_id} is up, the market is deployed")
            run = run_turns(world, base_model, announce)
            close(world, run)
            announce("everybody has withdrawn")
            report = build_report(world, run, quick=quick, seconds=time.perf_counter() - started)
    finally:
        if not keep:
            shutil.rmtree(work, ignore_errors=True)
    write_report(report, folder)
    for grid in summary(report):
        out.print(grid)
    heldout = report["heldout"]
    say(
        f"held-out pass@1 {heldout['before']['pass_at_1']:.3f} -> "
        f"{heldout['after']['pass_at_1']:.3f}: a gain of {heldout['gain']:.3f} "
        f"± {heldout['gain_standard_error']:.3f} (paired by task)"
    )
    say(f"report: {folder / 'report.html'} and {folder / 'report.json'}")
    _judge(report, quick)


def _judge(report: dict, quick: bool) -> None:  # type: ignore[type-arg]
    """A demo that did not show what it promises fails."""
    wrong = []
    if report["money"]["difference"] != "0":
        wrong.append(f"the money does not add up by {report['money']['difference']} base units")
    if report["ledger_still_holds"] != report["pool"]["units"]:
        wrong.append(
            f"the ledger still holds {report['ledger_still_holds']} base units, the pool has "
            f"{report['pool']['units']}"
        )
    if report["heldout"]["heldout_questions_sold"]:
        wrong.append(f"{report['heldout']['heldout_questions_sold']} held-out questions were sold")
    wrong += [f"it paid to {lie['kind']}" for lie in report["lies"] if int(lie["net"]) >= 0]
    if not quick and not report["heldout"]["rises_by_more_than_two_standard_errors"]:
        wrong.append("held-out accuracy did not rise by more than two standard errors")
    if wrong:
        say("[red]" + "; ".join(wrong) + "[/red]")
        raise typer.Exit(1)
