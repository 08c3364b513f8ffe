"""The verifier's dilemma: by hand, and against the simulation of benchmarks/audits."""

import importlib.util
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.laziness import (
    Dilemma,
    audited,
    break_even_rate,
    break_even_scale,
    mixed,
    ordinary,
)

SCRIPT = Path(__file__).parents[3] / "benchmarks/audits/simulate.py"
# Fees 30 and checking 10 for the batch; late 100, incoherent 200, fraud 1000; a juror gains 4.
DILEMMA = Dilemma(3, 3, 30, 10, 4, 100, 200, 1000)


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("audit_simulation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_an_ordinary_batch() -> None:
    assert (ordinary(DILEMMA).lazy, ordinary(DILEMMA).honest) == (10, 0)


def test_two_lazy_of_ten_by_hand() -> None:
    # One lazy member (7/15): it loses 100. Two (1/15): both lose 1000, the third member has checked
    # for 10, seven jurors gain 4 each, and a fresh committee's fees cover all four checks but that.
    found = audited(DILEMMA, 10, 2)
    assert found.lazy == pytest.approx((7 / 15 * -100 + 1 / 15 * -2000) / 0.6)
    assert found.honest == pytest.approx(1 / 15 * (-10 + 28) / 2.4)
    assert break_even_rate(DILEMMA, 10, 2) == pytest.approx(10 / 310.5)


def test_no_jury_and_the_lie_stands() -> None:
    # Six verifiers leave three, a jury needs four: two lazy members earn their fee, the honest one
    # is out of line. C(2,2) C(4,1) / C(6,3) = 1/5; one lazy member 3/5.
    found = audited(DILEMMA, 6, 2)
    assert found.lazy == pytest.approx((3 / 5 * -100 + 1 / 5 * 2 * 10) / 1)
    # 3/5: two paid 10 each, checking 10 each; 1/5: three of them; 1/5: checks, loses 200.
    assert found.honest == pytest.approx(1 / 5 * (-10 - 200) / 2)


def test_a_void_batch_pays_nobody() -> None:
    # Nine of ten lazy, one round: the batch is void; the honest member that sat has its 10 lost.
    once = replace(DILEMMA, rounds=1)
    found = audited(once, 10, 9)
    juror = 7 * 4 / 7
    assert found.honest * 0.3 == pytest.approx(0.3 * -10 + 0.7 * juror)


def test_break_even_of_the_stake() -> None:
    # At 5 % audits penalties cost a lazy seat 0.05 x 300 = 15; without them laziness is 9.475 up:
    # 0.95 x 10 spared, less the 0.05 x 0.5 that honest members gain on juries.
    scale = break_even_scale(DILEMMA, 10, 2, 0.05)
    assert scale is not None
    scaled = replace(DILEMMA, late=100 * scale, incoherence=200 * scale, fraud=1000 * scale)
    assert mixed(scaled, 10, 2, 0.05).advantage == pytest.approx(0, abs=1e-9)
    assert scale == pytest.approx(9.475 / 15)
    assert break_even_scale(DILEMMA, 10, 2, 0.0) is None


def test_auditing_nothing_never_makes_laziness_lose() -> None:
    free = replace(DILEMMA, fees=0, late=0, incoherence=0, fraud=0)
    assert mixed(DILEMMA, 10, 2, 0.0).advantage == 10
    assert break_even_rate(free, 10, 2) is None


@pytest.mark.parametrize(("seats", "lazy"), [(10, 0), (10, 10), (2, 1)])
def test_there_must_be_both_kinds(seats, lazy) -> None:
    with pytest.raises(InvalidValue, match="lazy of"):
        audited(DILEMMA, seats, lazy)


@pytest.mark.parametrize(
    ("seats", "lazy", "rate"),
    [(20, 1, 0.1), (20, 8, 0.1), (20, 15, 0.5), (10, 2, 0.05), (6, 2, 1.0), (10, 9, 1.0)],
)
def test_the_simulation_agrees(simulation, seats, lazy, rate) -> None:
    paid = replace(DILEMMA, fees=45)  # else an honest member's profit is always nothing
    found = simulation.measure(paid, seats, lazy, rate, 3000, seed=7)
    exact = mixed(paid, seats, lazy, rate)
    for name in ("lazy", "honest", "advantage"):
        error = getattr(found, f"{name}_error")
        assert error > 0
        assert abs(getattr(found, name) - getattr(exact, name)) < 3 * error


def test_the_simulation_uses_the_presets_constants(simulation) -> None:
    found = simulation.standard()
    assert (found.committee, found.rounds) == (5, 3)
    assert (found.late, found.incoherence, found.fraud) == (10, 20, 100)
    assert found.fees == pytest.approx(2.048)
    assert found.juror_gain == pytest.approx(0.4998)


def test_the_committed_results_are_of_these_constants(simulation) -> None:
    results = json.loads((SCRIPT.parent / "results.json").read_text("utf-8"))
    seat = {"seat_stake": float(simulation.STANDARD.seat_stake)}
    assert results["constants"] == asdict(simulation.standard()) | seat
    assert results["batches"] == 20_000
    for one in [*results["by_rate"], *results["by_stake"]]:
        assert one["errors_apart"] < 4
