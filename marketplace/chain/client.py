"""MarketClient: every call that changes a market, signed with one key.

Each method sends one transaction (two where an approval is needed first), waits for its receipt
and returns a Sent. All can raise what sending.Sender raises: ContractError, InsufficientFunds,
TransactionTimeout and other ChainErrors; InvalidValue for arguments that no contract takes.
Amounts are token base units.
"""

from __future__ import annotations

from typing import Final

from marketplace.chain.paying import Payment, SigningClient
from marketplace.chain.records import BountyTerms, ContentAddress, Sent
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.hashing import ZERO32, bytes32, uint
from marketplace.protocol.verdict import Attestation

__all__ = ["MarketClient", "Payment"]

_ZERO_ADDRESS: Final = "0x" + "00" * 20


class MarketClient(SigningClient):
    """Reads and writes of one deployment with one key; made as a SigningClient is."""

    # --- money -----------------------------------------------------------------------

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


def _content(content: ContentAddress) -> tuple[bytes, int]:
    return bytes32(content.digest, "content digest"), uint(content.codec, 8, "content codec")
