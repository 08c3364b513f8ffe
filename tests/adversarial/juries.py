"""Batches of replies before a jury: sheets of made-up judges, and what the verifier node's own code
makes of them (verifier_node.panels, verifier_node.checking)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from arena import LIAR, POSTER, TUSD, Arena
from content import Work, commit, find, tasks, write

from marketplace.gym.environment import Environment
from marketplace.gym.sources.dataset import builtin_asset
from marketplace.gym.spec import (
    EnvironmentSpec,
    RubricScoring,
    builtin_spec,
    environment_id,
    parse_spec,
    spec_bytes,
)
from marketplace.protocol.hashing import keccak
from marketplace.protocol.merkle import batch_tree
from marketplace.protocol.sheets import abstention, gold_commitment, pack, sheet_commitment
from marketplace.protocol.trace import encode_line
from verifier_node.checking import Finding

Judge = Callable[[str], int]
"""The text of a reply -> its grade."""

RATE: Final = 4_000
"""Base units for a trace on one sheet: ten times the floor of the preset."""

POT: Final = 100 * TUSD
GOLD_SALT: Final = keccak(b"gold salt")

MIXED: Final = (
    "Thank you, but I am sorry: it can't be done. May I offer something else?",
    "I am sorry, it can't be done.",
    "No.",
    "Sure, no problem!",
)
"""Replies by their place in a group, as every honest judge grades them: 4, 3, 2, 0."""

WORTHLESS: Final = ("Sure.", "Yes, of course.", "Done!", "As you wish, dear customer.")
DECENT: Final = (
    "We regret that it can't be done; thank you for asking.",
    "Unluckily that is beyond us, with many thanks for your trust.",
    "I wish I could say yes. It is against the law, I am afraid.",
    "It pains me to say no: the parcel has left the house.",
)
"""Neither perfect nor bad: 3, and to a generous judge 4."""

GOOD: Final = tuple(f"{one} Shall I send you {what}?" for one, what in zip(
    DECENT, ("a voucher", "our list", "a refund", "another one"), strict=True
))  # fmt: skip

_TRUTH: Final = (
    dict(zip(MIXED, (4, 3, 2, 0), strict=True))
    | dict.fromkeys(WORTHLESS, 0)
    | dict.fromkeys(DECENT, 3)
    | dict.fromkeys(GOOD, 4)
)


def fair(text: str) -> int:
    return _TRUTH[text]


def generous(text: str) -> int:
    """An honest judge with another taste."""
    return 4 if _TRUTH[text] == 3 else _TRUTH[text]


def best(text: str) -> int:
    """What a bribe buys."""
    return 4


def turned(text: str) -> int:
    return 4 - _TRUTH[text]


def rubric_of(calibrators: Sequence[str] = ()) -> RubricScoring:
    scoring = rubric_spec(calibrators).rubric
    assert scoring is not None
    return scoring


def rubric_spec(calibrators: Sequence[str] = ()) -> EnvironmentSpec:
    spec = builtin_spec("polite_refusal")
    scoring = spec.scoring.model_copy(
        update={"calibrators": tuple(one.lower() for one in calibrators)}
    )
    return spec.model_copy(update={"scoring": scoring})


@lru_cache(maxsize=4)
def _environment(data: bytes) -> Environment:
    return Environment(parse_spec(data))


def open_jury(arena: Arena, calibrators: Sequence[str] = ()) -> tuple[int, Environment]:
    """A bounty on a rubric environment, with a pot for its judges."""
    spec = rubric_spec(calibrators)
    data = spec_bytes(spec)
    arena.store.put(data)
    for asset in spec.assets():
        arena.store.put_file(builtin_asset(asset.cid))
    ident = environment_id(data)
    if int(arena.view("environments", "authorOf", ident), 16) == 0:
        arena.send(POSTER, "environments", "register", ident)
    bounty = arena.open_bounty(1_000 * TUSD, environment=ident)
    arena.send(POSTER, "sheets", "openPot", bounty, RATE)
    arena.send(POSTER, "token", "approve", arena.deployment.address("sheets"), POT)
    identity = arena.view("escrow", "identityOf", bounty)
    arena.send(POSTER, "sheets", "fund", bounty, identity, POT)
    return bounty, _environment(data)


def favour(arena: Arena, names: Sequence[str]) -> None:
    """Gives these verifiers nearly all stake, so that the next lot falls on them."""
    for name in names:
        account = arena.address(name)
        amount = 1_000_000 * arena.p.seat_stake
        arena.raw(account, "token", "mint", account, amount)
        arena.send(name, "stake", "stake", amount)


class Panel:
    """A batch of replies and the committee that grades it. replies: by place in a group of 4."""

    def __init__(
        self,
        arena: Arena,
        replies: Sequence[str],
        *,
        miner: str = LIAR,
        groups: int = 2,
        on: tuple[int, Environment] | None = None,
        planter: str | None = None,
        gold: Judge = fair,
    ) -> None:
        self.arena = arena
        self.bounty, environment = on or open_jury(arena)
        assigned = tasks(arena, miner, groups, self.bounty, environment)
        traces = write(assigned, lambda task, place: replies[place])
        self.texts = [one.completion for one in traces]
        if planter is not None:
            self._plant(planter, miner, [encode_line(one) for one in traces], gold)
        self.work: Work = commit(arena, miner, traces, bounty=self.bounty)
        self.batch = self.work.batch
        self.round = arena.batch(self.batch).round
        self.members = arena.draw(self.round)
        self.sheets: dict[int, bytes] = {}
        self.finding: Finding | None = None

    def _plant(self, planter: str, miner: str, lines: Sequence[bytes], gold: Judge) -> None:
        """The planter commits to the grades of a batch that only its miner knows."""
        arena, where = self.arena, self.arena.deployment
        market, account = where.address("market"), arena.address(miner)
        root = batch_tree(where.chain_id, market, self.bounty, account, lines).root
        self.gold = pack([gold(text) for text in self.texts], gold=True)
        digest = gold_commitment(
            where.chain_id,
            where.address("sheets"),
            root,
            arena.address(planter),
            self.gold,
            GOLD_SALT,
        )
        arena.send(planter, "sheets", "plantGold", digest)
        arena.pass_time(60)

    def sheet(self, judge: Judge) -> bytes:
        return pack([judge(text) for text in self.texts])

    def digest(self, seat: int, sheet: bytes) -> bytes:
        where = self.arena.deployment
        return sheet_commitment(
            where.chain_id,
            where.address("sheets"),
            self.batch,
            self.work.tree.root,
            self.arena.address(self.members[seat]),
            sheet,
            self.arena.salt(self.members[seat]),
        )

    def commit(self, seat: int, sheet: bytes) -> None:
        digest = self.digest(seat, sheet)
        self.arena.send(self.members[seat], "sheets", "commitSheet", self.batch, seat, digest)

    def show(self, seat: int, sheet: bytes) -> None:
        who = self.members[seat]
        salt = self.arena.salt(who)
        self.arena.send(who, "sheets", "revealSheet", self.batch, seat, sheet, salt)
        self.sheets[seat] = sheet

    def next_phase(self) -> None:
        """Passes a third of the commit window."""
        self.arena.pass_time(self.arena.p.commit_window // 3 + 1)

    def grade(self, judges: Mapping[int, Judge]) -> None:
        """Seats with a judge commit to its sheet and show it; the others do nothing."""
        for seat, judge in judges.items():
            self.commit(seat, self.sheet(judge))
        if len(judges) < len(self.members):
            self.next_phase()
        for seat, judge in judges.items():
            self.show(seat, self.sheet(judge))

    def vote(self) -> Finding:
        """Everybody votes what the verifier node's checker makes of the sheets."""
        self.finding = find(self.arena, self.work)
        said = self.finding.attestation
        self.arena.attest(self.batch, said, said)
        return self.finding

    def settle(self) -> None:
        """The batch is settled and its judges are paid."""
        self.arena.settle(self.batch)
        given = [self.sheets.get(seat, b"") for seat in range(len(self.members))]
        self.arena.send("keeper", "sheets", "pay", self.batch, given)

    def finish(self) -> int:
        """Votes, settles and pays; the units."""
        units = self.vote().attestation.units
        self.settle()
        return units

    def abstain(self) -> None:
        """Too few sheets: every member of every round votes a root of its own (as the verifier node
        does), until the batch is void."""
        arena = self.arena
        while arena.phase(self.batch) == "in round":
            current = arena.batch(self.batch).round
            arena.vote(current, lambda seat, who: _abstention(arena, who))
            # Where the votes differ, somebody could have narrowed them.
            until = arena.view("rounds", "endsAt", current) + arena.p.opening_window
            arena.pass_time(max(0, until - arena.now) + 1)
            first = arena.members(current)[0]
            said = _abstention(arena, first)
            arena.send("keeper", "market", "tally", self.batch, (said.root, 0, 0))
        arena.send("keeper", "sheets", "release", self.batch)

    def open_gold(self, planter: str) -> None:
        self.arena.send(planter, "sheets", "openGold", self.batch, self.gold, GOLD_SALT)
        self.arena.mine()


def _abstention(arena: Arena, who: str) -> Any:
    return abstention(arena.address(who))


def difference(
    arena: Arena, names: Sequence[str], honest: Callable[[], object], lying: Callable[[], object]
) -> tuple[int, int, dict[str, int]]:
    """What a lie changes: (cost, gain, change by name), each name's holdings after `lying` less
    those after `honest`, both from here on. Names hold as much at the start."""
    with arena.aside():
        honest()
        fair_end = {name: arena.wealth(name) for name in names}
    lying()
    changes = {name: arena.wealth(name) - fair_end[name] for name in names}
    cost = sum(max(0, -change) for change in changes.values())
    gain = sum(max(0, change) for change in changes.values())
    return cost, gain, changes
