"""What came in for checkpoints, and where it went."""

from __future__ import annotations

from marketplace.chain.connection import Connection
from marketplace.chain.records import RoyaltySums
from marketplace.protocol.hashing import uint


class RoyaltyReader(Connection):
    """Typed reads of the royalties; a part of MarketReader."""

    def royalties(self, checkpoint: int) -> RoyaltySums:
        """What came in for a checkpoint and where it went."""
        sums = self._read("royalties", "accountOf", uint(checkpoint, 64, "checkpoint"))
        return RoyaltySums(*sums)

    def royalty_collected(self, checkpoint: int, index: int) -> int:
        """What share `index` has collected in all."""
        place = uint(index, 256, "index")
        return int(
            self._read("royalties", "collectedOf", uint(checkpoint, 64, "checkpoint"), place)
        )

    def royalty_due_to_parent(self, checkpoint: int) -> int:
        """What could be passed on to the parent now."""
        return int(self._read("royalties", "passOnDue", uint(checkpoint, 64, "checkpoint")))
