"""Every admitted family of models: the packed pass gives what the model itself gives."""

from __future__ import annotations

import pytest
import torch

from marketplace.gym.admission import FAMILIES
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import Policy, completion_logprobs
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.errors import CheckpointError

TINY = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "ffn_dim": 64,
    "word_embed_proj_dim": 32,
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "initializer_range": 0.3,
    "init_std": 0.3,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": None,
    "sliding_window": None,
}


def _tiny(kind, tokenizer, **more):
    from transformers import AutoConfig, AutoModelForCausalLM

    known = type(AutoConfig.for_model(kind))
    names = set(known().to_dict()) | set(known.attribute_map)
    settings = {name: value for name, value in TINY.items() if name in names}
    if "layer_types" in names:
        settings["layer_types"] = ["full_attention"] * 2
    torch.manual_seed(1)
    config = known(**settings, **more)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return Policy.of(model.float(), tokenizer)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_packed_pass_is_that_of_the_model_token_by_token(policy, kind):
    made = _tiny(kind, policy.tokenizer)
    draw = torch.Generator().manual_seed(2)
    prompt, *completions = (
        tuple(torch.randint(1, 250, (length,), generator=draw).tolist())
        for length in (40, 60, 50, 60, 60, 60)
    )
    group = TokenGroup(prompt, tuple(completions))
    wide, narrow = (
        completion_logprobs(made, [group], 1.0, token_budget=budget)[0] for budget in (512, 150)
    )
    for completion, blocks, dense in zip(completions, wide, narrow, strict=True):
        for place in (0, len(completion) - 1):
            # Only what is before a token: a model that looks ahead can't do so here.
            before = torch.tensor([[*prompt, *completion[:place]]])
            with torch.inference_mode():
                logits = made.model(input_ids=before, use_cache=False).logits[0, -1]
            own = float(logits.log_softmax(-1)[completion[place]])
            assert blocks[place] == pytest.approx(own, abs=1e-4)
            assert dense[place] == pytest.approx(own, abs=1e-4)

    prompts = ["abc def ghi", "12 + 30 = ", "a"]  # of several lengths: padded by the sampler
    rules = SamplingRules(group_size=3, temperature=1.0, max_tokens=8)
    sampled = list(TransformersSampler(made, kind).sample(prompts, rules, seed=1))
    verified = completion_logprobs(
        made,
        [
            TokenGroup(made.codec.encode(text), tuple(one.tokens for one in some))
            for text, some in zip(prompts, sampled, strict=True)
        ],
        1.0,
    )
    for some, rows in zip(sampled, verified, strict=True):
        for one, row in zip(some, rows, strict=True):
            assert row == pytest.approx(one.logprobs, abs=1e-4)


@pytest.mark.parametrize("kind", ["bert", "electra", "bart", "gpt_oss", "mamba", "nemotron"])
def test_other_families_are_refused_by_name(policy, kind):
    policy.model.config.model_type = kind
    with pytest.raises(CheckpointError, match=f"model type '{kind}'"):
        Policy.of(policy.model, policy.tokenizer)


def test_models_set_to_look_ahead_are_refused(policy):
    with pytest.raises(CheckpointError, match="later tokens"):
        _tiny("llama", policy.tokenizer, is_causal=False)
    with pytest.raises(CheckpointError, match="later tokens"):
        _tiny("gemma", policy.tokenizer, use_bidirectional_attention=True)


def test_a_window_counts_whatever_the_config_says_of_its_use(policy):
    policy.model.config.sliding_window = 8
    policy.model.config.use_sliding_window = False  # which a Mistral does not ask
    with pytest.raises(CheckpointError, match="full attention"):
        Policy.of(policy.model, policy.tokenizer)
