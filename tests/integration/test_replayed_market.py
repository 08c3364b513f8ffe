"""Tier A on a real Anvil: what the seed gives is paid, everything else is off policy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from loop_kit import Loop
from tiny_policy import tiny_policy

from marketplace.chain.records import BatchPhase, PayRule
from marketplace.gym.environment import Environment
from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import Policy, completion_logprobs
from marketplace.gym.pool import CheckPool
from marketplace.gym.spec import environment_id, parse_spec, spec_bytes
from marketplace.miner.sampler import TransformersSampler
from marketplace.protocol.hashing import ZERO32
from marketplace.protocol.trace import Tier, decode_line, encode_line
from marketplace.protocol.verdict import Reason
from marketplace.storage.embedded import EmbeddedStore
from trainer.config import TrainSettings
from trainer.pull import pull_attested
from trainer.turn import publish, train_on_batches
from verifier_node.checking import BatchChecker
from verifier_node.checkpoints import CheckpointCache, scorer_maker
from verifier_node.daemon import VerifierNode
from verifier_node.journal import Journal

import torch  # isort: skip  (after the policy, which sets how its threads wait)

GROUPS, SIZE = 4, 4
TUSD = 10**6
SPEC = parse_spec(
    b"""{"v": 1, "name": "yes_or_no",
    "source": {"kind": "reasoning_gym", "task": "syllogism", "config": {}},
    "prompt": {"template": "{question}\\n"}, "scoring": {"kind": "exact"},
    "sampling": {"temperature": 1.0, "max_tokens": 8, "stop": ["\\n"]},
    "packages": {"reasoning-gym": "0.1.25"}}"""
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Says Yes or No, half the time each."""
    torch.set_num_threads(1)
    policy = tiny_policy(0, context=512)
    environment = Environment(SPEC)
    said = [policy.codec.encode(text) for text in ("Yes\n", "No\n")]
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-2)
    for step in range(60):
        prompt = policy.codec.encode(environment.task(bytes([step]) * 32).prompt)
        loss = 0.0
        for completion in said:
            inputs = torch.tensor([[*prompt, *completion]])
            logits = policy.model(input_ids=inputs).logits[0, len(prompt) - 1 : -1]
            loss += torch.nn.functional.cross_entropy(logits, torch.tensor(completion))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    policy.model.eval()
    return policy


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as pool:
        yield pool


class Replaying(Loop):
    """Verifier nodes with a model runtime, and a registered checkpoint."""

    def prepare(self, policy: Policy) -> tuple[int, int]:
        """A tier A bounty and the checkpoint it asks for."""
        market, folder = self.market, self.folder / "base"
        policy.model.save_pretrained(folder)
        policy.tokenizer.save_pretrained(folder)
        trainer = market.client(market.accounts.trainer)
        checkpoint, _ = publish(trainer, self.store, folder, parent=None, root=ZERO32)
        data = spec_bytes(SPEC)
        self.store.put(data)
        ident = environment_id(data)
        market.client(market.accounts.poster).register_environment(ident)
        bounty = market.open_bounty(
            environment=ident,
            tier=Tier.A,
            trainer=market.accounts.trainer.address,
            pay_rule=PayRule.CORRECT,
            group_size=SIZE,
        )
        market.stake_verifiers(3)
        return bounty, checkpoint

    def node(self, key, *, store: EmbeddedStore | None = None, **options: object) -> VerifierNode:
        client = self.market.client(key)
        cache = CheckpointCache(client, self.store, self.folder / f"checkpoints-{key.address}")
        checker = BatchChecker(
            client, self.store, self.pool, fetch_seconds=0, scorer_for=scorer_maker(cache)
        )
        journal = Journal(self.folder / f"journal-{key.address}.sqlite")
        return VerifierNode(client, self.store, journal, checker, fetch_seconds=0, **options)

    def judged(self, batch: int):
        """The attested batch, once verifiers are done with it."""
        keys = self.market.accounts.verifiers[:3]
        assert self.drive(self.nodes(keys), batch) is BatchPhase.SETTLED
        found = self.market.reader.batch(batch)
        pulled = pull_attested(self.market.reader, self.store, found, timeout=0)
        # What picks the groups that a trainer replays, unknown to the miner at its commit.
        if pulled.terms.tier is Tier.A:
            (first, *_) = self.market.reader.rounds_of(batch)
            assert len(pulled.drawn) == 32
            assert pulled.drawn == self.market.reader.drawn_with(first)
        return pulled


@pytest.fixture
def loop(market, pool, tmp_path) -> Replaying:
    return Replaying(market, pool, tmp_path)


def test_what_the_seed_gives_is_paid_and_trained_on(loop, market, accounts, policy, tmp_path):
    bounty, checkpoint = loop.prepare(policy)
    sampler = TransformersSampler(policy, "tiny")
    mined = loop.miner().mine(bounty, GROUPS, sampler, checkpoint=checkpoint)
    opened = loop.judged(mined.batch)

    reasons = [verdict.reason for verdict in opened.verdicts]
    # Equal texts within a group are what the seed gave: paid once, and no lie.
    assert set(reasons) <= {Reason.CORRECT, Reason.WRONG, Reason.DUPLICATE}
    units = sum(Reason.CORRECT in reasons[start : start + SIZE] for start in range(0, 16, SIZE))
    assert units > 0
    assert (opened.attestation.units, opened.attestation.faults) == (units, 0)
    batch = market.reader.batch(mined.batch)
    fine = (GROUPS * SIZE - units) * (TUSD // 50)  # of checking what earned nothing
    assert market.reader.balance(accounts.miner.address) == (
        units * TUSD // 10 + batch.bond - min(fine, batch.bond)
    )
    # The trainer uses it like tier B. (Groups whose texts all score alike teach nothing.)
    used = train_on_batches(
        Policy.load(tmp_path / "base"),
        checkpoint,
        [opened],
        SPEC,
        TrainSettings(),
        tmp_path / "child",
    )
    assert used.dataset.traces == GROUPS * SIZE
    assert used.dataset.groups


def test_every_kind_of_choosing_is_off_policy(loop, market, policy):
    bounty, checkpoint = loop.prepare(policy)
    miner = loop.miner()
    terms = market.reader.bounty(bounty)
    assignment = miner.enrol(bounty)
    environment = miner.environment(terms)

    def sample(size: int, model: Policy) -> list[bytes]:
        chosen = replace(terms, terms=replace(terms.terms, group_size=size))
        return miner.sample(
            chosen,
            environment,
            assignment,
            GROUPS,
            TransformersSampler(model, "tiny"),
            checkpoint=checkpoint,
            seed=0,
        )

    honest = sample(SIZE, policy)
    lines = list(honest)
    # Best-of-n: of 40 samples of task 0 one that differs, as if it were sample 1.
    own = decode_line(honest[1])
    many = map(decode_line, sample(40, policy)[:40])
    lines[1] = encode_line(replace(next(o for o in many if o.tokens != own.tokens), sample=1))
    # Task 1: another checkpoint, its log-probabilities replaced by those of the one it names.
    other = sample(SIZE, tiny_policy(1, context=512))
    for index in range(SIZE, 2 * SIZE):
        lines[index] = _line(policy, honest[index], decode_line(other[index]).tokens)
    # Task 2: the answer edited into the other one, tokens and log-probabilities too.
    trace = decode_line(honest[2 * SIZE])
    swapped = "No\n" if trace.completion == "Yes" else "Yes\n"
    lines[2 * SIZE] = _line(policy, honest[2 * SIZE], policy.codec.encode(swapped))
    # Only the text edited.
    lines[2 * SIZE + 1] = encode_line(
        replace(decode_line(honest[2 * SIZE + 1]), completion="Yes or No")
    )
    # Task 3: cut, and ended early by a stop token that was not sampled.
    cut = decode_line(honest[3 * SIZE])
    lines[3 * SIZE] = _line(policy, honest[3 * SIZE], cut.tokens[:-1], finish="length")
    end = (*cut.tokens[:1], 0)
    lines[3 * SIZE + 1] = _line(policy, honest[3 * SIZE + 1], end)

    mined = miner.commit_and_publish(miner.spool(terms, assignment, lines))
    opened = loop.judged(mined.batch)
    off = [i for i, one in enumerate(opened.verdicts) if one.reason is Reason.OFF_POLICY]
    assert off == [1, *range(SIZE, 2 * SIZE), 2 * SIZE, 2 * SIZE + 1, 3 * SIZE, 3 * SIZE + 1]
    assert opened.attestation.faults == len(off)


def _line(policy: Policy, line: bytes, tokens, finish: str = "stop") -> bytes:
    """The trace in the line with other tokens, and all that a careful liar would set right."""
    trace = decode_line(line)
    group = TokenGroup(policy.codec.encode(trace.prompt), (tuple(tokens),))
    ((logprobs,),) = completion_logprobs(policy, [group], 1.0)
    return encode_line(
        replace(
            trace,
            tokens=tuple(tokens),
            logprobs=tuple(min(one, 0.0) for one in logprobs),
            finish=finish,
            completion=policy.codec.completion(tokens, SPEC.sampling.stop),
        )
    )
