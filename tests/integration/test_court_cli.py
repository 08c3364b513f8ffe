"""The court's commands against a real Anvil, as people type them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import command_line
from loop_kit import COURTLY, Arithmetic, Loop, courtly_market, false_verdicts

from marketplace.chain.client import MarketClient
from marketplace.chain.records import BatchPhase
from marketplace.cli import audits
from marketplace.gym.pool import CheckPool
from marketplace.protocol.errors import TransactionTimeout
from marketplace.protocol.verdict import Reason, Verdict
from marketplace.storage.embedded import EmbeddedStore

TUSD = 10**6
OPEN = (BatchPhase.CHALLENGEABLE,)


@pytest.fixture(scope="module")
def pool():
    with CheckPool(workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def courtly(deploy_once):
    return deploy_once(COURTLY)


@pytest.fixture
def court(market, courtly, accounts):
    holders = (accounts.poster, accounts.miner, accounts.stranger, *accounts.verifiers)
    return courtly_market(market, courtly, 1_000 * TUSD, holders)


@pytest.fixture
def cli(court, accounts, tmp_path, monkeypatch, capsys):
    """cli("dispute", "list", key="stranger") -> (exit code, stdout, stderr)."""
    keys = {role: getattr(accounts, role) for role in ("poster", "miner", "stranger")}
    keys["verifier"] = accounts.verifiers[0]
    return command_line(court.anvil.url, court.deployment, keys, tmp_path, monkeypatch, capsys)


@false_verdicts
def a_lie(place: int, verdict: Verdict) -> Verdict:
    return Verdict(0, Reason.FALSE_CLAIM, 0, 1) if place == 5 else verdict


def attested(loop: Loop, **options: object) -> int:
    bounty = loop.open_bounty()
    liars = loop.market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, 3, Arithmetic())
    nodes = [loop.liar(key, a_lie, keeper=place == 0, **options) for place, key in enumerate(liars)]
    assert loop.drive(nodes, mined.batch, until=OPEN) is BatchPhase.CHALLENGEABLE
    for key in loop.market.accounts.verifiers[3:]:
        loop.market.client(key).stake(500 * TUSD)
    return mined.batch


def test_a_dispute_by_hand(cli, court, accounts, tmp_path, pool):
    loop = Loop(court, pool, tmp_path)
    batch = attested(loop)
    code, _, err = cli("dispute", "leaf", batch, 12, key="stranger")
    assert (code, "from 0 to 11" in err) == (2, True)
    code, _, err = cli("dispute", "outcome", batch, key="stranger")
    assert (code, "dispute leaf" in err) == (2, True)
    code, _, err = cli("dispute", "prove", batch, key="stranger")
    assert (code, "no fault" in err) == (5, True)
    code, out, err = cli("dispute", "leaf", batch, 5, key="stranger")
    assert (code, out, "7.00 tUSD" in err) == (0, "1\n", True), err
    code, _, err = cli("dispute", "leaf", batch, 5, key="stranger")
    assert code == 3

    (row,) = json.loads(cli("dispute", "list", "--batch", batch, "--json")[1])
    assert (row["kind"], row["index"], row["phase"]) == ("leaf", 5, "in_jury")
    assert (row["standing"], row["bond"]) == ("none", str(7 * TUSD))
    held = json.loads(cli("market", "show", "--json")[1])
    assert (held["dispute_bonds"], held["insurance_pool"]) == (str(7 * TUSD), "0")

    honest = loop.nodes(accounts.verifiers[3:])
    for _ in range(5):
        for node in honest:
            node.run_once()
        court.anvil.mine(2)
    assert "the attestation falls" in cli("dispute", "show", 1)[1]
    shown = json.loads(cli("dispute", "show", 1, "--json")[1])
    assert (shown["phase"], shown["standing"]) == ("appealable", "falls")
    assert [jury["revealed"] for jury in shown["juries"]] == [5]
    # The liars' friend appeals: seven would have to be drawn from those who did not sit.
    code, _, err = cli("dispute", "appeal", 1, key="miner")
    assert (code, "14.00 tUSD" in err) == (0, True), err
    shown = json.loads(cli("dispute", "show", 1, "--json")[1])
    assert shown["appeals"][0]["bond"] == str(14 * TUSD)
    code, _, err = cli("dispute", "show", 2)
    assert (code, "dispute list" in err) == (2, True)


def test_a_withheld_tree_is_demanded_and_watched(cli, court, accounts, tmp_path, pool):
    loop = Loop(court, pool, tmp_path)
    batch = attested(loop, store=EmbeddedStore(tmp_path / "private"))
    code, _, err = cli("dispute", "leaf", batch, 5, "--timeout", 0, key="stranger")
    assert (code, "dispute open" in err) == (4, True)
    code, out, _ = cli("dispute", "open", batch, key="stranger")
    assert (code, out) == (0, "1\n")
    # The watch takes the opening over; nobody opens a second one.
    for _ in range(2):
        code, _, err = cli("watch", "--once", "--workers", 1, key="stranger")
        assert code == 0, err
    assert court.reader.dispute_count() == 1
    assert "asked" in cli("dispute", "show", 1)[1]


def test_seats_in_juries_are_shown(cli, court, accounts, tmp_path, pool):
    loop = Loop(court, pool, tmp_path)
    batch = attested(loop)
    (seat,) = json.loads(cli("verifier", "status", "--json", key="verifier")[1])
    assert (seat["batch"], seat["dispute"], seat["seat"]) == (batch, None, "revealed")
    loop.tower(accounts.stranger).run_once()
    court.anvil.mine(2)
    loop.node(accounts.verifiers[3]).run_once()
    who = accounts.verifiers[4].address
    (seat,) = json.loads(cli("verifier", "status", who, "--json")[1])
    assert (seat["batch"], seat["dispute"], seat["phase"]) == (batch, 1, "committing")
    assert "jury" in cli("verifier", "status", who)[1]


@pytest.mark.parametrize("lazy", [False, True], ids=["checked", "lazy"])
def test_an_audit_from_planting_to_opening(cli, court, accounts, tmp_path, pool, monkeypatch, lazy):
    # No model and no server: what samples is not the question here.
    monkeypatch.setattr(audits, "sampler_for", lambda *_: (Arithmetic(), None))
    loop = Loop(court, pool, tmp_path)
    bounty = loop.open_bounty()
    keys = court.stake_verifiers(3)
    client = court.client(accounts.miner)
    client.request_assignment(bounty)
    court.wait_for_randomness(client.assignment(bounty, client.address).point)
    plant = ("audit", "plant", bounty, "--groups", 2, "--workers", 1)
    code, _, err = cli(*plant, "--miner-keystore", "poster.json", key="poster")
    assert (code, "--miner-keystore" in err) == (2, True)
    code, out, err = cli(*plant, "--miner-keystore", "miner.json", key="poster")
    assert (code, out) == (0, "1\n"), err
    (row,) = json.loads(cli("audit", "list", "--json")[1])
    assert (row["batch"], row["state"]) == (1, "not opened, batch is in round")
    code, _, err = cli("audit", "open", 1, key="poster")
    assert (code, "not attested" in err) == (2, True)

    @false_verdicts
    def unread(place: int, verdict: Verdict) -> Verdict:
        return Verdict(10**6, Reason.CORRECT, 1, 0)

    nodes = loop.nodes(keys)
    if lazy:
        nodes = [loop.liar(key, unread, keeper=place == 0) for place, key in enumerate(keys)]
    assert loop.drive(nodes, 1, until=OPEN) is BatchPhase.CHALLENGEABLE
    wanted = "missed" if lazy else "found"
    # Another home holds no planting: only who planted it can open it.
    code, _, err = cli("--home", "elsewhere", "audit", "open", 1, key="poster")
    assert (code, "audit list" in err) == (2, True)
    code, out, err = cli("audit", "open", 1, key="poster")
    assert (code, out) == (0, wanted + "\n"), err
    assert ("dispute leaf 1 " in err) == lazy
    (row,) = json.loads(cli("audit", "list", "--json")[1])
    assert (row["state"], row["planter"]) == (wanted, accounts.poster.address)


def test_a_trap_that_was_not_planted_is_never_committed(
    cli, court, accounts, tmp_path, pool, monkeypatch
):
    """Without the planting it is a plain lie, and the miner's bond pays for it."""
    monkeypatch.setattr(audits, "sampler_for", lambda *_: (Arithmetic(), None))
    loop = Loop(court, pool, tmp_path)
    bounty = loop.open_bounty()
    court.stake_verifiers(3)
    client = court.client(accounts.miner)
    client.request_assignment(bounty)
    court.wait_for_randomness(client.assignment(bounty, client.address).point)

    def killed(self, root):
        raise KeyboardInterrupt

    plant = ("audit", "plant", bounty, "--groups", 2, "--workers", 1)
    with monkeypatch.context() as patch:
        patch.setattr(type(client), "plant_audit", killed)
        assert cli(*plant, "--miner-keystore", "miner.json", key="poster").code != 0
    cli("mine", bounty, "--model", "nowhere", key="miner")  # first finishes what was interrupted
    assert court.reader.batch_count() == 0
    code, out, err = cli(*plant, "--miner-keystore", "miner.json", key="poster")
    assert (code, out) == (0, "1\n"), err


def test_the_salt_of_gold_is_told_before_it_is_needed(cli, court, accounts, monkeypatch):
    """A receipt may not come in time though the planting counts."""
    plant, sent = MarketClient.plant_gold, []

    def late(self, commitment):
        sent.append(plant(self, commitment))
        raise TransactionTimeout("no receipt in time")

    monkeypatch.setattr(MarketClient, "plant_gold", late)
    ran = cli("jury", "plant", "0x" + "11" * 32, "4x", key="poster")
    assert (ran.code, len(sent)) == (3, 1)
    assert re.fullmatch(r"0x[0-9a-f]{64}\n", ran.out)
