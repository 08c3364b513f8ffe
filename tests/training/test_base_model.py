"""The base model: made once, in one step, and the real thing samples what it scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from marketplace.gym import base_model
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import Policy, completion_logprobs
from marketplace.miner.sampler import SamplingRules, TransformersSampler
from marketplace.protocol.errors import ConfigError

REAL = Path(__file__).parents[2] / "build" / "models" / "smollm2-135m"


def test_a_complete_folder_is_left_as_it_is(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"mine")
    assert base_model.prepare_base_model(tmp_path) == tmp_path
    assert (tmp_path / "model.safetensors").read_bytes() == b"mine"


def test_a_name_taken_by_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds no model\.safetensors"):
        base_model.prepare_base_model(tmp_path)
    assert base_model.main([str(tmp_path)]) == 2


def test_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match="no_such_package is not installed"):
        base_model.prepare_base_model(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(source, made):
        made.mkdir()
        (made / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(base_model, "_package_folder", lambda: tmp_path)
    monkeypatch.setattr(base_model, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        base_model.prepare_base_model(tmp_path / "models" / "base")
    assert list((tmp_path / "models").iterdir()) == []


def test_another_process_may_be_faster(tmp_path, monkeypatch):
    def overtaken(source, made):
        for folder in (made, tmp_path / "base"):
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(b"the same")

    monkeypatch.setattr(base_model, "_package_folder", lambda: tmp_path)
    monkeypatch.setattr(base_model, "_convert", overtaken)
    assert base_model.prepare_base_model(tmp_path / "base") == tmp_path / "base"
    assert [one.name for one in tmp_path.iterdir()] == ["base"]


@pytest.mark.model
@pytest.mark.skipif(not REAL.is_dir(), reason="make setup has not made the base model yet")
def test_real_model_scores_what_it_sampled():
    policy = Policy.load(REAL)
    prompts = ["12 + 5 = 17\n34 - 50 = ", "12 + 5 = 17\n7 + 2 = "]
    rules = SamplingRules(group_size=4, temperature=1.0, max_tokens=5, stop=("\n",))
    groups = list(TransformersSampler(policy, "smollm2").sample(prompts, rules, seed=1))
    tokens = [
        TokenGroup(policy.codec.encode(prompt), tuple(one.tokens for one in group))
        for prompt, group in zip(prompts, groups, strict=True)
    ]
    scored = completion_logprobs(policy, tokens, 1.0)
    for group, rows in zip(groups, scored, strict=True):
        for completion, values in zip(group, rows, strict=True):
            assert completion.logprobs == pytest.approx(values, abs=1e-3)
