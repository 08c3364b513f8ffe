"""MarketClient: every call that changes a market, signed with one key.

Each method sends one transaction (two where an approval is needed first), waits for its receipt
and returns a Sent. All can raise what sending.Sender raises: ContractError, InsufficientFunds,
TransactionTimeout and other ChainErrors; InvalidValue for arguments that no contract takes.
Amounts are token base units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from eth_utils.address import to_checksum_address

from marketplace.chain.blocks import Sent
from marketplace.chain.paying import Payment
from marketplace.chain.records import (
    Batch,
    Bounty,
    BountyTerms,
    Checkpoint,
    CheckpointShares,
    Collection,
    ContentAddress,
    ContentId,
    Dispute,
)
from marketplace.chain.sheet_calls import SheetSigner
from marketplace.protocol.beacons import signature_halves
from marketplace.protocol.disputes import Children, Claim, LeafVerdict, Opened, node_tuple
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import ZERO32, address20, bytes32, uint
from marketplace.protocol.shares import derive_shares, encode_shares
from marketplace.protocol.verdict import Attestation, SumNode

__all__ = ["Commit", "MarketClient", "Payment", "Reveal"]


@dataclass(frozen=True, slots=True)
class Commit:
    """One commitment: protocol.commitments.commitment()."""

    round: int
    seat: int
    commitment: bytes


@dataclass(frozen=True, slots=True)
class Reveal:
    """What opens one commitment. verdicts: CID of the verdict file."""

    round: int
    seat: int
    attestation: Attestation
    salt: bytes
    verdicts: ContentAddress


class MarketClient(SheetSigner):
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
        sent = self._pay("create_bounty", "escrow", "create", (terms.fields,), amount, payment)
        return sent.event("BountyCreated").args["bounty"], sent

    def fund_bounty(self, bounty: Bounty, amount: int, *, payment: Payment | None = None) -> Sent:
        """Pay more into a bounty; anybody may. bounty: as it was read: ContractError where its
        number has become another one's."""
        fields = (uint(bounty.id, 64, "bounty"), bounty.identity)
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
        sent = self._send_bonded("commit_batch", bond, payment, "market", "commitBatch", *args)
        return sent.event("BatchCommitted").args["batch"], sent

    # --- everybody: each state has a call that moves it on -----------------------------

    def draw(self, round: int) -> Sent:
        """Make every due draw up to that of a round, in order.

        A draw whose randomness was missed, or that finds too few verifiers, is scheduled again
        instead: Sent.drew(round) tells which it was.
        """
        return self._send("draw", "rounds", "draw", uint(round, 64, "round"))

    def tally(self, batch: int, leader: Attestation | None = None) -> Sent:
        """Count a batch's closed round. leader: the attestation with most votes; None looks it
        up."""
        ident = uint(batch, 64, "batch")
        if leader is None:
            leader = self.leading_attestation(self.batch(batch).round)
        return self._send("tally", "market", "tally", ident, _attested(leader))

    def void_stalled(self, batch: int) -> Sent:
        """Make a batch void whose committee could not be drawn in time."""
        return self._send("void_stalled", "market", "voidStalled", uint(batch, 64, "batch"))

    def settle(self, batch: int) -> Sent:
        """Pay a batch after its challenge window."""
        return self._send("settle", "market", "settle", uint(batch, 64, "batch"))

    def deliver_beacon(self, round: int, signature: bytes) -> Sent:
        """Bring a drand beacon on chain, in a market that draws from one.

        signature: the 64 bytes that the network published for the round.
        """
        halves = list(signature_halves(signature))
        ident = uint(round, 64, "round")
        return self._send("deliver_beacon", "randomness", "deliver", ident, halves)

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
        one = _commit(Commit(round, seat, commitment))
        return self._send("commit_verdict", "rounds", "commitVerdict", *one)

    def commit_verdicts(self, commits: Sequence[Commit]) -> Sent:
        """Several commitments of the signer in one transaction; all of them, or none."""
        return self._send_all("commit_verdicts", "commitVerdict", map(_commit, commits))

    def reveal_verdict(
        self,
        round: int,
        seat: int,
        attestation: Attestation,
        salt: bytes,
        verdicts: ContentAddress,
    ) -> Sent:
        """Open a commitment. verdicts: CID of the verdict file."""
        one = _reveal(Reveal(round, seat, attestation, salt, verdicts))
        return self._send("reveal_verdict", "rounds", "revealVerdict", *one)

    def reveal_verdicts(self, reveals: Sequence[Reveal]) -> Sent:
        """Open several commitments of the signer in one transaction; all of them, or none."""
        return self._send_all("reveal_verdicts", "revealVerdict", map(_reveal, reveals))

    def send_rounds(self, action: str, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> Sent:
        """Calls of the rounds contract, (function, arguments) each, in one transaction; all of
        them, or none."""
        return self._send_many(action, "rounds", calls)

    def _send_many(
        self, action: str, contract: str, calls: Sequence[tuple[str, tuple[Any, ...]]]
    ) -> Sent:
        if len(calls) == 1:
            function, args = calls[0]
            return self._send(action, contract, function, *args)
        encoded = [self._encoded(contract, function, args) for function, args in calls]
        if not encoded:
            raise InvalidValue(f"there is nothing to send for {action}")
        return self._send(action, contract, "multicall", encoded)

    def _send_all(
        self,
        action: str,
        function: str,
        calls: Iterable[tuple[Any, ...]],
        *,
        contract: str = "rounds",
    ) -> Sent:
        return self._send_many(action, contract, [(function, call) for call in calls])

    # --- disputes --------------------------------------------------------------------

    def dispute_leaf(
        self,
        batch: int,
        verdict: LeafVerdict,
        verdict_proof: Sequence[SumNode],
        line_hash: bytes,
        trace_proof: Sequence[bytes],
        *,
        payment: Payment | None = None,
    ) -> tuple[int, Sent]:
        """Dispute one attested verdict of a batch, with a bond (see dispute_bond).

        verdict, verdict_proof: the attested one in the attested tree. line_hash, trace_proof:
        keccak256 of the trace's line, and its proof in the batch's tree. Returns the dispute.
        """
        return self._dispute(
            "dispute_leaf",
            "disputeLeaf",
            batch,
            payment,
            verdict.as_tuple(),
            [node_tuple(node) for node in verdict_proof],
            bytes32(line_hash, "line hash"),
            [bytes32(node, "trace proof") for node in trace_proof],
        )

    def dispute_outcome(self, batch: Batch, *, payment: Payment | None = None) -> tuple[int, Sent]:
        """Dispute "malformed" or "unavailable", with a bond. batch: as it was read:
        ContractError where its number or its attestation has become another one. Returns the
        dispute."""
        name = "disputeOutcome"
        return self._dispute("dispute_outcome", name, batch.id, payment, batch.identity)

    def demand_opening(self, batch: Batch, *, payment: Payment | None = None) -> tuple[int, Sent]:
        """Demand, with a bond, that a withheld verdict tree be opened to a verdict of the
        signer's choice. batch: as for dispute_outcome. Returns the dispute."""
        name = "demandOpening"
        return self._dispute("demand_opening", name, batch.id, payment, batch.identity)

    def _dispute(
        self, action: str, function: str, batch: int, payment: Payment | None, *args: Any
    ) -> tuple[int, Sent]:
        ident = uint(batch, 64, "batch")
        bond = self.dispute_bond(ident)
        sent = self._send_bonded(action, bond, payment, "court", function, ident, *args)
        return sent.event("DisputeOpened").args["dispute"], sent

    def answer(self, dispute: int, children: Children) -> Sent:
        """Open the node that is asked for to its children; anybody may."""
        ident = uint(dispute, 64, "dispute")
        return self._send("answer", "openings", "answer", ident, children.as_tuple())

    def answer_verdict(self, dispute: int, batch: int, verdict: LeafVerdict) -> Sent:
        """Open the node that is asked for to its verdict. batch: the one that its leaf names."""
        args = (uint(dispute, 64, "dispute"), uint(batch, 64, "batch"), verdict.as_tuple())
        return self._send("answer_verdict", "openings", "answerVerdict", *args)

    def ask(self, dispute: int, right: bool) -> Sent:
        """Go on to the left or the right child; only the challenger."""
        return self._send("ask", "openings", "ask", uint(dispute, 64, "dispute"), bool(right))

    def conclude_opening(self, dispute: int) -> Sent:
        """End an opening: its verdict goes to a jury, or the side that did not move loses."""
        ident = uint(dispute, 64, "dispute")
        return self._send("conclude_opening", "court", "concludeOpening", ident)

    def prove_fault(self, batch: int, opened: Opened) -> Sent:
        """Show that an attested tree can't be an honest one; it falls at once. See
        protocol.disputes.find_fault."""
        args = (uint(batch, 64, "batch"), opened.as_tuple())
        return self._send("prove_fault", "court", "proveFault", *args)

    def narrow(self, batch: int, leader: Claim, rival: Claim) -> tuple[int, Sent]:
        """Narrow a round without a quorum to the first verdict on which its leading vote and
        another one differ. Returns the dispute."""
        args = (uint(batch, 64, "batch"), leader.as_tuple(), rival.as_tuple())
        sent = self._send("narrow", "court", "narrow", *args)
        return sent.event("DisputeOpened").args["dispute"], sent

    def tally_jury(self, dispute: int, leader: Attestation | None = None) -> Sent:
        """Count a jury that is closed or stalled. leader: the leading vote; None looks it up."""
        ident = uint(dispute, 64, "dispute")
        if leader is None and (jury := self.dispute(ident).jury) is not None:
            leader = self.leading_attestation(jury)
        return self._send("tally_jury", "court", "tallyJury", ident, _attested(leader))

    def appeal(self, dispute: Dispute, batch: Batch, *, payment: Payment | None = None) -> Sent:
        """Appeal a decision with twice the bond before it (see appeal_bond). dispute, batch: the
        disputed one, both as they were read: ContractError where the number has become another
        one's, or the decision another one."""
        ident = uint(dispute.id, 64, "dispute")
        bond = self.appeal_bond(ident)
        args = (ident, dispute.decision(batch))
        return self._send_bonded("appeal", bond, payment, "court", "appeal", *args)

    def close_dispute(self, dispute: int) -> Sent:
        """End a decided dispute: its decision is carried out and everybody paid."""
        return self._send("close_dispute", "court", "close", uint(dispute, 64, "dispute"))

    # --- planted batches -------------------------------------------------------------

    def plant_audit(self, root: bytes) -> Sent:
        """Commit to plantings. root: of a protocol.disputes.PlantingTree."""
        return self._send("plant_audit", "audits", "plant", bytes32(root, "root"))

    def open_audit(
        self,
        batch: int,
        *,
        planted: LeafVerdict,
        salt: bytes,
        root: bytes,
        proof: Sequence[bytes],
        attested: LeafVerdict,
        attested_proof: Sequence[SumNode],
    ) -> tuple[bool, Sent]:
        """Show that an attested batch was planted. planted, salt, root, proof: the planting.
        attested, attested_proof: the committee's verdict of the trap. Returns whether the
        committee missed it."""
        sent = self._send(
            "open_audit",
            "audits",
            "open",
            uint(batch, 64, "batch"),
            planted.as_tuple(),
            bytes32(salt, "salt"),
            bytes32(root, "root"),
            [bytes32(node, "planting proof") for node in proof],
            attested.as_tuple(),
            [node_tuple(node) for node in attested_proof],
        )
        return bool(sent.event("AuditOpened").args["missed"]), sent

    # --- trainers ----------------------------------------------------------------------

    def register_checkpoint(
        self,
        parent: Checkpoint | None,
        content: ContentAddress,
        dataset_root: bytes,
        shares: CheckpointShares | None = None,
    ) -> tuple[int, Sent]:
        """parent: as it was read, None for a base model: ContractError where its number has become
        another one's. shares: who gets the royalties; None for the signer alone. Returns the new
        id."""
        chosen = shares or sole_shares(self.address)
        sent = self._send(
            "register_checkpoint",
            "checkpoints",
            "register",
            uint(parent.id if parent else 0, 64, "parent"),
            bytes32(parent.identity if parent else ZERO32, "parent's identity"),
            _content(content),
            bytes32(dataset_root, "dataset root"),
            (
                bytes32(chosen.root, "root of shares"),
                uint(chosen.holders, 32, "holders"),
                uint(chosen.pass_on_ppm, 32, "pass_on_ppm"),
                _content(chosen.list),
            ),
        )
        return sent.event("CheckpointRegistered").args["checkpoint"], sent

    # --- royalties -------------------------------------------------------------------

    def pay_royalty(
        self, checkpoint: Checkpoint, amount: int, *, payment: Payment | None = None
    ) -> Sent:
        """Pay for the use of a checkpoint; anybody may. checkpoint: as it was read: ContractError
        where its number has become another one's, or its lineage has changed."""
        fields = (uint(checkpoint.id, 64, "checkpoint"), bytes32(checkpoint.identity, "identity"))
        return self._pay("pay_royalty", "royalties", "pay", fields, amount, payment)

    def collect_royalties(self, collections: Sequence[Collection]) -> Sent:
        """Move what shares have earned into the ledger balances of their accounts, all in one
        transaction; all of them, or none."""
        calls = map(_collection, collections)
        return self._send_all("collect_royalties", "collect", calls, contract="royalties")

    def pass_on_royalties(self, checkpoints: Sequence[int]) -> Sent:
        """Move what is due to the parents' royalties, in the order given."""
        calls = ((uint(one, 64, "checkpoint"),) for one in checkpoints)
        return self._send_all("pass_on_royalties", "passOn", calls, contract="royalties")


def sole_shares(owner: str) -> CheckpointShares:
    """All shares for one account, with nothing passed on. Nobody needs the list's file: it
    follows from the account."""
    only = derive_shares(owner, ())
    digest = sha256(encode_shares(only)).digest()
    return CheckpointShares(only.root, 1, 0, ContentId(digest, 0x55))


def _attested(leader: Attestation | None) -> tuple[bytes, int, int]:
    return (leader.root, leader.units, leader.faults) if leader else (ZERO32, 0, 0)


def _commit(one: Commit) -> tuple[Any, ...]:
    return (
        uint(one.round, 64, "round"),
        uint(one.seat, 8, "seat"),
        bytes32(one.commitment, "commitment"),
    )


def _reveal(one: Reveal) -> tuple[Any, ...]:
    return (
        uint(one.round, 64, "round"),
        uint(one.seat, 8, "seat"),
        _attested(one.attestation),
        bytes32(one.salt, "salt"),
        _content(one.verdicts),
    )


def _collection(one: Collection) -> tuple[Any, ...]:
    return (
        uint(one.checkpoint, 64, "checkpoint"),
        uint(one.index, 256, "index"),
        to_checksum_address(address20(one.account, "account")),
        uint(one.share, 32, "share"),
        [node_tuple(node) for node in one.proof],
    )


def _content(content: ContentAddress) -> tuple[bytes, int]:
    return bytes32(content.digest, "content digest"), uint(content.codec, 8, "content codec")
