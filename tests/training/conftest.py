"""A tiny random Llama with a byte tokenizer: every model test runs without a download."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_policy import tiny_policy

from marketplace.gym.policy import Policy

import torch  # isort: skip  (after the policy, which sets how its threads wait)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Tiny matrices: more threads only wait for each other.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_policy() -> Callable[[int], Policy]:
    """A fresh policy from a seed. Equal seeds give equal weights."""
    return tiny_policy


@pytest.fixture
def policy(make_policy: Callable[[int], Policy]) -> Policy:
    """A policy of its own for each test."""
    return make_policy(0)


@pytest.fixture
def unpacked() -> Callable[..., list[float]]:
    """The reference: log-probabilities of a completion in one plain sequence, with gradient."""

    def logprobs(
        policy: Policy, prompt: tuple[int, ...], completion: tuple[int, ...], temperature: float
    ) -> torch.Tensor:
        inputs = torch.tensor([prompt + completion])
        logits = policy.model(input_ids=inputs, use_cache=False).logits[0] / temperature
        rows = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        return rows.gather(1, torch.tensor(completion)[:, None])[:, 0]

    return logprobs
