"""Events, and what the chain client says to bad input, on a real Anvil."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from marketplace.chain import carrying as carrying_module
from marketplace.chain import client as client_module
from marketplace.chain import paying as paying_module
from marketplace.chain import sheet_calls as sheet_calls_module
from marketplace.chain.artifacts import MARKET_CONTRACTS, artifact
from marketplace.chain.client import MarketClient
from marketplace.chain.errors import ContractError
from marketplace.chain.records import Bounty, BountyTerms, ContentId
from marketplace.protocol.disputes import LeafVerdict
from marketplace.protocol.errors import (
    ConfigError,
    InsufficientFunds,
    InvalidValue,
    MissingContract,
    WrongChain,
)
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier

TUSD = 10**6
NOTHING = LeafVerdict(0, 0, 0, 0, 0)
TERMS = BountyTerms(b"\x01" * 32, None, 2**32, 4, Tier.C, PayRule.CORRECT, 1, 1)
NO_BOUNTY = Bounty(9, "0x" + "11" * 20, 0, 0, TERMS)


# --- events ----------------------------------------------------------------------------


def test_events_read_back_are_those_of_the_receipts(market, accounts) -> None:
    start = market.anvil.block_number() + 1
    environment = market.register_environment()
    poster = market.client(accounts.poster)
    bounty, sent = poster.create_bounty(market.terms(), 5 * TUSD)
    more = poster.fund_bounty(poster.bounty(bounty), 2 * TUSD)
    ours = [event for s in (sent, more) for event in s.events if event.contract != "token"]

    events = list(poster.events(start))
    assert [event.name for event in events] == [
        "EnvironmentRegistered",
        "BountyCreated",
        "BountyFunded",
        "Collected",
        "BountyFunded",
        "Collected",
    ]
    assert events[1:] == ours
    created = events[1]
    assert created.args["poster"] == poster.address
    assert created.args["terms"]["environment"] == environment
    assert created.args["terms"]["pricePerUnit"] == TUSD // 10
    assert created.block == sent.block
    assert created.tx_hash == sent.tx_hash
    block = poster.block(created.block)
    assert block is not None
    assert created.block_hash == block.hash

    assert list(poster.events(start, page=1)) == events
    assert [e.block for e in poster.events(start, names=["BountyFunded"])] == [
        sent.block,
        more.block,
    ]
    assert list(poster.events(start, names=["BountyFunded"], where={"bounty": bounty + 1})) == []
    assert list(poster.events(start, sent.block - 1)) == events[:1]


def test_events_up_to_the_confirmed_block(market, accounts) -> None:
    market.register_environment()
    careful = MarketClient(market.anvil.url, market.deployment, confirmations=2)
    assert list(careful.events(market.deployment.block)) == []
    market.anvil.mine(2)
    assert [e.name for e in careful.events(market.deployment.block)] == ["EnvironmentRegistered"]


def test_the_content_of_a_batch_is_found(market) -> None:
    bounty = market.open_bounty()
    market.stake_verifiers(3)
    market.open_assignment(bounty)
    batch = market.commit_batch(bounty, root=b"\x77" * 32)
    assert market.reader.batch_content(batch) == ContentId(sha256(b"\x77" * 32).digest(), 0x55)
    assert market.reader.batch_committed(batch).args["root"] == b"\x77" * 32
    with pytest.raises(InvalidValue, match="no batch 9"):
        market.reader.batch_content(9)


def test_blocks(market) -> None:
    head = market.reader.head()
    assert market.reader.block(head.number) == head
    parent = market.reader.block(head.number - 1)
    assert parent is not None
    assert parent.hash == head.parent
    assert market.reader.block(head.number + 1) is None


# --- bad input -------------------------------------------------------------------------


def test_another_chain_names_both_ids(fresh_anvil, deployment) -> None:
    node = fresh_anvil(chain_id=1337)
    with pytest.raises(WrongChain, match=r"chain id 1337\b.*chain id 31337\b"):
        MarketClient(node.url, deployment)


def test_a_chain_without_the_contracts_names_address_and_contract(fresh_anvil, deployment) -> None:
    node = fresh_anvil()
    with pytest.raises(MissingContract, match="EnvironmentRegistry") as caught:
        MarketClient(node.url, deployment)
    assert deployment.address("environments") in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("short", ["market", "token"])
def test_every_address_is_checked(market, deployment, short) -> None:
    nowhere = "0x" + "12" * 20
    if short == "token":
        wrong = replace(deployment, token=replace(deployment.token, address=nowhere))
    else:
        wrong = replace(deployment, addresses={**deployment.addresses, short: nowhere})
    with pytest.raises(MissingContract, match=nowhere):
        MarketClient(market.anvil.url, wrong)


def test_an_account_without_tokens_is_told_how_many(market, accounts) -> None:
    market.register_environment()
    stranger = market.client(accounts.stranger)
    blocks = market.anvil.block_number()
    with pytest.raises(InsufficientFunds) as caught:
        stranger.create_bounty(market.terms(), 5 * TUSD)
    assert str(caught.value) == (
        f"{stranger.address} has 0.00 tUSD, create_bounty needs 5.00 tUSD. "
        "Fix: get 5.00 tUSD more, or use a smaller amount"
    )
    assert market.anvil.block_number() == blocks


def test_without_a_key_writes_are_refused(market) -> None:
    client = MarketClient(market.anvil.url, market.deployment)
    with pytest.raises(ConfigError, match="needs a key"):
        client.settle(1)
    with pytest.raises(ConfigError, match="needs a key"):
        _ = client.address


@pytest.mark.parametrize(
    ("read", "error", "said"),
    [
        (lambda c: c.bounty(9), ContractError, "no bounty 9"),
        (lambda c: c.batch(9), ContractError, "no batch 9"),
        (lambda c: c.batch(0), ContractError, "no batch 0"),
        (lambda c: c.round(9), InvalidValue, "no round 9"),
        (lambda c: c.seat(9, 0), InvalidValue, "no seat 0"),
        (lambda c: c.checkpoint(9), ContractError, "no checkpoint 9"),
        (lambda c: c.dispute(9), ContractError, "no dispute 9"),
        (lambda c: c.disputes_of(9), InvalidValue, "no batch 9"),
        (lambda c: c.close_dispute(9), ContractError, "dispute 9 is none"),
        (lambda c: c.answer_verdict(9, 1, NOTHING), ContractError, "opening of dispute 9 is none"),
        (lambda c: c.bounty(-1), InvalidValue, "-1"),
        (lambda c: c.batch(2**64), InvalidValue, str(2**64)),
        (lambda c: c.balance("0x12"), InvalidValue, "0x12"),
        (lambda c: c.withdraw(1, to="nobody"), InvalidValue, "nobody"),
        (lambda c: c.fund_bounty(NO_BOUNTY, 1), ContractError, "no bounty 9"),
        (lambda c: c.deposit(-1), InvalidValue, "-1"),
        (lambda c: c.deposit(1.5), InvalidValue, "1.5"),
    ],
)
def test_what_does_not_exist_is_named(market, read, error, said) -> None:
    with pytest.raises(error, match=said):
        read(market.reader)


def test_a_bounty_on_an_unknown_environment_is_refused(market, accounts) -> None:
    terms = market.terms(environment=b"\xab" * 32)
    with pytest.raises(ContractError, match="0x" + "ab" * 32):
        market.client(accounts.poster).create_bounty(terms, TUSD)


def test_every_external_function_of_the_contracts_has_a_call() -> None:
    signing = (client_module, paying_module, sheet_calls_module, carrying_module)
    sources = "".join(Path(one.__file__).read_text() for one in signing)
    for_contracts_only = {
        "Ledger": {"collect", "collectWithPermit", "credit", "shift"},
        "BountyEscrow": {"reserve", "release", "replenish"},
        "VerifierStake": {"draw", "closeSeats"},
        # the client makes due draws with drawDue, which tells how far it came
        "Rounds": {"open", "judge", "convict", "settleDraws"},
        "BatchMarket": {"beginDispute", "beginConflict", "endDispute", "overturn", "attest"},
        "Openings": {"start"},
        "Assignments": {"take"},
    }
    for contract in MARKET_CONTRACTS.values():
        for entry in artifact(contract).abi:
            if entry["type"] != "function" or entry["stateMutability"] != "nonpayable":
                continue
            name = entry["name"].removesuffix("WithPermit")
            if name not in for_contracts_only.get(contract, set()):
                assert f'"{name}"' in sources, f"{contract}.{name}"
