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

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

ROOT: Final = -1
"""Parent of a first token."""

TOKEN_BUDGET: Final = 512
"""Nodes in a pack. Attention grows with its square, a matrix product gains little beyond it."""

OPEN_BINS: Final = 8
"""Packs that are filled side by side. More fill them better and let the first wait longer."""

BLOCK_ROWS: Final = 128
"""Rows of attention computed together: fewer waste less, more make better matrix products."""

Ints = NDArray[np.int64]
_T = TypeVar("_T")


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
class Block:
    """Consecutive rows of a pack and all that they attend to.

    start, stop: the rows. keys: [k] nodes, ascending. mask: [stop - start, k], True where the
    row's node attends to the key's.
    """

    start: int
    stop: int
    keys: Ints
    mask: NDArray[np.bool_]


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
        if self.is_chain():
            return None
        mask = np.eye(count, dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent != ROOT:
                mask[node] |= mask[parent]
        return mask

    def is_chain(self) -> bool:
        """Whether every node's parent is the node before it."""
        return np.array_equal(self.parents, np.arange(len(self.parents)) - 1)

    def trunk(self) -> tuple[Pack, Ints]:
        """The pack without its leaves, and [n] the place of each node in it (of leaves ROOT).

        No token follows a leaf, so a model that is asked what follows need not read it: of short
        completions that is a good part. scored and spans are empty: what is scored is here.
        """
        inner = np.zeros(len(self.tokens), dtype=bool)
        inner[self.parents[self.parents != ROOT]] = True
        places = np.where(inner, np.cumsum(inner) - 1, ROOT)
        above = self.parents[inner]
        trunk = Pack(
            tokens=self.tokens[inner],
            positions=self.positions[inner],
            parents=np.where(above == ROOT, ROOT, places[above]),
            scored=np.empty(0, dtype=np.int64),
            spans=(),
        )
        return trunk, places

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """The attention in blocks of at most so many rows; other branches of the tree, whose
        part of the dense mask is empty, are not in them."""
        parents = self.parents
        for start in range(0, len(parents), rows):
            stop = min(start + rows, len(parents))
            paths: dict[int, list[int]] = {}  # from each node outside, by where rows hang on
            for parent in {int(one) for one in parents[start:stop] if one < start}:
                path, node = [], parent
                while node != ROOT:
                    path.append(node)
                    node = int(parents[node])
                paths[parent] = path
            outside = np.array(sorted(set().union(*paths.values())), dtype=np.int64)
            mask = np.zeros((stop - start, len(outside) + stop - start), dtype=bool)
            for row, parent in enumerate(parents[start:stop].tolist()):
                if parent >= start:
                    mask[row] = mask[parent - start]
                else:
                    mask[row, np.searchsorted(outside, paths[parent])] = True
                mask[row, len(outside) + row] = True
            yield Block(start, stop, np.concatenate([outside, np.arange(start, stop)]), mask)


def pack_groups(groups: Sequence[TokenGroup], token_budget: int = TOKEN_BUDGET) -> Iterator[Pack]:
    """Packs of at most `token_budget` nodes that hold all completions of all groups.

    Longest groups first, so that memory runs out at once or never, each into the fullest of a
    few open packs that takes it. A group that fits into the budget stays whole; a larger one is
    divided between its completions. A single completion over the budget is a pack of its own (a
    chain).
    """
    order = sorted(range(len(groups)), key=lambda index: (-_most_nodes(groups[index]), index))
    bins: list[_Tree] = []
    for index in order:
        group = groups[index]
        tree = _fullest(bins, group, _lengths(group), token_budget)
        if tree is None:
            if len(bins) == OPEN_BINS:
                yield _take_fullest(bins).pack()
            tree = _Tree()
            bins.append(tree)
        for place, completion in enumerate(group.completions):
            if tree.spans and len(tree) + tree.growth(group, len(completion)) > token_budget:
                bins.remove(tree)
                yield tree.pack()
                tree = _Tree()
                bins.append(tree)
            tree.add(index, place, group.prompt, completion)
    while bins:
        tree = _take_fullest(bins)
        if tree.spans:
            yield tree.pack()


def prefetched(items: Iterable[_T], depth: int = 2) -> Iterator[_T]:
    """The same items in the same order, made by a thread up to `depth` ahead of their use.

    torch computes without the interpreter's lock, so making the next pack costs it nothing. An
    error of the maker is raised at its place. Closing the iterator ends the thread.
    """
    ready: queue.Queue[tuple[bool, object]] = queue.Queue(depth)
    closed = threading.Event()
    end = object()

    def put(good: bool, item: object) -> bool:
        while not closed.is_set():
            try:
                ready.put((good, item), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
        except BaseException as error:
            put(False, error)
        else:
            put(True, end)

    maker = threading.Thread(target=work, name="packs", daemon=True)
    maker.start()
    try:
        while True:
            good, item = ready.get()
            if not good:
                assert isinstance(item, BaseException)
                raise item
            if item is end:
                return
            yield item  # type: ignore[misc]
    finally:
        closed.set()
        maker.join()


def _fullest(
    bins: list[_Tree], group: TokenGroup, completion_tokens: int, budget: int
) -> _Tree | None:
    """Of the packs that the whole group fits into, the one that is fullest with it, or None."""
    sizes = [len(one) + one.growth(group, completion_tokens) for one in bins]
    fitting = [place for place, size in enumerate(sizes) if size <= budget]
    return bins[max(fitting, key=lambda place: sizes[place])] if fitting else None


def _take_fullest(bins: list[_Tree]) -> _Tree:
    return bins.pop(max(range(len(bins)), key=lambda place: len(bins[place])))


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
        self._last = (-1, ROOT)  # the group added last, and the end of its prompt

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
        if self._last[0] != group:
            self._last = group, self._insert(ROOT, prompt)[-1]
        self.spans.append((group, place, self._insert(self._last[1], completion)))

    def _insert(self, node: int, tokens: Sequence[int]) -> list[int]:
        nodes = []
        for token in tokens:
            child = self.children.get((node, token))
            if child is None:
                break
            nodes.append(child)
            node = child
        # Below a new node all are new.
        new = tokens[len(nodes) :]
        made = range(len(self.tokens), len(self.tokens) + len(new))
        parents = [node, *made[:-1]][: len(new)]
        depth = 0 if node == ROOT else self.positions[node] + 1
        self.children.update(zip(zip(parents, new, strict=True), made, strict=True))
        self.tokens.extend(new)
        self.parents.extend(parents)
        self.positions.extend(range(depth, depth + len(new)))
        return [*nodes, *made]

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
