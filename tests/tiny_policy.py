"""A tiny random Llama with a byte tokenizer: every model test runs without a download."""

from __future__ import annotations

from functools import cache

from marketplace.gym.policy import Policy

import torch  # isort: skip  (after the policy, which sets how its threads wait)


def tiny_policy(seed: int, *, context: int = 128, width: int = 32) -> Policy:
    """A fresh policy. Equal seeds give equal weights. width: of its layers, over four heads."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = _byte_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.3,
        eos_token_id=0,
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    return Policy.of(LlamaForCausalLM(config), wrapped)


@cache
def _byte_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<end>": 0} | {symbol: index for index, symbol in enumerate(alphabet, start=1)}
    # One token of two characters, so that a stop string can hide inside a token.
    vocabulary["7Ċ"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, [("7", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
