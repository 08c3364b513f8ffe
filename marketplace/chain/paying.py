"""Signing for one key: sending a call, and seeing to it that it can be paid."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from web3 import Web3

from marketplace.chain.blocks import Sent
from marketplace.chain.deployment import Deployment
from marketplace.chain.errors import ContractError
from marketplace.chain.permits import sign_permit
from marketplace.chain.reads import MarketReader
from marketplace.chain.sending import GasHook, Sender
from marketplace.protocol.errors import ConfigError, InsufficientFunds
from marketplace.protocol.hashing import address20, uint

log = logging.getLogger(__name__)

_PERMIT_SECONDS: Final = 3600
_MOST_DRAWS: Final = 64
_DRAW_GAS: Final = 3_000_000
_SETTLING: Final = frozenset(
    {
        ("stake", "stake"),
        ("stake", "stakeWithPermit"),
        ("stake", "requestUnstake"),
        ("market", "tally"),
        ("market", "voidStalled"),
        ("market", "settle"),
        ("court", "close"),
        ("court", "proveFault"),
    }
)
"""Calls that make the due draws before they change stake or seats. A draw can become due with the
very block that includes the call, when the gas was estimated without it."""


class Payment(StrEnum):
    """How the ledger gets the tokens that the payer's ledger balance does not cover."""

    PERMIT = "permit"
    """a signature inside the same transaction (EIP-2612)"""
    APPROVE = "approve"
    """an approval of exactly what is missing, as a transaction of its own"""
    ALLOWANCE = "allowance"
    """what was approved before; nothing is approved now"""


class SigningClient(MarketReader):
    """What all calls of MarketClient are made of.

    signer: None for reads only. confirmations: blocks on top before a transaction counts.
    timeout: seconds to wait for that. poll: most seconds between two looks. on_gas: called with
    the action and the gas of each transaction. clock, sleep: for the waiting.
    """

    def __init__(
        self,
        node: str | Web3,
        deployment: Deployment,
        signer: LocalAccount | None = None,
        *,
        confirmations: int = 0,
        timeout: float = 120.0,
        poll: float = 1.0,
        on_gas: GasHook | None = None,
        check: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(node, deployment, confirmations=confirmations, check=check)
        self._signer = signer
        self._sender: Sender | None = None
        if signer is not None:
            self._sender = Sender(
                self._w3,
                signer,
                deployment.chain_id,
                token=deployment.token,
                confirmations=confirmations,
                timeout=timeout,
                poll=poll,
                on_gas=on_gas,
                clock=clock,
                sleep=sleep,
            )

    @property
    def address(self) -> str:
        """The signer's address; ConfigError without a signer."""
        return self._with_key()[1].address

    def unmined(self) -> int:
        """Transactions of the signer that wait to be mined. Who was killed behind a send asks this
        before it sends again."""
        return self._with_key()[1].unmined()

    def approve(self, amount: int) -> Sent:
        """Let the ledger take up to `amount` of the signer's tokens."""
        spender = self.deployment.address("ledger")
        return self._send("approve", "token", "approve", spender, uint(amount, 256, "amount"))

    def draw_due(self, most: int = _MOST_DRAWS) -> Sent:
        """Make up to `most` due draws, in order; each is drawn, scheduled again or left out."""
        return self._send("draw_due", "rounds", "drawDue", uint(most, 256, "most"))

    # --- parts -------------------------------------------------------------------------

    def _with_key(self) -> tuple[LocalAccount, Sender]:
        if self._signer is None or self._sender is None:
            raise ConfigError("this needs a key", fix="give a keystore file and its password")
        return self._signer, self._sender

    def _send(self, action: str, contract: str, function: str, *args: Any) -> Sent:
        """Send a call. Where draws are due before it, they are made, and it is sent once more."""
        try:
            return self._send_once(action, contract, function, *args)
        except ContractError as error:
            if error.name != "Rounds_DrawDue" or not self._read("rounds", "drawDue", _MOST_DRAWS):
                raise
        log.info("draws_made_first action=%s", action)
        self._send_once("draw_due", "rounds", "drawDue", _MOST_DRAWS)
        return self._send_once(action, contract, function, *args)

    def _send_once(self, action: str, contract: str, function: str, *args: Any) -> Sent:
        _, sender = self._with_key()
        data = self._encoded(contract, function, map(_checked_address, args))
        waiting = (contract, function) in _SETTLING and self.next_draw() is not None
        spare_gas = _DRAW_GAS if waiting else 0
        receipt = sender.send(action, self._place(contract), data, spare_gas=spare_gas)
        decoded = (self._decoder.decode(entry) for entry in receipt["logs"])
        return Sent(
            tx_hash=bytes(receipt["transactionHash"]),
            block=int(receipt["blockNumber"]),
            gas_used=int(receipt["gasUsed"]),
            events=tuple(event for event in decoded if event is not None),
        )

    def _pay(
        self,
        action: str,
        contract: str,
        function: str,
        args: tuple[Any, ...],
        amount: int,
        payment: Payment | None,
        *,
        use_balance: bool = True,
    ) -> Sent:
        """Call a function that takes `amount`, or its WithPermit twin."""
        _, sender = self._with_key()
        units = uint(amount, 256, "amount")
        knows_permits = self.token.permit_version is not None
        chosen = payment or (Payment.PERMIT if knows_permits else Payment.APPROVE)
        with sender.lane.spending:
            permit = self._cover(action, units, chosen, use_balance=use_balance)
            if permit is None:
                return self._send(action, contract, function, *args, units)
            return self._send(action, contract, f"{function}WithPermit", *args, units, permit)

    def _send_bonded(
        self,
        action: str,
        bond: int,
        payment: Payment | None,
        contract: str,
        function: str,
        *args: Any,
    ) -> Sent:
        """Call a function that takes a bond: ledger balance first, then an approval."""
        chosen = payment or Payment.APPROVE
        if chosen is Payment.PERMIT:
            raise ConfigError("a bond can't be paid with a permit", fix="deposit first, or approve")
        _, sender = self._with_key()
        with sender.lane.spending:
            self._cover(action, bond, chosen, use_balance=True)
            return self._send(action, contract, function, *args)

    def _cover(
        self, action: str, amount: int, payment: Payment, *, use_balance: bool
    ) -> tuple[Any, ...] | None:
        """See to it that the ledger can take `amount`; a permit where one must go along."""
        signer, _ = self._with_key()
        have = self.balance(signer.address) if use_balance else 0
        missing = max(0, amount - have)
        tokens = self.token_balance(signer.address)
        if tokens < missing:
            raise InsufficientFunds(
                f"{signer.address} has {self.token.format(tokens)}"
                + (f" and {self.token.format(have)} in the ledger" if have else "")
                + f", {action} needs {self.token.format(amount)}",
                fix=f"get {self.token.format(missing - tokens)} more, or use a smaller amount",
            )
        if payment is Payment.ALLOWANCE or missing <= self.allowance(signer.address):
            return None
        if payment is Payment.APPROVE:
            if self.allowance(signer.address):
                self.approve(0)  # some tokens (USDT) refuse to change an allowance but from zero
            self.approve(missing)
            return None
        if self.token.permit_version is None:
            raise ConfigError(f"{self.token.symbol} knows no permits", fix="approve instead")
        return sign_permit(
            self._w3,
            signer,
            self.token,
            chain_id=self.deployment.chain_id,
            spender=self.deployment.address("ledger"),
            value=missing,
            deadline=self.head().timestamp + _PERMIT_SECONDS,
        )


def _checked_address(value: Any) -> Any:
    """Addresses in any case become checksummed; anything else passes."""
    if isinstance(value, str):
        return Web3.to_checksum_address(address20(value, "address"))
    return value
