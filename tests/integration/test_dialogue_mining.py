"""Dialogues from the miner to settlement: a sampler taken through the turns, a forger beside it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import Loop

from marketplace.chain.records import BatchPhase, Tier
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import builtin_spec, environment_id, spec_bytes
from marketplace.miner.sampler import Completion, SamplingRules
from marketplace.protocol.errors import ConfigError
from marketplace.protocol.verdict import Reason
from trainer.pull import pull_attested


class Shopper:
    """Calls the store's tools as the prompt says; every second conversation guesses instead."""

    model = "shopper"

    def sample(
        self, prompts: Sequence[str], rules: SamplingRules, *, seed: int
    ) -> Iterator[tuple[Completion, ...]]:
        for place, prompt in enumerate(prompts):
            said = re.findall(r"^tool: (.*)$", prompt, re.MULTILINE)
            keys = re.findall(r"'([^']+)'", prompt.partition("knows the keys")[2])
            count = re.search(r"I buy (\d+)", prompt)
            assert count is not None
            if len(said) < 2:
                record: dict[str, object] = {"tool": "lookup", "key": keys[len(said)]}
            elif len(said) == 2:
                # No two conversations alike: copies in a group are worth nothing.
                own = f"{count[1]} * {said[0]} + {said[1]} + {place} - {place}"
                record = {"tool": "calculate", "expression": own}
            else:
                record = {"answer": int(said[2])}
            if len(prompts) == 8 and place % 2:
                record = {"answer": -1 - place}
            yield (Completion(json.dumps(record), None, None, "stop"),)


@pytest.fixture(scope="module")
def pool():
    with CheckPool(workers=1) as pool:
        yield pool


def opened_bounty(loop: Loop, **terms: object) -> int:
    """A bounty on the store's tools."""
    data = spec_bytes(builtin_spec("store_tools"))
    loop.store.put(data)
    poster = loop.market.client(loop.market.accounts.poster)
    poster.register_environment(environment_id(data))
    return loop.open_bounty(environment=environment_id(data), **terms)


def test_dialogues_are_mined_checked_and_paid_at_tier_c(market, pool, tmp_path):
    loop = Loop(market, pool, tmp_path)
    bounty = opened_bounty(loop)
    keys = market.stake_verifiers(3)
    mined = loop.miner().mine(bounty, 2, Shopper())
    assert loop.drive(loop.nodes(keys), mined.batch) is BatchPhase.SETTLED
    batch = market.reader.batch(mined.batch)
    opened = pull_attested(market.reader, loop.store, batch, timeout=0)
    assert [verdict.reason for verdict in opened.verdicts] == [Reason.CORRECT, Reason.WRONG] * 4
    assert batch.attestation.units > 0
    assert batch.attestation.faults == 0


def test_tier_b_is_refused_before_anything_is_sampled(market, pool, tmp_path):
    loop = Loop(market, pool, tmp_path)
    bounty = opened_bounty(loop, tier=Tier.B, trainer=market.accounts.trainer.address)
    with pytest.raises(ConfigError, match=r"tier B, and its environment 'store_tools'"):
        loop.miner().mine(bounty, 1, Shopper(), checkpoint=1)
