"""The chain and the model side by side: every action goes to both, then everything is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from comparing import differences
from driven_chain import DrivenChain
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from reference import Block, Reference
from reference_court import Claim
from reference_money import Attestation, Terms, bounty_identity
from reference_trees import Node, Said, at, join, leaf, proof, split, tree

from marketplace.protocol.merkle import Tree, trace_leaf

SALT = b"\x5a" * 32
GOOD, WRONG, LIE, PARTIAL = (10**6, 1, 1, 0), (0, 2, 0, 0), (0, 16, 0, 1), (500_000, 3, 0, 0)
HONEST = (GOOD, WRONG, LIE, GOOD, WRONG, GOOD)


@dataclass(frozen=True)
class Forest:
    """What can be said of one batch: the honest verdicts first, then other ones, then trees that
    no honest member can have built."""

    count: int
    traces: Tree
    lines: tuple[bytes, ...]
    trees: tuple[Node, ...]

    def attested(self, attestation: Attestation | None) -> Node | None:
        return next((one for one in self.trees if one.attestation == attestation), None)


def trees_of(batch: int, count: int) -> tuple[Node, ...]:
    def leaves(**others: tuple[int, int, int, int]) -> list[Node]:
        said = [others.get(f"at{i}", one) for i, one in enumerate(HONEST[:count])]
        return [leaf(Said(batch, i, *one)) for i, one in enumerate(said)]

    honest = tree(leaves())
    doubled = leaves()
    doubled[1] = doubled[0]
    found = [
        honest,
        tree(leaves(at1=GOOD)),  # pays what is wrong
        tree(leaves(at0=WRONG)),  # pays too little
        tree(leaves(at0=LIE)),
        tree(leaves(at1=PARTIAL)),  # another score, the same pay
        tree(leaves(at1=LIE)),
        honest.claiming(honest.units + 1, honest.faults),  # a sum at the root
        tree(doubled),  # one verdict twice
        tree(leaves(at0=(2 * 10**6, 1, 1, 0))),  # no such score
        leaf(Said(batch, 0, *GOOD)),  # a verdict in the place of a tree
    ]
    if count > 2:
        at_ = split(count)
        left, right = tree(leaves()[:at_]), tree(leaves()[at_:])
        found.append(join(left, right.claiming(right.units, right.faults + 1)))
    return tuple(found)


def _hash_of(named: tuple[Any, ...] | None) -> bytes:
    """What a bond names (ICourt), of Court.attested or Court.decided; zeros for None."""
    if named is None:
        return bytes(32)
    if len(named) == 3:
        root, count, said = named
        types = ["bytes32", "uint32", "bytes32", "uint32", "uint32"]
        return keccak(encode(types, [root, count, *(said or (bytes(32), 0, 0))]))
    types = ["bytes32", "uint32", "uint8", "uint32", "bytes32", "bytes32", "uint8", "uint8"]
    words = [bytes(32) if one is None else getattr(one, "vote", one) for one in named]
    return keccak(encode([*types, "bytes32"], words))


class Twins:
    """act() sends one transaction, applies the same step to the model, and compares.

    journal: what was done, for the message of a failure. seen: how often each action happened
    or was refused, over all examples.
    """

    def __init__(self, chain: DrivenChain, accounts: Sequence[str]) -> None:
        self.chain = chain
        self.accounts = accounts
        self.seen: Counter[str] = Counter()
        self.forests: dict[int, Forest] = {}
        self.journal: list[str] = []
        deployment = chain.deployment
        self.model = Reference(
            deployment.parameters,
            deployment.randomness_delay,
            deployment.chain_id,
            {short: address.lower() for short, address in chain.addresses.items()},
            chain.blockhash,
        )
        self.rules = self.model.rules

    # --- keeping and going back ------------------------------------------------------

    def keep(self) -> None:
        self._kept = (self.chain.snapshot(), self.model.saved(), dict(self.forests))

    def go_back(self) -> None:
        snapshot, saved, forests = self._kept
        self.chain.revert(snapshot)
        self.model.restore(saved)
        self.model.now = Block(self.chain.number, self.chain.time)
        self.forests, self.journal = dict(forests), []
        self._kept = (self.chain.snapshot(), saved, forests)

    # --- one step --------------------------------------------------------------------

    def act(
        self,
        who: str,
        contract: str,
        function: str,
        arguments: Sequence[Any],
        step: Callable[[Reference], None],
    ) -> bool:
        """Whether it happened; AssertionError where the two disagree."""
        block = Block(self.chain.number + 1, self.chain.time + 1)
        names = self.model.act(block, lambda: step(self.model))
        error = self.chain.send(who, (contract, function, arguments))
        self.journal.append(f"{block.time}: {who[:6]} {contract}.{function}{_short(arguments)}")
        if error is not None:
            self.journal[-1] += f" -> {error}"
        if names is None:
            assert error is None, self._told(f"the chain refuses with {error}, the model does it")
        else:
            want = " or ".join(sorted(names))
            said = "does it" if error is None else f"says {error}"
            assert error in names, self._told(f"the model refuses with {want}, the chain {said}")
        self.seen[f"{contract}.{function}" if error is None else error] += 1
        self._compare()
        return error is None

    def wait(self, seconds: int, blocks: int = 1) -> None:
        self.chain.advance(seconds, blocks)
        self.model.now = Block(self.chain.number, self.chain.time)
        self.journal.append(f"{self.chain.time}: {seconds} s passed, {blocks} blocks")
        self._compare()

    def _compare(self) -> None:
        found = differences(self.chain, self.model, self.accounts)
        assert not found, self._told("\n".join(found))

    def _told(self, what: str) -> str:
        return "\n".join(["after", *self.journal[-60:], what])

    # --- money -----------------------------------------------------------------------

    def deposit(self, who: str, amount: int) -> bool:
        return self.act(who, "ledger", "deposit", [amount], lambda m: m.ledger.deposit(who, amount))

    def withdraw(self, who: str, to: str, amount: int) -> bool:
        bad = to in ("0x" + "00" * 20, self.model.addresses["ledger"])
        target = None if bad else to
        return self.act(
            who,
            "ledger",
            "withdraw",
            [to, amount],
            lambda m: m.ledger.withdraw(who, target, amount),
        )

    def create_bounty(self, who: str, terms: Terms, amount: int) -> bool:
        struct = terms._replace(trainer=terms.trainer or "0x" + "00" * 20)
        return self.act(
            who, "escrow", "create", [struct, amount], lambda m: m.escrow.create(who, terms, amount)
        )

    def fund(self, who: str, bounty: int, amount: int, meant: int | None = None) -> bool:
        """meant: the bounty that the payer names; None for the one that is paid."""
        named = self.model.escrow.named(bounty if meant is None else meant)
        return self.act(
            who,
            "escrow",
            "fund",
            [bounty, bounty_identity(named), amount],
            lambda m: m.escrow.fund(who, bounty, named, amount),
        )

    def refund(self, who: str, bounty: int) -> bool:
        return self.act(who, "escrow", "refund", [bounty], lambda m: m.escrow.refund(bounty))

    def stake(self, who: str, amount: int) -> bool:
        return self.act(who, "stake", "stake", [amount], lambda m: m.stake.stake(who, amount))

    def unstake(self, who: str, amount: int) -> bool:
        return self.act(
            who, "stake", "requestUnstake", [amount], lambda m: m.stake.request_unstake(who, amount)
        )

    def claim(self, who: str, verifier: str) -> bool:
        return self.act(who, "stake", "claim", [verifier], lambda m: m.stake.claim(verifier))

    # --- assignments and batches -----------------------------------------------------

    def request(self, who: str, bounty: int) -> bool:
        return self.act(
            who, "assignments", "request", [bounty], lambda m: m.assignments.request(who, bounty)
        )

    def open_assignment(self, bounty: int, miner: str) -> bool:
        return self.act(
            miner,
            "assignments",
            "open",
            [bounty, miner],
            lambda m: m.assignments.open(bounty, miner),
        )

    def commit_batch(
        self,
        who: str,
        bounty: int,
        count: int,
        *,
        skip: int = 0,
        seed: bytes | None = None,
        root: bytes | None = None,
        codec: int = 0x55,
    ) -> bool:
        """skip: added to the first task; seed, root: other ones than the right ones."""
        entry = self.model.assignments.of.get((bounty, who))
        first = (entry.next_task if entry else 0) + skip
        seed = seed or (entry.seed if entry else bytes(32))
        batch = len(self.model.market.batches) + 1
        forest = self._plant(batch, who, bounty, count)
        root = forest.traces.root if root is None else root
        done = self.act(
            who,
            "market",
            "commitBatch",
            [bounty, root, count, first, seed, (keccak(root), codec)],
            lambda m: m.market.commit(who, bounty, root, count, first, seed, codec),
        )
        if done:
            self.forests[batch] = forest
        return done

    def _plant(self, batch: int, miner: str, bounty: int, count: int) -> Forest:
        lines = [b"%d/%d" % (batch, i) for i in range(max(count, 1))]
        where = (self.model.chain_id, self.model.addresses["market"], bounty, miner)
        traces = Tree(trace_leaf(*where, i, line) for i, line in enumerate(lines))
        known = 2 <= count <= len(HONEST)
        return Forest(
            count, traces, tuple(map(keccak, lines)), trees_of(batch, count) if known else ()
        )

    def tally(self, who: str, batch: int, leader: Attestation) -> bool:
        return self.act(
            who, "market", "tally", [batch, leader], lambda m: m.market.tally(batch, leader)
        )

    def void_stalled(self, who: str, batch: int) -> bool:
        return self.act(
            who, "market", "voidStalled", [batch], lambda m: m.market.void_stalled(batch)
        )

    def settle(self, who: str, batch: int) -> bool:
        return self.act(who, "market", "settle", [batch], lambda m: m.market.settle(batch))

    # --- rounds ----------------------------------------------------------------------

    def draw(self, who: str, number: int) -> bool:
        return self.act(who, "rounds", "draw", [number], lambda m: m.rounds.draw(number))

    def draw_due(self, who: str, most: int) -> bool:
        return self.act(who, "rounds", "drawDue", [most], lambda m: m.rounds.draw_due(most))

    def commit(self, who: str, number: int, seat: int, hidden: bytes) -> bool:
        return self.act(
            who,
            "rounds",
            "commitVerdict",
            [number, seat, hidden],
            lambda m: m.rounds.commit(who, number, seat, hidden),
        )

    def reveal(
        self, who: str, number: int, seat: int, vote: Attestation, salt: bytes = SALT
    ) -> bool:
        return self.act(
            who,
            "rounds",
            "revealVerdict",
            [number, seat, vote, salt, (keccak(vote.root), 0x55)],
            lambda m: m.rounds.reveal(who, number, seat, vote, salt),
        )

    def hidden(self, number: int, who: str, vote: Attestation) -> bytes:
        return self.model.rounds.commitment(number, who, vote, SALT)

    # --- disputes --------------------------------------------------------------------

    def dispute_leaf(self, who: str, batch: int, said: Node, place: int, line: bytes) -> bool:
        """said: the tree that the proof comes from; line: the hash of the trace's line."""
        forest = self.forests[batch]
        claim = Claim(said, forest.count, place)
        index = claim.said.index
        proven = line == forest.lines[index]
        arguments = [
            batch,
            claim.said.struct,
            proof(said, place, forest.count),
            line,
            forest.traces.proof(index),
        ]
        return self.act(
            who,
            "court",
            "disputeLeaf",
            arguments,
            lambda m: m.court.dispute_leaf(who, batch, claim, proven),
        )

    def dispute_outcome(self, who: str, batch: int, meant: int | None = None) -> bool:
        """meant: the batch that the challenger names; None for the disputed one."""
        named = self.model.court.attested(batch if meant is None else meant)
        return self.act(
            who,
            "court",
            "disputeOutcome",
            [batch, _hash_of(named)],
            lambda m: m.court.dispute_outcome(who, batch, named),
        )

    def demand_opening(self, who: str, batch: int, meant: int | None = None) -> bool:
        named = self.model.court.attested(batch if meant is None else meant)
        forest = self.forests.get(batch)
        known = forest and forest.attested(self.model.market.get(batch).attestation)
        behind = known or leaf(Said(batch, 0, *GOOD))
        return self.act(
            who,
            "court",
            "demandOpening",
            [batch, _hash_of(named)],
            lambda m: m.court.demand_opening(who, batch, named, behind),
        )

    def answer(self, who: str, dispute: int, offered: Node) -> bool:
        if offered.children:
            children = tuple(child.sums for child in offered.children)
            call = ("answer", [dispute, children])
        else:
            assert offered.verdict is not None
            call = ("answerVerdict", [dispute, offered.verdict.batch, offered.verdict.struct])
        return self.act(who, "openings", *call, lambda m: m.court.answer(dispute, offered))

    def ask(self, who: str, dispute: int, right: bool) -> bool:
        return self.act(
            who, "openings", "ask", [dispute, right], lambda m: m.court.ask(who, dispute, right)
        )

    def conclude(self, who: str, dispute: int) -> bool:
        return self.act(
            who,
            "court",
            "concludeOpening",
            [dispute],
            lambda m: m.court.conclude_opening(dispute),
        )

    def prove_fault(self, who: str, batch: int, root: Node, turns: list[bool]) -> bool:
        """Opens the nodes on the way; a verdict at its end where there is one."""
        nodes = [at(root, turns[:i]) for i in range(len(turns) + 1)]
        end = nodes[-1].verdict
        path = [tuple(child.sums for child in node.children) for node in nodes if node.children]
        said = end or Said(0, 0, 0, 0, 0, 0)
        opened = (path, turns, end is not None, said.batch, said.struct)
        return self.act(
            who,
            "court",
            "proveFault",
            [batch, opened],
            lambda m: m.court.prove_fault(who, batch, root, turns, end is not None),
        )

    def narrow(self, who: str, batch: int, leader: Claim, rival: Claim) -> bool:
        def struct(claim: Claim) -> tuple[Any, ...]:
            way = proof(claim.tree, claim.place, claim.size)
            return (claim.tree.attestation, claim.said.struct, way)

        return self.act(
            who,
            "court",
            "narrow",
            [batch, struct(leader), struct(rival)],
            lambda m: m.court.narrow(who, batch, leader, rival),
        )

    def tally_jury(self, who: str, dispute: int, leader: Attestation) -> bool:
        return self.act(
            who,
            "court",
            "tallyJury",
            [dispute, leader],
            lambda m: m.court.tally_jury(dispute, leader),
        )

    def appeal(self, who: str, dispute: int, meant: int | None = None) -> bool:
        """meant: the dispute whose decision the appellant names; None for the appealed one."""
        named = self.model.court.decided(dispute if meant is None else meant)
        return self.act(
            who,
            "court",
            "appeal",
            [dispute, _hash_of(named)],
            lambda m: m.court.appeal(who, dispute, named),
        )

    def close(self, who: str, dispute: int) -> bool:
        return self.act(who, "court", "close", [dispute], lambda m: m.court.close(dispute))


def _short(value: Any) -> str:
    """Arguments for the journal: hashes cut to four bytes."""
    if isinstance(value, bytes):
        return value[:4].hex()
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_short, value))})"
    return value[:6] if isinstance(value, str) else str(value)
