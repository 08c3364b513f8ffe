"""Verdict files by what their signers named, hostile signers among them."""

from __future__ import annotations

from types import SimpleNamespace

from marketplace.chain.records import ContentId
from marketplace.protocol.verdict import Reason, Verdict, batch_verdicts, encode_verdicts
from marketplace.storage.embedded import EmbeddedStore
from trainer.pull import _verdict_files
from verifier_node.published import published

VERDICTS = [Verdict(1_000_000, Reason.CORRECT, 1, 0), Verdict(0, Reason.WRONG, 0, 0)]
SAID = batch_verdicts(1, VERDICTS).attestation
NO_CODEC = ContentId(b"\x01" * 32, 99)
"""A contract takes any uint8 with a reveal."""


def test_a_signer_that_names_no_content_hides_no_verdict_file(tmp_path) -> None:
    store = EmbeddedStore(tmp_path)
    cid = store.put(encode_verdicts(VERDICTS))
    places = (NO_CODEC, ContentId(cid.digest, cid.codec))
    reader = SimpleNamespace(
        rounds_of=lambda batch: [1], verdict_files=lambda round_, attestation: places
    )
    found = published(reader, store, SimpleNamespace(id=1, count=2), SAID, timeout=1.0)
    assert found is not None
    assert found.tree.attestation == SAID


def test_a_trainer_reads_past_a_signer_that_names_no_content(tmp_path, monkeypatch) -> None:
    cid = EmbeddedStore(tmp_path).put(encode_verdicts(VERDICTS))
    events = [
        SimpleNamespace(args={"verdicts": {"digest": digest, "codec": codec}})
        for digest, codec in ((NO_CODEC.digest, NO_CODEC.codec), (cid.digest, cid.codec))
    ]
    monkeypatch.setattr("trainer.pull.revealed_attestation", lambda event: SAID)
    reader = SimpleNamespace(rounds_of=lambda batch: [1], reveals=lambda round_: events)
    assert list(_verdict_files(reader, SimpleNamespace(id=1), SAID)) == [cid]
