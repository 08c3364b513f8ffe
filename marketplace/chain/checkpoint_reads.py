"""Registered checkpoints, and where their lists of shares are."""

from __future__ import annotations

from eth_utils.address import to_checksum_address

from marketplace.chain.blocks import Event
from marketplace.chain.connection import Connection
from marketplace.chain.records import Checkpoint, ContentId
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import address20, uint


class CheckpointReader(Connection):
    """Typed reads of the checkpoint registry; a part of MarketReader."""

    def checkpoint_count(self) -> int:
        return int(self._read("checkpoints", "count"))

    def checkpoint(self, checkpoint: int) -> Checkpoint:
        data = self._read("checkpoints", "get", uint(checkpoint, 64, "checkpoint"))
        trainer, parent, block, digest, codec, holders, pass_on, *hashes = data
        dataset_root, shares_root, identity = map(bytes, hashes)
        return Checkpoint(
            id=checkpoint,
            trainer=trainer,
            parent=parent,
            registered_block=block,
            content=ContentId(bytes(digest), codec),
            dataset_root=dataset_root,
            holders=holders,
            pass_on_ppm=pass_on,
            shares_root=shares_root,
            identity=identity,
        )

    def registration(self, checkpoint: int) -> Event:
        """The event of a checkpoint's registration."""
        at, where = self.checkpoint(checkpoint).registered_block, {"checkpoint": checkpoint}
        # On some chains (Arbitrum) a contract's block.number is not the number of its block.
        for part in ((at, at), (self.deployment.block, self.head().number)):
            for event in self.events(*part, names=["CheckpointRegistered"], where=where):
                return event
        raise InvalidValue(f"checkpoint {checkpoint} was registered, but its event is not there")

    def share_list_content(self, checkpoint: int) -> ContentId:
        """Where a checkpoint's list of shares is: the event of its registration says so."""
        found = self.registration(checkpoint).args["shares"]["list"]
        return ContentId(found["digest"], found["codec"])

    def latest_checkpoint(self, trainer: str) -> int | None:
        """A trainer's newest checkpoint; None where it has none."""
        return (
            self._read(
                "checkpoints", "latestOf", to_checksum_address(address20(trainer, "address"))
            )
            or None
        )
