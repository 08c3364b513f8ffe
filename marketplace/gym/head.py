"""Log-probabilities of a language-model head without its logits.

A head of V tokens over m rows would give [m, V] numbers, and backward needs as many again: at
V = 49,152 they are the largest thing in a small model's step. Here the head runs in tiles of at
most TILE numbers, forward with a running logsumexp, and backward computes each tile anew, turns
it into its own gradient in place and adds it up. Same values and same gradients as
log_softmax(hidden @ weight.T / temperature), up to the order in which floating point adds.

Tiles are cut along the vocabulary, so that a slice of the weights and of their gradient is read
and written once. As in Cut Cross-Entropy (arXiv 2411.09009) and Liger (arXiv 2410.10989).

Logits are fp32 sums in any case. Where a GPU trains in bf16, their factors are rounded to TF32
(10 bits of fraction; bf16 has 7), which its matrix units take and fp32 they don't.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

TILE: Final = 1 << 21
"""Logits computed at once, 8 MiB in fp32: they stay in the processor's last cache."""

GPU_TILE: Final = 1 << 26
"""On a GPU, 256 MiB: few kernels, each large enough to fill it."""

_NARROWEST: Final = 256
_SCALES: Final = (
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "lm_head_multiplier",
    "output_multiplier",
)


class _Scored(torch.autograd.Function):
    """See `scored_logprobs`. Recomputes in backward; keeps [rows] numbers and its inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        rows: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        want_entropy: bool,
        tile: int,
        tf32: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        ctx.set_materialize_grads(False)
        count = hidden.shape[0]
        highest = hidden.new_full((count,), -torch.inf, dtype=torch.float32)
        total = torch.zeros_like(highest)
        weighted = torch.zeros_like(highest)
        chosen = torch.zeros(len(targets), dtype=torch.float32, device=hidden.device)
        for here, start, stop in _tiles(count, weight.shape[0], tile):
            with _products(tf32):
                logits = _logits(hidden[here], weight, bias, start, stop, temperature)
            inside = _inside(rows, targets, here, start, stop)
            chosen[inside] = logits[rows[inside] - here.start, targets[inside] - start]
            peak = torch.maximum(highest[here], logits.amax(-1))
            shrink = (highest[here] - peak).exp()
            highest[here] = peak
            if want_entropy:
                powers = (logits - peak[:, None]).exp()
                weighted[here] = weighted[here] * shrink + (powers * logits).sum(-1)
            else:
                powers = logits.sub_(peak[:, None]).exp_()
            total[here] = total[here] * shrink + powers.sum(-1)
        norm = highest + total.log()
        entropy = norm - weighted / total if want_entropy else None
        ctx.save_for_backward(hidden, weight, bias, rows, targets, norm, entropy)
        ctx.temperature, ctx.tile, ctx.tf32 = temperature, tile, tf32
        return chosen - norm[rows], entropy

    @staticmethod
    def backward(
        ctx: Any, grad_chosen: torch.Tensor | None, grad_entropy: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        # Also where the caller's autocast is on still: it would mix bf16 into what is fp32.
        with torch.autocast(ctx.saved_tensors[0].device.type, enabled=False):
            return _gradients(ctx, grad_chosen, grad_entropy)


def scored_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    rows: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float,
    want_entropy: bool = False,
    tile: int | None = None,
    tf32: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log softmax(hidden @ weight.T + bias, over temperature)[rows, targets]; entropies if wanted.

    hidden [r, H], weight [V, H], bias [V] or None, rows and targets [m]. tile: logits at once, of
    the device's usual size without it. tf32: let a GPU round what it multiplies (no other device
    does). Returns [m] fp32 and [r] fp32 nats, both differentiable in hidden, weight and bias.
    """
    if tile is None:
        tile = GPU_TILE if hidden.is_cuda else TILE
    chosen, entropy = _Scored.apply(
        hidden, weight, bias, rows, targets, temperature, want_entropy, tile, tf32
    )
    return chosen, entropy


def is_plain(model: Any) -> bool:
    """Whether a model's logits are its last hidden states through one linear layer, and no more."""
    config = model.config.get_text_config()
    scaled = any(getattr(config, name, None) not in (None, 1.0) for name in _SCALES)
    # By its forward and not its type, which sharding replaces.
    head = model.get_output_embeddings()
    return type(head).forward is torch.nn.Linear.forward and not scaled


@contextmanager
def head_replaced(
    model: Any,
    rows: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float,
    want_entropy: bool = False,
) -> Iterator[None]:
    """Within it, the model's logits are [m] `scored_logprobs`, and behind them [m] entropies of
    their rows if wanted. The model must be `is_plain`.

    The head is called from inside the model's forward as ever and the result leaves through it,
    so that whatever wraps it (adapters, autocast, gathering sharded weights before forward and
    before backward) still does its part.
    """
    head = model.get_output_embeddings()

    def scored(hidden: torch.Tensor) -> torch.Tensor:
        flat = hidden.reshape(-1, hidden.shape[-1])
        half = hidden.is_cuda and torch.is_autocast_enabled("cuda")
        with torch.autocast(hidden.device.type, enabled=False):
            chosen, entropy = scored_logprobs(
                flat,
                head.weight,
                head.bias,
                rows,
                targets,
                temperature=temperature,
                want_entropy=want_entropy,
                tf32=half,
            )
        return chosen if entropy is None else torch.cat([chosen, entropy[rows]])

    head.forward = scored
    try:
        yield
    finally:
        del head.forward


def _gradients(
    ctx: Any, grad_chosen: torch.Tensor | None, grad_entropy: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    hidden, weight, bias, rows, targets, norm, entropy = ctx.saved_tensors
    wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
    if grad_chosen is None and grad_entropy is None:
        return (None,) * 9
    grad_hidden = _zeros(hidden, hidden.shape) if wants_hidden else None
    grad_weight = weight.new_empty(weight.shape, dtype=torch.float32) if wants_weight else None
    grad_bias = _zeros(hidden, weight.shape[:1]) if wants_bias and bias is not None else None
    # Each chosen token's gradient pushes against its whole row.
    pushed = _zeros(hidden, norm.shape)
    if grad_chosen is not None:
        pushed.index_add_(0, rows, grad_chosen.float())
    for here, start, stop in _tiles(len(norm), weight.shape[0], ctx.tile):
        with _products(ctx.tf32):
            logits = _logits(hidden[here], weight, bias, start, stop, ctx.temperature)
        logits.sub_(norm[here, None])
        if grad_entropy is None:
            grad = logits.exp_().mul_(-pushed[here, None])
        else:  # d entropy / d logit = -p (log p + entropy)
            surprise = (logits + entropy[here, None]).mul_(grad_entropy[here, None])
            grad = logits.exp_().mul_(surprise.add_(pushed[here, None]).neg_())
        if grad_chosen is not None:
            inside = _inside(rows, targets, here, start, stop)
            places = (rows[inside] - here.start, targets[inside] - start)
            grad.index_put_(places, grad_chosen[inside].float(), accumulate=True)
        if ctx.temperature != 1.0:
            grad.div_(ctx.temperature)
        with _products(ctx.tf32):
            if grad_hidden is not None:
                grad_hidden[here].addmm_(grad, weight[start:stop].float())
            if grad_weight is not None:
                # The first rows write, so that the matrix is not filled with zeros before.
                grad_weight[start:stop].addmm_(
                    grad.T, hidden[here].float(), beta=1 if here.start else 0
                )
        if grad_bias is not None:
            grad_bias[start:stop] += grad.sum(0)
    return (
        None if grad_hidden is None else grad_hidden.to(hidden.dtype),
        None if grad_weight is None else grad_weight.to(weight.dtype),
        None if grad_bias is None else grad_bias.to(bias.dtype),
        *(None,) * 6,
    )


@contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """Within it a GPU's products of fp32 matrices may take their factors as TF32."""
    if not tf32:
        yield
        return
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision = before


def _tiles(rows: int, vocabulary: int, tile: int) -> Iterator[tuple[slice, int, int]]:
    """Slices of rows and bounds of tokens, of at most `tile` logits (or one row's narrowest)."""
    high = max(1, min(rows, tile // _NARROWEST))
    wide = max(1, min(vocabulary, tile // high))
    for first in range(0, rows, high):
        here = slice(first, min(first + high, rows))
        for start in range(0, vocabulary, wide):
            yield here, start, min(start + wide, vocabulary)


def _logits(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    start: int,
    stop: int,
    temperature: float,
) -> torch.Tensor:
    """[rows, stop - start] in fp32, to be changed in place.

    Half-precision inputs are multiplied in fp32: rounding a logit to bf16 moves it by 0.1 nats.
    """
    logits = hidden.float() @ weight[start:stop].float().T
    if bias is not None:
        logits += bias[start:stop]
    return logits.div_(temperature) if temperature != 1.0 else logits


def _inside(
    rows: torch.Tensor, targets: torch.Tensor, here: slice, start: int, stop: int
) -> torch.Tensor:
    """Places in `targets` that lie in a tile."""
    within = (targets >= start) & (targets < stop) & (rows >= here.start) & (rows < here.stop)
    return within.nonzero()[:, 0]


def _zeros(like: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float32, device=like.device)
