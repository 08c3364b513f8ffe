"""One transaction: estimate, sign here, send, wait for its receipt, decode what went wrong.

Nothing that may have reached the network is ever sent a second time. A transaction that the
node rejected because of its nonce never did: that one is signed again with the next nonce.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import TransactionIndexingInProgress, TransactionNotFound

from marketplace.chain.amounts import format_amount
from marketplace.chain.errors import ContractError, NodeRefused, NodeUnreachable
from marketplace.chain.records import Token
from marketplace.chain.rpc import node_errors
from marketplace.protocol.errors import (
    ChainError,
    InsufficientFunds,
    Reverted,
    TransactionTimeout,
)

log = logging.getLogger(__name__)

GasHook = Callable[[str, int], None]
"""Called with the name of the action and the gas used, for every transaction that succeeded."""

_GAS_MARGIN: Final = 1.25  # the state can change between the estimate and the block
_NONCE_ATTEMPTS: Final = 5
_FIRST_POLL_SECONDS: Final = 0.01
_NONCE_TAKEN: Final = ("nonce too low", "replacement transaction underpriced", "nonce is too low")
_CALL_FIELDS: Final = ("from", "to", "data", "value")
_KNOWN: Final = ("already known", "already imported", "known transaction")


@dataclass(slots=True)
class Lane:
    """What all senders of one key on one node share.

    nonces: held from reading the nonce to handing the transaction over. spending: held by who
    tops up an allowance until it is used. in_flight: nonces sent and not yet seen mined.
    """

    nonces: threading.Lock = field(default_factory=threading.Lock)
    spending: threading.RLock = field(default_factory=threading.RLock)
    in_flight: set[int] = field(default_factory=set)


_lanes: dict[tuple[str, int, str], Lane] = {}
_lanes_lock = threading.Lock()


def lane_of(w3: Web3, chain_id: int, address: str) -> Lane:
    node = str(getattr(w3.provider, "endpoint_uri", id(w3.provider)))
    with _lanes_lock:
        return _lanes.setdefault((node, chain_id, address), Lane())


class Sender:
    """Sends the transactions of one key; safe to use from several threads.

    confirmations: blocks on top of the transaction's own before it counts. timeout: seconds to
    wait for that. poll: most seconds between two looks. token: for amounts in messages.
    """

    def __init__(
        self,
        w3: Web3,
        account: LocalAccount,
        chain_id: int,
        *,
        token: Token | None = None,
        confirmations: int = 0,
        timeout: float = 120.0,
        poll: float = 1.0,
        on_gas: GasHook | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = str(account.address)
        self.lane = lane_of(w3, chain_id, self.address)
        self._w3 = w3
        self._account = account
        self._chain_id = chain_id
        self._token = token
        self._confirmations = confirmations
        self._timeout = timeout
        self._poll = poll
        self._on_gas = on_gas
        self._clock = clock
        self._sleep = sleep

    def send(
        self, action: str, to: str | None, data: bytes | str, *, spare_gas: int = 0
    ) -> Mapping[str, Any]:
        """The receipt (as web3 gives it) of a call, or of a creation where `to` is None.

        spare_gas: on top of the estimate, for what only the next block makes due.

        Raises ContractError and Reverted (before sending where the node can tell),
        InsufficientFunds, TransactionTimeout (names the hash), ChainError.
        """
        call: dict[str, Any] = {"from": self.address, "data": data, "value": 0}
        if to is not None:
            call["to"] = to
        with node_errors(self._w3, self._token):
            estimate = self._w3.eth.estimate_gas(call, "latest")  # type: ignore[arg-type]
            head = self._w3.eth.get_block("latest")
            fees = self._fees(head.get("baseFeePerGas"))
            balance = self._w3.eth.get_balance(self._account.address)
        gas = min(int(estimate * _GAS_MARGIN) + spare_gas, int(head["gasLimit"]))
        worst = gas * int(fees.get("maxFeePerGas", fees.get("gasPrice", 0)))
        if balance < worst:
            raise self._no_gas_money(balance, worst)

        transaction = {**call, **fees, "gas": gas, "chainId": self._chain_id}
        nonce, tx_hash = self._hand_over(action, transaction)
        try:
            receipt = self._wait(action, tx_hash)
        finally:
            self.lane.in_flight.discard(nonce)
        if receipt["status"] != 1:
            raise self._why(action, transaction, receipt)
        log.info("transaction_mined action=%s tx=0x%s", action, tx_hash.hex())
        if self._on_gas is not None:
            self._on_gas(action, int(receipt["gasUsed"]))
        return receipt

    def next_nonce(self) -> int:
        """The nonce of the next transaction, counting those that wait to be mined."""
        with node_errors(self._w3):
            pending = self._w3.eth.get_transaction_count(self._account.address, "pending")
        return max([pending, *(nonce + 1 for nonce in self.lane.in_flight)])

    def unmined(self) -> int:
        """Transactions of the key that the node has and no block: also those of other processes."""
        with node_errors(self._w3):
            counts = [
                self._w3.eth.get_transaction_count(self._account.address, block)
                for block in ("latest", "pending")
            ]
        return max(0, counts[1] - counts[0])

    # --- parts -----------------------------------------------------------------------

    def _fees(self, base: int | None) -> dict[str, int]:
        """EIP-1559 fields: room for the base fee to double. gasPrice where the chain has none."""
        if base is None:
            return {"gasPrice": int(self._w3.eth.gas_price)}
        tip = int(self._w3.eth.max_priority_fee)
        return {"maxFeePerGas": 2 * int(base) + tip, "maxPriorityFeePerGas": tip}

    def _hand_over(self, action: str, transaction: Mapping[str, Any]) -> tuple[int, bytes]:
        """Sign with the next nonce and give the transaction to the node."""
        with self.lane.nonces:
            for attempt in range(1, _NONCE_ATTEMPTS + 1):
                nonce = self.next_nonce()
                fields = {name: value for name, value in transaction.items() if name != "from"}
                signed = self._account.sign_transaction({**fields, "nonce": nonce})
                tx_hash = bytes(signed.hash)
                try:
                    with node_errors(self._w3, self._token):
                        self._w3.eth.send_raw_transaction(signed.raw_transaction)
                except NodeRefused as error:
                    said = error.message.lower()
                    if any(words in said for words in _NONCE_TAKEN) and attempt < _NONCE_ATTEMPTS:
                        if self._known(tx_hash):
                            break
                        continue
                    if "insufficient funds" in said:
                        raise InsufficientFunds(
                            f"{self.address} can't pay for the gas of {action}",
                            fix="send it some of the chain's own coin",
                        ) from None
                    if not any(words in said for words in _KNOWN):
                        raise
                except NodeUnreachable:
                    # It may have arrived: only its receipt can tell.
                    log.warning("send_unanswered action=%s tx=0x%s", action, tx_hash.hex())
                break
            self.lane.in_flight.add(nonce)
            return nonce, tx_hash

    def _known(self, tx_hash: bytes) -> bool:
        try:
            with node_errors(self._w3):
                try:
                    self._w3.eth.get_transaction(tx_hash)  # type: ignore[arg-type]
                except TransactionNotFound:
                    return False
        except NodeUnreachable:
            return False
        return True

    def _wait(self, action: str, tx_hash: bytes) -> Mapping[str, Any]:
        deadline = self._clock() + self._timeout
        pause = _FIRST_POLL_SECONDS
        while True:
            receipt = self._confirmed(tx_hash)
            if receipt is not None:
                return receipt
            left = deadline - self._clock()
            if left <= 0:
                raise TransactionTimeout(
                    f"transaction 0x{tx_hash.hex()} ({action}) was not confirmed within "
                    f"{self._timeout:g} s",
                    fix="it may still be mined: look it up before you repeat the action",
                )
            self._sleep(min(pause, left))
            pause = min(pause * 1.5, self._poll)

    def _confirmed(self, tx_hash: bytes) -> Mapping[str, Any] | None:
        try:
            with node_errors(self._w3):
                try:
                    receipt = self._w3.eth.get_transaction_receipt(tx_hash)  # type: ignore[arg-type]
                except (TransactionNotFound, TransactionIndexingInProgress):
                    return None
                if receipt is None or receipt["blockNumber"] is None:
                    return None
                if self._confirmations:
                    on_top = self._w3.eth.block_number - receipt["blockNumber"]
                    if on_top < self._confirmations:
                        return None
        except (NodeRefused, NodeUnreachable):
            return None  # the next look may work; the timeout bounds them
        return receipt

    def _why(
        self, action: str, transaction: Mapping[str, Any], receipt: Mapping[str, Any]
    ) -> ChainError:
        """The reason of a transaction that was mined and failed: run it again as a call."""
        which = f"transaction 0x{bytes(receipt['transactionHash']).hex()} ({action})"
        if receipt["gasUsed"] >= transaction["gas"] * 63 // 64:
            return Reverted(f"{which} ran out of gas", fix="try again")
        call = {name: transaction[name] for name in _CALL_FIELDS if name in transaction}
        for block in (receipt["blockNumber"], receipt["blockNumber"] - 1):
            try:
                with node_errors(self._w3, self._token):
                    self._w3.eth.call(call, block)  # type: ignore[arg-type]
            except ContractError as error:
                message = f"{error.message} ({which})"
                return ContractError(message, fix=error.fix, name=error.name, values=error.values)
            except (Reverted, InsufficientFunds) as error:
                return type(error)(f"{error.message} ({which})", fix=error.fix)
            except ChainError:
                continue
        return Reverted(f"{which} failed when it was mined", fix="read the state and try again")

    def _no_gas_money(self, balance: int, needed: int) -> InsufficientFunds:
        return InsufficientFunds(
            f"{self.address} has {format_amount(balance, 18)} of the chain's own coin, "
            f"this transaction may cost {format_amount(needed, 18)}",
            fix=f"send some to {self.address}",
        )
