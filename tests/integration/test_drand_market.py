"""A market that draws from drand on a real Anvil, on the recorded rounds of evmnet: the chain's
clock is set so that these are the rounds that a batch's life needs. No signature is made up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from web3 import Web3

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import Ran, command_line
from drand_kit import RECORDED, VALUES, Relay, relay
from loop_kit import Loop

from marketplace.api.app import create_app
from marketplace.api.views import POINT_STATUSES, ROUND_PHASES
from marketplace.chain.delivering import BeaconKeeper, wanted
from marketplace.chain.deploying import check_links
from marketplace.chain.deployment import Deployment, load_deployment
from marketplace.chain.errors import ContractError
from marketplace.chain.records import BatchPhase, RandomnessStatus, RoundPhase
from marketplace.chain.relays import Relays
from marketplace.cli import randomness as randomness_commands
from marketplace.indexer.follow import Indexer
from marketplace.indexer.store import IndexStore
from marketplace.miner.mine import Miner
from marketplace.miner.spool import Spool
from marketplace.protocol.beacons import EVMNET
from marketplace.protocol.errors import BeaconUnavailable, ChainError, ConfigError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Attestation
from verifier_node.duties import Duty

TUSD = 10**6
DELAY, PATIENCE = 36, 3600
TASKS, DRAW = 6390578, 9337227  # 102 days apart: what a miner's tasks and a draw hang on
NOBODY = "http://127.0.0.1:9"
GOOD = Attestation(b"\x21" * 32, 5, 1)


class Stage:
    """A node whose clock only moves as told, a relay, the command line, and the index's answers."""

    def __init__(self, node: Any, accounts: Any, relay: Relay, folder: Path) -> None:
        self.node, self.accounts, self.relay, self.folder = node, accounts, relay, folder
        self.cli: Callable[..., Ran]
        self.kit: Any = None
        self.get: Callable[[str], Any]

    def at(self, timestamp: int) -> None:
        self.node.next_block_at(timestamp)
        self.node.mine()

    def nonce(self, account: Any) -> int:
        return int(self.node.rpc("eth_getTransactionCount", account.address, "latest"), 16)

    def keeper(self, *urls: str, account: Any = None) -> BeaconKeeper:
        client = self.kit.client(account or self.accounts.stranger)
        return BeaconKeeper(client, Relays(EVMNET, urls or (self.relay.url,), timeout=5))

    def check_answers(self, bounty: int, **expected: str | None) -> None:
        """The index says of every round and assignment what the contracts say now."""
        reader = self.kit.reader
        said = self.get(f"/bounties/{bounty}/assignments")["items"]
        for one in said:
            held = reader.assignment(bounty, one["miner"])
            assert one["point"] == held.point
            assert one["seed"] == (None if held.seed is None else "0x" + held.seed.hex())
            status = POINT_STATUSES[reader.randomness(held.point)]
            assert one["status"] == (None if held.seed is not None else status)
        if "assignment" in expected:
            by_miner = {one["miner"]: one["status"] for one in said}
            assert by_miner[self.accounts.miner.address] == expected["assignment"]
        for number in range(1, reader.round_count() + 1):
            round_, told = reader.round(number), self.get(f"/rounds/{number}")
            assert told["phase"] == ROUND_PHASES[round_.phase]
            status = POINT_STATUSES[reader.randomness(round_.draw_point)]
            assert told["draw_status"] == (None if round_.drawn_at is not None else status)
        if "draw" in expected:
            assert self.get(f"/rounds/{reader.round_count()}")["draw_status"] == expected["draw"]


@pytest.fixture
def stage(
    fresh_anvil: Any, accounts: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> Iterator[Stage]:
    node = fresh_anvil(timestamp=EVMNET.time_of(TASKS) - 7200)
    node.set_interval(1)
    keys = {role: getattr(accounts, role) for role in ("deployer", "stranger")}
    run = command_line(node.url, None, keys, tmp_path, monkeypatch, capsys)
    with relay({}) as served:
        stage = Stage(node, accounts, served, tmp_path)
        stage.cli = lambda *words, key="stranger": run(*words, key=key)
        yield stage


def deploy_by_hand(stage: Stage, kit_on: Any) -> Deployment:
    done = stage.cli("deploy", "--preset", "minimal", "--randomness", "drand", key="deployer")
    assert done.code == 0, done.err
    deployment = load_deployment(Path("deployment.json"))
    stage.kit = kit_on(stage.node, deployment)
    people = (stage.accounts.poster, stage.accounts.miner, *stage.accounts.verifiers[:5])
    for account in people:
        stage.kit.reader.mint_test_tokens(account.address, 10_000 * TUSD)
    return deployment


def check_deployment_of(stage: Stage, deployment: Deployment) -> None:
    assert (deployment.randomness, deployment.beacon) == ("drand", EVMNET)
    assert (deployment.randomness_delay, deployment.randomness_patience) == (DELAY, PATIENCE)
    assert deployment.contracts["randomness"] == "DrandRandomness"
    w3 = Web3(Web3.HTTPProvider(stage.node.url))
    check_links(w3, deployment)
    for change, said in [
        ({"beacon": None, "randomness_patience": None}, "is a DrandRandomness.*says blockhash"),
        ({"beacon": replace(EVMNET, period=4)}, "period"),
        ({"beacon": replace(EVMNET, genesis=1)}, "genesis"),
        ({"beacon": replace(EVMNET, public_key="0x" + "11" * 128)}, "publicKey"),
        ({"randomness_patience": 60}, "patience"),
        ({"randomness_delay": 35}, "delay"),
    ]:
        with pytest.raises(ChainError, match=said):
            check_links(w3, replace(deployment, **change))


def refused_deliveries(stage: Stage) -> None:
    """Before its time, and from relays that don't have it or lie: nothing is sent."""
    before = stage.nonce(stage.accounts.stranger)
    for words, said in [
        ((), "no drand relay is configured"),
        (("--drand", "ftp://x"), "'ftp://x' is no URL"),
    ]:
        refused = stage.cli(*words, "randomness", "deliver", "--once")
        assert refused.code == 2
        assert said in refused.err
    early = stage.cli("--drand", stage.relay.url, "randomness", "deliver", TASKS)
    assert early.code == 7
    assert f"round {TASKS} is not out yet: it comes at 2025-05-08 08:26:46 UTC" in early.err
    assert stage.relay.asked == []
    waits = stage.cli("--drand", stage.relay.url, "randomness", "deliver", "--once")
    assert (waits.code, waits.err.strip()) == (0, "nothing is waited for")

    stage.at(EVMNET.time_of(TASKS))
    with relay({TASKS: RECORDED[DRAW]}) as liar:
        urls = ("--drand", NOBODY, "--drand", stage.relay.url, "--drand", liar.url)
        refused = stage.cli(*urls, "randomness", "deliver", "--once")
    assert refused.code == 7
    assert "BeaconInvalid" in refused.err
    assert f"{NOBODY}: it can't be reached" in refused.err
    assert f"{stage.relay.url}: it has no such round yet (HTTP 404)" in refused.err
    assert f"{liar.url}: 0x01d65d61" in refused.err
    assert f"is not the signature of evmnet for round {TASKS}" in refused.err
    absent = stage.cli("--drand", stage.relay.url, "randomness", "deliver", "--once")
    assert absent.code == 7
    assert "BeaconUnavailable" in absent.err
    assert stage.nonce(stage.accounts.stranger) == before


class _Stop:
    """Ends a loop after its second pass; the relay gets its round between the two."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.passes = stage, 0

    def is_set(self) -> bool:
        return self.passes == 2

    def wait(self, _: float) -> None:
        self.passes += 1
        self.stage.relay.rounds[TASKS] = RECORDED[TASKS]


def delivered_by_the_loop(stage: Stage, monkeypatch: Any) -> None:
    monkeypatch.setattr(randomness_commands, "stop_signal", lambda: _Stop(stage))
    monkeypatch.setenv("TRACEMARKET_DRAND", f"{NOBODY} {stage.relay.url}")
    before = stage.nonce(stage.accounts.stranger)
    done = stage.cli("randomness", "deliver")
    assert done.code == 0
    assert f"beacon round {TASKS} is on chain" in done.err
    assert stage.nonce(stage.accounts.stranger) == before + 1
    assert stage.kit.reader.randomness(TASKS) is RandomnessStatus.READY

    stage.relay.asked.clear()
    again = stage.cli("randomness", "deliver", "--once")
    assert (again.code, again.err.strip()) == (0, "nothing is waited for")
    named = stage.cli("randomness", "deliver", TASKS)
    assert (named.code, named.err.strip()) == (0, f"beacon round {TASKS} is on chain already")
    assert stage.nonce(stage.accounts.stranger) == before + 1
    assert stage.relay.asked == []


def lost_race(stage: Stage) -> None:
    """Somebody else delivers while this one fetches: nothing is sent, and nothing is wrong."""
    kit, other, mine = stage.kit, stage.accounts.poster, stage.accounts.stranger

    class Slow:
        def fetch(self, round: int) -> bytes:
            kit.client(other).deliver_beacon(round, RECORDED[round])
            return RECORDED[round]

    snapshot, before = stage.node.snapshot(), stage.nonce(mine)
    keeper = BeaconKeeper(kit.client(mine), Slow())  # type: ignore[arg-type]
    assert keeper.deliver(TASKS) is False
    assert stage.nonce(mine) == before
    stage.node.revert(snapshot)
    assert kit.reader.randomness(TASKS) is RandomnessStatus.AWAITED


def test_a_batch_lives_on_recorded_beacons(
    stage: Stage, accounts: Any, kit_on: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    deployment = deploy_by_hand(stage, kit_on)
    check_deployment_of(stage, deployment)
    kit, reader = stage.kit, stage.kit.reader
    with (
        IndexStore(tmp_path / "index.sqlite", deployment) as store,
        TestClient(create_app(store.path, lambda: reader.head().timestamp)) as http,
    ):
        indexer = Indexer(reader, store, clock=lambda: 0)

        def get(path: str) -> Any:
            indexer.run_once()
            response = http.get(path)
            assert response.status_code == 200, response.text
            return response.json()

        stage.get = get
        # Its nodes draw, and never come to check.
        loop = Loop(kit, None, tmp_path)  # type: ignore[arg-type]
        bounty = kit.open_bounty(deadline=EVMNET.time_of(DRAW) + 86_400)
        keys = kit.stake_verifiers(5)
        kit.client(accounts.miner).deposit(10 * TUSD)  # the commit is one transaction
        assert get("/market")["randomness"] == {
            "kind": "drand", "delay": DELAY, "patience": PATIENCE, "network": "evmnet",
            "chain_hash": EVMNET.chain_hash, "genesis": EVMNET.genesis, "period": 3,
        }  # fmt: skip

        # The tasks.
        stage.node.next_block_at(EVMNET.time_of(TASKS) - DELAY)
        kit.client(accounts.miner).request_assignment(bounty)
        assert reader.assignment(bounty, accounts.miner.address).point == TASKS
        stage.check_answers(bounty, assignment="pending")
        refused_deliveries(stage)
        stage.check_answers(bounty, assignment="awaited")
        (waits,) = wanted(reader)
        assert (waits.point, waits.assignments) == (TASKS, ((bounty, accounts.miner.address),))
        with pytest.raises(ContractError, match=f"waits for the randomness of point {TASKS}"):
            kit.client(accounts.miner).open_assignment(bounty)
        stage.keeper().run_once(assignments=False)
        assert reader.randomness(TASKS) is RandomnessStatus.AWAITED
        lost_race(stage)
        delivered_by_the_loop(stage, monkeypatch)
        stage.check_answers(bounty, assignment="ready")
        miner = loop.miner()
        seed = miner.enrol(bounty).seed
        assert seed == keccak(VALUES[TASKS] + _word(bounty) + _account(accounts.miner.address))
        stage.check_answers(bounty, assignment=None)

        # The draw.
        stage.node.next_block_at(EVMNET.time_of(DRAW) - DELAY)
        batch = kit.commit_batch(bounty)
        round_ = reader.round(reader.batch(batch).round)
        assert round_.draw_point == DRAW
        stage.check_answers(bounty, draw="pending")
        node = loop.node(keys[0], beacons=stage.keeper(NOBODY, account=keys[0]))
        assert node.run_once() == []
        stage.at(EVMNET.time_of(DRAW))
        stage.check_answers(bounty, draw="awaited")
        assert reader.round(round_.id).phase is RoundPhase.AWAITING_RANDOMNESS
        assert node.run_once() == []  # no relay gave it
        stage.relay.rounds[DRAW] = RECORDED[DRAW]
        node = loop.node(keys[0], beacons=stage.keeper(account=keys[0]))
        (done,) = node.run_once()
        assert (done.duty, done.detail) == (Duty.DELIVER, f"round {round_.id}: beacon {DRAW}")
        stage.check_answers(bounty, draw="ready")
        (done,) = node.run_once()
        assert done.duty is Duty.DRAW
        stage.check_answers(bounty, draw=None)
        drawn_with = keccak(VALUES[DRAW] + _word(round_.id) + round_.subject)
        assert reader.drawn_with(round_.id) == drawn_with

        # The rest of its life needs no beacon.
        kit.vote(round_.id, [GOOD] * 3)
        reader.tally(batch, GOOD)
        stage.at(reader.head().timestamp + deployment.parameters.challenge_window + 1)
        reader.settle(batch)
        assert reader.batch(batch).phase is BatchPhase.SETTLED
        paid = 5 * TUSD // 10
        assert get(f"/bounties/{bounty}")["paid_miners"] == str(paid)
        stage.check_answers(bounty)

        missed_and_asked_again(stage, loop, bounty)


def missed_and_asked_again(stage: Stage, loop: Loop, bounty: int) -> None:
    """A round that nobody recorded: out, late, missed, scheduled again."""
    kit, reader, late = stage.kit, stage.kit.reader, stage.accounts.other_miner
    kit.client(late).request_assignment(bounty)
    point = reader.assignment(bounty, late.address).point
    stage.at(EVMNET.time_of(point) + PATIENCE)
    stage.check_answers(bounty)
    assert reader.randomness(point) is RandomnessStatus.AWAITED
    assert list(stage.keeper().run_once().failed) == [point]
    client, spool = kit.client(late), Spool(stage.folder / "spool")
    with pytest.raises(ConfigError, match=f"beacon round {point}, which nobody delivered in 0 s"):
        Miner(client, loop.store, spool, patience=0).enrol(bounty)
    ticks = iter((0.0, 0.0, 9.0))  # one try, then the time is over
    miner = Miner(
        client,
        loop.store,
        spool,
        patience=5,
        beacons=stage.keeper(account=late),
        clock=lambda: next(ticks),
        sleep=lambda _: None,
    )
    with pytest.raises(BeaconUnavailable, match=f"beacon round {point} of evmnet can't be had"):
        miner.enrol(bounty)
    stage.at(EVMNET.time_of(point) + PATIENCE + 1)
    stage.check_answers(bounty)
    assert reader.randomness(point) is RandomnessStatus.MISSED
    refused = stage.cli("randomness", "deliver", point)  # TRACEMARKET_DRAND is set
    assert refused.code == 7
    assert f"beacon round {point} could be delivered until" in refused.err
    kit.client(late).open_assignment(bounty)
    again = reader.assignment(bounty, late.address)
    assert again.seed is None
    assert again.point > point
    stage.check_answers(bounty)


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _account(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])
