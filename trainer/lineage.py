"""Where a checkpoint came from, step by step to its base model, and whether that is true.

Nothing is believed that the chain can say: `verify_step` reads the final attestation of every
batch that a checkpoint names, rebuilds the dataset root from them and compares it with the
registered one. What only a repeated run can show is not proven: that the trainer used the
batches, and how many of their tokens (the weights are checked for range and sum).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, BatchPhase, Checkpoint
from marketplace.gym.spec import SamplingSpec, parse_spec
from marketplace.protocol.errors import InvalidValue, ProofFailed
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.merkle import Tree, verify_inclusion
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.store import ContentStore
from trainer.records import (
    BatchEntry,
    EvaluationFile,
    TrainingFile,
    fetch_evaluation,
    fetch_sampling,
    fetch_training,
    leaves_of,
    root_of,
)

MAX_SPEC_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One checkpoint of a lineage: what is registered, and what its own files say.

    training, sampling, evaluation: None where its content has no such file. bounties:
    of the batches.
    """

    checkpoint: Checkpoint
    cid: Cid
    training: TrainingFile | None
    sampling: SamplingSpec | None
    evaluation: EvaluationFile | None
    bounties: tuple[int, ...]

    @property
    def entries(self) -> tuple[BatchEntry, ...]:
        return () if self.training is None else self.training.dataset.batches


@dataclass(frozen=True, slots=True)
class DatasetProof:
    """That a batch is in a checkpoint's dataset: siblings from the leaf up to the registered
    root."""

    checkpoint: int
    entry: BatchEntry
    index: int
    size: int
    leaf: bytes
    siblings: tuple[bytes, ...]
    root: bytes


def lineage(
    reader: MarketReader, store: ContentStore, checkpoint: int, *, timeout: float
) -> list[Step]:
    """The checkpoint, its parent and so on to the base model.

    timeout: seconds for each file. Raises StorageError, CheckpointError, Reverted for none.
    """
    steps = []
    while checkpoint:
        step = read_step(reader, store, checkpoint, timeout=timeout)
        steps.append(step)
        checkpoint = step.checkpoint.parent  # always a smaller number: the registry sees to it
    return steps


def read_step(
    reader: MarketReader, store: ContentStore, checkpoint: int, *, timeout: float
) -> Step:
    """What is registered and what the checkpoint's files say; nothing is checked against the
    chain yet."""
    found = reader.checkpoint(checkpoint)
    cid = Cid.from_chain(found.content.digest, found.content.codec)
    name = f"checkpoint {checkpoint}"
    training = fetch_training(store, cid, name, timeout=timeout)
    sampling = fetch_sampling(store, cid, name, timeout=timeout)
    evaluation = fetch_evaluation(store, cid, name, timeout=timeout)
    entries = () if training is None else training.dataset.batches
    known = reader.batch_count()
    # Each once: a record may name one batch half a million times, and a read takes two requests.
    named = sorted({one.batch for one in entries if one.batch <= known})
    bounties = {reader.batch(number).bounty for number in named}
    return Step(found, cid, training, sampling, evaluation, tuple(sorted(bounties)))


Place = tuple[int, int]
"""Of an event on the chain: its block, and its number there."""


def settled_blocks(reader: MarketReader) -> Mapping[int, Place]:
    """Batch -> where it was settled; one pass over the chain."""
    head = reader.head().number
    events = reader.events(reader.deployment.block, head, names=["BatchSettled"])
    return {event.args["batch"]: (event.block, event.log_index) for event in events}


def verify_step(
    reader: MarketReader,
    store: ContentStore,
    step: Step,
    settled: Mapping[int, Place],
    *,
    timeout: float,
) -> list[Batch]:
    """The batches of the step's dataset, once all it says of them is found true on chain.

    settled: see settled_blocks. Raises ProofFailed, naming the checkpoint and the batch.
    """
    registered, where = step.checkpoint, f"checkpoint {step.checkpoint.id}"
    if step.training is None:
        if registered.dataset_root != ZERO32:
            raise ProofFailed(
                f"{where} has the dataset root 0x{registered.dataset_root.hex()} and no record of "
                "what is in it"
            )
        return []
    # A base model may have been another market's child.
    is_base = registered.dataset_root == ZERO32 and not registered.parent
    if (step.training.parent or 0) != registered.parent and not is_base:
        raise ProofFailed(
            f"{where} is registered as a child of {registered.parent}, its own record says "
            f"{step.training.parent}"
        )
    if registered.dataset_root == ZERO32:
        if step.entries and registered.parent:
            raise ProofFailed(
                f"{where} names batch {step.entries[0].batch}, but is registered without a dataset"
            )
        return []  # a base model: what came before it is another market's business
    try:  # before the chain is asked of each: it names every batch once, in order
        deployment = reader.deployment
        found = root_of(deployment.chain_id, deployment.address("market"), step.entries)
    except ProofFailed as error:
        raise ProofFailed(f"{where}: {error.message}") from None
    # By events on both sides: a contract's block.number need not be the number of its block.
    event = reader.registration(registered.id)
    at = (event.block, event.log_index)
    batches = [_attested_entry(reader, where, at, one, settled) for one in step.entries]
    if found != registered.dataset_root:
        first = step.entries[0].batch if step.entries else 0
        raise ProofFailed(
            f"the {len(step.entries)} batches of {where} (from batch {first} on) lead to the "
            f"dataset root 0x{found.hex()}, but 0x{registered.dataset_root.hex()} is registered"
        )
    _verify_sampling(reader, store, step, timeout)
    return batches


def _attested_entry(
    reader: MarketReader,
    where: str,
    registered: Place,
    entry: BatchEntry,
    settled: Mapping[int, Place],
) -> Batch:
    """The batch of an entry. registered: where the checkpoint was."""
    if entry.batch > reader.batch_count():
        raise ProofFailed(f"{where} names batch {entry.batch}, which does not exist")
    batch = reader.batch(entry.batch)
    final = batch.attestation
    if batch.phase is not BatchPhase.SETTLED or final is None or entry.batch not in settled:
        raise ProofFailed(
            f"{where} names batch {entry.batch}, which is not settled: it is "
            f"{batch.phase.name.lower()}"
        )
    if settled[entry.batch] > registered:
        raise ProofFailed(
            f"{where} was registered in block {registered[0]}, before batch "
            f"{entry.batch} was settled in block {settled[entry.batch][0]}"
        )
    if final in (UNAVAILABLE, MALFORMED):
        raise ProofFailed(f"{where} names batch {entry.batch}, which has no verdicts")
    _, root, units, _ = entry.leaf
    if (root, units) != (final.root, final.units):
        raise ProofFailed(
            f"{where} says batch {entry.batch} was attested with root 0x{root.hex()} and {units} "
            f"units; final is 0x{final.root.hex()} with {final.units}"
        )
    return batch


def _verify_sampling(reader: MarketReader, store: ContentStore, step: Step, timeout: float) -> None:
    """The sampling rules in the checkpoint are those of the environments it was trained on."""
    where = f"checkpoint {step.checkpoint.id}"
    if step.sampling is None:
        raise ProofFailed(f"{where} was trained on traces and has no sampling rules")
    for bounty in step.bounties:
        environment = reader.bounty(bounty).terms.environment
        data = store.get(Cid(environment, RAW), timeout=timeout, max_bytes=MAX_SPEC_BYTES)
        rules = parse_spec(data).sampling
        if rules != step.sampling:
            raise ProofFailed(
                f"{where} has other sampling rules ({_shown(step.sampling)}) than the environment "
                f"of bounty {bounty} ({_shown(rules)})"
            )


def prove_batch(chain_id: int, market: str, step: Step, batch: int) -> DatasetProof:
    """The proof that a batch is in the step's dataset. InvalidValue where it is not; ProofFailed
    where the record does not lead to the registered root."""
    places = [one.batch for one in step.entries]
    if batch not in places:
        raise InvalidValue(
            f"batch {batch} is not in the dataset of checkpoint {step.checkpoint.id}",
            fix="see `tracemarket model lineage`",
        )
    leaves = leaves_of(chain_id, market, step.entries)
    tree, index = Tree(leaves), places.index(batch)
    proof = DatasetProof(
        checkpoint=step.checkpoint.id,
        entry=step.entries[index],
        index=index,
        size=len(leaves),
        leaf=leaves[index],
        siblings=tuple(tree.proof(index)),
        root=step.checkpoint.dataset_root,
    )
    if not verify_inclusion(proof.leaf, index, proof.size, proof.siblings, proof.root):
        raise ProofFailed(
            f"the record of checkpoint {step.checkpoint.id} leads to the root 0x{tree.root.hex()}, "
            f"but 0x{proof.root.hex()} is registered"
        )
    return proof


def described(step: Step, verified: Sequence[Batch] | None) -> dict[str, Any]:
    """A step as plain data. verified: None where nothing was checked."""
    one, training = step.checkpoint, step.training
    return {
        "checkpoint": one.id,
        "trainer": one.trainer,
        "parent": one.parent or None,
        "cid": str(step.cid),
        "block": one.registered_block,
        "dataset_root": one.dataset_root,
        "identity": one.identity,
        "bounties": step.bounties,
        "batches": [entry.model_dump() for entry in step.entries],
        "sampling": None if step.sampling is None else step.sampling.model_dump(mode="json"),
        "evaluation": None if step.evaluation is None else step.evaluation.model_dump(),
        "settings": None if training is None else training.settings,
        "packages": None if training is None else training.packages,
        "revision": None if training is None else training.revision,
        "shares": {
            "root": one.shares_root,
            "holders": one.holders,
            "pass_on_ppm": one.pass_on_ppm,
        },
        "verified": None if verified is None else True,
    }


def _shown(rules: SamplingSpec) -> str:
    return f"temperature {rules.temperature}, {rules.max_tokens} tokens, stop {list(rules.stop)}"


def lineage_ages(reader: MarketReader, checkpoint: int, most: int) -> dict[int, int]:
    """How many checkpoints before `checkpoint` each of its nearest `most` ancestors is, by id.

    From the chain, so that a miner's word for it is not needed. Base models have no parent.
    """
    ages: dict[int, int] = {}
    for age in range(1, most + 1):
        checkpoint = reader.checkpoint(checkpoint).parent
        if not checkpoint:
            break
        ages[checkpoint] = age
    return ages
