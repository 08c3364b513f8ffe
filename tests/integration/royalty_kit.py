"""Checkpoints without weights on a market on Anvil: records, sampling rules and shares are what
royalties and lineages are about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from marketplace.gym.spec import EnvironmentSpec, builtin_spec, environment_id, spec_bytes
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.shares import USUAL_PASS_ON
from marketplace.protocol.verdict import Attestation
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.embedded import EmbeddedStore
from trainer.records import BatchEntry, root_of, weights_of
from trainer.turn import publish

SPEC: EnvironmentSpec = builtin_spec("chain_sum")


CLAIMS = {
    "0x" + "11" * 32: {
        "environment_name": "sums",
        "tasks": 40,
        "samples": 4,
        "pass_at_1": 0.5,
        "standard_error": 0.01,
    }
}


def write_folder(folder: Path, record: dict[str, Any] | None, sampling: Any = "the spec's") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"of": folder.name}))
    if record is not None:
        (folder / "training.json").write_text(json.dumps(record))
        (folder / "evaluation.json").write_text(json.dumps({"v": 1, "environments": CLAIMS}))
        if sampling is not None:
            rules = SPEC.sampling.model_dump(mode="json")
            (folder / "sampling.json").write_text(
                json.dumps(rules if sampling == "the spec's" else rules | sampling)
            )
    return folder


@dataclass(slots=True)
class Refinery:
    """Batches that are settled with the units that a test asks for, and checkpoints trained on
    them. author: registers the environment."""

    market: Any
    folder: Path
    author: LocalAccount
    store: EmbeddedStore = field(init=False)
    bounty: int = field(init=False)

    def __post_init__(self) -> None:
        self.store = EmbeddedStore(self.folder / "store")
        data = spec_bytes(SPEC)
        self.store.put(data)
        environment = environment_id(data)
        self.market.client(self.author).register_environment(environment)
        self.bounty = self.market.open_bounty(environment=environment)
        self.market.stake_verifiers(3)

    def batch(self, miner: LocalAccount, units: int, *, settle: bool = True) -> int:
        market = self.market
        if market.reader.assignment(self.bounty, miner.address) is None:
            market.open_assignment(self.bounty, miner)
        attested = Attestation(bytes([units]) * 32, units, 0)
        batch = market.commit_batch(self.bounty, traces=8, miner=miner)
        market.vote(market.draw(batch), [attested] * 3)
        market.reader.tally(batch)
        market.pass_challenge_window()
        if settle:
            market.reader.settle(batch)
        return batch

    def entries(self, batches: Sequence[int], tokens: Sequence[int]) -> list[BatchEntry]:
        found = []
        for batch, weight, count in zip(batches, weights_of(tokens), tokens, strict=True):
            attestation = self.market.reader.batch(batch).attestation
            found.append(
                BatchEntry(
                    batch=batch,
                    verdict_root="0x" + attestation.root.hex(),
                    units=attestation.units,
                    weight_ppm=weight,
                    tokens=count,
                )
            )
        return found

    def record(self, parent: int, entries: Sequence[BatchEntry], **changes: Any) -> dict[str, Any]:
        return {
            "v": 1,
            "parent": parent,
            "dataset": {"root": "0x" + "00" * 32, "batches": [e.model_dump() for e in entries]},
            "settings": {"seed": 1},
            "metrics": {},
            "packages": {},
            "revision": "unknown",
        } | changes

    def root(self, entries: Sequence[BatchEntry]) -> bytes:
        deployment = self.market.deployment
        return root_of(deployment.chain_id, deployment.address("market"), entries)

    def base(self, owner: LocalAccount) -> int:
        folder = write_folder(self.folder / f"base-{owner.address}", None)
        client = self.market.client(owner)
        return publish(client, self.store, folder, parent=None, root=ZERO32)[0]

    def child(
        self,
        trainer: LocalAccount,
        parent: int,
        entries: Sequence[BatchEntry],
        *,
        pass_on_ppm: int = USUAL_PASS_ON,
    ) -> int:
        name = f"child-{self.market.reader.checkpoint_count() + 1}"
        folder = write_folder(self.folder / name, self.record(parent, entries))
        client = self.market.client(trainer)
        root = self.root(entries)
        return publish(
            client,
            self.store,
            folder,
            parent=client.checkpoint(parent),
            root=root,
            pass_on_ppm=pass_on_ppm,
        )[0]


def registered(refinery, accounts, parent, record, *, root, sampling="the spec's"):
    """A checkpoint whose trainer registers what it likes."""
    client = refinery.market.client(accounts.trainer)
    number = refinery.market.reader.checkpoint_count() + 1
    folder = write_folder(refinery.folder / f"lie-{number}", record, sampling)
    cid = put_checkpoint(refinery.store, folder)
    return client.register_checkpoint(client.checkpoint(parent), cid, root)[0]
