"""The court on a real Anvil: liars in committees, watchers, juries and keepers as they run in
production."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import APPEALS, COURTLY, Arithmetic, Lie, Loop, courtly_market, false_verdicts

from marketplace.chain.client import MarketClient
from marketplace.chain.records import (
    Appeal,
    Batch,
    BatchPhase,
    DisputePhase,
    Kind,
    OpeningStatus,
    RoundPhase,
    Standing,
)
from marketplace.gym.pool import CheckPool
from marketplace.protocol.verdict import (
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    Reason,
    Verdict,
)
from marketplace.storage.cid import RAW, Cid
from marketplace.storage.embedded import EmbeddedStore
from trainer.pull import pull_attested
from verifier_node.checking import Finding
from verifier_node.journal import Journal

TUSD = 10**6
GROUPS, SIZE = 3, 4
TRACES = GROUPS * SIZE
PRICE = TUSD // 10
OPEN = (BatchPhase.CHALLENGEABLE,)


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as pool:
        yield pool


@pytest.fixture(scope="module")
def courtly(deploy_once):
    return deploy_once(COURTLY)


@pytest.fixture
def court(market, courtly, accounts):
    """The MarketKit of another market, with windows that watchers and jurors can keep to."""
    return courtly_market(market, courtly, 1_000 * TUSD, everybody(accounts))


@pytest.fixture
def loop(court, pool, tmp_path) -> Loop:
    return Loop(court, pool, tmp_path)


def everybody(accounts) -> list[LocalAccount]:
    return [
        *(accounts.deployer, accounts.poster, accounts.miner, accounts.stranger),
        *accounts.verifiers,
    ]


def wealth(court) -> int:
    """All the money there is, wherever it lies."""
    reader: MarketClient = court.reader
    modules = sum(reader.held_for(name) for name in ("escrow", "stake", "market", "court"))
    own = [
        reader.token_balance(account.address) + reader.balance(account.address)
        for account in everybody(court.accounts)
    ]
    return modules + sum(own)


def of(court, account: LocalAccount) -> int:
    return court.reader.token_balance(account.address) + court.reader.balance(account.address)


@pytest.fixture(autouse=True)
def _money_is_conserved(court, accounts) -> Iterator[None]:
    yield
    assert wealth(court) == len(everybody(accounts)) * 1_000 * TUSD
    reader = court.reader
    modules = sum(reader.held_for(name) for name in ("escrow", "stake", "market", "court"))
    balances = sum(reader.balance(account.address) for account in everybody(accounts))
    assert reader.ledger_tokens() == modules + balances


@false_verdicts
def a_lie(place: int, verdict: Verdict) -> Verdict:
    """That the wrong answer 5 is a fault: the miner loses a unit and a fine."""
    return Verdict(0, Reason.FALSE_CLAIM, 0, 1) if place == 5 else verdict


def a_wrong_sum(finding: Finding) -> Finding:
    """The honest tree under a unit less."""
    said = finding.attestation
    return replace(finding, attestation=Attestation(said.root, said.units - 1, said.faults))


def that_it_is_malformed(finding: Finding) -> Finding:
    return Finding(MALFORMED, None, "a lie")


def attested_by_liars(
    loop: Loop, lie: Lie, *, store: EmbeddedStore | None = None
) -> tuple[int, list, Sequence[LocalAccount]]:
    """A batch that three liars attested, their nodes, and five honest verifiers that staked
    only after the draw."""
    court = loop.market
    bounty = loop.open_bounty(amount=100 * TUSD)
    liars = court.stake_verifiers(3)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    nodes = [loop.liar(key, lie, store=store, keeper=place == 0) for place, key in enumerate(liars)]
    assert loop.drive(nodes, mined.batch, until=OPEN) is BatchPhase.CHALLENGEABLE
    honest = court.accounts.verifiers[3:]
    for key in honest:
        court.client(key).stake(500 * TUSD)
    return mined.batch, nodes, honest


def assert_honest(loop: Loop, batch_id: int, liars: Sequence[LocalAccount]) -> Batch:
    """The batch settled as it is, the miner has what it earned, the liars lost."""
    court = loop.market
    batch = court.reader.batch(batch_id)
    assert batch.attestation is not None
    assert (batch.attestation.units, batch.attestation.faults) == (TRACES, 0)
    miner = court.accounts.miner
    # The bond came out of its wallet and came back to the ledger.
    assert of(court, miner) >= 1_000 * TUSD + TRACES * PRICE
    verdicts = pull_attested(court.reader, loop.store, batch, timeout=0).verdicts
    assert verdicts[5].reason is Reason.WRONG
    lost = court.deployment.parameters.seat_stake * COURTLY.fraud_bps // 10_000
    for key in liars:
        assert court.reader.verifier(key.address).stake == 500 * TUSD - lost
    return batch


def test_a_false_verdict_is_disputed_overturned_and_paid_right(loop, court, accounts):
    batch, _, honest = attested_by_liars(loop, a_lie)
    watcher = accounts.stranger
    before = of(court, watcher)
    walkers = [loop.tower(watcher), *loop.nodes(honest)]
    assert loop.drive(walkers, batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    settled = assert_honest(loop, batch, accounts.verifiers[:3])
    assert (settled.overturned, settled.rounds) == (1, 2)
    dispute = court.reader.dispute(1)
    assert (dispute.kind, dispute.index, dispute.standing) == (Kind.LEAF, 5, Standing.FALLS)
    assert (dispute.phase, dispute.challenger) == (DisputePhase.CLOSED, watcher.address)
    assert court.reader.dispute_count() == 1
    assert of(court, watcher) > before
    # The five jurors were paid, and three of them or fewer sat in the second committee.
    assert all(court.reader.balance(key.address) >= TUSD // 2 for key in honest)


def test_a_withheld_tree_is_opened_by_a_liar_that_answers(loop, court, accounts, tmp_path):
    private = EmbeddedStore(tmp_path / "private")
    batch, liars, honest = attested_by_liars(loop, a_lie, store=private)
    watcher = accounts.stranger
    before = of(court, watcher)
    walkers = [loop.tower(watcher), *liars, *loop.nodes(honest)]
    loop.drive(walkers, batch, 12, seconds=5)
    dispute = court.reader.dispute(1)
    assert (dispute.kind, dispute.index) == (Kind.OPENING, 5)
    assert court.reader.opening(1).status is OpeningStatus.OPENED
    assert loop.drive(walkers, batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    assert_honest(loop, batch, accounts.verifiers[:3])
    assert court.reader.dispute(1).standing is Standing.FALLS
    assert of(court, watcher) > before


def test_a_withheld_tree_that_nobody_opens_falls(loop, court, accounts, tmp_path):
    private = EmbeddedStore(tmp_path / "private")
    batch, _, honest = attested_by_liars(loop, a_lie, store=private)
    walkers = [loop.tower(accounts.stranger), *loop.nodes(honest)]
    assert loop.drive(walkers, batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    assert_honest(loop, batch, accounts.verifiers[:3])
    dispute = court.reader.dispute(1)
    assert (dispute.kind, dispute.standing, dispute.juries) == (Kind.OPENING, Standing.FALLS, 0)


def test_a_watcher_that_dies_in_an_opening_goes_on_with_it(loop, court, accounts, tmp_path):
    private = EmbeddedStore(tmp_path / "private")
    batch, liars, honest = attested_by_liars(loop, a_lie, store=private)
    # A new watcher for every pass: all it knows is in its journal and on chain.
    for _ in range(14):
        loop.tower(accounts.stranger).run_once()
        liars[0].run_once()
        court.pass_time(2)
    assert court.reader.opening(1).status is OpeningStatus.OPENED
    assert (court.reader.dispute_count(), court.reader.dispute(1).index) == (1, 5)
    walkers = [loop.tower(accounts.stranger), *loop.nodes(honest)]
    assert loop.drive(walkers, batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    assert_honest(loop, batch, accounts.verifiers[:3])


@pytest.mark.parametrize("withheld", [False, True], ids=["leaf", "opening"])
def test_a_watcher_that_dies_before_it_notes_its_dispute_finds_it(
    loop, court, accounts, monkeypatch, tmp_path, withheld
):
    private = EmbeddedStore(tmp_path / "private") if withheld else None
    attested_by_liars(loop, a_lie, store=private)
    tower = loop.tower(accounts.stranger)
    written = Journal.keep_case

    def power_cut(journal: Journal, court_: str, watcher: str, case) -> None:
        if case.dispute is not None:
            raise KeyboardInterrupt
        written(journal, court_, watcher, case)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "keep_case", power_cut)
        with pytest.raises(KeyboardInterrupt):
            tower.run_once()
    assert court.reader.dispute_count() == 1
    for _ in range(3):
        loop.tower(accounts.stranger).run_once()
    assert court.reader.dispute_count() == 1
    journal = Journal(loop.folder / f"watch-{accounts.stranger.address}.sqlite")
    (case,) = journal.open_cases(court.deployment.address("court"), accounts.stranger.address)
    assert case.dispute == 1


def test_a_wrong_sum_falls_without_a_jury(loop, court, accounts):
    batch, _, honest = attested_by_liars(loop, a_wrong_sum)
    watcher = accounts.stranger
    before = of(court, watcher)
    walkers = [loop.tower(watcher), *loop.nodes(honest)]
    walkers[0].run_once()
    assert court.reader.batch(batch).overturned == 1
    assert loop.drive(walkers, batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    assert_honest(loop, batch, accounts.verifiers[:3])
    assert court.reader.dispute_count() == 0
    assert of(court, watcher) > before


def test_a_batch_that_is_called_malformed_is_defended(loop, court, accounts):
    batch, _, honest = attested_by_liars(loop, that_it_is_malformed)
    walkers = [loop.tower(accounts.stranger), *loop.nodes(honest)]
    assert loop.drive(walkers, batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    assert_honest(loop, batch, accounts.verifiers[:3])
    dispute = court.reader.dispute(1)
    assert (dispute.kind, dispute.standing) == (Kind.MALFORMED, Standing.FALLS)


def test_a_watcher_keeps_its_limit_and_its_share(loop, court, accounts):
    batch, _, _ = attested_by_liars(loop, a_lie)
    bond = court.reader.dispute_bond(batch)
    poor = loop.tower(accounts.stranger, max_bonds=bond - 1)
    poor.run_once()
    assert court.reader.dispute_count() == 0
    # Another key looks at half of all batches, and not at this one.
    other = loop.tower(accounts.poster, share=0.5, chance=lambda: 0.5)
    other.run_once()
    loop.tower(accounts.poster, share=0.5, chance=lambda: 0.0).run_once()
    assert court.reader.dispute_count() == 0
    loop.tower(accounts.stranger, max_bonds=bond).run_once()
    assert court.reader.dispute_count() == 1


def test_a_jury_that_lies_is_appealed_once_and_within_the_limit(loop, court, accounts):
    batch, _, others = attested_by_liars(loop, a_lie)
    jurors = [loop.liar(key, a_lie, keeper=place == 0) for place, key in enumerate(others)]
    bond, watcher = court.reader.dispute_bond(batch), accounts.stranger
    poor = loop.tower(watcher, max_appeals=2 * bond - 1)
    poor.run_once()
    for _ in range(20):
        for juror in jurors:
            juror.run_once()
        if court.reader.dispute(1).phase is DisputePhase.APPEALABLE:
            break
        court.anvil.mine(2)
    assert court.reader.dispute(1).standing is Standing.STANDS
    poor.run_once()
    assert court.reader.appeals(1) == ()
    tower = loop.tower(watcher, max_appeals=2 * bond)
    tower.run_once()
    tower.run_once()
    assert court.reader.appeals(1) == (Appeal(watcher.address, Standing.STANDS, 2 * bond),)
    # Everybody has sat: no larger jury can be drawn, and the appeal costs nothing.
    assert loop.drive([tower, *jurors], batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    assert court.reader.dispute(1).standing is Standing.STANDS
    assert of(court, watcher) == 1_000 * TUSD - bond


def test_traces_that_are_withheld_after_all_are_not_paid(loop, court, accounts, tmp_path):
    private = EmbeddedStore(tmp_path / "private")
    bounty = loop.open_bounty()
    environment = court.reader.bounty(bounty).terms.environment
    private.put(loop.store.get(Cid(environment, RAW), timeout=0))
    friends = court.stake_verifiers(3)
    mined = loop.miner(store=private).mine(bounty, GROUPS, Arithmetic())
    nodes = [loop.node(key, store=private, keeper=place == 0) for place, key in enumerate(friends)]
    assert loop.drive(nodes, mined.batch, until=OPEN) is BatchPhase.CHALLENGEABLE
    for key in accounts.verifiers[3:]:
        court.client(key).stake(500 * TUSD)
    tower = loop.tower(accounts.stranger, demand_withheld=True)
    tower.run_once()
    assert court.reader.dispute_count() == 0  # they may still come
    court.pass_time(COURTLY.challenge_window // 2)
    walkers = [tower, *loop.nodes(accounts.verifiers[3:])]
    assert loop.drive(walkers, mined.batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    assert court.reader.dispute(1).standing is Standing.FALLS
    assert court.reader.batch(mined.batch).attestation == UNAVAILABLE
    # The checking comes out of its bond, and it earned nothing.
    assert of(court, accounts.miner) < 1_000 * TUSD


def test_an_honest_attestation_is_let_be(loop, court, accounts):
    bounty = loop.open_bounty()
    keys = court.stake_verifiers(3)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    walkers = [*loop.nodes(keys), loop.tower(accounts.stranger)]
    assert loop.drive(walkers, mined.batch, seconds=APPEALS) is BatchPhase.SETTLED
    assert court.reader.dispute_count() == 0


def test_honest_members_defend_what_they_signed(loop, court, accounts):
    bounty = loop.open_bounty()
    keys = court.stake_verifiers(8)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())
    nodes = loop.nodes(keys)
    loop.drive(nodes, mined.batch, until=OPEN)
    griefer = court.client(accounts.stranger)
    before = of(court, accounts.stranger)
    griefer.demand_opening(griefer.batch(mined.batch))
    for _ in range(4):  # root, then eight, four, two
        for node in nodes:
            node.run_once()
        if court.reader.opening(1).status is OpeningStatus.ANSWERED:
            griefer.ask(1, right=False)
    assert loop.drive(nodes, mined.batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    dispute = court.reader.dispute(1)
    assert (dispute.kind, dispute.index, dispute.standing) == (Kind.OPENING, 0, Standing.STANDS)
    assert dispute.juries == 1
    assert of(court, accounts.stranger) == before - dispute.bond
    assert all(court.reader.verifier(key.address).stake == 500 * TUSD for key in keys)


def test_a_conflict_is_narrowed_by_the_keeper(loop, court, accounts):
    bounty = loop.open_bounty()
    keys = court.stake_verifiers(3)
    mined = loop.miner().mine(bounty, GROUPS, Arithmetic())

    @false_verdicts
    def another_lie(place: int, verdict: Verdict) -> Verdict:
        return Verdict(0, Reason.WRONG, 0, 0) if place == 3 else verdict

    members = [
        loop.node(keys[0]),
        loop.liar(keys[1], a_lie, keeper=False),
        loop.liar(keys[2], another_lie, keeper=False),
    ]
    for _ in range(4):
        for node in members:
            node.run_once()
        court.anvil.mine(2)
    round_id = court.reader.batch(mined.batch).round
    assert court.reader.round(round_id).phase is RoundPhase.CLOSED
    for key in accounts.verifiers[3:]:
        court.client(key).stake(500 * TUSD)
    walkers = [*loop.nodes(accounts.verifiers[3:]), members[0]]
    assert loop.drive(walkers, mined.batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    dispute = court.reader.dispute(1)
    assert dispute.kind is Kind.CONFLICT
    assert dispute.standing in (Standing.STANDS, Standing.RIVAL, Standing.FALLS)
    batch = court.reader.batch(mined.batch)
    assert (batch.attestation.units, batch.attestation.faults) == (TRACES, 0)


def test_a_juror_that_dies_between_record_and_commit_signs_what_it_recorded(
    loop, court, accounts, monkeypatch
):
    batch, _, honest = attested_by_liars(loop, a_lie)
    loop.tower(accounts.stranger).run_once()
    keeper = loop.node(honest[0])
    court.anvil.mine(2)
    keeper.run_once()  # the draw
    jury = court.reader.dispute(1).jury
    assert court.reader.round(jury).phase is RoundPhase.COMMITTING
    with monkeypatch.context() as patch:
        patch.setattr(MarketClient, "commit_verdict", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            keeper.run_once()
    assert court.reader.round(jury).committed == 0
    journal = Journal(loop.folder / f"journal-{honest[0].address}.sqlite")
    (salt,) = [row[0] for row in journal._db.execute("SELECT salt FROM votes")]
    walkers = [loop.tower(accounts.stranger), *loop.nodes(honest)]
    assert loop.drive(walkers, batch, 40, seconds=APPEALS) is BatchPhase.SETTLED
    assert court.reader.round(jury).revealed == 5
    kept = {row[0] for row in journal._db.execute("SELECT salt FROM votes")}
    assert salt in kept
    assert_honest(loop, batch, accounts.verifiers[:3])


def _power_cut(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
