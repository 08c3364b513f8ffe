"""Attested content from chain and store, with its proofs.

Nothing here is believed because somebody said it: the batch file must lead to the root that
the miner committed, the verdict file to the verdict root that the committee attested and that
outlasted its challenge window. Needs no model runtime, so that miners' receipts use it too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from marketplace.chain.batch_terms import batch_terms
from marketplace.chain.reads import MarketReader, revealed_attestation
from marketplace.chain.records import Batch, BatchPhase
from marketplace.protocol import batch_file
from marketplace.protocol.commitments import vote
from marketplace.protocol.errors import (
    ConfigError,
    ContentCorrupt,
    ContentError,
    ContentTooLarge,
    ContentUnavailable,
    InvalidValue,
    MalformedVerdicts,
    ProofFailed,
    StorageError,
    TracemarketError,
)
from marketplace.protocol.trace import Tier
from marketplace.protocol.verdict import (
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    decode_verdicts,
)
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore
from trainer.data import AttestedBatch, open_attested

BYTES_PER_VERDICT = 128
"""No line of a verdict file is longer."""


def settled_batches(
    reader: MarketReader, bounties: Collection[int] | None = None
) -> Iterator[Batch]:
    """Batches that are final and whose committee judged every trace: of the whole market in the
    order in which they were settled, of bounties in that of their numbers.

    Of bounties only their own batches are read, however many others the market has: a run that
    waits for miners asks again every few seconds.
    """
    head, first = reader.head().number, reader.deployment.block
    if bounties is None:
        events = reader.events(first, head, names=["BatchSettled"])
        numbers = [event.args["batch"] for event in events]
    else:
        numbers = sorted(
            event.args["batch"]
            for bounty in set(bounties)
            for event in reader.events(
                first, head, names=["BatchCommitted"], where={"bounty": bounty}
            )
        )
    for number in numbers:
        batch = reader.batch(number)
        if batch.phase is BatchPhase.SETTLED and batch.attestation not in (UNAVAILABLE, MALFORMED):
            yield batch


def pull_attested(
    reader: MarketReader, store: ContentStore, batch: Batch, *, timeout: float
) -> AttestedBatch:
    """The content of an attested batch, proven against the chain.

    timeout: seconds for each file. Raises ProofFailed where what can be had leads to other
    roots, StorageError where nothing can be had, MalformedBatch, ConfigError for a batch
    without verdicts.
    """
    if batch.attestation is None or batch.attestation in (UNAVAILABLE, MALFORMED):
        raise ConfigError(
            f"batch {batch.id} has no verdicts: it is {batch.phase.name.lower()}",
            fix="see `tracemarket batch show`",
        )
    content = reader.batch_content(batch.id)
    data = store.get(
        Cid.from_chain(content.digest, content.codec),
        timeout=timeout,
        max_bytes=batch_file.max_packed_bytes(batch.count),
    )
    lines = batch_file.unpack(data, batch.count)
    terms = batch_terms(reader, batch)
    drawn = (reader.first_drawn_with(batch.id) or b"") if terms.tier is Tier.A else b""
    failures: list[Exception] = []
    for cid in _verdict_files(reader, batch, batch.attestation):
        try:
            published = store.get(cid, timeout=timeout, max_bytes=batch.count * BYTES_PER_VERDICT)
            return open_attested(
                terms,
                root=batch.root,
                lines=lines,
                verdicts=decode_verdicts(published, batch.count),
                attestation=batch.attestation,
                drawn=drawn,
            )
        except (StorageError, MalformedVerdicts, ProofFailed) as error:
            failures.append(error)
    for failure in failures:
        if not isinstance(failure, StorageError):
            raise ProofFailed(f"batch {batch.id}: {failure}") from failure
    raise ContentUnavailable(
        f"no verdict file of batch {batch.id} can be had ({len(failures)} tried)",
        fix="ask its verifiers to publish it again, or use the content store they use",
    )


def pull_available(
    reader: MarketReader,
    store: ContentStore,
    batches: Sequence[Batch],
    *,
    timeout: float,
    on_done: Callable[[], None] = lambda: None,
) -> tuple[list[AttestedBatch], dict[int, TracemarketError]]:
    """The batches whose content can be had and proven, and what is wrong with each other one.

    So nobody holds up a trainer by taking back what was bought of him.

    on_done: told after each. A store that is down is no such thing (StorageError).
    """
    attested: list[AttestedBatch] = []
    gone: dict[int, TracemarketError] = {}
    for batch in batches:
        try:
            attested.append(pull_attested(reader, store, batch, timeout=timeout))
        except (ContentUnavailable, ContentCorrupt, ContentTooLarge, ContentError) as error:
            gone[batch.id] = error
        on_done()
    return attested, gone


def _verdict_files(reader: MarketReader, batch: Batch, attestation: Attestation) -> Iterator[Cid]:
    """Where members who voted for the attestation say that the verdicts are, newest round first."""
    wanted, seen = vote(attestation), set()
    for round_ in reversed(reader.rounds_of(batch.id)):
        for event in reader.reveals(round_):
            where = event.args["verdicts"]
            if vote(revealed_attestation(event)) == wanted and where["codec"] != 0:
                try:
                    cid = Cid.from_chain(where["digest"], where["codec"])
                except InvalidValue:  # a reveal may name any codec
                    continue
                if cid not in seen:
                    seen.add(cid)
                    yield cid
