"""A GGUF holds the very model: read back by transformers, its logits are the checkpoint's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from marketplace.gym.policy import Policy
from marketplace.protocol.errors import CheckpointError, ConfigError
from trainer.gguf_export import largest_difference, write_gguf

TEXT = "12 + 7 = 19, 30 - 4 = "


@pytest.fixture
def word_policy(policy) -> Policy:
    """The tiny Llama with a tokenizer that cuts words as GPT-2 does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<end>": 0} | {symbol: place for place, symbol in enumerate(alphabet, start=1)}
    vocabulary["12"] = len(vocabulary)
    inner = Tokenizer(models.BPE(vocabulary, [("1", "2")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")
    torch.manual_seed(1)
    config = LlamaConfig(
        # More than the tokenizer has: models are padded to round numbers.
        vocab_size=len(vocabulary) + 3,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        initializer_range=0.3,
        eos_token_id=0,
        bos_token_id=None,
        attn_implementation="sdpa",
    )
    return Policy.of(LlamaForCausalLM(config), tokenizer)


@pytest.mark.parametrize(("kind", "most"), [("f32", 1e-4), ("f16", 0.05), ("q8_0", 3.0)])
def test_logits_after_a_round_trip(word_policy, tmp_path, kind, most):
    file = tmp_path / "model.gguf"
    write_gguf(word_policy, file, kind=kind, name="tiny")
    found = largest_difference(word_policy, file, TEXT)
    assert found < most
    assert kind == "f32" or found > 0
    assert [one.name for one in tmp_path.iterdir()] == ["model.gguf"]


def test_another_models_file_is_told_apart(word_policy, tmp_path):
    write_gguf(word_policy, tmp_path / "model.gguf", kind="f32", name="tiny")
    with torch.no_grad():
        word_policy.model.model.layers[0].self_attn.q_proj.weight[0, 0] += 5.0
    assert largest_difference(word_policy, tmp_path / "model.gguf", TEXT) > 0.01


def test_what_it_does_not_cover_is_refused(policy, word_policy, tmp_path):
    file = tmp_path / "model.gguf"
    with pytest.raises(CheckpointError, match="cuts text by"):
        write_gguf(policy, file, kind="f32", name="bytes without words")
    with pytest.raises(ConfigError, match="'q2_k'"):
        write_gguf(word_policy, file, kind="q2_k", name="tiny")
    word_policy.model.config.model_type = "mamba"
    with pytest.raises(CheckpointError, match="'mamba'"):
        write_gguf(replace(word_policy), file, kind="f32", name="other")
    assert not list(tmp_path.iterdir())
