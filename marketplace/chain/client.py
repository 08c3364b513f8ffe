"""MarketClient: every call that changes a market, signed with one key.

Each method sends one transaction (two where an approval is needed first), waits for its receipt
and returns a Sent. All can raise what sending.Sender raises: ContractError, InsufficientFunds,
TransactionTimeout and other ChainErrors; InvalidValue for arguments that no contract takes.
Amounts are token base units.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from web3 import Web3

from marketplace.chain.deployment import Deployment
from marketplace.chain.permits import sign_permit
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import BountyTerms, ContentAddress, Sent
from marketplace.chain.sending import GasHook, Sender
from marketplace.protocol.errors import ConfigError, InsufficientFunds
from marketplace.protocol.hashing import ZERO32, address20, bytes32, uint
from marketplace.protocol.verdict import Attestation

_ZERO_ADDRESS: Final = "0x" + "00" * 20
_PERMIT_SECONDS: Final = 3600


class Payment(StrEnum):
    """How the ledger gets the tokens that the payer's ledger balance does not cover."""

    PERMIT = "permit"
    """a signature inside the same transaction (EIP-2612)"""
    APPROVE = "approve"
    """an approval of exactly what is missing, as a transaction of its own"""
    ALLOWANCE = "allowance"
    """what was approved before; nothing is approved now"""


class MarketClient(MarketReader):
    """Reads and writes of one deployment with one key.

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

    # --- money -----------------------------------------------------------------------

    def approve(self, amount: int) -> Sent:
        """Let the ledger take up to `amount` of the signer's tokens."""
        spender = self.deployment.address("ledger")
        return self._send("approve", "token", "approve", spender, uint(amount, 256, "amount"))

    def deposit(self, amount: int, *, payment: Payment | None = None) -> Sent:
        """Move tokens into the signer's ledger balance."""
        return self._pay("deposit", "ledger", "deposit", (), amount, payment, use_balance=False)

    def withdraw(self, amount: int | None = None, *, to: str | None = None) -> Sent:
        """Send from the signer's ledger balance to `to` (the signer itself); None for all of it."""
        everything = self.balance(self.address) if amount is None else uint(amount, 256, "amount")
        return self._send("withdraw", "ledger", "withdraw", to or self.address, everything)

    def mint_test_tokens(self, to: str, amount: int) -> Sent:
        """Make test stablecoins for anybody; only TestStablecoin on local chains has this."""
        return self._send("mint", "token", "mint", to, uint(amount, 256, "amount"))

    # --- posters -----------------------------------------------------------------------

    def register_environment(self, environment: bytes) -> Sent:
        """environment: sha2-256 digest of the spec file."""
        env = bytes32(environment, "environment")
        return self._send("register_environment", "environments", "register", env)

    def create_bounty(
        self, terms: BountyTerms, amount: int, *, payment: Payment | None = None
    ) -> tuple[int, Sent]:
        """Open a bounty with `amount` in it. payment: None for a permit where the token knows
        them, else an approval. Returns its id."""
        fields = (
            terms.environment,
            terms.trainer or _ZERO_ADDRESS,
            terms.deadline,
            terms.group_size,
            int(terms.tier),
            int(terms.pay_rule),
            terms.price_per_unit,
            terms.fee_per_trace,
        )
        sent = self._pay("create_bounty", "escrow", "create", (fields,), amount, payment)
        return sent.event("BountyCreated").args["bounty"], sent

    def fund_bounty(self, bounty: int, amount: int, *, payment: Payment | None = None) -> Sent:
        """Pay more into a bounty; anybody may."""
        fields = (uint(bounty, 64, "bounty"),)
        return self._pay("fund_bounty", "escrow", "fund", fields, amount, payment)

    def refund_bounty(self, bounty: int) -> Sent:
        """After the deadline: move what is free into the poster's ledger balance."""
        return self._send("refund_bounty", "escrow", "refund", uint(bounty, 64, "bounty"))

    # --- miners ------------------------------------------------------------------------

    def request_assignment(self, bounty: int) -> Sent:
        """Enrol in a bounty."""
        ident = uint(bounty, 64, "bounty")
        return self._send("request_assignment", "assignments", "request", ident)

    def open_assignment(self, bounty: int, miner: str | None = None) -> Sent:
        """Fix the seed of a miner (the signer), or schedule it again where it was missed."""
        ident = uint(bounty, 64, "bounty")
        return self._send("open_assignment", "assignments", "open", ident, miner or self.address)

    def commit_batch(
        self,
        bounty: int,
        *,
        root: bytes,
        traces: int,
        first_task: int,
        seed: bytes,
        content: ContentAddress,
        payment: Payment | None = None,
    ) -> tuple[int, Sent]:
        """Commit a batch and pay its bond (ledger balance first, then an approval).

        root: Merkle root of the trace leaves. first_task, seed: of the assignment that the traces
        answer. content: CID of the batch file; publish it only after this. Returns its id.
        """
        args = (
            uint(bounty, 64, "bounty"),
            bytes32(root, "root"),
            uint(traces, 32, "traces"),
            uint(first_task, 64, "first task"),
            bytes32(seed, "seed"),
            _content(content),
        )
        bond = self.bond_for(bounty, traces)
        chosen = payment or Payment.APPROVE
        if chosen is Payment.PERMIT:
            raise ConfigError("a bond can't be paid with a permit", fix="deposit first, or approve")
        _, sender = self._with_key()
        with sender.lane.spending:
            self._cover("commit_batch", bond, chosen, use_balance=True)
            sent = self._send("commit_batch", "market", "commitBatch", *args)
        return sent.event("BatchCommitted").args["batch"], sent

    # --- everybody: each state has a call that moves it on -----------------------------

    def draw(self, round: int) -> Sent:
        """Draw a round's committee, or schedule the draw again where it was missed."""
        return self._send("draw", "rounds", "draw", uint(round, 64, "round"))

    def tally(self, batch: int, leader: Attestation | None = None) -> Sent:
        """Count a batch's closed round. leader: the attestation with most votes; None looks it
        up."""
        ident = uint(batch, 64, "batch")
        if leader is None:
            leader = self.leading_attestation(self.batch(batch).round)
        fields = (leader.root, leader.units, leader.faults) if leader else (ZERO32, 0, 0)
        return self._send("tally", "market", "tally", ident, fields)

    def void_stalled(self, batch: int) -> Sent:
        """Make a batch void whose committee could not be drawn in time."""
        return self._send("void_stalled", "market", "voidStalled", uint(batch, 64, "batch"))

    def settle(self, batch: int) -> Sent:
        """Pay a batch after its challenge window."""
        return self._send("settle", "market", "settle", uint(batch, 64, "batch"))

    # --- verifiers ---------------------------------------------------------------------

    def stake(self, amount: int, *, payment: Payment | None = None) -> Sent:
        """Add stake of the signer."""
        return self._pay("stake", "stake", "stake", (), amount, payment)

    def request_unstake(self, amount: int) -> Sent:
        """Take stake out of the lot; it can be claimed after the unbonding delay."""
        units = uint(amount, 256, "amount")
        return self._send("request_unstake", "stake", "requestUnstake", units)

    def claim_stake(self, verifier: str | None = None) -> Sent:
        """Move unbonded stake of a verifier (the signer) into its ledger balance."""
        return self._send("claim_stake", "stake", "claim", verifier or self.address)

    def commit_verdict(self, round: int, seat: int, commitment: bytes) -> Sent:
        """commitment: protocol.commitments.commitment()."""
        hidden = bytes32(commitment, "commitment")
        place = (uint(round, 64, "round"), uint(seat, 8, "seat"))
        return self._send("commit_verdict", "rounds", "commitVerdict", *place, hidden)

    def reveal_verdict(
        self,
        round: int,
        seat: int,
        attestation: Attestation,
        salt: bytes,
        verdicts: ContentAddress,
    ) -> Sent:
        """Open a commitment. verdicts: CID of the verdict file."""
        return self._send(
            "reveal_verdict",
            "rounds",
            "revealVerdict",
            uint(round, 64, "round"),
            uint(seat, 8, "seat"),
            (attestation.root, attestation.units, attestation.faults),
            bytes32(salt, "salt"),
            _content(verdicts),
        )

    # --- trainers ----------------------------------------------------------------------

    def register_checkpoint(
        self, parent: int, content: ContentAddress, dataset_root: bytes
    ) -> tuple[int, Sent]:
        """parent: a checkpoint, 0 for a base model. Returns the new id."""
        sent = self._send(
            "register_checkpoint",
            "checkpoints",
            "register",
            uint(parent, 64, "parent"),
            _content(content),
            bytes32(dataset_root, "dataset root"),
        )
        return sent.event("CheckpointRegistered").args["checkpoint"], sent

    # --- parts -------------------------------------------------------------------------

    def _with_key(self) -> tuple[LocalAccount, Sender]:
        if self._signer is None or self._sender is None:
            raise ConfigError("this needs a key", fix="give a keystore file and its password")
        return self._signer, self._sender

    def _send(self, action: str, contract: str, function: str, *args: Any) -> Sent:
        _, sender = self._with_key()
        target = self._contracts[contract]
        args = tuple(_checked_address(arg) for arg in args)
        data = target.encode_abi(function, args=list(args))
        receipt = sender.send(action, str(target.address), data)
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


def _content(content: ContentAddress) -> tuple[bytes, int]:
    return bytes32(content.digest, "content digest"), uint(content.codec, 8, "content codec")


def _checked_address(value: Any) -> Any:
    """Addresses in any case become checksummed; anything else passes."""
    if isinstance(value, str):
        return Web3.to_checksum_address(address20(value, "address"))
    return value
