"""A run: the turns of a recipe, one after the other, in a folder that survives a kill at any point.

    run.json            what the run is; going on with another recipe or another base is refused
    lock                held while a process runs in the folder: two would buy everything twice
    turn-0.json         the base model's evaluation
    turn-N/             while turn N is trained: traces, state.safetensors, checkpoint/; apart/ is
                        the job of several processes (trainer/distributed.py)
    turn-N.json         written last: turn N is done, and this is what it measured
    metrics.jsonl, tensorboard/, report.json, report.html

Every file appears whole or not at all. Whatever was not saved is computed again, from the
same seeds and the same traces, so an interrupted run ends in the very same weights. Where traces
come from and who samples the evaluations is the caller's (Trader, Evaluate).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from marketplace.gym.policy import Policy
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import CheckpointError, ConfigError
from trainer.adapting import Weights
from trainer.curves import evaluation_of
from trainer.data import AttestedBatch
from trainer.devices import placed
from trainer.grpo import StepMetrics
from trainer.launching import Apart
from trainer.measured import write_evaluation
from trainer.metrics import Streams, step_values
from trainer.recipe import Plan, Recipe, plans
from trainer.records import added_up
from trainer.report import write_report
from trainer.rollback import rolls_back
from trainer.run_report import run_report
from trainer.state import TrainState, load_state, save_state, write_atomically
from trainer.turn import Trained, train_on_batches
from trainer.verify import PolicyOf

RUN_NAME: Final = "run.json"
LOCK_NAME: Final = "lock"
REPORT_SECONDS: Final = 120.0
"""Least time between two reports of an unfinished run."""


@dataclass(frozen=True, slots=True)
class Bought:
    """Traces of a turn. spent: tokens; None where nothing is bought. ages, behaviour_of: of
    train_on_batches, for traces of earlier checkpoints. left_out: traces not even taken, by
    reason."""

    batches: Sequence[AttestedBatch]
    spent: float | None
    ages: Mapping[int, int] | None = None
    behaviour_of: PolicyOf | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


class Trader(Protocol):
    """Where traces come from and where checkpoints go. unit: of money; None where there is none."""

    unit: str | None

    def spec(self, environment: str) -> EnvironmentSpec: ...

    def buy(self, plan: Plan, policy: Policy, parent: int) -> Bought:
        """The same traces each time it is asked for the same turn, also in another process."""
        ...

    def publish(self, plan: Plan, trained: Trained) -> int:
        """Its number. Publishing the same again gives the same number."""
        ...

    def rolled_back(self, plan: Plan, trained: Trained) -> None:
        """Told instead of publish, where the turn's result is not kept."""
        ...

    def unusable(self, plan: Plan, error: ConfigError) -> ConfigError:
        """Told where nothing that was bought can be trained on, before a step was made. What to
        raise; the same command run again must not end there for ever."""
        ...


Evaluate = Callable[[Policy, str], dict[str, Any]]
"""The record (trainer.curves.evaluation_record) of a policy on an environment."""

OnStep = Callable[[Plan, int, int, StepMetrics], None]


@dataclass(frozen=True, slots=True)
class Options:
    """save_seconds: least time between two saved states; 0 saves after every step. processes: that
    train a turn together. say: takes a line for people. clock: in seconds."""

    save_seconds: float = 60.0
    processes: int = 1
    say: Callable[[str], None] = lambda line: None
    on_step: OnStep = lambda plan, done, total, metrics: None
    clock: Callable[[], float] = time.monotonic


class RunFolder:
    """Names and files of a run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder, and make it. ConfigError while another process has it: both would open
        the bounties of the same turns. The system lets go of it when the process ends, however."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / LOCK_NAME).open("w")
        except OSError as error:
            raise ConfigError(
                f"{str(self.path)!r} can't be the folder of a run: {error.strerror or error}",
                fix="name another one with --run",
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"another process runs in {str(self.path)!r}",
                    fix="wait for it or end it, or name another folder with --run",
                ) from None
            yield

    def begin(self, identity: Mapping[str, Any], *, resume: bool) -> bool:
        """Make the folder, or go on in it. Returns whether it goes on.

        ConfigError if it belongs to another run, naming what differs, or resume is False.
        """
        path = self.path / RUN_NAME
        wanted = json.loads(json.dumps(identity))
        if not path.exists():
            write_atomically(path, _json(wanted))
            return False
        kept = _read(path)
        if kept != wanted:
            name, before, now = _first_difference("", kept, wanted)
            raise ConfigError(
                f"{str(self.path)!r} holds another run: its {name} is {before!r:.200}, not "
                f"{now!r:.200}",
                fix="name another folder, or remove this one to start again",
            )
        if not resume:
            raise ConfigError(
                f"{str(self.path)!r} holds this run already",
                fix="go on with --resume, or remove it to start again",
            )
        return True

    def begun(self) -> dict[str, Any]:
        """What the folder's run is; empty where none has begun."""
        path = self.path / RUN_NAME
        return _read(path) if path.exists() else {}

    def turn(self, number: int) -> Path:
        return self.path / f"turn-{number}"

    def done(self, number: int) -> dict[str, Any] | None:
        """What turn `number` measured, if it is done."""
        path = self.path / f"turn-{number}.json"
        return _read(path) if path.exists() else None

    def finish(self, number: int, record: Mapping[str, Any]) -> None:
        """Turn `number` is done."""
        write_atomically(self.path / f"turn-{number}.json", _json(record))


def run_name(identity: Mapping[str, Any]) -> str:
    """A short name for a run, for services that keep runs by name."""
    return hashlib.sha256(_json(identity)).hexdigest()[:16]


def run_recipe(
    recipe: Recipe,
    weights: Weights,
    folder: RunFolder,
    trader: Trader,
    evaluate: Evaluate | None,
    streams: Callable[[int], Streams],
    options: Options,
    *,
    first: int,
) -> dict[str, Any]:
    """Runs what is left of a recipe; the report's data. Checkpoints stay in the turns' folders.

    weights: the base model. first: the base checkpoint's number. streams: opens them behind so
    many steps. Raises as train_on_batches, and whatever trader and evaluate raise.
    """
    todo = list(plans(recipe))
    drawn = options.clock()
    records: list[dict[str, Any]] = []
    start = folder.done(0)
    if start is None:
        start = {"evaluations": {}, "parent": first}
        if evaluate is not None:
            for name in recipe.environments:
                options.say(f"before: evaluating {name}")
                start["evaluations"][name] = evaluate(weights.policy(name), name)
        folder.finish(0, start)
    done = [record for plan in todo if (record := folder.done(plan.turn))]
    saved = load_state(folder.turn(len(done) + 1))
    told = streams(sum(len(one["steps"]) for one in done) + (len(saved.steps) if saved else 0))
    try:
        for plan in todo:
            record = folder.done(plan.turn)
            if record is None:
                steps = sum(len(one["steps"]) for one in records)
                due = plan.turn == len(todo) or (
                    recipe.evaluation is not None and plan.turn % recipe.evaluation.every == 0
                )
                record = _turn(
                    plan,
                    weights,
                    folder,
                    trader,
                    evaluate if due or _last_of_its_own(plan, todo) else None,
                    told,
                    options,
                    parent=weights.number(plan.environment, first, records),
                    before=_kept_evaluation(plan.environment, start, records),
                    also=_others(recipe, plan) if plan.turn == len(todo) else (),
                    steps=steps,
                )
            if record["rolled_back"]:
                weights.roll_back()
            else:
                weights.advance(plan.environment, folder.turn(plan.turn) / "checkpoint")
            records.append(record)
            _forget(folder, weights, plan.turn)
            # Drawing takes seconds: not after every turn of a quick run.
            if len(records) < len(todo) and options.clock() - drawn >= REPORT_SECONDS:
                report = run_report(recipe, start, records, trader.unit, turns=len(todo))
                write_report(report, folder.path)
                drawn = options.clock()
    finally:
        told.close()
    report = run_report(recipe, start, records, trader.unit, turns=len(todo))
    write_report(report, folder.path)
    return report


def _beside(behaviour_of: PolicyOf | None, policy: Policy) -> PolicyOf | None:
    """Earlier checkpoints where the policy is: on a GPU their passes take seconds, not hours."""
    if behaviour_of is None:
        return None
    found, device = behaviour_of, policy.device
    return lambda number: placed(found(number), device)


def _turn(
    plan: Plan,
    weights: Weights,
    folder: RunFolder,
    trader: Trader,
    evaluate: Evaluate | None,
    told: Streams,
    options: Options,
    *,
    parent: int,
    before: dict[str, Any] | None,
    also: Sequence[str],
    steps: int,
) -> dict[str, Any]:
    place = folder.turn(plan.turn)
    made = place / "checkpoint"
    if made.exists():  # killed after it was saved, before the turn was done
        shutil.rmtree(made)
    options.say(f"turn {plan.turn}: {plan.stage.name} on {plan.environment}")
    policy = weights.policy(plan.environment)
    bought = trader.buy(plan, policy, parent)
    state = load_state(place) or TrainState()
    if state.steps:
        options.say(f"turn {plan.turn}: going on behind step {len(state.steps)}")
    saved = options.clock()

    def on_step(done: int, total: int, metrics: StepMetrics) -> None:
        nonlocal saved
        due = options.clock() - saved >= options.save_seconds
        if due and done < total and apart is None:  # the processes save their own
            save_state(state, place)
            saved = options.clock()
        told.tell(steps + done, step_values(metrics))
        options.on_step(plan, done, total, metrics)

    apart = None
    if options.processes > 1:
        apart = Apart(
            place / "apart",
            weights.folder(plan.environment),
            options.processes,
            save_seconds=options.save_seconds,
        )
    try:
        trained = train_on_batches(
            policy,
            parent,
            bought.batches,
            trader.spec(plan.environment),
            plan.settings,
            made,
            on_step=on_step,
            state=state,
            ages=bought.ages,
            behaviour_of=_beside(bought.behaviour_of, policy),
            shaping=plan.stage.reward if plan.stage.reward.changes else None,
            apart=apart,
            **weights.saving(plan.environment),
        )
    except ConfigError as error:
        if state.steps:
            raise
        raise trader.unusable(plan, error) from error
    found = {}
    if evaluate is not None:
        for name in (plan.environment, *also):
            options.say(f"turn {plan.turn}: evaluating {name}")
            found[name] = evaluate(policy, name)
            write_evaluation(made, _id(found[name]), found[name])
    rolled_back = (
        before is not None
        and evaluate is not None
        and rolls_back(evaluation_of(before), evaluation_of(found[plan.environment]), plan.settings)
    )
    if rolled_back:
        options.say(f"turn {plan.turn}: worse on held-out tasks; going on from {parent}")
    if rolled_back:
        trader.rolled_back(plan, trained)
    checkpoint = parent if rolled_back else trader.publish(plan, trained)
    metrics = trained.metrics
    record = {
        "turn": plan.turn,
        "stage": plan.stage.name,
        "environment": plan.environment,
        "parent": parent,
        "checkpoint": checkpoint,
        "rolled_back": rolled_back,
        "traces": trained.dataset.traces,
        "groups": metrics.groups,
        "tokens": metrics.tokens,
        "mean_score": trained.dataset.mean_score,
        "mean_tokens": trained.dataset.mean_tokens,
        "left_out": added_up(bought.left_out, trained.left_out),
        "stopped_early": metrics.stopped_early,
        "steps": [asdict(step) for step in metrics.steps],
        "spent": bought.spent,
        "settings": plan.settings.model_dump(mode="json"),
        "weights_sha256": weights_hash(made),
        "evaluations": found,
    }
    values = {"turn/mean_score": trained.dataset.mean_score}
    for name, one in found.items():
        values[f"heldout/{name}"] = one["pass_at_1"]
    told.tell(steps + len(metrics.steps), values)
    folder.finish(plan.turn, record)
    return record


def _kept_evaluation(
    name: str, start: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The newest evaluation on an environment of what the next turn starts from, or before it."""
    seen = [start, *(one for one in records if not one["rolled_back"])]
    found = [one["evaluations"][name] for one in seen if name in one["evaluations"]]
    return found[-1] if found else None


def weights_hash(folder: Path) -> str:
    """sha256 over the safetensors files of a folder, by name."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{str(folder)!r} holds no safetensors")
    for file in files:
        with file.open("rb") as data:
            digest.update(file.name.encode() + b"\0")
            digest.update(hashlib.file_digest(data, "sha256").digest())
    return digest.hexdigest()


def _last_of_its_own(plan: Plan, todo: Sequence[Plan]) -> bool:
    """Whether no later turn trains on the environment: what it learned is then as it stays."""
    return not any(one.turn > plan.turn and one.environment == plan.environment for one in todo)


def _others(recipe: Recipe, plan: Plan) -> tuple[str, ...]:
    """Environments that the last turn of one model is evaluated on as well: what it could do there
    after their own turns may be gone."""
    if recipe.adapter is not None:
        return ()
    return tuple(name for name in recipe.environments if name != plan.environment)


def _forget(folder: RunFolder, weights: Weights, turn: int) -> None:
    """Weights that nothing needs any more: those are most of what a run writes."""
    for number in range(1, turn + 1):
        place = folder.turn(number)
        if not place.exists():
            continue
        if weights.needs(place / "checkpoint"):
            for file in place.iterdir():
                if file.is_dir() and file.name != "checkpoint":
                    shutil.rmtree(file)
                elif file.name != "checkpoint":
                    file.unlink()
        else:
            shutil.rmtree(place)


def _first_difference(name: str, before: object, now: object) -> tuple[str, object, object]:
    """Where two records differ first, by dotted name, and both values there."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                return _first_difference(f"{name}.{key}", before.get(key), now.get(key))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (one, other) in enumerate(zip(before, now, strict=True)):
            if one != other:
                return _first_difference(f"{name}.{place}", one, other)
    return name.removeprefix("."), before, now


def _id(record: Mapping[str, Any]) -> str:
    return str(record["environment"])


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, allow_nan=False).encode() + b"\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} can't be read: {error}") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{str(path)!r} holds no object")
    return record
