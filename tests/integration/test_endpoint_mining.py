"""`mine --endpoint`: a miner that brings a model behind an OpenAI-compatible server, tier C."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI, Request

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import Loop

from marketplace.chain.records import BatchPhase
from marketplace.gym.pool import CheckPool
from marketplace.miner.endpoint import OpenAICompatibleSampler
from marketplace.protocol.verdict import Reason
from trainer.pull import pull_attested

SIZE = 4


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A server that answers sums, one of the samples of each prompt wrong."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions(request: Request) -> dict:
        body = await request.json()
        left, sign, right = re.findall(r"(-?\d+) ([+-]) (\d+) =", body["prompt"])[-1]
        answer = int(left) + int(right) * (1 if sign == "+" else -1)
        texts = [f"Sample {place}:\n{answer + (place == 0)}" for place in range(body["n"])]
        choices = [
            {"index": place, "text": text, "finish_reason": "stop"}
            for place, text in enumerate(texts)
        ]
        return {"choices": choices}

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()


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
