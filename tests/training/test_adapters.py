"""An adapter and its base make one policy, with the same bits for all; anything else is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from marketplace.gym.adapters import AdapterShape, load_adapter, read_shape
from marketplace.gym.modules import base_of, is_adapter
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import Policy, completion_logprobs
from marketplace.gym.spec import SamplingSpec
from marketplace.protocol.errors import CheckpointError, ConfigError
from trainer.checkpoint import TrainingRecord, read_record, save_checkpoint
from trainer.experts import LoraSettings, Start, adapt, save_adapter, write_adapter

BASE = "b" + "a" * 58
RECORD = TrainingRecord(parent=1, dataset={}, settings={}, metrics={})
LORA = LoraSettings(rank=4, alpha=8.0, targets=("q_proj", "down_proj"))


@pytest.fixture(scope="module")
def base(make_policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "base"
    return save_checkpoint(make_policy(0), folder, sampling=SamplingSpec(), record=RECORD)


def _moved(base, seed=0):
    """An adapter that is not zero, under training."""
    policy = adapt(Start(base, BASE), LORA)
    draw = torch.Generator().manual_seed(seed)
    for name, weights in policy.model.named_parameters():
        if weights.requires_grad and "lora_B" in name:
            weights.data = 0.1 * torch.randn(weights.shape, generator=draw)
    return policy


def _save(policy, folder):
    return save_adapter(policy, folder, sampling=SamplingSpec(), record=RECORD, base=BASE)


@pytest.fixture
def saved(base, tmp_path):
    return _save(_moved(base), tmp_path / "adapter")


def _edit(folder, **change):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def _reweigh(folder, change):
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def test_only_the_adapter_is_trained(base):
    policy = _moved(base)
    names = [name for name, one in policy.model.named_parameters() if one.requires_grad]
    assert len(names) == 2 * 2 * 2
    assert all("lora_" in name for name in names)
    # Before its first step an expert is its base.
    fresh, plain = adapt(Start(base, BASE), LORA), Policy.load(base)
    group = TokenGroup(plain.codec.encode("1 + 1 = "), (plain.codec.encode("2\n"),))
    assert completion_logprobs(fresh, [group], 1.0) == completion_logprobs(plain, [group], 1.0)


def test_the_same_settings_give_the_same_adapter(base):
    first, second = adapt(Start(base, BASE), LORA), adapt(Start(base, BASE), LORA)
    other = adapt(Start(base, BASE), LORA.model_copy(update={"seed": 1}))
    rows = [dict(policy.model.named_parameters()) for policy in (first, second, other)]
    name = next(name for name in rows[0] if "lora_A" in name)
    assert torch.equal(rows[0][name], rows[1][name])
    assert not torch.equal(rows[0][name], rows[2][name])


def test_the_merged_policy_is_the_trained_one(base, saved):
    trained, loaded = _moved(base), load_adapter(saved, base)
    prompt = loaded.codec.encode("1 + 1 = ")
    group = TokenGroup(prompt, (loaded.codec.encode("2\n"), loaded.codec.encode("37\n")))
    (ours,), (theirs,) = (completion_logprobs(one, [group], 1.0) for one in (loaded, trained))
    for mine, yours in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(yours, abs=1e-4)
    (before,) = completion_logprobs(Policy.load(base), [group], 1.0)
    assert before[0] != pytest.approx(ours[0], abs=1e-2)
    # PEFT's own merge differs by rounding only.
    merged = trained.model.merge_and_unload().state_dict()
    for name, weights in loaded.model.state_dict().items():
        assert torch.allclose(weights, merged[name], atol=1e-6)


def test_the_merge_is_exact_whatever_the_threads(base, saved):
    shape = read_shape(saved)
    pairs = load_file(saved / "adapter_model.safetensors")
    name = "model.layers.1.mlp.down_proj"
    first = pairs[f"base_model.model.{name}.lora_A.weight"].double()
    second = pairs[f"base_model.model.{name}.lora_B.weight"].double()
    start = Policy.load(base).model.get_submodule(name).weight
    # One number by hand, in Python's own doubles, in the stated order.
    update = 0.0
    for place in range(shape.rank):
        update += second[3, place].item() * first[place, 5].item()
    wanted = torch.tensor(start[3, 5].item() + update * (shape.alpha / shape.rank)).float()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(load_adapter(saved, base).model.get_submodule(name).weight)
    torch.set_num_threads(1)
    assert found[0][3, 5].item() == wanted.item()
    assert torch.equal(found[0], found[1])


def test_what_a_folder_holds(base, saved, tmp_path):
    assert sorted(one.name for one in saved.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "base.json", "sampling.json",
        "training.json",
    ]  # fmt: skip
    assert (is_adapter(saved), is_adapter(base)) == (True, False)
    assert base_of(saved) == BASE
    assert read_shape(saved) == AdapterShape(4, 8.0, ("down_proj", "q_proj"))
    assert read_record(saved)["parent"] == 1
    for file in saved.glob("*.json"):
        assert str(tmp_path.parent) not in file.read_text()
    again = _save(_moved(base), tmp_path / "again")
    for file in saved.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        _save(_moved(base), saved)


def test_peft_loads_it_too(base, saved):
    from peft import PeftModel

    plain = Policy.load(base)
    theirs = PeftModel.from_pretrained(plain.model, saved).merge_and_unload().state_dict()
    ours = load_adapter(saved, base).model.state_dict()
    assert all(torch.allclose(one, ours[name], atol=1e-6) for name, one in theirs.items())


def test_the_next_turn_goes_on_from_the_last(base, saved):
    start = Start(base, BASE, saved)
    wider = LoraSettings(rank=16, targets=("v_proj",))
    policy = adapt(start, wider)  # the adapter keeps its shape
    before = _moved(base)
    rows = dict(policy.model.named_parameters())
    assert all(torch.equal(rows[name], one) for name, one in before.model.named_parameters())
    assert policy.model.peft_config["default"].r == 4


def test_an_adapter_is_no_whole_model(saved, base, tmp_path):
    with pytest.raises(CheckpointError, match="holds an adapter"):
        Policy.load(saved)
    # Nor is a whole model with an adapter slipped in, which transformers would apply unasked.
    mixed = save_checkpoint(
        Policy.load(base), tmp_path / "mixed", sampling=SamplingSpec(), record=RECORD
    )
    (mixed / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds an adapter"):
        Policy.load(mixed)
    with pytest.raises(CheckpointError, match="can't be read"):
        load_adapter(base, base)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"r": 0}, "r is 0"),
        ({"r": 257}, "r is 257"),
        ({"r": 10**9}, "r is 1000000000"),
        ({"r": "4"}, "r is '4'"),
        ({"r": 8}, r"lora_A.weight.* is F32 \[4, .*\], and the base needs \[8"),
        ({"lora_alpha": -1}, "lora_alpha is -1"),
        ({"lora_alpha": 1e300}, "lora_alpha is 1e"),
        ({"peft_type": "VERA"}, "peft_type is 'VERA'"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"target_modules": ".*"}, r"target_modules is '\.\*'"),
        ({"target_modules": ["q_proj"]}, "has base_model.model.model.layers.0.mlp.down_proj"),
        ({"target_modules": ["q_proj", "down_proj", "v_proj"]}, r"lacks .*v_proj"),
        ({"target_modules": ["nowhere"]}, "has none of the layers nowhere"),
        ({"target_modules": ["q_proj", "down_proj", "lm_head"]}, "lm_head is no linear layer"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens is no linear layer"),
        ({"use_dora": True}, "sets use_dora"),
        ({"use_rslora": True}, "sets use_rslora"),
        ({"auto_mapping": {"base_model_class": "evil"}}, "sets auto_mapping"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"rank_pattern": {"q_proj": 9}}, "sets rank_pattern"),
        ({"layer_replication": [[0, 9]]}, "sets layer_replication"),
        ({"init_lora_weights": "pissa"}, "sets init_lora_weights to 'pissa'"),
        ({"init_lora_weights": "pissa_niter_4"}, "which changes the base"),
        ({"init_lora_weights": {"a": 1}}, "which changes the base"),
        ({"revision": [[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}, "nests too deeply"),
        ({"revision": "x" * 70_000}, "has 70,[0-9]+ bytes"),
    ],
)
def test_configurations_that_are_refused_by_name(base, saved, change, named):
    _edit(saved, **change)
    with pytest.raises(CheckpointError, match=named):
        load_adapter(saved, base)


def test_weights_that_are_refused_by_name(base, saved, make_policy, tmp_path):
    path = saved / "adapter_model.safetensors"
    good = path.read_bytes()
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"

    def refused(change, match):
        _reweigh(saved, change)
        with pytest.raises(CheckpointError, match=match):
            load_adapter(saved, base)
        path.write_bytes(good)

    refused(lambda rows: rows.pop(name), f"lacks {name}")
    refused(lambda rows: rows.update(extra=torch.zeros(1)), "has extra")
    refused(lambda rows: rows[name].fill_(float("nan")), f"{name} .*not finite")
    refused(lambda rows: rows.update({name: rows[name].double()}), "is F64")
    refused(lambda rows: rows.update({name: rows[name][:3].clone()}), r"\[3, 4\]")
    refused(lambda rows: [one.fill_(1e30) for one in rows.values()], "not finite with the adapter")
    path.write_bytes(good[:-1])
    with pytest.raises(CheckpointError, match="can't be read"):
        load_adapter(saved, base)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        load_adapter(saved, base)
    policy = _moved(base)
    next(one for one in policy.model.parameters() if one.requires_grad).data.fill_(float("inf"))
    with pytest.raises(CheckpointError, match="not finite"):
        _save(policy, tmp_path / "infinite")
    assert not (tmp_path / "infinite").exists()


@pytest.mark.parametrize(
    "text", ["", "{}", '{"v":1,"base":"Qm"}', json.dumps({"v": 2, "base": BASE})]
)
def test_a_module_that_names_no_base(saved, text):
    (saved / "base.json").write_text(text)
    with pytest.raises(CheckpointError, match="names no base"):
        base_of(saved)


def test_layers_that_no_model_has(base):
    with pytest.raises(ConfigError, match="no adapter in nowhere"):
        adapt(Start(base, BASE), LoraSettings(targets=("nowhere",)))


def test_half_precision_adapters_are_merged_in_full(base, saved, tmp_path):
    tensors = load_file(saved / "adapter_model.safetensors")
    small = {name: one.to(torch.bfloat16) for name, one in tensors.items()}
    options = {"sampling": None, "record": RECORD, "base": BASE}
    half = write_adapter(tmp_path / "half", read_shape(saved), small, **options)
    full = {name: one.float() for name, one in small.items()}
    whole = write_adapter(tmp_path / "whole", read_shape(saved), full, **options)
    ours, theirs = load_adapter(half, base), load_adapter(whole, base)
    rows = theirs.model.state_dict()
    assert all(torch.equal(one, rows[name]) for name, one in ours.model.state_dict().items())
