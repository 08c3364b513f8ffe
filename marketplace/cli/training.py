"""`train`: a turn on bounties of your own choice, or a whole recipe; resumable after any kill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marketplace.cli.context import Context, of
from marketplace.cli.environments import load_spec
from marketplace.cli.output import say
from marketplace.cli.training_bars import training_bars
from marketplace.cli.training_choice import chosen_recipe, recipe_of_bounties
from marketplace.gym.environment import Environment
from marketplace.gym.spec import EnvironmentSpec, environment_id, spec_bytes
from marketplace.protocol.errors import ConfigError
from marketplace.storage.assets import fetch_assets
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.cid import Cid
from marketplace.storage.pending import publish_folder
from marketplace.storage.unixfs import cid_of_bytes

if TYPE_CHECKING:
    import torch

    from marketplace.protocol.shares import Split
    from trainer.adapting import Weights
    from trainer.recipe import Plan, Recipe
    from trainer.run import Evaluate, RunFolder

FETCH_SECONDS = 30.0


def train(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="new folder for the checkpoint")],
    bounty: Annotated[
        list[int] | None,
        typer.Option(help="bounty whose settled batches to train on (repeatable)"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="a whole run: r1-zero, r1, alphazero, experts, or a FILE.toml"),
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="dry run: traces sampled on this machine, nothing is bought"),
    ] = False,
    model: Annotated[
        Path | None, typer.Option(help="with --local: folder of the base model")
    ] = None,
    environment: Annotated[
        list[str] | None,
        typer.Option(help="instead of the recipe's: name, 0x id or spec file (repeatable)"),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of training settings, over the recipe's [settings]; a stage's own stay"
        ),
    ] = None,
    evaluate: Annotated[
        int | None,
        typer.Option(min=0, help="held-out tasks, before and after; the recipe's without, 0: none"),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="samples of each held-out task; the recipe's without, else 8"),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="folder of the run; OUT.run without it")] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="go on where an earlier run stopped")
    ] = True,
    metrics: Annotated[
        str, typer.Option(help="streams: jsonl, tensorboard, wandb, trackio")
    ] = "jsonl,tensorboard",
    save_every: Annotated[
        float, typer.Option(min=0, help="seconds between two saved states; 0: every step")
    ] = 60.0,
    processes: Annotated[
        int,
        typer.Option(min=1, help="train a turn on so many processes, with GPUs one on each"),
    ] = 1,
    device: Annotated[
        str, typer.Option(help="cpu, cuda (a GPU) or auto: a GPU if there is one")
    ] = "auto",
    register: Annotated[bool, typer.Option(help="publish and register the result")] = True,
    contributors: Annotated[
        str, typer.Option(help="percent of its royalties for the miners of the batches")
    ] = "60",
    authors: Annotated[str, typer.Option(help="percent for the environment's author")] = "10",
    pass_on: Annotated[str, typer.Option(help="percent that goes on to the parent, 50 at most")] = (
        "10"
    ),
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds for each download")] = 60.0,
) -> None:
    """Train on attested traces: your newest checkpoint on settled batches of --bounty, or a whole
    --recipe turn by turn. Registers each result as the child of what it was trained from. Traces
    whose proofs fail are refused. The same command goes on after an interruption."""
    try:
        import trainer.run  # noqa: F401
        from trainer.devices import find_device
        from trainer.metrics import parse_streams
        from trainer.royalties import parse_terms
    except ImportError as error:
        raise ConfigError(
            f"training needs {error.name}", fix="install tracemarket[train]"
        ) from None
    if bool(bounty) == bool(recipe):
        raise ConfigError(
            "give either --bounty or --recipe",
            fix="--bounty trains once on bounties that there are, --recipe opens its own",
        )
    if local and bounty:
        raise ConfigError("--local buys nothing, and --bounty names what was bought")
    if local and model is None:
        raise ConfigError(
            "--local needs --model", fix="make one with `tracemarket model base FOLDER`"
        )
    if model is not None and not local:
        raise ConfigError(
            f"--model is {model}, and without --local your newest registered checkpoint is trained",
            fix="drop --model, add --local, or register it: `tracemarket model register FOLDER`",
        )
    if out.name in ("", ".."):
        raise ConfigError(f"--out is {str(out)!r}, which is no new folder", fix="name a new folder")
    if recipe and not (register or local):
        raise ConfigError(
            "a turn of a recipe buys traces of the checkpoint before, which has to be registered",
            fix="drop --no-register, or add --local",
        )
    on = find_device(device)
    if processes > 1:
        from trainer.launching import check_processes

        check_processes(processes, on.type)
    names = parse_streams(metrics)
    terms = parse_terms(contributors, authors, pass_on)
    chosen = chosen_recipe(recipe, bounty, environment, settings, evaluate, samples)
    place = run or out.with_name(f"{out.name}.run")
    if chosen is None:
        chosen = recipe_of_bounties(of(ctx), bounty or [], settings, evaluate, samples)
    # Spec files of a recipe lie beside it; those of --environment are named from here.
    beside = Path(recipe).parent if recipe and not environment else None
    _Run(of(ctx), chosen, out, place, names, resume, save_every, processes, on, beside).go(
        local=local,
        model=model,
        bounties=tuple(bounty or ()),
        terms=terms,
        register=register,
        timeout=timeout,
    )


class _Run:
    """One call of the command."""

    def __init__(
        self,
        context: Context,
        recipe: Recipe,
        out: Path,
        place: Path,
        streams: Sequence[str],
        resume: bool,
        save_every: float,
        processes: int,
        device: torch.device,
        beside: Path | None,
    ) -> None:
        from trainer.run import RunFolder

        self._context, self._recipe, self._out = context, recipe, out
        self._folder = RunFolder(place)
        self._streams, self._resume, self._save_every = streams, resume, save_every
        self._processes, self._device, self._beside = processes, device, beside

    def go(
        self,
        *,
        local: bool,
        model: Path | None,
        bounties: tuple[int, ...],
        terms: tuple[Split, int],
        register: bool,
        timeout: float,
    ) -> None:
        if local:
            assert model is not None
            self._local(model)
        else:
            self._on_market(bounties, terms, register, timeout)

    def _local(self, model: Path) -> None:
        from marketplace.cli.local_traces import LocalTrader
        from marketplace.gym.policy import Policy
        from marketplace.gym.pool import CheckPool
        from trainer.run import weights_hash

        found = {name: self._environment(name) for name in self._recipe.environments}
        base = {"weights_sha256": weights_hash(model)}
        say("dry run: traces are sampled on this machine; nothing is bought or registered")
        with CheckPool(assets=self._context.assets) as pool:
            trader = LocalTrader(found, self._folder, pool, self._recipe)
            Policy.load(model)  # before a folder is made for what can't run
            self._run(trader, model, _manifest_cid(model), 1, {"base": base, "market": None}, found)

    def _on_market(
        self, bounties: tuple[int, ...], terms: tuple[Split, int], register: bool, timeout: float
    ) -> None:
        from marketplace.cli.market_traces import MarketTrader
        from verifier_node.checkpoints import CheckpointCache

        context = self._context
        client, store = context.client(), context.store()
        found = {name: self._environment(name) for name in self._recipe.environments}
        ids = {
            name: (environment_id(spec_bytes(one.spec)), one.spec) for name, one in found.items()
        }
        for name, (number, _) in ids.items():
            if client.environment_author(number) is None:
                raise ConfigError(
                    f"environment {name!r} (0x{number.hex()}) is not registered on this market",
                    fix=f"tracemarket env register {name}",
                )
        parent = self._folder.begun().get("base", {}).get("checkpoint")
        if parent is None:
            parent = client.latest_checkpoint(client.address)
        if parent is None:
            raise ConfigError(
                f"{client.address} has no checkpoint",
                fix="register a base model first: `tracemarket model register FOLDER`",
            )
        base = client.checkpoint(parent)
        cache = CheckpointCache(client, store, context.folder("checkpoints"))
        trader = MarketTrader(
            client=client,
            store=store,
            folder=self._folder,
            environments=ids,
            policy=self._recipe.bounty,
            bounties=bounties,
            base=base,
            cache=cache,
            lost=context.folder("rolled-back.json"),
            register=register,
            split=terms[0],
            pass_on_ppm=terms[1],
            timeout=timeout,
        )
        deployment = client.deployment
        identity = {
            "base": {"checkpoint": parent, "identity": "0x" + base.identity.hex()},
            "market": {
                "chain_id": deployment.chain_id,
                "address": deployment.address("market"),
                "trainer": client.address,
                "bounties": list(bounties),
                "register": register,
            },
        }
        cid = str(Cid.from_chain(base.content.digest, base.content.codec))
        self._run(trader, cache.files(base), cid, parent, identity, found)
        trader.close()

    def _run(
        self,
        trader: Any,
        base: Path,
        cid: str,
        first: int,
        identity: dict[str, Any],
        environments: dict[str, Environment],
    ) -> None:
        from trainer.adapting import AdapterEach, WholeModel
        from trainer.recipe import plans, recipe_identity

        recipe, folder = self._recipe, self._folder
        identity = {"v": 1, "recipe": recipe_identity(recipe), **identity}
        todo = list(plans(recipe))
        results = self._results(todo)
        if (results and all(place.exists() for place in results.values())) or self._out.is_file():
            self._finished(results)
            return
        if recipe.adapter is None and self._out.exists():
            raise ConfigError(f"{self._out} exists already", fix="name a new folder with --out")
        for turn, place in results.items():
            if place.exists():  # of a run that was killed while it moved its adapters there
                self._check_own(turn, place)
        device = self._device
        weights: Weights = WholeModel(base, device)
        if (lora := recipe.adapter) is not None:
            weights = AdapterEach(base, cid, rank=lora.rank, alpha=lora.alpha, device=device)
        if self._processes > 1:
            weights.folder(recipe.environments[0])  # refuses before anything is bought
            identity["processes"] = self._processes
        if device.type != "cpu":
            identity["device"] = device.type
        self._check_computer()
        with folder.alone():
            if folder.begin(identity, resume=self._resume):
                say(f"going on in {folder.path}")
            report = self._trained(weights, trader, identity, environments, first)
            for turn, place in self._results(todo).items():
                if not place.exists():
                    _move(folder.turn(turn) / "checkpoint", place)
                shutil.rmtree(folder.turn(turn), ignore_errors=True)
        _tell(report, folder, self._out, registered=trader.unit is not None)

    def _trained(
        self,
        weights: Weights,
        trader: Any,
        identity: dict[str, Any],
        environments: dict[str, Environment],
        first: int,
    ) -> dict[str, Any]:
        from trainer.metrics import open_streams
        from trainer.recipe import plans
        from trainer.run import run_name, run_recipe

        recipe, folder = self._recipe, self._folder
        with training_bars(recipe, len(list(plans(recipe)))) as options:
            return run_recipe(
                recipe,
                weights,
                folder,
                trader,
                self._evaluator(environments),
                lambda steps: open_streams(
                    self._streams,
                    folder.path,
                    steps=steps,
                    run=run_name(identity),
                    config=recipe.model_dump(mode="json"),
                ),
                options(self._save_every, self._processes),
                first=first,
            )

    def _check_computer(self) -> None:
        """What computes decides the last bits of the weights: a run goes on as it was begun."""
        begun = self._folder.begun()
        for name, usual, now in (
            ("processes", 1, self._processes),
            ("device", "cpu", self._device.type),
        ):
            if begun and (before := begun.get(name, usual)) != now:
                raise ConfigError(
                    f"{str(self._folder.path)!r} was begun with --{name} {before}, not {now}, "
                    "which decides the last bits of the weights",
                    fix=f"go on with --{name} {before}, or name another folder with --run",
                )

    def _results(self, todo: Sequence[Plan]) -> dict[int, Path]:
        """Where the checkpoints of which turns end up: the last one, or each adapter's last, of
        those that were not rolled back."""
        from trainer.recipe import output_name

        kept = [
            plan for plan in todo if not (self._folder.done(plan.turn) or {}).get("rolled_back")
        ]
        if self._recipe.adapter is None:
            return {kept[-1].turn: self._out} if kept else {}
        last = {plan.environment: plan.turn for plan in kept}
        return {turn: self._out / output_name(name) for name, turn in last.items()}

    def _finished(self, results: Mapping[int, Path]) -> None:
        """The result is there: of this very run (nothing to do), or of something else."""
        for turn, place in results.items():
            self._check_own(turn, place)
        say(f"{self._out} is finished already; its report is {self._folder.path / 'report.html'}")
        print(self._out)

    def _check_own(self, turn: int, place: Path) -> None:
        from trainer.run import weights_hash

        done = self._folder.done(turn)
        if done is None or done["weights_sha256"] != weights_hash(place):
            raise ConfigError(f"{place} exists already", fix="name a new folder with --out")

    def _evaluator(self, environments: dict[str, Environment]) -> Evaluate | None:
        from marketplace.cli.evaluation import evaluate_policy
        from trainer.curves import evaluation_record
        from trainer.evaluate import heldout_tasks
        from trainer.measured import tasks_digest

        wanted = self._recipe.evaluation
        if wanted is None:
            return None
        tasks = {name: heldout_tasks(one, wanted.tasks) for name, one in environments.items()}

        def record(policy: Any, name: str) -> dict[str, Any]:
            found = evaluate_policy(
                policy, environments[name], tasks[name], samples=wanted.samples, seed=wanted.seed
            )
            number = environment_id(spec_bytes(environments[name].spec))
            return evaluation_record(
                found,
                environment="0x" + number.hex(),
                environment_name=environments[name].spec.name,
                seed=wanted.seed,
                tasks_digest=tasks_digest(tasks[name]),
            )

        return record

    def _environment(self, name: str) -> Environment:
        spec = _spec(self._context, name, self._beside)
        if spec.to_fetch():
            store, assets = self._context.store(), self._context.assets
            fetch_assets(store, spec.to_fetch(), assets, timeout=FETCH_SECONDS)
        return Environment(spec, self._context.assets)


class _Unstored:
    """Tells the CIDs that a store would give, and keeps nothing."""

    def put(self, data: bytes) -> Cid:
        return cid_of_bytes(data)

    def put_file(self, path: Path) -> Cid:
        return cid_of_bytes(path.read_bytes())


def _manifest_cid(folder: Path) -> str:
    """The CID that a folder would be registered with."""
    store: Any = _Unstored()
    return str(put_checkpoint(store, folder))


def _spec(context: Context, name: str, beside: Path | None) -> EnvironmentSpec:
    from marketplace.cli.bounties import parse_environment
    from verifier_node.checking import fetch_spec

    if name.startswith("0x"):
        return fetch_spec(context.store(), parse_environment(name), FETCH_SECONDS)
    if beside is not None and (beside / name).exists():
        return load_spec(str(beside / name))
    return load_spec(name)


def _move(made: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(made, out)
    except OSError:  # another file system
        part = out.with_name(f".{out.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(made, part)
        publish_folder(part, out)
        shutil.rmtree(made)


def _tell(report: dict[str, Any], folder: RunFolder, out: Path, *, registered: bool) -> None:
    last = report["turns"][-1]
    if all(turn["rolled_back"] for turn in report["turns"]):
        say(
            "no turn was kept: each did worse on held-out tasks than what it started from "
            f"(settings.rollback_sigmas); the report is {folder.path / 'report.html'}"
        )
        return
    say(
        f"trained checkpoint {last['parent']} on {last['groups']} groups; "
        f"left out: {report['left_out'] or 'nothing'}"
    )
    for one in report["evaluations"]:
        verdict = one["comparison"]
        if verdict:
            say(f"{one['environment']}: {verdict['verdict']}: {verdict['reason']}")
    say(f"report: {folder.path / 'report.html'}")
    if registered and last["checkpoint"] != last["parent"]:
        print(last["checkpoint"])
        say(f"checkpoint {last['checkpoint']} (child of {last['parent']}) is in {out}")
    else:
        print(out)
