"""Our side: gas of every transaction in the life of a batch, through the client that users have.

The steps are those of the tests' MarketKit, so the two can't come apart. Roots are random: no
contract looks behind one before a dispute.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from conftest import TUSD, Accounts, MarketKit
from eth_account.signers.local import LocalAccount

from marketplace.chain.anvil import AnvilNode
from marketplace.chain.artifacts import MARKET_CONTRACTS, artifact
from marketplace.chain.carrying import Secret, commit_signed, reveal_secrets, sign_commit
from marketplace.chain.client import MarketClient
from marketplace.chain.deploying import deploy
from marketplace.chain.parameters import MINIMAL
from marketplace.chain.records import ContentId
from marketplace.protocol.commitments import commitment, sealed_salt
from marketplace.protocol.verdict import Attestation

COMMITTEE: Final = 5
VERIFIERS: Final = 16
"""More than a committee, so that every batch has other members."""
SEATS_EACH: Final = 40
"""Stake of one verifier, in seats: enough for all batches that are open at once."""
TOGETHER: Final = 16
"""Batches that move at once in the second mode."""
ROLES: Final = 6
PRESET: Final = replace(
    MINIMAL,
    name="benchmark",
    committee_size=COMMITTEE,
    min_verifiers=COMMITTEE,
    # No batch may be worth more than a lying majority loses: the largest one's bond must fit.
    seat_stake="1000",
)

Steps = dict[str, dict[str, int]]
"""action -> {"transactions", "gas"}"""


class Promised:
    """What a bundled call returns: nothing happened yet."""

    def event(self, name: str) -> Any:
        return SimpleNamespace(args=defaultdict(int))

    def drew(self, round_id: int) -> bool:
        return True


class BundlingClient(MarketClient):
    """While `bundle` is a list, calls go in there instead of being sent."""

    bundle: list[tuple[str, str, bytes]] | None = None

    def _send(self, action: str, contract: str, function: str, *args: Any) -> Any:
        if self.bundle is None:
            return super()._send(action, contract, function, *args)
        data = self._encoded(contract, function, args)
        self.bundle.append((action, contract, data))
        return Promised()

    def flush(self, action: str) -> None:
        """Send all bundled calls of one action as one transaction."""
        waiting = self.bundle or []
        calls = [(contract, data) for name, contract, data in waiting if name == action]
        if not calls:
            return
        (contract,) = {contract for contract, _ in calls}
        self.bundle = None
        self._send(action, contract, "multicall", [data for _, data in calls])
        self.bundle = [entry for entry in waiting if entry[0] != action]


@dataclass(slots=True)
class Bench(MarketKit):
    """MarketKit whose clients can bundle. gas: as there."""

    bounty: int = field(default=0)

    def client(self, account: LocalAccount) -> BundlingClient:
        if account.address not in self._clients:
            self._clients[account.address] = BundlingClient(
                self.anvil.url,
                self.deployment,
                account,
                timeout=60.0,
                on_gas=lambda action, used: self.gas.append((action, used)),
                check=False,
            )
        return self._clients[account.address]

    def life(self, traces: int, *, carried: bool = False) -> Steps:
        """A whole batch, alone: one transaction for every step of everybody. carried: a relay (the
        keeper) brings all members' votes, signed by them."""
        start = len(self.gas)
        batch = self.commit_batch(self.bounty, traces=traces, root=os.urandom(32))
        round_id = self.draw(batch)
        vote = Attestation(os.urandom(32), traces, 0)
        if carried:
            self.carry({round_id: vote})
        else:
            self.vote(round_id, [vote] * self.reader.round(round_id).seats)
        self.reader.tally(batch, vote)
        self.pass_challenge_window()
        self.reader.settle(batch)
        return steps(self.gas[start:])

    def carry(self, votes: Mapping[int, Attestation]) -> None:
        """All members of some rounds say the same of each, through the keeper: it pays two
        transactions, the members none."""
        signed, secrets = [], []
        for round_id, vote in votes.items():
            round_ = self.reader.round(round_id)
            place = ContentId(sha256(vote.root).digest(), 0x55)
            for seat in self.reader.seats(round_id):
                secret = Secret(round_id, seat.index, vote, os.urandom(32), place)
                hidden = commitment(
                    self.deployment.chain_id,
                    self.deployment.address("rounds"),
                    round_id,
                    round_.subject,
                    seat.verifier,
                    vote,
                    sealed_salt(secret.secret, place.digest, place.codec),
                )
                key = self.accounts.key_of(seat.verifier)
                signed.append(sign_commit(self.reader, key, round_, seat.index, hidden))
                secrets.append(secret)
        commit_signed(self.reader, signed)
        reveal_secrets(self.reader, secrets)

    def lives_together(
        self, traces: int, batches: int = TOGETHER, *, carried: bool = False
    ) -> Steps:
        """`batches` batches of one miner that move at once: everybody handles all that is its to
        handle with one transaction a step. carried: as for life()."""
        start = len(self.gas)
        miner, keeper = self.client(self.accounts.miner), self.reader
        verifiers = [self.client(key) for key in self.accounts.verifiers]
        everybody = [miner, keeper, *verifiers]
        first = keeper.batch_count() + 1
        ids = range(first, first + batches)
        assignment = miner.assignment(self.bounty, miner.address)
        assert assignment is not None
        assert assignment.seed is not None
        for client in everybody:
            client.bundle = []
        for place in range(batches):
            miner.commit_batch(
                self.bounty,
                root=os.urandom(32),
                traces=traces,
                first_task=assignment.next_task + place * traces,
                seed=assignment.seed,
                content=ContentId(os.urandom(32), 0x55),
            )
        miner.flush("commit_batch")
        rounds = [keeper.batch(batch).round for batch in ids]
        self.wait_for_randomness(keeper.round(rounds[-1]).draw_point)
        keeper.bundle = None
        keeper.draw_due(batches)
        keeper.bundle = []
        votes = [Attestation(os.urandom(32), traces, 0) for _ in ids]
        if carried:
            keeper.bundle = None
            self.carry(dict(zip(rounds, votes, strict=True)))
            keeper.bundle = []
        else:
            for round_id, vote in zip(rounds, votes, strict=True):
                self.vote(round_id, [vote] * keeper.round(round_id).seats)
        for action in ("commit_verdict", "reveal_verdict"):
            for verifier in verifiers:
                verifier.flush(action)
        for batch, vote in zip(ids, votes, strict=True):
            keeper.tally(batch, vote)
        keeper.flush("tally")
        self.pass_challenge_window()
        for batch in ids:
            keeper.settle(batch)
        keeper.flush("settle")
        for client in everybody:
            assert not client.bundle, f"never sent: {client.bundle}"
            client.bundle = None
        return steps(self.gas[start:])

    @property
    def bundles(self) -> bool:
        """Whether the contracts offer multicall."""
        return all(
            any(entry.get("name") == "multicall" for entry in artifact(MARKET_CONTRACTS[name]).abi)
            for name in ("market", "rounds")
        )


def steps(gas: Sequence[tuple[str, int]]) -> Steps:
    found: Steps = {}
    for action, used in gas:
        # Several due draws in one call are draws all the same.
        entry = found.setdefault(
            "draw" if action == "draw_due" else action, {"transactions": 0, "gas": 0}
        )
        entry["transactions"] += 1
        entry["gas"] += used
    return found


def total(found: Steps) -> int:
    return sum(entry["gas"] for entry in found.values())


def open_market(anvil: AnvilNode) -> Bench:
    """A market with stakes and a funded bounty, and nothing else that ever happened in it."""
    keys = anvil.accounts
    accounts = Accounts(*keys[:ROLES], verifiers=tuple(keys[ROLES : ROLES + VERIFIERS]))
    kit = Bench(anvil, deploy(anvil.url, accounts.deployer, PRESET, timeout=60.0), accounts)
    for key in (accounts.poster, accounts.miner, *accounts.verifiers):
        kit.reader.mint_test_tokens(key.address, 10_000_000 * TUSD)
    seat = kit.deployment.parameters.seat_stake
    kit.stake_verifiers(VERIFIERS, SEATS_EACH * seat)
    # Groups of one, so that there can be a batch of one. What a unit costs is no matter here.
    kit.bounty = kit.open_bounty(
        5_000_000 * TUSD, group_size=1, price_per_unit=TUSD // 1000, fee_per_trace=TUSD // 1000
    )
    kit.open_assignment(kit.bounty)
    return kit


def warm_up(kit: Bench, least: int = 5) -> int:
    """Batches until every account that a batch touches has been through one: the miner pays
    bonds from its ledger balance, every verifier has been paid before. Returns how many."""
    kit.client(kit.accounts.miner).deposit(1_000_000 * TUSD)
    done = 0
    while done < least or not all(
        kit.reader.balance(key.address) for key in kit.accounts.verifiers
    ):
        kit.life(16)
        done += 1
        assert done < 200, "some verifier is never drawn"
    return done


def sample(lives: Sequence[Steps], batches: int = 1) -> dict[str, Any]:
    """Means over several lives, each of `batches` batches: gas of one batch, by step."""
    totals = [total(life) / batches for life in lives]
    actions = dict.fromkeys(action for life in lives for action in life)
    return {
        "lives": len(lives),
        "gas": statistics.fmean(totals),
        "least": min(totals),
        "most": max(totals),
        "steps": {
            action: {
                what: statistics.fmean(life.get(action, {}).get(what, 0) for life in lives)
                / batches
                for what in ("transactions", "gas")
            }
            for action in actions
        },
    }


def withdrawals(kit: Bench, fresh: Sequence[str]) -> dict[str, int]:
    """Gas of Ledger.withdraw by a miner who has withdrawn before."""
    miner = kit.client(kit.accounts.miner)
    miner.withdraw(TUSD)  # it has withdrawn before
    return {
        "part, to a holder": miner.withdraw(123_456_789).gas_used,
        "part, to a fresh address": miner.withdraw(123_456_789, to=fresh[0]).gas_used,
        "all, to a holder": miner.withdraw().gas_used,
        "all, to a fresh address": _all_to_fresh(kit, fresh[1]),
    }


def _all_to_fresh(kit: Bench, to: str) -> int:
    verifier = kit.client(kit.accounts.verifiers[0])
    assert verifier.balance(verifier.address)
    return verifier.withdraw(to=to).gas_used
