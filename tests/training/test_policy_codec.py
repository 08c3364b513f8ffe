"""Where completions end, what text they give, and what may be loaded as a policy."""

from __future__ import annotations

import json

import pytest

from marketplace.gym.policy import Codec, Policy
from marketplace.protocol.errors import CheckpointError, TracemarketError


def test_completion_ends_with_the_token_that_completes_a_stop_string(policy):
    codec = policy.codec
    tokens = codec.encode("17\n")
    assert len(tokens) == 2  # "7\n" is one token
    assert not codec.ends(tokens[:1], ("\n",))
    assert codec.ends(tokens, ("\n",))
    assert codec.completion(tokens, ("\n",)) == "17"


def test_stop_string_over_several_tokens(policy):
    tokens = policy.codec.encode("ab##c")
    assert [policy.codec.ends(tokens[:end], ("##",)) for end in range(1, 6)] == [
        False, False, False, True, False,
    ]  # fmt: skip
    assert policy.codec.completion(tokens, ("##",)) == "ab"


def test_special_tokens_inside_a_stop_string_do_not_hide_it(policy):
    silent, mark = 0, policy.codec.encode("#")[0]
    codec = Codec(policy.tokenizer, frozenset(), policy.codec.vocabulary)  # 0 ends nothing here
    tokens = (*codec.encode("ab"), mark, *(silent,) * 5, mark)
    assert codec.completion(tokens, ("##",)) == "ab"
    assert codec.finish(tokens, ("##",), 20) == "stop"


def test_end_token_ends_and_gives_no_text(policy):
    tokens = (*policy.codec.encode("ab"), 0)
    assert policy.codec.ends(tokens, ())
    assert policy.codec.completion(tokens, ()) == "ab"


@pytest.mark.parametrize(
    ("text", "max_tokens", "finish"),
    [
        ("12\n", 5, "stop"),
        ("12\n", 3, "stop"),
        ("12", 2, "length"),
        ("12", 5, None),  # breaks off before its end
        ("12\n3", 4, None),  # goes on after its end
        ("12\n", 2, None),  # longer than allowed
        ("", 2, None),
    ],
)
def test_finish_of_a_whole_completion(policy, text, max_tokens, finish):
    assert policy.codec.finish(policy.codec.encode(text), ("\n",), max_tokens) == finish


def test_text_becomes_a_closed_completion(policy):
    codec = policy.codec
    for stop in (("\n",), ()):
        tokens = codec.encode_completion("41", stop)
        assert codec.ends(tokens, stop)
        assert codec.completion(tokens, stop) == "41"


def test_the_name_of_a_special_token_is_text(policy):
    """A seller of opaque texts would else teach the model to go on after its end."""
    for stop in (("\n",), ()):
        tokens = policy.codec.encode_completion("4<end>5", stop)
        assert policy.codec.completion(tokens, stop) == "4<end>5"
        assert policy.codec.finish(tokens, stop, 20) == "stop"
    assert policy.codec.encode("<end>") == (0,)  # prompts are the environment's


def test_folder_round_trip(policy, tmp_path):
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    loaded = Policy.load(tmp_path)
    ours, theirs = policy.model.state_dict(), loaded.model.state_dict()
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)
    assert loaded.codec.encode("7\n") == policy.codec.encode("7\n")
    assert loaded.codec.stop_ids == {0}
    assert not loaded.model.training


def test_folders_that_are_refused(policy, tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        Policy.load(tmp_path / "missing")
    policy.tokenizer.save_pretrained(tmp_path)
    policy.model.config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        Policy.load(tmp_path)
    policy.model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(CheckpointError, match="auto_map"):
        Policy.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        Policy.load(tmp_path)


def test_cut_weights_are_refused(policy, tmp_path):
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="can't be loaded") as caught:
        Policy.load(tmp_path)
    assert isinstance(caught.value, TracemarketError)


def test_sliding_window_model_is_refused(policy):
    policy.model.config.sliding_window = 16
    with pytest.raises(CheckpointError, match="full attention"):
        Policy.of(policy.model, policy.tokenizer)


@pytest.mark.parametrize("rope", ["dynamic", "longrope"])
def test_positions_that_depend_on_the_length_are_refused(policy, rope):
    policy.model.config.rope_parameters = {"rope_type": rope, "rope_theta": 10000.0}
    with pytest.raises(CheckpointError, match=f"{rope} rotary positions"):
        Policy.of(policy.model, policy.tokenizer)


def test_missing_weights_are_refused_for_everybody_would_draw_others(policy, tmp_path):
    from safetensors.torch import load_file, save_file

    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights.*up_proj"):
        Policy.load(tmp_path)


def test_tokens_that_the_model_does_not_know_are_refused(policy, tmp_path):
    policy.tokenizer.add_tokens(["tell"])
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"token 258.*vocabulary of 258"):
        Policy.load(tmp_path)
