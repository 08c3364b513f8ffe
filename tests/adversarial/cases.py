"""Batches whose content is made up, with what a liar and what an honest verifier attests; and the
steps of a dispute. Only who signs what matters here: content is the other rows' affair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from arena import GROUP, LIAR, Arena, Ballot, fields

from marketplace.protocol.hashing import keccak
from marketplace.protocol.merkle import Tree, batch_tree
from marketplace.protocol.verdict import Attestation, Reason, Verdict, VerdictTree, batch_verdicts

RIGHT: Final = Verdict(1_000_000, Reason.CORRECT, 1, 0)
WRONG: Final = Verdict(0, Reason.WRONG, 0, 0)
LARGE: Final = 2_496
"""Traces of a batch about as dear as the preset allows: a majority's sure loss bounds its value."""


@dataclass(frozen=True, slots=True)
class Case:
    """good: what its traces are worth in truth."""

    batch: int
    count: int
    good: bool
    traces: Tree

    @property
    def truth(self) -> VerdictTree:
        return _verdicts(self.batch, self.count, self.good)

    @property
    def lie(self) -> VerdictTree:
        return _verdicts(self.batch, self.count, not self.good)

    def verdict(self, index: int, *, true: bool) -> tuple[int, int, int, int, int]:
        one = RIGHT if true is self.good else WRONG
        return (index, one.score_ppm, int(one.reason), one.units, one.faults)

    def juror(self, index: int) -> Attestation:
        """The vote of a juror that re-checks a trace."""
        leaf = _leaf(self.truth, index)
        return Attestation(leaf.hash, leaf.units, leaf.faults)

    def false_juror(self, index: int) -> Attestation:
        leaf = _leaf(self.lie, index)
        return Attestation(leaf.hash, leaf.units, leaf.faults)


def case(
    arena: Arena,
    miner: str = LIAR,
    *,
    traces: int = LARGE,
    good: bool = False,
    bounty: int | None = None,
) -> Case:
    """Commits one; its draw is not made yet."""
    bounty = bounty or arena.bounty
    tree = _tree(arena, miner, bounty, traces)
    batch = arena.commit(miner, traces=traces, root=tree.root, bounty=bounty)
    return Case(batch, traces, good, tree)


def root_of(arena: Arena, miner: str, bounty: int, traces: int) -> bytes:
    """The root of such a batch before it is committed."""
    return _tree(arena, miner, bounty, traces).root


def _tree(arena: Arena, miner: str, bounty: int, traces: int) -> Tree:
    market = arena.deployment.address("market")
    return _traces(arena.deployment.chain_id, market, bounty, arena.address(miner), traces)


def dispute(arena: Arena, who: str, one: Case, index: int, *, attested_true: bool = False) -> int:
    """Disputes a verdict of the attestation, which is the lie or the truth."""
    tree = one.truth if attested_true else one.lie
    done = arena.send(
        who,
        "court",
        "disputeLeaf",
        one.batch,
        one.verdict(index, true=attested_true),
        [(node.hash, node.units, node.faults) for node in tree.proof(index)],
        keccak(_line(index)),
        one.traces.proof(index),
    )
    return int(done.event("DisputeOpened")["dispute"])


def jury(arena: Arena, ident: int, ballot: Ballot | Attestation, leader: Attestation) -> list[str]:
    """The dispute's newest jury is drawn, votes and is counted; its members."""
    members = arena.vote(arena.view("court", "get", ident)[3], ballot)
    arena.send("keeper", "court", "tallyJury", ident, fields(leader))
    return members


def close(arena: Arena, ident: int) -> None:
    arena.pass_time(arena.p.appeal_window + 1)
    arena.send("keeper", "court", "close", ident)


def again(arena: Arena, one: Case) -> None:
    """After an attestation fell: a fresh committee attests the truth, and the batch is settled."""
    truth = one.truth.attestation
    arena.attest(one.batch, truth, truth)
    arena.settle(one.batch)


def node(one: Any) -> tuple[bytes, int, int]:
    return (one.hash, one.units, one.faults)


def path_to(tree: VerdictTree, index: int) -> tuple[list[Any], list[bool]]:
    """The children of each node from the root down to a verdict, and on which side it goes on."""
    levels = tree._levels
    path, rights = [], []
    for level in range(len(levels) - 1, 0, -1):
        place = index >> level
        left = levels[level - 1][2 * place]
        if 2 * place + 1 == len(levels[level - 1]):
            continue  # a last odd node is promoted as it is
        path.append((node(left), node(levels[level - 1][2 * place + 1])))
        rights.append(bool(index >> (level - 1) & 1))
    return path, rights


def _line(index: int) -> bytes:
    return b"line %d" % index


def _leaf(tree: VerdictTree, index: int) -> Any:
    return tree._levels[0][index]


@lru_cache(maxsize=32)
def _traces(chain_id: int, market: str, bounty: int, miner: str, count: int) -> Tree:
    assert count % GROUP == 0
    return batch_tree(chain_id, market, bounty, miner, [_line(index) for index in range(count)])


@lru_cache(maxsize=64)
def _verdicts(batch: int, count: int, right: bool) -> VerdictTree:
    return batch_verdicts(batch, [RIGHT if right else WRONG] * count)
