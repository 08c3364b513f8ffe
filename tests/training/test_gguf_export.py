"""A GGUF holds the very model: read back by transformers, its logits are the checkpoint's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

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


def test_a_head_of_its_own_counts_whatever_the_config_says(word_policy, tmp_path):
    word_policy.model.config.tie_word_embeddings = True  # as in a file that holds both
    write_gguf(word_policy, tmp_path / "model.gguf", kind="f32", name="tiny")
    assert largest_difference(word_policy, tmp_path / "model.gguf", TEXT) < 1e-4


def test_heads_that_are_wider_than_their_share(word_policy, tmp_path):
    import gguf
    from transformers import LlamaForCausalLM

    config = word_policy.model.config
    config.head_dim = 32  # of 64 and 4 heads
    wide = Policy.of(LlamaForCausalLM(config), word_policy.tokenizer)
    write_gguf(wide, tmp_path / "model.gguf", kind="f32", name="tiny")
    assert largest_difference(wide, tmp_path / "model.gguf", TEXT) < 1e-4
    fields = gguf.GGUFReader(tmp_path / "model.gguf").fields
    for name in ("key_length", "value_length"):
        assert fields[f"llama.attention.{name}"].contents() == 32


def test_rows_that_q8_0_does_not_divide(word_policy, tmp_path):
    from transformers import LlamaForCausalLM

    word_policy.model.config.intermediate_size = 100
    odd = Policy.of(LlamaForCausalLM(word_policy.model.config), word_policy.tokenizer)
    with pytest.raises(CheckpointError, match=r"down_proj\.weight can't be stored as q8_0"):
        write_gguf(odd, tmp_path / "model.gguf", kind="q8_0", name="tiny")


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


def _their_names(layers: int) -> dict[str, str]:
    """Names in a GGUF of a Llama, by ours: written down here, not asked of the writer's table."""
    parts = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    names = {
        f"model.layers.{layer}.{ours}.weight": f"blk.{layer}.{theirs}.weight"
        for layer in range(layers)
        for ours, theirs in parts.items()
    }
    names |= {"model.embed_tokens.weight": "token_embd.weight"}
    return names | {"model.norm.weight": "output_norm.weight"}


@pytest.mark.model
def test_the_base_model_is_in_its_gguf_tensor_by_tensor(tmp_path):
    """SmolLM2-135M in f32: every tensor of the file has the very bits of the checkpoint's."""
    import gguf
    import numpy as np

    folder = Path("build/models/smollm2-135m")
    policy = Policy.load(folder)
    config = policy.model.config
    file = tmp_path / "model.gguf"
    write_gguf(policy, file, kind="f32", name="base")
    reader = gguf.GGUFReader(file)
    theirs = {one.name: one for one in reader.tensors}
    weights = load_file(folder / "model.safetensors")
    names = _their_names(config.num_hidden_layers)
    assert names.keys() == weights.keys()
    assert set(names.values()) == theirs.keys()
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for ours, there in names.items():
        found = np.asarray(theirs[there].data)
        count = next((n for part, n in heads.items() if part in ours), None)
        if count is not None:  # llama.cpp rotates neighbours, transformers halves
            rows, width = found.shape
            pairs = found.reshape(count, rows // count // 2, 2, width)
            found = pairs.swapaxes(1, 2).reshape(rows, width)
        assert np.array_equal(found, weights[ours].float().numpy()), ours
    fields = reader.fields
    assert fields["general.architecture"].contents() == "llama"
    assert fields["llama.block_count"].contents() == config.num_hidden_layers
    assert fields["llama.attention.head_count_kv"].contents() == config.num_key_value_heads
    # What this folder says of its tokenizer; it has no token of two digits.
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    words = fields["tokenizer.ggml.tokens"].contents()
    assert policy.tokenizer.convert_ids_to_tokens([0, 1, 300, 49_000]) == [
        words[place] for place in (0, 1, 300, 49_000)
    ]
    assert len(words) == config.vocab_size


@pytest.mark.model
@pytest.mark.deep
@pytest.mark.parametrize(("kind", "most"), [("f32", 1e-3), ("bf16", 0.5), ("q8_0", 1.0)])
def test_logits_of_the_base_model_after_a_round_trip(tmp_path, kind, most):
    policy = Policy.load("build/models/smollm2-135m")
    file = tmp_path / "model.gguf"
    write_gguf(policy, file, kind=kind, name="base")
    found = largest_difference(policy, file, TEXT)
    print(f"{kind}: {file.stat().st_size:,} bytes, logits differ by {found:.3g}")
    assert found < most
