"""Deploying on a real Anvil: the whole, and what is said when it can't be finished."""

from __future__ import annotations

from dataclasses import replace

import pytest
from web3 import Web3

from marketplace.chain import deploying
from marketplace.chain.artifacts import MARKET_CONTRACTS
from marketplace.chain.client import MarketClient
from marketplace.chain.deploying import DrandSource, check_links, deploy, describe_token
from marketplace.chain.deployment import load_deployment, save_deployment
from marketplace.chain.parameters import MINIMAL, STANDARD
from marketplace.protocol.beacons import EVMNET
from marketplace.protocol.errors import (
    ChainError,
    ConfigError,
    InsufficientFunds,
    MissingContract,
)

TUSD = 10**6


def test_the_standard_preset_with_a_token_that_exists(market, accounts, tmp_path) -> None:
    seen = []
    deployed = deploy(
        market.anvil.url,
        accounts.stranger,
        STANDARD,
        token=market.deployment.token.address.lower(),
        progress=lambda name, address: seen.append((name, address)),
    )
    assert deployed.token == market.deployment.token
    assert deployed.parameters == STANDARD.parameters(6)
    assert seen == [(name, deployed.address(s)) for s, name in MARKET_CONTRACTS.items()]
    assert set(deployed.addresses.values()).isdisjoint(market.deployment.addresses.values())
    save_deployment(deployed, tmp_path / "market.json")
    client = MarketClient(market.anvil.url, load_deployment(tmp_path / "market.json"))
    assert client.batch_count() == client.bounty_count() == client.free_seats() == 0
    assert list(client.events(deployed.block)) == []


def test_the_token_describes_itself(market) -> None:
    token = market.deployment.token
    assert (token.name, token.symbol, token.decimals) == ("Test USD", "tUSD", 6)
    assert token.permit_version == "1"


def test_links_and_parameters_are_checked(market) -> None:
    deployment, w3 = market.deployment, Web3(Web3.HTTPProvider(market.anvil.url))
    check_links(w3, deployment)
    for change, said in [
        ({"randomness_delay": 9}, "delay"),
        (
            {"beacon": EVMNET, "randomness_patience": 3600},
            "is a BlockHashRandomness.*says drand",
        ),
        ({"token": replace(deployment.token, address=deployment.address("stake"))}, "token"),
        ({"parameters": STANDARD.parameters(6)}, "parameters"),
    ]:
        with pytest.raises(ChainError, match=said):
            check_links(w3, replace(deployment, **change))
    other = deploy(
        market.anvil.url, market.accounts.stranger, MINIMAL, token=deployment.token.address
    )
    for short in (
        "ledger",
        "escrow",
        "stake",
        "rounds",
        "assignments",
        "market",
        "openings",
        "court",
        "audits",
        "sheets",
    ):
        mixed = dict(deployment.addresses) | {short: other.address(short)}
        with pytest.raises(ChainError, match="the deployment says"):
            check_links(w3, replace(deployment, addresses=mixed))


def test_contracts_that_do_not_belong_together_are_not_handed_out(
    market, accounts, monkeypatch
) -> None:
    right = deploying._arguments

    def wrong(where, *rest):
        arguments = right(where, *rest)
        ledger, _, *modules = arguments["escrow"]
        return arguments | {"escrow": (ledger, where["ledger"], *modules)}

    monkeypatch.setattr(deploying, "_arguments", wrong)
    token = market.deployment.token.address
    with pytest.raises(ChainError, match=r"as its environments.*BatchMarket at 0x"):
        deploy(market.anvil.url, accounts.stranger, MINIMAL, token=token)


def test_a_beacon_that_comes_after_the_draw_timeout_is_refused(accounts) -> None:
    late = DrandSource(delay=57)
    with pytest.raises(ConfigError, match=r"up to 60 s after.*within 60 s .preset minimal."):
        deploy("http://127.0.0.1:9", accounts.deployer, MINIMAL, drand=late)
    for change in ({"delay": 0}, {"patience": 0}):
        with pytest.raises(ConfigError, match="is 0 s"):
            DrandSource(**change)


def test_a_public_chain_needs_a_token(fresh_anvil, accounts) -> None:
    node = fresh_anvil(chain_id=11155111)
    with pytest.raises(ConfigError, match="11155111"):
        deploy(node.url, accounts.deployer, MINIMAL)
    assert node.block_number() == 0


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("0x12", ConfigError),
        ("0x" + "ab" * 20, MissingContract),
    ],
)
def test_a_token_that_is_none_is_named(market, accounts, token, error) -> None:
    with pytest.raises(error, match=f"(?i){token}.*deployed before: nothing"):
        deploy(market.anvil.url, accounts.deployer, MINIMAL, token=token)


def test_a_contract_that_is_no_token_is_refused(market) -> None:
    w3 = Web3(Web3.HTTPProvider(market.anvil.url))
    with pytest.raises(MissingContract, match="no ERC-20"):
        describe_token(w3, market.deployment.address("market"), 31337)


def test_a_deployment_that_runs_out_of_gas_money_says_what_exists(market, accounts) -> None:
    broke = accounts.stranger.address

    def spend(name, address):
        if name == "Ledger":
            market.anvil.set_balance(broke, 1)

    token = market.deployment.token.address
    with pytest.raises(InsufficientFunds, match="deployed before: EnvironmentRegistry at 0x") as it:
        deploy(market.anvil.url, accounts.stranger, MINIMAL, token=token, progress=spend)
    assert "Ledger at 0x" in str(it.value)
    assert "BountyEscrow" not in str(it.value)
    assert broke in str(it.value)


def test_a_key_that_is_used_meanwhile_is_noticed(market, accounts) -> None:
    def interfere(name, address):
        if name == "Ledger":
            market.client(accounts.stranger).approve(1)

    token = market.deployment.token.address
    with pytest.raises(ChainError, match="sent something else meanwhile") as caught:
        deploy(market.anvil.url, accounts.stranger, MINIMAL, token=token, progress=interfere)
    assert "BountyEscrow at 0x" in str(caught.value)
