"""What the loss's gradient is: RLOO's, or importance sampling's, by exact enumeration."""

from __future__ import annotations

import itertools

import pytest
import torch

from trainer.advantages import leave_one_out
from trainer.loss import Rules, Tokens, refinery_loss

VOCABULARY = 3


def _table(seed: int, spread: float = 0.5) -> torch.Tensor:
    """[4, 3] logits: of the first token, and of the second after each first one."""
    draw = torch.Generator().manual_seed(seed)
    return spread * torch.randn(4, VOCABULARY, generator=draw, dtype=torch.float64)


def _logprobs(table: torch.Tensor, text: tuple[int, ...]) -> torch.Tensor:
    rows = [0, *(1 + token for token in text[:-1])]
    return table.log_softmax(-1)[rows, list(text)]


def _score(text: tuple[int, ...]) -> float:
    return float(sum(text) % 3 == 2) + 0.1 * text[0]


def _exact(current: torch.Tensor, texts) -> torch.Tensor:
    """The gradient of the expected score, over all texts."""
    expected = sum(_logprobs(current, text).sum().exp() * _score(text) for text in texts)
    (found,) = torch.autograd.grad(expected, current)
    return found


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("policies", [(1, 1), (1, 2), (3, 2)])
def test_with_gates_off_the_gradient_is_importance_sampled_reinforce(length, policies):
    """All texts, each with its chance under the behaviour policy: the mean of the loss's gradient
    is exactly that of the current policy's expected score, whatever was sampled from."""
    proximal_seed, behaviour_seed = policies
    current = _table(0).requires_grad_()
    proximal, behaviour = _table(proximal_seed), _table(behaviour_seed)
    texts = list(itertools.product(range(VOCABULARY), repeat=length))
    mean = torch.zeros_like(current)
    for text in texts:
        sampled = _logprobs(behaviour, text)
        result = refinery_loss(
            Tokens(
                current=_logprobs(current, text),
                proximal=_logprobs(proximal, text),
                behaviour=sampled,
                advantages=torch.full((length,), _score(text) - 0.4, dtype=torch.float64),
                traces=torch.zeros(length, dtype=torch.long),
            ),
            Rules.off(whole_trace=True),
        )
        (gradient,) = torch.autograd.grad(-result.terms.sum(), current)
        mean += sampled.sum().exp() * gradient
        assert not result.masked
    torch.testing.assert_close(mean, _exact(current, texts), atol=1e-12, rtol=0)


def test_token_ratios_alone_are_exact_for_one_token_and_not_for_two():
    """Why whole_trace exists, and why the default, which has far less variance, is biased."""
    gaps = []
    for length in (1, 2):
        current, behaviour = _table(0).requires_grad_(), _table(1)
        texts = list(itertools.product(range(VOCABULARY), repeat=length))
        mean = torch.zeros_like(current)
        for text in texts:
            sampled = _logprobs(behaviour, text)
            advantages = torch.full((length,), _score(text), dtype=torch.float64)
            traces = torch.zeros(length, dtype=torch.long)
            tokens = Tokens(_logprobs(current, text), sampled, None, advantages, traces)
            (gradient,) = torch.autograd.grad(
                -refinery_loss(tokens, Rules.off()).terms.sum(), current
            )
            mean += sampled.sum().exp() * gradient
        gaps.append(float((mean - _exact(current, texts)).abs().max()))
    assert gaps[0] < 1e-12
    assert gaps[1] > 1e-3


@pytest.mark.parametrize("rules", [Rules(), Rules(pull=0.3), Rules.off()])
def test_with_equal_policies_the_gradient_is_rloos(rules):
    texts = [(0, 1), (2, 2), (1, 0), (0, 0)]
    advantages = leave_one_out([_score(text) for text in texts])
    current = _table(5).requires_grad_()
    logprobs = torch.cat([_logprobs(current, text) for text in texts])
    constant = logprobs.detach()
    tokens = Tokens(
        current=logprobs,
        proximal=constant,
        behaviour=constant,
        advantages=torch.tensor(advantages, dtype=torch.float64).repeat_interleave(2),
        traces=torch.arange(4).repeat_interleave(2),
        strict=torch.tensor([True, False] * 4),
    )
    result = refinery_loss(tokens, rules)
    (found,) = torch.autograd.grad(result.terms.sum() / result.units, current, retain_graph=True)
    rloo = -sum(
        advantage * _logprobs(current, text).sum()
        for advantage, text in zip(advantages, texts, strict=True)
    )
    (expected,) = torch.autograd.grad(rloo / 8, current)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert result.ratio.tolist() == [1.0] * 8


def test_the_two_policy_form_is_the_three_policy_form_with_equal_policies():
    draw = torch.Generator().manual_seed(0)
    sampled = -torch.rand(12, generator=draw, dtype=torch.float64)
    current = (
        sampled + 0.3 * torch.randn(12, generator=draw, dtype=torch.float64)
    ).requires_grad_()
    advantages = torch.tensor([1.0, -0.5, -0.5], dtype=torch.float64).repeat_interleave(4)
    traces = torch.arange(3).repeat_interleave(4)
    two = refinery_loss(Tokens(current, sampled, None, advantages, traces), Rules())
    three = refinery_loss(Tokens(current, sampled, sampled, advantages, traces), Rules())
    assert torch.equal(two.terms, three.terms)
    assert torch.equal(two.ratio, three.ratio)
    assert (two.units, two.masked) == (three.units, three.masked)
