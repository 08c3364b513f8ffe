"""Packs groups of completions into token trees, so that no shared prefix is computed twice.

The completions of a group share their prompt, the prompts of one environment share their
examples, and completions of one group often begin alike. A pack holds each shared run once:
every token is a node whose parent is the token before it, equal children of one parent are one
node, and a node attends to itself and its ancestors. A token's log-probability is that of the
unpacked sequence (up to the order in which floating point adds), and so is its gradient: a node
that serves several completions receives the sum of theirs.

Tree attention: SpecInfer (arXiv 2305.09781), section 4. Only numpy is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ROOT: Final = -1
"""Parent of a first token."""

TOKEN_BUDGET: Final = 512
"""Nodes in a pack. Attention grows with its square, a matrix product gains little beyond it."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """A prompt (at least one token) and the completions sampled from it, as token ids."""

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("the prompt has no token: nothing predicts a completion's first one")


@dataclass(frozen=True, slots=True)
class Span:
    """One completion in a pack. rows: [its length] places in Pack.scored, in order."""

    group: int
    completion: int
    rows: Ints


@dataclass(frozen=True, slots=True)
class Pack:
    """A token tree of n nodes, parents before children.

    tokens     [n] token ids
    positions  [n] depth in the tree, which is the position in the unpacked sequence
    parents    [n] node of the token before, ROOT at the start of a sequence
    scored     [m] nodes that belong to a completion, ascending: the only rows with a loss
    spans      the completions, by their place in the sequence of groups that was packed
    """

    tokens: Ints
    positions: Ints
    parents: Ints
    scored: Ints
    spans: tuple[Span, ...]

    def attention(self) -> NDArray[np.bool_] | None:
        """[n, n], True where the row's node attends to the column's; None for a plain chain.

        A chain needs nothing but causal attention, which takes no memory of order n * n.
        """
        count = len(self.tokens)
        if np.array_equal(self.parents, np.arange(count) - 1):
            return None
        mask = np.eye(count, dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent != ROOT:
                mask[node] |= mask[parent]
        return mask


def pack_groups(groups: Sequence[TokenGroup], token_budget: int = TOKEN_BUDGET) -> Iterator[Pack]:
    """Packs of at most `token_budget` nodes that hold all completions of all groups.

    Longest groups first, so that memory runs out at once or never. A group that fits into the
    budget stays whole; a larger one is divided between its completions. A single completion
    over the budget is a pack of its own (a chain).
    """
    order = sorted(range(len(groups)), key=lambda index: (-_most_nodes(groups[index]), index))
    tree = _Tree()
    for index in order:
        group = groups[index]
        if tree.spans and len(tree) + tree.growth(group, _lengths(group)) > token_budget:
            yield tree.pack()
            tree = _Tree()
        for place, completion in enumerate(group.completions):
            if tree.spans and len(tree) + tree.growth(group, len(completion)) > token_budget:
                yield tree.pack()
                tree = _Tree()
            tree.add(index, place, group.prompt, completion)
    if tree.spans:
        yield tree.pack()


def _lengths(group: TokenGroup) -> int:
    return sum(map(len, group.completions))


def _most_nodes(group: TokenGroup) -> int:
    return len(group.prompt) + _lengths(group)


class _Tree:
    """A pack under construction."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.positions: list[int] = []
        self.children: dict[tuple[int, int], int] = {}
        self.spans: list[tuple[int, int, list[int]]] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def growth(self, group: TokenGroup, completion_tokens: int) -> int:
        """At most how many nodes the prompt and so many completion tokens would add."""
        node, shared = ROOT, 0
        for token in group.prompt:
            child = self.children.get((node, token))
            if child is None:
                break
            node, shared = child, shared + 1
        return len(group.prompt) - shared + completion_tokens

    def add(self, group: int, place: int, prompt: Sequence[int], completion: Sequence[int]) -> None:
        *_, end = self._insert(ROOT, prompt)
        self.spans.append((group, place, self._insert(end, completion)))

    def _insert(self, node: int, tokens: Sequence[int]) -> list[int]:
        nodes = []
        for token in tokens:
            child = self.children.get((node, token))
            if child is None:
                child = len(self.tokens)
                self.children[node, token] = child
                self.tokens.append(token)
                self.parents.append(node)
                self.positions.append(0 if node == ROOT else self.positions[node] + 1)
            nodes.append(child)
            node = child
        return nodes

    def pack(self) -> Pack:
        scored = np.array(sorted({n for *_, nodes in self.spans for n in nodes}), dtype=np.int64)
        return Pack(
            tokens=np.array(self.tokens, dtype=np.int64),
            positions=np.array(self.positions, dtype=np.int64),
            parents=np.array(self.parents, dtype=np.int64),
            scored=scored,
            spans=tuple(
                Span(group, place, np.searchsorted(scored, np.array(nodes, dtype=np.int64)))
                for group, place, nodes in self.spans
            ),
        )
