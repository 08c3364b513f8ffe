"""Whole models that a stranger registered: refused by CheckpointError, before they do harm."""

from __future__ import annotations

import json

import pytest

from marketplace.gym.policy import Policy
from marketplace.protocol.errors import CheckpointError


@pytest.fixture
def folder(policy, tmp_path):
    path = tmp_path / "model"
    policy.model.save_pretrained(path)
    policy.tokenizer.save_pretrained(path)
    return path


def _set(path, **values):
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **values}))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_brackets_in_brackets(folder, name):
    (folder / name).write_text("[" * 200_000)
    with pytest.raises(CheckpointError):
        Policy.load(folder)


def test_end_tokens_that_are_lists_of_lists(folder):
    _set(folder / "generation_config.json", eos_token_id=[[1]])
    with pytest.raises(CheckpointError, match="unhashable"):
        Policy.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quantization_config", {"quant_method": "fp8"}),
        ("_attn_implementation", "somebody/kernels"),
        ("transformers_weights", "other.safetensors"),
    ],
)
def test_what_brings_in_code_or_kernels(folder, key, value):
    _set(folder / "config.json", **{key: value})
    with pytest.raises(CheckpointError, match=key):
        Policy.load(folder)


def test_an_index_that_points_out_of_the_folder(policy, folder):
    (folder / "model.safetensors").rename(folder.parent / "theirs.safetensors")
    (folder / "a.safetensors").write_bytes(b"")
    names = [name for name, _ in policy.model.named_parameters()]
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../theirs.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"theirs\.safetensors.*no file of its folder"):
        Policy.load(folder)


@pytest.mark.parametrize(
    "sizes",
    [
        {"intermediate_size": 1_000_000_000},  # 192 GB
        {"vocab_size": 1_000_000_000},
        {"num_hidden_layers": 1_000_000},
    ],
)
def test_more_weights_than_the_files_hold(folder, sizes):
    _set(folder / "config.json", **sizes)
    with pytest.raises(CheckpointError, match=r"lacks weights|num_hidden_layers"):
        Policy.load(folder)


def test_a_context_of_no_length(folder):
    _set(folder / "config.json", max_position_embeddings=-3)
    with pytest.raises(CheckpointError, match="no length of a context"):
        Policy.load(folder)


def test_weights_that_are_not_finite(policy, folder):
    policy.model.model.norm.weight.data[3] = float("nan")
    policy.model.save_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"norm\.weight.*not finite"):
        Policy.load(folder)


def test_a_tokenizer_that_cuts_a_text_in_several_ways(folder):
    path = folder / "tokenizer.json"
    record = json.loads(path.read_text())
    record["model"]["dropout"] = 0.5
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"draws its tokens at random \(dropout is 0\.5\)"):
        Policy.load(folder)


def test_a_pattern_that_goes_astray_on_some_texts(folder):
    path = folder / "tokenizer.json"
    record = json.loads(path.read_text())
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    record["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{**split, "invert": False}, record["pre_tokenizer"]],
    }
    path.write_text(json.dumps(record))
    codec = Policy.load(folder).codec
    assert codec.encode("12")
    for encode in (codec.encode, lambda text: codec.encode_completion(text, ("\n",))):
        with pytest.raises(CheckpointError, match="can't cut this text"):
            encode("a" * 40 + "b")


def test_a_tokenizer_of_another_kind(policy):
    with pytest.raises(CheckpointError, match=r"none of the kind of tokenizer\.json"):
        Policy.of(policy.model, object())
