"""Where TRL 1.16 defines the same loss, ours is equal to it: its own code on the same numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from trainer.advantages import centred, normalised
from trainer.config import TrainSettings
from trainer.loss import Gate, Rules, Tokens, refinery_loss
from trainer.objectives import OBJECTIVES

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/learning"))

SETTINGS = TrainSettings(ratio_high=1.28, peer_high=1.2, gspo_clip=0.05, cispo_high=1.5)


@pytest.fixture(scope="module")
def trl_loss():
    pytest.importorskip("trl", reason="TRL is not installed")
    from trl_peer import trl_loss

    return trl_loss


def _tokens(seed: int) -> Tokens:
    """Traces of several lengths, ratios on both sides of every clip, advantages of both signs."""
    draw = torch.Generator().manual_seed(seed)

    def noise(spread: float) -> torch.Tensor:
        return spread * torch.randn(len(traces), generator=draw, dtype=torch.float64)

    traces = torch.repeat_interleave(torch.arange(6), torch.tensor([1, 7, 3, 5, 2, 9]))
    proximal = -noise(1).abs() - 0.3
    return Tokens(
        current=(proximal + noise(0.4)).clamp(max=0).requires_grad_(),
        proximal=proximal,
        behaviour=None,
        advantages=torch.tensor([1.0, -1.0, 0.5, -0.25, 0.0, -0.6], dtype=torch.float64)[traces],
        traces=traces,
    )


def _gradient(loss: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss, tokens.current)
    return found


@pytest.mark.parametrize(
    ("name", "trl"),
    [
        ("grpo", {"loss_type": "grpo"}),
        ("dapo", {"loss_type": "dapo", "epsilon_high": 0.28}),
        ("dr_grpo", {"loss_type": "dr_grpo", "longest": 256}),
        ("gspo", {"loss_type": "grpo", "level": "sequence", "epsilon": 0.05, "epsilon_high": 0.05}),
        ("cispo", {"loss_type": "cispo", "epsilon_high": 1.5}),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_loss_and_gradient_are_trls(trl_loss, name, trl, seed):
    tokens = _tokens(seed)
    result = OBJECTIVES[name].loss(tokens, SETTINGS)
    ours = result.terms.sum() / result.units
    theirs = trl_loss(tokens, **trl)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert theirs.item() != pytest.approx(0, abs=1e-3)
    torch.testing.assert_close(
        _gradient(ours, tokens), _gradient(theirs, tokens), atol=1e-6, rtol=0
    )


def test_two_sided_clip_with_our_gate_is_trls_dapo_with_delta_and_mask(trl_loss):
    """Ours without weights by sign is DAPO with INTELLECT-2's delta and DeepSeek-V3.2's mask, but
    for the denominator: kept tokens, not all of them."""
    for seed in range(4):
        tokens = _tokens(seed)
        rules = Rules(0.8, 1.28, 4.0, 1.0, 1.0, Gate(0.0, float("inf"), 0.1))
        result = refinery_loss(tokens, rules)
        theirs = trl_loss(tokens, "dapo", epsilon_high=0.28, delta=4.0, drift=0.1)
        assert result.terms.sum().item() == pytest.approx(
            theirs.item() * len(tokens.current), abs=1e-6
        )
    assert result.units < len(tokens.current)


def test_advantages_are_trls():
    scores = torch.tensor([1.0, 0.0, 0.0, 0.25])
    mean, spread = scores.mean(), scores.std()
    expected = ((scores - mean) / (spread + 1e-4)).tolist()
    assert normalised(scores.tolist()) == pytest.approx(expected, abs=1e-6)
    assert centred(scores.tolist()) == pytest.approx((scores - mean).tolist(), abs=1e-6)
