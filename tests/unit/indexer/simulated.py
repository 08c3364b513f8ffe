"""A chain and a market in memory: events as the contracts would emit them, in their order.

Market methods return the logs of one transaction; SimulatedChain.mine puts transactions into a
block. The market's own state follows the chain through reorgs.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

from simulated_batches import (
    HONEST,
    LIE,
    PARAMETERS,
    START,
    USD,
    Log,
    SimulatedBatches,
    account,
    attestation_fields,
    deployment,
)
from simulated_play import play

from marketplace.chain.blocks import Block, Event
from marketplace.chain.records import Kind, Standing
from marketplace.protocol.commitments import vote
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation

__all__ = [
    "HONEST",
    "LIE",
    "PARAMETERS",
    "START",
    "SimulatedChain",
    "SimulatedMarket",
    "account",
    "deployment",
    "open_market",
    "play",
    "run_round",
]


class SimulatedChain:
    """blocks[n] is block n; reads as a ChainSource does."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market
        self.blocks: list[Block] = []
        self.logs: list[list[Event]] = []
        self.after: list[bytes] = []
        self.salt = 0
        self.on_events: Callable[[], None] = lambda: None
        self.on_block: Callable[[], None] = lambda: None
        for _ in range(START + 1):
            self.mine()

    def mine(self, *transactions: list[Log], seconds: int = 10) -> None:
        number = len(self.blocks)
        parent = self.blocks[-1].hash if self.blocks else bytes(32)
        at = self.blocks[-1].timestamp + seconds if self.blocks else 1_000_000
        hash = keccak(parent + bytes([self.salt]) + repr(transactions).encode())
        logs: list[Event] = []
        for position, transaction in enumerate(transactions):
            tx_hash = keccak(hash + bytes([position]))
            for contract, name, args in transaction:
                logs.append(Event(name, contract, args, number, hash, tx_hash, len(logs)))
        self.blocks.append(Block(number, hash, parent, at))
        self.logs.append(logs)
        self.after.append(self._state())

    def reorg(self, depth: int) -> None:
        """Drop the last `depth` blocks; what is mined next gets other hashes."""
        del self.blocks[-depth:], self.logs[-depth:], self.after[-depth:]
        self.market.__dict__.update(pickle.loads(self.after[-1]))
        self.salt += 1

    def _state(self) -> bytes:
        """What reorg() goes back to. Pickled, because copying deeply takes six times as long."""
        changing = dict(self.market.__dict__)
        del changing["deployment"], changing["parameters"]
        return pickle.dumps(changing)

    def head(self) -> Block:
        return self.blocks[-1]

    def block(self, number: int) -> Block | None:
        self.on_block()
        return self.blocks[number] if number < len(self.blocks) else None

    def events(self, from_block: int, to_block: int) -> Iterator[Event]:
        logs = [log for block in self.logs[from_block : to_block + 1] for log in block]
        self.on_events()
        return iter(logs)


class SimulatedMarket(SimulatedBatches):
    """All that the contracts would log. Callers keep to the rules of the contracts."""

    # --- the court ----------------------------------------------------------------------

    @property
    def pool(self) -> int:
        open_ones = [dispute for dispute in self.disputes.values() if not dispute["closed"]]
        return self.held["court"] - sum(
            dispute["posted"] + sum(bond for _, _, bond in dispute["appeals"])
            for dispute in open_ones
        )

    def dispute(self, batch: int, who: str, index: int = 0, kind: Kind = Kind.LEAF) -> list[Log]:
        """disputeLeaf, disputeOutcome, demandOpening or narrow. Of a conflict's two verdicts the
        first is `claimed`, the second `rival`."""
        id, entry = len(self.disputes) + 1, self.batches[batch]
        size = self.rounds[entry["rounds"][-1]]["size"]
        bond = 2 * (2 * size + 1) * self.parameters.juror_fee
        posted = 0 if kind is Kind.CONFLICT else bond
        self.disputes[id] = {"batch": batch, "who": who, "index": index, "kind": kind}
        self.disputes[id] |= {"bond": bond, "posted": posted, "appeals": [], "juries": []}
        self.disputes[id] |= {"standing": Standing.NONE, "vote": None, "decided": False}
        self.disputes[id] |= {"last": False, "closed": False, "about": entry["overturned"]}
        entry["disputes"] += 1
        args = {"dispute": id, "batch": batch, "challenger": who, "kind": int(kind)}
        logs: list[Log] = [("court", "DisputeOpened", args | {"index": index, "bond": posted})]
        if kind is Kind.OPENING:
            logs += self.ask(id, 0, entry["count"])
        else:
            logs += self._first_jury(id, index)
        return logs if kind is Kind.CONFLICT else [*logs, self._collect("court", who, bond)]

    def ask(self, dispute: int, first: int, size: int) -> list[Log]:
        args = {"dispute": dispute, "first": first, "size": size, "hash": keccak(b"node")}
        return [("openings", "NodeAsked", args)]

    def answer(self, dispute: int, fault: int = 0) -> list[Log]:
        node = {"hash": keccak(b"child"), "units": 1, "faults": 0}
        args = {"dispute": dispute, "children": {"left": node, "right": node}, "fault": fault}
        return [("openings", "NodeAnswered", args)]

    def answer_verdict(self, dispute: int, index: int, fault: int = 0) -> list[Log]:
        verdict = {"index": index, "score": 10**6, "reason": 1, "units": 1, "faults": 0}
        args = {"dispute": dispute, "verdict": verdict, "fault": fault}
        return [("openings", "VerdictOpened", args)]

    def conclude_opening(self, dispute: int, index: int | None) -> list[Log]:
        """index: of the verdict that lies open; None where nobody answered."""
        if index is None:
            return self._decide(dispute, Standing.FALLS, None, last=True)
        return self._first_jury(dispute, index)

    def claimed(self, dispute: int) -> Attestation:
        entry = self.disputes[dispute]
        if entry["kind"] in (Kind.MALFORMED, Kind.UNAVAILABLE):
            return MALFORMED if entry["kind"] is Kind.MALFORMED else UNAVAILABLE
        return Attestation(keccak(f"leaf {entry['batch']} {entry['index']}".encode()), 1, 0)

    def rival(self, dispute: int) -> Attestation:
        entry = self.disputes[dispute]
        return Attestation(keccak(f"other {entry['batch']} {entry['index']}".encode()), 0, 0)

    def _first_jury(self, dispute: int, index: int) -> list[Log]:
        entry = self.disputes[dispute]
        entry["index"] = index
        rival = vote(self.rival(dispute)) if entry["kind"] is Kind.CONFLICT else bytes(32)
        args = {"dispute": dispute, "index": index, "vote": vote(self.claimed(dispute))}
        size = self.rounds[self.batches[entry["batch"]]["rounds"][-1]]["size"]
        return [
            ("court", "VerdictDisputed", args | {"rivalVote": rival}),
            *self._open_jury(dispute, 2 * size + 1),
        ]

    def _open_jury(self, dispute: int, size: int) -> list[Log]:
        id, opened = self._new_round(size)
        self.rounds[id]["jury"] = True
        self.disputes[dispute]["juries"].append(id)
        args = {"dispute": dispute, "round": id, "size": size}
        return [opened, ("court", "JuryOpened", args)]

    def _decide(
        self, dispute: int, standing: Standing, said: Attestation | None, *, last: bool
    ) -> list[Log]:
        entry = self.disputes[dispute]
        entry |= {"standing": standing, "vote": said, "decided": True, "last": last}
        jury = entry["juries"][-1] if entry["juries"] else 0
        args = {"dispute": dispute, "round": jury, "standing": int(standing)}
        hash = bytes(32) if said is None else vote(said)
        return [("court", "JuryDecided", args | {"vote": hash})]

    def tally_jury(self, dispute: int) -> list[Log]:
        entry = self.disputes[dispute]
        jury = self.rounds[entry["juries"][-1]]
        votes, seats = list(jury["votes"].values()), len(jury["seats"])
        leader = max(votes, key=votes.count, default=None)
        final = len(entry["juries"]) == self.parameters.max_juries
        if leader is not None and votes.count(leader) > seats // 2:
            return self._decide(dispute, self._standing(dispute, leader), leader, last=final)
        if seats and not final:
            return self._open_jury(dispute, 2 * jury["size"] + 1)
        return self._decide(dispute, entry["standing"], entry["vote"], last=True)

    def _standing(self, dispute: int, said: Attestation) -> Standing:
        kind = self.disputes[dispute]["kind"]
        if said == self.claimed(dispute):
            return Standing.STANDS
        if kind is Kind.CONFLICT:
            return Standing.RIVAL if said == self.rival(dispute) else Standing.FALLS
        if said != UNAVAILABLE:
            return Standing.FALLS
        return Standing.STANDS if kind is Kind.MALFORMED else Standing.UNAVAILABLE

    def appeal(self, dispute: int, who: str) -> list[Log]:
        entry = self.disputes[dispute]
        bond = entry["bond"] << len(entry["juries"])
        entry["appeals"].append((who, entry["standing"], bond))
        entry["decided"] = False
        args = {"dispute": dispute, "appellant": who, "against": int(entry["standing"])}
        size = 2 * self.rounds[entry["juries"][-1]]["size"] + 1
        return [
            ("court", "Appealed", args | {"bond": bond}),
            *self._open_jury(dispute, size),
            self._collect("court", who, bond),
        ]

    def close(self, dispute: int) -> list[Log]:
        entry = self.disputes[dispute]
        batch, standing, kind = entry["batch"], entry["standing"], entry["kind"]
        seen = copy.deepcopy(self.batches[batch])
        logs, jurors, _ = self._judge(entry["juries"][::-1], entry["vote"])
        insured = self.pool
        entry["closed"] = True
        late = kind is Kind.UNAVAILABLE and standing is Standing.FALLS
        lost = entry["posted"] if standing is Standing.STANDS or late else 0
        back = entry["posted"] - lost
        logs += self._credit("court", entry["who"], back)
        for who, against, bond in entry["appeals"]:
            if against is standing:
                lost += bond
            else:
                logs += self._credit("court", who, bond)
        self.batches[batch]["disputes"] -= 1
        slashed, carried = self._carry_out(dispute)
        logs += carried
        fees = min(len(jurors) * self.parameters.juror_fee, lost + slashed + insured)
        each = fees // max(1, len(jurors))
        fees = each * len(jurors)
        for who in jurors:
            logs += self._credit("court", who, each)
        left = max(0, lost + slashed - fees)
        reward = wronged = 0
        if slashed:
            reward, wronged = self._shares(seen, min(slashed, left))
            logs += self._credit("court", entry["who"], reward)
        elif standing is Standing.STANDS:
            wronged = left // 2
        elif late:
            back = min(entry["posted"], left)
            logs += self._credit("court", entry["who"], back)
        closed = {"dispute": dispute, "batch": batch, "standing": int(standing)}
        closed |= {"slashed": slashed, "jurorsPaid": fees, "challengerPaid": back + reward}
        logs.append(("court", "DisputeClosed", closed | {"wrongedPaid": wronged}))
        if not slashed:
            return [*logs, *self._credit("court", seen["miner"], wronged)]
        return [*logs, *self._to_bounty(seen["bounty"], wronged)]

    def _carry_out(self, dispute: int) -> tuple[int, list[Log]]:
        entry = self.disputes[dispute]
        batch, standing = entry["batch"], entry["standing"]
        found = self.batches[batch]
        if found["closed"] or found["overturned"] != entry["about"]:
            return 0, []
        if entry["kind"] is Kind.CONFLICT:
            said = {Standing.STANDS: HONEST, Standing.RIVAL: LIE}.get(standing)
            return 0, [] if said is None else self.attest(batch, said)
        if standing is Standing.FALLS:
            return self._overturn(batch, guilty=entry["kind"] is not Kind.UNAVAILABLE)
        return 0, self.attest(batch, UNAVAILABLE) if standing is Standing.UNAVAILABLE else []

    def _overturn(self, batch: int, *, guilty: bool) -> tuple[int, list[Log]]:
        entry = self.batches[batch]
        id, fallen = entry["rounds"][-1], entry["final"]
        logs: list[Log] = []
        slashed = 0
        if guilty:
            round = self.rounds[id]
            round["convicted"] = fallen
            for seat, who in enumerate(round["seats"]):
                if round["votes"].get(seat) == fallen:
                    penalty = self._share_of_seat(self.parameters.fraud_bps)
                    taken, log = self._close(who, penalty, False)
                    slashed += taken
                    logs.append(log)
            logs += self._shift("stake", "court", slashed)
            args = {"round": id, "vote": vote(fallen), "slashed": slashed}
            logs.append(("rounds", "SignersConvicted", args))
        entry["final"] = None
        entry["overturned"] += 1
        args = {
            "batch": batch,
            "round": id,
            "attestation": attestation_fields(fallen),
            "slashed": slashed,
        }
        logs.append(("market", "BatchOverturned", args))
        if len(entry["rounds"]) < self.parameters.max_rounds:
            return slashed, [*logs, *self._open_round(batch, self.rounds[id]["size"])]
        return slashed, [*logs, *self.void(batch)]

    def prove_fault(self, batch: int, who: str) -> list[Log]:
        seen = copy.deepcopy(self.batches[batch])
        slashed, logs = self._overturn(batch, guilty=True)
        reward, wronged = self._shares(seen, slashed)
        args = {"batch": batch, "prover": who, "fault": 1, "slashed": slashed}
        args |= {"proverPaid": reward, "wrongedPaid": wronged}
        logs.append(("court", "FaultProven", args))
        logs += self._credit("court", who, reward)
        return [*logs, *self._to_bounty(seen["bounty"], wronged)]

    def _shares(self, seen: dict[str, Any], amount: int) -> tuple[int, int]:
        fees = self.bounties[seen["bounty"]]["terms"]["feePerTrace"] * seen["count"]
        seats = len(self.rounds[seen["rounds"][-1]]["seats"])
        return min(amount // 4, fees // seats), min(amount // 2, fees)

    def _to_bounty(self, bounty: int, amount: int) -> list[Log]:
        return [*self._shift("court", "escrow", amount), *self._replenish(bounty, amount)]

    def plant(self, who: str, name: str) -> list[Log]:
        return [("audits", "Planted", {"root": keccak(name.encode()), "planter": who})]

    def open_audit(self, batch: int, who: str, index: int, *, missed: bool) -> list[Log]:
        planted = {"index": index, "score": 0, "reason": 2, "units": 0, "faults": 0}
        args = {"batch": batch, "planter": who, "index": index, "planted": planted}
        return [("audits", "AuditOpened", args | {"missed": missed})]


def open_market(chain: SimulatedChain, verifiers: int = 5) -> None:
    """Mine an environment, bounty 1 with 10,000 tokens, and staked verifiers 1, 2, ..."""
    market = chain.market
    chain.mine(market.register("sums", account(100)))
    chain.mine(market.deposit(account(100), 500 * USD))
    chain.mine(market.create_bounty(account(100), 10_000 * USD))
    chain.mine(*(market.stake(account(n), 250 * USD) for n in range(1, verifiers + 1)))


def run_round(
    chain: SimulatedChain, round: int, members: list[str], said: list[Attestation]
) -> None:
    """Mine a round's draw, the commitments of all members, and what its first ones reveal."""
    market = chain.market
    chain.mine(market.draw(round, members))
    chain.mine(*(market.commit_verdict(round, seat) for seat in range(len(members))))
    chain.mine(*(market.reveal(round, seat, vote) for seat, vote in enumerate(said)))
