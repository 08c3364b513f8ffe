"""What the contracts before the court would log: ledger, bounties, stake, batches and rounds."""

from __future__ import annotations

from typing import Any

from eth_utils import to_checksum_address

from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import Parameters
from marketplace.chain.records import Token
from marketplace.protocol.commitments import stored
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
    names += ("checkpoints", "openings", "evidence", "court", "audits", "royalties")
    addresses = {name: account(2000 + i) for i, name in enumerate(names)}
    return Deployment(
        chain_id=chain_id,
        block=START,
        addresses={**addresses, "market": account(1000 + market)},
        token=Token(account(999), "Test USD", "tUSD", 6, True),
        parameters=PARAMETERS,
        randomness_delay=1,
    )


class SimulatedBatches:
    """Says what the contracts would log. Callers keep to the rules of the contracts."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.parameters = deployment.parameters
        self.balances: dict[str, int] = {}
        modules = ("escrow", "stake", "market", "court", "royalties")
        self.held = dict.fromkeys(modules, 0)
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
            "shares": {
                "root": keccak(b"shares"),
                "holders": 1,
                "passOnPpm": 0,
                "list": content("shares"),
            },
            "identity": keccak(f"identity {self.checkpoints}".encode()),
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
            "attestation": attestation_fields(said),
            "verdicts": content("verdicts"),
        }
        return [("rounds", "VerdictRevealed", args)]

    def commit_together(self, round: int) -> list[Log]:
        """A relay brings all commitments."""
        members = self.rounds[round]["seats"]
        self.rounds[round]["committed"].update(range(len(members)))
        hidden = [stored(keccak(who.encode())) for who in members]
        return [("rounds", "VerdictsCommitted", {"round": round, "commitments": hidden})]

    def reveal_together(
        self, round: int, said: Attestation, places: tuple[str, ...] = ("verdicts",)
    ) -> list[Log]:
        """A relay opens all of them. places: of the verdicts, one for all or one for each."""
        for seat in range(len(self.rounds[round]["seats"])):
            self.rounds[round]["votes"][seat] = said
        args = {
            "round": round,
            "attestation": attestation_fields(said),
            "verdicts": [content(place) for place in places],
        }
        return [("rounds", "VerdictsRevealed", args)]

    def attest(self, batch: int, said: Attestation) -> list[Log]:
        self.batches[batch]["overturned"] += self.batches[batch]["final"] is not None
        self.batches[batch]["final"] = said
        round = self.batches[batch]["rounds"][-1]
        args = {"batch": batch, "round": round, "attestation": attestation_fields(said)}
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

    def _release(self, bounty: int, reserved: int, spent: int) -> list[Log]:
        self.bounties[bounty]["available"] += reserved - spent
        args = {"bounty": bounty, "reserved": reserved, "spent": spent}
        return [("escrow", "BountyReleased", args), *self._shift("escrow", "market", spent)]

    def _replenish(self, bounty: int, amount: int) -> list[Log]:
        if amount == 0:
            return []
        self.bounties[bounty]["available"] += amount
        return [("escrow", "BountyReplenished", {"bounty": bounty, "amount": amount})]


def attestation_fields(said: Attestation) -> dict[str, Any]:
    return {"verdictRoot": said.root, "units": said.units, "faults": said.faults}
