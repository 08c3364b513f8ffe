"""The head in tiles: values, gradients and entropy of the plain form, and never its logits."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from marketplace.gym.head import is_plain, scored_logprobs
from marketplace.gym.packing import TokenGroup, pack_groups
from marketplace.gym.policy import pack_logprobs

ROWS, WIDTH, TOKENS = 37, 16, 1001


class Largest(TorchDispatchMode):
    """Notes the most elements of any tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return result


def _inputs(seed: int = 0, dtype: torch.dtype = torch.float32):
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(ROWS, WIDTH, generator=draw, dtype=dtype)
    weight = torch.randn(TOKENS, WIDTH, generator=draw, dtype=dtype)
    bias = torch.randn(TOKENS, generator=draw, dtype=dtype)
    # Some rows predict several tokens and some none.
    rows = torch.randint(ROWS, (50,), generator=draw)
    targets = torch.randint(TOKENS, (50,), generator=draw)
    pull = torch.randn(50, generator=draw) / 50, torch.randn(ROWS, generator=draw) / ROWS
    return [one.requires_grad_() for one in (hidden, weight, bias)], rows, targets, pull


def _plain(hidden, weight, bias, rows, targets, temperature):
    logs = ((hidden @ weight.T + bias) / temperature).log_softmax(-1)
    return logs[rows, targets], -(logs.exp() * logs).sum(-1)


@pytest.mark.parametrize("tile", [64, 700, 9_000, 1 << 21])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_are_those_of_the_plain_form(tile, temperature):
    leaves, rows, targets, (pull, push) = _inputs()
    values, entropy = scored_logprobs(
        *leaves, rows, targets, temperature=temperature, want_entropy=True, tile=tile
    )
    ours = torch.autograd.grad((values * pull).sum() + (entropy * push).sum(), leaves)
    exact = [one.detach().double().requires_grad_() for one in leaves]
    expected, spread = _plain(*exact, rows, targets, temperature)
    theirs = torch.autograd.grad((expected * pull).sum() + (spread * push).sum(), exact)
    torch.testing.assert_close(values.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), spread, atol=1e-5, rtol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.double(), other, atol=1e-5, rtol=1e-5)


def test_without_entropy_the_gradient_is_the_same():
    leaves, rows, targets, (pull, _) = _inputs(1)
    values, entropy = scored_logprobs(*leaves, rows, targets, temperature=0.8, tile=900)
    assert entropy is None
    ours = torch.autograd.grad((values * pull).sum(), leaves)
    theirs = torch.autograd.grad((_plain(*leaves, rows, targets, 0.8)[0] * pull).sum(), leaves)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_frozen_weights_get_no_gradient():
    (hidden, weight, bias), rows, targets, _ = _inputs(2)
    frozen = weight.detach(), bias.detach()
    values, _ = scored_logprobs(hidden, *frozen, rows, targets, temperature=1.0)
    values.sum().backward()
    assert hidden.grad is not None


def test_logits_that_overflow_exp_stay_finite():
    (hidden, weight, bias), rows, targets, _ = _inputs(3)
    values, entropy = scored_logprobs(
        hidden * 1e3, weight, bias, rows, targets, temperature=1.0, want_entropy=True, tile=500
    )
    assert values.isfinite().all()
    assert entropy.isfinite().all()


def test_no_tensor_is_as_large_as_the_logits():
    leaves, rows, targets, (pull, _) = _inputs(4)
    for tile in (2_000, 1 << 21):
        with Largest() as seen:
            values, _ = scored_logprobs(*leaves, rows, targets, temperature=0.9, tile=tile)
            (values * pull).sum().backward()
        # The weights' own gradient is the largest thing; one tile would be all logits.
        if tile == 2_000:
            assert seen.elements == TOKENS * WIDTH
        else:
            assert seen.elements == ROWS * TOKENS


def test_a_training_pass_never_holds_rows_by_vocabulary(policy, monkeypatch):
    monkeypatch.setitem(scored_logprobs.__kwdefaults__, "tile", 4096)
    group = TokenGroup((1, 2, 3), tuple(tuple(range(s, s + 60)) for s in (5, 70, 140)))
    (pack,) = pack_groups([group], 1000)
    vocabulary = policy.codec.vocabulary
    assert is_plain(policy.model)
    with Largest() as seen:
        pack_logprobs(policy, pack, 1.0).sum().backward()
    assert seen.elements < len(pack.scored) * vocabulary
    with Largest() as plain:  # the same rows with logits, to see that the count counts
        policy.model(torch.from_numpy(pack.tokens)[None])
    assert plain.elements >= len(pack.scored) * vocabulary


def test_entropy_is_that_of_the_predicting_row(policy):
    group = TokenGroup((1, 2, 3), ((5, 6), (5, 7), (9,)))
    (pack,) = pack_groups([group], 100)
    values, entropy = pack_logprobs(policy, pack, 0.7, want_entropy=True)
    for span in pack.spans:
        tokens = (1, 2, 3, *group.completions[span.completion])
        logits = policy.model(torch.tensor([tokens])).logits[0, 2:-1] / 0.7
        expected = torch.distributions.Categorical(logits=logits).entropy()
        torch.testing.assert_close(entropy[span.rows], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(values, pack_logprobs(policy, pack, 0.7))


def test_a_head_that_scales_its_logits_is_not_tiled(policy):
    group = TokenGroup((1, 2), ((5, 6), (7,)))
    (pack,) = pack_groups([group], 100)
    expected = pack_logprobs(policy, pack, 1.0)
    policy.model.config.logit_scale = 2.0  # this model ignores it; another one would not
    assert not is_plain(policy.model)
    torch.testing.assert_close(pack_logprobs(policy, pack, 1.0), expected, atol=1e-5, rtol=1e-5)
