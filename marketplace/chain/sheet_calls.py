"""Calls of ScoreSheets, for one key: each sends one transaction (`fund_pot` an approval first)."""

from __future__ import annotations

from collections.abc import Sequence

from marketplace.chain.blocks import Sent
from marketplace.chain.paying import SigningClient
from marketplace.chain.records import Bounty
from marketplace.protocol.hashing import bytes32, uint


class SheetSigner(SigningClient):
    """Judges', posters' and planters' calls; made as a SigningClient is."""

    def open_pot(self, bounty: int, per_trace: int) -> Sent:
        """Say once what a bounty of the signer's pays for a trace on one sheet."""
        args = (uint(bounty, 64, "bounty"), uint(per_trace, 96, "pay per trace"))
        return self._send("open_pot", "sheets", "openPot", *args)

    def fund_pot(self, bounty: Bounty, amount: int) -> Sent:
        """Pay into the pot of a bounty's judges; anybody may. bounty: as it was read, or as the
        signer opened it: ContractError where its number has become another one's."""
        spender, units = self.deployment.address("sheets"), uint(amount, 256, "amount")
        self._send("approve", "token", "approve", spender, units)
        args = (uint(bounty.id, 64, "bounty"), bounty.identity, units)
        return self._send("fund_pot", "sheets", "fund", *args)

    def refund_pot(self, bounty: int) -> Sent:
        """Give the poster what is left in a pot; `withdraw_judging` takes it out."""
        return self._send("refund_pot", "sheets", "refund", uint(bounty, 64, "bounty"))

    def commit_sheet(self, batch: int, seat: int, commitment: bytes) -> Sent:
        """commitment: protocol.sheets.sheet_commitment()."""
        args = (uint(batch, 64, "batch"), uint(seat, 8, "seat"), bytes32(commitment, "commitment"))
        return self._send("commit_sheet", "sheets", "commitSheet", *args)

    def reveal_sheet(self, batch: int, seat: int, sheet: bytes, salt: bytes) -> Sent:
        args = (uint(batch, 64, "batch"), uint(seat, 8, "seat"), sheet, bytes32(salt, "salt"))
        return self._send("reveal_sheet", "sheets", "revealSheet", *args)

    def pay_judges(self, batch: int) -> Sent:
        """Pay the sheets of a settled batch that agree with their median."""
        panel = self.panel(batch)
        found = {one.seat: one.sheet for one in self.revealed_sheets(batch)}
        sheets: Sequence[bytes] = [found.get(seat, b"") for seat in range(panel.seats)]
        return self._send("pay_judges", "sheets", "pay", uint(batch, 64, "batch"), sheets)

    def release_sheets(self, batch: int) -> Sent:
        """Put back what was kept for a batch that ended without verdicts."""
        return self._send("release_sheets", "sheets", "release", uint(batch, 64, "batch"))

    def withdraw_judging(self, to: str | None = None) -> Sent:
        """Send what the signer earned by judging to `to` (the signer itself)."""
        return self._send("withdraw_judging", "sheets", "withdraw", to or self.address)

    def plant_gold(self, commitment: bytes) -> Sent:
        """commitment: protocol.sheets.gold_commitment()."""
        return self._send("plant_gold", "sheets", "plantGold", bytes32(commitment, "commitment"))

    def open_gold(self, batch: int, sheet: bytes, salt: bytes) -> Sent:
        args = (uint(batch, 64, "batch"), sheet, bytes32(salt, "salt"))
        return self._send("open_gold", "sheets", "openGold", *args)
