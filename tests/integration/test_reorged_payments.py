"""Payments on a chain that is reorganised: a number becomes another's, and the money stays where it
was. Each test has a chain of its own, whose blocks Anvil really takes back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import command_line
from court_kit import LIE, TRUTH, open_case

from marketplace.chain.blocks import Sent
from marketplace.chain.client import MarketClient, Payment
from marketplace.chain.errors import ContractError
from marketplace.chain.records import Checkpoint, CheckpointShares, ContentId, DisputePhase
from marketplace.cli.market_traces import MarketTrader
from marketplace.gym.spec import builtin_spec, environment_id, spec_bytes
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.shares import derive_shares
from marketplace.protocol.verdict import MALFORMED
from marketplace.storage.embedded import EmbeddedStore
from trainer.recipe import BountyPolicy
from trainer.run import RunFolder
from trainer.turn import Trained, publish
from verifier_node.checkpoints import CheckpointCache

TUSD = 10**6
WEIGHTS = ContentId(b"\x07" * 32, 0x70)


@pytest.fixture
def market(fresh_anvil: Any) -> Any:
    return fresh_anvil(deployed=True)


def register(market: Any, account: Any, parent: int = 0, pass_on_ppm: int = 0) -> Checkpoint:
    """A checkpoint whose royalties are all `account`'s, but for what goes on."""
    shares = derive_shares(account.address, ())
    terms = CheckpointShares(shares.root, 1, pass_on_ppm, WEIGHTS)
    client = market.client(account)
    above = client.checkpoint(parent) if parent else None
    number, _ = client.register_checkpoint(above, WEIGHTS, ZERO32, terms)
    return client.checkpoint(number)


def sent_again(market: Any, sent: Sent, back_to: int) -> Callable[[], int]:
    """Takes all blocks above `back_to` back, with the transaction's. Returns what sends the very
    same one again, as a node does with what fell out of a block: the status of its receipt."""
    node = market.anvil
    raw = node.rpc("eth_getRawTransactionByHash", "0x" + sent.tx_hash.hex())
    node.reorg(node.block_number() - back_to)

    def again() -> int:
        tx = node.rpc("eth_sendRawTransaction", raw)
        assert tx == "0x" + sent.tx_hash.hex()
        node.mine()
        return int(node.rpc("eth_getTransactionReceipt", tx)["status"], 16)

    return again


@pytest.mark.parametrize("payment", [Payment.PERMIT, Payment.ALLOWANCE])
def test_royalties_reach_no_other_checkpoint(market, accounts, payment) -> None:
    payer = market.client(accounts.poster)
    payer.approve(100 * TUSD if payment is Payment.ALLOWANCE else 0)
    fork = market.anvil.block_number()
    meant = register(market, accounts.trainer)
    sent = payer.pay_royalty(meant, 5 * TUSD, payment=payment)
    assert market.reader.royalties(meant.id).received == 5 * TUSD
    again = sent_again(market, sent, fork)
    tokens = payer.token_balance(payer.address)

    other = register(market, accounts.other_miner)
    assert (other.id, other.trainer) == (meant.id, accounts.other_miner.address)
    assert again() == 0  # mined, and refused
    with pytest.raises(ContractError) as refused:
        payer.pay_royalty(meant, 5 * TUSD, payment=payment)
    assert refused.value.name == "Royalties_AnotherCheckpoint"
    for identity in (meant.identity, other.identity):
        assert "0x" + identity.hex() in refused.value.message
    assert market.reader.royalties(other.id).received == 0
    assert payer.token_balance(payer.address) == tokens

    # The trainer registers it once more: another number, the same checkpoint.
    moved = register(market, accounts.trainer)
    assert (moved.id, moved.identity) == (meant.id + 1, meant.identity)
    payer.pay_royalty(moved, 5 * TUSD, payment=payment)
    assert market.reader.royalties(moved.id).received == 5 * TUSD


def test_a_payment_that_comes_back_with_its_checkpoint_is_good(market, accounts) -> None:
    """What a reorg only moves to later blocks loses nobody a payment."""
    payer = market.client(accounts.poster)
    fork = market.anvil.block_number()
    meant = register(market, accounts.trainer)
    again = sent_again(market, payer.pay_royalty(meant, 5 * TUSD), fork)
    market.anvil.mine(3)
    back = register(market, accounts.trainer)
    assert back.registered_block > meant.registered_block
    assert (back.id, back.identity) == (meant.id, meant.identity)
    assert again() == 1
    assert market.reader.royalties(back.id).received == 5 * TUSD


def test_royalties_reach_no_other_parent(market, accounts) -> None:
    """The child's record is the same to the last field; only its parent's number is another's."""
    payer = market.client(accounts.poster)
    fork = market.anvil.block_number()
    base = register(market, accounts.miner)
    child = register(market, accounts.trainer, base.id, 500_000)
    again = sent_again(market, payer.pay_royalty(child, 5 * TUSD), fork)
    tokens = payer.token_balance(payer.address)
    assert register(market, accounts.other_miner).id == base.id
    same = register(market, accounts.trainer, base.id, 500_000)
    assert (same.id, same.parent, same.shares_root) == (child.id, child.parent, child.shares_root)
    assert again() == 0
    with pytest.raises(ContractError, match=f"checkpoint {child.id} is 0x{same.identity.hex()}"):
        payer.pay_royalty(child, 5 * TUSD)
    assert payer.token_balance(payer.address) == tokens
    assert market.reader.royalties(same.id).received == 0


def test_a_child_stands_on_no_other_parent(market, accounts) -> None:
    """Whoever has the parent's number after a reorg would get half of all that is paid for the
    child."""
    trainer = market.client(accounts.trainer)
    fork = market.anvil.block_number()
    meant = register(market, accounts.miner)
    terms = CheckpointShares(derive_shares(trainer.address, ()).root, 1, 500_000, WEIGHTS)
    number, sent = trainer.register_checkpoint(meant, WEIGHTS, ZERO32, terms)
    child = market.reader.checkpoint(number)
    again = sent_again(market, sent, fork)

    other = register(market, accounts.other_miner)
    assert (other.id, other.trainer) == (meant.id, accounts.other_miner.address)
    assert again() == 0  # mined, and refused
    with pytest.raises(ContractError) as refused:
        trainer.register_checkpoint(meant, WEIGHTS, ZERO32, terms)
    assert refused.value.name == "CheckpointRegistry_AnotherParent"
    for identity in (meant.identity, other.identity):
        assert "0x" + identity.hex() in refused.value.message
    assert market.reader.checkpoint_count() == other.id

    # The parent comes back with another number, and the child stands on it: the same as ever.
    moved = register(market, accounts.miner)
    number, _ = trainer.register_checkpoint(moved, WEIGHTS, ZERO32, terms)
    back = market.reader.checkpoint(number)
    assert (back.parent, back.identity) == (moved.id, child.identity)


def test_a_run_goes_on_from_no_other_checkpoint(market, accounts, tmp_path) -> None:
    """Turns of a run are processes apart: the second one knows which checkpoint the first made."""
    client, store = market.client(accounts.trainer), EmbeddedStore(tmp_path / "store")
    (tmp_path / "run").mkdir()

    def files(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text(name)
        save_file({"w": torch.zeros(2)}, folder / "model.safetensors")
        return folder

    def turn(name: str, parent: int) -> int:
        trader = MarketTrader(
            client=client, store=store, folder=RunFolder(tmp_path / "run"), environments={},
            policy=BountyPolicy(), bounties=(1,), base=base, lost=tmp_path / "lost.json",
            cache=CheckpointCache(client, store, tmp_path / "cache"), register=True, timeout=5,
        )  # fmt: skip
        return trader.publish(None, Trained(files(name), parent, (), (), ZERO32, None, None))

    base = client.checkpoint(publish(client, store, files("base"), parent=None, root=ZERO32)[0])
    fork = market.anvil.block_number()
    first = turn("first", base.id)
    meant = client.checkpoint(first)
    assert client.checkpoint(turn("second", first)).parent == first

    market.anvil.reorg(market.anvil.block_number() - fork)
    stranger = market.client(accounts.other_miner)
    other = client.checkpoint(stranger.register_checkpoint(base, meant.content, ZERO32)[0])
    assert other.id == first
    with pytest.raises(
        ConfigError, match=f"0x{other.identity.hex()}, not 0x{meant.identity.hex()}"
    ):
        turn("second", first)
    assert client.checkpoint_count() == first


def test_a_bountys_money_reaches_no_other_bounty(market, accounts) -> None:
    market.register_environment()
    poster, helper = market.client(accounts.poster), market.client(accounts.miner)
    fork = market.anvil.block_number()
    terms = market.terms()
    number, _ = poster.create_bounty(terms, 10 * TUSD)
    meant = market.reader.bounty(number)
    again = sent_again(market, helper.fund_bounty(meant, 5 * TUSD), fork)
    tokens = helper.token_balance(helper.address)

    taken, _ = market.client(accounts.other_miner).create_bounty(terms, TUSD)
    assert taken == number
    assert again() == 0
    with pytest.raises(ContractError) as refused:
        helper.fund_bounty(meant, 5 * TUSD)
    assert refused.value.name == "BountyEscrow_AnotherBounty"
    for identity in (meant.identity, market.reader.bounty(number).identity):
        assert "0x" + identity.hex() in refused.value.message
    assert market.reader.bounty(number).available == TUSD
    assert helper.token_balance(helper.address) == tokens

    moved, _ = poster.create_bounty(terms, 10 * TUSD)
    assert market.reader.bounty(moved).identity == meant.identity
    helper.fund_bounty(market.reader.bounty(moved), 5 * TUSD)
    assert market.reader.bounty(moved).available == 15 * TUSD


def test_a_pots_money_reaches_no_other_pot(market, accounts) -> None:
    market.register_environment()
    helper = market.client(accounts.miner)
    fork = market.anvil.block_number()

    def posted(client: Any) -> Any:
        number, _ = client.create_bounty(market.terms(), TUSD)
        client.open_pot(number, 1_000)
        return market.reader.bounty(number)

    meant = posted(market.client(accounts.poster))
    market.anvil.reorg(market.anvil.block_number() - fork)
    other = posted(market.client(accounts.other_miner))
    assert other.id == meant.id
    tokens = helper.token_balance(helper.address)
    with pytest.raises(ContractError) as refused:
        helper.fund_pot(meant, 5 * TUSD)
    assert refused.value.name == "ScoreSheets_AnotherBounty"
    assert market.reader.pot(other.id).available == 0
    assert helper.token_balance(helper.address) == tokens
    helper.fund_pot(other, 5 * TUSD)
    assert market.reader.pot(other.id).available == 5 * TUSD


def test_a_bond_stands_behind_no_other_batch(market, accounts) -> None:
    """Challenger and appellant are sure of the batch that they looked at, not of another one that
    gets its number, its attestation and the number of its dispute."""
    case = open_case(market, accounts)
    reader, watcher = case.reader, case.challenger
    bounty = reader.batch(case.batch).bounty
    watcher.approve(100 * TUSD)
    fork = market.anvil.block_number()
    case.batch = case.kit.commit_batch(bounty, traces=8, root=b"\x01" * 32)
    case.attest([MALFORMED] * 3)
    meant = reader.batch(case.batch)
    number, sent = watcher.dispute_outcome(meant)
    again = sent_again(market, sent, fork)

    assert case.kit.commit_batch(bounty, traces=8, root=b"\x02" * 32) == meant.id
    case.attest([MALFORMED] * 3)
    other = reader.batch(meant.id)
    assert other.attestation == meant.attestation
    tokens = watcher.token_balance(watcher.address)
    assert again() == 0  # mined, and refused
    for demand in (watcher.dispute_outcome, watcher.demand_opening):
        with pytest.raises(ContractError) as refused:
            demand(meant)
        assert refused.value.name == "Court_AnotherAttestation"
        for identity in (meant.identity, other.identity):
            assert "0x" + identity.hex() in refused.value.message
    assert reader.dispute_count() == 0
    assert watcher.token_balance(watcher.address) == tokens

    # The same dispute about the other batch; its jury says what it would say of the first.
    assert watcher.dispute_outcome(other)[0] == number
    case.judge(number, MALFORMED)
    decided = reader.dispute(number)
    tokens = watcher.token_balance(watcher.address)
    with pytest.raises(ContractError) as refused:
        watcher.appeal(decided, meant)
    assert refused.value.name == "Court_AnotherDecision"
    for batch in (meant, other):
        assert "0x" + decided.decision(batch).hex() in refused.value.message
    assert watcher.token_balance(watcher.address) == tokens
    watcher.appeal(decided, other)
    assert reader.dispute(number).phase is DisputePhase.IN_JURY


def test_a_demand_stands_behind_no_other_verdicts(market, accounts) -> None:
    """The committee votes once more after a reorg, and this time rightly."""
    case = open_case(market, accounts)
    reader, watcher = case.reader, case.challenger
    watcher.approve(100 * TUSD)
    fork = market.anvil.block_number()
    case.attest([case.tree(LIE).attestation] * 3)
    meant = reader.batch(case.batch)
    again = sent_again(market, watcher.demand_opening(meant)[1], fork)
    case.attest([case.tree(TRUTH).attestation] * 3)
    tokens = watcher.token_balance(watcher.address)
    assert again() == 0
    with pytest.raises(ContractError, match=f"not 0x{meant.identity.hex()}, which you mean"):
        watcher.demand_opening(meant)
    assert reader.dispute_count() == 0
    assert watcher.token_balance(watcher.address) == tokens


def test_the_command_pays_for_what_it_looked_at(
    market, accounts, tmp_path, monkeypatch, capsys
) -> None:
    """The chain is reorganised while `royalties pay` looks at the list of shares."""
    keys = {"poster": accounts.poster}
    cli = command_line(market.anvil.url, market.deployment, keys, tmp_path, monkeypatch, capsys)
    fork = market.anvil.block_number()
    meant = register(market, accounts.trainer)
    shown = "0x" + meant.identity.hex()
    code, out, _ = cli("royalties", "show", meant.id)
    assert (code, shown in out) == (0, True)

    look = "marketplace.cli.royalties._list_of"
    others: list[Checkpoint] = []

    def reorganised(*_: Any) -> None:
        market.anvil.reorg(market.anvil.block_number() - fork)
        others.append(register(market, accounts.other_miner))

    monkeypatch.setattr(look, reorganised)
    code, _, err = cli("royalties", "pay", meant.id, "5", key="poster")
    (other,) = others
    assert (code, other.id) == (3, meant.id)
    assert shown in err
    assert "0x" + other.identity.hex() in err
    assert market.reader.royalties(meant.id).received == 0

    # Once the chain has settled, what was shown before can be named.
    monkeypatch.setattr(look, lambda *_: None)
    code, _, err = cli("royalties", "pay", meant.id, "5", "--identity", shown, key="poster")
    assert (code, "nothing was paid" in err) == (2, True)
    assert market.reader.royalties(meant.id).received == 0
    assert cli("royalties", "pay", meant.id, "5", "--identity", "7", key="poster")[0] == 2
    moved = register(market, accounts.trainer)
    code, _, err = cli("royalties", "pay", moved.id, "5", "--identity", shown[2:], key="poster")
    assert (code, shown in err) == (0, True)
    assert market.reader.royalties(moved.id).received == 5 * TUSD


def test_the_command_funds_what_was_shown(market, accounts, tmp_path, monkeypatch, capsys) -> None:
    keys = {"poster": accounts.poster}
    cli = command_line(market.anvil.url, market.deployment, keys, tmp_path, monkeypatch, capsys)
    bounty = market.open_bounty()
    shown = "0x" + market.reader.bounty(bounty).identity.hex()
    code, out, _ = cli("bounty", "show", bounty)
    assert (code, shown in out) == (0, True)
    wrong = "0x" + "11" * 32
    before = market.reader.bounty(bounty).available
    for words in (("bounty", "fund"), ("jury", "fund")):
        code, _, err = cli(*words, bounty, "1", "--identity", wrong, key="poster")
        assert (code, shown in err, "nothing was paid" in err) == (2, True, True)
    assert cli("bounty", "fund", bounty, "1", "--identity", shown, key="poster")[0] == 0
    assert market.reader.bounty(bounty).available == before + TUSD
    market.client(accounts.poster).open_pot(bounty, 1_000)
    assert cli("jury", "fund", bounty, "1", "--identity", shown, key="poster")[0] == 0
    assert market.reader.pot(bounty).available == TUSD


def test_a_new_bountys_pot_is_not_paid_into_another(
    market, accounts, tmp_path, monkeypatch, capsys
) -> None:
    """`bounty create` fills the pot of the bounty that it opened, whatever has its number now."""
    keys = {"poster": accounts.poster}
    cli = command_line(market.anvil.url, market.deployment, keys, tmp_path, monkeypatch, capsys)
    store = EmbeddedStore(tmp_path / "store")
    spec = builtin_spec("polite_refusal")
    environment = environment_id(spec_bytes(spec))
    store.put(spec_bytes(spec))
    market.client(accounts.deployer).register_environment(environment)
    create = ("bounty", "create", "--environment", environment.hex(), "--price", "0.1")
    create += ("--fee", "1", "--amount", "50", "--judge-pay", "1", "--judge-pot", "20")

    code, out, err = cli(*create, key="poster")
    assert (code, out) == (0, "1\n"), err
    assert market.reader.pot(1).available == 20 * TUSD

    fork = market.anvil.block_number()
    open_pot = MarketClient.open_pot

    def reorganised(client: MarketClient, bounty: int, per_trace: int) -> Sent:
        sent = open_pot(client, bounty, per_trace)
        market.anvil.reorg(market.anvil.block_number() - fork)
        other = market.client(accounts.other_miner)
        assert other.create_bounty(market.terms(environment=environment), TUSD)[0] == bounty
        open_pot(other, bounty, per_trace)
        return sent

    monkeypatch.setattr(MarketClient, "open_pot", reorganised)
    code, out, err = cli(*create, key="poster")
    assert (code, "bounty 2 is 0x" in err) == (3, True)
    assert market.reader.bounty(2).poster == accounts.other_miner.address
    assert market.reader.pot(2).available == 0
