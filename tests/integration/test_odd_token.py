"""A market on Anvil whose token is as odd as USDT: it works; and as a token that takes a fee: it is
refused, and nobody loses anything."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from web3 import Web3

from marketplace.chain.client import MarketClient
from marketplace.chain.deploying import deploy
from marketplace.chain.parameters import MINIMAL
from marketplace.chain.records import BatchPhase
from marketplace.protocol.errors import Reverted
from marketplace.protocol.verdict import Attestation

ROOT = Path(__file__).parents[2]
USD = 10**6

_COMPILE = """
const solc = require("solc");
const content = require("fs").readFileSync(0, "utf8");
const outputSelection = { "*": { "*": ["abi", "evm.bytecode.object"] } };
const sources = { odd: { content } };
const input = { language: "Solidity", sources, settings: { outputSelection } };
process.stdout.write(solc.compile(JSON.stringify(input)));
"""


@pytest.fixture(scope="module")
def compiled() -> dict:
    source = (Path(__file__).parent / "OddToken.sol").read_text("utf-8")
    done = subprocess.run(
        ["node", "-e", _COMPILE], input=source, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(done.stdout)["contracts"]["odd"]["OddToken"]


@pytest.fixture
def odd(market, accounts, compiled):
    """The conftest's MarketKit on a second market, with the odd token."""
    w3 = Web3(Web3.HTTPProvider(market.anvil.url))
    factory = w3.eth.contract(abi=compiled["abi"], bytecode=compiled["evm"]["bytecode"]["object"])
    sender = {"from": accounts.deployer.address}
    mined = w3.eth.wait_for_transaction_receipt(factory.constructor().transact(sender))
    token = w3.eth.contract(mined["contractAddress"], abi=compiled["abi"])
    deployment = deploy(
        market.anvil.url, accounts.deployer, MINIMAL, token=token.address, timeout=30.0
    )
    for key in (accounts.poster, accounts.miner, *accounts.verifiers[:3]):
        w3.eth.wait_for_transaction_receipt(
            token.functions.mint(key.address, 1_000 * USD).transact(sender)
        )

    def command(name: str, *args: object) -> None:
        w3.eth.wait_for_transaction_receipt(token.functions[name](*args).transact(sender))

    kit = type(market)(market.anvil, deployment, accounts)
    return kit, command


def test_a_whole_batch_with_approvals_and_a_blocked_miner(odd, accounts):
    kit, command = odd
    assert kit.reader.token.permit_version is None
    poster = kit.client(accounts.poster)
    # An allowance left over from before must not stand in the way.
    poster.approve(1)
    bounty = kit.open_bounty(100 * USD)
    keys = kit.stake_verifiers(3)
    kit.open_assignment(bounty)
    batch = kit.commit_batch(bounty)
    command("block_", accounts.miner.address, True)

    kit.vote(kit.draw(batch), [Attestation(b"\x42" * 32, 8, 0)] * 3)
    kit.reader.tally(batch)
    kit.pass_challenge_window()
    kit.anvil.mine()
    kit.reader.settle(batch)
    assert kit.reader.batch(batch).phase is BatchPhase.SETTLED

    verifier: MarketClient = kit.client(keys[0])
    fee = verifier.balance(verifier.address)
    assert fee > 0
    verifier.withdraw()
    assert verifier.token_balance(verifier.address) == (1_000 - 500) * USD + fee
    # The blocked miner waits, or sends what is its own elsewhere.
    miner = kit.client(accounts.miner)
    owed = miner.balance(miner.address)
    with pytest.raises(Reverted, match="blocked"):
        miner.withdraw()
    assert miner.balance(miner.address) == owed
    miner.withdraw(to=accounts.stranger.address)
    assert miner.token_balance(accounts.stranger.address) == owed


def test_a_token_that_takes_a_fee_is_refused_and_nothing_is_lost(odd, accounts):
    kit, command = odd
    kit.register_environment()
    command("setFee", 30)
    poster = kit.client(accounts.poster)
    with pytest.raises(Reverted, match="fee"):
        poster.create_bounty(kit.terms(), 100 * USD)
    assert poster.bounty_count() == 0
    assert poster.token_balance(poster.address) == 1_000 * USD
    assert poster.balance(poster.address) == 0


def test_a_fee_that_begins_later_keeps_out_new_money_and_lets_old_money_leave(odd, accounts):
    kit, command = odd
    poster = kit.client(accounts.poster)
    poster.deposit(100 * USD)
    command("setFee", 30)
    with pytest.raises(Reverted, match="fee"):
        poster.deposit(1 * USD)
    poster.withdraw()
    assert poster.balance(poster.address) == 0
    assert poster.token_balance(poster.address) == 900 * USD + 100 * USD * 9_970 // 10_000
