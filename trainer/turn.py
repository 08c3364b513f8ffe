"""A turn of the Refinery: attested batches and a parent checkpoint in, a registered child out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from marketplace.chain.client import MarketClient
from marketplace.chain.records import BatchPhase, Checkpoint, CheckpointShares
from marketplace.gym.policy import Policy
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import CheckpointError, ConfigError
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.shares import (
    USUAL_PASS_ON,
    USUAL_SPLIT,
    Split,
    derive_shares,
    encode_shares,
)
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore
from trainer.checkpoint import TrainingRecord, save_checkpoint
from trainer.config import TrainSettings
from trainer.data import AttestedBatch, Dataset, GroupRules, build_groups
from trainer.devices import device_record, repeatable
from trainer.grpo import StepMetrics, TurnMetrics, train_turn
from trainer.launching import Apart
from trainer.records import (
    TRAINING_NAME,
    BatchEntry,
    added_up,
    parse_training,
    root_of,
    weights_of,
)
from trainer.rounding import round_weights
from trainer.royalties import contributions_of
from trainer.shaping import RewardShaping, attested_mean, shape_batch
from trainer.state import TrainState
from trainer.verify import PolicyOf


@dataclass(frozen=True, slots=True)
class Trained:
    """What a turn made. dataset_root: over `batches`, ascending. weights: each batch's share of
    the tokens that were trained on, in ppm."""

    folder: Path
    parent: int
    batches: tuple[int, ...]
    weights: tuple[int, ...]
    dataset_root: bytes
    dataset: Dataset
    metrics: TurnMetrics

    @property
    def left_out(self) -> dict[str, int]:
        """Traces that were not trained on, by reason. Building groups and verifying them may count
        the same reason, each for other traces."""
        return added_up(self.dataset.skipped, self.metrics.dropped)


def train_on_batches(
    policy: Policy,
    parent: int,
    batches: Sequence[AttestedBatch],
    spec: EnvironmentSpec,
    settings: TrainSettings,
    folder: Path,
    *,
    on_step: Callable[[int, int, StepMetrics], None] | None = None,
    ages: Mapping[int, int] | None = None,
    behaviour_of: PolicyOf | None = None,
    save: Callable[..., Path] = save_checkpoint,
    state: TrainState | None = None,
    shaping: RewardShaping | None = None,
    apart: Apart | None = None,
) -> Trained:
    """Trains the parent's policy in place on proven batches and saves it to a new folder.

    ages, behaviour_of: earlier checkpoints of the lineage, how far back each is (trainer.lineage)
    and their weights; without both only the parent's own traces are used. save: how, if not as
    whole weights. state: see train_turn. shaping: of the scores that the loss sees; nothing else
    sees them. apart: trains in processes of its own (which keep their own state).
    Traces follow the environment's sampling rules, whichever checkpoint sampled them. Raises
    ConfigError where nothing in the batches can be trained on, before or after verification (a
    child without a contributor would be the parent once more), CheckpointError.
    """
    if not batches:
        raise ConfigError(
            "there are no settled batches to train on",
            fix="wait until batches of the bounty are settled",
        )
    ordered = sorted(batches, key=lambda batch: batch.terms.batch)
    foreign = [
        b.terms.batch for b in ordered if b.terms.environment != ordered[0].terms.environment
    ]
    if repeated := [
        one.terms.batch for one, after in pairwise(ordered) if one.terms.batch == after.terms.batch
    ]:
        raise ConfigError(
            f"batch {repeated[0]} is given twice", fix="give each batch once: twice weighs double"
        )
    if foreign:
        raise ConfigError(
            f"batch {foreign[0]} was attested for another environment than "
            f"batch {ordered[0].terms.batch}",
            fix="train on the bounties of one environment",
        )
    rules = GroupRules(
        checkpoint=parent,
        stop=spec.sampling.stop,
        max_tokens=spec.sampling.max_tokens,
        context=policy.context,
        temperature=spec.sampling.temperature,
        ages=ages if ages and behaviour_of else {},
        max_staleness=settings.max_staleness,
        solved=settings.imitates,
    )
    shaped = [shape_batch(one, shaping, spec.answer) for one in ordered] if shaping else ordered
    dataset = build_groups(shaped, policy.codec, rules)
    if shaping:
        dataset = replace(dataset, mean_score=attested_mean(ordered))
    if not dataset.groups:
        raise ConfigError(
            f"none of {dataset.traces} attested traces can be trained on: {dataset.skipped}",
            fix="wait for more settled batches of the parent checkpoint",
        )
    with repeatable(policy.device):
        metrics = (apart or train_turn)(
            policy,
            dataset.groups,
            settings,
            temperature=spec.sampling.temperature,
            behaviour_of=behaviour_of,
            on_step=on_step,
            state=state,
        )
    if not metrics.tokens:
        raise ConfigError(
            f"none of {dataset.traces} attested traces can be trained on: {dataset.skipped}, and "
            f"what was verified {metrics.dropped}",
            fix="wait for more settled batches of the parent checkpoint",
        )
    entries = _entries(ordered, metrics)
    first = ordered[0].terms
    root = root_of(first.chain_id, first.market, entries)
    record = TrainingRecord(
        parent=parent,
        dataset=_described(entries, dataset, root),
        settings=settings.model_dump(mode="json"),
        metrics=metrics.summary(),
        machine={**device_record(policy.device), **(apart.machine if apart else {})},
    )
    if settings.weights == "bf16" and save is save_checkpoint:
        round_weights(policy, settings.seed)
        save = partial(save_checkpoint, half=True)
    save(policy, folder, sampling=spec.sampling, record=record)
    return Trained(
        folder,
        parent,
        tuple(entry.batch for entry in entries),
        tuple(entry.weight_ppm for entry in entries),
        root,
        dataset,
        metrics,
    )


def publish(
    client: MarketClient,
    store: ContentStore,
    folder: Path,
    *,
    parent: Checkpoint | None,
    root: bytes,
    parent_folder: Path | None = None,
    stored: Cid | None = None,
    split: Split = USUAL_SPLIT,
    pass_on_ppm: int = USUAL_PASS_ON,
) -> tuple[int, Cid]:
    """Puts a checkpoint folder into the store and registers it, with the shares in its royalties
    that follow from the dataset. Returns its id and CID.

    parent: as it was read before it was fetched, None for a base model: ContractError where its
    number has become another one's since. parent_folder: its files; whoever has them too need only
    fetch what changed since. stored: the folder's CID where it is in the store already.
    pass_on_ppm: what the parent gets of the royalties; nothing where there is no parent. Content
    first: whoever sees the registration can fetch it. Raises CheckpointError where the folder's
    record does not lead to `root`, names another parent, or batches that are not settled as it
    says.
    """
    contributions = []
    if root != ZERO32:
        record = parse_training((folder / TRAINING_NAME).read_bytes(), str(folder))
        if record.parent != (parent.id if parent else None):
            raise CheckpointError(
                f"{TRAINING_NAME} in {folder} names parent {record.parent}, not "
                f"{parent.id if parent else None}",
                fix="register it as the child of what it was trained from",
            )
        entries, deployment = record.dataset.batches, client.deployment
        if root_of(deployment.chain_id, deployment.address("market"), entries) != root:
            raise CheckpointError(
                f"{TRAINING_NAME} in {folder} does not lead to the dataset root 0x{root.hex()}",
                fix="register the folder that was trained, on the market it was trained for",
            )
        attested = [client.batch(entry.batch) for entry in entries]
        for entry, batch in zip(entries, attested, strict=True):
            final = batch.attestation
            if (
                batch.phase is not BatchPhase.SETTLED
                or final is None
                or ((final.root, final.units) != (entry.leaf[1], entry.units))
            ):
                raise CheckpointError(
                    f"batch {entry.batch} is not settled with the verdicts that {TRAINING_NAME} in "
                    f"{folder} names ({entry.verdict_root}, {entry.units} units); a reorg of the "
                    "chain may have taken them back",
                    fix="train again on what is settled now: nobody could verify this checkpoint",
                )
        contributions = contributions_of(client, entries, attested)
    shares = derive_shares(client.address, contributions, split)
    listed = store.put(encode_shares(shares))
    cid = stored or put_checkpoint(store, folder, parent=parent_folder)
    passed_on = pass_on_ppm if parent else 0
    terms = CheckpointShares(shares.root, len(shares.shares), passed_on, listed)
    checkpoint, _ = client.register_checkpoint(parent, cid, root, terms)
    return checkpoint, cid


def _entries(batches: Sequence[AttestedBatch], metrics: TurnMetrics) -> list[BatchEntry]:
    """Every batch that was looked at, with its share of the tokens that were trained on."""
    tokens = [metrics.batch_tokens.get(batch.terms.batch, 0) for batch in batches]
    return [
        BatchEntry(
            batch=batch.terms.batch,
            verdict_root="0x" + batch.attestation.root.hex(),
            units=batch.attestation.units,
            weight_ppm=weight,
            tokens=count,
        )
        for batch, weight, count in zip(batches, weights_of(tokens), tokens, strict=True)
    ]


def _described(entries: Sequence[BatchEntry], dataset: Dataset, root: bytes) -> dict[str, Any]:
    return {
        "root": "0x" + root.hex(),
        "batches": [entry.model_dump() for entry in entries],
        "traces": dataset.traces,
        "groups": len(dataset.groups),
        "skipped": dataset.skipped,
        "mean_score": dataset.mean_score,
        "mean_tokens": dataset.mean_tokens,
    }
