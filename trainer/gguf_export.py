"""Weights as GGUF, for llama.cpp and what is built on it: Llama models with a byte-level BPE.

Written with the `gguf` package of the llama.cpp project (its writer, tensor names and
quantizers). Its converter script is not on PyPI but for an unofficial copy that would put an older
`gguf` over this one, hence the few lines here; other architectures are refused by name.

Rows of the query and key projections are stored in llama.cpp's order, which rotates neighbours
where transformers rotates halves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from marketplace.gym.policy import Policy
from marketplace.protocol.errors import CheckpointError, ConfigError

import torch  # isort: skip  (after the policy, which sets how its threads wait)

KINDS: Final = ("f32", "f16", "bf16", "q8_0")
"""How matrices are stored; vectors are always f32."""

LIMITS: Final = {"f32": 0.01, "f16": 0.5, "bf16": 2.0, "q8_0": 5.0}
"""Differences of logits over which a file is another model than the checkpoint, by kind: well above
what tests allow right files (tests/training/test_gguf_export.py), below what another head makes."""

_SPLITS: Final[dict[str, dict[str, Any]]] = {
    "gpt-2": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
}
"""llama.cpp's names of the ways to cut text into words, and how a tokenizer.json says the same."""

_SMOLLM: Final = [{"type": "Digits", "individual_digits": True}, _SPLITS["gpt-2"]]


def write_gguf(policy: Policy, file: Path, *, kind: str, name: str) -> None:
    """Write the policy's weights, settings and tokenizer to one new file.

    Raises CheckpointError for a model or a tokenizer that this does not cover.
    """
    import gguf

    if kind not in KINDS:
        raise ConfigError(f"there is no GGUF type {kind!r}", fix=f"use one of {', '.join(KINDS)}")
    config: Any = policy.model.config
    _check_model(config)
    writer = gguf.GGUFWriter(None, "llama")
    writer.add_name(name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    # Not always the width over the heads, which is what a reader takes for them otherwise.
    writer.add_key_length(_head_size(config))
    writer.add_value_length(_head_size(config))
    writer.add_rope_dimension_count(_head_size(config))
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(_file_type(kind))
    _add_tokenizer(writer, policy)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    stored = gguf.GGMLQuantizationType[kind.upper()]
    head = policy.model.get_output_embeddings().weight
    for key, weights in policy.model.state_dict().items():
        # By the weights: a checkpoint may say that they are tied, and hold a head of its own.
        if key == "lm_head.weight" and head is policy.model.get_input_embeddings().weight:
            continue
        there = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if there is None:
            raise CheckpointError(
                f"weight {key} has no name in GGUF", fix="export to safetensors instead"
            )
        values = _in_their_order(key, weights.detach().float().cpu(), config)
        if values.ndim == 1:
            writer.add_tensor(there, values)
        else:
            try:
                data = gguf.quants.quantize(values, stored)
            except gguf.quants.QuantError as error:
                raise CheckpointError(
                    f"weight {key} can't be stored as {kind}: {error}",
                    fix="use --gguf-type f16, or another type",
                ) from None
            writer.add_tensor(there, data, raw_dtype=stored)
    part = file.with_name(f".{file.name}.part")
    _write(writer, part)
    part.replace(file)


def largest_difference(policy: Policy, file: Path, text: str) -> float:
    """Between the logits of the policy and of the file, read back by transformers, over a text.

    Raises CheckpointError if the file can't be read back, or cuts the text into other tokens.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        again: Any = AutoModelForCausalLM.from_pretrained(
            file.parent.absolute(), gguf_file=file.name, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(
            file.parent.absolute(), gguf_file=file.name, local_files_only=True
        )
    except Exception as error:  # malformed content surfaces as almost anything
        raise CheckpointError(f"{str(file)!r} can't be read back: {error}") from error
    tokens = policy.codec.encode(text)
    if tuple(tokenizer(text).input_ids) != tokens:
        raise CheckpointError(f"{str(file)!r} cuts text into other tokens than the checkpoint")
    inputs = torch.tensor([tokens])
    with torch.inference_mode():
        ours = policy.model(input_ids=inputs.to(policy.device)).logits.float().cpu()
        theirs = again(input_ids=inputs).logits.float()
    return float((ours - theirs).abs().max())


def _check_model(config: Any) -> None:
    rope = config.rope_parameters.get("rope_type", "default")
    wrong = {
        "architecture": config.model_type if config.model_type != "llama" else None,
        "rope type": rope if rope != "default" else None,
        "biases": True if config.attention_bias or config.mlp_bias else None,
        "activation": config.hidden_act if config.hidden_act != "silu" else None,
    }
    for what, value in wrong.items():
        if value is not None:
            raise CheckpointError(
                f"the model's {what} is {value!r}, which this writer of GGUF does not cover",
                fix="export to safetensors, and use llama.cpp's convert_hf_to_gguf.py",
            )


def _add_tokenizer(writer: Any, policy: Policy) -> None:
    import gguf

    record = json.loads(policy.tokenizer.backend_tokenizer.to_str())  # type: ignore[attr-defined]
    model = record["model"]
    if model["type"] != "BPE" or record["normalizer"] is not None:
        raise CheckpointError(
            f"the tokenizer is {model['type']} with normalizer {record['normalizer']}, not a "
            "byte-level BPE",
            fix="export to safetensors, and use llama.cpp's convert_hf_to_gguf.py",
        )
    special = {one["id"]: one["special"] for one in record["added_tokens"]}
    by_id = {number: text for text, number in policy.tokenizer.get_vocab().items()}
    tokens, kinds = [], []
    for number in range(policy.codec.vocabulary):
        tokens.append(by_id.get(number, f"[PAD{number}]"))
        if number not in by_id:
            kinds.append(gguf.TokenType.UNUSED)
        elif number in special:
            control = special[number]
            kinds.append(gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED)
        else:
            kinds.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split_name(record["pre_tokenizer"]))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    )
    tokenizer: Any = policy.tokenizer
    for add, value in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if value is not None:
            add(value)
    start = policy.codec.encode("a")[:1]
    writer.add_add_bos_token(start == (tokenizer.bos_token_id,))
    if template := tokenizer.chat_template:
        writer.add_chat_template(template)


def _split_name(rule: Any) -> str:
    if rule and rule.get("type") == "Sequence":
        parts = [
            {k: v for k, v in one.items() if k != "trim_offsets"} for one in rule["pretokenizers"]
        ]
        if parts == _SMOLLM:
            return "smollm"
    elif rule and {k: v for k, v in rule.items() if k != "trim_offsets"} == _SPLITS["gpt-2"]:
        return "gpt-2"
    raise CheckpointError(
        f"the tokenizer cuts text by {json.dumps(rule)[:200]}, for which GGUF has no name here",
        fix="export to safetensors, and use llama.cpp's convert_hf_to_gguf.py",
    )


def _in_their_order(key: str, weights: torch.Tensor, config: Any) -> np.ndarray[Any, Any]:
    heads = {
        "q_proj.weight": config.num_attention_heads,
        "k_proj.weight": config.num_key_value_heads,
    }
    for suffix, count in heads.items():
        if key.endswith(suffix):
            rows, width = weights.shape
            halves = weights.reshape(count, 2, rows // count // 2, width)
            weights = halves.transpose(1, 2).reshape(rows, width)
    return np.ascontiguousarray(weights.numpy())


def _file_type(kind: str) -> int:
    import gguf

    names = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
    return int(gguf.LlamaFileType[names[kind]])


def _head_size(config: Any) -> int:
    return int(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )


def _write(writer: Any, part: Path) -> None:
    writer.path = part
    writer.write_header_to_file(path=part)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file(progress=False)
    writer.close()
