"""`mine --endpoint`: a miner that brings a model behind an OpenAI-compatible server, tier C."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from loop_kit import Loop
from served import completing

from marketplace.chain.records import BatchPhase
from marketplace.gym.pool import CheckPool
from marketplace.miner.endpoint import OpenAICompatibleSampler
from marketplace.protocol.verdict import Reason
from trainer.pull import pull_attested

SIZE = 4


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A server that answers sums, one of the samples of each prompt wrong."""
    groups = count()

    def answer(body: dict) -> dict:
        left, sign, right = re.findall(r"(-?\d+) ([+-]) (\d+) =", body["prompt"])[-1]
        answer = int(left) + int(right) * (1 if sign == "+" else -1)
        group = next(groups)  # two tasks may ask the same, and a copy is worth nothing
        texts = [
            f"Sample {place} of group {group}:\n{answer + (place == 0)}"
            for place in range(body["n"])
        ]
        choices = [
            {"index": place, "text": text, "finish_reason": "stop"}
            for place, text in enumerate(texts)
        ]
        return {"choices": choices}

    with completing(answer) as url:
        yield url


def test_traces_of_any_model_are_sold_at_tier_c(market, tmp_path, endpoint):
    with CheckPool(workers=1) as pool:
        loop = Loop(market, pool, tmp_path)
        bounty = loop.open_bounty()
        keys = market.stake_verifiers(3)
        mined = loop.miner().mine(bounty, 2, OpenAICompatibleSampler(endpoint, "some-model"))
        assert loop.drive(loop.nodes(keys), mined.batch) is BatchPhase.SETTLED
        batch = market.reader.batch(mined.batch)
        opened = pull_attested(market.reader, loop.store, batch, timeout=0)
    assert [verdict.reason for verdict in opened.verdicts] == (
        [Reason.WRONG, Reason.CORRECT, Reason.CORRECT, Reason.CORRECT] * 2
    )
    assert batch.attestation.units == 2 * SIZE
