"""A batch whose checkpoint is on its way waits; the node's other duties don't, and nothing is
checked twice meanwhile."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from marketplace.gym.spec import builtin_spec
from marketplace.protocol.errors import CheckpointError, ContentUnavailable
from marketplace.protocol.trace import Tier
from marketplace.protocol.verdict import UNAVAILABLE, Attestation
from verifier_node import checking
from verifier_node.checking import BatchChecker, Finding
from verifier_node.duties import Done, Duty
from verifier_node.fetching import InVain, OnItsWay
from verifier_node.passes import attend
from verifier_node.voting import Voter
from verifier_node.watchtower import Watchtower

BATCH = SimpleNamespace(id=1, bounty=1, root=bytes(32), count=1)


class Download:
    """What a check of tier B runs into. state: what `ask` raises."""

    def __init__(self):
        self.asked, self.state = 0, None

    def ask(self):
        self.asked += 1
        if self.state is not None:
            self.state.again = self.ask
            raise self.state


def _in_vain(age):
    error = InVain("nobody serves it")
    error.age = age
    return error


@pytest.fixture
def download():
    return Download()


@pytest.fixture
def checks(monkeypatch, download):
    """How often a batch was checked up to its checkpoint."""
    found = []

    def check_batch(*_, **__):
        found.append(1)
        download.ask()
        return SimpleNamespace(verdicts=(), attestation=Attestation(b"r" * 32, 3, 0))

    terms = SimpleNamespace(environment=bytes(32), tier=Tier.C)
    monkeypatch.setattr(checking, "fetch_spec", lambda *_: builtin_spec("chain_sum"))
    monkeypatch.setattr(checking, "fetch_batch", lambda *_: b"")
    monkeypatch.setattr(checking, "batch_terms", lambda *_: terms)
    monkeypatch.setattr(checking, "open_batch", lambda *_, **__: [])
    monkeypatch.setattr(checking, "check_batch", check_batch)
    return found


@pytest.fixture
def checker(checks):
    terms = SimpleNamespace(environment=bytes(32), tier=Tier.C)
    reader = SimpleNamespace(
        bounty=lambda ident: SimpleNamespace(id=ident, terms=terms),
        first_drawn_with=lambda batch: bytes(32),
    )
    store = SimpleNamespace(has=lambda cid: True, put=lambda data: None)
    pool = SimpleNamespace(assets=None)
    return BatchChecker(reader, store, pool, fetch_seconds=0, scorer_for=None)


def test_while_it_is_on_its_way_there_is_nothing_to_say_and_nothing_is_checked(
    checker, checks, download
):
    download.state = OnItsWay("on its way")
    for asked in (1, 2, 3):
        with pytest.raises(OnItsWay):
            checker.find(BATCH)
        assert (len(checks), download.asked) == (1, asked)
    download.state = None
    assert checker.find(BATCH).attestation.units == 3
    assert len(checks) == 2


def test_what_was_waited_for_in_vain_is_unavailable_since_then(checker, checks, download):
    download.state = _in_vain(12.5)
    for _ in range(3):
        found = checker.find(BATCH)
        assert (found.attestation, found.age, found.note) == (UNAVAILABLE, 12.5, "nobody serves it")
    assert len(checks) == 1
    download.state = None
    assert checker.find(BATCH).attestation.units == 3


def test_what_has_come_and_can_t_be_used_is_found_by_the_check(checker, checks, download):
    download.state = OnItsWay("on its way")
    with pytest.raises(OnItsWay):
        checker.find(BATCH)
    download.state = CheckpointError("no manifest")
    assert checker.find(BATCH).attestation == UNAVAILABLE
    assert len(checks) == 2


def test_other_duties_of_a_pass_go_on(caplog):
    def one(ident):
        if ident < 3:
            raise OnItsWay("on its way")
        return Done(ident, Duty.REVEAL, "in time")

    assert [done.batch for done in attend("batch", [1, 2, 3], one)] == [3]
    assert not caplog.records  # nothing has failed


@pytest.mark.parametrize(("age", "waits"), [(0.0, False), (9.0, False), (11.0, True)])
def test_what_is_published_before_the_patience_is_over_must_have_been_looked_for(age, waits):
    client = SimpleNamespace(
        head=lambda: SimpleNamespace(timestamp=1060),
        parameters=SimpleNamespace(commit_window=100),
    )
    voter = Voter(client, None, patience=0.5)
    assert voter.must_wait(SimpleNamespace(drawn_at=1000), age) is waits


@pytest.mark.parametrize(("now", "waits"), [(1040, True), (1051, False)])
def test_a_watcher_moves_in_time_without_a_checkpoint_that_does_not_come(now, waits):
    def find(_):
        raise OnItsWay("on its way")

    client = SimpleNamespace(
        head=lambda: SimpleNamespace(timestamp=now),
        parameters=SimpleNamespace(opening_window=100),
        deployment=SimpleNamespace(address=lambda _: "0x"),
        address="0x",
    )
    tower = Watchtower(client, None, None, SimpleNamespace(find=find), max_bonds=0)
    opening = SimpleNamespace(deadline=1100)
    if waits:
        with pytest.raises(OnItsWay):
            tower._found(BATCH, opening)
    else:
        assert tower._found(BATCH, opening) is None


@pytest.mark.parametrize(("age", "over"), [(0.0, True), (11.0, False)])
def test_traces_count_as_withheld_where_they_were_looked_for_late_enough(age, over):
    client = SimpleNamespace(
        head=lambda: SimpleNamespace(timestamp=1060),
        parameters=SimpleNamespace(challenge_window=100),
        deployment=SimpleNamespace(address=lambda _: "0x"),
        address="0x",
    )
    tower = Watchtower(client, None, None, None, max_bonds=0)
    finding = Finding(UNAVAILABLE, None, "", age=age)
    assert tower._half_over(SimpleNamespace(attested_at=1000), finding) is over


def test_in_vain_is_of_content_that_others_had_to_provide():
    assert isinstance(_in_vain(0.0), ContentUnavailable)
    assert not isinstance(OnItsWay(""), ContentUnavailable)
