"""The verdicts behind an attestation, as its signers published them."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.chain.reads import MarketReader
from marketplace.chain.records import Batch
from marketplace.protocol.disputes import LeafVerdict, leaf_tree, read_leaves
from marketplace.protocol.errors import InvalidValue, MalformedVerdicts, StorageError
from marketplace.protocol.verdict import Attestation, VerdictTree
from marketplace.storage.cid import Cid
from marketplace.storage.store import ContentStore

BYTES_PER_VERDICT = 128
"""No line of a verdict file is longer."""


@dataclass(frozen=True, slots=True)
class Published:
    """A verdict file whose tree has the attested root's hash. Its sums may still be others than
    the attested ones (see protocol.disputes.find_fault)."""

    leaves: list[LeafVerdict]
    tree: VerdictTree


def published(
    reader: MarketReader,
    store: ContentStore,
    batch: Batch,
    attestation: Attestation,
    *,
    timeout: float,
) -> Published | None:
    """The verdict file behind an attestation of a batch, from the places that its signers named;
    None where nothing that leads to its root can be had. timeout: seconds for each place."""
    seen: set[Cid] = set()
    for round_ in reversed(reader.rounds_of(batch.id)):
        for content in reader.verdict_files(round_, attestation):
            if content.codec == 0:
                continue
            try:
                cid = Cid.from_chain(content.digest, content.codec)
            except InvalidValue:  # a reveal may name any codec
                continue
            if cid in seen:
                continue
            seen.add(cid)
            try:
                data = store.get(cid, timeout=timeout, max_bytes=batch.count * BYTES_PER_VERDICT)
                leaves = read_leaves(data, batch.count)
                tree = leaf_tree(batch.id, leaves)
            except (StorageError, MalformedVerdicts, InvalidValue):
                continue
            if tree.attestation.root == attestation.root:
                return Published(leaves, tree)
    return None
