"""Score sheets in the index: pots, panels, who was paid, gold, and what reorgs and replays make of
them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from simulated_sheets import FUNDS, RATE, gold, grade, log, open_pot, settle

from marketplace.indexer.queries import Snapshot, open_snapshot
from marketplace.indexer.rows import GOLD_PLANTINGS, JUDGES
from marketplace.indexer.store import IndexStore
from marketplace.protocol.errors import ChainError
from marketplace.protocol.hashing import keccak
from marketplace.protocol.sheets import UNKNOWN

EACH = 4 * RATE
Index = Callable[..., IndexStore]


@pytest.fixture
def look(index: Index) -> Iterator[Callable[[], Snapshot]]:
    """look() -> a snapshot of the chain as it is."""
    opened: list[Any] = []

    def look() -> Snapshot:
        manager = open_snapshot(index().path, lambda: 0)
        opened.append(manager)
        return manager.__enter__()

    yield look
    for manager in opened:
        manager.__exit__(None, None, None)


@pytest.fixture
def graded(chain: Any, sim: ModuleType) -> Any:
    """Batch 1 of four traces: two judges that agree, and one that is far off."""
    open_pot(chain)
    chain.mine(chain.market.commit(1, sim.account(20), 4))
    grade(chain, 1, 1, [[4, 3, 2, 0], [3, 3, 1, 1], [0, 0, 4, 4]])
    return chain


def test_a_panel_from_its_first_commitment_to_its_pay(
    graded: Any, sim: ModuleType, look: Any
) -> None:
    seen = look()
    pot, panel = seen.pot(1), seen.panel(1)
    assert (pot.per_trace, pot.available, pot.open) == (RATE, FUNDS - 3 * EACH, 1)
    assert (panel.per_sheet, panel.seats, panel.committed, panel.revealed) == (EACH, 3, 3, 3)
    assert (panel.closed_at, panel.paid_sheets) == (None, None)
    assert [one.sheet for one in seen.sheets(1)] == ["0x4320", "0x3311", "0x0044"]
    assert seen.sheets(1)[0].commitment == "0x" + keccak(b"sheet 1 0").hex()
    assert [one.paid for one in seen.sheets(1)] == [None] * 3

    settle(graded, 1, 1)
    graded.mine(log("JudgesPaid", batch=1, perSheet=EACH, paidSheets=2))
    seen = look()
    assert [one.paid for one in seen.sheets(1)] == [EACH, EACH, 0]
    assert seen.panel(1).paid_sheets == 2
    assert seen.panel(1).closed_at == graded.head().timestamp
    pot = seen.pot(1)
    assert (pot.available, pot.paid, pot.open) == (FUNDS - 2 * EACH, 2 * EACH, 0)
    assert seen.judge(sim.account(1)).earned == EACH
    assert seen.judge(sim.account(3)).balance == 0

    poster = sim.account(100)
    graded.mine(log("PotRefunded", bounty=1, poster=poster, amount=FUNDS - 2 * EACH))
    graded.mine(log("EarningsWithdrawn", account=sim.account(1), to=poster, amount=EACH))
    seen = look()
    judge, pot = seen.judge(sim.account(1)), seen.pot(1)
    assert (judge.balance, judge.earned, judge.withdrawn) == (0, EACH, EACH)
    assert seen.judge(poster).refunded == FUNDS - 2 * EACH
    assert pot.funded == pot.available + pot.paid + pot.refunded
    assert seen.count(JUDGES) == 3


def test_a_sheet_that_is_not_shown_earns_nothing(chain: Any, sim: ModuleType, look: Any) -> None:
    open_pot(chain)
    chain.mine(chain.market.commit(1, sim.account(20), 4))
    grade(chain, 1, 1, [[4, 3, 2, 0], None, [4, 3, 2, 0]])
    settle(chain, 1, 1)
    chain.mine(log("JudgesPaid", batch=1, perSheet=EACH, paidSheets=2))
    seen = look()
    assert [one.paid for one in seen.sheets(1)] == [EACH, 0, EACH]
    assert seen.sheets(1)[1].sheet is None
    assert seen.pot(1).available == FUNDS - 2 * EACH


def test_a_small_pot_pays_each_less_and_a_release_puts_all_back(
    chain: Any, sim: ModuleType, look: Any
) -> None:
    open_pot(chain, funds=100)
    chain.mine(chain.market.commit(1, sim.account(20), 4))
    grade(chain, 1, 1, [[4, 3, 2, 0]] * 3)
    seen = look()
    assert (seen.panel(1).per_sheet, seen.pot(1).available) == (33, 1)
    chain.mine(chain.market.void(1), log("SheetsReleased", batch=1, amount=99))
    seen = look()
    assert (seen.pot(1).available, seen.pot(1).open, seen.panel(1).paid_sheets) == (100, 0, 0)
    assert [one.paid for one in seen.sheets(1)] == [0, 0, 0]


def test_sheets_before_there_is_a_pot_are_counted_and_earn_nothing(
    chain: Any, sim: ModuleType, look: Any
) -> None:
    chain.mine(chain.market.commit(1, sim.account(20), 4))
    grade(chain, 1, 1, [[4, 3, 2, 0]] * 3)
    assert (look().panel(1).per_sheet, look().pot(1).open) == (0, 1)
    open_pot(chain)
    assert (look().pot(1).per_trace, look().pot(1).open) == (RATE, 1)


@pytest.mark.parametrize(("each", "number"), [(EACH, 3), (EACH, 1), (EACH - 1, 2)])
def test_pay_that_does_not_follow_from_the_sheets_is_noticed(
    graded: Any, index: Index, each: int, number: int
) -> None:
    settle(graded, 1, 1)
    graded.mine(log("JudgesPaid", batch=1, perSheet=each, paidSheets=number))
    with pytest.raises(ChainError, match="batch 1"):
        index()


def test_gold_counts_from_the_block_after_it_was_opened(
    graded: Any, sim: ModuleType, look: Any
) -> None:
    calibrator, other = sim.account(40), sim.account(41)
    graded.mine(log("GoldPlanted", commitment=keccak(b"gold"), planter=calibrator))
    settle(graded, 1, 1)
    gold(graded, 1, [4, UNKNOWN, 2, 0], calibrator)
    gold(graded, 1, [0, 0, 0, 0], other)
    opened = graded.head().number
    graded.mine(graded.market.commit(1, sim.account(20), 4))
    seen = look()
    assert seen.count(GOLD_PLANTINGS) == 1
    assert [row.planter for row in seen.gold_of(1)] == [calibrator, other]
    assert [row.block for row in seen.gold_of(1)] == [opened - 1, opened]
    after = seen.batch(2)
    assert [row.sheet for row in seen.gold_before(after, [calibrator], 64)] == ["0x4f20"]
    assert [row.planter for row in seen.gold_before(after, [calibrator, other], 64)] == [
        other,
        calibrator,
    ]
    assert len(seen.gold_before(after, [calibrator, other], 1)) == 1
    assert seen.gold_before(after, [], 64) == []
    assert seen.gold_before(seen.batch(1), [calibrator], 64) == []


def test_after_a_reorg_and_after_a_replay_the_rows_are_the_same(
    graded: Any, sim: ModuleType, index: Index, dump: Any
) -> None:
    settle(graded, 1, 1)
    graded.mine(log("JudgesPaid", batch=1, perSheet=EACH, paidSheets=2))
    gold(graded, 1, [4, 3, 2, 0], sim.account(40))
    store = index()
    before = dump(store)
    assert before["sheets"]
    assert before["gold"]
    # Back to before the third sheet was shown, which now agrees with the others.
    graded.reorg(7)
    graded.mine(log("SheetRevealed", batch=1, verifier=sim.account(3), seat=2, sheet=b"\x43\x20"))
    settle(graded, 1, 1)
    graded.mine(log("JudgesPaid", batch=1, perSheet=EACH, paidSheets=3))
    index()
    after = dump(store)
    assert after == dump(index("anew.sqlite"))
    assert after["gold"] == []
    assert [row[-1] for row in after["sheets"]] == [str(EACH)] * 3
    store.rebuild()
    assert dump(store) == after
