"""One turn of training on two small batches, in a process of its own; prints the checkpoint's CID
and its weights. Run by test_reproducible_run.py: python repeatable_run.py FOLDER SEED."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# The tests, and the code beside them.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from tiny_policy import tiny_policy

from marketplace.gym.packing import TokenGroup
from marketplace.gym.policy import completion_logprobs
from marketplace.gym.spec import builtin_spec
from marketplace.protocol import merkle, payout
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.payout import Checked, PayRule
from marketplace.protocol.trace import Tier, Trace, encode_line
from marketplace.protocol.verdict import Reason, batch_verdicts
from marketplace.storage.checkpoints import put_checkpoint
from marketplace.storage.embedded import EmbeddedStore
from trainer.config import TrainSettings
from trainer.data import AttestedBatch, open_attested
from trainer.turn import train_on_batches

SPEC = builtin_spec("chain_sum")
ANSWERS = ("2\n", "3\n", "11\n", "2 \n")


def attested(policy, batch: int, texts: tuple[str, ...], *, honest: bool = True) -> AttestedBatch:
    terms = BatchTerms(
        chain_id=31337,
        market="0x" + "11" * 20,
        batch=batch,
        bounty=1,
        miner="0x" + f"{batch:02x}" * 20,
        environment=b"\x01" * 32,
        assignment_seed=b"\x02" * 32,
        first_task=0,
        group_size=len(ANSWERS),
        tier=Tier.B,
        pay_rule=PayRule.INFORMATIVE,
    )
    lines = []
    temperature = SPEC.sampling.temperature
    for task, text in enumerate(texts):
        prompt = policy.codec.encode(text)
        completions = tuple(map(policy.codec.encode, ANSWERS))
        (logprobs,) = completion_logprobs(policy, [TokenGroup(prompt, completions)], temperature)
        lines += [
            encode_line(
                Trace(
                    task=task,
                    sample=sample,
                    prompt=text,
                    completion=policy.codec.completion(tokens, SPEC.sampling.stop),
                    tokens=tokens,
                    logprobs=tuple(row) if honest else tuple(one - 1 for one in row),
                    finish="stop",
                    checkpoint=1,
                    model="m",
                    temperature=temperature,
                    max_tokens=9,
                    claimed_score=None,
                )
            )
            for sample, (tokens, row) in enumerate(zip(completions, logprobs, strict=True))
        ]
    judged = [(1_000_000, Reason.CORRECT), *[(0, Reason.WRONG)] * 3] * len(texts)
    checked = [Checked(score, reason, f"text {i}") for i, (score, reason) in enumerate(judged)]
    verdicts = payout.apply(terms.pay_rule, terms.group_size, checked)
    root = merkle.batch_tree(terms.chain_id, terms.market, 1, terms.miner, lines).root
    attestation = batch_verdicts(batch, verdicts).attestation
    return open_attested(terms, root=root, lines=lines, verdicts=verdicts, attestation=attestation)


def run(folder: Path, seed: int):
    policy = tiny_policy(0)
    batches = [
        attested(policy, 7, ("1 + 1 = ", "2 + 2 = ")),
        attested(policy, 3, ("3 + 4 = ",)),
        attested(policy, 9, ("5 + 4 = ",), honest=False),
    ]
    settings = TrainSettings(learning_rate=3e-3, groups_per_step=1, token_budget=64, seed=seed)
    return train_on_batches(policy, 1, batches, SPEC, settings, folder / "checkpoint")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    made = run(place, int(sys.argv[2]))
    cid = put_checkpoint(EmbeddedStore(place / "store"), made.folder)
    print(json.dumps({"cid": str(cid), "batches": made.batches, "weights": made.weights}))
