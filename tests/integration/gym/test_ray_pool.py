"""The Ray executor gives what the pool gives, also when a machine is lost in the middle.

A cluster takes many seconds to start, so all but the first tests are deep.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marketplace.gym.jobs import CheckItem, CheckResult, Header, Status, packed, results_of
from marketplace.gym.pool import CheckPool
from marketplace.gym.ray_pool import RayPool, RemoteWorker
from marketplace.gym.spec import EnvironmentSpec
from marketplace.protocol.errors import EnvironmentMismatch, SpecError

FACTORY = "misbehaving_environment:MisbehavingEnvironment"
SEED = b"\x07" * 32
MIXED = ("fine", "raise", "wrong", "crash", "fine", "1.7", "half", "unreadable")


def small_spec(name: str = "small", seconds: float = 2.0) -> EnvironmentSpec:
    return EnvironmentSpec.model_validate(
        {
            "v": 1,
            "name": name,
            "source": {"kind": "math_answer", "families": ("linear",)},
            "scoring": {"kind": "exact"},
            "limits": {"seconds": seconds, "memory_mb": 64, "max_chars": 100},
        }
    )


def told(results: list[CheckResult]) -> list[tuple[Any, ...]]:
    return [(one.status, one.score, one.reason) for one in results]


def test_an_actor_keeps_a_worker_and_survives_its_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    spec = small_spec()
    actor = RemoteWorker(0)
    actor.begin(Header(FACTORY, spec, None).message, {})
    items = [CheckItem(SEED, text) for text in ("fine", "crash", "wrong")]
    answer = actor.answer(packed(items))
    assert answer is not None
    statuses = [one.status for one in results_of(spec, 3, answer)]
    assert statuses == [Status.OK, Status.ERROR, Status.OK]
    assert actor.answer(packed([CheckItem(SEED, "kill the worker")])) is None
    again = actor.answer(packed(items))
    assert again is not None
    assert told(results_of(spec, 3, again)) == told(results_of(spec, 3, answer))


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentMismatch) as caught:
        RayPool()
    assert caught.value.fix == "pip install 'tracemarket[ray]'"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        folder = str(Path(__file__).parent)
        patch.setenv("PYTHONPATH", ":".join([folder, *filter(None, sys.path)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.syspath_prepend(folder)
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,  # the driver's, if it is not put on another
                "include_dashboard": False,
                "object_store_memory": 100 << 20,
                "_system_config": {
                    "health_check_initial_delay_ms": 0,
                    "health_check_period_ms": 500,
                    "health_check_failure_threshold": 4,
                },
            },
        )
        made.others = [made.add_node(num_cpus=1, object_store_memory=100 << 20) for _ in range(2)]
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.mark.deep
def test_a_cluster_gives_what_the_pool_gives(cluster: Any, tmp_path: Path) -> None:
    items = [CheckItem(SEED, MIXED[place % len(MIXED)]) for place in range(200)]
    items.insert(100, CheckItem(SEED, "spin"))
    spec = small_spec(seconds=0.3)
    with CheckPool(1, factory=FACTORY) as pool:
        expected = told(pool.check(spec, items))
    with RayPool(cluster.address, factory=FACTORY, chunk_items=16, assets=tmp_path) as pool:
        assert told(pool.check(spec, items)) == expected
        with pytest.raises(SpecError, match="no such luck"):
            pool.check(small_spec("unbuildable"), items)
        assert told(pool.check(spec, items[:20])) == expected[:20]


@pytest.mark.deep
def test_a_machine_that_is_lost_changes_no_verdict(cluster: Any) -> None:
    ray = pytest.importorskip("ray")
    texts = ["fine", "wrong", "half", "unreadable", "raise"]
    items = [CheckItem(SEED, texts[place % 5]) for place in range(3000)]
    spec = small_spec()
    with CheckPool(1, factory=FACTORY) as pool:
        expected = told(pool.check(spec, items))
    results: list[CheckResult] = []
    with RayPool(cluster.address, factory=FACTORY, chunk_items=20) as pool:
        stream = pool.stream(spec, items)
        for result in stream:
            results.append(result)
            if len(results) == 600:
                own = ray.get_runtime_context().get_node_id()  # a driver needs its own machine
                lost = next(one for one in cluster.others if one.node_id != own)
                cluster.remove_node(lost, allow_graceful=False)
    assert told(results) == expected
