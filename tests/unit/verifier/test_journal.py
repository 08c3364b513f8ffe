"""The verifier's journal: one vote for one question, and nothing lost."""

from __future__ import annotations

import resource
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from marketplace.protocol.errors import ConfigError, JournalConflict, StorageError
from marketplace.protocol.verdict import Attestation
from verifier_node.journal import Case, Journal, Question, Sheet, SheetKey, Stance, Vote
from verifier_node.passes import watch

QUESTION = Question(31337, "0x" + "11" * 20, 7, b"s" * 32, "0x" + "22" * 20)
VOTE = Vote(Attestation(b"r" * 32, 5, 1), b"x" * 32, "bafkexample")
KEY = SheetKey(31337, "0xsheets", 7, b"r" * 32, "0xverifier")
SHEET = Sheet(b"\x43", b"s" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node" / "journal.sqlite"


def test_a_recorded_vote_survives_the_process(path: Path) -> None:
    first = Journal(path)
    assert first.find(QUESTION) is None
    first.record(QUESTION, VOTE)
    # No close(): the process died.
    assert Journal(path).find(QUESTION) == VOTE


def test_the_same_vote_again_is_fine_and_another_is_refused(path: Path) -> None:
    journal = Journal(path)
    journal.record(QUESTION, VOTE)
    journal.record(QUESTION, VOTE)
    for other in (
        replace(VOTE, attestation=Attestation(b"q" * 32, 5, 1)),
        replace(VOTE, attestation=Attestation(b"r" * 32, 6, 1)),
        replace(VOTE, salt=b"y" * 32),
    ):
        with pytest.raises(JournalConflict, match="round 7"):
            journal.record(QUESTION, other)
    assert journal.find(QUESTION) == VOTE


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 1},
        {"rounds": "0x" + "33" * 20},
        {"round": 8},
        {"subject": b"t" * 32},
        {"verifier": "0x" + "44" * 20},
    ],
)
def test_another_question_has_its_own_vote(path: Path, change: dict[str, object]) -> None:
    journal = Journal(path)
    journal.record(QUESTION, VOTE)
    other = replace(QUESTION, **change)
    assert journal.find(other) is None
    journal.record(other, replace(VOTE, salt=b"z" * 32))
    assert journal.find(QUESTION) == VOTE


def test_salts_are_readable_by_the_owner_alone(path: Path) -> None:
    Journal(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_batches_are_watched_from_the_cursor_on(path: Path) -> None:
    journal = Journal(path)
    assert journal.cursor("m") is None
    journal.advance("m", 10, [3, 1])
    journal.advance("m", 12, [3, 4])
    journal.forget("m", 1)
    again = Journal(path)
    assert again.cursor("m") == 12
    assert again.watched("m") == [3, 4]
    assert again.watched("other") == []


def test_a_file_that_is_no_journal_is_named(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(ConfigError, match=r"journal\.sqlite"):
        Journal(path)


def test_a_journal_of_another_version_is_refused(path: Path) -> None:
    Journal(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    with pytest.raises(ConfigError, match="99"):
        Journal(path)


def test_a_case_survives_the_process_and_is_open_until_it_is_finished(path: Path) -> None:
    case = Case(7, b"r" * 32, 0, Stance.OPENING, verdicts=b"file")
    Journal(path).keep_case("court", "me", case)
    again = Journal(path)
    assert again.open_cases("court", "me") == [case]
    assert again.case("court", "me", 7, b"r" * 32, 0) == case
    # Another watcher, court or attestation is another case.
    assert again.open_cases("court", "you") == []
    assert again.case("elsewhere", "me", 7, b"r" * 32, 0) is None
    assert again.case("court", "me", 7, b"r" * 32, 1) is None
    again.keep_case("court", "me", replace(case, dispute=3))
    assert [one.dispute for one in again.open_cases("court", "me")] == [3]
    for stance in (Stance.PASSED, Stance.AGREED, Stance.LEFT, Stance.DONE):
        again.keep_case("court", "me", replace(case, stance=stance))
        assert again.open_cases("court", "me") == []


@pytest.mark.parametrize(("version", "later"), [(1, ("cases", "sheets")), (2, ("sheets",))])
def test_a_journal_of_an_earlier_version_is_taken_over(
    path: Path, version: int, later: tuple[str, ...]
) -> None:
    journal = Journal(path)
    journal.record(QUESTION, VOTE)
    journal.close()
    database = sqlite3.connect(path)
    for table in later:
        database.execute(f"DROP TABLE {table}")
    database.execute(f"PRAGMA user_version = {version}")
    database.commit()
    database.close()
    taken = Journal(path)
    assert taken.find(QUESTION) == VOTE
    taken.keep_case("court", "me", Case(1, b"r" * 32, 0, Stance.LEAF, place=4))
    assert Journal(path).open_cases("court", "me")[0].place == 4
    taken.record_sheet(KEY, SHEET)
    assert Journal(path).find_sheet(KEY) == SHEET


def test_a_sheet_is_recorded_once(path: Path) -> None:
    journal = Journal(path)
    assert journal.find_sheet(KEY) is None
    journal.record_sheet(KEY, SHEET)
    journal.record_sheet(KEY, SHEET)
    again = Journal(path)
    assert again.find_sheet(KEY) == SHEET
    # A judge that changed its mind, or its salt, does not get to choose.
    for other in (Sheet(b"\x40", SHEET.salt), Sheet(SHEET.sheet, b"o" * 32)):
        with pytest.raises(JournalConflict, match="batch 7 is already graded"):
            again.record_sheet(KEY, other)
    assert again.find_sheet(KEY) == SHEET
    # The same batch number with other content is another question.
    assert again.find_sheet(replace(KEY, root=b"q" * 32)) is None


@pytest.fixture
def full(path: Path) -> Iterator[Journal]:
    """A journal with a vote, whose disk is full from then on."""
    journal = Journal(path)
    journal.record(QUESTION, VOTE)
    journal.advance("market", 10, [3])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    yield journal
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_that_was_expected(full: Journal) -> None:
    other = replace(QUESTION, round=8)
    case = Case(7, b"r" * 32, 0, Stance.AGREED)
    for write in (
        lambda: full.record(other, VOTE),
        lambda: full.record_sheet(KEY, SHEET),
        lambda: full.keep_case("court", "watcher", case),
        lambda: full.advance("market", 11, [4]),
        lambda: full.forget("market", 3),
    ):
        with pytest.raises(StorageError, match=r"journal\.sqlite can't be written: ") as caught:
            write()
        assert "no transaction" not in str(caught.value)
    assert full.find(QUESTION) == VOTE  # what is to be revealed can be
    assert full.find(other) is None


def test_what_is_open_is_attended_though_the_disk_is_full(full: Journal) -> None:
    """A reveal needs no disk, and each that is missed is paid for."""
    events = [
        SimpleNamespace(name="Opened", args={"batch": 4}),
        SimpleNamespace(name="Closed", args={"batch": 2}),
    ]
    client = SimpleNamespace(
        head=lambda: SimpleNamespace(number=20),
        deployment=SimpleNamespace(block=1),
        events=lambda *_, **__: events,
    )
    found = watch(client, full, "market", begins="Opened", ends=["Closed"], field="batch")
    assert found == [3, 4]
    assert full.cursor("market") == 10
