"""A chain and a market in memory: events as the contracts would emit them, in their order.

Market methods return the logs of one transaction; SimulatedChain.mine puts transactions into a
block. The market's own state follows the chain through reorgs.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from eth_utils import to_checksum_address

from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import Parameters
from marketplace.chain.records import Block, Event, Kind, Standing, Token
from marketplace.protocol.commitments import stored, vote
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation

Log = tuple[str, str, dict[str, Any]]
START = 10
HONEST = Attestation(keccak(b"honest"), 1, 1)
LIE = Attestation(keccak(b"lie"), 2, 0)
USD = 10**6
PARAMETERS = Parameters(
    committee_size=3,
    max_rounds=3,
    max_juries=3,
    min_verifiers=3,
    draw_timeout=60,
    commit_window=60,
    reveal_window=60,
    challenge_window=2,
    appeal_window=4,
    opening_window=30,
    unbonding_delay=2_000,
    seat_stake=100 * USD,
    absence_bps=500,
    late_bps=1000,
    incoherence_bps=2000,
    fraud_bps=20_000,
    bond_per_trace=USD // 100,
    fault_multiple=5,
    wrong_bps=5000,
    min_fee_per_trace=1,
    juror_fee=USD // 2,
    max_traces=65_536,
)


def account(number: int) -> str:
    return to_checksum_address(keccak(f"account {number}".encode())[-20:])


def content(seed: str) -> dict[str, Any]:
    return {"digest": keccak(seed.encode()), "codec": 0x55}


def deployment(chain_id: int = 31337, market: int = 9) -> Deployment:
    names = ("environments", "randomness", "ledger", "escrow", "stake", "rounds", "assignments")
    names += ("checkpoints", "openings", "evidence", "court", "audits")
    addresses = {name: account(2000 + i) for i, name in enumerate(names)}
    return Deployment(
        chain_id=chain_id,
        block=START,
        addresses={**addresses, "market": account(1000 + market)},
        token=Token(account(999), "Test USD", "tUSD", 6, True),
        parameters=PARAMETERS,
        randomness_delay=1,
    )


class SimulatedChain:
    """blocks[n] is block n; reads as a ChainSource does."""

    def __init__(self, market: SimulatedMarket) -> None:
        self.market = market
        self.blocks: list[Block] = []
        self.logs: list[list[Event]] = []
        self.after: list[SimulatedMarket] = []
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
        self.after.append(copy.deepcopy(self.market))

    def reorg(self, depth: int) -> None:
        """Drop the last `depth` blocks; what is mined next gets other hashes."""
        del self.blocks[-depth:], self.logs[-depth:], self.after[-depth:]
        self.market.__dict__.update(copy.deepcopy(self.after[-1]).__dict__)
        self.salt += 1

    def head(self) -> Block:
        return self.blocks[-1]

    def block(self, number: int) -> Block | None:
        self.on_block()
        return self.blocks[number] if number < len(self.blocks) else None

    def events(self, from_block: int, to_block: int) -> Iterator[Event]:
        logs = [log for block in self.logs[from_block : to_block + 1] for log in block]
        self.on_events()
        return iter(logs)


class SimulatedMarket:
    """Says what the contracts would log. Callers keep to the rules of the contracts."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.parameters = deployment.parameters
        self.balances: dict[str, int] = {}
        self.held = dict.fromkeys(("escrow", "stake", "market", "court"), 0)
        self.environments: list[bytes] = []
        self.bounties: dict[int, dict[str, Any]] = {}
        self.batches: dict[int, dict[str, Any]] = {}
        self.rounds: dict[int, dict[str, Any]] = {}
        self.stakes: dict[str, list[int]] = {}  # stake, open seats, unbonding
        self.disputes: dict[int, dict[str, Any]] = {}
        self.checkpoints = 0

    # --- ledger -----------------------------------------------------------------------

    def deposit(self, who: str, amount: int) -> list[Log]:
        self.balances[who] = self.balances.get(who, 0) + amount
        return [("ledger", "Deposited", {"account": who, "amount": amount})]

    def withdraw(self, who: str, amount: int) -> list[Log]:
        self.balances[who] -= amount
        return [("ledger", "Withdrawn", {"account": who, "to": who, "amount": amount})]

    def _collect(self, module: str, who: str, amount: int) -> Log:
        part = min(amount, self.balances.get(who, 0))
        self.held[module] += amount
        self.balances[who] = self.balances.get(who, 0) - part
        args = {"module": self._module(module), "from": who, "amount": amount, "fromBalance": part}
        return ("ledger", "Collected", args)

    def _credit(self, module: str, who: str, amount: int) -> list[Log]:
        if amount == 0:
            return []
        self.held[module] -= amount
        self.balances[who] = self.balances.get(who, 0) + amount
        args = {"account": who, "module": self._module(module), "amount": amount}
        return [("ledger", "Credited", args)]

    def _shift(self, source: str, target: str, amount: int) -> list[Log]:
        if amount == 0:
            return []
        self.held[source] -= amount
        self.held[target] += amount
        args = {"from": self._module(source), "to": self._module(target), "amount": amount}
        return [("ledger", "Shifted", args)]

    def _module(self, name: str) -> str:
        return self.deployment.addresses[name]

    # --- environments, bounties, checkpoints -------------------------------------------

    def register(self, name: str, author: str) -> list[Log]:
        environment = keccak(name.encode())
        self.environments.append(environment)
        args = {"environment": environment, "author": author}
        return [("environments", "EnvironmentRegistered", args)]

    def create_bounty(self, poster: str, amount: int, **changes: Any) -> list[Log]:
        terms = {
            "environment": self.environments[0],
            "trainer": "0x" + "00" * 20,
            "deadline": 2**40,
            "groupSize": 2,
            "tier": 2,
            "payRule": 0,
            "pricePerUnit": 3 * USD,
            "feePerTrace": USD,
        } | changes
        id = len(self.bounties) + 1
        self.bounties[id] = {"poster": poster, "terms": terms, "available": 0}
        args = {
            "bounty": id,
            "poster": poster,
            "environment": terms["environment"],
            "terms": terms,
        }
        return [("escrow", "BountyCreated", args), *self.fund(id, poster, amount)]

    def fund(self, bounty: int, who: str, amount: int) -> list[Log]:
        self.bounties[bounty]["available"] += amount
        return [
            ("escrow", "BountyFunded", {"bounty": bounty, "from": who, "amount": amount}),
            self._collect("escrow", who, amount),
        ]

    def refund(self, bounty: int) -> list[Log]:
        entry = self.bounties[bounty]
        poster, amount = entry["poster"], entry["available"]
        entry["available"] = 0
        args = {"bounty": bounty, "poster": poster, "amount": amount}
        return [("escrow", "BountyRefunded", args), *self._credit("escrow", poster, amount)]

    def register_checkpoint(self, trainer: str, parent: int = 0) -> list[Log]:
        self.checkpoints += 1
        args = {
            "checkpoint": self.checkpoints,
            "trainer": trainer,
            "parent": parent,
            "content": content(f"checkpoint {self.checkpoints}"),
            "datasetRoot": bytes(32),
        }
        return [("checkpoints", "CheckpointRegistered", args)]

    # --- stake ------------------------------------------------------------------------

    def stake(self, who: str, amount: int) -> list[Log]:
        self.stakes.setdefault(who, [0, 0, 0])[0] += amount
        logs: list[Log] = [("stake", "Staked", {"verifier": who, "amount": amount})]
        return [*logs, self._collect("stake", who, amount)]

    def request_unstake(self, who: str, amount: int, claimable_at: int) -> list[Log]:
        self.stakes[who][0] -= amount
        self.stakes[who][2] += amount
        args = {"verifier": who, "amount": amount, "claimableAt": claimable_at}
        return [("stake", "UnstakeRequested", args)]

    def claim(self, who: str) -> list[Log]:
        amount, self.stakes[who][2] = self.stakes[who][2], 0
        logs: list[Log] = [("stake", "Unstaked", {"verifier": who, "amount": amount})]
        return [*logs, *self._credit("stake", who, amount)]

    # --- batches and rounds -------------------------------------------------------------

    def commit(self, bounty: int, miner: str, count: int) -> list[Log]:
        id = len(self.batches) + 1
        terms = self.bounties[bounty]["terms"]
        bond = count * max(self.parameters.bond_per_trace, terms["feePerTrace"])
        worst = count * (terms["pricePerUnit"] + terms["feePerTrace"])
        self.bounties[bounty]["available"] -= worst
        self.batches[id] = {"bounty": bounty, "miner": miner, "count": count, "bond": bond}
        self.batches[id] |= {"worst": worst, "rounds": [], "final": None, "closed": False}
        self.batches[id] |= {"disputes": 0, "overturned": 0}
        opened = self._open_round(id, self.parameters.committee_size)
        args = {
            "batch": id,
            "bounty": bounty,
            "miner": miner,
            "root": keccak(f"batch {id}".encode()),
            "count": count,
            "firstTask": 0,
            "bond": bond,
            "round": self.batches[id]["rounds"][0],
            "content": content(f"batch {id}"),
        }
        return [
            *opened,
            ("market", "BatchCommitted", args),
            ("escrow", "BountyReserved", {"bounty": bounty, "amount": worst}),
            self._collect("market", miner, bond),
        ]

    def _open_round(self, batch: int, size: int) -> list[Log]:
        id, opened = self._new_round(size)
        self.batches[batch]["rounds"].append(id)
        return [
            opened,
            ("market", "BatchRoundOpened", {"batch": batch, "round": id, "size": size}),
        ]

    def _new_round(self, size: int) -> tuple[int, Log]:
        id = len(self.rounds) + 1
        self.rounds[id] = {"seats": [], "votes": {}, "size": size, "committed": set()}
        self.rounds[id] |= {"convicted": None, "jury": False}
        opened = {"round": id, "subject": keccak(b"subject"), "size": size, "drawPoint": 50}
        return id, ("rounds", "RoundOpened", opened)

    def reschedule(self, round: int, point: int) -> list[Log]:
        return [("rounds", "DrawRescheduled", {"round": round, "drawPoint": point})]

    def draw(self, round: int, members: list[str]) -> list[Log]:
        self.rounds[round]["seats"] = members
        for member in members:
            self.stakes[member][1] += not self.rounds[round]["jury"]
        args = {"round": round, "randomness": keccak(b"draw"), "members": members}
        return [("rounds", "RoundDrawn", args)]

    def commit_verdict(self, round: int, seat: int) -> list[Log]:
        who = self.rounds[round]["seats"][seat]
        self.rounds[round]["committed"].add(seat)
        hidden = stored(keccak(who.encode()))
        args = {"round": round, "verifier": who, "seat": seat, "commitment": hidden}
        return [("rounds", "VerdictCommitted", args)]

    def reveal(self, round: int, seat: int, said: Attestation) -> list[Log]:
        self.rounds[round]["votes"][seat] = said
        args = {
            "round": round,
            "verifier": self.rounds[round]["seats"][seat],
            "seat": seat,
            "attestation": _struct(said),
            "verdicts": content("verdicts"),
        }
        return [("rounds", "VerdictRevealed", args)]

    def attest(self, batch: int, said: Attestation) -> list[Log]:
        self.batches[batch]["overturned"] += self.batches[batch]["final"] is not None
        self.batches[batch]["final"] = said
        round = self.batches[batch]["rounds"][-1]
        args = {"batch": batch, "round": round, "attestation": _struct(said)}
        return [("market", "BatchAttested", args)]

    def next_round(self, batch: int, size: int) -> list[Log]:
        return self._open_round(batch, size)

    def settle(self, batch: int) -> list[Log]:
        entry = self.batches[batch]
        entry["closed"] = True
        bounty, final = entry["bounty"], entry["final"]
        terms, bond = self.bounties[bounty]["terms"], entry["bond"]
        rounds = entry["rounds"][::-1]
        closed, coherent, slashed = self._judge(rounds, final)
        seats = sum(map(self._payable, rounds))
        share = terms["feePerTrace"] * entry["count"] // seats if seats else 0
        fees, earned = share * len(coherent), terms["pricePerUnit"] * final.units
        if final in (UNAVAILABLE, MALFORMED):
            forfeited = bond if final == MALFORMED else fees
            to_bounty, spent = forfeited - fees, 0
        else:
            cost = self.parameters.fault_multiple * self.parameters.bond_per_trace
            unpaid = (entry["count"] - final.units) * terms["feePerTrace"]
            wrong = unpaid * self.parameters.wrong_bps // 10_000
            forfeited = to_bounty = min(bond, final.faults * cost + wrong)
            spent = earned + fees
        settled = {"batch": batch, "minerPaid": earned, "feesPaid": fees}
        settled |= {"bondForfeited": forfeited, "slashed": slashed}
        logs = [*closed, ("market", "BatchSettled", settled)]
        logs += self._release(bounty, entry["worst"], spent)
        logs += self._credit("market", entry["miner"], earned + bond - forfeited)
        for who in coherent:
            logs += self._credit("market", who, share)
        logs += self._shift("market", "escrow", to_bounty)
        return [*logs, *self._replenish(bounty, to_bounty)]

    def void(self, batch: int) -> list[Log]:
        entry = self.batches[batch]
        entry["closed"] = True
        closed, _, slashed = self._judge(entry["rounds"][::-1], None)
        return [
            *closed,
            ("market", "BatchVoided", {"batch": batch, "slashed": slashed}),
            *self._release(entry["bounty"], entry["worst"], 0),
            *self._credit("market", entry["miner"], entry["bond"]),
        ]

    def _share_of_seat(self, bps: int) -> int:
        return self.parameters.seat_stake * bps // 10_000

    def _close(self, who: str, penalty: int, jury: bool) -> tuple[int, Log]:
        """Out of the stake that no other seat locks, then out of what is unbonding, and a juror's
        last out of all stake."""
        stake = self.stakes[who]
        stake[1] -= not jury
        free = min(penalty, max(0, stake[0] - stake[1] * self.parameters.seat_stake))
        rest = min(penalty - free, stake[2])
        stake[0] -= free
        stake[2] -= rest
        if jury:
            last = min(penalty - free - rest, stake[0])
            stake[0] -= last
            free += last
        return free + rest, ("stake", "SeatClosed", {"verifier": who, "penalty": free + rest})

    def _judge(
        self, rounds: list[int], final: Attestation | None
    ) -> tuple[list[Log], list[str], int]:
        """rounds: newest first."""
        absence = self._share_of_seat(self.parameters.absence_bps)
        late = self._share_of_seat(self.parameters.late_bps)
        wrong = self._share_of_seat(self.parameters.incoherence_bps)
        logs: list[Log] = []
        coherent: list[str] = []
        total = 0
        for id in rounds:
            slashed, round = 0, self.rounds[id]
            for seat, who in enumerate(round["seats"]):
                vote = round["votes"].get(seat)
                penalty = 0
                if vote is None:
                    penalty = late if seat in round["committed"] else absence
                elif vote == round["convicted"]:
                    continue
                elif final is not None and vote == final:
                    coherent.append(who)
                elif final not in (None, UNAVAILABLE):
                    penalty = absence if vote == UNAVAILABLE else wrong
                taken, log = self._close(who, penalty, round["jury"])
                slashed += taken
                logs.append(log)
            logs += self._shift("stake", "court", slashed)
            total += slashed
        return logs, coherent, total

    def _payable(self, round: int) -> int:
        votes, convicted = self.rounds[round]["votes"].values(), self.rounds[round]["convicted"]
        lost = 0 if convicted is None else list(votes).count(convicted)
        return len(self.rounds[round]["seats"]) - lost

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
        args = {"batch": batch, "round": id, "attestation": _struct(fallen), "slashed": slashed}
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

    def _release(self, bounty: int, reserved: int, spent: int) -> list[Log]:
        self.bounties[bounty]["available"] += reserved - spent
        args = {"bounty": bounty, "reserved": reserved, "spent": spent}
        return [("escrow", "BountyReleased", args), *self._shift("escrow", "market", spent)]

    def _replenish(self, bounty: int, amount: int) -> list[Log]:
        if amount == 0:
            return []
        self.bounties[bounty]["available"] += amount
        return [("escrow", "BountyReplenished", {"bounty": bounty, "amount": amount})]


def _struct(said: Attestation) -> dict[str, Any]:
    return {"verdictRoot": said.root, "units": said.units, "faults": said.faults}


def open_market(chain: SimulatedChain, verifiers: int = 5) -> None:
    """Mine an environment, bounty 1 with 10,000 tokens, and staked verifiers 1, 2, ..."""
    market = chain.market
    chain.mine(market.register("sums", account(100)))
    chain.mine(market.deposit(account(100), 500 * USD))
    chain.mine(market.create_bounty(account(100), 10_000 * USD))
    chain.mine(*(market.stake(account(n), 250 * USD) for n in range(1, verifiers + 1)))


def play(chain: SimulatedChain, dice: random.Random, blocks: int) -> None:
    """Mine blocks of allowed random actions."""
    for _ in range(blocks):
        chain.mine(*(_action(chain.market, dice, chain) for _ in range(dice.randint(0, 6))))


def _action(market: SimulatedMarket, dice: random.Random, chain: SimulatedChain) -> list[Log]:
    someone = account(dice.randint(1, 8))
    open_batches = [id for id, batch in market.batches.items() if not batch["closed"]]
    kind = dice.choice(["deposit", "withdraw", "commit", "fund", "stake", "checkpoint"])
    if open_batches and dice.random() < 0.7:
        return _advance(market, dice.choice(open_batches), dice)
    if kind == "withdraw" and market.balances.get(someone):
        return market.withdraw(someone, dice.randint(1, market.balances[someone]))
    if kind == "commit" and market.bounties[1]["available"] >= 16 * USD:
        return market.commit(1, account(dice.randint(20, 22)), dice.choice([2, 4]))
    if kind == "fund":
        return market.fund(1, someone, dice.randint(1, 10**30))
    if kind == "stake":
        return market.stake(someone, dice.randint(100, 300) * USD)
    if kind == "checkpoint":
        return market.register_checkpoint(someone, dice.randint(0, market.checkpoints))
    return market.deposit(someone, dice.randint(1, 10**30))


def _advance(market: SimulatedMarket, batch: int, dice: random.Random) -> list[Log]:
    entry = market.batches[batch]
    disputes = [
        id for id, one in market.disputes.items() if one["batch"] == batch and not one["closed"]
    ]
    if disputes and dice.random() < 0.9:
        return _argue(market, dice.choice(disputes), dice)
    if entry["final"] is not None:
        return _answer(market, batch, dice)
    if entry["disputes"]:
        return []
    id = entry["rounds"][-1]
    round = market.rounds[id]
    if not round["seats"]:
        before = entry["rounds"][:-1] if entry["overturned"] else []
        free = _free(market, before)
        if len(free) >= round["size"]:
            return market.draw(id, dice.sample(free, round["size"]))
        return market.void(batch)
    truth = round.setdefault("truth", dice.choice([HONEST, HONEST, LIE, UNAVAILABLE, MALFORMED]))
    if voting := _vote(market, id, dice, [truth, truth, truth, LIE], 2):
        return voting
    votes = list(round["votes"].values())
    if votes[0] == votes[1]:
        return market.attest(batch, votes[0])
    if dice.random() < 0.5 and not round.get("narrowed"):
        round["narrowed"] = True
        return market.dispute(batch, account(30), dice.randint(0, 3), Kind.CONFLICT)
    return market.void(batch) if len(entry["rounds"]) > 2 else market.next_round(batch, 3)


def _answer(market: SimulatedMarket, batch: int, dice: random.Random) -> list[Log]:
    """What may come of an attestation."""
    entry, someone = market.batches[batch], account(dice.randint(30, 32))
    chance = dice.random()
    if entry["final"] in (UNAVAILABLE, MALFORMED):
        kind = Kind.MALFORMED if entry["final"] == MALFORMED else Kind.UNAVAILABLE
        if chance < 0.3 and not entry["disputes"]:
            return market.dispute(batch, someone, 0, kind)
    elif chance < 0.4:
        kind = dice.choice([Kind.LEAF, Kind.LEAF, Kind.OPENING])
        return market.dispute(batch, someone, dice.randint(0, 3), kind)
    elif chance < 0.6:
        return market.prove_fault(batch, someone)
    return [] if entry["disputes"] else market.settle(batch)


def _argue(market: SimulatedMarket, dispute: int, dice: random.Random) -> list[Log]:
    """One step of a dispute."""
    entry = market.disputes[dispute]
    if entry["decided"]:
        if not entry["last"] and dice.random() < 0.4:
            return market.appeal(dispute, account(dice.randint(30, 32)))
        return market.close(dispute)
    if not entry["juries"]:
        if (left := entry.setdefault("moves", dice.randint(0, 3))) > 0:
            entry["moves"] -= 1
            return market.answer(dispute) if left % 2 else market.ask(dispute, 0, left)
        if dice.random() < 0.3:
            return market.conclude_opening(dispute, None)
        return [*market.answer_verdict(dispute, 1), *market.conclude_opening(dispute, 1)]
    id = entry["juries"][-1]
    round = market.rounds[id]
    if not round["seats"]:
        free = _free(market, [*market.batches[entry["batch"]]["rounds"], *entry["juries"]])
        if len(free) <= round["size"] // 2:
            return market.tally_jury(dispute) if dice.random() < 0.5 else []  # stalled, or waits
        return market.draw(id, dice.sample(free, min(len(free), round["size"])))
    said, other = market.claimed(dispute), market.rival(dispute)
    truth = round.setdefault("truth", dice.choice([said, other, other, UNAVAILABLE]))
    if voting := _vote(market, id, dice, [truth, truth, truth, other], 6):
        return voting
    return market.tally_jury(dispute)


def _free(market: SimulatedMarket, before: list[int]) -> list[str]:
    """Verifiers with a free seat that sat in none of these rounds."""
    seat_stake = market.parameters.seat_stake
    sat = {who for id in before for who in market.rounds[id]["seats"]}
    return [
        who
        for who, (stake, seats, _) in market.stakes.items()
        if stake // seat_stake > seats and who not in sat
    ]


def _vote(
    market: SimulatedMarket, id: int, dice: random.Random, say: list[Attestation], most: int
) -> list[Log]:
    """The next commitment or reveal of a round, empty where all have acted. Some stay away, and
    of those who committed only `most` reveal."""
    round = market.rounds[id]
    seats = len(round["seats"])
    started = round.setdefault("started", 0)
    if started < seats and dice.random() < 0.9:
        round["started"] += 1
        return market.commit_verdict(id, started)
    round["started"] = seats
    missing = [seat for seat in sorted(round["committed"]) if seat not in round["votes"]]
    if missing and len(round["votes"]) < most:
        return market.reveal(id, missing[0], dice.choice(say))
    if len(round["votes"]) < 2:  # enough for a batch to be counted
        late = next(seat for seat in range(seats) if seat not in round["votes"])
        return [*market.commit_verdict(id, late), *market.reveal(id, late, dice.choice(say))]
    return []
