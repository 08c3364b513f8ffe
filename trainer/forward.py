"""How a training step runs its model: precision, and what is kept for backward.

Only training uses this. The pass that verifies behaviour stays in fp32: the tolerances of
provenance are those of fp32.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from typing import Any, Final

import torch

from marketplace.gym.tree_attention import FLEX, attention_set, takes_flex
from trainer.config import Precision

_GAIN: Final = 1.3
"""bf16 products must be this much faster than fp32 ones before "auto" takes them."""


@contextmanager
def training_forward(
    model: Any, *, precision: Precision = "fp32", recompute: bool = False
) -> Iterator[None]:
    """Within it, forward passes of the model run as asked. Weights stay in their own precision.

    precision: of matrix products; the log-softmax is fp32 in any case. recompute: keep only each
    layer's input for backward and compute the layer again (about half of the activations and a
    third more work; see docs/training.md). On a GPU bf16 brings flex attention with it, which
    reads no mask and skips what other branches hold.
    """
    with ExitStack() as stack:
        if recompute:
            stack.enter_context(_recomputed(model))
        device = next(model.parameters()).device.type
        if resolved(precision, device) == "bf16":
            stack.enter_context(torch.autocast(device, torch.bfloat16))
            if device == "cuda" and takes_flex(model):
                stack.enter_context(attention_set(model.config.get_text_config(), FLEX))
        yield


def resolved(precision: Precision, device: str) -> Precision:
    """The precision, as it is on a kind of device if it is "auto"."""
    if precision != "auto":
        return precision
    return "bf16" if bf16_gains(device) else "fp32"


def whole_norm(norm: torch.Tensor) -> float:
    """A gradient norm as a number, also where the gradients are sharded over processes."""
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


@cache
def bf16_gains(device: str) -> bool:
    """Whether matrix products in bf16 are clearly faster here, by measuring once.

    A processor without instructions for bf16 emulates them: it is asked first.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if device != "cpu" or not native:
        return False
    return _seconds(torch.float32) > _GAIN * _seconds(torch.bfloat16)


def _seconds(kind: torch.dtype) -> float:
    """Shortest of some products of the size that a small model's layer has."""
    left, right = torch.ones(512, 768, dtype=kind), torch.ones(768, 2048, dtype=kind)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - started)
    return min(times)


@contextmanager
def _recomputed(model: Any) -> Iterator[None]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)]
    config = model.config.get_text_config()

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        # Called in forward: the attention that a layer ran with is the one to run again.
        return nullcontext(), attention_set(config, config._attn_implementation)

    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})
    # A layer recomputes only in training mode. Just itself: what is inside stays in evaluation
    # mode, without dropout.
    before = [one.training for one in layers]
    for one in layers:
        one.training = True
    try:
        yield
    finally:
        for one, was in zip(layers, before, strict=True):
            one.training = was
        model.activation_checkpointing_disable()
