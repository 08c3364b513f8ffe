"""Transactions on a real Anvil: nonces, waiting, lost answers, failures after mining."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from web3 import HTTPProvider, Web3

from marketplace.chain.client import MarketClient, Payment
from marketplace.chain.errors import ContractError, NodeUnreachable
from marketplace.chain.sending import Sender
from marketplace.protocol.errors import InsufficientFunds, TransactionTimeout

TUSD = 10**6


def client_of(market, account, node=None, **options):
    return MarketClient(
        node or market.anvil.url,
        market.deployment,
        account,
        check=False,
        **({"timeout": 20.0, "poll": 0.05} | options),
    )


def pending(anvil) -> int:
    return int(anvil.rpc("txpool_status")["pending"], 16)


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


class Flaky(HTTPProvider):
    """Passes transactions on and loses the answer."""

    def __init__(self, url):
        super().__init__(url)
        self.sent = 0

    def make_request(self, method, params):
        answer = super().make_request(method, params)
        if method == "eth_sendRawTransaction":
            self.sent += 1
            raise requests.ConnectionError("connection reset")
        return answer


def test_one_key_in_two_threads_loses_no_transaction(market, accounts) -> None:
    clients = [client_of(market, accounts.miner) for _ in range(2)]

    def work(client):
        return [client.approve(amount).tx_hash for amount in range(8)]

    with ThreadPoolExecutor(2) as pool:
        hashes = [tx for done in pool.map(work, clients) for tx in done]
    assert len(set(hashes)) == 16
    nonces = {
        int(market.anvil.rpc("eth_getTransactionByHash", "0x" + tx.hex())["nonce"], 16)
        for tx in hashes
    }
    assert nonces == set(range(min(nonces), min(nonces) + 16))


def test_transactions_that_wait_in_the_pool_have_nonces_in_a_row(market, accounts) -> None:
    market.anvil.set_automine(False)
    try:
        with ThreadPoolExecutor(4) as pool:
            jobs = [
                pool.submit(client_of(market, accounts.miner).approve, amount)
                for amount in range(4)
            ]
            until(lambda: pending(market.anvil) == 4)
            market.anvil.mine()
            blocks = {job.result().block for job in jobs}
        assert len(blocks) == 1
    finally:
        market.anvil.set_automine(True)


def test_two_threads_that_approve_and_pay_do_not_take_each_others_allowance(
    market, accounts
) -> None:
    bounty = market.open_bounty()
    known = market.reader.bounty(bounty)
    clients = [client_of(market, accounts.poster) for _ in range(2)]

    def work(client):
        for _ in range(4):
            client.fund_bounty(known, 3 * TUSD, payment=Payment.APPROVE)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, clients))
    assert market.reader.bounty(bounty).available == (100 + 8 * 3) * TUSD


def test_a_timeout_names_the_hash_and_nothing_is_sent_twice(market, accounts) -> None:
    market.anvil.set_automine(False)
    try:
        with pytest.raises(TransactionTimeout) as caught:
            client_of(market, accounts.miner, timeout=0.05).approve(7)
        (tx_hash,) = re.findall(r"0x[0-9a-f]{64}", caught.value.message)
        assert pending(market.anvil) == 1
        market.anvil.mine()
        assert market.anvil.rpc("eth_getTransactionReceipt", tx_hash)["status"] == "0x1"
        assert "may still be mined" in str(caught.value)
    finally:
        market.anvil.set_automine(True)
    client_of(market, accounts.miner).approve(8)  # the key goes on


def test_a_lost_answer_is_not_a_reason_to_send_again(market, accounts) -> None:
    provider = Flaky(market.anvil.url)
    client = client_of(market, accounts.miner, Web3(provider))
    before = int(market.anvil.rpc("eth_getTransactionCount", accounts.miner.address, "latest"), 16)
    client.approve(5)
    assert provider.sent == 1
    after = int(market.anvil.rpc("eth_getTransactionCount", accounts.miner.address, "latest"), 16)
    assert after == before + 1
    assert client.allowance(accounts.miner.address) == 5


def test_a_nonce_that_another_process_took_is_replaced(market, accounts, monkeypatch) -> None:
    client = client_of(market, accounts.miner)
    client.approve(1)
    true_nonce = Sender.next_nonce
    answers = []

    def stale_at_first(self):
        answers.append(true_nonce(self) - (0 if answers else 1))
        return answers[-1]

    monkeypatch.setattr(Sender, "next_nonce", stale_at_first)
    client.approve(2)
    assert answers[1] == answers[0] + 1
    assert client.allowance(accounts.miner.address) == 2


def test_a_transaction_that_fails_when_mined_says_why(market, accounts) -> None:
    bounty = market.open_bounty()
    results = []

    def request():
        try:
            results.append(client_of(market, accounts.miner).request_assignment(bounty))
        except ContractError as error:
            results.append(error)

    market.anvil.set_automine(False)
    try:
        threads = [threading.Thread(target=request) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: pending(market.anvil) == 2)
        market.anvil.mine()
        for thread in threads:
            thread.join()
    finally:
        market.anvil.set_automine(True)
    (error,) = [result for result in results if isinstance(result, ContractError)]
    assert error.name == "Assignments_AlreadyRequested"
    assert re.search(r"transaction 0x[0-9a-f]{64} \(request_assignment\)", error.message)


def test_confirmations_are_waited_for_and_a_reorg_is_seen(fresh_anvil, accounts) -> None:
    market = fresh_anvil(deployed=True)
    node = market.anvil
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        node.mine()

    client = client_of(market, accounts.miner, confirmations=3, sleep=sleep)
    sent = client.approve(9)
    assert node.block_number() >= sent.block + 3
    assert len(pauses) >= 3

    ticks = iter(range(1000))

    def reorg_once(seconds):
        if next(ticks) == 1:
            node.mine()
            node.reorg(3)  # the transaction's block is among them
        else:
            node.mine()

    clock = iter(range(100))
    client = client_of(
        market,
        accounts.miner,
        confirmations=6,
        sleep=reorg_once,
        clock=lambda: float(next(clock)),
        timeout=30.0,
    )
    with pytest.raises(TransactionTimeout):
        client.approve(10)
    assert client.allowance(accounts.miner.address) != 10


def test_no_gas_money_is_said_before_anything_is_sent(market, accounts) -> None:
    market.anvil.set_balance(accounts.miner.address, 10**9)
    with pytest.raises(InsufficientFunds, match=accounts.miner.address) as caught:
        client_of(market, accounts.miner).approve(1)
    assert "0.000000001 of the chain's own coin" in caught.value.message
    assert pending(market.anvil) == 0


def test_a_node_that_is_gone_is_named_without_its_key(market, accounts) -> None:
    with pytest.raises(NodeUnreachable, match=r"127\.0\.0\.1:9") as caught:
        MarketClient("http://user:pass@127.0.0.1:9/v3/SECRET?key=SECRET", market.deployment)
    assert "SECRET" not in str(caught.value)
    assert "pass" not in str(caught.value)
