"""A GPU trains what the processor trains, and the same bits each time; skipped without a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from test_distributed import SETTINGS, _groups
from test_resumed_run import command, run  # noqa: F401  (fixtures)
from tiny_policy import tiny_policy

from marketplace.gym import policy as reader
from marketplace.gym.head import scored_logprobs
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import Policy
from marketplace.gym.replay import SeededGroup, replay
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from trainer.checkpoint import read_record
from trainer.devices import CPU, find_device, placed, repeatable
from trainer.grpo import train_turn
from trainer.launching import Apart
from trainer.run import weights_hash
from trainer.state import TrainState, load_state, save_state

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

EXACT = SETTINGS.model_copy(update={"token_budget": 256})
HALF = EXACT.model_copy(update={"precision": "bf16"})
FRUGAL = HALF.model_copy(update={"recompute": True})


@pytest.fixture
def gpu() -> torch.device:
    return find_device("cuda")


def _trained(device, settings, *, state=None, on_step=None, groups=None) -> Policy:
    policy = placed(tiny_policy(0, width=64), device)
    with repeatable(device):
        train_turn(
            policy, groups or _groups(), settings, temperature=0.9, state=state, on_step=on_step
        )
    return placed(policy, CPU)


def _weights(policy: Policy) -> torch.Tensor:
    return torch.cat([one.detach().flatten() for one in policy.model.parameters()])


def test_in_fp32_it_trains_what_the_processor_trains(gpu):
    start, here, there = (
        _weights(one)
        for one in (tiny_policy(0, width=64), _trained(CPU, EXACT), _trained(gpu, EXACT))
    )
    assert float((here - start).abs().max()) > 1e-3
    # Adam turns tiny differences of tiny gradients into differences of steps.
    assert float((here - there).norm() / (here - start).norm()) < 1e-2


@pytest.mark.parametrize("settings", [HALF, FRUGAL], ids=["bf16", "recompute"])
def test_in_bf16_it_goes_the_same_way_by_flex_attention(gpu, settings, monkeypatch):
    masks = []
    made = reader.flex_mask
    monkeypatch.setattr(reader, "flex_mask", lambda *its: masks.append(1) or made(*its))
    start = _weights(tiny_policy(0, width=64))
    exact = _weights(_trained(gpu, EXACT)) - start
    assert not masks
    half = _weights(_trained(gpu, settings)) - start
    assert masks
    assert float(torch.nn.functional.cosine_similarity(exact, half, dim=0)) > 0.9


@pytest.mark.parametrize("settings", [EXACT, HALF, FRUGAL], ids=["fp32", "bf16", "recompute"])
def test_twice_and_through_an_interruption_the_same_bits(gpu, settings, tmp_path):
    state = TrainState()

    def keep(done, *_):
        if done == 1:
            save_state(state, tmp_path)

    whole = _weights(_trained(gpu, settings, state=state, on_step=keep))
    assert torch.equal(whole, _weights(_trained(gpu, settings)))
    found = load_state(tmp_path)
    assert len(found.steps) == 1
    assert torch.equal(whole, _weights(_trained(gpu, settings, state=found)))


def test_a_process_of_its_own_trains_the_same(gpu, tmp_path):
    policy = tiny_policy(0, width=64)
    policy.model.save_pretrained(tmp_path / "parent")
    policy.tokenizer.save_pretrained(tmp_path / "parent")
    placed(policy, gpu)
    Apart(tmp_path / "apart", tmp_path / "parent", 1)(policy, _groups(), HALF, temperature=0.9)
    assert policy.device.type == "cuda"
    start, alone = _weights(tiny_policy(0, width=64)), _weights(_trained(gpu, HALF))
    apart = _weights(placed(policy, CPU))
    assert float((apart - alone).norm() / (alone - start).norm()) < 1e-2


def test_traces_sampled_on_a_processor_replay_there(gpu):
    """By the tolerances of tiers A and B: fp32 is fp32."""
    policy = tiny_policy(0, width=64)
    rules = SamplingRules(group_size=4, temperature=1.0, max_tokens=12, stop=("\n",))
    prompts, seeds = ("3 + 4 = ", "8 - 1 = "), (b"\x01" * 32, b"\x02" * 32)
    sampled = list(TransformersSampler(policy, "m").replay(prompts, rules, seeds=seeds))
    groups = [
        SeededGroup(
            TokenGroup(policy.codec.encode(prompt), tuple(one.tokens for one in group)),
            seed,
            tuple(range(len(group))),
        )
        for prompt, group, seed in zip(prompts, sampled, seeds, strict=True)
    ]
    placed(policy, gpu)
    again = list(TransformersSampler(policy, "m").replay(prompts, rules, seeds=seeds))
    assert [[one.tokens for one in group] for group in again] == [
        [one.tokens for one in group] for group in sampled
    ]
    for group, judged in zip(sampled, replay(policy, groups, 1.0), strict=True):
        for one, found in zip(group, judged, strict=True):
            assert max(found.margins) < 1e-3
            assert found.logprobs == pytest.approx(one.logprobs, abs=1e-3)


@pytest.mark.parametrize("tf32", [False, True])
def test_the_head_agrees_with_float64(gpu, tf32):
    torch.manual_seed(0)
    hidden, weight = torch.randn(70, 64, device=gpu), torch.randn(5_000, 64, device=gpu) / 8
    rows, targets = torch.arange(70, device=gpu), torch.randint(5_000, (70,), device=gpu)
    exact = [one.double().requires_grad_() for one in (hidden, weight)]
    expected = (exact[0] @ exact[1].T / 0.8).log_softmax(-1)[rows, targets]
    expected.sum().backward()
    leaves = [one.requires_grad_() for one in (hidden, weight)]
    values, _ = scored_logprobs(
        *leaves, None, rows, targets, temperature=0.8, tile=9_000, tf32=tf32
    )
    values.sum().backward()
    off = float((values - expected).detach().abs().max())
    assert (1e-5 < off < 2e-2) if tf32 else off < 1e-4
    for leaf, one in zip(leaves, exact, strict=True):
        assert float((leaf.grad - one.grad).norm() / one.grad.norm()) < (1e-2 if tf32 else 1e-4)
    assert torch.backends.cuda.matmul.fp32_precision != "tf32"


def test_the_command_trains_there_and_says_so(command, run):  # noqa: F811
    Path("recipe.toml").write_text(
        Path("recipe.toml").read_text().replace("[settings]", '[settings]\nprecision = "auto"')
    )
    for out in ("one", "two"):
        code, said = run([*command, "--evaluate", "0", "--out", out])
        assert code == 0, said
    assert weights_hash(Path("one")) == weights_hash(Path("two")) != weights_hash(Path("base"))
    assert read_record("one")["machine"]["gpu"] == torch.cuda.get_device_name()
    code, said = run([*command, "--out", "x", "--run", "one.run", "--device", "cpu"])
    assert (code, "was begun with --device cuda, not cpu" in said) == (2, True)
    code, said = run([*command, "--evaluate", "0", "--out", "here", "--device", "cpu"])
    assert code == 0, said
    assert "gpu" not in read_record("here")["machine"]
