"""The command line against a real Anvil: exit codes, messages with the value and the fix, JSON,
and that a refused command changes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import PASSWORD, Ran, command_line
from loop_kit import Arithmetic, Loop

from marketplace.chain.deployment import save_deployment
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import builtin_spec, environment_id, spec_bytes

TUSD = 10**6


@pytest.fixture
def cli(market, accounts, tmp_path, monkeypatch, capsys) -> Callable[..., Ran]:
    """cli("bounty", "show", 1, key="poster") -> Ran, in a folder with a deployment file."""
    keys = {role: getattr(accounts, role) for role in ("poster", "miner", "stranger")}
    return command_line(market.anvil.url, market.deployment, keys, tmp_path, monkeypatch, capsys)


@pytest.fixture
def environment() -> str:
    return "0x" + environment_id(spec_bytes(builtin_spec("chain_sum"))).hex()


def _create(cli, environment, *more, amount="50"):
    return cli(
        *("bounty", "create", "--environment", environment, "--price", "0.1", "--fee", "0.02"),
        *("--amount", amount, *more),
        key="poster",
    )


def test_a_posters_commands(cli, environment, market, accounts):
    registered = cli("env", "register", "chain_sum", key="poster")
    assert (registered.code, registered.out.strip()) == (0, environment)
    again = cli("env", "register", "chain_sum", key="poster")
    assert (again.code, again.out.strip()) == (0, environment)
    assert "registered already" in again.err
    (listed,) = cli("env", "list", "--json").json()
    assert (listed["name"], listed["author"]) == ("chain_sum", accounts.poster.address)

    created = _create(cli, environment, "--lasts", "2h", "--pay", "informative", "--group-size", 4)
    assert (created.code, created.out) == (0, "1\n")
    assert cli("bounty", "fund", 1, "2.5", key="stranger").code != 0  # it has no tokens
    assert cli("bounty", "fund", 1, "2.5", key="poster").code == 0
    shown = cli("bounty", "show", 1, "--json").json()
    assert shown["available"] == str(52_500_000)
    assert shown["price_per_unit"] == "100000"
    assert (shown["tier"], shown["pay_rule"], shown["group_size"]) == ("C", "informative", 4)
    assert cli("bounty", "list", "--json").json() == [shown]

    early = cli("bounty", "refund", 1, key="poster")
    assert early.code == 3
    assert "the bounty is open until" in early.err
    market.pass_time(7300)
    assert (
        cli("bounty", "refund", 1, key="stranger").code == 0
    )  # anybody may, it goes to the poster
    balance = cli("balance", "--json", key="poster").json()
    assert balance["ledger"] == str(52_500_000)
    before = market.reader.token_balance(accounts.poster.address)
    assert cli("withdraw", key="poster").code == 0
    assert market.reader.token_balance(accounts.poster.address) == before + 52_500_000


def test_receipts(cli, environment, market, tmp_path):
    with CheckPool(workers=1) as pool:
        loop = Loop(market, pool, tmp_path)
        bounty = loop.open_bounty()
        keys = market.stake_verifiers(3)
        mined = loop.miner().mine(bounty, 2, Arithmetic())
        loop.drive(loop.nodes(keys), mined.batch)
    store = ("--store", f"dir:{tmp_path / 'store'}")
    shown = cli(*store, "batch", "show", mined.batch, "--json").json()
    assert shown["phase"] == "settled"
    assert shown["reasons"] == {"correct": 4, "wrong": 4}
    assert shown["content"] == mined.cid
    assert cli("batch", "wait", mined.batch).out == "settled\n"
    (row,) = cli("batch", "list", "--json").json()
    assert (row["units"], row["faults"]) == (8, 0)

    receipt = cli(*store, "trace", "explain", mined.batch, 1, "--json").json()
    assert receipt["verdict"] == {
        **{"score_ppm": 0, "reason": "wrong", "reason_code": 2},
        **{"units": 1, "faults": 0},
    }
    assert receipt["why"] == "wrong, and paid 0.10 tUSD"
    assert json.loads(receipt["trace"])["sample"] == 1
    told = cli(*store, "trace", "explain", mined.batch, 0)
    assert "proof holds" in told.out
    beyond = cli(*store, "trace", "explain", mined.batch, 8)
    assert (beyond.code, "from 0 to 7" in beyond.err) == (2, True)
    # Nobody has the content: not "no such trace", and not a crash.
    lost = cli(
        "--store", f"dir:{tmp_path / 'empty'}", "trace", "explain", mined.batch, 0, "--timeout", 0
    )
    assert (lost.code, mined.cid in lost.err) == (4, True)


def test_a_verifiers_commands(cli, market, accounts):
    assert cli("verifier", "stake", "99", key="poster").code == 3  # below one seat
    assert cli("verifier", "stake", "250", key="poster").code == 0
    shown = cli("verifier", "show", "--json", key="poster").json()
    assert (shown["stake"], shown["free_seats"]) == (str(250 * TUSD), 2)
    assert cli("verifier", "run", "--once", key="poster").code == 0
    assert cli("verifier", "unstake", key="poster").code == 0
    early = cli("verifier", "unstake", "--claim", key="poster")
    assert (early.code, "claim" in early.err) == (3, True), early.err
    market.pass_time(market.deployment.parameters.unbonding_delay + 1)
    assert cli("verifier", "unstake", "--claim", key="poster").code == 0
    assert market.reader.balance(accounts.poster.address) == 250 * TUSD


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--tier", "Z"], ["'Z'", "A, B, C"]),
        (["--pay", "often"], ["'often'", "correct, informative"]),
        (["--lasts", "soon"], ["'soon'", "12h"]),
        (["--price", "0.0000001"], ["0.0000001", "6"]),
        (["--price", "nan"], ["nan"]),
        (["--fee", "-1"], ["-1"]),
        (["--environment", "0x12"], ["'0x12'", "env register"]),
    ],
)
def test_a_bounty_that_makes_no_sense_is_refused_before_it_costs(
    cli, environment, market, more, words
):
    cli("env", "register", "chain_sum", key="poster")
    refused = _create(cli, environment, *more)
    assert refused.code == 2
    assert all(word in refused.err for word in words), refused.err
    assert market.reader.bounty_count() == 0


def test_an_unknown_environment_is_refused_by_the_contract(cli, environment):
    refused = _create(cli, environment)
    assert refused.code == 3
    assert environment[2:10] in refused.err


def test_more_than_one_has(cli, environment):
    cli("env", "register", "chain_sum", key="poster")
    refused = _create(cli, environment, amount="1000000")
    assert refused.code == 3
    assert "100,000.00 tUSD" in refused.err or "100000" in refused.err


def test_no_gas_money(cli, market, accounts):
    market.anvil.set_balance(accounts.stranger.address, 0)
    refused = cli("env", "register", "chain_sum", key="stranger")
    assert refused.code == 3
    assert accounts.stranger.address in refused.err


def test_the_wrong_password(cli, monkeypatch):
    monkeypatch.setenv("TRACEMARKET_PASSWORD", "wrong")
    refused = cli("bounty", "fund", 1, "1", key="poster")
    assert (refused.code, "poster.json" in refused.err) == (6, True)
    assert PASSWORD not in refused.err


def test_no_keystore_no_password(cli, monkeypatch):
    assert "key new" in cli("bounty", "fund", 1, "1").err
    monkeypatch.delenv("TRACEMARKET_PASSWORD")
    refused = cli("bounty", "fund", 1, "1", key="poster")
    assert (refused.code, "password" in refused.err) == (2, True)


def test_another_chain_and_no_contract(cli, market, tmp_path):
    save_deployment(replace(market.deployment, chain_id=8453), tmp_path / "base.json")
    wrong = cli("--deployment", "base.json", "bounty", "list")
    assert (wrong.code, "8453" in wrong.err, "31337" in wrong.err) == (3, True, True)
    nowhere = "0x" + "ab" * 20
    addresses = {**market.deployment.addresses, "ledger": nowhere}
    save_deployment(replace(market.deployment, addresses=addresses), tmp_path / "moved.json")
    missing = cli("--deployment", "moved.json", "bounty", "list")
    assert (missing.code, nowhere in missing.err.lower()) == (3, True)
    gone = cli("--deployment", "nope.json", "bounty", "list")
    assert (gone.code, "nope.json" in gone.err) == (2, True)


def test_a_node_that_is_down(cli):
    refused = cli("--rpc", "http://127.0.0.1:9", "bounty", "list")
    assert (refused.code, "127.0.0.1:9" in refused.err) == (3, True)


def test_malformed_specs(cli, tmp_path):
    (tmp_path / "broken.json").write_text('{"v":1,"name":')
    assert "not JSON" in cli("env", "register", "broken.json", key="poster").err
    spec = json.loads(spec_bytes(builtin_spec("chain_sum")))
    spec["source"]["task"] = "chain_sums"
    (tmp_path / "typo.json").write_text(json.dumps(spec))
    refused = cli("env", "register", "typo.json", key="poster")
    assert (refused.code, "chain_sums" in refused.err, "chain_sum" in refused.err) == (
        2,
        True,
        True,
    )
    spec["source"]["task"] = "chain_sum"
    spec["packages"]["reasoning-gym"] = "0.0.1"
    (tmp_path / "old.json").write_text(json.dumps(spec))
    assert "0.0.1" in cli("env", "register", "old.json", key="poster").err


def test_deploy_does_not_overwrite(cli):
    refused = cli("deploy", key="poster")
    assert (refused.code, "exists already" in refused.err) == (2, True)


def test_mining_what_cannot_be_mined(cli, environment):
    cli("env", "register", "chain_sum", key="poster")
    assert cli("mine", 1, key="miner").code == 3  # no such bounty
    _create(cli, environment, "--tier", "B")
    refused = cli("mine", 1, key="miner")
    assert (refused.code, "--model" in refused.err) == (2, True)  # the trainer has no checkpoint
    other = cli("mine", 1, "--model", "somewhere", key="miner")
    assert (other.code, "trainer's checkpoint" in other.err) == (2, True)


def test_keys_are_made_once(cli, tmp_path):
    made = cli("key", "new", "mine.json")
    assert (made.code, made.out.strip()) == (0, cli("key", "show", "mine.json").out.strip())
    again = cli("key", "new", "mine.json")
    assert (again.code, "mine.json" in again.err) == (6, True)


def test_the_faucet_is_for_local_chains(cli, market, accounts):
    before = market.reader.token_balance(accounts.stranger.address)
    assert cli("chain", "faucet", accounts.stranger.address, "--tokens", "5").code == 0
    assert market.reader.token_balance(accounts.stranger.address) == before + 5 * TUSD
    assert "no address" in cli("chain", "faucet", "me").err
