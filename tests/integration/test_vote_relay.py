"""A relay that brings members' votes, real nodes and a real Anvil; and members that it fails."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import COURTLY, Arithmetic, Loop, courtly_market

from marketplace.chain.records import BatchPhase, RoundPhase, SeatState
from marketplace.gym.pool import CheckPool
from marketplace.protocol.commitments import stored
from marketplace.protocol.errors import RelayError
from verifier_node.relay import Relay, create_app
from verifier_node.relay_link import RelayLink

TUSD = 10**6
HALF = 601
"""Seconds, of the commit and reveal windows' 1,200."""


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def courtly(deploy_once):
    return deploy_once(COURTLY)


@pytest.fixture
def loop(market, courtly, accounts, pool, tmp_path) -> Loop:
    holders = (accounts.poster, accounts.miner, *accounts.verifiers)
    return Loop(courtly_market(market, courtly, 1_000 * TUSD, holders), pool, tmp_path)


@contextmanager
def served(relay: Relay) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(relay), log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def relay(loop, accounts) -> Relay:
    return Relay(loop.market.client(accounts.stranger))


@pytest.fixture
def drawn(loop, relay) -> Iterator[tuple[list, int, int, str]]:
    """Nodes that have a relay, a batch, its drawn round, and the relay's address."""
    bounty = loop.open_bounty()
    keys = loop.market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, 2, Arithmetic())
    round_id = loop.market.draw(mined.batch)
    with served(relay) as url:
        nodes = [
            loop.node(key, keeper=False, relay=RelayLink(url, key, timeout=30.0)) for key in keys
        ]
        yield nodes, mined.batch, round_id, url


def walk(nodes: list) -> None:
    for node in nodes:
        node.run_once()


def test_a_relay_brings_all_votes_and_members_send_nothing(loop, drawn, relay):
    nodes, batch, round_id, _ = drawn
    market, reader = loop.market, loop.market.reader
    market.gas.clear()
    walk(nodes)
    assert reader.round(round_id).committed == 0
    assert relay.run_once() == 3
    assert reader.round(round_id).phase is RoundPhase.REVEALING
    walk(nodes)
    assert relay.run_once() == 3
    assert reader.round(round_id).phase is RoundPhase.CLOSED
    assert [action for action, _ in market.gas] == ["commit_signed", "reveal_secrets"]
    attestation = reader.leading_attestation(round_id)
    assert reader.votes_for(round_id, attestation) == 3
    said = reader.announced(round_id)
    assert [one.seat for one in said] == [0, 1, 2]
    assert len({one.content for one in said}) == 1
    assert [one.verifier for one in said] == [seat.verifier for seat in reader.seats(round_id)]
    assert relay.run_once() == 0
    reader.tally(batch)
    market.pass_challenge_window()
    reader.settle(batch)
    assert reader.batch(batch).phase is BatchPhase.SETTLED
    assert all(reader.balance(seat.verifier) > 0 for seat in reader.seats(round_id))


def test_a_relay_that_brings_nothing_costs_members_nothing(loop, drawn):
    nodes, _, round_id, _ = drawn
    reader = loop.market.reader
    walk(nodes)
    assert reader.round(round_id).committed == 0
    loop.market.pass_time(HALF)
    walk(nodes)
    assert reader.round(round_id).phase is RoundPhase.REVEALING
    walk(nodes)
    assert reader.round(round_id).revealed == 0
    loop.market.pass_time(HALF)
    walk(nodes)
    assert reader.round(round_id).phase is RoundPhase.CLOSED
    assert reader.round(round_id).revealed == 3


def test_a_relay_that_leaves_out_reveals_leaves_them_to_the_members(loop, drawn, relay):
    nodes, _, round_id, _ = drawn
    reader = loop.market.reader
    walk(nodes)
    relay.run_once()
    loop.market.pass_time(HALF)
    walk(nodes)  # all commitments came in one call: each opens its own of them
    assert reader.round(round_id).phase is RoundPhase.CLOSED
    assert reader.leader(round_id)[1] == 3


def test_a_missing_member_holds_up_the_relay_for_a_quarter_of_the_window(loop, drawn, relay):
    nodes, _, round_id, _ = drawn
    reader = loop.market.reader
    walk(nodes[:2])
    assert relay.run_once() == 0
    loop.market.pass_time(HALF // 2)
    assert relay.run_once() == 2
    assert reader.round(round_id).committed == 2
    walk(nodes[2:])
    assert relay.run_once() == 1
    walk(nodes)
    assert relay.run_once() == 3
    assert reader.round(round_id).phase is RoundPhase.CLOSED


def test_a_node_that_dies_gives_away_the_same_vote(loop, drawn, relay):
    nodes, _, round_id, url = drawn
    walk(nodes)
    before = dict(relay._commits)
    keys = loop.market.accounts.verifiers[:3]
    again = [loop.node(key, keeper=False, relay=RelayLink(url, key)) for key in keys]
    walk(again)
    assert relay._commits == before
    assert relay.run_once() == 3
    assert loop.market.reader.round(round_id).committed == 3


def test_without_an_answer_members_vote_by_themselves(loop, accounts):
    bounty = loop.open_bounty()
    keys = loop.market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, 2, Arithmetic())
    round_id = loop.market.draw(mined.batch)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    nodes = [loop.node(key, keeper=False, relay=RelayLink(dead, key)) for key in keys]
    walk(nodes)
    walk(nodes)
    assert loop.market.reader.round(round_id).phase is RoundPhase.CLOSED


def test_what_the_chain_would_refuse_is_refused_at_once(loop, drawn, relay, accounts):
    _, _, round_id, url = drawn
    reader = loop.market.reader
    round_, seat = reader.round(round_id), reader.seats(round_id)[0]
    own = RelayLink(url, accounts.key_of(seat.verifier))
    refusals: list[tuple[str, Callable[[], object]]] = [
        ("signed for it", lambda: RelayLink(url, accounts.miner).commit(
            reader, round_, seat, b"\x22" * 32)),
        ("not be zero", lambda: own.commit(reader, round_, seat, bytes(32))),
    ]  # fmt: skip
    for why, attempt in refusals:
        with pytest.raises(RelayError, match=why):
            attempt()
    for body, status in ((b"{", 422), (b'{"chain_id": 1, "rounds": "x"}', 422), (b" " * 9999, 413)):
        assert httpx.post(f"{url}/v1/votes", content=body, trust_env=False).status_code == status
    assert not relay._commits
    own.commit(reader, round_, seat, stored(b"\x22" * 32))
    assert list(relay._commits) == [(round_id, 0)]
    assert seat.state is SeatState.DRAWN
