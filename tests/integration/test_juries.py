"""Juries on a real Anvil: five verifiers, three toy judges, sheets, medians, weights, judges' pay.

The judges are plain functions: what is tested is what the market makes of their grades."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import Loop

from marketplace.chain.parameters import MINIMAL
from marketplace.chain.records import BatchPhase, PayRule, SheetPhase
from marketplace.gym.pool import CheckPool
from marketplace.gym.sources.dataset import builtin_asset
from marketplace.gym.spec import EnvironmentSpec, builtin_spec, environment_id, spec_bytes
from marketplace.miner.mine import Miner
from marketplace.miner.sampler import Completion
from marketplace.miner.spool import Spool
from marketplace.protocol.errors import SamplerError
from marketplace.protocol.sheets import UNKNOWN, abstention, gold_commitment, pack, unpack
from marketplace.protocol.verdict import Reason
from verifier_node.checking import BatchChecker
from verifier_node.daemon import VerifierNode
from verifier_node.duties import Duty
from verifier_node.judges import Item
from verifier_node.panels import panel_of, records

FIVE = replace(
    MINIMAL,
    name="jury",
    committee_size=5,
    min_verifiers=5,
    draw_timeout=3600,
    commit_window=1200,
    reveal_window=1200,
    max_rounds=1,
)
GROUP = 2
RATE = 1_000
REAL = Path(__file__).parents[2] / "build" / "models" / "smollm2-135m"
REPLIES = (
    "Thank you, but I am sorry: it can't be done. May I offer something else?",
    "I am sorry, it can't be done.",
    "No.",
    "Sure, no problem!",
)


@dataclass(slots=True)
class Toy:
    """A judge that is a function of the answer's text."""

    name: str
    of: Callable[[str], int]
    asked: list[Item] = field(default_factory=list)

    def grade(self, rubric: str, items: Sequence[Item]) -> list[int]:
        assert rubric.startswith("The answer is a short reply")
        self.asked += items
        return [self.of(item.completion) for item in items]


class Silent:
    """A judge that never answers."""

    name = "silent"

    def grade(self, rubric: str, items: Sequence[Item]) -> list[int]:
        raise SamplerError("the server is down")


KIND = {text: grade for text, grade in zip(REPLIES, (4, 3, 2, 0), strict=True)}


def by_words(text: str) -> int:
    """Counts friendly words: near to KIND, and not the same."""
    return min(4, sum(word in text.lower() for word in ("thank", "sorry", "can't", "offer", "no.")))


def fair(name: str = "fair") -> Toy:
    return Toy(name, KIND.__getitem__)


def liar() -> Toy:
    return Toy("liar", lambda text: 4 - KIND[text])


class Replies:
    """A miner's sampler: the replies in turn."""

    model = "replies"

    def sample(self, prompts, rules, *, seed) -> Iterator[tuple[Completion, ...]]:
        for place, _ in enumerate(prompts):
            first = place * rules.group_size
            texts = [REPLIES[(first + one) % len(REPLIES)] for one in range(rules.group_size)]
            yield tuple(Completion(text, None, None, "stop") for text in texts)


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Iterator[CheckPool]:
    with CheckPool(workers=1, assets=tmp_path_factory.mktemp("assets")) as pool:
        yield pool


class Forewarned:
    """A miner's client that tells of a batch's root before it is committed."""

    def __init__(self, client: object, tell: Callable[[bytes], None] | None) -> None:
        self._client, self._tell = client, tell

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    def commit_batch(self, bounty: int, *, root: bytes, **rest: object) -> object:
        if self._tell is not None:
            self._tell(root)
        return self._client.commit_batch(bounty, root=root, **rest)


@dataclass(slots=True)
class Jury:
    """A market with five-seat committees, and the steps of a batch in it."""

    market: object
    loop: Loop
    pool: CheckPool
    keys: Sequence[object]

    def open_bounty(self, spec: EnvironmentSpec, **terms: object) -> int:
        data = spec_bytes(spec)
        self.loop.store.put(data)
        for asset in spec.assets():
            self.loop.store.put_file(builtin_asset(asset.cid))
        poster = self.market.client(self.market.accounts.poster)
        poster.register_environment(environment_id(data))
        chosen = {"group_size": GROUP, "pay_rule": PayRule.CORRECT} | terms
        bounty = self.market.open_bounty(environment=environment_id(data), **chosen)
        poster.open_pot(bounty, RATE)
        poster.fund_pot(poster.bounty(bounty), 1_000_000)
        return bounty

    def mine(
        self, bounty: int, groups: int, *, before_commit: Callable[[bytes], None] | None = None
    ) -> int:
        client = Forewarned(self.market.client(self.market.accounts.miner), before_commit)
        miner = Miner(
            client,
            self.loop.store,
            Spool(self.loop.folder / "spool"),
            fetch_seconds=0,
            assets=self.pool.assets,
            sleep=lambda _: self.market.anvil.mine(),
        )
        return miner.mine(bounty, groups, Replies()).batch

    def nodes(self, judges: Sequence[object]) -> list[VerifierNode]:
        return [
            self.loop.node(key, keeper=place == 0, judge=judge)
            for place, (key, judge) in enumerate(zip(self.keys, judges, strict=True))
        ]

    def checker(self) -> BatchChecker:
        return BatchChecker(
            self.market.reader, self.loop.store, self.pool, fetch_seconds=0, scorer_for=None
        )


@pytest.fixture(scope="module")
def five(deploy_once):
    return deploy_once(FIVE)


@pytest.fixture
def jury(market, five, pool, tmp_path) -> Jury:
    accounts = market.accounts
    kit = type(market)(market.anvil, five, accounts)
    for account in (accounts.poster, accounts.miner, *accounts.verifiers[:5]):
        kit.reader.mint_test_tokens(account.address, 10_000_000_000)
    return Jury(kit, Loop(kit, pool, tmp_path), pool, kit.stake_verifiers(5))


def run(jury: Jury, nodes: Sequence[VerifierNode], batch: int, seconds: int = 410) -> list[object]:
    """Passes until the batch has ended and its judges are paid; what the nodes did. seconds: on
    each pass in which nobody did anything."""
    done = []
    for _ in range(40):
        now = [one for node in nodes for one in node.run_once()]
        done += now
        if any(one.duty is Duty.PAY for one in now):
            return done
        jury.market.anvil.mine(2)
        jury.market.pass_time(3 if now else seconds)
    raise AssertionError(f"the batch is {jury.market.reader.batch(batch).phase!r}, after {done}")


def test_medians_are_attested_and_judges_paid(jury):
    bounty = jury.open_bounty(builtin_spec("polite_refusal"))
    batch = jury.mine(bounty, 4)
    toys = [fair(), fair("fair too"), Toy("by words", by_words), Toy("by words", by_words), liar()]
    done = run(jury, jury.nodes(toys), batch)
    reader = jury.market.reader
    settled = reader.batch(batch)
    assert settled.phase is BatchPhase.SETTLED
    assert [one.duty for one in done].count(Duty.SHOW) == 5

    checker = jury.checker()
    panel = checker.panel(settled)
    # Grades of REPLIES: fair 4 3 2 0 (twice), by words 4 2 1 0 (twice), the liar's 0 1 2 4.
    middle = (4, 2, 2, 0)
    assert panel.grades == middle * 2
    check = checker.find(settled).check
    assert check.attestation == settled.attestation
    assert [one.score_ppm for one in check.verdicts] == [1_000_000, 500_000, 500_000, 0] * 2
    assert [one.reason for one in check.verdicts[:2]] == [Reason.CORRECT, Reason.PARTIAL]
    assert [one.units for one in check.verdicts] == [1, 0, 0, 0] * 2
    assert "median grade is 2 of 4" in check.explain(1).text

    # Everybody voted alike, so everybody has a fee; the liar's sheet earns nothing.
    for key in jury.keys:
        assert reader.balance(key.address) > 0
    paid = dict(zip((one.verifier for one in panel.sheets), panel.paid(), strict=True))
    liars = jury.keys[4].address
    assert [address for address, earned in paid.items() if not earned] == [liars]
    for key in jury.keys:
        expected = 0 if key.address == liars else RATE * 8
        assert reader.judging_balance(key.address) == expected
    of_liar = next(one for one in panel.sheets if one.verifier == liars)
    assert panel.agreements()[panel.sheets.index(of_liar)] == 4  # the two middle replies
    assert reader.pot(bounty).open == 0
    client = jury.market.client(jury.keys[0])
    before = reader.token_balance(client.address)
    client.withdraw_judging()
    assert reader.token_balance(client.address) == before + RATE * 8


@pytest.mark.deep
def test_a_withheld_sheet_counts_nothing_and_a_crash_changes_no_sheet(jury):
    bounty = jury.open_bounty(builtin_spec("polite_refusal"))
    batch = jury.mine(bounty, 2)
    judges = [fair(), fair(), Toy("by words", by_words), Silent(), liar()]
    nodes = jury.nodes(judges)
    withholder = nodes[4]
    while jury.market.reader.sheet_phase(batch) is not SheetPhase.COMMITTING:
        nodes[0].run_once()
        jury.market.anvil.mine(2)
    for node in nodes:
        node.run_once()
    # The liar commits, and then sees what others show; it stays away until the votes.
    jury.market.pass_time(405)
    # A node that starts again shows what it recorded, whatever its judge would say now.
    changed = Toy("another mind", lambda text: 0)
    again = jury.loop.node(jury.keys[1], keeper=False, judge=changed)
    for node in (nodes[0], again, nodes[2], nodes[3]):
        node.run_once()
    assert changed.asked == []
    jury.market.pass_time(405)
    assert jury.market.reader.sheet_phase(batch) is SheetPhase.CLOSED
    run(jury, [nodes[0], again, nodes[2], nodes[3], withholder], batch)
    settled = jury.market.reader.batch(batch)
    assert settled.phase is BatchPhase.SETTLED
    panel = jury.checker().panel(settled)
    assert {one.verifier for one in panel.sheets} == {key.address for key in jury.keys[:3]}
    assert panel.grades == (4, 3, 2, 0)
    for key, sheets in zip(jury.keys, (1, 1, 1, 0, 0), strict=True):
        assert jury.market.reader.judging_balance(key.address) == sheets * RATE * 4
        assert jury.market.reader.balance(key.address) > 0  # all voted on what there was


def test_too_few_sheets_void_the_batch_and_charge_nobody(jury):
    bounty = jury.open_bounty(builtin_spec("polite_refusal"))
    reader = jury.market.reader
    miner = jury.market.accounts.miner.address
    before = reader.balance(miner) + reader.token_balance(miner)
    batch = jury.mine(bounty, 2)
    run(jury, jury.nodes([fair(), fair(), Silent(), None, Silent()]), batch)
    assert reader.batch(batch).phase is BatchPhase.VOID
    assert reader.balance(miner) + reader.token_balance(miner) == before
    assert reader.pot(bounty).available == 1_000_000
    assert reader.bounty(bounty).reserved == 0
    for key in jury.keys:
        assert reader.verifier(key.address).stake == 500 * 10**6
        assert reader.judging_balance(key.address) == 0
    said = {one.attestation for one in reader.announced(reader.rounds_of(batch)[0])}
    assert said == {abstention(key.address) for key in jury.keys}
    panel = jury.checker().panel(reader.batch(batch))
    assert (panel.grades, panel.counted, panel.needed) == (None, 2, 3)


@pytest.mark.deep
def test_gold_lowers_a_bad_judges_weight(jury):
    accounts = jury.market.accounts
    calibrator = jury.market.client(accounts.poster)
    spec = builtin_spec("polite_refusal")
    scoring = spec.scoring.model_copy(update={"calibrators": (accounts.poster.address.lower(),)})
    spec = spec.model_copy(update={"scoring": scoring})
    bounty = jury.open_bounty(spec)
    reader = jury.market.reader
    # Three fair judges, two who turn every grade around.
    judges = [fair(), fair(), fair(), liar(), liar()]
    nodes = jury.nodes(judges)

    # The calibrator knows the right grades of its own batch, and commits to them beforehand.
    gold = pack([4, 3, 2, 0, 4, 3, 2, 0, UNKNOWN, UNKNOWN, 2, 0], gold=True)
    salt = b"\x07" * 32
    planted = jury.mine(
        bounty, 6, before_commit=lambda root: plant(jury, calibrator, root, gold, salt)
    )
    run(jury, nodes, planted)
    calibrator.open_gold(planted, gold, salt)
    jury.market.anvil.mine(1)

    batch = jury.mine(bounty, 2)
    run(jury, nodes, batch)
    settled = reader.batch(batch)
    known = records(reader, settled, scoring)
    by_key = [known[key.address] for key in jury.keys]
    assert [one.items for one in by_key] == [10] * 5
    assert [one.off for one in by_key] == [0, 0, 0, 24, 24]
    assert [one.weight for one in by_key] == [3, 3, 3, 0, 0]
    panel = panel_of(reader, settled, scoring)
    weights = {one.verifier: one.weight for one in panel.sheets}
    assert [weights[key.address] for key in jury.keys] == [3, 3, 3, 0, 0]
    assert panel.grades == (4, 3, 2, 0)
    # Of the batch before the gold was opened everybody weighed one.
    first = panel_of(reader, reader.batch(planted), scoring)
    assert {one.weight for one in first.sheets} == {1}
    # Nobody else's gold counts: with another calibrator in the spec there are no records.
    other = scoring.model_copy(update={"calibrators": (accounts.miner.address.lower(),)})
    assert records(reader, settled, other) == {}
    assert unpack(gold, 12, gold=True)[8] == UNKNOWN


def plant(jury, calibrator, root: bytes, gold: bytes, salt: bytes) -> None:
    deployment = jury.market.deployment
    calibrator.plant_gold(
        gold_commitment(
            deployment.chain_id,
            deployment.address("sheets"),
            root,
            calibrator.address,
            gold,
            salt,
        )
    )
    jury.market.pass_time(2)


@pytest.mark.model
@pytest.mark.deep
@pytest.mark.skipif(not REAL.is_dir(), reason="the base model is not made (make setup)")
def test_the_real_model_sits_in_a_jury(jury):
    from marketplace.gym.policy import Policy
    from verifier_node.judges import ModelJudge

    bounty = jury.open_bounty(builtin_spec("polite_refusal"))
    batch = jury.mine(bounty, 2)
    model = ModelJudge(Policy.load(REAL), "smollm2-135m", most_tokens=128)
    run(jury, jury.nodes([model, fair(), fair(), fair(), Toy("by words", by_words)]), batch)
    settled = jury.market.reader.batch(batch)
    assert settled.phase is BatchPhase.SETTLED
    panel = jury.checker().panel(settled)
    assert len(panel.sheets) == 5
    sheet = next(one for one in panel.sheets if one.verifier == jury.keys[0].address)
    # What it gives is its own affair; of five sheets, three that agree are the median.
    assert len(sheet.grades) == 4
    assert panel.grades == (4, 3, 2, 0)
