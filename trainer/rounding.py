"""Weights that fit into bf16, without losing what a step taught them.

A step moves most weights by less than half a unit in the last place of bf16, so rounding to the
nearest would undo it. Rounding at random, up with the chance that the weight lies on its way
up, is right on average: a few weights in a hundred move by a whole unit, the others stay as
they were in the parent. Then a checkpoint is half as large (docs/training.md).

Source: Gupta et al., "Deep Learning with Limited Numerical Precision", arXiv 1502.02551.
"""

from __future__ import annotations

from marketplace.gym.policy import Policy

import torch  # isort: skip  (after the policy, which sets how its threads wait)

_LOW = 0xFFFF
"""The bits of an fp32 number that bf16 lacks."""


@torch.no_grad()
def round_weights(policy: Policy, seed: int) -> None:
    """Round all weights, in place, to numbers that bf16 holds. They stay fp32.

    Equal seeds round equal weights alike; weights that fit already are left as they are.
    """
    draw = torch.Generator().manual_seed(seed)
    for weights in policy.model.parameters():
        bits = weights.detach().cpu().float().contiguous().view(torch.int32)
        chance = torch.randint(0, _LOW + 1, bits.shape, generator=draw, dtype=torch.int32)
        # Magnitudes are ordered like their bits; a carry into the exponent is the next number.
        rounded = ((bits + chance) & ~_LOW).view(torch.float32)
        weights.copy_(torch.where(weights.cpu().isfinite(), rounded, weights.cpu()))
