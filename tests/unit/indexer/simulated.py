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
from marketplace.chain.records import Block, Event, Token
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation

Log = tuple[str, str, dict[str, Any]]
START = 10
USD = 10**6
PARAMETERS = Parameters(
    committee_size=3,
    max_rounds=3,
    draw_timeout=60,
    commit_window=60,
    reveal_window=60,
    challenge_window=2,
    unbonding_delay=542,
    seat_stake=100 * USD,
    absence_bps=500,
    incoherence_bps=2000,
    bond_per_trace=USD // 100,
    fault_multiple=5,
    max_traces=65_536,
)


def account(number: int) -> str:
    return to_checksum_address(keccak(f"account {number}".encode())[-20:])


def content(seed: str) -> dict[str, Any]:
    return {"digest": keccak(seed.encode()), "codec": 0x55}


def deployment(chain_id: int = 31337, market: int = 9) -> Deployment:
    names = ("environments", "randomness", "ledger", "escrow", "stake", "rounds", "assignments")
    addresses = {name: account(1000 + i) for i, name in enumerate((*names, "checkpoints"))}
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
        self.environments: list[bytes] = []
        self.bounties: dict[int, dict[str, Any]] = {}
        self.batches: dict[int, dict[str, Any]] = {}
        self.rounds: dict[int, dict[str, Any]] = {}
        self.stakes: dict[str, list[int]] = {}  # stake, open seats, unbonding
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
        self.balances[who] = self.balances.get(who, 0) - part
        args = {"module": self._module(module), "from": who, "amount": amount, "fromBalance": part}
        return ("ledger", "Collected", args)

    def _credit(self, module: str, who: str, amount: int) -> list[Log]:
        if amount == 0:
            return []
        self.balances[who] = self.balances.get(who, 0) + amount
        args = {"account": who, "module": self._module(module), "amount": amount}
        return [("ledger", "Credited", args)]

    def _shift(self, source: str, target: str, amount: int) -> list[Log]:
        if amount == 0:
            return []
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
        id = len(self.rounds) + 1
        self.rounds[id] = {"seats": [], "votes": {}, "size": size}
        self.batches[batch]["rounds"].append(id)
        opened = {"round": id, "subject": keccak(b"subject"), "size": size, "drawPoint": 50}
        return [
            ("rounds", "RoundOpened", opened),
            ("market", "BatchRoundOpened", {"batch": batch, "round": id, "size": size}),
        ]

    def draw(self, round: int, members: list[str]) -> list[Log]:
        self.rounds[round]["seats"] = members
        for member in members:
            self.stakes[member][1] += 1
        args = {"round": round, "randomness": keccak(b"draw"), "members": members}
        return [("rounds", "RoundDrawn", args)]

    def commit_verdict(self, round: int, seat: int) -> list[Log]:
        who = self.rounds[round]["seats"][seat]
        args = {"round": round, "verifier": who, "seat": seat, "commitment": keccak(who.encode())}
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
        self.batches[batch]["final"] = said
        round = self.batches[batch]["rounds"][-1]
        args = {"batch": batch, "round": round, "attestation": _struct(said)}
        return [("market", "BatchAttested", args)]

    def next_round(self, batch: int, size: int) -> list[Log]:
        return self._open_round(batch, size)

    def settle(self, batch: int) -> list[Log]:
        entry = self.batches[batch]
        bounty, final = entry["bounty"], entry["final"]
        terms, bond = self.bounties[bounty]["terms"], entry["bond"]
        closed, coherent, seats, slashed = self._judge(batch, final)
        share = terms["feePerTrace"] * entry["count"] // seats
        fees, earned = share * len(coherent), terms["pricePerUnit"] * final.units
        if final in (UNAVAILABLE, MALFORMED):
            forfeited = bond if final == MALFORMED else fees
            to_bounty, spent = forfeited - fees, 0
        else:
            cost = self.parameters.fault_multiple * self.parameters.bond_per_trace
            forfeited = to_bounty = min(bond, final.faults * cost)
            spent = earned + fees
        settled = {"batch": batch, "minerPaid": earned, "feesPaid": fees}
        settled |= {"bondForfeited": forfeited, "slashed": slashed}
        logs = [*closed, *self._release(bounty, entry["worst"], spent)]
        logs.append(("market", "BatchSettled", settled))
        logs += self._credit("market", entry["miner"], earned + bond - forfeited)
        for who in coherent:
            logs += self._credit("market", who, share)
        logs += self._shift("market", "escrow", to_bounty)
        return [*logs, *self._replenish(bounty, to_bounty + slashed)]

    def void(self, batch: int) -> list[Log]:
        entry = self.batches[batch]
        closed, _, _, slashed = self._judge(batch, None)
        return [
            *closed,
            ("market", "BatchVoided", {"batch": batch, "slashed": slashed}),
            *self._release(entry["bounty"], entry["worst"], 0),
            *self._credit("market", entry["miner"], entry["bond"]),
            *self._replenish(entry["bounty"], slashed),
        ]

    def _judge(
        self, batch: int, final: Attestation | None
    ) -> tuple[list[Log], list[str], int, int]:
        self.batches[batch]["closed"] = True
        absence = self.parameters.seat_stake * self.parameters.absence_bps // 10_000
        wrong = self.parameters.seat_stake * self.parameters.incoherence_bps // 10_000
        logs: list[Log] = []
        coherent: list[str] = []
        seats = total = 0
        for round in self.batches[batch]["rounds"]:
            slashed = 0
            for seat, who in enumerate(self.rounds[round]["seats"]):
                vote = self.rounds[round]["votes"].get(seat)
                penalty = 0
                if vote is None:
                    penalty = absence
                elif final is not None and vote == final:
                    coherent.append(who)
                elif final not in (None, UNAVAILABLE):
                    penalty = absence if vote == UNAVAILABLE else wrong
                self.stakes[who][0] -= penalty
                self.stakes[who][1] -= 1
                slashed += penalty
                seats += 1
                logs.append(("stake", "SeatClosed", {"verifier": who, "penalty": penalty}))
            logs += self._shift("stake", "escrow", slashed)
            total += slashed
        return logs, coherent, seats, total

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
        chain.mine(*(_action(chain.market, dice, chain) for _ in range(dice.randint(0, 3))))


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
    if entry["final"] is not None:
        return market.settle(batch)
    id = entry["rounds"][-1]
    round = market.rounds[id]
    seat_stake = market.parameters.seat_stake
    free = [who for who, (stake, seats, _) in market.stakes.items() if stake // seat_stake > seats]
    if not round["seats"]:
        if len(free) >= round["size"]:
            return market.draw(id, dice.sample(free, round["size"]))
        return market.void(batch)
    started = round.setdefault("started", 0)
    seats = len(round["seats"])
    if started < seats and dice.random() < 0.9:
        round["started"] += 1
        return market.commit_verdict(id, started)
    round["started"] = seats
    said = Attestation(keccak(b"honest"), 1, 1)
    if len(round["votes"]) < 2:
        missing = [seat for seat in range(seats) if seat not in round["votes"]]
        say = dice.choice([said, said, UNAVAILABLE, MALFORMED])
        return market.reveal(id, missing[0], say)
    votes = list(round["votes"].values())
    if votes[0] == votes[1]:
        return market.attest(batch, votes[0])
    return market.void(batch) if len(entry["rounds"]) > 1 else market.next_round(batch, 3)
