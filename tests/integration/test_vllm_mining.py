"""`mine --endpoint` at tiers A and B: a server samples the checkpoint, verifiers replay it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from cli_kit import command
from served import completing
from test_replayed_market import SIZE, SPEC, Replaying, policy, pool  # noqa: F401  (fixtures)
from vllm_stand_in import vllm_like

from marketplace.chain.records import PayRule
from marketplace.gym.spec import environment_id, spec_bytes
from marketplace.protocol.trace import Tier, decode_line


@pytest.fixture
def mine(market, accounts, tmp_path, monkeypatch, capsys):
    """The command, with the miner's key: exit code, output, messages."""
    return command("mine", market, accounts.miner, tmp_path, monkeypatch, capsys)


def test_what_a_server_samples_is_paid_at_tiers_a_and_b(
    market,
    accounts,
    pool,  # noqa: F811
    policy,  # noqa: F811
    mine,
    tmp_path,
):
    loop = Replaying(market, pool, tmp_path)
    seeded, checkpoint = loop.prepare(policy)  # of tier A
    scored = market.open_bounty(
        environment=environment_id(spec_bytes(SPEC)),
        tier=Tier.B,
        trainer=accounts.trainer.address,
        pay_rule=PayRule.CORRECT,
        group_size=SIZE,
    )
    with completing(vllm_like(policy)) as url:
        for bounty in (seeded, scored):
            loop.miner().enrol(bounty)  # makes the blocks that the command would wait for
            words = [bounty, "--groups", 3, "--endpoint", url, "--endpoint-model", "m"]
            code, out, err = mine(*words)
            assert code == 0, err
            opened = loop.judged(int(out))
            assert {decode_line(line).checkpoint for line in opened.lines} == {checkpoint}
            assert opened.attestation.faults == 0
            assert opened.attestation.units > 0
        code, _, err = mine(seeded, "--endpoint", url)
        assert (code, "--endpoint and --endpoint-model go together" in err) == (2, True)
        code, _, err = mine(seeded, "--model", tmp_path / "base")
        assert (code, "leave --model out" in err) == (2, True)

    # Without the noise nothing is committed, and nothing is at stake.
    batches = market.reader.batch_count()
    held = market.reader.balance(accounts.miner.address)
    with completing(vllm_like(policy, noise=False)) as url:
        code, _, err = mine(seeded, "--groups", 3, "--endpoint", url, "--endpoint-model", "m")
    assert (code, "that its task's seed did not pick" in err) == (1, True), err
    assert market.reader.batch_count() == batches
    assert market.reader.balance(accounts.miner.address) == held
