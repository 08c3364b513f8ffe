"""Attention by blocks of the tree is the dense one, in value and gradient, for less."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tiny_policy import tiny_policy

from marketplace.gym import tree_attention
from marketplace.gym.packing import BLOCK_ROWS, ROOT, TokenGroup, pack_groups, prefetched
from marketplace.gym.policy import pack_logprobs
from marketplace.gym.tree_attention import enclosing, flex_mask, flex_padding, tree_blocks
from trainer.forward import bf16_gains, training_forward


def _tree(seed: int, prompt: int = 40, length: int = 12, count: int = 6):
    """One group; half of its completions leave others in the middle."""
    draw = random.Random(seed)
    made = [tuple(draw.randrange(1, 250) for _ in range(length)) for _ in range(count // 2)]
    for one in list(made):
        made.append(one[: length // 2] + tuple(draw.randrange(1, 250) for _ in range(length)))
    group = TokenGroup(tuple(draw.randrange(1, 250) for _ in range(prompt)), tuple(made))
    (pack,) = pack_groups([group], 1000)
    return group, pack


@pytest.mark.parametrize("rows", [1, 7, 16, 1000])
def test_blocks_hold_exactly_the_dense_mask(rows):
    _, pack = _tree(1)
    dense = np.zeros((len(pack.tokens),) * 2, dtype=bool)
    for block in pack.blocks(rows):
        assert block.mask.any(0).all()  # no key that nobody attends to
        dense[block.start : block.stop, block.keys] = block.mask
    assert np.array_equal(dense, pack.attention())


def test_the_walk_tells_what_encloses_what():
    _, pack = _tree(2)
    opened, closed = enclosing(pack)
    above = (opened <= opened[:, None]) & (opened[:, None] < closed)
    assert np.array_equal(above, pack.attention())


def test_blocks_give_the_dense_values_and_gradients(policy, monkeypatch):
    group, _ = _tree(3)
    (pack,) = pack_groups([group, TokenGroup((9, 8, 7), ((1, 2), (3, 4)))], 1000)
    draw = torch.Generator().manual_seed(0)
    pull = torch.randn(len(pack.scored), generator=draw) / len(pack.scored)

    def run():
        policy.model.zero_grad()
        values = pack_logprobs(policy, pack, 0.8)
        (values * pull).sum().backward()
        return values.detach(), [one.grad.clone() for one in policy.model.parameters()]

    # Small blocks, so that this small tree has several.
    monkeypatch.setattr(type(pack).blocks, "__defaults__", (16,))
    assert len(tree_blocks(pack, policy.model).rows) > 4
    ours = run()
    assert policy.model.config._attn_implementation == "sdpa"  # as it was
    monkeypatch.setattr(tree_attention, "_WORTH", 0.0)
    assert tree_blocks(pack, policy.model) is None
    dense = run()
    torch.testing.assert_close(ours[0], dense[0], atol=1e-5, rtol=1e-5)
    for one, other in zip(ours[1], dense[1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_packed_gradient_equals_one_padded_batch(policy, monkeypatch):
    """The plain computation: every completion with its prompt in a padded batch, all logits."""
    monkeypatch.setattr(tree_attention, "_WORTH", 1.0)
    group, pack = _tree(4)
    total = torch.zeros(())
    values = pack_logprobs(policy, pack, 0.7)
    for span in pack.spans:
        total = total + (1 + span.completion) * values[span.rows].mean() / 20
    total.backward()
    ours = [one.grad.clone() for one in policy.model.parameters()]

    policy.model.zero_grad()
    prompt, longest = len(group.prompt), max(map(len, group.completions))
    width = prompt + longest
    tokens = torch.zeros(len(group.completions), width, dtype=torch.long)
    attends = torch.zeros_like(tokens)
    for row, one in enumerate(group.completions):
        tokens[row, : prompt + len(one)] = torch.tensor(group.prompt + one)
        attends[row, : prompt + len(one)] = 1
    logits = policy.model(tokens, attention_mask=attends).logits / 0.7
    logs = logits.log_softmax(-1)[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]
    plain = sum(
        (1 + row) * logs[row, prompt - 1 : prompt - 1 + len(one)].mean() / 20
        for row, one in enumerate(group.completions)
    )
    plain.backward()
    torch.testing.assert_close(total, plain, atol=1e-5, rtol=1e-5)
    for one, parameter in zip(ours, policy.model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=1e-5)


def test_the_mask_of_flex_attention_is_the_tree():
    _, pack = _tree(5)
    mask = flex_mask(pack, torch.device("cpu"))
    nodes = torch.arange(len(pack.tokens))
    assert torch.equal(
        mask.mask_mod(0, 0, nodes[:, None], nodes[None]), torch.from_numpy(pack.attention())
    )


def test_flex_attention_reads_the_blocks_that_hold_something_and_padding_reads_itself():
    draw = random.Random(5)
    groups = [
        TokenGroup(
            tuple(draw.randrange(90) for _ in range(70)),
            tuple(tuple(draw.randrange(90) for _ in range(draw.randrange(9, 150))) for _ in "123"),
        )
        for _ in "1234"
    ]
    (pack,) = pack_groups(groups, 4096)
    count, more = len(pack.tokens), flex_padding(pack)
    assert more > 0
    assert (count + more) % BLOCK_ROWS == 0
    dense = torch.block_diag(torch.from_numpy(pack.attention()), torch.eye(more)).bool()
    mask = flex_mask(pack, torch.device("cpu"))
    assert mask.shape[-2:] == dense.shape
    nodes = torch.arange(count + more)
    assert torch.equal(mask.mask_mod(0, 0, nodes[:, None], nodes[None]), dense)
    size = len(dense) // BLOCK_ROWS
    held = dense.view(size, BLOCK_ROWS, size, BLOCK_ROWS).any(3).any(1)
    assert not held.tril().all()
    assert torch.equal(mask.to_dense()[0, 0].bool(), held)


@pytest.mark.parametrize("worth", [0.0, 1.0])
def test_recomputed_activations_give_the_same_gradient_and_keep_less(policy, monkeypatch, worth):
    monkeypatch.setattr(tree_attention, "_WORTH", worth)  # dense, and in blocks
    _, pack = _tree(6)

    def run(**asked):
        policy.model.zero_grad()
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda one: kept.append(one.numel()) or one, lambda one: one
        ):
            with training_forward(policy.model, **asked):
                values = pack_logprobs(policy, pack, 1.0)
            values.mean().backward()
        return [one.grad.clone() for one in policy.model.parameters()], sum(kept)

    plain, all_kept = run()
    again, kept = run(recompute=True)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert kept < all_kept / 2
    assert not any(one.training for one in policy.model.modules())
    assert not policy.model.model.gradient_checkpointing


def test_bf16_is_close_and_off_where_the_processor_has_none(policy):
    _, pack = _tree(7)
    exact = pack_logprobs(policy, pack, 1.0).detach()
    with training_forward(policy.model, precision="bf16"):
        half = pack_logprobs(policy, pack, 1.0)
    assert half.dtype == torch.float32
    assert 1e-6 < float((half.detach() - exact).abs().mean()) < 0.5
    half.sum().backward()
    assert all(one.grad.dtype == torch.float32 for one in policy.model.parameters())
    if not torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported():
        assert not bf16_gains("cpu")


def test_bins_are_filled_and_sorted_by_length():
    groups = [TokenGroup((9,), ((index,) * size,)) for index, size in enumerate((4, 3, 6, 5, 2))]
    packs = list(pack_groups(groups, 9))
    # One shared first token. Longest first, each where it fits best: 6 + 2, 5 + 3, 4.
    assert [sorted(span.group for span in pack.spans) for pack in packs] == [[2, 4], [1, 3], [0]]
    assert all(pack.parents[0] == ROOT for pack in packs)


def test_prefetched_items_come_in_order_and_errors_at_their_place():
    assert list(prefetched(iter(range(100)))) == list(range(100))

    def broken():
        yield 1
        raise ValueError("no more")

    items = prefetched(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_a_closed_prefetch_leaves_no_thread():
    import threading

    def endless():
        while True:
            yield 0

    items = prefetched(endless())
    next(items)
    items.close()
    assert not [one for one in threading.enumerate() if one.name == "packs"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention"])
def test_a_gpu_gives_the_values_of_the_processor(attention):
    policy = tiny_policy(0, width=64)  # narrower heads than 16 no GPU's flex attention takes
    _, pack = _tree(8)
    expected = pack_logprobs(policy, pack, 0.8).detach()
    policy.model.cuda().set_attn_implementation(attention)
    values = pack_logprobs(policy, pack, 0.8)
    torch.testing.assert_close(values.detach().cpu(), expected, atol=2e-3, rtol=1e-3)
    with training_forward(policy.model, precision="bf16", recompute=True):
        half = pack_logprobs(policy, pack, 0.8)
        half.sum().backward()
    assert float((half.detach().cpu() - expected).abs().mean()) < 0.5
    assert all(one.grad.isfinite().all() for one in policy.model.parameters())
