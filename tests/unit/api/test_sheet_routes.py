"""What the routes answer about juries."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from simulated_sheets import FUNDS, RATE, gold, grade, log, open_pot, settle

EACH = 8 * RATE
Get = Callable[..., Any]
TRUTH = [4, 3, 2, 0, 4, 0, 1, 3]


def test_a_batch_before_a_jury_and_what_gold_makes_of_its_judges(
    chain: Any, sim: ModuleType, get: Get
) -> None:
    market, calibrator = chain.market, sim.account(40)
    assert get("/bounties/1/pot", 404)["detail"] == "there is no pot of bounty 1"
    open_pot(chain)
    chain.mine(market.commit(1, sim.account(20), 8))
    assert "score sheet" in get("/batches/1/sheets", 404)["detail"]
    turned = [4 - grade for grade in TRUTH]
    grade(chain, 1, 1, [TRUTH, TRUTH, turned])
    settle(chain, 1, 1)
    chain.mine(log("JudgesPaid", batch=1, perSheet=EACH, paidSheets=2))
    gold(chain, 1, [15, *TRUTH[1:7], 3], calibrator)
    seen = get("/batches/1/sheets")
    assert (seen["seats"], seen["committed"], seen["revealed"]) == (3, 3, 3)
    assert (seen["per_sheet"], seen["paid_sheets"]) == (str(EACH), 2)
    assert [one["grades"] for one in seen["sheets"]] == [TRUTH, TRUTH, turned]
    assert [one["paid"] for one in seen["sheets"]] == [str(EACH), str(EACH), "0"]
    assert [one["weight"] for one in seen["sheets"]] == [1, 1, 1]
    assert seen["medians"] == TRUTH
    assert [one["grades"][0] for one in seen["gold"]] == [None]
    assert seen["gold"][0]["grades"][1:] == TRUTH[1:]

    # A second planted batch: eight gold grades are enough to weigh judges by.
    gold(chain, 1, TRUTH, calibrator)
    chain.mine(market.commit(1, sim.account(20), 8))
    grade(chain, 2, 2, [turned, turned, turned])
    assert get("/batches/2/sheets")["medians"] == turned
    weighed = get("/batches/2/sheets", calibrator=calibrator)
    assert [one["weight"] for one in weighed["sheets"]] == [3, 3, 0]
    others = get("/batches/2/sheets", calibrator=sim.account(41))
    assert [one["weight"] for one in others["sheets"]] == [1, 1, 1]
    # Gold that was opened later weighs nobody of an earlier batch.
    first = get("/batches/1/sheets", calibrator=calibrator)
    assert [one["weight"] for one in first["sheets"]] == [1, 1, 1]

    pot = get("/bounties/1/pot")
    assert (pot["per_trace"], pot["funded"], pot["paid"]) == (str(RATE), str(FUNDS), str(2 * EACH))
    assert (pot["set_aside"], pot["open"]) == (str(3 * EACH), 1)
    assert int(pot["available"]) == FUNDS - 5 * EACH
    judge = get(f"/judges/{sim.account(1)}")
    assert (judge["balance"], judge["earned"]) == (str(EACH), str(EACH))
    assert get(f"/judges/{sim.account(3)}")["balance"] == "0"


def test_sheets_that_nobody_showed_have_no_grades(chain: Any, sim: ModuleType, get: Get) -> None:
    open_pot(chain)
    chain.mine(chain.market.commit(1, sim.account(20), 4))
    grade(chain, 1, 1, [None, None, None])
    seen = get("/batches/1/sheets")
    assert (seen["medians"], seen["closed_at"], seen["gold"]) == (None, None, [])
    assert [(one["grades"], one["weight"], one["paid"]) for one in seen["sheets"]] == [
        (None, None, None)
    ] * 3
    get("/batches/1/sheets", 422, calibrator="nobody")
    get("/batches/1/sheets", 422, calibrators=sim.account(1))
