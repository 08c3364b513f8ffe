"""A market on Anvil for adversaries: actors by name, raw calls, and the steps of a batch's life.

Calls go straight to the contracts, not through our client: it would refuse what liars send. Time is
moved, never waited for. Everybody's holdings are read from the chain: wallet, ledger balance, stake
and bounty.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address

from marketplace.chain.anvil import AnvilNode
from marketplace.chain.artifacts import MARKET_CONTRACTS, TOKEN_CONTRACT, artifact
from marketplace.chain.calls import Function, functions
from marketplace.chain.deploying import deploy
from marketplace.chain.deployment import Deployment
from marketplace.chain.events import EventDecoder
from marketplace.chain.parameters import STANDARD, Preset
from marketplace.chain.records import PayRule, Tier
from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import builtin_spec, environment_id, spec_bytes
from marketplace.protocol.commitments import commitment
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Attestation
from marketplace.storage.embedded import EmbeddedStore

TUSD: Final = 10**6
FUNDS: Final = 100_000 * TUSD
STAKE: Final = 500 * TUSD
VERIFIERS: Final = 32
GROUP: Final = 4
PRICE, FEE = TUSD // 10, TUSD // 50
GAS: Final = 29_000_000
DAY: Final = 86_400

POSTER, MINER, LIAR, VICTIM, WATCHER = "poster", "miner", "liar", "victim", "watcher"
"""miner is honest, liar mines dishonestly, victim is somebody whom an attack aims at, watcher
challenges what is false."""

Ballot = Callable[[int, str], Attestation | None]
"""(seat, name of its verifier) -> what it votes; None: it does nothing."""


class Refused(Exception):
    """A contract refused a call. error: the name of its error, or what the token said."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class Done:
    """A call that went through."""

    gas: int
    block: int
    events: Mapping[str, Sequence[Mapping[str, Any]]]

    def event(self, name: str) -> Mapping[str, Any]:
        (found,) = self.events[name]
        return found


@dataclass(slots=True)
class Watch:
    """Holdings of some accounts at its making."""

    arena: Arena
    names: tuple[str, ...]
    before: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.before = {name: self.arena.wealth(name) for name in self.names}

    def changes(self) -> dict[str, int]:
        return {name: self.arena.wealth(name) - held for name, held in self.before.items()}

    @property
    def gain(self) -> int:
        return sum(max(0, change) for change in self.changes().values())

    @property
    def cost(self) -> int:
        return sum(max(0, -change) for change in self.changes().values())


class Arena:
    """node: a running Anvil of its own. token: an ERC-20 there, None for the test stablecoin; its
    `mint` must be open to all."""

    def __init__(
        self,
        node: AnvilNode,
        *,
        preset: Preset = STANDARD,
        verifiers: int = VERIFIERS,
        token: str | None = None,
        pool: CheckPool | None = None,
        stake: int = STAKE,
    ) -> None:
        self.node = node
        self.preset = preset
        self.deployment: Deployment = deploy(
            node.url, node.accounts[0], preset, token=token, timeout=30.0
        )
        self.p = self.deployment.parameters
        self._decoder = EventDecoder(self.deployment)
        self.pool = pool
        self._names: dict[str, str] = {}
        self._owned: dict[str, list[int]] = {}
        self._funded: set[str] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="tracemarket-attacks-")
        self.spec = builtin_spec("chain_sum")
        self.environment_id = environment_id(spec_bytes(self.spec))
        node.rpc("anvil_autoImpersonateAccount", True)
        self.send(POSTER, "environments", "register", self.environment_id)
        self.verifiers = [f"verifier {number}" for number in range(verifiers)]
        for name in self.verifiers:
            self.send(name, "stake", "stake", stake)
        self.bounty = self.open_bounty(2_000 * TUSD)
        for name in (MINER, LIAR, VICTIM, WATCHER, "keeper"):
            self.address(name)
        self._first_owned = {name: list(ids) for name, ids in self._owned.items()}
        self._first_funded = set(self._funded)
        self._snapshot = node.snapshot()
        self.reset(0)

    def reset(self, trial: int) -> None:
        """Back to the first state; block hashes, and so draws, differ from trial to trial."""
        self.node.revert(self._snapshot)
        self._snapshot = self.node.snapshot()
        self._owned = {name: list(ids) for name, ids in self._first_owned.items()}
        self._funded = set(self._first_funded)  # the revert took back the rest
        self.store = EmbeddedStore(Path(self._folder.name) / f"store-{trial}")
        self.store.put(spec_bytes(self.spec))
        self.pass_time(60 + 7 * trial)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What happens inside is taken back: for the same trial without its attack."""
        snapshot, funded = self.node.snapshot(), set(self._funded)
        owned = {name: list(ids) for name, ids in self._owned.items()}
        yield
        self.node.revert(snapshot)
        self._funded, self._owned = funded, owned

    @functools.cached_property
    def environment(self) -> Environment:
        return Environment(self.spec)

    def close(self) -> None:
        self._folder.cleanup()

    # --- actors and money ----------------------------------------------------------------

    def address(self, name: str) -> str:
        """The account of a name; where it is new it gets coin, tokens and an allowance."""
        account = str(to_checksum_address(keccak(name.encode())[:20]))
        self._names[account] = name
        if name not in self._funded:
            self._funded.add(name)
            self.node.set_balance(account, 10**22)
            self.raw(account, "token", "mint", account, FUNDS)
            self.raw(account, "token", "approve", self._ledger, 2**255)
        return account

    def name_of(self, account: str) -> str:
        return self._names[str(to_checksum_address(account))]

    @property
    def _ledger(self) -> str:
        return self.deployment.address("ledger")

    def wealth(self, name: str) -> int:
        """Wallet, ledger balance, stake (unbonding too), pay for judging, and bounties with their
        pots, in base units."""
        account = self.address(name)
        stake = self.view("stake", "get", account)
        held = self.view("token", "balanceOf", account)
        held += self.view("ledger", "balanceOf", account)
        held += self.view("sheets", "balanceOf", account)
        for bounty in self._owned.get(name, ()):
            entry = self.view("escrow", "get", bounty)
            held += entry[1] + entry[2] + self.view("sheets", "potOf", bounty)[1]
        return int(held + stake[0] + stake[1])

    def entries(self) -> int:
        """The sum of the ledger's entries: holdings, and everybody's balances."""
        modules = ("escrow", "stake", "market", "court")
        held = [self.view("ledger", "heldFor", self.deployment.address(name)) for name in modules]
        return sum(held) + sum(self.view("ledger", "balanceOf", one) for one in self._names)

    def watch(self, *names: str) -> Watch:
        return Watch(self, names)

    # --- calls -----------------------------------------------------------------------------

    def view(self, contract: str, function: str, *args: Any) -> Any:
        return self._ask(contract, function, args)

    def view_as(self, sender: str, contract: str, function: str, *args: Any) -> Any:
        """What a call by a contract of the market would return; nothing is changed."""
        return self._ask(contract, function, args, sender=self.deployment.address(sender))

    def _ask(self, contract: str, function: str, args: Any, **more: str) -> Any:
        called, target = self._called(contract, function)
        call = {"to": target, "data": _hex(called.encoded(args))}
        if more:
            call["from"] = more["sender"]
        answer = self.node.rpc("eth_call", call, "latest")
        found = decode(called.outputs, bytes.fromhex(answer[2:]))
        return found[0] if len(found) == 1 else found

    def _called(self, contract: str, function: str) -> tuple[Function, str]:
        """A function, and where its contract is."""
        if contract == "token":
            return functions(TOKEN_CONTRACT)[function], self.deployment.token.address
        return functions(MARKET_CONTRACTS[contract])[function], self.deployment.address(contract)

    def send(self, who: str, contract: str, function: str, *args: Any) -> Done:
        """A call by an actor; Refused where it reverts."""
        return self.raw(self.address(who), contract, function, *args)

    def raw(self, account: str, contract: str, function: str, *args: Any) -> Done:
        called, target = self._called(contract, function)
        data = _hex(called.encoded(args))
        call = {"from": account, "to": target, "data": data, "gas": hex(GAS)}
        tx = self.node.rpc("eth_sendTransaction", call)
        receipt = self._receipt(tx)
        if int(receipt["status"], 16) != 1:
            raise Refused(self._why(tx))
        return Done(
            int(receipt["gasUsed"], 16),
            int(receipt["blockNumber"], 16),
            self._events(receipt["logs"]),
        )

    def attested(self, batch: int) -> bytes:
        """What a bond against a batch's attestation names (ICourt.disputeOutcome)."""
        seen = self.view("market", "get", batch)
        types = ("bytes32", "uint32", "(bytes32,uint32,uint32)")
        return keccak(encode(types, (seen[3], seen[2], tuple(seen[10]))))

    def decision(self, dispute: int) -> bytes:
        """What an appeal names (ICourt.appeal)."""
        seen = self.view("court", "get", dispute)
        batch = self.view("market", "get", seen[1])
        types = ("bytes32", "uint32", *("uint8", "uint32", "bytes32", "bytes32"))
        types += ("uint8", "uint8", "bytes32")
        disputed = (seen[7], seen[2], seen[14], seen[15], seen[6], seen[8], seen[16])
        return keccak(encode(types, (batch[3], batch[2], *disputed)))

    def refusal(self, who: str, contract: str, function: str, *args: Any) -> str | None:
        """The error that a call meets; None where it went through."""
        try:
            self.send(who, contract, function, *args)
        except Refused as refused:
            return refused.error
        return None

    def _receipt(self, tx: str) -> Mapping[str, Any]:
        for _ in range(2000):  # Anvil mines at once, but not before it answers
            if (receipt := self.node.rpc("eth_getTransactionReceipt", tx)) is not None:
                return dict(receipt)
            time.sleep(0.001)
        raise AssertionError(f"{tx} was not mined")

    def _why(self, tx: str) -> str:
        trace = self.node.rpc("debug_traceTransaction", tx, {"tracer": "callTracer"})
        output = str(trace.get("output", "0x"))
        known = _errors().get(output[:10])
        return known or str(trace.get("revertReason") or trace.get("error") or output)

    def _events(self, logs: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
        found: dict[str, list[Mapping[str, Any]]] = {}
        for log in logs:
            event = self._decoder.decode(_as_log(log))
            if event is not None and event.contract != "token":
                found.setdefault(event.name, []).append(event.args)
        return found

    # --- time ------------------------------------------------------------------------------

    def mine(self, blocks: int = 1) -> None:
        self.node.mine(blocks)

    def pass_time(self, seconds: int) -> None:
        self.node.increase_time(seconds)

    def lose(self, depth: int) -> None:
        """The last `depth` blocks are replaced by empty ones. Only where the trial's row is
        `alone`."""
        self.node.reorg(depth)
        market = self.deployment.address("market")
        assert self.node.rpc("eth_getCode", market, "latest") != "0x", "Anvil lost its state"

    @property
    def now(self) -> int:
        return int(self.node.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    # --- a batch's life --------------------------------------------------------------------

    def open_bounty(self, amount: int, *, poster: str = POSTER, **changes: Any) -> int:
        """By default: groups of 4, tier C, 0.10 for each right trace, 0.02 for checking one."""
        fields: dict[str, Any] = {
            "environment": self.environment_id,
            "trainer": "0x" + "00" * 20,
            "deadline": self.now + 30 * DAY,
            "group_size": GROUP,
            "tier": int(Tier.C),
            "pay_rule": int(PayRule.CORRECT),
            "price": PRICE,
            "fee": FEE,
        } | changes
        done = self.send(poster, "escrow", "create", tuple(fields.values()), amount)
        bounty = int(done.event("BountyCreated")["bounty"])
        self._owned.setdefault(poster, []).append(bounty)
        return bounty

    def enrol(self, miner: str, bounty: int | None = None) -> bytes:
        """The seed of a miner's open assignment."""
        bounty = bounty or self.bounty
        seed, point, _ = self.view("assignments", "get", bounty, self.address(miner))
        if point == 0:
            self.send(miner, "assignments", "request", bounty)
            self.mine(self.preset.randomness_delay + 1)
            self.send(miner, "assignments", "open", bounty, self.address(miner))
            seed, _, _ = self.view("assignments", "get", bounty, self.address(miner))
        return bytes(seed)

    def commit(
        self,
        miner: str,
        *,
        traces: int = 2 * GROUP,
        root: bytes = b"\x11" * 32,
        bounty: int | None = None,
        content: tuple[bytes, int] = (b"\x22" * 32, 0x55),
    ) -> int:
        """Commits a batch for the miner's next tasks; its id."""
        bounty = bounty or self.bounty
        seed = self.enrol(miner, bounty)
        task = self.view("assignments", "get", bounty, self.address(miner))[2]
        done = self.send(miner, "market", "commitBatch", bounty, root, traces, task, seed, content)
        return int(done.event("BatchCommitted")["batch"])

    def batch(self, batch: int) -> SimpleNamespace:
        """The batch as IBatchMarket.Batch, with its id."""
        data = self.view("market", "get", batch)
        (output,) = next(
            entry["outputs"]
            for entry in artifact("BatchMarket").abi
            if entry.get("name") == "get" and entry["type"] == "function"
        )
        names = [_snake(field["name"]) for field in output["components"]]
        return SimpleNamespace(id=batch, **dict(zip(names, data, strict=True)))

    def draw(self, round_: int) -> list[str]:
        """Draws a round's committee where that is still to do; its members by seat."""
        if self.view("rounds", "phaseOf", round_) in (1, 2):
            self.mine(self.preset.randomness_delay + 1)
            self.send("keeper", "rounds", "draw", round_)
        return self.members(round_)

    def members(self, round_: int) -> list[str]:
        seats = self.round(round_)["seats"]
        return [
            self.name_of(self.view("rounds", "seatOf", round_, seat)[0]) for seat in range(seats)
        ]

    def round(self, round_: int) -> dict[str, Any]:
        data = self.view("rounds", "get", round_)
        (output,) = next(
            entry["outputs"] for entry in artifact("Rounds").abi if entry.get("name") == "get"
        )
        return dict(zip((part["name"] for part in output["components"]), data, strict=True))

    def digest(self, round_: int, who: str, vote: Attestation, salt: bytes | None = None) -> bytes:
        """The commitment of a vote."""
        return commitment(
            self.deployment.chain_id,
            self.deployment.address("rounds"),
            round_,
            bytes(self.round(round_)["subject"]),
            self.address(who),
            vote,
            salt or self.salt(who),
        )

    def salt(self, who: str) -> bytes:
        return keccak(b"salt " + who.encode())

    def commit_vote(self, round_: int, seat: int, who: str, vote: Attestation) -> None:
        self.send(who, "rounds", "commitVerdict", round_, seat, self.digest(round_, who, vote))

    def reveal_vote(self, round_: int, seat: int, who: str, vote: Attestation) -> None:
        where = (keccak(vote.root), 0x55)
        self.send(who, "rounds", "revealVerdict", round_, seat, fields(vote), self.salt(who), where)

    def vote(self, round_: int, ballot: Ballot | Attestation) -> list[str]:
        """Draws, commits and reveals; the members by seat."""
        members = self.draw(round_)
        cast = (lambda seat, who: ballot) if isinstance(ballot, Attestation) else ballot
        votes = [cast(seat, who) for seat, who in enumerate(members)]
        for seat, (who, vote) in enumerate(zip(members, votes, strict=True)):
            if vote is not None:
                self.commit_vote(round_, seat, who, vote)
        if None in votes:
            self.pass_time(self.p.commit_window + 1)
        for seat, (who, vote) in enumerate(zip(members, votes, strict=True)):
            if vote is not None:
                self.reveal_vote(round_, seat, who, vote)
        return members

    def attest(self, batch: int, ballot: Ballot | Attestation, leader: Attestation) -> list[str]:
        """The batch's current round votes and is tallied; its members."""
        members = self.vote(self.batch(batch).round, ballot)
        self.send("keeper", "market", "tally", batch, fields(leader))
        return members

    def settle(self, batch: int) -> Done:
        self.pass_time(self.p.challenge_window + 1)
        return self.send("keeper", "market", "settle", batch)

    def phase(self, batch: int) -> str:
        names = ("none", "in round", "challengeable", "settleable", "settled", "void", "disputed")
        return names[self.view("market", "phaseOf", batch)]


def fields(vote: Attestation) -> tuple[bytes, int, int]:
    return (vote.root, vote.units, vote.faults)


def majority(lie: Attestation, truth: Attestation | None, seats: int) -> Ballot:
    """The first seats, one more than half of `seats`, lie; the others tell the truth."""
    return lambda seat, who: lie if seat <= seats // 2 else truth


@functools.cache
def _errors() -> dict[str, str]:
    found = {"0x08c379a0": "Error", "0x4e487b71": "Panic"}
    for contract in (*MARKET_CONTRACTS.values(), TOKEN_CONTRACT):
        for entry in artifact(contract).abi:
            if entry["type"] == "error":
                found["0x" + keccak(_signature(entry).encode())[:4].hex()] = entry["name"]
    return found


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _signature(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']}({','.join(_type(part) for part in entry['inputs'])})"


def _type(part: Mapping[str, Any]) -> str:
    if not part["type"].startswith("tuple"):
        return str(part["type"])
    inner = ",".join(_type(one) for one in part["components"])
    return f"({inner}){part['type'].removeprefix('tuple')}"


def _as_log(log: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "address": log["address"],
        "topics": [bytes.fromhex(topic[2:]) for topic in log["topics"]],
        "data": bytes.fromhex(log["data"][2:]),
        "blockNumber": int(log["blockNumber"], 16),
        "transactionHash": bytes.fromhex(log["transactionHash"][2:]),
        "transactionIndex": int(log["transactionIndex"], 16),
        "blockHash": bytes.fromhex(log["blockHash"][2:]),
        "logIndex": int(log["logIndex"], 16),
    }


def _snake(name: str) -> str:
    return "".join(f"_{one.lower()}" if one.isupper() else one for one in name)
