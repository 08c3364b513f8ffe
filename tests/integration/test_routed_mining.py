"""Mining with a router: each trace names the expert that wrote it, and verifiers replay it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from cli_kit import command
from test_replayed_market import SIZE, SPEC, Replaying, policy, pool  # noqa: F401  (fixtures)

from marketplace.chain.records import PayRule
from marketplace.gym.environment import Environment
from marketplace.gym.routing import Router
from marketplace.gym.spec import environment_id, spec_bytes
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.trace import Tier, decode_line
from marketplace.storage.cid import Cid
from trainer.checkpoint import TrainingRecord
from trainer.compose import Base, Expert, route_experts
from trainer.experts import LoraSettings, Start, adapt, save_adapter
from trainer.turn import publish

import torch  # isort: skip  (after the policy, which sets how its threads wait)


@pytest.fixture
def mine(market, accounts, tmp_path, monkeypatch, capsys):
    """The command, with the miner's key: exit code, output, messages."""
    return command("mine", market, accounts.miner, tmp_path, monkeypatch, capsys)


def _expert(loop: Replaying, client, base: Base, seed: int) -> Expert:
    """A registered adapter that changes its base a little."""
    record = TrainingRecord(parent=base.checkpoint, dataset={}, settings={}, metrics={})
    adapted = adapt(Start(base.folder, base.cid), LoraSettings(rank=2))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, one in adapted.model.named_parameters():
            if "lora_B" in name:
                one.normal_(0, 0.02)
    folder = save_adapter(
        adapted,
        loop.folder / f"expert-{seed}",
        sampling=SPEC.sampling,
        record=record,
        base=base.cid,
    )
    parent = client.checkpoint(base.checkpoint)
    number, cid = publish(client, loop.store, folder, parent=parent, root=ZERO32)
    return Expert(number, str(cid), folder)


def test_a_router_is_mined_with(market, accounts, pool, policy, mine, tmp_path, monkeypatch):  # noqa: F811
    loop = Replaying(market, pool, tmp_path)
    bounty, number = loop.prepare(policy)  # of tier A
    trainer = market.client(accounts.trainer)
    content = market.reader.checkpoint(number).content
    cid = str(Cid.from_chain(content.digest, content.codec))
    base = Base(number, cid, tmp_path / "base")
    experts = [_expert(loop, trainer, base, seed) for seed in (1, 2)]
    task = Environment(SPEC).task
    asked = {one.checkpoint: [task(bytes([one.checkpoint]) * 32).prompt] for one in experts}
    folder = route_experts(base, experts, asked, tmp_path / "router", dataset={})
    publish(trainer, loop.store, folder, parent=trainer.checkpoint(number), root=ZERO32)

    # Where a prompt is sent is the router's own affair; here they take turns, so that both write.
    sent: dict[str, int] = {}

    def by_turns(self, policy, prompt):
        return sent.setdefault(prompt, self.experts[len(sent) % 2])

    monkeypatch.setattr(Router, "choose", by_turns)
    loop.miner().enrol(bounty)  # makes the blocks that the command would wait for
    # The router is the trainer's newest checkpoint, so this is what is sampled without an option.
    code, out, err = mine(bounty, "--groups", 4)
    assert code == 0, err
    opened = loop.judged(int(out))
    traces = [decode_line(line) for line in opened.lines]
    assert len(traces) == 4 * SIZE
    assert [one.checkpoint for one in traces] == [sent[one.prompt] for one in traces]
    assert {one.checkpoint for one in traces} == {one.checkpoint for one in experts}
    # Verifiers replayed every trace with the expert that it names.
    assert opened.attestation.faults == 0

    # One checkpoint by its number.
    code, out, err = mine(bounty, "--groups", 1, "--checkpoint", number)
    assert code == 0, err
    opened = loop.judged(int(out))
    assert {decode_line(line).checkpoint for line in opened.lines} == {number}
    assert opened.attestation.faults == 0

    # A router of somebody else, or with experts of somebody else, can be sold at tier C only.
    stranger = market.client(accounts.poster)
    foreign = _expert(loop, stranger, base, 3)
    mixed = route_experts(
        base,
        [experts[0], foreign],
        {experts[0].checkpoint: ["a"], foreign.checkpoint: ["b"]},
        tmp_path / "mixed",
        dataset={},
    )
    other, _ = publish(trainer, loop.store, mixed, parent=trainer.checkpoint(number), root=ZERO32)
    code, _, err = mine(bounty, "--checkpoint", other)
    assert code == 2
    assert f"expert {foreign.checkpoint} of router {other} was registered by" in err
    assert "of tier A takes traces of checkpoints of its trainer" in err
    code, _, err = mine(bounty, "--checkpoint", foreign.checkpoint)
    assert (code, f"checkpoint {foreign.checkpoint} was registered by" in err) == (2, True)
    code, _, err = mine(bounty, "--checkpoint", 99)
    assert (code, "there is no checkpoint 99" in err) == (2, True)
    opaque = market.open_bounty(
        environment=environment_id(spec_bytes(SPEC)),
        tier=Tier.C,
        pay_rule=PayRule.CORRECT,
        group_size=SIZE,
    )
    loop.miner().enrol(opaque)
    code, out, err = mine(opaque, "--groups", 2, "--checkpoint", other, "--seed", 1)
    assert code == 0, err
    opened = loop.judged(int(out))
    assert opened.attestation.faults == 0
    named = {decode_line(line).checkpoint for line in opened.lines}
    assert named == {experts[0].checkpoint, foreign.checkpoint}
