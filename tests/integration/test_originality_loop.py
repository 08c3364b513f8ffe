"""Copies on a real Anvil: two miners, whose tasks are the same few questions, tier C."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from loop_kit import Loop

from marketplace.chain.records import BatchPhase, PayRule
from marketplace.cli.mining import screened
from marketplace.gym.environment import Environment
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import environment_id, parse_spec, spec_bytes
from marketplace.miner.originals import Screened
from marketplace.protocol.seeds import task_seed
from marketplace.protocol.trace import Trace, encode_line
from marketplace.protocol.verdict import Reason
from marketplace.storage.cid import Cid
from marketplace.storage.embedded import EmbeddedStore
from verifier_node.checking import BatchChecker
from verifier_node.sold import SoldIndex

GROUPS, SIZE = 2, 2

# 36 questions, so that two miners with 16 tasks each meet on some.
SPEC = parse_spec(
    b'{"v":1,"name":"few","source":{"kind":"reasoning_gym","task":"leg_counting",'
    b'"config":{"min_animals":1,"max_animals":1,"min_instances":1,"max_instances":1}},'
    b'"answer":{"kind":"last_line"},"scoring":{"kind":"exact"},"holdout_ppm":0,'
    b'"originality":{"earlier":100,"near":{}},'
    b'"packages":{"reasoning-gym":"0.1.25","datasketch":"2.0.0"}}'
)

WORKING = (
    "We start from what is known of the animal, count the limbs on one side of its body, and take "
    "them twice, for both sides are alike. The count that we end with is the result, which "
    "stands alone below."
)


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as pool:
        yield pool


def lightly_edited(text: str) -> str:
    return text.replace("We start", "  I  begin").replace("alone", "ALONE")


def test_copies_of_what_was_bought_are_worth_nothing(market, pool, tmp_path, accounts):
    loop = Loop(market, pool, tmp_path)
    data = spec_bytes(SPEC)
    loop.store.put(data)
    market.client(accounts.poster).register_environment(environment_id(data))
    bounty = market.open_bounty(
        environment=environment_id(data), pay_rule=PayRule.CORRECT, group_size=SIZE
    )
    environment = Environment(SPEC)
    nodes = loop.nodes(market.stake_verifiers(5))
    reader = market.reader
    told: dict[str, str] = {}  # question to the original's text

    def left_out(account, assignment, lines) -> Screened:
        client, terms = market.client(account), reader.bounty(bounty)
        sold = SoldIndex(tmp_path / f"miner-{account.address}.sqlite")
        return screened(
            client, loop.store, sold, pool, terms, environment, assignment, lines, fetch_seconds=0
        )

    screens: list[Screened] = []

    def sell(account, say, groups) -> tuple[int, list[str]]:
        miner = loop.miner(account)
        terms = reader.bounty(bounty)
        assignment = miner.enrol(bounty)
        lines, questions = [], []
        for task in range(assignment.next_task, assignment.next_task + groups):
            seed = task_seed(
                terms.terms.environment, bounty, account.address, assignment.seed, task
            )
            found = environment.task(seed)
            questions.append(found.question)
            for sample in range(SIZE):
                lines.append(
                    encode_line(
                        Trace(
                            task=task,
                            sample=sample,
                            prompt=found.prompt,
                            completion=say(found, sample),
                            tokens=None,
                            logprobs=None,
                            finish="stop",
                            checkpoint=None,
                            model="tests",
                            temperature=1.0,
                            max_tokens=256,
                            claimed_score=None,
                        )
                    )
                )
        screens.append(left_out(account, assignment, lines))
        mined = miner.commit_and_publish(miner.spool(terms, assignment, lines))
        return mined.batch, questions

    def original(task, sample) -> str:
        # Of the group's two, one is right: each question is bought once.
        right = f"{WORKING}\n{task.answer}"
        told.setdefault(task.question, right)
        return right if sample == 0 else "no idea"

    first, questions = sell(accounts.miner, original, 16)
    assert loop.drive(nodes, first) is BatchPhase.SETTLED
    assert reader.batch(first).attestation.units == len(set(questions))

    copies: list[str] = []

    def copied(task, sample) -> str:
        if task.question not in told:
            return "no idea"
        copies.append(task.question)
        text = told[task.question]
        return text if sample == 0 else lightly_edited(text)

    second, asked = sell(accounts.other_miner, copied, 16)
    assert loop.drive(nodes, second) is BatchPhase.SETTLED
    assert copies  # the miners met on some questions
    # The miner could have known, before it paid for the check.
    assert [one.copies for one in screens] == [screens[0].copies, len(copies)]
    assert screens[1].left_out == SIZE * len(
        list(takewhile(lambda question: question in told, reversed(asked)))
    )
    batch = reader.batch(second)
    assert (batch.attestation.units, batch.attestation.faults) == (0, 0)

    # A node that comes late, with nothing but chain and store, says the same; so does one that
    # keeps its index, before and after a restart with an emptied store.
    path = tmp_path / "sold.sqlite"
    for sold in (None, SoldIndex(path)):
        checker = BatchChecker(
            reader, loop.store, pool, fetch_seconds=0, scorer_for=None, sold=sold
        )
        late = checker.find(batch)
        assert late.attestation == batch.attestation
        found = [one.reason for one in late.check.verdicts]
        assert found.count(Reason.DUPLICATE) == len(copies)
    poor = EmbeddedStore(tmp_path / "poor")
    poor.put(data)
    content = reader.batch_content(second)
    poor.put(loop.store.get(Cid.from_chain(content.digest, content.codec), timeout=0))
    kept = BatchChecker(
        reader, poor, pool, fetch_seconds=0, scorer_for=None, sold=SoldIndex(path)
    ).find(batch)
    assert kept.attestation == batch.attestation
    assert kept.complete
    # Without either, what can't be had counts as never bought, and the node says so.
    lost = BatchChecker(reader, poor, pool, fetch_seconds=0, scorer_for=None).find(batch)
    assert not lost.complete
    assert lost.attestation.units > 0
    # The original is judged as ever, also now: what came later does not count against it.
    again = BatchChecker(reader, loop.store, pool, fetch_seconds=0, scorer_for=None)
    assert again.find(reader.batch(first)).attestation == reader.batch(first).attestation
