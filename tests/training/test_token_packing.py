"""Token trees give what plain sequences give, and compute shared prefixes once."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from marketplace.gym.packing import ROOT, TokenGroup, pack_groups
from marketplace.gym.policy import completion_logprobs, pack_logprobs
from marketplace.gym.replay import SeededGroup, replay


def _groups(seed: int, count: int = 5) -> list[TokenGroup]:
    """Groups with a common start, prompts of several lengths and completions that begin alike."""
    draw = random.Random(seed)
    shared = tuple(draw.randrange(1, 250) for _ in range(6))
    groups = []
    for _ in range(count):
        rest = tuple(draw.randrange(1, 250) for _ in range(draw.randrange(1, 5)))
        # Three symbols only: equal beginnings and whole repeats are certain.
        completions = tuple(
            tuple(draw.choice((5, 6, 7)) for _ in range(draw.randrange(1, 6))) for _ in range(4)
        )
        groups.append(TokenGroup(shared + rest, completions))
    return groups


@pytest.mark.parametrize("token_budget", [1, 12, 40, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_packed_equals_unpacked(policy, unpacked, token_budget, temperature):
    groups = _groups(1)
    found = completion_logprobs(policy, groups, temperature, token_budget=token_budget)
    for group, rows in zip(groups, found, strict=True):
        for completion, values in zip(group.completions, rows, strict=True):
            expected = unpacked(policy, group.prompt, completion, temperature)
            assert values == pytest.approx(expected.tolist(), abs=1e-4)


def test_packed_gradient_equals_unpacked(policy, unpacked):
    groups = _groups(2)
    draw = random.Random(3)
    weights = [[draw.uniform(-1, 1) for _ in group.completions] for group in groups]

    for pack in pack_groups(groups, 40):
        values = pack_logprobs(policy, pack, 1.0)
        total = sum(
            weights[span.group][span.completion] * values[span.rows].sum() for span in pack.spans
        )
        total.backward()
    packed = [one.grad.clone() for one in policy.model.parameters()]

    policy.model.zero_grad()
    for group, row in zip(groups, weights, strict=True):
        for completion, weight in zip(group.completions, row, strict=True):
            (weight * unpacked(policy, group.prompt, completion, 1.0).sum()).backward()
    for ours, parameter in zip(packed, policy.model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, atol=1e-4, rtol=1e-3)


def test_every_shared_token_is_computed_once():
    first = TokenGroup((1, 2, 3), ((7, 8), (7, 9), (7, 8)))
    second = TokenGroup((1, 2, 4), ((7,),))
    (pack,) = pack_groups([first, second], 100)
    # 1 2 3, 7 8, 9, then 4 7: eight nodes for seventeen tokens.
    assert len(pack.tokens) == 8
    assert pack.parents[0] == ROOT
    assert sorted(pack.positions.tolist()) == [0, 1, 2, 2, 3, 3, 4, 4]
    assert len(pack.scored) == 4
    rows = {(span.group, span.completion): span.rows.tolist() for span in pack.spans}
    assert rows[0, 0] == rows[0, 2]
    assert rows[0, 0][0] == rows[0, 1][0]


@pytest.mark.parametrize("token_budget", [12, 40, 1000])
def test_the_trunk_is_the_tree_without_its_leaves(token_budget):
    for pack in pack_groups(_groups(4), token_budget):
        trunk, places = pack.trunk()
        kept = [node for node in range(len(pack.tokens)) if node in pack.parents]
        assert 0 < len(kept) < len(pack.tokens)
        assert [node for node, place in enumerate(places) if place != ROOT] == kept
        assert places[kept].tolist() == list(range(len(kept)))
        assert trunk.tokens.tolist() == pack.tokens[kept].tolist()
        assert trunk.positions.tolist() == pack.positions[kept].tolist()
        for node in kept:
            above = pack.parents[node]
            assert trunk.parents[places[node]] == (ROOT if above == ROOT else places[above])


def test_last_tokens_are_not_read(policy):
    group = TokenGroup((1, 2, 3), ((7, 8), (7, 9), (6,)))
    (pack,) = pack_groups([group], 100)
    read = []
    hook = policy.model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: read.append(inputs[0].tolist())
    )
    try:
        completion_logprobs(policy, [group], 1.0)
        replay(policy, [SeededGroup(group, bytes(32), (0, 1, 2))], 1.0)
    finally:
        hook.remove()
    assert read == [[[1, 2, 3, 7]]] * 2
    assert len(pack.tokens) == 7


def test_a_chain_needs_no_mask_and_a_tree_has_one():
    (chain,) = pack_groups([TokenGroup((1, 2), ((3, 4),))], 100)
    assert chain.attention() is None
    (tree,) = pack_groups([TokenGroup((1,), ((3,), (4,)))], 100)
    expected = [[True, False, False], [True, True, False], [True, False, True]]
    assert np.array_equal(tree.attention(), expected)


@pytest.mark.parametrize("token_budget", [1, 10, 17, 30, 500])
def test_packs_hold_everything_once_within_the_budget(token_budget):
    groups = _groups(4, count=9)
    packs = list(pack_groups(groups, token_budget))
    placed = sorted((span.group, span.completion) for pack in packs for span in pack.spans)
    assert placed == [(g, c) for g in range(9) for c in range(4)]
    for pack in packs:
        assert len(pack.tokens) <= token_budget or len(pack.spans) == 1


def test_a_group_that_fits_stays_whole():
    groups = _groups(5, count=6)
    for pack in pack_groups(groups, 35):
        for index in {span.group for span in pack.spans}:
            assert sum(span.group == index for span in pack.spans) == 4


def test_no_groups_and_no_prompt():
    assert list(pack_groups([], 10)) == []
    with pytest.raises(ValueError, match="no token"):
        TokenGroup((), ((1,),))
