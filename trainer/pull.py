"""Attested content from chain and store, with its proofs.

Nothing here is believed because somebody said it: the batch file must lead to the root that
the miner committed, the verdict file to the verdict root that the committee attested and that
outlasted its challenge window.
"""

from __future__ import annotations

from collections.abc import Iterator

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch, BatchPhase
from marketplace.protocol import batch_file
from marketplace.protocol.commitments import vote
from marketplace.protocol.errors import (
    ContentUnavailable,
    MalformedVerdicts,
    ProofFailed,
    StorageError,
)
from marketplace.protocol.merkle import batch_tree
from marketplace.protocol.verdict import (
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    Verdict,
    batch_verdicts,
    decode_verdicts,
)
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore

BYTES_PER_VERDICT = 128
"""No line of a verdict file is longer."""


def settled_batches(reader: MarketReader, bounties: set[int] | None = None) -> Iterator[Batch]:
    """Batches that are final and whose committee judged every trace, oldest first."""
    for event in reader.events(reader.deployment.block, names=["BatchSettled"]):
        batch = reader.batch(event.args["batch"])
        if bounties is not None and batch.bounty not in bounties:
            continue
        if batch.phase is BatchPhase.SETTLED and batch.attestation not in (UNAVAILABLE, MALFORMED):
            yield batch


def pull_lines(
    reader: MarketReader, store: ContentStore, batch: Batch, *, timeout: float
) -> list[bytes]:
    """The traces of a batch, one line each.

    Raises ProofFailed where they don't lead to the committed root, MalformedBatch, StorageError.
    """
    content = reader.batch_content(batch.id)
    data = store.get(
        Cid.from_chain(content.digest, content.codec),
        timeout=timeout,
        max_bytes=batch_file.max_packed_bytes(batch.count),
    )
    lines = batch_file.unpack(data, batch.count)
    deployment = reader.deployment
    tree = batch_tree(
        deployment.chain_id, deployment.address("market"), batch.bounty, batch.miner, lines
    )
    if tree.root != batch.root:
        raise ProofFailed(
            f"batch {batch.id}: the traces lead to root 0x{tree.root.hex()}, "
            f"0x{batch.root.hex()} was committed"
        )
    return lines


def pull_verdicts(
    reader: MarketReader, store: ContentStore, batch: Batch, *, timeout: float
) -> list[Verdict]:
    """The attested verdicts of a batch, in file order: the first published file that proves.

    Raises ProofFailed where every file that can be had leads to another root, StorageError
    where none can be had.
    """
    assert batch.attestation is not None
    wanted = vote(batch.attestation)
    failures: list[Exception] = []
    tried: set[Cid] = set()
    for round_ in reversed(reader.rounds_of(batch.id)):
        for event in reader.reveals(round_):
            said = event.args["attestation"]
            attestation = Attestation(said["verdictRoot"], said["units"], said["faults"])
            where = event.args["verdicts"]
            if vote(attestation) != wanted or where["codec"] == 0:
                continue
            cid = Cid.from_chain(where["digest"], where["codec"])
            if cid in tried:
                continue
            tried.add(cid)
            try:
                limit = batch.count * BYTES_PER_VERDICT
                data = store.get(cid, timeout=timeout, max_bytes=limit)
                return prove_verdicts(batch, decode_verdicts(data, batch.count))
            except (StorageError, MalformedVerdicts, ProofFailed) as error:
                failures.append(error)
    for failure in failures:
        if not isinstance(failure, StorageError):
            raise ProofFailed(f"batch {batch.id}: {failure}") from failure
    raise ContentUnavailable(
        f"no verdict file of batch {batch.id} can be had ({len(tried)} tried)",
        fix="ask its verifiers to publish it again, or use the content store they use",
    )


def prove_verdicts(batch: Batch, verdicts: list[Verdict]) -> list[Verdict]:
    """The same verdicts; ProofFailed unless they lead to the batch's attestation."""
    found = batch_verdicts(batch.id, verdicts).attestation
    if found != batch.attestation:
        assert batch.attestation is not None
        raise ProofFailed(
            f"the verdicts lead to root 0x{found.root.hex()} with {found.units} units and "
            f"{found.faults} faults, attested are 0x{batch.attestation.root.hex()}, "
            f"{batch.attestation.units} and {batch.attestation.faults}"
        )
    return verdicts
