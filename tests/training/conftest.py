"""A tiny random Llama with a byte tokenizer: every model test runs without a download."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from marketplace.gym.policy import Policy

import torch  # isort: skip  (after the policy, which sets how its threads wait)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    # Tiny matrices: more threads only wait for each other.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_policy() -> Callable[[int], Policy]:
    """A fresh policy from a seed. Equal seeds give equal weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<end>": 0} | {symbol: index for index, symbol in enumerate(alphabet, start=1)}
    # One token of two characters, so that a stop string can hide inside a token.
    vocabulary["7Ċ"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [("7", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()

    def make(seed: int) -> Policy:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            initializer_range=0.3,
            eos_token_id=0,
            bos_token_id=None,
            attn_implementation="sdpa",
        )
        wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
        return Policy.of(LlamaForCausalLM(config), wrapped)

    return make


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
