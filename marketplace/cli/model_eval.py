"""`model eval`: accuracy over samples on tasks that are never sold, alone or against another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from marketplace.cli.bounties import parse_environment
from marketplace.cli.context import of
from marketplace.cli.options import AsJson
from marketplace.cli.output import emit_json, facts, progress, say, table
from marketplace.gym.environment import Environment, Task
from marketplace.protocol.errors import ConfigError
from marketplace.storage.assets import fetch_assets
from verifier_node.checking import fetch_spec
from verifier_node.checkpoints import CheckpointCache

_PLOTS = (".svg", ".png", ".html")


def evaluate_model(
    ctx: typer.Context,
    checkpoint: Annotated[int, typer.Argument(min=1, help="checkpoint id")],
    environment: Annotated[str, typer.Option(help="environment id")],
    tasks: Annotated[int, typer.Option(min=2, help="held-out tasks")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="samples of each task")] = 4,
    k: Annotated[
        int | None, typer.Option("--k", min=1, help="largest k of the curves; all samples without")
    ] = None,
    against: Annotated[
        int | None, typer.Option(min=1, help="checkpoint to compare with, on the same tasks")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="of the sampler")] = 20_000,
    plot: Annotated[
        Path | None, typer.Option(help="write the curves: FILE.svg, FILE.png or FILE.html")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """pass@k and maj@k over k on held-out tasks, which are never sold, with standard errors
    clustered by task. With --against: paired gains, and whether the difference sharpens, adds,
    harms or can't be told from chance. The result is kept beside the checkpoint."""
    from trainer.curves import compare, curve_ks, evaluation_of

    curve_ks(samples, k)
    if plot is not None and plot.suffix not in _PLOTS:
        raise ConfigError(f"--plot is {plot}", fix=f"end it in {', '.join(_PLOTS)}")
    if against is not None and (k or samples) < 2:
        raise ConfigError(
            "one sample of each task can't tell sharpening from adding",
            fix="use --samples 8 or more with --against",
        )
    context = of(ctx)
    reader, store = context.reader(), context.store()
    identity = parse_environment(environment)
    spec = fetch_spec(store, identity, 30.0)
    fetch_assets(store, spec.to_fetch(), context.assets, timeout=30.0)
    built = Environment(spec, context.assets)
    cache = CheckpointCache(reader, store, context.folder("checkpoints"))
    from trainer.evaluate import heldout_tasks

    chosen = heldout_tasks(built, tasks)
    # One name for it, however it was typed: results are kept by it, and a card shows both.
    about: dict[str, Any] = {
        "environment": "0x" + identity.hex(),
        "environment_name": spec.name,
        "seed": seed,
    }

    def measured(number: int) -> dict[str, Any]:
        return _measured(cache, number, built, chosen, samples=samples, k=k, about=about)

    before = None if against is None else measured(against)
    after = measured(checkpoint)
    one: dict[str, Any] = {"environment": spec.name, "after": after, "before": before}
    if before is not None:
        found = compare(evaluation_of(before), evaluation_of(after), k=k)
        one["comparison"] = found.plain() | {"against": against}
    if plot is not None:
        _draw(one, f"checkpoint {checkpoint} on {spec.name}", plot)
    if as_json:
        emit_json(_printed(after) | {"against": one.get("comparison")})
    else:
        _show(one, checkpoint, against)


def _measured(
    cache: CheckpointCache,
    checkpoint: int,
    environment: Environment,
    tasks: Sequence[Task],
    *,
    samples: int,
    k: int | None,
    about: dict[str, Any],
) -> dict[str, Any]:
    """The record of one checkpoint: from its file where the very same was measured before."""
    from marketplace.cli.evaluation import evaluate_policy
    from trainer.curves import evaluation_of, evaluation_record
    from trainer.measured import read_evaluations, tasks_digest, write_evaluation

    folder = cache.folder(checkpoint)
    about = {**about, "checkpoint": checkpoint, "tasks_digest": tasks_digest(tasks)}
    kept = read_evaluations(folder, claims=False).get(about["environment"], {})
    wanted = {**about, "samples": samples}
    for name in ("checkpoint", "environment_name"):  # the folder's and the id's already
        wanted.pop(name)
    if all(kept.get(name) == value for name, value in wanted.items()):
        return evaluation_record(evaluation_of(kept), k=k, **about)
    with progress(f"evaluating checkpoint {checkpoint}", len(tasks)) as advance:
        found = evaluate_policy(
            cache.policy(checkpoint),
            environment,
            tasks,
            samples=samples,
            seed=about["seed"],
            on_task=lambda *_: advance(),
        )
    path = write_evaluation(folder, about["environment"], evaluation_record(found, **about))
    say(f"[dim]kept in {path}[/dim]")
    return evaluation_record(found, k=k, **about)


def _draw(one: dict[str, Any], title: str, plot: Path) -> None:
    from trainer import plots
    from trainer.report import evaluation_curves, evaluation_page
    from trainer.state import write_atomically

    if plot.suffix == ".html":
        data = evaluation_page(title, [one]).encode()
    else:
        kind: Any = plot.suffix.removeprefix(".")
        ylabel = f"of {one['after']['tasks']} held-out tasks"
        data = plots.curves_plot(evaluation_curves(one), title=title, ylabel=ylabel, kind=kind)
    write_atomically(plot, data)


def _printed(record: dict[str, Any]) -> dict[str, Any]:
    """The record without every single score."""
    last = record["pass"][-1]
    shown = {name: value for name, value in record.items() if name not in ("scores", "votes")}
    return shown | {f"pass_at_{last['k']}": last["value"]}


def _show(one: dict[str, Any], checkpoint: int, against: int | None) -> None:
    after, before, comparison = one["after"], one["before"], one.get("comparison")
    title = f"checkpoint {checkpoint} on {one['environment']}"
    columns = ["k>"]
    rows: list[list[object]] = [[point["k"]] for point in after["pass"]]
    for name, kind in (("pass@k", "pass"), ("maj@k", "majority")):
        sources = [(f"{name} of {checkpoint}>", after[kind])]
        if before is not None and comparison is not None:
            sources = [
                (f"{name} of {against}>", before[kind]),
                *sources,
                ("gain>", comparison[f"{kind}_gains"]),
            ]
        for column, points in sources:
            columns.append(column)
            sign = "+" if column == "gain>" else ""
            for row, point in zip(rows, points, strict=True):
                row.append(f"{point['value']:{sign}.3f} ± {point['standard_error']:.3f}")
    table(title, columns, rows)
    pairs: list[tuple[str, object]] = [
        ("held-out tasks, samples", f"{after['tasks']}, {after['samples']}"),
        ("±", "one standard error, clustered by task"),
    ]
    if comparison is not None:
        pairs.insert(0, ("verdict", f"{comparison['verdict']}: {comparison['reason']}"))
    facts("", pairs)
