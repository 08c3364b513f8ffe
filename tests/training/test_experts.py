"""Experts trained apart, in processes that share only the base, then composed and compared."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parent))

from expert_work import BASE, RULES, prompts, score

from marketplace.gym.adapters import load_adapter, read_shape
from marketplace.gym.policy import Policy
from marketplace.gym.routing import Router, fit_router, read_router
from marketplace.gym.spec import SamplingSpec
from marketplace.miner.routed import RoutedSampler
from marketplace.miner.sampler import TransformersSampler
from marketplace.protocol.errors import CheckpointError, ConfigError, InvalidValue
from trainer.checkpoint import TrainingRecord, read_record, save_checkpoint
from trainer.compose import (
    Base,
    ComposeSettings,
    Expert,
    joined,
    merge_experts,
    route_experts,
)
from trainer.experts import LoraSettings, Start, adapt, save_adapter
from trainer.side_by_side import Exam, side_by_side

RECORD = TrainingRecord(parent=1, dataset={}, settings={}, metrics={})
WANTED = {2: "x", 3: "q"}
"""What each expert's environment rewards, by checkpoint id."""


@pytest.fixture(scope="module")
def world(make_policy, tmp_path_factory):
    """The base and two experts, trained at the same time in two processes."""
    folder = tmp_path_factory.mktemp("experts")
    base = save_checkpoint(make_policy(0), folder / "base", sampling=SamplingSpec(), record=RECORD)
    script = Path(__file__).with_name("expert_work.py")
    work = [
        subprocess.Popen([sys.executable, script, base, folder / str(number), wanted, str(number)])
        for number, wanted in WANTED.items()
    ]
    assert [process.wait(timeout=300) for process in work] == [0, 0]
    experts = [Expert(number, BASE, folder / str(number)) for number in WANTED]
    return Base(1, BASE, base), experts


def _merge(world, folder, method, **options):
    base, experts = world
    settings = ComposeSettings(method=method, **options)
    return merge_experts(base, experts, settings, folder, dataset={"root": "0x00"})


def _update(folder, base, layer="model.layers.0.mlp.up_proj"):
    """What a module adds to one layer."""
    whole = load_adapter(folder, base).model.get_submodule(layer).weight
    return whole - Policy.load(base).model.get_submodule(layer).weight


def test_a_mixture_is_the_weighted_sum_of_its_experts(world, tmp_path):
    base, experts = world
    folder = _merge(world, tmp_path / "mixture", "mixture", weights=(0.25, 0.75))
    first, second = (_update(one.folder, base.folder) for one in experts)
    wanted = 0.25 * first + 0.75 * second
    assert torch.allclose(_update(folder, base.folder), wanted, atol=1e-6)
    assert read_shape(folder).rank == 8
    record = read_record(folder)
    assert record["parent"] == 1
    assert record["settings"]["compose"]["weights"] == [0.25, 0.75]
    assert [one["checkpoint"] for one in record["settings"]["compose"]["experts"]] == [2, 3]
    assert not (folder / "sampling.json").exists()


def test_ties_keeps_the_signs_that_were_elected(world, tmp_path):
    base, experts = world
    folder = _merge(world, tmp_path / "ties", "ties", density=1.0)
    first, second = (_update(one.folder, base.folder) for one in experts)
    # All rank is kept only where the layer has no more: 32 rows would need 32.
    assert read_shape(folder).rank == 8
    total = first + second
    keep = [torch.where(torch.sign(one) == torch.sign(total), one, 0.0) for one in (first, second)]
    count = sum((one != 0).float() for one in keep).clamp_min(1)
    u, s, v = torch.linalg.svd((keep[0] + keep[1]) / count, full_matrices=False)
    wanted = u[:, :8] @ torch.diag(s[:8]) @ v[:8]
    assert torch.allclose(_update(folder, base.folder), wanted, atol=1e-4)


def test_what_dare_drops_follows_from_its_seed(world, tmp_path):
    weights = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(weights))  # others may draw in between
        folder = _merge(world, tmp_path / name, "dare", seed=seed)
        weights[name] = (folder / "adapter_model.safetensors").read_bytes()
    assert weights["a"] == weights["b"]
    assert weights["a"] != weights["c"]
    assert read_record(tmp_path / "c")["settings"]["compose"]["seed"] == 1


def test_side_by_side_the_router_is_as_good_as_each_expert_at_home(world, tmp_path):
    base, experts = world
    asked = {one.checkpoint: prompts(WANTED[one.checkpoint], 16) for one in experts}
    folder = route_experts(base, experts, asked, tmp_path / "router", dataset={})
    router = read_router(folder)
    plain = Policy.load(base.folder)
    policies = {one.checkpoint: load_adapter(one.folder, base.folder) for one in experts}
    # Prompts that no router was fitted on.
    for number, wanted in WANTED.items():
        for prompt in prompts(wanted, 8, first=50):
            assert router.choose(plain, prompt) == number

    @dataclass
    class Question:
        prompt: str

    exams = [
        Exam(
            f"wants {wanted}",
            [Question(prompt) for prompt in prompts(wanted, 8, first=50)],
            lambda _, text, wanted=wanted: score(wanted, text),
        )
        for wanted in WANTED.values()
    ]
    mixture = load_adapter(_merge(world, tmp_path / "mixture", "mixture"), base.folder)
    routed = RoutedSampler(router, plain, policies.__getitem__, "routed")
    samplers = {
        "base": TransformersSampler(plain, "base"),
        **{f"expert {n}": TransformersSampler(one, "expert") for n, one in policies.items()},
        "mixture": TransformersSampler(mixture, "mixture"),
        "router": routed,
    }

    def completing(sampler):
        return lambda _exam: (
            lambda asked: (
                [one.text for one in group] for group in sampler.sample(asked, RULES, seed=5)
            )
        )

    found = side_by_side([(n, completing(s)) for n, s in samplers.items()], exams)
    for number, exam in zip(WANTED, exams, strict=True):
        gain = found.gain(f"expert {number}", exam.name)
        assert gain.value > 0.3
        assert gain.sigmas > 3
        # The same policy, prompts and seed: the very same samples.
        assert (
            found.evaluations["router"][exam.name]
            == (found.evaluations[f"expert {number}"][exam.name])
        )
        other = next(n for n in WANTED if n != number)
        assert found.gain(f"expert {other}", exam.name).value < gain.value - 0.2
    table = found.markdown().splitlines()
    assert len(table) == 2 + 5
    assert table[-1].startswith("| router | ")
    assert found.plot().startswith(b"\x89PNG")
    assert found.plot() == found.plot()
    assert {row["model"] for row in found.record()} == set(samplers)
    with pytest.raises(InvalidValue, match="two models"):
        side_by_side([("base", completing(routed))] * 2, exams)
    with pytest.raises(InvalidValue, match="nothing"):
        side_by_side([], exams)


def test_each_expert_weighs_the_same_in_a_joint_dataset():
    root = b"\x01" * 32
    first = [(1, root, 5, 10**6)]
    second = [(1, root, 5, 10**6), (4, root, 2, 10**6), (2, root, 3, 10**6)]
    found = joined([first, second])
    assert [(batch, weight) for batch, _, _, weight in found] == [
        (1, 666_667), (2, 166_667), (4, 166_666),
    ]  # fmt: skip
    assert [units for _, _, units, _ in found] == [5, 3, 2]
    assert joined([]) == []
    assert joined([[(7, root, 0, 0)], []]) == [(7, root, 0, 0)]


def test_replay_asks_the_expert_too(world):
    base, experts = world
    plain = Policy.load(base.folder)
    policies = {one.checkpoint: load_adapter(one.folder, base.folder) for one in experts}
    router = fit_router(plain, {number: prompts(wanted, 4) for number, wanted in WANTED.items()})
    routed = RoutedSampler(router, plain, policies.__getitem__, "routed")
    asked = [prompts("q", 1, 60)[0], prompts("x", 1, 60)[0]]
    seeds = [bytes([place]) * 32 for place in range(2)]
    got = list(routed.replay(asked, RULES, seeds=seeds))
    for place, number in enumerate((3, 2)):
        assert routed.expert_of(asked[place]) == number
        own = TransformersSampler(policies[number], "own").replay(
            [asked[place]], RULES, seeds=[seeds[place]]
        )
        assert got[place] == next(own)
    with pytest.raises(InvalidValue, match="1 task seeds for 2 prompts"):
        routed.replay(asked, RULES, seeds=seeds[:1])


def test_experts_that_do_not_fit_are_named(world, tmp_path):
    base, experts = world

    def made(name, cid=BASE, **lora):
        policy = adapt(Start(base.folder, cid), LoraSettings(**lora))
        folder = save_adapter(
            policy, tmp_path / name, sampling=SamplingSpec(), record=RECORD, base=cid
        )
        return Expert(9, BASE, folder)

    def refused(error, match, members, method="linear", **options):
        settings = ComposeSettings(method=method, **options)
        with pytest.raises(error, match=match):
            merge_experts(base, members, settings, tmp_path / "out", dataset={})
        assert not (tmp_path / "out").exists()

    first = experts[0]
    other = "b" + "c" * 58
    refused(CheckpointError, f"trained on base {other}", [first, made("other", other, rank=4)])
    narrow = made("narrow", rank=4, targets=("q_proj",))
    refused(CheckpointError, "expert 9 changes q_proj", [first, narrow])
    wide = made("wide", rank=8)
    refused(ConfigError, "expert 9 has rank 8", [first, wide])
    huge = made("huge", rank=256)
    refused(ConfigError, "make 260, and 256 is the most", [first, huge], method="mixture")
    refused(CheckpointError, "1 is no adapter", [first, Expert(1, BASE, base.folder)])
    refused(ConfigError, "two or more", [first])
    refused(ConfigError, "two or more", [first, first])
    refused(ConfigError, "1 weights for 2", experts, weights=(1.0,))
    refused(ConfigError, "make 260", [first, huge], method="ties")
    down = ComposeSettings(method="ties", rank=8)
    lowered = merge_experts(base, [first, huge], down, tmp_path / "lowered", dataset={})
    assert read_shape(lowered).rank == 8
    with pytest.raises(InvalidValue, match="a router needs"):
        fit_router(Policy.load(base.folder), {1: ["a"], 2: []})


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"v":1,"experts":[2]}', '{"v":1,"experts":[2,3,4]}', '{"v":1,"experts":[0,1]}'],
)
def test_routers_that_are_none(world, tmp_path, text):
    base, experts = world
    asked = {one.checkpoint: prompts(WANTED[one.checkpoint], 2) for one in experts}
    folder = route_experts(base, experts, asked, tmp_path / "router", dataset={})
    (folder / "router.json").write_text(text)
    with pytest.raises(CheckpointError, match="router"):
        read_router(folder)
    with pytest.raises(CheckpointError, match="exists already"):
        route_experts(base, experts, asked, folder, dataset={})


@pytest.mark.parametrize(
    ("method", "idle"),
    [
        ("linear", {"rank": 4}),
        ("linear", {"seed": 1}),
        ("mixture", {"density": 0.2}),
        ("ties", {"seed": 1}),
        ("route", {"weights": (1.0, 1.0)}),
    ],
)
def test_settings_that_a_method_would_ignore(method, idle):
    with pytest.raises(ValueError, match=f"{method} has no use for {next(iter(idle))}"):
        ComposeSettings(method=method, **idle)


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_a_rank_over_a_layers_sides_can_still_be_loaded(world, tmp_path, method):
    base, _ = world  # key layers have 16 outputs, so an SVD finds 16 directions and no more
    folder = _merge(world, tmp_path / "wide", method, rank=30, density=1.0)
    assert read_shape(folder).rank == 30
    narrow = _merge(world, tmp_path / "narrow", method, rank=16, density=1.0)
    layer = "model.layers.0.self_attn.k_proj"
    wide, same = (_update(one, base.folder, layer) for one in (folder, narrow))
    assert torch.allclose(wide, same, atol=1e-6)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "complex64", "int8"])
def test_routers_of_other_numbers(tmp_path, kind):
    """Some of which torch can't even ask whether they are finite."""
    tensors = {"centroids": torch.zeros(2, 32), "mean": torch.zeros(32)}
    save_file(
        {name: one.to(getattr(torch, kind)) for name, one in tensors.items()},
        tmp_path / "router.safetensors",
    )
    (tmp_path / "router.json").write_text('{"v":1,"experts":[2,3]}')
    with pytest.raises(CheckpointError, match="finite fp32 centroids"):
        read_router(tmp_path)


def test_a_router_for_another_base(policy):
    router = Router((2, 3), torch.zeros(2, 7), torch.zeros(7))
    with pytest.raises(CheckpointError, match="compares 7 numbers, and its base embeds in 32"):
        RoutedSampler(router, policy, {}.__getitem__, "routed")
