"""Checks over a real Ray cluster on this machine: the command line's options, and data sets that
travel to the actors. What happens when machines are lost: gym/test_ray_pool.py."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cli_kit import command_line
from loop_kit import COURTLY, Arithmetic, Loop, courtly_market

from marketplace.cli import watching
from marketplace.gym.environment import Environment
from marketplace.gym.jobs import CheckItem
from marketplace.gym.pool import CheckPool
from marketplace.gym.ray_pool import RayPool
from marketplace.gym.spec import EnvironmentSpec, parse_spec
from marketplace.protocol.errors import SpecError
from marketplace.protocol.hashing import keccak
from marketplace.storage.unixfs import cid_of_bytes

CPUS = 2
START_ATTEMPTS = 3
"""Ray gives a machine 30 seconds to start, which a busy one may need."""
TUSD = 10**6


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one machine. Nobody here is connected to it yet."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = Cluster()
        for attempt in range(START_ATTEMPTS):
            try:
                made.add_node(num_cpus=CPUS, include_dashboard=False, object_store_memory=100 << 20)
                break
            except Exception as error:
                if "timed out during startup" not in str(error) or attempt == START_ATTEMPTS - 1:
                    raise
        yield made
        ray.shutdown()
        made.shutdown()


def data_set(folder: Path, first: int) -> EnvironmentSpec:
    """An environment whose data set lies in the folder: which number comes after another."""
    rows = "".join(
        json.dumps({"question": f"What comes after {n}?", "answer": str(n + 1)}) + "\n"
        for n in range(first, first + 40)
    ).encode()
    folder.mkdir(exist_ok=True)
    (folder / str(cid_of_bytes(rows))).write_bytes(rows)
    record = {
        "v": 1,
        "name": f"after-{first}",
        "source": {"kind": "dataset", "cid": str(cid_of_bytes(rows)), "rows": 40},
        "scoring": {"kind": "exact"},
        "limits": {"seconds": 2.0, "memory_mb": 128, "max_chars": 500},
    }
    return parse_spec(json.dumps(record).encode())


def items_of(spec: EnvironmentSpec, folder: Path) -> list[CheckItem]:
    """A right and a wrong answer to each of some tasks."""
    environment = Environment(spec, folder)
    tasks = [environment.task(keccak(bytes([number]))) for number in range(20)]
    return [
        CheckItem(task.seed, text, task.prompt) for task in tasks for text in (task.answer, "no")
    ]


def test_data_sets_travel_to_the_actors(cluster: Any, tmp_path: Path) -> None:
    folder = tmp_path / "assets"
    spec, other = data_set(folder, 100), data_set(folder, 500)
    items, more = items_of(spec, folder), items_of(other, folder)

    def taken_when_the_folder_is_gone() -> Iterator[CheckItem]:
        shutil.rmtree(folder)
        yield from items

    right_and_wrong = [1.0, 0.0] * 20
    with RayPool(cluster.address, chunk_items=8, assets=folder) as pool:
        results = pool.stream(spec, taken_when_the_folder_is_gone())
        assert [one.score for one in results] == right_and_wrong
        with pytest.raises(SpecError, match=f"{other.source.cid} is not here"):
            pool.check(other, more)
        data_set(folder, 500)
        assert [one.score for one in pool.check(other, more)] == right_and_wrong
        # The actors have kept the first one.
        assert [one.score for one in pool.check(spec, items)] == right_and_wrong


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, list[int]]]:
    """Of each pool that the command line makes: its cluster, how many actors it has, and how many
    items it was asked to check."""
    made: list[tuple[str, int, list[int]]] = []

    class Seen(RayPool):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            address = self._ray.get_runtime_context().gcs_address
            made.append((address, len(self._slots), []))

        def stream(self, spec, items, count=None):
            for result in super().stream(spec, items, count):
                made[-1][2].append(1)
                yield result

    def not_here(*_: object, **__: object) -> None:
        raise AssertionError("checks on this machine were not asked for")

    monkeypatch.setattr(watching, "RayPool", Seen)
    monkeypatch.setattr(watching, "CheckPool", not_here)
    return made


@pytest.fixture(scope="module")
def courtly(deploy_once):
    return deploy_once(COURTLY)


@pytest.mark.deep
def test_the_command_lines_options(
    cluster, pools, market, courtly, accounts, tmp_path, monkeypatch, capsys
):
    court = courtly_market(market, courtly, 1_000 * TUSD, (accounts.poster, accounts.miner))
    keys = {"verifier": accounts.verifiers[0]}
    typed = command_line(court.anvil.url, court.deployment, keys, tmp_path, monkeypatch, capsys)

    def run(*words: object) -> str:
        code, out, err = typed(*words, key="verifier")
        assert code == 0, err
        return out

    with CheckPool(1) as pool:
        loop = Loop(court, pool, tmp_path)
        bounty = loop.open_bounty()
        for account in accounts.verifiers[:3]:
            court.reader.mint_test_tokens(account.address, 1_000 * TUSD)
        court.stake_verifiers(3)
        mined = loop.miner().mine(bounty, 3, Arithmetic())
    court.draw(mined.batch)
    run("verifier", "run", "--once", "--executor", "ray", "--ray-address", cluster.address,
        "--workers", 1)  # fmt: skip
    assert [(address, actors, len(done)) for address, actors, done in pools] == [
        (cluster.address, 1, 12)
    ]
    (seat,) = json.loads(run("verifier", "status", "--json"))
    assert (seat["batch"], seat["seat"]) == (mined.batch, "committed")

    monkeypatch.setenv("TRACEMARKET_RAY_ADDRESS", cluster.address)
    run("watch", "--once", "--executor", "ray")
    assert pools[1][:2] == (cluster.address, CPUS)
